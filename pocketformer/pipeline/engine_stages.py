"""The stage that builds a TensorRT engine: quantize where asked, write the precision into the graph, build.

Built is here, or on a device over SSH (``engine_there``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.fleet import FleetDevice, connection_to
from pocketformer.runtime.errors import InputError, MissingDependencyError
from pocketformer.runtime.tensorrt.config import (
    DEFAULT_COMPUTE_CAPABILITIES,
    EngineConfig,
    Precision,
    Profile,
    Range,
    profile_for_lengths,
)

if TYPE_CHECKING:
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.runtime.tensorrt.library import Library
    from pocketformer.targets.profile import TargetProfile

# How many texts the typed graph is compared on with the fp32 graph; without data, random ids of a few shapes.
_COMPARED = 64
_SHAPES = ((1, 4), (2, 16), (3, 32))
LibraryName = Literal["tensorrt", "tensorrt_rtx"]
# Names of engines in profiles, and of the modules that build them.
_LIBRARIES: dict[str, LibraryName] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@dataclass(frozen=True, kw_only=True)
class TensorrtConfig:
    """``compute_capabilities`` are those of the GPUs that shall run the engine, such as "8.9".

    ``batch``: the smallest, usual and largest. ``calibration``: texts that int8 takes its ranges from.
    ``library``: the one whose engines the device runs, None for whichever is installed. ``device``: where to build,
    None for here; without compute capabilities it builds for its own GPU. ``sparse_weights`` lets the builder skip
    zeros where weights have two in every four, and each product's weights are looked at for that.
    """

    precision: Precision = "fp16"
    library: LibraryName | None = None
    compute_capabilities: tuple[str, ...] = DEFAULT_COMPUTE_CAPABILITIES
    batch: Range = (1, 1, 8)
    calibration: int = 256
    device: FleetDevice | None = None
    sparse_weights: bool = False

    @property
    def quantized(self) -> bool:
        """Whether calibration texts are needed."""
        return self.precision.startswith("int8")


def target_settings(name_or_path: str, reached: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a target says about its engines, as settings of the step: a profile, or the address of a device.

    A device with an address builds there; ``reached`` are further settings of ``FleetDevice``. The precision is fp16
    where the profile lists it: it costs no calibration. ``InputError`` for a target that runs no TensorRT engine.
    """
    from pocketformer.targets.profile import find_target

    if name_or_path.startswith("ssh://"):
        return {"compute_capabilities": [], "device": FleetDevice(address=name_or_path, **(reached or {}))}
    profile = find_target(name_or_path)
    settings: dict[str, Any] = {
        "library": library_of(profile),
        "precision": "fp16" if "fp16" in profile.precisions else profile.precisions[0],
    }
    if profile.compute_capability is not None:
        settings["compute_capabilities"] = [profile.compute_capability]
    if profile.reach.startswith("ssh://"):
        settings.setdefault("compute_capabilities", [])
        settings["device"] = FleetDevice(name=profile.name, address=profile.reach, **(reached or {}))
    return settings


def library_of(profile: TargetProfile) -> LibraryName:
    """The module whose engines a target runs; ``InputError`` for one that runs no TensorRT engine."""
    if profile.runtime not in _LIBRARIES:
        raise InputError(
            f"target {profile.name!r} runs {profile.runtime}, not TensorRT",
            hint="`pocketformer targets list` shows those that do, such as tensorrt-rtx-sm89.",
        )
    return _LIBRARIES[profile.runtime]


