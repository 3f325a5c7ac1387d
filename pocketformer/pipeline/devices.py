"""The devices of a bench that are not this machine's processor: its GPU, over SSH, or an engine that is only built.

Different machines work at the same time, what shares one in turn. A device that fails leaves a row that says why,
and the others go on.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.pipeline import bench
from pocketformer.pipeline.device_power import NOT_RESTORED, change_in_words, look_again, power_row
from pocketformer.runtime.errors import DeviceError, PocketformerError
from pocketformer.targets.workloads import REAL_INPUTS

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext
    from pocketformer.pipeline.fleet import Place
    from pocketformer.targets.measure import WorkloadTiming
    from pocketformer.targets.remote import RemoteDevice

log = logging.getLogger("pocketformer")

Row = dict[str, Any]
Note = Callable[[str], None]
# In an emulator a few calls prove that a shape runs; more would prove nothing and take minutes.
_EMULATED_ROUNDS, _EMULATED_LIMIT_S = 1, 5.0
_TIME_LIMIT_S = 60.0
_ENERGY_S = 5.0
_SHOWN_WARNINGS = 6
_END_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured everywhere, and against what: the bundle, the held-out rows, the teacher's answers.

    ``rounds`` and ``loadgen_s`` as ``BenchConfig`` has them.
    """

    bundle: Path
    evaluation: bench.Evaluation
    teacher: bench.Contender
    classes: int
    parameters: int
    file_mb: float
    rounds: int
    loadgen_s: float = 0.0

    def scored(
        self, logits: np.ndarray[Any, Any], timings: Mapping[str, WorkloadTiming] | None = None
    ) -> dict[str, Any]:
        """``result`` of a row: what a device that gave these ``logits`` is worth, alone and against the teacher."""
        contender = replace(
            self.teacher, name="result", logits=logits, file_mb=self.file_mb, parameters=self.parameters
        )
        result = bench.measurement(contender, self.evaluation, timings or {}, self.classes)
        return result | bench.against_teacher(contender, self.teacher, self.evaluation, self.classes)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The row of one device as report.json has it, and its logits where it answered the held-out rows."""

    row: Row
    logits: np.ndarray[Any, Any] | None = None


def measure_devices(
    places: Sequence[Place], subject: Subject, context: RunContext, folder: Path
) -> dict[str, Answered]:
    """Measure all ``places``, a thread for each machine; the answers by name, failures included.

    Engines are built into ``folder``. What is no ``PocketformerError`` is a defect: the other devices are told to
    stop, it is waited for their end, and it is raised.
    """
    messages: queue.Queue[str | None] = queue.Queue()
    crew = _Crew(subject, context, folder, messages.put)
    machines: dict[str, list[Place]] = {}
    for place in places:
        machines.setdefault(place.machine, []).append(place)
    threads = [
        threading.Thread(
            target=crew.work_through, args=(group, lambda: messages.put(None)), name=machine or "here"
        )
        for machine, group in machines.items()
    ]
    try:
        for thread in threads:
            thread.start()
        ended = 0
        while ended < len(threads):
            message = messages.get()
            if message is None:
                ended += 1
            else:
                context.listener.note(message)
    except BaseException:
        crew.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_END_PATIENCE_S)
        raise
    if crew.defects:
        raise crew.defects[0]
    return crew.answers


class _Crew:
    """The threads' work, and what they share."""

    def __init__(self, subject: Subject, context: RunContext, folder: Path, note: Note) -> None:
        self.answers: dict[str, Answered] = {}
        self.defects: list[BaseException] = []
        self._subject = subject
        self._context = context
        self._folder = folder
        self._note = note
        self._connected: list[RemoteDevice] = []
        self._stopped = threading.Event()

    def work_through(self, places: Sequence[Place], ended: Callable[[], None]) -> None:
        """Measure one machine's devices in turn."""
        try:
            for place in places:
                if self._stopped.is_set():
                    return
                self.answers[place.name] = self._measured(place)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.defects.append(error)
            self.stop()
        finally:
            ended()

    def stop(self) -> None:
        """End what runs on the devices; each removes its folder as after any failure."""
        self._stopped.set()
        for device in list(self._connected):
            device.cancel()

    def _measured(self, place: Place) -> Answered:
        from pocketformer.pipeline import engine_rows

        hearing = Hearing(place.name, self._note)
        known: Row = {}
        try:
            if place.way == "engine":
                row = engine_rows.build_engine_row(place, self._context, self._folder / place.name)
                return Answered(row=row)
            if place.way == "gpu":
                from pocketformer.pipeline.gpu_device import measure_on_gpu

                answered = measure_on_gpu(place, self._subject, hearing, self._stopped.is_set)
                return Answered(row=answered.row | {"warnings": hearing.warnings}, logits=answered.logits)
            device = place.connection(hearing.on_event)
            self._connected.append(device)
            with device:
                if place.way == "engine-there":
                    folder = self._folder / place.name
                    answered = engine_rows.measure_engine_there(
                        device, place, self._subject, hearing, known, self._context, folder
                    )
                else:
                    answered = measure_remote(device, place, self._subject, hearing, known)
            # Leaving the device may warn as well.
            return Answered(row=answered.row | {"warnings": hearing.warnings}, logits=answered.logits)
        except PocketformerError as error:
            log.warning("%s failed: %s", place.name, error)
            self._note(f"{place.name}: failed: {error.message}")
            if hearing.power is not None and "power" in known:
                hearing.make_sure_of_power(place)
                known["power"] = power_row(known["power"], hearing.power)
            return Answered(
                row={
                    "name": place.name,
                    **known,
                    "status": "failed",
                    "error": error.message,
                    "hint": error.hint,
                    "warnings": hearing.warnings,
                }
            )


