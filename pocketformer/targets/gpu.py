"""Measures a bundle on this machine's GPU: latency with and without copies, what ran where, power and throttling.

The same code measures on the CPU, where it has neither device events nor a power reading; that is how it is tested.
Experimental: it has never run on a GPU (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER, read_manifest
from pocketformer.runtime.results import LatencySummary
from pocketformer.targets.measure import WorkloadTiming, measure
from pocketformer.targets.nvml import GpuSampler, probe_gpu, summarize
from pocketformer.targets.workloads import REAL, REAL_INPUTS, WORKLOADS, Feeds, build_feeds, rounds_of

if TYPE_CHECKING:
    from pocketformer.runtime.backends.cuda import CudaDevice
    from pocketformer.runtime.engine import OnnxRuntimeEngine
    from pocketformer.runtime.placement import Placement

_WARMUP = 4  # calls before the first that is timed by events; the first of them records a CUDA graph
_WATCH_INTERVAL_S = 0.5  # seldom: asking disturbs what is timed
_IDLE_S = 1.0
_FEWEST_SAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class GpuMeasurement:
    """A bundle on one device, by the ``providers`` that ran it.

    ``host``: latency by the host's clock, copies to and from the device included, by workload. ``device``: time of
    the device alone by its events, for data that lies there; empty on the CPU. ``placement``: the nodes that each
    provider ran, with ``fallback_operators`` those that ran elsewhere than on the providers of the GPU; None for a
    TensorRT engine, which is one piece. ``gpu``: as ``probe_gpu``; ``watch``: as ``nvml.summarize``, over the time
    measured; ``energy``: as report.json has it, None where too few samples came. Each is None on the CPU.
    """

    providers: tuple[str, ...]
    host: Mapping[str, WorkloadTiming]
    device: Mapping[str, WorkloadTiming] = field(default_factory=dict)
    placement: Placement | None = None
    fallback_operators: Mapping[str, int] | None = None
    gpu: Mapping[str, Any] | None = None
    watch: Mapping[str, Any] | None = None
    energy: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; latencies in ms, raw samples in seconds."""
        return {
            "providers": list(self.providers),
            "host": {name: asdict(timing) for name, timing in self.host.items()},
            "device": {name: asdict(timing) for name, timing in self.device.items()},
            "placement": None if self.placement is None else self.placement.to_dict(),
            "fallback_operators": self.fallback_operators and dict(self.fallback_operators),
            "gpu": self.gpu,
            "watch": self.watch,
            "energy": self.energy,
            "notes": list(self.notes),
        }


def measure_gpu(
    bundle: Path,
    texts: Sequence[str],
    *,
    providers: Sequence[str] = ("CUDAExecutionProvider",),
    index: int = 0,
    cuda_graph: bool = False,
    fp16: bool = False,
    rounds: int = 40,
    time_limit_s: float = 60.0,
    energy_s: float = 5.0,
) -> GpuMeasurement:
    """Measure the bundle of an ONNX graph by ``providers`` on the GPU ``index``, over the usual workloads.

    ``cuda_graph`` and ``fp16`` as in ``gpu_options``; CUDA graphs are replayed for fixed shapes only, and only where
    the time of the device is taken. ``energy_s``: seconds of a phase of its own in which power is sampled, 0 for none.
    Raises ``DeviceError`` when driver, GPU, provider or a library is missing, ``MissingDependencyError`` without
    nvidia-ml-py, ``InputError`` and ``VerificationError`` as ``runtime.load``. Nothing falls back to the CPU unless
    ``CPUExecutionProvider`` is among ``providers``.
    """
    from pocketformer.runtime.backends.cuda import CudaDevice
    from pocketformer.runtime.backends.onnxruntime_gpu import gpu_options
    from pocketformer.runtime.engine import OnnxRuntimeEngine
    from pocketformer.runtime.model import load
    from pocketformer.runtime.placement import measure_placement
    from pocketformer.runtime.providers import require_providers

    if not texts:
        raise InputError("there are no texts to measure on", hint="Give at least one.")
    require_providers(providers)
    manifest = read_manifest(bundle)
    graph = bundle / manifest.graph
    settings = replace(manifest.session, providers=tuple(providers))
    device = None if settings.providers == (CPU_PROVIDER,) else CudaDevice(index)
    # By its place on the bus: NVML does not heed CUDA_VISIBLE_DEVICES and may count in another order.
    gpu = probe_gpu(device.pci_bus_id) if device else None
    model = load(bundle, session=replace(manifest.session, providers=(CPU_PROVIDER,)))  # tokenizer and checks
    options = gpu_options(index, stream=device.stream if device else None, fp16=fp16)
    engine = OnnxRuntimeEngine(graph, settings, provider_options=options)
    token_ids = [encoding.ids for encoding in model.encoder.tokenize(list(texts[:REAL_INPUTS]))]
    notes: list[str] = []
    inputs = {}
    for workload in WORKLOADS:
        feeds = build_feeds(workload, token_ids)
        if workload is REAL or _runs(engine, feeds[0]):
            inputs[workload.name] = feeds
        else:
            notes.append(f"{workload.name} was left out: this graph does not run on it")
    with _watching(device) as watch:
        host: dict[str, WorkloadTiming] = {}
        events: dict[str, WorkloadTiming] = {}
        for name, feeds in inputs.items():
            count = rounds_of(name, rounds, len(feeds))
            timed = measure({"model": engine.run}, {name: feeds}, rounds=count, time_limit_s=time_limit_s)
            host[name] = timed["model"][name]
        if device is not None:
            recorder = engine
            if cuda_graph:
                graphs = gpu_options(index, stream=device.stream, fp16=fp16, cuda_graph=True)
                recorder = OnnxRuntimeEngine(graph, settings, provider_options=graphs)
                notes.append("times of the device are replays of CUDA graphs, except on real inputs")
            for number, (name, feeds) in enumerate(inputs.items(), 1):
                replay = number if cuda_graph and name != REAL.name else None
                subject = engine if replay is None else recorder
                events[name] = time_on_device(device, subject, feeds, rounds=rounds, graph_id=replay)
    energy = None
    if device is not None and energy_s > 0:
        real = cycle(inputs[REAL.name])
        energy = measure_energy(lambda: engine.run(next(real)), energy_s, gpu=device.pci_bus_id)
    placement = measure_placement(graph, settings, inputs[REAL.name][0], provider_options=options)
    preferred = [name for name in settings.providers if name != CPU_PROVIDER] or [CPU_PROVIDER]
    return GpuMeasurement(
        providers=engine.providers,
        host=host,
        device=events,
        placement=placement,
        fallback_operators=placement.fallback(preferred),
        gpu=gpu,
        watch=None if watch is None else summarize(watch.samples),
        energy=energy,
        notes=(*notes, *([watch.failure] if watch is not None and watch.failure else [])),
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
    from pocketformer.runtime.backends.onnxruntime_gpu import BoundRun

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


def _runs(engine: OnnxRuntimeEngine, feeds: Feeds) -> bool:
    """Whether the graph takes this shape; there is no other way to learn how many positions it has."""
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
