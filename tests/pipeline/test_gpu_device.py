"""The row of a GPU: what decides and what is written down. No GPU is here.

The figures come from the CPU's provider, which the same code measures, or from a stand-in named as such.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pocketformer.pipeline import bench
from pocketformer.pipeline.devices import Hearing, Subject
from pocketformer.pipeline.fleet import FleetDevice, Place, resolve_places
from pocketformer.pipeline.gpu_device import gpu_row, measure_on_gpu, warnings_of
from pocketformer.report.html import render_html
from pocketformer.report.markdown import render_markdown
from pocketformer.report.schema import Budget, Device, Environment, Lineage, Report, SourceModel
from pocketformer.report.terminal import print_report
from pocketformer.runtime import providers
from pocketformer.runtime.errors import DeviceError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER
from pocketformer.runtime.placement import Placement
from pocketformer.runtime.providers import CUDA_PROVIDER
from pocketformer.runtime.verify import Check
from pocketformer.targets import gpu as gpu_module
from pocketformer.targets import support
from pocketformer.targets.gpu import GpuMeasurement, measure_gpu
from pocketformer.targets.nvml import GpuSample, summarize

L4 = {
    "name": "NVIDIA L4",
    "compute_capability": "8.9",
    "memory_bytes": 24 * 10**9,
    "driver": "550.54.15",
    "cuda": "12.4",
    "power_limit_mw": 72_000,
    "sm_mhz_max": 2040,
}


@pytest.fixture(scope="module")
def subject(small_bundle: Path, tiny_texts: list[str], tiny_labels: list[int]) -> Subject:
    from pocketformer.runtime.model import load

    labels = np.asarray(tiny_labels, dtype=np.int64)
    evaluation = bench.Evaluation(
        split="test", basis="labels", texts=tuple(tiny_texts), labels=labels, metric="accuracy", audit={}
    )
    teacher = bench.Contender(
        name="torch_eager",
        logits=load(small_bundle).logits(tiny_texts),
        call=lambda feeds: None,
        token_ids=[[1]],
        file_mb=2.0,
        parameters=1000,
    )
    return Subject(
        bundle=small_bundle,
        evaluation=evaluation,
        teacher=teacher,
        classes=3,
        parameters=900,
        file_mb=1.0,
        rounds=5,
    )


@pytest.fixture(scope="module")
def on_cpu(subject: Subject) -> GpuMeasurement:
    """What the same code measures by the CPU's provider."""
    texts = subject.evaluation.texts
    return measure_gpu(
        subject.bundle, texts[:3], providers=[CPU_PROVIDER], rounds=5, time_limit_s=1.0, answer=texts
    )


@pytest.fixture
def stand_in(on_cpu: GpuMeasurement) -> GpuMeasurement:
    """Figures that a GPU might give: nobody measured them."""
    samples = [
        GpuSample(0.0, power_mw=40_000, sm_mhz=1200, temperature_c=50, memory_used_bytes=10**9, reasons=4),
        GpuSample(
            1.0, power_mw=60_000, sm_mhz=1800, temperature_c=60, memory_used_bytes=2 * 10**9, reasons=0
        ),
    ]
    return replace(
        on_cpu,
        providers=(CUDA_PROVIDER, CPU_PROVIDER),
        device=on_cpu.host,
        cuda_graph=True,
        placement=Placement({CUDA_PROVIDER: {"MatMul": 61}, CPU_PROVIDER: {"Gather": 2}}, copies=3),
        fallback_operators={"Gather": 2},
        gpu=L4,
        watch=summarize(samples),
        energy={
            "per_inference_mj": 2.5, "mean_mw": 50_000.0, "idle_mw": 20_000.0, "rail": "GPU", "source": "nvml",
            "inferences": 2000, "seconds": 5.0, "samples": 50,
        },
    )  # fmt: skip


@pytest.fixture
def place() -> Place:
    (found,) = resolve_places(["gpu"], [])
    return found


def test_the_row_of_a_measurement(place: Place, subject: Subject, on_cpu: GpuMeasurement) -> None:
    row = gpu_row(place, subject, on_cpu)
    device = Device.model_validate(row)
    assert device.result is not None
    assert device.result.metric == pytest.approx(
        float((subject.teacher.predictions == subject.evaluation.labels).mean())
    )
    assert (device.result.drop, device.result.flips, device.result.file_mb) == (0.0, 0, 1.0)
    assert device.result.latency_ms["real"].samples == len(on_cpu.host["real"].seconds)
    assert device.result.samples_per_s["real"] > 0
    assert device.gpu is not None
    assert device.gpu.nodes == on_cpu.placement.nodes
    assert (device.gpu.cuda_graph, device.gpu.watch, device.gpu.device_latency_ms) == (False, None, {})
    assert device.fallback_operators == {}
    assert {"python", "onnxruntime"} <= set(device.versions)
    assert any("golden samples" in note for note in device.notes)


