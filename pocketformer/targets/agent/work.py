"""What the agent does with a bundle. The engine is imported late: what is missing must be told before that fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from pocketformer.runtime.coldstart import peak_memory_bytes
from pocketformer.runtime.errors import InputError, PocketformerError, VerificationError
from pocketformer.runtime.manifest import read_manifest
from pocketformer.targets.agent import device, power
from pocketformer.targets.agent.events import Events

if TYPE_CHECKING:
    from pocketformer.runtime.model import Model
    from pocketformer.targets.measure import WorkloadTiming
    from pocketformer.targets.workloads import Workload

_ROWS_AN_EVENT = 100


def graph_bytes(bundle: Path) -> int:
    """The size of the bundle's graph, 0 when that cannot be told: what is wrong is found when it is read."""
    try:
        manifest = read_manifest(bundle)
        return (bundle / manifest.graph).stat().st_size
    except (VerificationError, OSError):
        return 0


def read_texts(path: Path) -> list[str]:
    """The ``text`` of every line of a JSON lines file; blank lines are passed over."""
    texts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path.name}, line {number}: not a JSON object with a text",
                    hint='Write {"text": "..."}.',
                ) from error
            if not isinstance(text, str):
                raise InputError(f"{path.name}, line {number}: text is {type(text).__name__}")
            texts.append(text)
    if not texts:
        raise InputError(f"{path.name} holds no texts", hint='Write one {"text": "..."} a line.')
    return texts


def verify_bundle(bundle: Path, events: Events) -> None:
    """Send all checks; ``VerificationError`` with the first that does not hold."""
    from pocketformer.runtime.verify import verify

    events.progress("checking hashes and replaying the golden samples")
    report = verify(bundle)
    events.send("result", report.to_dict())
    for check in report.checks:
        if not check.ok:
            raise VerificationError(
                f"the bundle does not hold on this device: {check.name}: {check.detail}",
                hint="Verify it on the host; if it holds there, copy it again, or try another onnxruntime.",
            )


def predict(bundle: Path, texts: Sequence[str], events: Events, *, logits: bool, batch_size: int) -> None:
    """Send ``rows`` in the order of the texts: each with its ``label``, and its ``logits`` if asked for."""
    import numpy as np

    from pocketformer.runtime.model import load

    model = load(bundle)
    events.progress(f"predicting {len(texts)} texts")
    answers = model.logits(texts, batch_size)
    if not np.isfinite(answers).all():
        raise VerificationError(
            f"{int((~np.isfinite(answers)).any(axis=1).sum())} of {len(texts)} texts get logits that are not finite",
            hint="Do not ship this graph; try another quantization.",
        )
    rows: list[dict[str, Any]] = []
    for values in answers.tolist():
        row: dict[str, Any] = {"label": model.labels[values.index(max(values))]}
        rows.append({**row, "logits": values} if logits else row)
    for start in range(0, len(rows), _ROWS_AN_EVENT):
        events.send("result", {"rows": rows[start : start + _ROWS_AN_EVENT]})


