"""The project's claims as tables that measure themselves; ``evidence_demo.py`` and ``evidence_devices.py`` run them.

For every table: ``table`` (a row, how it is judged, how results are written and shown), ``workspace`` (this commit,
its code key, clones, child processes), ``kept`` (what took long is made once for this code), ``command``.
The demo's: ``runs`` (the long runs that rows share), ``rows`` (one function a row). The devices': ``devices`` (what
rows share), ``engine_rows``, ``architectures``, ``planted_graphs``. About apps: ``embedding`` (what rows share) and
``embed_*``. ``base_environment``: a fresh base install, and what is measured in it.
``inside``: small programs that run as processes of their own.
"""
