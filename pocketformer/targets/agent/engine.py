"""TensorRT on the device: which one is here and what it builds for, and an engine out of a graph that the host sent.

A folder for an engine holds ``model.onnx``, ``settings.json`` (keys of ``Settings``) and, where the host keeps one,
``timing.cache``; the engine, its fingerprint and its layers are written beside them.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Optional

from pocketformer.runtime.backends.cuda import CudaDevice, driver_version
from pocketformer.runtime.errors import DeviceError, InputError, MissingDependencyError
from pocketformer.runtime.fingerprint import fingerprint_path
from pocketformer.runtime.tensorrt.build import build_engine
from pocketformer.runtime.tensorrt.config import PRECISIONS, EngineConfig, Precision, Profile, Range
from pocketformer.runtime.tensorrt.layers import layers_path
from pocketformer.runtime.tensorrt.library import LIBRARIES, Library, load_library
from pocketformer.runtime.tensorrt.parser import ask_parser, rejection
from pocketformer.runtime.tensorrt.progress import BuildProgress
from pocketformer.targets.agent import device
from pocketformer.targets.agent.events import Events, UnfitDeviceError

GRAPH, ENGINE, SETTINGS, TIMINGS = "model.onnx", "model.engine", "settings.json", "timing.cache"
_OLDEST_TENSORRT = 10  # the first that is taken: it reads types and int8 from the graph alone
_SIGN_OF_LIFE_S = 5.0


@dataclass(frozen=True)
class Settings:
    """What the host asks for: ``library`` is a name of ``LIBRARIES``, the rest as ``EngineConfig``."""

    library: str
    precision: Precision
    compute_capability: str
    batch: Range
    sequence: Range
    sparse_weights: bool = False

    @classmethod
    def read(cls, path: Path) -> Settings:
        """``InputError`` for a file that does not hold exactly these keys."""
        try:
            values = json.loads(path.read_text(encoding="ascii"))
            known = cls(**values)
            batch, sequence = tuple(known.batch), tuple(known.sequence)
            if known.precision not in PRECISIONS or (len(batch), len(sequence)) != (3, 3):
                raise ValueError(f"precision {known.precision}, batch {batch}, sequence {sequence}")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path.name} does not say what to build: {error}",
                hint=f"It needs {', '.join(field.name for field in fields(cls))}.",
            ) from error
        return cls(**{**values, "batch": batch, "sequence": sequence})

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self))


def find_library(root: Path, names: tuple[str, ...] = LIBRARIES) -> Library:
    """The first of ``names`` that can be imported; ``UnfitDeviceError`` when none is, or when it is too old."""
    try:
        library = load_library(names)
    except MissingDependencyError as error:
        raise UnfitDeviceError(
            "missing-package", f"{error.message} for this Python there", hint=_how_to_install(root)
        ) from error
    major = library.version.partition(".")[0]
    if library.name == "tensorrt" and major.isdigit() and int(major) < _OLDEST_TENSORRT:
        raise UnfitDeviceError(
            "old-tensorrt",
            f"tensorrt {library.version} there is too old: engines are built from version {_OLDEST_TENSORRT} on",
            hint="That is the TensorRT of JetPack 5: measure its processor through onnxruntime, with the address alone "
            "(--target ssh://user@host), or install JetPack 6 or newer.",
        )
    return library


def builder_facts(root: Path, names: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """``library``, ``version``, what it builds for, and the GPU that could run it.

    ``compute_capabilities`` are those that can be named, empty where the GPU at hand decides. ``gpu`` is the compute
    capability of that GPU, None without one, and then ``no_gpu`` says why. ``driver`` is the CUDA that its driver
    takes. ``UnfitDeviceError`` as ``find_library``, and for a library that needs a GPU where there is none.
    """
    library = find_library(root, names)
    gpu, reason = _gpu()
    if gpu is None and not library.builds_ahead_of_time:
        raise UnfitDeviceError(
            "no-gpu",
            f"{library.name} {library.version} there builds for the GPU at hand, and {reason}",
            hint="Check the driver on the device; in a container, the GPU has to be passed on.",
        )
    return {
        "library": library.name,
        "version": library.version,
        "compute_capabilities": list(library.compute_capabilities),
        "gpu": gpu,
        "no_gpu": reason,
        "driver": driver_version(),
    }


def build(folder: Path, events: Events, *, root: Path) -> None:
    """Build ``folder``/model.engine as its settings say; the result has its metrics, notes and files.

    Every node that the parser rejects is an event ``rejected`` before the error.
    """
    settings = Settings.read(folder / SETTINGS)
    graph, engine = folder / GRAPH, folder / ENGINE
    if not graph.is_file():
        raise InputError(f"there is no {GRAPH} in {folder.name}", hint="Send it first.")
    library = find_library(root, (settings.library,))
    size = graph.stat().st_size
    device.require_memory(root, size)
    device.require_disk(folder, size)
    events.progress(f"asking the parser of {library.name} {library.version}")
    complaints = ask_parser(graph.read_bytes(), library)
    for complaint in complaints:
        events.send("rejected", complaint.to_dict())
    if complaints:
        raise rejection(library, complaints)
    config = EngineConfig(
        compute_capabilities=(settings.compute_capability,),
        profile=Profile(batch=settings.batch, sequence=settings.sequence),
        timing_cache=None if library.builds_ahead_of_time else folder / TIMINGS,
        sparse_weights=settings.sparse_weights,
    )
    built = build_engine(
        graph,
        engine,
        config,
        precision=settings.precision,
        library=library,
        on_progress=_Teller(events).told,
    )
    paths = (engine, fingerprint_path(engine), layers_path(engine), folder / TIMINGS)
    made = [path.name for path in paths if path.is_file()]
    events.send("result", {"metrics": dict(built.metrics), "notes": list(built.notes), "files": made})


class _Teller:
    """Tells how far a build is: each step of the whole, and of its parts as often as a person looks."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._last = time.monotonic()

    def told(self, progress: BuildProgress) -> None:
        now = time.monotonic()
        if progress.parent is None or now - self._last >= _SIGN_OF_LIFE_S:
            self._last = now
            self._events.progress(f"building: {progress.phase}, {progress.step} of {progress.total}")


def _gpu() -> tuple[Optional[str], Optional[str]]:
    """The compute capability of the first GPU, or why there is none."""
    try:
        return CudaDevice().compute_capability, None
    except DeviceError as error:
        return None, error.message


def _how_to_install(root: Path) -> str:
    if (root / "etc/nv_tegra_release").exists() or "jetson" in (device.board_model(root) or "").lower():
        return (
            "On a Jetson TensorRT comes with JetPack: sudo apt install python3-libnvinfer, and name the Python that it "
            "is for with --python /usr/bin/python3."
        )
    return (
        "On the device, into the Python that --python names: pip install tensorrt-rtx-cu12 (x86-64, ahead of time, "
        "without a GPU), or NVIDIA's TensorRT for its GPU: pip install tensorrt."
    )
