"""What an engine was built from and for, written beside it, and the refusal of one that does not fit.

An engine is machine code for one library version and some GPUs. A library that loads a foreign one fails late and
without a reason, so the fingerprint is compared first: here, because that is done where the engine runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Optional

from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.manifest import sha256_file

SCHEMA_VERSION = 1
# The only status there is: no engine of this project has been executed.
BUILT = "built"


@dataclass(frozen=True)
class Fingerprint:
    """What an engine is: ``library`` and its exact version, compute capabilities, hashes, shapes, precision.

    ``graph_sha256`` is of the typed ONNX file that was built, ``engine_sha256`` of the engine's own bytes,
    ``profile`` as ``Profile.to_dict`` gives it. ``driver`` is the newest CUDA that the driver of the building machine
    takes, such as "12.4", and None when it was built ahead of time, for any driver. ``status`` is "built": it says
    nothing of speed or answers.
    """

    library: str
    library_version: str
    compute_capabilities: tuple[str, ...]
    graph_sha256: str
    engine_sha256: str
    profile: Mapping[str, Any]
    precision: str
    driver: Optional[str] = None
    status: str = BUILT
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The fingerprint as the text of its file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def fingerprint_path(engine: Path) -> Path:
    """Where the fingerprint of ``engine`` stands."""
    return engine.with_name(engine.name + ".json")


def read_fingerprint(engine: Path) -> Fingerprint:
    """The fingerprint beside ``engine``; ``VerificationError`` when it is missing or damaged."""
    path = fingerprint_path(engine)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema version {values.get('schema_version')}, known is {SCHEMA_VERSION}")
        known = {name: values[name] for name in (field.name for field in fields(Fingerprint))}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise VerificationError(
            f"{path} is missing or damaged: {error}",
            hint="Build the engine again; its fingerprint comes with it.",
        ) from error
    known["compute_capabilities"] = tuple(known["compute_capabilities"])
    return Fingerprint(**known)


def check_fingerprint(
    engine: Path,
    *,
    library: Optional[str] = None,
    library_version: Optional[str] = None,
    compute_capability: Optional[str] = None,
    graph: Optional[Path] = None,
    profile: Optional[Mapping[str, Any]] = None,
    precision: Optional[str] = None,
    driver: Optional[str] = None,
) -> Fingerprint:
    """Hold the engine to its fingerprint and to what is wanted of it; what is None is not compared.

    ``library`` is "tensorrt" or "tensorrt_rtx", ``compute_capability`` that of the GPU that it shall run on,
    ``graph`` the typed ONNX file, ``profile`` as the fingerprint holds it, ``driver`` the CUDA version of the driver
    here, which may be newer than the one it was built under. Raises ``VerificationError`` that names
    every difference and the command that builds the engine anew.
    """
    known = read_fingerprint(engine)
    if not engine.is_file():
        raise VerificationError(
            f"there is no engine at {engine}", hint=rebuild_hint(known, compute_capability, precision)
        )
    differences = []
    if sha256_file(engine) != known.engine_sha256:
        differences.append("its bytes are not those that were built")
    for what, wanted, built in (
        ("library", library, known.library),
        ("library version", library_version, known.library_version),
        ("precision", precision, known.precision),
        ("profile", profile and dict(profile), dict(known.profile)),
    ):
        if wanted is not None and wanted != built:
            differences.append(f"its {what} is {built}, wanted is {wanted}")
    if compute_capability is not None and compute_capability not in known.compute_capabilities:
        built = ", ".join(known.compute_capabilities)
        differences.append(f"it is for compute capability {built}, wanted is {compute_capability}")
    if graph is not None and sha256_file(graph) != known.graph_sha256:
        differences.append(f"it was built from another graph than {graph}")
    if driver is not None and known.driver is not None and _numbers(driver) < _numbers(known.driver):
        differences.append(f"it was built under a driver for CUDA {known.driver}, here is one for {driver}")
    if differences:
        raise VerificationError(
            f"{engine} does not fit: {'; '.join(differences)}",
            hint=rebuild_hint(known, compute_capability, precision),
        )
    return known


def rebuild_hint(
    known: Fingerprint, compute_capability: Optional[str] = None, precision: Optional[str] = None
) -> str:
    """The command that builds the engine anew, for another GPU or in another precision where these are given."""
    capabilities = (compute_capability,) if compute_capability else known.compute_capabilities
    options = " ".join(f"--compute-capability {item}" for item in capabilities)
    return (
        "Build it again where it is needed: pocketformer export MODEL --format tensorrt "
        f"{options} --precision {precision or known.precision} -o DIRECTORY"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
