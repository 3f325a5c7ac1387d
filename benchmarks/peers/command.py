"""``compare_peers.py``: which setups and data, what is written, and how it ends."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evidence.command import ROOT
from evidence.table import EvidenceError, write_document
from evidence.workspace import RESULTS, Repository, limit_cores, usable_cores
from rich.console import Console

from peers import markdown, picture
from peers.environments import Environments
from peers.grid import Grid
from peers.results import MAX_DROP, rows_of, setups_of, summary
from peers.setups import PROJECT, SETUPS, select_setups
from peers.subjects import DATA, subject_of
from peers.turns import CALLS_A_TURN, ROUNDS
from pocketformer.targets.probe import probe_cpu

CORES = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="compare_peers", description="The grid of peers.")
    parser.add_argument("--setups", metavar="A,B", help=f"only these of {', '.join(s.name for s in SETUPS)}")
    parser.add_argument("--data", metavar="A,B", help=f"only these of {', '.join(DATA)}")
    parser.add_argument(
        "--run", metavar="DATA=DIR", action="append", default=[], help="a finished run of that data set"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of turns (default %(default)s)")
    parser.add_argument("--time-limit", type=float, metavar="S", help="begin no round after these seconds")
    parser.add_argument("--prepare", action="store_true", help="make and score everything, time nothing")
    parser.add_argument("--fresh", action="store_true", help="throw away what was timed so far")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmark", help="what is kept")
    parser.add_argument("--output", type=Path, default=ROOT / RESULTS, help="folder of the results")
    options = parser.parse_args(argv)
    progress = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        progress.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, soft_wrap=True)

    try:
        setups = select_setups(options.setups)
        data = _chosen_data(options.data)
        given = _given_runs(options.run)
    except ValueError as error:
        parser.error(str(error))
    limit_cores(CORES)
    threads = usable_cores()
    repository = Repository(root=ROOT)
    # Asked before measuring: this is the state that the figures belong to.
    commit, dirty = repository.commit(), repository.dirty()
    work = options.work.resolve()
    environments = Environments(work / "environments", root=ROOT, say=say)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    complete = True
    for name in data:
        try:
            subject = subject_of(
                name,
                given.get(name),
                repository=repository,
                folder=work / "runs",
                variables=environments.variables(threads),
                python=environments.python(PROJECT),
                say=say,
            )
            grid = Grid(
                subject, setups, folder=work / name, environments=environments, threads=threads, say=say
            )
        except EvidenceError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        grid.prepare()
        if options.prepare:
            continue
        if options.fresh:
            (work / name / "samples.json").unlink(missing_ok=True)
        samples, done = grid.time(rounds=options.rounds, time_limit_s=options.time_limit)
        complete &= done
        rows += rows_of(grid, samples)
        about[name] = {
            "metric": subject.metric,
            "test_texts": len(subject.test.texts),
            "rounds": samples.rounds,
            "measured": samples.measured,
            "setups": setups_of(grid.entries, samples),
        }
    if options.prepare:
        return 0
    content = {
        "environment": _environment(threads),
        "commit": commit,
        "dirty": dirty,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "max_drop": MAX_DROP,
        "calls_a_turn": dict(CALLS_A_TURN),
        "data": about,
        "summary": summary(rows),
        "rows": rows,
    }
    write_document(options.output / "cpu.json", content)
    (options.output / "cpu.md").write_text(markdown.table(content), encoding="utf-8")
    picture.draw(content, options.output / "cpu")
    print(markdown.table(content))
    if not complete:
        print("Not all rounds are done: call it again, and it goes on.", file=sys.stderr)
    return 0 if complete else 1


def _chosen_data(wanted: str | None) -> list[str]:
    """Names of data sets; ``ValueError`` for an unknown one."""
    names = [name.strip() for name in (wanted or ",".join(DATA)).split(",") if name.strip()]
    unknown = [name for name in names if name not in DATA]
    if unknown or not names:
        raise ValueError(f"there is no data {', '.join(unknown) or repr(wanted)}; data: {', '.join(DATA)}")
    return names


def _given_runs(given: Sequence[str]) -> dict[str, Path]:
    """``DATA=DIR`` as paths by data set; ``ValueError`` for anything else."""
    runs: dict[str, Path] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or name not in DATA or not Path(path).is_dir():
            raise ValueError(f"--run {text}: give DATA=DIR with DATA one of {', '.join(DATA)}")
        runs[name] = Path(path)
    return runs


def _environment(threads: int) -> dict[str, Any]:
    """The machine, as the other results tell it."""
    probed = probe_cpu()
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "system": probed["system"],
        "architecture": probed["architecture"],
        "cpu": probed["model"],
        "cpu_flags": sorted(name for name, there in probed["flags"].items() if there),
        "cores": usable_cores(),
        "threads": threads,
    }