class Hearing:
    """Listens to one device: progress goes on as notes, warnings are kept, each once.

    ``power`` is what the agent told last of a power mode that it changed.
    """

    def __init__(self, name: str, note: Note) -> None:
        self.warnings: list[str] = []
        self.power: dict[str, Any] | None = None
        self._name = name
        self._note = note

    def on_event(self, event: Mapping[str, Any]) -> None:
        """One event of the agent."""
        from pocketformer.targets.ssh import scrub

        text = scrub(str(event.get("message") or ""))
        if event["event"] == "progress":
            self._note(f"{self._name}: {text}")
        elif event["event"] == "power":
            self.power = {key: value for key, value in event.items() if key != "event"}
            words = change_in_words(self.power)
            if words:
                self._note(f"{self._name}: {words}")
        elif event["event"] == "warning" and text not in self.warnings:
            self._note(f"{self._name}: warning: {text}")
            if event.get("kind") == NOT_RESTORED:
                self.warnings.insert(0, text)  # whatever else there is to say
            elif len(self.warnings) < _SHOWN_WARNINGS:
                self.warnings.append(text)

    def make_sure_of_power(self, place: Place) -> None:
        """After a failure: look whether the device put its power mode back, and warn when that is not seen."""
        if self.power is None or self.power.get("restored") is not None:
            return
        self.power, warning = look_again(place, self.power)
        if warning is not None:
            log.warning("%s: %s", self._name, warning)
            self.on_event({"event": "warning", "kind": NOT_RESTORED, "message": warning})


def measure_remote(
    device: RemoteDevice, place: Place, subject: Subject, hearing: Hearing, known: Row
) -> Answered:
    """Probe, push, verify, predict and measure; ``known`` is filled with what holds even if the rest fails."""
    facts = introduced(device, place, known)
    return answered_there(device, place, subject, hearing, known, facts)


def introduced(device: RemoteDevice, place: Place, known: Row) -> Mapping[str, Any]:
    """What probing tells of the device, also put into ``known``; ``DeviceError`` when its profile says otherwise."""
    facts = device.probe()
    emulated = place.device.emulated or bool(facts.get("emulator"))
    known |= {
        "status": "emulated" if emulated else "measured",
        "hardware": hardware(facts, emulated=emulated),
        "versions": _versions(facts),
        "power": power_row(facts.get("power"), None),
    }
    _check_profile(place, facts)
    return facts


