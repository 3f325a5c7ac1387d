"""``make benchmark``: what other tools make of the same teacher, measured beside Pocketformer's bundle.

    python benchmarks/compare_peers.py [--setups a,b] [--data trec,sms] [--run trec=RUN] [--prepare] [--fresh]

Makes each peer's environment and model (kept in ``out/benchmark`` while nothing that they depend on changed), asks
every model for its logits of all test texts, then times all of them in turns, each in a process of its own and one at
a time. Writes ``benchmarks/results/cpu.json`` and, of it, ``cpu.md``, ``cpu.svg`` and ``cpu.png``. Ends with 1 when
the timing is not complete yet (``--time-limit``: call it again), 2 for a wrong argument. A peer that fails is a row
with its error. The first call takes about an hour on two cores, the timing five minutes of it.
"""

from __future__ import annotations

from evidence.command import run_as_program
from peers.command import main

if __name__ == "__main__":
    run_as_program(main)