def test_every_rendering_tells_what_ran_where(
    place: Place, subject: Subject, stand_in: GpuMeasurement
) -> None:
    row = gpu_row(place, subject, stand_in) | {"warnings": warnings_of(stand_in)}
    assert any("predict --provider cuda --provider cpu" in note for note in row["notes"])
    report = Report(
        pocketformer_version="0",
        created=datetime.now(UTC),
        name="stand-in",
        task="text-classification",
        metric_name="accuracy",
        budget=Budget(),
        budget_met=True,
        verdict="No budget was set.",
        devices=[Device.model_validate(row)],
        lineage=Lineage(teacher=SourceModel(name="teacher")),
        environment=Environment(python="3.11", platform="Linux"),
    )
    out = io.StringIO()
    print_report(report, Console(file=out, width=160, color_system=None))
    for text in (out.getvalue(), render_markdown(report), render_html(report)):
        for part in (
            "nodes: 61 on CUDAExecutionProvider, 2 on CPUExecutionProvider; 3 copies between them",
            "Gather 2",
            "replayed for fixed shapes",
            "1,500 MHz (1,200 to 1,800), highest 2,040 MHz",
            "50 W (40 to 60), held to 72 W",
            "550.54.15",
            "2.50 mJ",
        ):
            assert part in text, part
    assert "software-power-cap in 50" in out.getvalue()
    assert "NVIDIA L4, compute capability 8.9, 24 GB" in render_html(report)


def test_warnings(stand_in: GpuMeasurement) -> None:
    assert warnings_of(stand_in) == ["the GPU was throttled: software-power-cap in 50% of samples"]
    mostly_cpu = replace(
        stand_in,
        watch=None,
        placement=Placement({CUDA_PROVIDER: {"MatMul": 2}, CPU_PROVIDER: {"MatMulInteger": 6}}),
        fallback_operators={"MatMulInteger": 6},
        golden=(Check("logits", False, "'a' differs by 3"), Check("labels", True, "4 of 4")),
    )
    assert warnings_of(mostly_cpu) == [
        "golden samples by the GPU: logits: 'a' differs by 3",
        "6 of 8 nodes did not run on the GPU: these figures are mostly the processor's",
    ]


def test_a_failed_row_has_no_gpu_s_figures(place: Place, subject: Subject, stand_in: GpuMeasurement) -> None:
    row = gpu_row(place, subject, stand_in) | {"result": None, "energy": None}
    Device.model_validate(row)
    with pytest.raises(ValueError, match="only a measured device has latencies"):
        Device.model_validate(row | {"status": "failed", "error": "lost"})


def measured_by(monkeypatch: pytest.MonkeyPatch, found: GpuMeasurement, heard: list[dict[str, Any]]) -> None:
    """Put a stand-in in the place of the measuring, on a machine that is said to lack nothing."""

    def stand_in_for_measuring(bundle: Path, texts: Any, **options: Any) -> GpuMeasurement:
        options["on_progress"]("timing real")
        heard.append(options)
        return found

    monkeypatch.setattr(support, "missing_for_gpu", lambda profile: ())
    monkeypatch.setattr(gpu_module, "measure_gpu", stand_in_for_measuring)


def test_what_a_place_asks_for(
    subject: Subject, stand_in: GpuMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    measured_by(monkeypatch, stand_in, asked)
    (second,) = resolve_places([], [FleetDevice(name="second", target="gpu", gpu=1, cuda_graph=True)])
    notes: list[str] = []
    hearing = Hearing("second", notes.append)
    answered = measure_on_gpu(second, subject, hearing, lambda: False)
    assert answered.row["status"] == "measured"
    assert answered.logits is stand_in.logits
    (options,) = asked
    assert (options["index"], options["cuda_graph"]) == (1, True)
    assert options["providers"] == (CUDA_PROVIDER, CPU_PROVIDER)
    assert options["answer"] == subject.evaluation.texts
    assert notes[0] == "second: timing real"
    assert hearing.warnings == warnings_of(stand_in)
    with pytest.raises(DeviceError, match="told to stop"):
        measure_on_gpu(second, subject, hearing, lambda: True)


def test_a_damaged_bundle_is_not_measured(
    place: Place, subject: Subject, tmp_path: Path, stand_in: GpuMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_by(monkeypatch, stand_in, [])
    bundle = Path(shutil.copytree(subject.bundle, tmp_path / "bundle"))
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    with pytest.raises(VerificationError, match=r"the bundle is damaged: files: model\.onnx has another SHA"):
        measure_on_gpu(place, replace(subject, bundle=bundle), Hearing("gpu", print), lambda: False)


def test_what_is_missing_is_named(place: Place, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        measure_on_gpu(place, subject, Hearing("gpu", print), lambda: False)
    assert caught.value.exit_code == 4
