"""The data of ``report.json``, version 1. The renderings show it and add nothing to it.

Units, everywhere: metrics, rates and drops are fractions of 1, times are milliseconds (a run's own duration:
seconds), sizes are 10^6 bytes. What was not measured is ``null`` or a missing key, never 0.
"""

from __future__ import annotations

from typing import Any, Literal, Optional

from pydantic import AwareDatetime, Field, model_validator

from pocketformer.report.bounds import Prediction, Roofline, RooflineShare
from pocketformer.report.measured import (
    Baselines,
    BundleInfo,
    ColdStart,
    Device,
    Emulation,
    Energy,
    EngineInfo,
    GpuInfo,
    GpuWatch,
    LoadGen,
    LoadGenRun,
    Measurement,
    Percentiles,
    PowerChange,
    PowerSetting,
    PowerState,
    Result,
    Speedup,
    Spread,
)
from pocketformer.report.parts import (
    STANDARD_WORKLOADS,
    Amount,
    Count,
    DeviceStatus,
    Interval,
    Part,
    Score,
    Share,
    Text,
)

__all__ = [
    "SCHEMA_VERSION",
    "STANDARD_WORKLOADS",
    "Baselines",
    "Budget",
    "BudgetCheck",
    "BundleInfo",
    "Candidate",
    "ClassRow",
    "ColdStart",
    "DataAudit",
    "DataFile",
    "Device",
    "DeviceStatus",
    "Emulation",
    "Energy",
    "EngineInfo",
    "Environment",
    "Evaluation",
    "FlippedExample",
    "GpuInfo",
    "GpuWatch",
    "Interval",
    "Lineage",
    "LineageStage",
    "LoadGen",
    "LoadGenRun",
    "Measurement",
    "ParetoPoint",
    "Percentiles",
    "PowerChange",
    "PowerSetting",
    "PowerState",
    "Prediction",
    "ReferenceScore",
    "References",
    "Report",
    "ReportWarning",
    "Result",
    "Roofline",
    "RooflineShare",
    "SourceModel",
    "Speedup",
    "Spread",
    "Step",
]

SCHEMA_VERSION: Literal[1] = 1


class Budget(Part):
    """What the user allowed; null: no limit."""

    max_drop: Optional[Share] = Field(
        default=None, description="Largest drop of the metric, absolute fraction."
    )
    max_latency_ms: Optional[Amount] = Field(
        default=None, description="Largest p50 on `latency_workload`, ms."
    )
    latency_workload: Text = Field(
        default="real", description="The workload that `max_latency_ms` speaks of."
    )
    max_size_mb: Optional[Amount] = Field(default=None, description="Largest `file_mb`.")
    max_memory_mb: Optional[Amount] = Field(default=None, description="Largest `peak_memory_mb`.")


class BudgetCheck(Part):
    """One limit of the budget against what was measured."""

    name: Literal["max_drop", "max_latency_ms", "max_size_mb", "max_memory_mb"] = Field(
        description="Which limit."
    )
    device: Text = Field(description="Where it was measured.")
    limit: Amount = Field(description="What was allowed, in the limit's own unit.")
    measured: Optional[float] = Field(default=None, description="Null: not measured.")
    met: Optional[bool] = Field(
        default=None, description="Point estimate against the limit; null: not measured."
    )


class Evaluation(Part):
    """What the headline metric stands on."""

    split: Literal["test", "validation"] = Field(
        default="test", description="Rows that the metric is computed on."
    )
    rows: Optional[Count] = Field(default=None, description="How many.")
    basis: Literal["labels", "teacher"] = Field(
        default="labels",
        description="`labels`: against true labels. `teacher`: there were none; the metric is agreement with "
        "the teacher and accuracy is not measured.",
    )


class Step(Part):
    """The model as it stood after one step; the first step is the teacher."""

    name: Text = Field(description="What was done, in a few words.")
    stage: Text = Field(description="The stage of the run that did it.")
    metric: Optional[Score] = Field(default=None, description="On the validation split.")
    file_mb: Optional[Amount] = Field(default=None, description="Size after the step.")
    parameters: Optional[Count] = Field(default=None, description="Parameters after the step.")
    latency_ms: Optional[Amount] = Field(default=None, description="p50 on `real` after the step.")
    seconds: Optional[Amount] = Field(default=None, description="How long the step took, s.")
    notes: list[Text] = Field(default_factory=list, description="What the step had to say.")


