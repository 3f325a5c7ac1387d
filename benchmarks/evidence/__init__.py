"""The claims of the demo as a table that measures itself; ``benchmarks/evidence_demo.py`` is the command.

``table``: a row, how it is judged, how results are written and shown. ``workspace``: this commit, its code
key, clones, child processes. ``runs``: the long runs that rows share. ``rows``: one function a row.
``inside``: small programs that run in the environments under test, with nothing of this one.
"""