def answered_there(
    device: RemoteDevice,
    place: Place,
    subject: Subject,
    hearing: Hearing,
    known: Row,
    facts: Mapping[str, Any],
    *,
    batch_size: int = 32,
) -> Answered:
    """Push the bundle, verify it, let it answer and time it."""
    emulated = known["status"] == "emulated"
    hearing.on_event({"event": "progress", "message": "sending the bundle"})
    device.push(subject.bundle)
    device.verify()
    texts = subject.evaluation.texts
    rows = device.predict(texts, batch_size=batch_size)
    logits = np.asarray([row["logits"] for row in rows], dtype=np.float32)
    timing = device.measure(
        texts[:REAL_INPUTS],
        rounds=_EMULATED_ROUNDS if emulated else subject.rounds,
        time_limit_s=_EMULATED_LIMIT_S if emulated else _TIME_LIMIT_S,
        threads=place.threads,
        loadgen_s=0.0 if emulated else subject.loadgen_s,
        batch_size=batch_size,
        energy_s=0.0 if emulated else _ENERGY_S,
        power_mode=place.power_mode,
        jetson_clocks=place.device.jetson_clocks,
    )
    known["power"] = power_row(facts.get("power"), hearing.power)
    result = subject.scored(logits)
    row = {"name": place.name, **known, "result": result, "threads": _threads(timing, facts)}
    if place.profile is not None and place.profile.dla_cores:
        row["notes"] = [f"it has {place.profile.dla_cores} DLA cores, which were not used"]
    row["fallback_operators"] = {} if timing.get("providers") == ["CPUExecutionProvider"] else None
    if emulated:
        p50 = {name: values["latency_ms"]["p50"] for name, values in timing["workloads"].items()}
        return Answered(row=row | {"emulation": {"p50_ms": p50}}, logits=logits)
    memory = timing.get("peak_memory_bytes")
    result["peak_memory_mb"] = memory / 1e6 if memory else None
    result["latency_ms"] = {name: values["latency_ms"] for name, values in timing["workloads"].items()}
    result["latency_samples_ms"] = {
        name: bench.in_ms(values["seconds"]) for name, values in timing["workloads"].items()
    }
    result["samples_per_s"] = {
        name: bench.rows_per_second(name, values["seconds"]) for name, values in timing["workloads"].items()
    }
    return Answered(row=row | {name: timing.get(name) for name in ("energy", "loadgen")}, logits=logits)


def hardware(facts: Mapping[str, Any], *, emulated: bool = False) -> str:
    """A machine in words, from what probing it told."""
    flags = ", ".join(name for name, there in facts["flags"].items() if there) or "no SIMD known"
    board = facts.get("board")
    model = facts["model"] if not board or board == facts["model"] else f"{board}, {facts['model']}"
    cores = "1 core" if facts["threads"] == 1 else f"{facts['threads']} cores"
    what = f"{model} ({facts['architecture']}), {cores}, {flags}"
    return f"an emulator of {what}" if emulated else what


def _check_profile(place: Place, facts: Mapping[str, Any]) -> None:
    profile = place.profile
    if profile is not None and profile.architecture not in ("any", facts["architecture"]):
        raise DeviceError(
            f"{place.name} is {facts['architecture']} and its profile {profile.name} {profile.architecture}",
            hint="Check the address, or name another profile.",
        )


def _versions(facts: Mapping[str, Any]) -> dict[str, str]:
    packages = {name: version for name, version in facts["packages"].items() if version is not None}
    return {"python": facts["python"], **packages}


def _threads(timing: Mapping[str, Any], facts: Mapping[str, Any]) -> int:
    return int(timing["session"]["intra_op_threads"] or facts["cores_available"])
