"""The part of the schema that holds what was measured on a device; ``schema`` says what the units are."""

from __future__ import annotations

from typing import Any, Literal, Optional

from pydantic import Field, model_validator

from pocketformer.report.bounds import Prediction, Roofline
from pocketformer.report.parts import (
    Amount,
    Count,
    DeviceStatus,
    Difference,
    Interval,
    Part,
    Score,
    Share,
    Text,
    ordered,
)


class Percentiles(Part):
    """Percentiles of repeated timed calls."""

    p50: Amount = Field(description="Median, ms.")
    p90: Amount = Field(description="90th percentile, ms.")
    p99: Amount = Field(description="99th percentile, ms.")
    samples: Optional[Count] = Field(
        default=None, description="How many timed calls these percentiles are of."
    )

    @model_validator(mode="after")
    def _rising(self) -> Percentiles:
        if not self.p50 <= self.p90 <= self.p99:
            raise ValueError("percentiles must rise: p50 <= p90 <= p99")
        return self


class ColdStart(Part):
    """A fresh process, from nothing to the first answer."""

    import_ms: Optional[Amount] = Field(default=None, description="Importing the library, ms.")
    load_ms: Optional[Amount] = Field(default=None, description="Loading the model, ms.")
    first_prediction_ms: Optional[Amount] = Field(default=None, description="The first prediction, ms.")
    total_ms: Amount = Field(description="The three together, ms.")


class Measurement(Part):
    """One model on one device."""

    metric: Optional[Score] = Field(
        default=None, description="The report's metric on its evaluation split; null: not measured."
    )
    metric_ci95: Optional[Interval] = Field(
        default=None, description="95% interval of `metric`, [low, high]."
    )
    file_mb: Optional[Amount] = Field(default=None, description="All model files together, 10^6 bytes.")
    parameters: Optional[Count] = Field(default=None, description="Number of parameters.")
    latency_ms: dict[str, Percentiles] = Field(
        default_factory=dict,
        description="Per workload (`real`: test inputs at batch 1; `1x32`: batch x tokens, and so on), "
        "the model alone, without tokenizer. A missing key was not measured.",
    )
    latency_samples_ms: dict[str, list[Amount]] = Field(
        default_factory=dict, description="Raw samples behind `latency_ms`, in the order of measuring."
    )
    samples_per_s: dict[str, Amount] = Field(
        default_factory=dict,
        description="Throughput per workload: rows of the timed calls over the time they took.",
    )
    tokenizer_ms: Optional[Percentiles] = Field(
        default=None, description="Encoding one real input, apart from the model."
    )
    end_to_end_ms: Optional[Percentiles] = Field(
        default=None, description="One real input, from text to label."
    )
    cold_start: Optional[ColdStart] = Field(default=None, description="Start of a fresh process.")
    peak_memory_mb: Optional[Amount] = Field(
        default=None, description="Peak resident memory of a fresh process that loads the model and predicts."
    )

    @model_validator(mode="after")
    def _interval_ordered(self) -> Measurement:
        ordered("metric_ci95", self.metric_ci95)
        return self


class Result(Measurement):
    """The artefact that ships, against the teacher."""

    drop: Optional[Difference] = Field(
        default=None,
        description="Metric of the teacher minus metric of the result; negative: the result is better.",
    )
    drop_ci95: Optional[Interval] = Field(
        default=None, description="95% interval of `drop` (paired), [low, high]."
    )
    flips: Optional[Count] = Field(
        default=None, description="Evaluation rows whose label differs from the teacher's."
    )
    agreement: Optional[Share] = Field(
        default=None, description="Share of rows with the same label as the teacher."
    )

    @model_validator(mode="after")
    def _drop_interval_ordered(self) -> Result:
        ordered("drop_ci95", self.drop_ci95)
        return self


