"""Measures a bundle on this machine's GPU: latency with and without copies, what ran where, power and throttling.

The same code measures on the CPU, where it has neither device events nor a power reading; that is how it is tested.
Experimental: it has never run on a GPU (docs/gpu.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from pocketformer.runtime.backends.cuda import CudaDevice
from pocketformer.runtime.backends.onnxruntime_gpu import BoundRun, gpu_options
from pocketformer.runtime.engine import Engine, FloatArray, OnnxRuntimeEngine
from pocketformer.runtime.errors import DeviceError, InputError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER, ONNXRUNTIME, read_manifest
from pocketformer.runtime.model import Model, load
from pocketformer.runtime.placement import Placement, measure_placement
from pocketformer.runtime.providers import CUDA_PROVIDER, TENSORRT_PROVIDER, require_providers
from pocketformer.runtime.results import LatencySummary
from pocketformer.runtime.verify import Check, replay_golden
from pocketformer.targets.measure import WorkloadTiming, measure
from pocketformer.targets.nvml import GpuSampler, probe_gpu, summarize
from pocketformer.targets.workloads import REAL, REAL_INPUTS, WORKLOADS, Feeds, build_feeds, rounds_of

_WARMUP = 4  # calls before the first that is timed by events; the first of them records a CUDA graph
_WATCH_INTERVAL_S = 0.5  # seldom: asking disturbs what is timed
_IDLE_S = 1.0
_FEWEST_SAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class GpuMeasurement:
    """A bundle on one device, by the ``providers`` that ran it.

    ``host``: latency by the host's clock, copies to and from the device included, by workload. ``device``: time of
    the device alone by its events, for data that lies there; empty on the CPU. ``cuda_graph``: whether that is of
    replayed CUDA graphs, real inputs excepted. ``placement``: the nodes that each provider ran, with
    ``fallback_operators`` those that ran elsewhere than on the providers of the GPU. ``logits``: float32 [texts,
    labels] of what was to be answered. ``golden``: the bundle's golden samples by these providers.
    ``gpu``: as ``probe_gpu``; ``watch``: as ``nvml.summarize``, over the time measured; ``energy``: as report.json has
    it, None where too few samples came. Each of these three is None on the CPU.
    """

    providers: tuple[str, ...]
    host: Mapping[str, WorkloadTiming]
    placement: Placement
    fallback_operators: Mapping[str, int]
    golden: Sequence[Check]
    logits: FloatArray
    device: Mapping[str, WorkloadTiming] = field(default_factory=dict)
    cuda_graph: bool = False
    gpu: Mapping[str, Any] | None = None
    watch: Mapping[str, Any] | None = None
    energy: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


def measure_gpu(
    bundle: Path,
    texts: Sequence[str],
    *,
    providers: Sequence[str] = (CUDA_PROVIDER,),
    index: int = 0,
    compute_capability: str | None = None,
    cuda_graph: bool = False,
    fp16: bool = False,
    rounds: int = 40,
    time_limit_s: float = 60.0,
    energy_s: float = 5.0,
    answer: Sequence[str] = (),
    on_progress: Callable[[str], None] | None = None,
) -> GpuMeasurement:
    """Measure the bundle of an ONNX graph by ``providers`` on the GPU ``index``, over the usual workloads.

    ``compute_capability`` is the one that the GPU must have, None for any. ``cuda_graph`` and ``fp16`` as in
    ``gpu_options``; CUDA graphs are replayed for fixed shapes only, and only where the time of the device is taken.
    ``energy_s``: seconds of a phase of its own in which power is sampled, 0 for none. ``answer`` are texts whose logits
    are wanted, by the very session that is timed. ``on_progress`` hears what comes next; what it raises ends the
    measurement.
    Raises ``DeviceError`` when driver, GPU, provider or a library is missing, or nothing of the graph ran on the GPU,
    ``MissingDependencyError`` without nvidia-ml-py, ``InputError`` and ``VerificationError`` as ``runtime.load``.
    Nothing falls back to the CPU unless ``CPUExecutionProvider`` is among ``providers``.
    """
    if not texts:
        raise InputError("there are no texts to measure on", hint="Give at least one.")
    require_providers(providers)
    manifest = read_manifest(bundle)
    if manifest.engine.name != ONNXRUNTIME:
        raise InputError(
            f"{bundle} was made for {manifest.engine.name}, and a GPU is measured through onnxruntime",
            hint="Quantize for onnxruntime: name such candidates, or a target without other_runtimes.",
        )
    graph = bundle / manifest.graph
    settings = replace(manifest.session, providers=tuple(providers))
    device = None if settings.providers == (CPU_PROVIDER,) else CudaDevice(index)
    if device is not None and compute_capability not in (None, device.compute_capability):
        raise DeviceError(
            f"GPU {index} is compute capability {device.compute_capability}, wanted is {compute_capability}",
            hint="Name another target, or another GPU with `gpu` in a fleet file.",
        )
    # By its place on the bus: NVML does not heed CUDA_VISIBLE_DEVICES and may count in another order.
    gpu = probe_gpu(device.pci_bus_id) if device else None
    say = on_progress or _silence
    plain = load(bundle, session=replace(manifest.session, providers=(CPU_PROVIDER,)))  # tokenizer and checks
    token_ids = [encoding.ids for encoding in plain.encoder.tokenize(list(texts[:REAL_INPUTS]))]
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pocketformer-engines-") as cache:
        options = partial(
            gpu_options,
            index,
            stream=device.stream if device else None,
            fp16=fp16,
            # TensorRT's provider builds engines for minutes, and would for each session anew.
            engine_cache=Path(cache) if TENSORRT_PROVIDER in providers else None,
        )
        say("looking what runs where")
        real = build_feeds(REAL, token_ids)
        placement = measure_placement(graph, settings, real[0], provider_options=options())
        preferred = [name for name in settings.providers if name != CPU_PROVIDER] or [CPU_PROVIDER]
        require_work_on(placement, preferred)
        engine = OnnxRuntimeEngine(graph, settings, provider_options=options())
        model = Model(manifest, engine, plain.encoder)
        golden = replay_golden(model, bundle)
        say(f"answering {len(answer)} texts")
        logits = model.logits(answer)
        inputs = {REAL.name: real}
        for workload in WORKLOADS[1:]:
            feeds = build_feeds(workload, token_ids)
            if _runs(plain.engine, feeds[0]):
                inputs[workload.name] = feeds
            else:
                notes.append(f"{workload.name}: not measured, the model takes fewer tokens")
        recorder = engine
        if device is not None and cuda_graph:
            recorder = OnnxRuntimeEngine(graph, settings, provider_options=options(cuda_graph=True))
        host: dict[str, WorkloadTiming] = {}
        events: dict[str, WorkloadTiming] = {}
        with _watching(device) as watch:
            for number, (name, feeds) in enumerate(inputs.items(), 1):
                say(f"timing {name}")
                count = rounds_of(name, rounds, len(feeds))
                timed = measure({"model": engine.run}, {name: feeds}, rounds=count, time_limit_s=time_limit_s)
                host[name] = timed["model"][name]
                if device is not None:
                    say(f"timing {name} by the GPU's own events")
                    replay = number if cuda_graph and name != REAL.name else None
                    subject = engine if replay is None else recorder
                    events[name] = time_on_device(device, subject, feeds, rounds=rounds, graph_id=replay)
        energy = None
        if device is not None and energy_s > 0:
            say("sampling power")
            turns = cycle(real)
            energy = measure_energy(lambda: engine.run(next(turns)), energy_s, gpu=device.pci_bus_id)
    if watch is not None and watch.failure:
        notes.append(watch.failure)
    return GpuMeasurement(
        providers=engine.providers,
        host=host,
        device=events,
        cuda_graph=cuda_graph and device is not None,
        placement=placement,
        fallback_operators=placement.fallback(preferred),
        golden=golden,
        logits=logits,
        gpu=gpu,
        watch=None if watch is None else summarize(watch.samples),
        energy=energy,
        notes=notes,
    )


def require_work_on(placement: Placement, providers: Sequence[str]) -> None:
    """``DeviceError`` when none of ``providers`` ran a single node: the rest alone would have been measured."""
    if any(placement.nodes.get(name) for name in providers):
        return
    ran = ", ".join(f"{name} all {count}" for name, count in placement.nodes.items())
    raise DeviceError(
        f"nothing of the graph ran on {', '.join(providers)}: {ran}",
        hint="The GPU's provider lacks its operators, or stands after the CPU's in the list of providers: try an fp32 "
        "graph, and name the GPU's provider first.",
    )


def time_on_device(
    device: CudaDevice,
    engine: OnnxRuntimeEngine,
    feeds: Sequence[Feeds],
    *,
    rounds: int,
    graph_id: int | None = None,
    place: str = "cuda",
) -> WorkloadTiming:
    """``rounds`` calls on each of ``feeds``, timed by the events of ``device``, with data that lies there.

    ``place`` is where onnxruntime keeps the data; tests use "cpu" with a stand-in for the device.
    """
    seconds: list[float] = []
    each = max(1, round(rounds / len(feeds)))
    for feed in feeds:
        run = BoundRun(engine, feed, device=place, index=device.index, graph_id=graph_id)
        for _ in range(_WARMUP):
            run.call()
        seconds.extend(device.seconds(run.call) for _ in range(each))
    return WorkloadTiming(seconds=tuple(seconds), latency=LatencySummary.from_seconds(seconds))


def measure_energy(
    call: Callable[[], object], seconds: float, *, gpu: int | str = 0, bindings: Any = None
) -> dict[str, Any] | None:
    """Let ``call`` make inferences for ``seconds``, apart from all timing, after a second of rest.

    The keys are those of ``energy`` in report.json; None where the GPU tells no power or too few samples came.
    """
    with GpuSampler(gpu, bindings=bindings) as rest:
        sleep(_IDLE_S)
    with GpuSampler(gpu, bindings=bindings) as busy:
        start = perf_counter()
        inferences = 0
        while inferences == 0 or perf_counter() - start < seconds:
            call()
            inferences += 1
        took = perf_counter() - start
    idle, work = summarize(rest.samples), summarize(busy.samples)
    if work["energy_j"] is None or work["samples"] < _FEWEST_SAMPLES or work["seconds"] <= 0:
        return None
    mean_mw = work["energy_j"] / work["seconds"] * 1000.0
    return {
        "per_inference_mj": mean_mw * took / inferences,
        "mean_mw": mean_mw,
        "idle_mw": idle["power_mw"] and idle["power_mw"]["mean"],
        "rail": "GPU",
        "source": "nvml",
        "inferences": inferences,
        "seconds": took,
        "samples": work["samples"],
    }


def _silence(_: str) -> None:
    """What hears progress where nobody listens."""


def _runs(engine: Engine, feeds: Feeds) -> bool:
    """Whether the graph takes this shape; there is no other way to learn how many positions it has.

    To be asked on the CPU, which refuses a position beyond its table; a GPU may answer with zeros.
    """
    try:
        engine.run(feeds)
    except VerificationError:
        return False
    return True


@contextmanager
def _watching(device: CudaDevice | None) -> Iterator[GpuSampler | None]:
    if device is None:
        yield None
        return
    with GpuSampler(device.pci_bus_id, interval_s=_WATCH_INTERVAL_S) as sampler:
        yield sampler
