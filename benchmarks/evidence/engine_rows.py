"""The rows about TensorRT engines. They are built ahead of time and never run: no GPU is needed, and none is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evidence.architectures import ARCHITECTURES
from evidence.devices import DeviceRuns
from evidence.planted_graphs import PLANTED
from evidence.table import EvidenceError, Measured, Row
from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.fingerprint import check_fingerprint
from pocketformer.runtime.tensorrt.layers import read_layers, what_is_missing

CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
_SHOWN = 5


def engines(names: Sequence[str], precisions: Sequence[str]) -> Callable[[DeviceRuns], Measured]:
    """How many engines of these models are what they should be, for all of ``CAPABILITIES``."""

    def measure(runs: DeviceRuns) -> Measured:
        good, wrong, sizes = 0, [], []
        for name in names:
            for precision in precisions:
                try:
                    built = runs.engines(name, precision, CAPABILITIES)
                except EvidenceError as error:
                    wrong.append(str(error))
                    continue
                for capability in CAPABILITIES:
                    reason = what_is_wrong(runs, name, precision, capability, built.get(capability))
                    if reason is None:
                        good += 1
                        sizes.append(built[capability].stat().st_size / 1e6)
                    else:
                        wrong.append(f"{name} {precision} for {capability}: {reason}")
        of = len(names) * len(precisions) * len(CAPABILITIES)
        how = (
            f"{of} engines of {', '.join(names)} (random weights, {', '.join(precisions)}) for "
            f"{', '.join(CAPABILITIES)}, built by {_library(runs)} in child processes; counted are those whose bytes, "
            "graph, precision and GPU are those of the fingerprint and whose layer report shows the precision asked for"
        )
        if sizes:
            how += f"; {min(sizes):.1f} to {max(sizes):.1f} MB; none was run"
        if wrong:
            how += f". Not counted: {'; '.join(wrong[:_SHOWN])}"
            how += f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return Measured(value=good, how=how)

    return measure


def pruned(runs: DeviceRuns) -> Measured:
    """The same of a small pruned BERT; and the student of a demo in ``out/demo``, where there is one, must hold too."""
    precisions = ("fp16", "int8")
    measured = engines(("pruned",), precisions)(runs)
    said = []
    for precision in precisions:
        engine = runs.student(precision)
        if engine is None:
            return replace(
                measured, how=f"{measured.how}; no demo has been run in out/demo, so not of its student"
            )
        reason = _wrong_engine(engine, precision, CAPABILITIES[-1], engine.with_name("model.onnx"))
        if reason is not None:
            raise EvidenceError(f"the {precision} engine of the student in out/demo does not count: {reason}")
        said.append(f"{precision} {engine.stat().st_size / 1e6:.1f} MB")
    return replace(measured, how=f"{measured.how}; and of the student in out/demo: {', '.join(said)}")


def what_is_wrong(
    runs: DeviceRuns, name: str, precision: str, capability: str, engine: Path | None
) -> str | None:
    """Why an engine does not count; None when it does."""
    if engine is None:
        failed = runs.once(f"engines-{name}-{precision}", _never)["failed"]
        return str(failed.get(capability, "not built"))
    return _wrong_engine(engine, precision, capability, runs.graphs(name) / f"{precision}.onnx")


def _wrong_engine(engine: Path, precision: str, capability: str, graph: Path) -> str | None:
    try:
        check_fingerprint(engine, compute_capability=capability, graph=graph, precision=precision)
        return what_is_missing(read_layers(engine), precision)
    except VerificationError as error:
        return error.message


def int8_size(runs: DeviceRuns) -> Measured:
    """Bytes of the fp32 engine over those of the int8 engine, BERT with four layers 768 wide."""
    name, capability = "bert-4x768", "8.9"
    sizes = {}
    for precision in ("fp32", "int8"):
        engine = runs.engines(name, precision, (capability,), "4x768").get(capability)
        reason = what_is_wrong(runs, name, precision, capability, engine)
        if engine is None or reason is not None:
            raise EvidenceError(f"the {precision} engine does not count: {reason}")
        sizes[precision] = engine.stat().st_size / 1e6
    how = (
        f"{sizes['fp32']:.1f} MB against {sizes['int8']:.1f} MB, BERT with 4 layers 768 wide and its 30522 words "
        f"(random weights), for compute capability {capability}, built by {_library(runs)}"
    )
    return Measured(value=sizes["fp32"] / sizes["int8"], how=how)


def rejected_nodes(runs: DeviceRuns) -> Measured:
    """In how many planted bad graphs the bad node is named, with its operator, a reason and the fix that fits."""

    def make(folder: Path) -> dict[str, object]:
        runs.say("planted: bad graphs")
        return runs.child("planted.py", [str(folder)], folder)

    reports = runs.once("planted", make)["reports"]
    right = 0
    missed = []
    for planted in PLANTED:
        found = [item for item in reports.get(planted.name, ()) if item["node"] == planted.bad]
        if (
            found
            and found[0]["operator"] == planted.operator
            and found[0]["reason"]
            and planted.fix in found[0]["fix"]
        ):
            right += 1
        else:
            missed.append(planted.name)
    kinds = ", ".join(planted.name for planted in PLANTED)
    how = f"{right} of {len(PLANTED)} graphs, asked of the parser of {_library(runs)}: {kinds}"
    if missed:
        how += f"; missed: {', '.join(missed)}"
    return Measured(value=100 * right / len(PLANTED), how=how)


def _library(runs: DeviceRuns) -> str:
    versions = runs.packages()
    return next(
        (f"{name} {versions[name]}" for name in ("tensorrt", "tensorrt-rtx-cu12") if name in versions), "none"
    )


def _never(_: Path) -> dict[str, object]:
    raise EvidenceError("was not made")


ROWS: tuple[Row[DeviceRuns], ...] = (
    Row(
        id="engines",
        what="Engines of 6 architectures x fp32, fp16, int8 x 4 GPUs that show their precision",
        comparator="==",
        required=72,
        unit="engines",
        measure=engines(tuple(ARCHITECTURES), ("fp32", "fp16", "int8")),
    ),
    Row(
        id="engines-int8-fp16",
        what="The same in int8 with fp16",
        comparator="==",
        required=24,
        unit="engines",
        measure=engines(tuple(ARCHITECTURES), ("int8-fp16",)),
    ),
    Row(
        id="engines-pruned",
        what="Engines of a BERT whose layers were pruned to different widths, fp16 and int8",
        comparator="==",
        required=8,
        unit="engines",
        measure=pruned,
    ),
    Row(
        id="int8-size",
        what="fp32 engine of a 4x768 BERT over its int8 engine, in bytes",
        comparator=">=",
        required=2.3,
        unit="x",
        measure=int8_size,
    ),
    Row(
        id="rejected-nodes",
        what=f"Bad nodes of {len(PLANTED)} planted graphs that are named with reason and fix",
        comparator="==",
        required=100,
        unit="%",
        measure=rejected_nodes,
    ),
)