class Baselines(Part):
    """The teacher, timed in the same interleaved run as the result."""

    torch_eager: Optional[Measurement] = Field(default=None, description="The teacher in PyTorch eager.")
    onnxruntime_fp32: Optional[Measurement] = Field(
        default=None, description="The teacher in plain onnxruntime, fp32."
    )


class Speedup(Part):
    """Ratio of medians; 2 means that the result takes half the time."""

    vs_torch: Optional[Amount] = Field(default=None, description="p50 of torch_eager / p50 of the result.")
    vs_onnxruntime: Optional[Amount] = Field(
        default=None, description="p50 of onnxruntime_fp32 / p50 of the result."
    )


class LoadGenRun(Part):
    """One of LoadGen's scenarios."""

    latency_ms: Optional[Percentiles] = Field(default=None, description="Per query, ms.")
    samples_per_s: Optional[Amount] = Field(default=None, description="Throughput.")
    queries: Optional[Count] = Field(default=None, description="How many samples were answered.")
    valid: Optional[bool] = Field(
        default=None, description="LoadGen's own verdict on the run's length and count; null: it gave none."
    )


class LoadGen(Part):
    """LoadGen's scenarios, kept apart from our own measurements."""

    note: Literal["not an MLPerf result"] = Field(
        default="not an MLPerf result", description="Always this sentence."
    )
    driver: Literal["mlcommons-loadgen", "own loop"] = Field(
        default="mlcommons-loadgen",
        description="`mlcommons-loadgen`: MLPerf's LoadGen; `own loop`: ours, of the same rules, where it is missing.",
    )
    version: Optional[Text] = Field(
        default=None, description="Version of mlcommons-loadgen; null: not known, or it did not drive."
    )
    subject: Text = Field(
        default="result", description="What was driven: `result`, unless it says otherwise."
    )
    single_stream: Optional[LoadGenRun] = Field(default=None, description="One query at a time.")
    offline: Optional[LoadGenRun] = Field(default=None, description="All samples at once.")

    @model_validator(mode="after")
    def _own_loop_is_no_loadgen(self) -> LoadGen:
        if self.driver == "own loop":
            runs = [run for run in (self.single_stream, self.offline) if run is not None]
            if self.version is not None or any(run.valid is not None for run in runs):
                raise ValueError(
                    "our own loop drove: there is no version of LoadGen and no verdict of its own"
                )
        return self


class BundleInfo(Part):
    """The directory that an app embeds."""

    path: Text = Field(description="Where it lies, relative to the run directory.")
    precision: Text = Field(description="For example `int8-dynamic`.")
    files_mb: dict[Text, Amount] = Field(default_factory=dict, description="Size of each file, 10^6 bytes.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Session settings that the bundle stores."
    )


class Emulation(Part):
    """How long an emulator took. It says nothing of the device's speed and is shown nowhere."""

    emulated: Literal[True] = Field(default=True, description="Always true.")
    p50_ms: dict[str, Amount] = Field(
        default_factory=dict, description="Median per workload in the emulator, ms."
    )


class Energy(Part):
    """What the device's own power monitor told while it answered real inputs one after the other."""

    per_inference_mj: Amount = Field(description="Energy of one inference, idle power included, mJ.")
    mean_mw: Amount = Field(description="Mean power meanwhile, mW.")
    idle_mw: Optional[Amount] = Field(default=None, description="Mean power just before, at rest, mW.")
    rail: Text = Field(description="The rail that was read; docs/targets.md says what each carries.")
    source: Text = Field(description="The tool that told, for example `tegrastats`.")
    inferences: Count = Field(description="How many inferences.")
    seconds: Amount = Field(description="How long, s.")
    samples: Count = Field(description="How many readings.")


class PowerSetting(Part):
    """A power mode and the clocks at one moment."""

    mode: Optional[Text] = Field(default=None, description="Name of the power mode.")
    clocks_locked: Optional[bool] = Field(
        default=None, description="Whether the clocks stand at one value; null: it does not tell."
    )