def check_tensorrt(config: TensorrtConfig) -> None:
    """What can be known to be wrong before anything is made: no library, or one that lacks a compute capability.

    What a device has is known when it is asked; its address and keys are looked at.
    """
    from pocketformer.runtime.tensorrt.library import load_library

    Profile(batch=config.batch)
    if config.device is not None:
        from pocketformer.targets.ssh import check_options

        check_options(connection_to(config.device).options)
        if len(config.compute_capabilities) > 1:
            raise InputError(
                f"a device builds for one GPU, not for {len(config.compute_capabilities)} kinds",
                hint="Name one compute capability, or none for the GPU that it has.",
            )
        return

    library = load_library()
    if config.library not in (None, library.name):
        raise MissingDependencyError(
            f"an engine of {config.library} is asked for, and here is {library.name} {library.version}",
            hint=f"Engines of the two are not interchangeable: build where {config.library} is installed; on a Jetson "
            "it comes with JetPack.",
        )
    if not config.compute_capabilities:
        raise InputError(
            "an engine is built for at least one compute capability", hint='Name one, such as "8.9".'
        )
    if library.builds_ahead_of_time:
        for capability in config.compute_capabilities:
            library.compute_capability(capability)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The typed graph that an engine is built from, for what, and what was found out about it on this machine."""

    graph: Path
    settings: EngineConfig
    metrics: Mapping[str, float]
    notes: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


def tensorrt_stage(config: TensorrtConfig, context: RunContext, folder: Path) -> Made:
    """Build an engine from the fp32 graph. It is built and never run: no latency and no accuracy come of it."""
    from pocketformer.compress.context import Progress
    from pocketformer.export.tensorrt.build import build_engine
    from pocketformer.runtime.tensorrt.library import load_library

    if config.device is not None:
        from pocketformer.pipeline.engine_there import build_at

        return build_at(config, config.device, context, folder)

    def heard(progress: Any) -> None:
        if progress.parent is None:
            context.listener.stage_progress(Progress(step=progress.step, total=progress.total))

    prepared = prepare_engine(config, context, folder)
    library = load_library()
    settings = replace(prepared.settings, timing_cache=_timing_cache(library))
    built = build_engine(
        prepared.graph, folder / "model.engine", settings, library=library, on_progress=heard
    )
    return engine_made(config, prepared, built.metrics, built.notes)


def prepare_engine(config: TensorrtConfig, context: RunContext, folder: Path) -> Prepared:
    """Write ``folder``/model.onnx, the typed form of the fp32 graph, and compare the two in onnxruntime here."""
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.export.tensorrt.sparsity import find_sparsity, sparsity_note
    from pocketformer.export.tensorrt.typed_graph import agreement, write_typed_graph

    plain = context.artefacts.need("graph", verb="tensorrt")
    model = context.artefacts.need("model", verb="tensorrt")
    encoding = TextEncoding(model, context.recipe.max_length)
    source = _quantized(config, context, plain, encoding, folder / "work") if config.quantized else plain
    typed = write_typed_graph(source, folder / "model.onnx", fp16=config.precision.endswith("fp16"))
    near = agreement(plain, typed.output, _feeds(context, plain, encoding))
    sparsity = find_sparsity(typed.output) if config.sparse_weights else ()
    metrics = {"max_abs_difference": near.max_abs_difference, "same_label": near.same_label}
    if config.sparse_weights:
        metrics |= {
            "products": float(len(sparsity)),
            "products_2_4": float(sum(p.is_sparse for p in sparsity)),
        }
    return Prepared(
        graph=typed.output,
        settings=EngineConfig(
            compute_capabilities=config.compute_capabilities,
            profile=_profile(config, context, encoding),
            sparse_weights=config.sparse_weights,
        ),
        metrics=metrics,
        notes=(
            *typed.notes,
            f"the typed graph gives {near.same_label:.1%} of {near.rows} inputs the label of the fp32 graph, in "
            "onnxruntime on this CPU",
            *([sparsity_note(sparsity)] if config.sparse_weights else []),
        ),
        details={"sparsity": [product.to_dict() for product in sparsity]} if config.sparse_weights else {},
    )


def engine_made(
    config: TensorrtConfig, prepared: Prepared, metrics: Mapping[str, float], notes: Sequence[str]
) -> Made:
    """The stage's result, with what the builder told in ``metrics`` and ``notes``."""
    return Made(
        artefacts={"engine": "model.engine"},
        metrics={
            "file_mb": metrics["bytes"] / 1e6,
            **prepared.metrics,
            **{name: value for name, value in metrics.items() if name.startswith("layers")},
        },
        notes=(*prepared.notes, *notes),
        details={
            "status": "built",
            "precision": config.precision,
            "compute_capabilities": list(prepared.settings.compute_capabilities),
            "profile": prepared.settings.profile.to_dict(),
            **prepared.details,
        },
    )


def _quantized(
    config: TensorrtConfig, context: RunContext, plain: Path, encoding: TextEncoding, work: Path
) -> Path:
    from pocketformer.compress.quantize.candidates import TENSORRT_CANDIDATE
    from pocketformer.compress.quantize.portfolio import quantize_candidate

    texts = context.need_splits("tensorrt").train.texts[: config.calibration]
    return quantize_candidate(
        TENSORRT_CANDIDATE,
        graphs={"plain": plain},
        output=work / "int8.onnx",
        calibration=_text_feeds(texts, plain, encoding),
    ).output


def _timing_cache(library: Library) -> Path | None:
    """Where plain TensorRT keeps what it timed on this machine, for all runs; TensorRT-RTX times nothing."""
    from pocketformer.pipeline.demo import cache_directory

    return (
        None
        if library.builds_ahead_of_time
        else cache_directory() / f"{library.name}-{library.version}.timings"
    )


def _feeds(context: RunContext, plain: Path, encoding: TextEncoding) -> Sequence[Mapping[str, Any]]:
    """What the typed graph is compared on: texts of the validation split, else random ids."""
    from pocketformer.export.graph_file import load_graph, random_feeds

    if context.splits is not None and context.splits.validation.texts:
        return _text_feeds(context.splits.validation.texts[:_COMPARED], plain, encoding)
    graph = load_graph(plain)
    longest = context.recipe.max_length
    return [
        random_feeds(graph, batch, min(length, longest), seed=context.recipe.seed + seed)
        for seed, (batch, length) in enumerate(_SHAPES)
    ]


def _text_feeds(texts: tuple[str, ...], graph: Path, encoding: TextEncoding) -> Sequence[Mapping[str, Any]]:
    from pocketformer.pipeline.bench import feeds_of_rows
    from pocketformer.runtime.engine import OnnxRuntimeEngine

    names = OnnxRuntimeEngine(graph).input_names
    return feeds_of_rows(encoding.encode(texts), encoding.pad_id, names)


def _profile(config: TensorrtConfig, context: RunContext, encoding: TextEncoding) -> Profile:
    """Usual are texts like those of the training split; every text that the model takes fits."""
    longest = context.recipe.max_length
    if context.splits is None:
        usual = max(1, longest // 2)
    else:
        lengths = [len(row) for row in encoding.encode(context.splits.train.texts)]
        usual = profile_for_lengths(lengths).sequence[1]
    return replace(Profile(batch=config.batch), sequence=(1, min(usual, longest), longest))
