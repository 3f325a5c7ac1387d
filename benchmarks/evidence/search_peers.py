"""Rows about the peers: Pocketformer's bundle against the best that other tools make of the same teacher.

They are measured by ``benchmarks/compare_peers.py`` on the demo's data set, in one run for all rows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from evidence.kept import Kept
from evidence.table import EvidenceError, Measured, Row
from evidence.workspace import end_of, run_logged

DATA = "trec"
OURS = "pocketformer"
_PROGRAM = Path(__file__).parents[1] / "compare_peers.py"


class HasPeers(Protocol):
    """What these rows need: the content of a grid of peers that was measured for this very code."""

    def peers(self) -> Mapping[str, Any]: ...


class PeerRuns(Kept):
    """The grid of peers, kept as ``kept`` says. A table with further runs can inherit it."""

    place = "search"

    def peers(self) -> Mapping[str, Any]:
        """The grid on the demo's data, with a run of the demo of its own unless ``demo_run`` names one."""
        self.once("peers", self._make_peers)
        content: Mapping[str, Any] = json.loads(
            (self.folder / "peers" / "cpu.json").read_text(encoding="utf-8")
        )
        return content

    def demo_run(self) -> Path | None:
        """A finished run of the demo by this code, whose bundle is compared; None: the grid makes one."""
        return None

    def packages(self) -> dict[str, str]:
        """Versions of what made the peers' models; empty while no row has needed them."""
        if not self.has_made("peers"):
            return {}
        setups = self.peers()["data"][DATA]["setups"].values()
        return {name: version for setup in setups for name, version in setup["versions"].items()}

    def _make_peers(self, folder: Path) -> dict[str, Any]:
        log, run = folder / "log.txt", self.demo_run()
        work = self.repository.root / "out" / "benchmark"
        given = [] if run is None else ["--run", f"{DATA}={run}"]
        self.say(f"peers: the grid on {DATA} (an hour when nothing is kept in {work}; {log})")
        # Models of peers that depend on nothing that changed are kept there; what was timed is not.
        argv = [sys.executable, str(_PROGRAM), "--data", DATA, "--fresh", "--output", str(folder), *given]
        code, seconds = run_logged(
            argv,
            log=log,
            environment=self.environment() | {"PYTHONPATH": str(self.repository.root)},
            folder=self.repository.root,
            limit_s=4 * 3600.0,
        )
        if code != 0 or not (folder / "cpu.json").is_file():
            raise EvidenceError(f"the grid of peers ended with exit code {code}: {end_of(log)}")
        return {"seconds": seconds}


def against_best_peer(workload: str) -> Callable[[HasPeers], Measured]:
    """Ratio of medians, best peer over our bundle, on one workload."""

    def measured(runs: HasPeers) -> Measured:
        content = runs.peers()
        found = _summary(content, workload=workload)
        faster = _figure(found, "faster_than_best_peer")
        how = (
            f"{_about(content)}: {found['best_peer']} {found['best_peer_p50_ms']:.3f} ms against "
            f"{found['pocketformer_p50_ms']:.3f} ms, p50; {_ours(content)}"
        )
        return Measured(value=faster, how=how)

    return measured


def against_eager(runs: HasPeers) -> Measured:
    """Ratio of medians, PyTorch eager over our bundle, on real texts one at a time."""
    content = runs.peers()
    found = _summary(content, workload="real")
    how = f"{_about(content)}: {found['pocketformer_p50_ms']:.3f} ms, p50; {_ours(content)}"
    return Measured(value=_figure(found, "faster_than_eager"), how=how)


def smaller_than_peers(runs: HasPeers) -> Measured:
    """Model files of the smallest peer whose drop is small enough, over those of our bundle."""
    content = runs.peers()
    found = _summary(content, workload=None)
    how = (
        f"all files of the models, tokenizers apart: {found['smallest_peer']} {found['smallest_peer_mb']:.2f} MB, "
        f"ours {found['pocketformer_mb']:.2f} MB; {_ours(content)}"
    )
    return Measured(value=_figure(found, "smaller_than_smallest_peer"), how=how)


def _summary(content: Mapping[str, Any], *, workload: str | None) -> Mapping[str, Any]:
    """The summary of a workload, or of the files; ``EvidenceError`` when there is none or ours drops too much."""
    _check_drop(content)
    for item in content["summary"]:
        if item["data"] == DATA and item.get("workload") == workload:
            found: Mapping[str, Any] = item
            return found
    raise EvidenceError(f"the grid has no summary of {workload or 'the files'}")


def _check_drop(content: Mapping[str, Any]) -> None:
    row = _our_row(content)
    if row["error"] is not None:
        raise EvidenceError(f"the bundle could not be measured: {row['error']}")
    if row["drop"] > content["max_drop"] + 1e-9:
        raise EvidenceError(f"the bundle drops {row['drop']:.4f}, more than {content['max_drop']}")


def _our_row(content: Mapping[str, Any]) -> Mapping[str, Any]:
    for row in content["rows"]:
        if row["setup"] == OURS and row["data"] == DATA:
            found: Mapping[str, Any] = row
            return found
    raise EvidenceError("the grid has no row of Pocketformer")


def _figure(found: Mapping[str, Any], name: str) -> float:
    if found[name] is None:
        raise EvidenceError(f"the grid has no {name}: no peer could be measured")
    return float(found[name])


def _about(content: Mapping[str, Any]) -> str:
    about = content["data"][DATA]
    tried = {row["setup"] for row in content["rows"] if row["setup"] != OURS}
    failed = {row["setup"] for row in content["rows"] if row["setup"] != OURS and row["error"] is not None}
    return (
        f"{len(tried) - len(failed)} of {len(tried)} peers in turns, {about['rounds']} rounds, drop at most "
        f"{content['max_drop']}" + (f" (failed: {', '.join(sorted(failed))})" if failed else "")
    )


def _ours(content: Mapping[str, Any]) -> str:
    row = _our_row(content)
    return f"drop of the bundle {row['drop']:.4f}"


ROWS: tuple[Row[HasPeers], ...] = (
    *(
        Row(
            id=f"peer-{workload}",
            what=f"Faster than the best peer, p50: {workload}",
            comparator=">=",
            required=3,
            unit="x",
            measure=against_best_peer(workload),
        )
        for workload in ("real", "1x32", "1x128", "8x128")
    ),
    Row(
        id="peer-size",
        what="Model file against the smallest of the peers",
        comparator=">=",
        required=6,
        unit="x",
        measure=smaller_than_peers,
    ),
    Row(
        id="eager-real",
        what="Faster than PyTorch eager, p50: real",
        comparator=">=",
        required=18,
        unit="x",
        measure=against_eager,
    ),
)