class PowerChange(Part):
    """What was changed for the time of measuring, and whether it was put back."""

    asked: Optional[Text] = Field(
        default=None, description="The mode asked for, by name or number; null: as it was."
    )
    jetson_clocks: bool = Field(description="Whether locked clocks were asked for.")
    before: PowerSetting = Field(description="What it was before.")
    after: Optional[PowerSetting] = Field(
        default=None, description="What it was afterwards; null: not known."
    )
    restored: Optional[bool] = Field(
        default=None, description="Whether afterwards is as before; null: not known."
    )
    by_hand: Optional[Text] = Field(
        default=None,
        description="What to type on the device where it was not, or may not have been, put back.",
    )

    @model_validator(mode="after")
    def _restored_is_seen(self) -> PowerChange:
        if self.restored and self.after is None:
            raise ValueError("restored is true, and nothing says what it was afterwards")
        return self


class PowerState(PowerSetting):
    """The power mode and clocks that a device was measured in."""

    change: Optional[PowerChange] = Field(
        default=None, description="Where they were changed on request; null: it was measured as it was found."
    )


class EngineInfo(Part):
    """A TensorRT engine; whether it ran says the device's `status`."""

    library: Text = Field(description="What built it, with its version.")
    precision: Text = Field(description="Precision asked for.")
    compute_capabilities: list[Text] = Field(description="GPUs that it is for.")
    file_mb: Amount = Field(description="Size of the engine, 10^6 bytes.")
    layers: dict[Text, Count] = Field(
        default_factory=dict,
        description="Layers by the precision they compute in; `all`: how many there are.",
    )


class Spread(Part):
    """One figure of several readings."""

    mean: Amount = Field(description="Mean.")
    min: Amount = Field(description="Smallest.")
    max: Amount = Field(description="Largest.")


class GpuWatch(Part):
    """What NVIDIA's Management Library told of a GPU while it was timed; null: it does not tell."""

    samples: Count = Field(description="How many readings.")
    seconds: Amount = Field(description="Over how long, s.")
    sm_mhz: Optional[Spread] = Field(default=None, description="Clock of its multiprocessors, MHz.")
    power_mw: Optional[Spread] = Field(default=None, description="Power, mW.")
    temperature_c: Optional[Spread] = Field(default=None, description="Temperature, degrees C.")
    memory_used_mb: Optional[Spread] = Field(
        default=None, description="Memory in use on the whole GPU, other programs included, 10^6 bytes."
    )
    reasons: Optional[dict[Text, Share]] = Field(
        default=None, description="Why its clocks were not higher: the share of readings in which each held."
    )
    throttling: Optional[list[Text]] = Field(
        default=None, description="Those of `reasons` that slowed it down; empty: none did."
    )


class GpuInfo(Part):
    """A GPU that ran the result: what ran where, its own time, and the state it was in."""

    name: Optional[Text] = Field(default=None, description="As its driver calls it.")
    compute_capability: Optional[Text] = Field(default=None, description="For example `8.9`.")
    memory_mb: Optional[Amount] = Field(default=None, description="Its memory, 10^6 bytes.")
    power_limit_mw: Optional[Amount] = Field(default=None, description="Power that it is held to, mW.")
    sm_mhz_max: Optional[Amount] = Field(default=None, description="Highest clock, MHz.")
    providers: list[Text] = Field(description="Execution providers asked for, the preferred one first.")
    nodes: dict[Text, Count] = Field(
        description="Nodes of the optimized graph that each provider really ran, by onnxruntime's profile of a run."
    )
    copies: Count = Field(default=0, description="Copies that onnxruntime put between providers.")
    cuda_graph: bool = Field(
        default=False, description="Whether `device_latency_ms` of fixed shapes is of replayed CUDA graphs."
    )
    device_latency_ms: dict[str, Percentiles] = Field(
        default_factory=dict,
        description="Per workload, by CUDA events around a call whose data lies on the GPU. `result.latency_ms` is by "
        "the host's clock, copies to the GPU and back included.",
    )
    device_latency_samples_ms: dict[str, list[Amount]] = Field(
        default_factory=dict, description="Raw samples behind `device_latency_ms`."
    )
    watch: Optional[GpuWatch] = Field(
        default=None, description="Clocks, power, heat and throttling meanwhile."
    )


