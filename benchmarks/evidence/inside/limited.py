"""``python limited.py GIGABYTES PROGRAM ARGUMENT...``: run a program beside this one with at most so much memory."""

from __future__ import annotations

import resource
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # What it asks for, not addresses: libraries for GPUs reserve far more of those than they ever use.
    limit = int(float(sys.argv[1]) * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    program = Path(__file__).parent / sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_path(str(program), run_name="__main__")