def measure_bundle(
    bundle: Path,
    texts: Sequence[str],
    events: Events,
    *,
    root: Path,
    rounds: int,
    time_limit_s: float,
    threads: Optional[int],
    loadgen_s: float = 0.0,
    batch_size: int = 32,
    folder: Optional[Path] = None,
    energy_s: float = 0.0,
) -> None:
    """Send the latency of the model alone on every workload that it can run, with all samples.

    The result holds ``workloads`` (by name: ``seconds``, ``latency_ms``), ``session``, ``versions``,
    ``peak_memory_bytes`` (after loading and one prediction), ``providers`` (what really ran the graph), ``power``
    and ``energy`` (see ``power``; None where the device does not tell), ``loadgen`` (see ``drive_scenarios``; None
    where ``loadgen_s`` is 0 or LoadGen failed), and ``before`` and ``after`` with ``temperatures`` and ``throttling``.
    ``folder`` is where LoadGen's own log lies meanwhile.
    """
    from pocketformer.runtime.model import load
    from pocketformer.targets.workloads import REAL_INPUTS, WORKLOADS

    if rounds < 1 or (threads is not None and threads < 0):
        raise InputError(f"rounds is {rounds} and threads {threads}", hint="Use at least 1 round, 0 threads.")
    session = read_manifest(bundle).session
    if threads is not None:
        session = replace(session, intra_op_threads=threads)
    model = load(bundle, session=session)
    model.predict_one(texts[0])
    memory = peak_memory_bytes()  # before the large workloads, as on the host
    token_ids = [encoding.ids for encoding in model.encoder.tokenize(list(texts[:REAL_INPUTS]))]
    before = _condition(root, events, "before measuring")
    timings = {}
    for workload in WORKLOADS:
        timing = _time(model, workload, token_ids, events, rounds, time_limit_s)
        if timing is not None:
            timings[workload.name] = {
                "seconds": list(timing.seconds),
                "latency_ms": asdict(timing.latency),
            }
    result = {
        "workloads": timings,
        "session": asdict(session),
        "versions": device.package_versions(),
        "peak_memory_bytes": memory,
        "providers": list(model.engine.providers),
        "loadgen": _loadgen(model, token_ids, events, loadgen_s, batch_size, folder),
        "power": power.state(),
        "energy": _energy(model, token_ids, events, energy_s),
        "before": before,
        "after": _condition(root, events, "after measuring"),
    }
    events.send("result", result)


def _time(
    model: Model,
    workload: Workload,
    token_ids: Sequence[Sequence[int]],
    events: Events,
    rounds: int,
    time_limit_s: float,
) -> Optional[WorkloadTiming]:
    from pocketformer.targets.measure import measure
    from pocketformer.targets.workloads import build_feeds, rounds_of

    feeds = build_feeds(workload, token_ids)
    if workload.sequence is not None:
        try:
            model.engine.run(feeds[0])  # no other way to learn how many positions a graph has
        except VerificationError:
            events.warning(
                "workload-left-out", f"{workload.name} was left out: this graph does not run on it"
            )
            return None
    events.progress(f"measuring {workload.name}")
    timed = measure(
        {"model": model.engine.run},
        {workload.name: feeds},
        rounds=rounds_of(workload.name, rounds, len(feeds)),
        time_limit_s=time_limit_s,
    )
    return timed["model"][workload.name]


def _loadgen(
    model: Model,
    token_ids: Sequence[Sequence[int]],
    events: Events,
    seconds: float,
    batch_size: int,
    folder: Optional[Path],
) -> Optional[dict[str, Any]]:
    from pocketformer.targets.scenarios import drive_scenarios

    if seconds <= 0:
        return None
    events.progress("measuring LoadGen's scenarios")
    try:
        return drive_scenarios(
            model.engine.run,
            token_ids,
            model.manifest.preprocessing.pad_id,
            min_duration_s=seconds,
            batch_size=batch_size,
            folder=folder,
        )
    except PocketformerError as error:
        events.warning("no-loadgen", f"LoadGen: not measured, {error.message}")
        return None


def _energy(
    model: Model, token_ids: Sequence[Sequence[int]], events: Events, seconds: float
) -> Optional[dict[str, Any]]:
    """Energy of real inputs one after the other, in a phase of its own: sampling would disturb what is timed."""
    from pocketformer.targets.workloads import REAL, build_feeds

    feeds = cycle(build_feeds(REAL, token_ids))
    if not power.tells() or seconds <= 0:
        return None
    events.progress("sampling power")
    return power.measure_energy(lambda: model.engine.run(next(feeds)), seconds)


def _condition(root: Path, events: Events, when: str) -> dict[str, Any]:
    """Heat, and what holds the processor back; the latter as warnings too."""
    signs = device.throttling(root)
    for sign in signs:
        events.warning("throttling", f"{when}, {sign}")
    return {"temperatures": device.temperatures(root), "throttling": signs}
