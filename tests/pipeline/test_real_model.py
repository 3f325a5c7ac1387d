"""The demo's path on the real MiniLM and the real questions, with fewer steps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pocketformer import load
from pocketformer.pipeline.compress import USUAL_STEPS
from pocketformer.pipeline.demo import demo_inputs
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import run
from pocketformer.runtime.verify import verify

pytestmark = pytest.mark.slow

_BRIEF = {
    "finetune": {"training": {"epochs": 1}},
    "distill": {"augmentation": {"copies": 1}, "training": {"epochs": 1}},
    "prune": {"heads": 0.5, "ffn": 0.25, "samples": 256},
    # One alone: among several, what so little training and a few rounds of timing favour is chance.
    "quantize": {"candidates": ["dynamic-fused-reduced-int4"], "rounds": 5},
    "bench": {"rounds": 10, "loadgen_s": 1, "cold_starts": 1},
}


def test_the_demo_path_with_fewer_steps(tmp_path: Path) -> None:
    inputs = demo_inputs("trec")
    usual = [step if isinstance(step, dict) else {step: {}} for step in ("finetune", *USUAL_STEPS)]
    steps = [
        {name: {**settings, **_BRIEF.get(name, {})} for name, settings in step.items()} for step in usual
    ]
    recipe = Recipe.from_mapping(
        {"model": inputs.model, "data": {"train": inputs.train, "test": inputs.test}, "steps": steps}
    )
    result = run(recipe, tmp_path / "out")

    (device,) = json.loads((result.directory / "report.json").read_text())["devices"]
    teacher, shipped = device["baselines"]["torch_eager"], device["result"]
    # One epoch each: far from the demo's figures, and far from chance (about 23% for the largest class).
    assert teacher["metric"] > 0.8
    assert shipped["metric"] > 0.7
    assert shipped["file_mb"] < 8 < teacher["file_mb"]
    assert set(shipped["latency_ms"]) == {"real", "1x32", "1x128", "8x128"}
    assert device["loadgen"]["single_stream"]["valid"] is not None

    bundle = result.bundles["cpu"]
    assert verify(bundle).ok
    with inputs.test.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    answers = [prediction.label for prediction in load(bundle).predict([row["text"] for row in rows])]
    accuracy = np.mean([answer == row["label"] for answer, row in zip(answers, rows, strict=True)])
    assert accuracy == pytest.approx(shipped["metric"], abs=0.005)