class ParetoPoint(Part):
    """One model of the search with all three numbers."""

    name: Text = Field(description="What it is.")
    role: Literal["teacher", "candidate"] = Field(
        default="candidate", description="The teacher is drawn apart."
    )
    metric: Score = Field(description="On the validation split.")
    file_mb: Amount = Field(description="Size, 10^6 bytes.")
    latency_ms: Amount = Field(description="p50 on `real`, ms.")
    on_front: bool = Field(description="No other point is at least as good in all three and better in one.")
    chosen: bool = Field(default=False, description="The one that ships.")
    reason: Optional[Text] = Field(default=None, description="Why it was or was not taken.")


class Candidate(Part):
    """One thing that was tried, measured or not, taken or not."""

    name: Text = Field(description="Method and setting.")
    stage: Text = Field(description="The stage that tried it.")
    taken: bool = Field(description="Whether the run went on with it.")
    reason: Text = Field(description="Why, in a sentence.")
    metric: Optional[Score] = Field(default=None, description="On the validation split.")
    file_mb: Optional[Amount] = Field(default=None, description="Size, 10^6 bytes.")
    latency_ms: dict[Text, Amount] = Field(default_factory=dict, description="p50 per workload, ms.")


class ReferenceScore(Part):
    """A model that is there to be compared with."""

    metric: Optional[Score] = Field(default=None, description="On the same rows as the headline metric.")
    metric_ci95: Optional[Interval] = Field(default=None, description="95% interval, [low, high].")
    note: Optional[Text] = Field(default=None, description="How it was made, or why it was not.")


class References(Part):
    """What tells whether the teacher, and the teaching, were worth anything."""

    tfidf_logistic_regression: Optional[ReferenceScore] = Field(
        default=None, description="A classical baseline."
    )
    student_without_teacher: Optional[ReferenceScore] = Field(
        default=None, description="The student's architecture trained on the labels alone."
    )


class ClassRow(Part):
    """One class of the result on the evaluation split."""

    label: Text = Field(description="Name of the class.")
    support: Count = Field(description="Rows of this class.")
    precision: Share = Field(description="Of the result.")
    recall: Share = Field(description="Of the result.")
    f1: Share = Field(description="Of the result.")
    teacher_f1: Optional[Share] = Field(default=None, description="The teacher's.")


class FlippedExample(Part):
    """An evaluation row that the result answers differently from the teacher."""

    text: Text = Field(description="The input.")
    label: Optional[Text] = Field(default=None, description="The true label, where there is one.")
    teacher: Text = Field(description="The teacher's answer.")
    result: Text = Field(description="The result's answer.")
    teacher_score: Optional[Share] = Field(
        default=None, description="Probability that the teacher gave its answer."
    )
    result_score: Optional[Share] = Field(
        default=None, description="Probability that the result gave its answer."
    )


class DataFile(Part):
    """One input file."""

    split: Literal["train", "validation", "test", "unlabeled"] = Field(description="What it was used as.")
    name: Text = Field(description="File name, without its directory.")
    sha256: Text = Field(description="Of the whole file.")


class DataAudit(Part):
    """What the data held before and after it was cleaned."""

    rows: dict[Literal["train", "validation", "test"], Count] = Field(
        default_factory=dict, description="Rows used, per split, after cleaning."
    )
    rows_read: Optional[Count] = Field(default=None, description="Rows read, all files.")
    empty_texts: Optional[Count] = Field(default=None, description="Rows dropped for having no text.")
    duplicates_removed: Optional[Count] = Field(
        default=None, description="Further copies of a text that were dropped."
    )
    conflicting_labels_removed: Optional[Count] = Field(
        default=None, description="Texts dropped for carrying more than one label."
    )
    leaked_into_validation: Optional[Count] = Field(
        default=None, description="Training rows dropped because the validation split has their text."
    )
    leaked_into_test: Optional[Count] = Field(
        default=None, description="Training rows dropped because the test split has their text."
    )
    max_length: Optional[Count] = Field(default=None, description="Tokens kept of each text.")
    truncation_rate: Optional[Share] = Field(
        default=None, description="Share of training texts cut at `max_length`."
    )
    validation_leaked_into_test: Optional[Count] = Field(
        default=None, description="Validation rows dropped because the test split has their text."
    )
    class_counts: dict[Text, dict[Text, Count]] = Field(
        default_factory=dict,
        description="Rows per class name, for `train`, `validation` and, once read, `test`.",
    )
    notes: list[Text] = Field(default_factory=list, description="What else was found.")


