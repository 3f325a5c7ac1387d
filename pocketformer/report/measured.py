"""The part of the schema that holds what was measured on a device; ``schema`` says what the units are."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

STANDARD_WORKLOADS = ("real", "1x32", "1x128", "8x128")


def _without_surrogates(value: object) -> object:
    """Half a UTF-16 pair cannot be written as UTF-8; JSON lines from elsewhere do carry some."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


Text = Annotated[str, BeforeValidator(_without_surrogates)]
Score = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Difference = Annotated[float, Field(ge=-2, le=2)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]
DeviceStatus = Literal["measured", "emulated", "built"]


def ordered(name: str, interval: Interval | None) -> None:
    """Refuse an interval whose ends are the wrong way round."""
    if interval is not None and interval[0] > interval[1]:
        raise ValueError(f"{name}: the lower end {interval[0]} lies above the upper end {interval[1]}")


class Part(BaseModel):
    """What all parts share: no key that the schema does not name, no NaN, no change after the fact."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
    """One scenario driven by MLPerf's LoadGen."""

    latency_ms: Optional[Percentiles] = Field(default=None, description="Per query, ms.")
    samples_per_s: Optional[Amount] = Field(default=None, description="Throughput.")
    queries: Optional[Count] = Field(default=None, description="How many samples were answered.")
    valid: Optional[bool] = Field(
        default=None, description="LoadGen's own verdict on the run's length and count."
    )


class LoadGen(Part):
    """Figures of MLPerf's LoadGen, kept apart from our own."""

    note: Literal["not an MLPerf result"] = Field(
        default="not an MLPerf result", description="Always this sentence."
    )
    version: Optional[Text] = Field(default=None, description="Version of mlcommons-loadgen.")
    subject: Text = Field(
        default="result", description="What was driven: `result`, unless it says otherwise."
    )
    single_stream: Optional[LoadGenRun] = Field(default=None, description="One query at a time.")
    offline: Optional[LoadGenRun] = Field(default=None, description="All samples at once.")


class BundleInfo(Part):
    """The directory that an app embeds."""

    path: Text = Field(description="Where it lies, relative to the run directory.")
    precision: Text = Field(description="For example `int8-dynamic`.")
    files_mb: dict[Text, Amount] = Field(default_factory=dict, description="Size of each file, 10^6 bytes.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Session settings that the bundle stores."
    )


class Device(Part):
    """One target: the baselines and the result there."""

    name: Text = Field(description="Name of the target.")
    status: DeviceStatus = Field(
        description="`measured` on the device, `emulated` (works, but has no latency) or `built` (never ran)."
    )
    hardware: Optional[Text] = Field(default=None, description="What it is, in words.")
    threads: Optional[Count] = Field(default=None, description="Threads that every candidate was given.")
    baselines: Baselines = Field(default_factory=Baselines, description="The teacher here.")
    result: Optional[Result] = Field(default=None, description="What ships here.")
    speedup: dict[str, Speedup] = Field(default_factory=dict, description="Per workload.")
    loadgen: Optional[LoadGen] = Field(default=None, description="LoadGen's figures; not an MLPerf result.")
    bundle: Optional[BundleInfo] = Field(default=None, description="The bundle written for this target.")
    notes: list[Text] = Field(default_factory=list, description="What else a reader must know.")

    @model_validator(mode="after")
    def _only_measured_devices_have_times(self) -> Device:
        parts = [self.result, self.baselines.torch_eager, self.baselines.onnxruntime_fp32]
        timed = any(p is not None and (p.latency_ms or p.latency_samples_ms) for p in parts)
        if self.status != "measured" and (timed or self.speedup or self.loadgen):
            raise ValueError(f"device {self.name!r} is {self.status}: only a measured device has latencies")
        return self
