"""``python limited.py GIGABYTES SECONDS PROGRAM ARGUMENT...``: run a program with at most so much memory and work.

Seconds are those of a processor: on a machine that is busy with something else a program is slow, not stuck.
"""

from __future__ import annotations

import resource
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # What it asks for, not addresses: libraries for GPUs reserve far more of those than they ever use.
    limit = int(float(sys.argv[1]) * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    work = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (work, work))
    program = Path(__file__).parent / sys.argv[3]
    sys.argv = sys.argv[3:]
    runpy.run_path(str(program), run_name="__main__")
