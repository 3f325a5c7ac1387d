"""A sample report. Every number in it is made up: it shows how a report looks, not what was measured."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import numpy as np
import pytest

from pocketformer.report.front import mark_front
from pocketformer.report.schema import (
    Baselines,
    Budget,
    BundleInfo,
    Candidate,
    ClassRow,
    ColdStart,
    DataAudit,
    DataFile,
    Device,
    Environment,
    Evaluation,
    FlippedExample,
    Lineage,
    LineageStage,
    LoadGen,
    LoadGenRun,
    Measurement,
    ParetoPoint,
    Percentiles,
    Prediction,
    References,
    ReferenceScore,
    Report,
    ReportWarning,
    Result,
    Roofline,
    RooflineShare,
    SourceModel,
    Step,
)
from pocketformer.report.verdict import budget_met, check_budget, compose_verdict, speedups

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> | `a` & *b* \x1b[31mred \u202egnp.exe'
_MEDIANS = {
    "torch_eager": {"real": 10.2, "1x32": 12.6, "1x128": 28.7, "8x128": 167.0},
    "onnxruntime_fp32": {"real": 3.31, "1x32": 6.62, "1x128": 23.3, "8x128": 151.0},
    "result": {"real": 0.612, "1x32": 1.21, "1x128": 4.44, "8x128": 25.3},
}


def _timed(key: str, *, seed: int = 0) -> tuple[dict[str, Percentiles], dict[str, list[float]]]:
    rng = random.Random(f"{key}{seed}")
    latency, samples = {}, {}
    for workload, median in _MEDIANS[key].items():
        spread = 0.16 if workload == "real" else 0.045
        raw = [
            median * rng.lognormvariate(0, spread) * (1.35 if rng.random() < 0.06 else 1) for _ in range(160)
        ]
        p50, p90, p99 = (float(v) for v in np.percentile(raw, [50, 90, 99]))
        latency[workload] = Percentiles(p50=p50, p90=p90, p99=p99, samples=len(raw))
        samples[workload] = [round(v, 4) for v in raw]
    return latency, samples


def _sample_device() -> Device:
    latency, samples = _timed("torch_eager")
    torch = Measurement(
        metric=0.934,
        metric_ci95=(0.917, 0.948),
        file_mb=90.9,
        parameters=22_715_526,
        latency_ms=latency,
        latency_samples_ms=samples,
        tokenizer_ms=Percentiles(p50=0.061, p90=0.082, p99=0.12),
        cold_start=ColdStart(total_ms=4210.0),
        peak_memory_mb=612.0,
    )
    latency, samples = _timed("onnxruntime_fp32")
    onnxruntime = Measurement(
        metric=0.934, metric_ci95=(0.917, 0.948), file_mb=91.0, parameters=22_715_526, latency_ms=latency,
        latency_samples_ms=samples,
    )  # fmt: skip
    latency, samples = _timed("result")
    result = Result(
        metric=0.928,
        metric_ci95=(0.910, 0.942),
        file_mb=7.61,
        parameters=7_094_000,
        latency_ms=latency,
        latency_samples_ms=samples,
        tokenizer_ms=Percentiles(p50=0.058, p90=0.079, p99=0.11),
        end_to_end_ms=Percentiles(p50=0.69, p90=0.88, p99=1.05),
        cold_start=ColdStart(import_ms=311.0, load_ms=52.0, first_prediction_ms=1.9, total_ms=365.0),
        peak_memory_mb=118.0,
        drop=0.006,
        drop_ci95=(-0.003, 0.015),
        flips=31,
        agreement=0.969,
    )
    baselines = Baselines(torch_eager=torch, onnxruntime_fp32=onnxruntime)
    return Device(
        name="cpu",
        status="measured",
        hardware="Sample CPU, 2 cores",
        threads=2,
        baselines=baselines,
        result=result,
        speedup=speedups(baselines, result),
        loadgen=LoadGen(
            version="5.1",
            single_stream=LoadGenRun(
                latency_ms=Percentiles(p50=0.64, p90=0.81, p99=1.02),
                samples_per_s=1510.0,
                queries=2000,
                valid=True,
            ),
            offline=LoadGenRun(samples_per_s=1720.0, queries=2000, valid=False),
        ),
        bundle=BundleInfo(
            path="bundles/cpu",
            precision="int8-dynamic",
            files_mb={"model.onnx": 7.61, "tokenizer.json": 0.31},
        ),
        prediction=Prediction(
            precision="int8-fused",
            latency_ms={"real": 0.55, "8x128": 27.0},
            error={"real": -0.1, "8x128": 0.07},
            median_error=0.085,
        ),
        roofline=Roofline(
            int8_macs_per_s=120e9,
            fp32_macs_per_s=60e9,
            memory_bytes_per_s=20e9,
            size=2048,
            workloads={
                "8x128": RooflineShare(
                    macs=1_500_000_000,
                    macs_per_s=59e9,
                    share=0.49,
                    product_share=0.7,
                    time={"products": 0.5, "attention": 0.2, "Gelu": 0.3},
                    bound_by="arithmetic: products and attention take 70% of the time, at 70% of the roof",
                )
            },
        ),
    )


def _sample_pareto() -> list[ParetoPoint]:
    rows = [
        ("Teacher, PyTorch", "teacher", 0.936, 90.9, 10.2, False, None),
        ("Teacher, onnxruntime fp32", "candidate", 0.936, 91.0, 3.31, False, "eleven times the size"),
        ("Teacher, int8 per-channel", "candidate", 0.931, 23.1, 2.0, False, "three times slower"),
        ("Student fp32", "candidate", 0.931, 40.2, 1.32, False, "five times the size"),
        (
            "int8 dynamic, fused, per-channel",
            "candidate",
            0.929,
            7.61,
            0.612,
            True,
            "the fastest within the budget",
        ),
        ("int8 dynamic, unfused", "candidate", 0.9285, 7.9, 0.78, False, "slower, no more accurate"),
        ("int8 dynamic, reduced range", "candidate", 0.927, 7.61, 0.66, False, "slower and less accurate"),
        ("int8 static, MinMax", "candidate", 0.918, 7.7, 0.71, False, "drops 1.6 points"),
        ("2 layers, int8", "candidate", 0.916, 6.4, 0.44, False, "drops 1.8 points"),
        ("int8 static, entropy", "candidate", 0.402, 7.7, 0.73, False, "accuracy collapsed"),
    ]
    return mark_front(
        [
            ParetoPoint.model_validate(
                dict(
                    zip(
                        ("name", "role", "metric", "file_mb", "latency_ms", "chosen", "reason"),
                        row,
                        strict=True,
                    )
                )
                | {"on_front": False}
            )
            for row in rows
        ]
    )


_STEP_FIELDS = ("name", "stage", "metric", "file_mb", "parameters", "latency_ms", "seconds", "notes")
_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


def make_sample_report() -> Report:
    budget = Budget(max_drop=0.01, max_size_mb=8.0)
    evaluation = Evaluation(split="test", rows=1000)
    device = _sample_device()
    checks = check_budget(budget, [device])
    steps = [
        ("Teacher", "teacher", 0.936, 90.9, 22_715_526, 10.2, None, []),
        ("Distilled to 3 layers", "distill", 0.934, 69.6, 17_391_000, 4.9, 212.0, ["Layers 0, 2, 5."]),
        ("Pruned heads and neurons", "prune", 0.929, 57.8, 14_440_000, 4.1, 31.0, ["FFN 1536 → 512."]),
        ("Recovered", "distill", 0.932, 57.8, 14_440_000, 4.1, 118.0, []),
        ("Vocabulary 30,522 → 9,800", "prune", 0.932, 40.2, 7_094_000, None, 4.0, ["Same tokens."]),
        ("Exported to ONNX, fused", "export", 0.932, 40.3, 7_094_000, 1.32, 21.0, ["Parity 3e-6."]),
        ("int8, embeddings included", "quantize", 0.929, 7.61, 7_094_000, 0.612, 9.0, []),
    ]  # fmt: skip
    hashed = "3b1f6c8e0d9a4b7254c1e8a7f0932d5e6b8c4f1a2d3e5b6c7d8e9f0a1b2c3d4e"
    return Report(
        pocketformer_version="0.0.0-sample",
        created=datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
        name="Sample: TREC questions",
        task="text-classification",
        metric_name="accuracy",
        evaluation=evaluation,
        budget=budget,
        budget_met=budget_met(checks),
        budget_checks=checks,
        verdict=compose_verdict("accuracy", evaluation, checks, [device]),
        steps=[
            Step.model_validate(
                dict(
                    zip(
                        _STEP_FIELDS,
                        row,
                        strict=True,
                    )
                )
            )
            for row in steps
        ],
        pareto=_sample_pareto(),
        candidates=[
            Candidate(
                name=p.name,
                stage="quantize",
                taken=p.chosen,
                reason=p.reason or "",
                metric=p.metric,
                file_mb=p.file_mb,
                latency_ms={"real": p.latency_ms},
            )
            for p in _sample_pareto()
            if p.role == "candidate"
        ]
        + [
            Candidate(
                name="int8 static, neural-compressor", stage="quantize", taken=False, reason="Export failed."
            )
        ],
        references=References(
            tfidf_logistic_regression=ReferenceScore(metric=0.859, metric_ci95=(0.836, 0.879)),
            student_without_teacher=ReferenceScore(metric=0.897, metric_ci95=(0.877, 0.914)),
        ),
        devices=[device],
        per_class=[
            ClassRow(label=c, support=s, precision=p, recall=r, f1=2 * p * r / (p + r), teacher_f1=t)
            for c, s, p, r, t in zip(
                _CLASSES,
                (19, 224, 239, 228, 152, 138),
                (0.94, 0.915, 0.884, 0.961, 0.928, 0.978),
                (0.84, 0.955, 0.866, 0.969, 0.934, 0.957),
                (0.914, 0.938, 0.885, 0.963, 0.944, 0.971),
                strict=True,
            )
        ],
        flipped_examples=[
            FlippedExample(text="What does the word LASER mean ?", label="ABBR", teacher="ABBR",
                           result="DESC",
                           teacher_score=0.71, result_score=0.55),
            FlippedExample(text="What is the sales tax rate in New York ?", label="NUM",
                           teacher="ENTY", result="NUM",
                           teacher_score=0.48, result_score=0.62),
            FlippedExample(text="What stereo manufacturer is `` Slightly ahead of its time '' ?", label="HUM",
                           teacher="HUM", result="ENTY", teacher_score=0.66, result_score=0.81),
            FlippedExample(text="What was the name of the first child of English parents ?", label="HUM",
                           teacher="ENTY", result="DESC", teacher_score=0.52, result_score=0.44),
            FlippedExample(text=HOSTILE, label="DESC", teacher="ENTY", result="DESC"),
        ],
        data_audit=DataAudit(
            rows={"train": 3943, "validation": 438, "test": 1000}, rows_read=15452, empty_texts=0,
            duplicates_removed=10071, conflicting_labels_removed=3, leaked_into_validation=0,
            leaked_into_test=12, validation_leaked_into_test=2,
            max_length=64, truncation_rate=0.0003,
            class_counts={"train": dict(zip(_CLASSES, (68, 852, 905, 890, 610, 618), strict=True))},
            notes=["Of texts that occur more than once the first copy is kept."],
        ),
        warnings=[ReportWarning(code="small_class", message="Class ABBR has 19 test rows: it is uncertain.")],
        lineage=Lineage(
            teacher=SourceModel(name="sample-minilm-trec", architecture="BertForSequenceClassification",
                                license="Apache-2.0", source="a local directory", sha256=hashed),
            data=[DataFile(split="train", name="train.csv", sha256=hashed[::-1]),
                  DataFile(split="test", name="test.csv", sha256=hashed)],
            stages=[LineageStage(name="distill", key=hashed, seconds=212.0, inputs={"teacher": hashed},
                                 outputs={"model": hashed[::-1]}),
                    LineageStage(name="export", key=hashed[::-1], seconds=21.0, reused=True,
                                 inputs={"model": hashed[::-1]}, outputs={"model.onnx": hashed})],
            seed=0,
            recipe_sha256=hashed,
        ),
        environment=Environment(
            python="3.11.2", platform="Linux 6.1", architecture="x86_64", cpu="Sample CPU", cores=2,
            cpu_flags=["avx2", "fma"], memory_mb=25200.0,
            packages={"torch": "2.13.0", "onnxruntime": "1.31.1", "transformers": "4.57.6"},
        ),
        recipe={"model": "sample", "budget": {"max_drop": 0.01}, "seed": 0},
    )  # fmt: skip


@pytest.fixture(scope="session")
def hostile_text() -> str:
    """What a text must never do: run a script, load a picture, break a table, colour a terminal, turn around."""
    return HOSTILE


@pytest.fixture(scope="session")
def sample_report() -> Report:
    return make_sample_report()


def make_fleet_report() -> Report:
    """The sample on five devices, one of each status and one that tells its power."""
    sample = make_sample_report()
    values = sample.devices[0].model_dump(mode="json")
    answers = {**values["result"], "tokenizer_ms": None, "end_to_end_ms": None, "cold_start": None}
    untimed = {**answers, "latency_ms": {}, "latency_samples_ms": {}, "peak_memory_mb": None}
    timed = {
        **answers,
        "latency_ms": {"real": {"p50": 1.64, "p90": 1.71, "p99": 2.02, "samples": 160}},
        "latency_samples_ms": {},
        "samples_per_s": {"real": 610.0},
    }
    versions = {"python": "3.10.12", "onnxruntime": "1.23.0"}
    devices: list[dict[str, object]] = [
        values | {"versions": versions, "fallback_operators": {}},
        {
            "name": "orin", "status": "measured", "hardware": "Sample Orin Nano (aarch64), 6 cores, dotprod",
            "threads": 6, "result": timed, "versions": versions, "fallback_operators": {"LayerNormalization": 2},
            "power": {"mode": "15W", "clocks_locked": False},
            "energy": {
                "per_inference_mj": 3.2, "mean_mw": 5200.0, "idle_mw": 3100.0, "rail": "VDD_IN",
                "source": "tegrastats", "inferences": 8120, "seconds": 5.0, "samples": 50,
            },
            "warnings": ["after measuring, cpu0 to cpu5: limited to 1344 MHz of 1510 MHz"],
        },
        {
            "name": "pi-5", "status": "emulated", "hardware": "an emulator of Cortex-A76 (aarch64), 4 cores",
            "threads": 4, "result": untimed, "versions": versions, "emulation": {"p50_ms": {"real": 98765.0}},
        },
        {
            "name": "gone", "status": "failed", "error": "the connection to ssh://me@gone was lost",
            "hint": "Check the network and that the device is still on, then run again.",
        },
        {
            "name": "tensorrt-rtx-sm89", "status": "built", "hardware": "Ada GPUs (8.9), through TensorRT for RTX",
            "engine": {
                "library": "tensorrt_rtx 1.7", "precision": "fp16", "compute_capabilities": ["8.9"],
                "file_mb": 15.9, "layers": {"all": 36, "fp32": 0, "fp16": 34, "int8": 0},
            },
        },
    ]  # fmt: skip
    return sample.model_copy(update={"devices": [Device.model_validate(device) for device in devices]})


@pytest.fixture(scope="session")
def fleet_report() -> Report:
    return make_fleet_report()


@pytest.fixture(scope="session")
def bare_report(sample_report: Report) -> Report:
    """Only what the schema requires: everything else must read "not measured" or be left out."""
    return Report(
        pocketformer_version="0.0.0-sample",
        created=sample_report.created,
        name="Bare",
        task="text-classification",
        metric_name="accuracy",
        budget=Budget(),
        budget_met=True,
        verdict="No budget was set.",
        lineage=Lineage(teacher=SourceModel(name="teacher")),
        environment=Environment(python="3.11.2", platform="Linux"),
    )


@pytest.fixture(scope="session")
def unlabelled_report(sample_report: Report) -> Report:
    """A run without labels: agreement with the teacher; and a target that was only emulated."""
    data = sample_report.model_dump(mode="json")
    data["evaluation"]["basis"] = "teacher"
    data["devices"][0] |= {"status": "emulated", "speedup": {}, "loadgen": None}
    data["devices"][0] |= {"prediction": None, "roofline": None}
    for part in (*data["devices"][0]["baselines"].values(), data["devices"][0]["result"]):
        part |= {"latency_ms": {}, "latency_samples_ms": {}, "samples_per_s": {}}
        part |= {"tokenizer_ms": None, "end_to_end_ms": None, "cold_start": None}
    data["flipped_examples"] = [{**e, "label": None} for e in data["flipped_examples"]]
    return Report.model_validate(data)
