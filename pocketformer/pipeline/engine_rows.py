"""The rows of devices whose engine is TensorRT: built here and never run, or built there and measured there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline import bench
from pocketformer.pipeline.devices import Answered, Hearing, Row, Subject, answered_there, introduced
from pocketformer.pipeline.engine_stages import TensorrtConfig, library_of, tensorrt_stage
from pocketformer.pipeline.engine_there import build_on
from pocketformer.runtime.errors import DeviceError
from pocketformer.runtime.fingerprint import Fingerprint, read_fingerprint
from pocketformer.runtime.tensorrt.build import NEVER_RUN

if TYPE_CHECKING:
    from pocketformer.pipeline.context import Made, RunContext
    from pocketformer.pipeline.fleet import Place
    from pocketformer.targets.remote import RemoteDevice
    from pocketformer.targets.remote_build import Builder


def build_engine_row(place: Place, context: RunContext, folder: Path) -> Row:
    """Build the engine for the profile's GPU; status ``built``, and no figure of anything that ran."""
    config = engine_config(place)
    folder.mkdir(parents=True)
    made = tensorrt_stage(config, context, folder)
    fingerprint = read_fingerprint(folder / made.artefacts["engine"])
    return {
        "name": place.name,
        "status": "built",
        "hardware": None if place.profile is None else place.profile.description,
        "engine": engine_info(config.precision, made, fingerprint),
        "notes": list(made.notes),
    }


def engine_info(precision: str, made: Made, fingerprint: Fingerprint) -> dict[str, Any]:
    """An engine as report.json has it."""
    return {
        "library": f"{fingerprint.library} {fingerprint.library_version}",
        "precision": precision,
        "compute_capabilities": list(fingerprint.compute_capabilities),
        "file_mb": made.metrics["file_mb"],
        "layers": {
            name.removeprefix("layers").strip("_") or "all": round(value)
            for name, value in made.metrics.items()
            if name.startswith("layers")
        },
    }


def engine_config(place: Place) -> TensorrtConfig:
    """What the engine of this profile is built with: fp16 where the profile has it.

    A device may leave its compute capability to what its GPU tells.
    """
    profile = place.profile
    if profile is None or (profile.compute_capability is None and place.way == "engine"):
        raise DeviceError(f"{place.name!r} does not say which GPU it has", hint="Give compute_capability.")
    capability = profile.compute_capability
    return TensorrtConfig(
        precision="fp16" if "fp16" in profile.precisions else "fp32",
        library=library_of(profile) if place.way == "engine-there" else None,
        compute_capabilities=() if capability is None else (capability,),
    )


def measure_engine_there(
    device: RemoteDevice,
    place: Place,
    subject: Subject,
    hearing: Hearing,
    known: Row,
    context: RunContext,
    folder: Path,
) -> Answered:
    """Build the engine on the device, bring it into ``folder``, and measure it there where the GPU for it is.

    Without that GPU the row has status ``built`` and no figure of anything that ran.
    """
    from pocketformer.export.engine_bundle import write_engine_bundle

    facts = introduced(device, place, known)
    folder.mkdir(parents=True)
    config = engine_config(place)
    there = build_on(device, config, context, folder)
    builder, (capability,) = there.builder, there.built.fingerprint.compute_capabilities
    known["versions"] = {**known["versions"], builder.library: builder.version}
    engine = engine_info(config.precision, there.made, there.built.fingerprint)
    why = _why_not_run(builder, capability, facts)
    if why is not None:
        row = {"name": place.name, **known, "status": "built", "engine": engine}
        return Answered(row=row | {"notes": [*there.made.notes, f"built only: {why}"]})
    bundle = write_engine_bundle(
        subject.bundle,
        folder / "bundle",
        graph=there.prepared.graph,
        engine=there.built.engine,
        target=place.name,
    )
    notes = [note for note in there.made.notes if note != NEVER_RUN]
    answered = answered_there(
        device,
        place,
        replace(subject, bundle=bundle, file_mb=bench.bundle_mb(bundle)),
        hearing,
        known,
        facts,
        batch_size=config.batch[-1],
    )
    also = {"engine": engine, "notes": [*answered.row.get("notes", ()), *notes]}
    return replace(answered, row=answered.row | also)


def _why_not_run(builder: Builder, capability: str, facts: Mapping[str, Any]) -> str | None:
    """What keeps the engine that a device built from being run there; None when nothing is seen to."""
    if builder.gpu != capability:
        return builder.no_gpu or f"its GPU has compute capability {builder.gpu}"
    missing = [name for name, version in facts["packages"].items() if version is None]
    return f"its Python has no {' and no '.join(missing)}" if missing else None
