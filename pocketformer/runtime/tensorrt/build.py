"""Build an engine from a typed ONNX file, ahead of time: no GPU is needed, and none has run what comes out.

No precision is chosen here: networks are strongly typed, so an engine computes what its graph says. Beside the
engine stand its fingerprint (``fingerprint``) and what the builder made of each layer (``layers``).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Optional

from pocketformer.runtime.backends.cuda import driver_version
from pocketformer.runtime.errors import ExportError, InputError
from pocketformer.runtime.fingerprint import Fingerprint, fingerprint_path
from pocketformer.runtime.manifest import sha256_file
from pocketformer.runtime.results import StepResult
from pocketformer.runtime.tensorrt.config import EngineConfig, Precision, Profile
from pocketformer.runtime.tensorrt.layers import layers_path, parse_layers, precision_counts, what_is_missing
from pocketformer.runtime.tensorrt.library import Library, Log, load_library
from pocketformer.runtime.tensorrt.progress import Monitor, OnProgress

NEVER_RUN = "built, never run: no figure here says how fast it is or what it answers"
"""The note that every engine begins with."""


def build_engine(
    graph: Path,
    output: Path,
    config: EngineConfig,
    *,
    precision: Precision,
    library: Optional[Library] = None,
    on_progress: Optional[OnProgress] = None,
) -> StepResult[Path]:
    """Build the typed ONNX file ``graph`` into the engine ``output``, which is replaced only when all went well.

    ``precision`` is what stands in the graph. Metrics: ``bytes`` of the engine, ``layers``, ``layers_fp32``,
    ``layers_fp16`` and ``layers_int8`` by what they compute in, ``build_s`` in seconds. Raises ``ExportError`` when the
    parser or the builder rejects the graph, ``InputError`` for a compute capability that the library cannot build for,
    ``MissingDependencyError`` without a library. What ``on_progress`` raises cancels the build and is raised again.
    """
    library = library or load_library()
    if not config.compute_capabilities:
        raise InputError(
            "an engine is built for at least one compute capability", hint='Name one, such as "8.9".'
        )
    started = time.perf_counter()
    engine, log = _build(graph, config, library, on_progress)
    seconds = time.perf_counter() - started
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, engine)
    layers = parse_layers(log)
    report = {"graph_sha256": sha256_file(graph), "layers": [layer.to_dict() for layer in layers]}
    replace_file(layers_path(output), (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    # Last: an engine whose fingerprint is of another build is known by the hash of its bytes.
    fingerprint = Fingerprint(
        library=library.name,
        library_version=library.version,
        compute_capabilities=config.compute_capabilities,
        graph_sha256=sha256_file(graph),
        engine_sha256=sha256_file(output),
        profile=config.profile.to_dict(),
        precision=precision,
        driver=None if library.builds_ahead_of_time else driver_version(),
    )
    replace_file(fingerprint_path(output), fingerprint.to_json().encode())
    metrics = {"bytes": float(output.stat().st_size), "layers": float(len(layers)), "build_s": seconds}
    metrics |= {f"layers_{name}": float(count) for name, count in precision_counts(layers).items()}
    notes = [NEVER_RUN]
    if not library.builds_ahead_of_time:
        notes.append(
            f"{library.name} built it for the GPU of this machine; its compute capability is as named"
        )
    elif config.timing_cache is not None:
        notes.append(f"{library.name} keeps no timing cache: {config.timing_cache} was left alone")
    missing = what_is_missing(layers, precision)
    if missing is not None:
        notes.append(f"the layers do not show {precision}: {missing}")
    return StepResult(output=output, metrics=metrics, notes=notes)


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _build(
    graph: Path, config: EngineConfig, library: Library, on_progress: OnProgress | None
) -> tuple[bytes, list[str]]:
    """The serialized engine, and all that was said on the way."""
    module = library.module
    # These must outlive one another in this order: C++ objects refer to each other without owning.
    log = Log(library)
    builder = module.Builder(log.logger)
    network = library.network(builder)
    parser = module.OnnxParser(network, log.logger)
    if not parser.parse(graph.read_bytes()):
        raise ExportError(
            f"{library.name} {library.version} cannot read {graph}: {log.last_error('no reason given')}",
            hint="Export the model again; if it stays, try the other exporter.",
        )
    settings = builder.create_builder_config()
    settings.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if config.sparse_weights:
        settings.set_flag(module.BuilderFlag.SPARSE_WEIGHTS)
    _set_compute_capabilities(settings, config, library)
    _set_profile(builder, network, settings, config.profile, graph)
    cache = _set_timing_cache(settings, config.timing_cache, library)
    monitor = None
    if on_progress is not None:
        monitor = Monitor(library, on_progress)
        settings.progress_monitor = monitor.monitor
    built = builder.build_serialized_network(network, settings)
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if built is None:
        raise ExportError(
            f"{library.name} {library.version} could not build {graph}: {log.last_error('no reason given')}",
            hint="Build one precision and one compute capability at a time to see which of them it is.",
        )
    if cache is not None and config.timing_cache is not None:
        config.timing_cache.parent.mkdir(parents=True, exist_ok=True)
        replace_file(config.timing_cache, bytes(cache.serialize()))
    return bytes(built), [text for _, text in log.lines]


def _set_compute_capabilities(settings: Any, config: EngineConfig, library: Library) -> None:
    if not library.builds_ahead_of_time:
        if len(config.compute_capabilities) > 1:
            raise InputError(
                f"{library.name} builds for the GPU of this machine, not for {len(config.compute_capabilities)} kinds",
                hint="Name one compute capability: that of this machine's GPU.",
            )
        return
    wanted = [library.compute_capability(text) for text in config.compute_capabilities]
    settings.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        if not settings.set_compute_capability(capability, index):
            raise InputError(
                f"{library.name} {library.version} refuses compute capability {config.compute_capabilities[index]}",
                hint=f"Known here: {', '.join(library.compute_capabilities)}.",
            )


def _set_profile(builder: Any, network: Any, settings: Any, profile: Profile, graph: Path) -> None:
    optimization = builder.create_optimization_profile()
    free = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        dims = tuple(tensor.shape)
        if any(size < 0 for size in dims):
            free = True
            optimization.set_shape(tensor.name, *profile.shapes(tensor.name, dims))
    if free and settings.add_optimization_profile(optimization) < 0:
        raise ExportError(
            f"the profile {profile.to_dict()} does not fit {graph}",
            hint="Keep the longest sequence within the model's positions.",
        )


def _set_timing_cache(settings: Any, path: Path | None, library: Library) -> Any | None:
    """The cache that the build reads and fills; None without a file or in a library that has none."""
    if path is None or library.builds_ahead_of_time:
        return None  # TensorRT-RTX times nothing while it builds; its functions for a cache do nothing
    # A cache of another version or GPU is replaced by a new one rather than trusted.
    for content in (path.read_bytes() if path.is_file() else b"", b""):
        cache = settings.create_timing_cache(content)
        if cache is not None and settings.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None