class ReportWarning(Part):
    """Something that a reader should know before believing the numbers."""

    code: Text = Field(description="A stable name, for example `weak_teacher`.")
    message: Text = Field(description="One or two sentences.")


class SourceModel(Part):
    """The model that the run began with."""

    name: Text = Field(description="Name or directory name.")
    architecture: Optional[Text] = Field(
        default=None, description="For example `BertForSequenceClassification`."
    )
    license: Optional[Text] = Field(default=None, description="SPDX identifier; null: not known.")
    source: Optional[Text] = Field(default=None, description="Where it came from.")
    sha256: Optional[Text] = Field(default=None, description="Of its weights.")


class LineageStage(Part):
    """One stage of the run."""

    name: Text = Field(description="Stage.")
    key: Text = Field(
        description="Hash of name, version, configuration, inputs and the versions that matter."
    )
    seconds: Optional[Amount] = Field(default=None, description="How long it took when it ran, s.")
    reused: bool = Field(default=False, description="Taken from an earlier run that had the same key.")
    inputs: dict[Text, Text] = Field(default_factory=dict, description="SHA-256 of what went in.")
    outputs: dict[Text, Text] = Field(default_factory=dict, description="SHA-256 of what came out.")


class Lineage(Part):
    """Where the result comes from."""

    teacher: SourceModel = Field(description="The model that the run began with.")
    data: list[DataFile] = Field(default_factory=list, description="Input files.")
    stages: list[LineageStage] = Field(default_factory=list, description="In the order of running.")
    seed: Optional[int] = Field(default=None, description="Seed of everything random.")
    recipe_sha256: Optional[Text] = Field(default=None, description="Of the resolved recipe.")


class Environment(Part):
    """The machine that ran, and measured, all this."""

    python: Text = Field(description="Version.")
    platform: Text = Field(description="Operating system.")
    architecture: Optional[Text] = Field(default=None, description="For example `x86_64`.")
    cpu: Optional[Text] = Field(default=None, description="Model name.")
    cores: Optional[Count] = Field(default=None, description="Cores that the run could use.")
    cpu_flags: list[Text] = Field(default_factory=list, description="Instruction sets that matter for int8.")
    memory_mb: Optional[Amount] = Field(default=None, description="Installed memory.")
    packages: dict[Text, Text] = Field(default_factory=dict, description="Versions that matter.")


class Report(Part):
    """All that a run measured."""

    schema_version: Literal[1] = Field(
        default=SCHEMA_VERSION, description="Rises whenever the schema changes."
    )
    pocketformer_version: Text = Field(description="What wrote this report.")
    created: AwareDatetime = Field(description="When, ISO 8601 with time zone.")
    name: Text = Field(description="Name of the run.")
    task: Text = Field(description="For example `text-classification`.")
    metric_name: Text = Field(description="For example `accuracy`; see `evaluation.basis`.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="What the metric stands on.")
    budget: Budget = Field(description="What was allowed.")
    budget_met: bool = Field(
        description="Every limit was measured and holds, by the point estimate; true without limits."
    )
    budget_checks: list[BudgetCheck] = Field(default_factory=list, description="Limit by limit.")
    verdict: Text = Field(description="The result against the budget, one or two sentences.")
    needed: list[Text] = Field(default_factory=list, description="What would be needed to meet the budget.")
    steps: list[Step] = Field(default_factory=list, description="What each step bought.")
    pareto: list[ParetoPoint] = Field(default_factory=list, description="What the search saw.")
    candidates: list[Candidate] = Field(
        default_factory=list, description="What was tried, and why not taken."
    )
    references: References = Field(default_factory=References, description="Models to compare with.")
    devices: list[Device] = Field(default_factory=list, description="Where it was measured.")
    per_class: list[ClassRow] = Field(default_factory=list, description="On the first device with a result.")
    flipped_examples: list[FlippedExample] = Field(default_factory=list, description="A sample of the flips.")
    data_audit: Optional[DataAudit] = Field(default=None, description="What the data held.")
    warnings: list[ReportWarning] = Field(default_factory=list, description="Read these first.")
    lineage: Lineage = Field(description="Where the result comes from.")
    environment: Environment = Field(description="What it ran on.")
    recipe: dict[str, Any] = Field(default_factory=dict, description="The resolved recipe.")

    @model_validator(mode="after")
    def _verdict_follows_from_the_checks(self) -> Report:
        if self.budget_checks and self.budget_met is not all(
            check.met is True for check in self.budget_checks
        ):
            raise ValueError(f"budget_met is {self.budget_met}, but budget_checks say otherwise")
        return self
