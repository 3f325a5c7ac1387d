"""The commented recipe that ``init`` writes."""

from __future__ import annotations

from pathlib import Path

_TEMPLATE = """\
# A Pocketformer recipe. Run it:  pocketformer run recipe.yaml -o out/
# Relative paths are taken from this file's folder.

model: {model}            # a Hugging Face directory (safetensors), or an earlier run directory
task: text-classification

data:
  train: {train}          # CSV, TSV, JSONL or Parquet
  test: {test}            # read once, at the end; leave out: agreement with the teacher is measured
  # validation: validation.csv   # default: a stratified tenth of train
  # unlabeled: more.csv    # further texts like these, without labels: the student learns what the teacher says of them
  text_column: text
  label_column: label     # null: no labels, the teacher's answers stand in for them
  validation_fraction: 0.1

targets: [cpu]            # see `pocketformer targets list`

budget:
  max_drop: 0.01          # what the metric may fall by, as a fraction of 1; null: any
  # max_latency_ms: 2.0   # p50 of one call
  # latency_workload: real  # or 1x32, 1x128, 8x128: batch x tokens
  # max_size_mb: 8.0      # model files of the bundle, 10^6 bytes
  # max_memory_mb: 100.0  # peak memory of a fresh process, 10^6 bytes

metric: accuracy          # accuracy, f1 (two labels), f1_macro, matthews
max_length: 128           # tokens kept of a text: in training, calibration and the bundle
seed: 0
# threads: 2              # default: all cores that this process may use

# What is done, in order. Leave a step out, repeat it, or give it settings.
steps:
  # - finetune            # when the model has no trained head for your labels
{steps}
"""


def recipe_template(*, model: Path | None, train: Path | None, test: Path | None) -> str:
    """The text of a recipe, valid as it stands, with the usual steps of ``compress``."""
    import yaml

    from pocketformer.pipeline.compress import USUAL_STEPS

    lines = yaml.safe_dump([_shown(step) for step in USUAL_STEPS], sort_keys=False).splitlines()
    return _TEMPLATE.format(
        model=model or "./teacher",
        train=train or "train.csv",
        test=test or "test.csv",
        steps="\n".join(f"  {line}" for line in lines),
    )


def _shown(step: object) -> object:
    return step if isinstance(step, str) else dict(step)  # type: ignore[call-overload]