class Device(Part):
    """One target: the baselines and the result there."""

    name: Text = Field(description="Name of the target.")
    status: DeviceStatus = Field(
        description="`measured` on the device, `emulated` (works, but has no latency), `built` (never ran) or "
        "`failed` (see `error`)."
    )
    hardware: Optional[Text] = Field(default=None, description="What it is, in words.")
    threads: Optional[Count] = Field(default=None, description="Threads that every candidate was given.")
    baselines: Baselines = Field(default_factory=Baselines, description="The teacher here.")
    result: Optional[Result] = Field(default=None, description="What ships here.")
    speedup: dict[str, Speedup] = Field(default_factory=dict, description="Per workload.")
    prediction: Optional[Prediction] = Field(
        default=None, description="The latency table's prediction; null: there was no table."
    )
    roofline: Optional[Roofline] = Field(
        default=None, description="What bounds the latency; null: not measured."
    )
    loadgen: Optional[LoadGen] = Field(default=None, description="LoadGen's scenarios; not an MLPerf result.")
    versions: dict[Text, Text] = Field(
        default_factory=dict, description="Versions that matter, on the device."
    )
    fallback_operators: Optional[dict[Text, Count]] = Field(
        default=None,
        description="Operators that ran elsewhere than on the provider asked for, and how many; null: not known.",
    )
    power: Optional[PowerState] = Field(
        default=None, description="Its power mode and clocks, where it tells."
    )
    energy: Optional[Energy] = Field(default=None, description="Where the device tells its power.")
    gpu: Optional[GpuInfo] = Field(default=None, description="Of a GPU only.")
    emulation: Optional[Emulation] = Field(default=None, description="Of an emulated device only.")
    engine: Optional[EngineInfo] = Field(default=None, description="The engine, where one was built.")
    error: Optional[Text] = Field(default=None, description="Why a device failed.")
    hint: Optional[Text] = Field(default=None, description="What to do about it.")
    warnings: list[Text] = Field(
        default_factory=list, description="What the device warned of: throttling, its clock, what it lacks."
    )
    bundle: Optional[BundleInfo] = Field(default=None, description="The bundle written for this target.")
    notes: list[Text] = Field(default_factory=list, description="What else a reader must know.")

    @model_validator(mode="after")
    def _only_measured_devices_have_times(self) -> Device:
        parts = [self.result, self.baselines.torch_eager, self.baselines.onnxruntime_fp32]
        timed = any(p is not None and _is_timed(p) for p in parts)
        others = (self.speedup, self.loadgen, self.energy, self.gpu, self.prediction, self.roofline)
        if self.status != "measured" and (timed or any(others)):
            raise ValueError(f"device {self.name!r} is {self.status}: only a measured device has latencies")
        return self

    @model_validator(mode="after")
    def _status_follows_from_the_rest(self) -> Device:
        if (self.status == "failed") is not (self.error is not None):
            raise ValueError(f"device {self.name!r} is {self.status} and its error is {self.error!r}")
        if self.emulation is not None and self.status != "emulated":
            raise ValueError(f"device {self.name!r} is {self.status} and has an emulator's times")
        return self


def _is_timed(part: Measurement) -> bool:
    own = (
        part.latency_ms,
        part.latency_samples_ms,
        part.samples_per_s,
        part.tokenizer_ms,
        part.end_to_end_ms,
    )
    return any(own) or part.cold_start is not None
