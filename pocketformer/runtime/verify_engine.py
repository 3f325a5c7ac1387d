"""Does a TensorRT engine fit what is here: its own bytes, its graph, the installed TensorRT, the GPU and its driver.

Nothing is run. What cannot be seen here, such as the GPU on a machine without one, is said and not guessed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from pocketformer.runtime.backends.cuda import CudaDevice, driver_version
from pocketformer.runtime.errors import DeviceError, InputError, VerificationError
from pocketformer.runtime.fingerprint import Fingerprint, check_fingerprint, read_fingerprint, rebuild_hint
from pocketformer.runtime.tensorrt.library import LIBRARIES
from pocketformer.runtime.verify import Check

_GRAPH = "model.onnx"


@dataclass(frozen=True)
class Unchecked:
    """What could not be checked here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class EngineReport:
    """All that could be checked; ``ok`` when every check holds. ``hint`` says how to mend what does not fit."""

    ok: bool
    checks: tuple[Check, ...]
    unchecked: tuple[Unchecked, ...]
    hint: Optional[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``checks`` as a bundle's report has them, ``unchecked`` with name and reason."""
        return {
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "unchecked": [asdict(item) for item in self.unchecked],
            "hint": self.hint,
        }


def find_engine(path: Path) -> Optional[Path]:
    """The engine that ``path`` names: the file, or the only one in that directory; None where there is none.

    ``InputError`` when the directory holds several.
    """
    if path.suffix == ".engine":
        return path
    found = sorted(path.glob("*.engine")) if path.is_dir() else []
    if len(found) > 1:
        raise InputError(
            f"{path} holds {len(found)} engines: {', '.join(item.name for item in found)}",
            hint="Name one of them.",
        )
    return found[0] if found else None


def verify_engine(
    engine: Path,
    *,
    version_of: Optional[Callable[[str], Optional[str]]] = None,
    capability: Optional[Callable[[], str]] = None,
) -> EngineReport:
    """Check the engine file and its fingerprint, then what it needs here.

    In order: ``fingerprint`` can be read, ``bytes`` are those that were built, ``graph`` beside it is the one it was
    built from, ``library`` is the one that built it, ``gpu`` is one that it was built for, ``driver`` is not older than
    the one it was built under. An engine that does not fit gives ``ok`` False and never an exception.
    ``version_of`` (of a library by its module's name, None when absent) and ``capability`` (of the GPU, ``DeviceError``
    without one) take the place of what is here in tests.
    """
    version_of = version_of or installed_version
    capability = capability or _capability
    checks: list[Check] = []
    unchecked: list[Unchecked] = []

    def check(name: str, good: str, **wanted: Any) -> bool:
        try:
            check_fingerprint(engine, **wanted)
        except VerificationError as error:
            checks.append(Check(name, False, error.message.partition(" does not fit: ")[2] or error.message))
            return False
        checks.append(Check(name, True, good))
        return True

    try:
        known = read_fingerprint(engine)
    except VerificationError as error:
        checks.append(Check("fingerprint", False, error.message))
        return EngineReport(False, tuple(checks), (), error.hint)
    gpus = ", ".join(known.compute_capabilities)
    checks.append(
        Check("fingerprint", True, f"{known.precision} for compute capability {gpus}, {known.status}")
    )
    wanted_gpu: Optional[str] = None
    # Every later check reads the bytes as well: where they are wrong, nothing else is told apart.
    if check("bytes", "as they were built"):
        graph = engine.with_name(_GRAPH)
        if graph.is_file():
            check("graph", f"built from {graph.name} beside it", graph=graph)
        else:
            unchecked.append(Unchecked("graph", f"there is no {_GRAPH} beside the engine"))
        _check_library(known, version_of, check, unchecked)
        try:
            wanted_gpu = capability()
            check("gpu", f"compute capability {wanted_gpu}", compute_capability=wanted_gpu)
        except DeviceError as error:
            unchecked.append(
                Unchecked("gpu", f"{error.message}; the engine is for compute capability {gpus}")
            )
        _check_driver(known, check, unchecked)
    ok = all(item.ok for item in checks)
    return EngineReport(ok, tuple(checks), tuple(unchecked), None if ok else rebuild_hint(known, wanted_gpu))


def _check_library(
    known: Fingerprint,
    version_of: Callable[[str], Optional[str]],
    check: Callable[..., bool],
    unchecked: list[Unchecked],
) -> None:
    built = f"{known.library} {known.library_version}"
    version = version_of(known.library)
    others = {name: version_of(name) for name in LIBRARIES if name != known.library}
    other = next((name for name, found in others.items() if found is not None), None)
    if version is not None:
        check("library", built, library=known.library, library_version=version)
    elif other is not None:
        check("library", built, library=other, library_version=others[other])
    else:
        unchecked.append(Unchecked("library", f"{built} built it, and no TensorRT is installed here"))


def _check_driver(known: Fingerprint, check: Callable[..., bool], unchecked: list[Unchecked]) -> None:
    if known.driver is None:
        return
    here = driver_version()
    if here is None:
        unchecked.append(
            Unchecked("driver", f"none here; the engine was built under one for CUDA {known.driver}")
        )
    else:
        check("driver", f"for CUDA {here}", driver=here)


def installed_version(name: str) -> Optional[str]:
    """The version of that module; None where it cannot be imported."""
    try:
        return str(importlib.import_module(name).__version__)
    # A package whose shared libraries are missing raises OSError, AttributeError or RuntimeError.
    except Exception:  # noqa: BLE001
        return None


def _capability() -> str:
    return CudaDevice().compute_capability
