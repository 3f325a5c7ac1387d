"""What all setups are about: one teacher with its data, as a finished Pocketformer run holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evidence.table import EvidenceError
from evidence.workspace import Repository, end_of, run_logged

from pocketformer.compress.data import read_test
from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.inputs import data_config, load_splits
from pocketformer.pipeline.recipe import Recipe
from pocketformer.runtime.errors import BudgetNotMetError
from pocketformer.runtime.manifest import read_manifest, sha256_file
from pocketformer.runtime.text import TextEncoder
from pocketformer.targets.workloads import REAL_INPUTS, WORKLOADS, build_feeds

MODEL = "MiniLM-L6"
DATA = ("trec", "sms")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_NOT_THE_MODEL = ("README.md", "golden.jsonl")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model on a data set. ``run``: the directory of the finished run of ``pocketformer demo``."""

    data: str
    run: Path

    @cached_property
    def recipe(self) -> Recipe:
        """The run's resolved recipe."""
        return Recipe.from_file(self.run / "recipe.yaml")

    @cached_property
    def teacher(self) -> Path:
        """The fine-tuned model that everything here is made of."""
        record = json.loads((self.run / "run.json").read_text(encoding="utf-8"))
        artefacts = Artefacts.from_json(record["artefacts"], self.run.resolve())
        if artefacts.teacher is None:
            raise EvidenceError(f"{self.run} has no teacher")
        return artefacts.teacher

    @property
    def bundle(self) -> Path:
        """The bundle that the run made for its first target."""
        return self.run / "bundles" / self.recipe.targets[0]

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return tuple(read_manifest(self.bundle).postprocessing.labels)

    @property
    def metric(self) -> str:
        """What the run was scored by: accuracy, or F1 of the second label."""
        return self.recipe.metric or "accuracy"

    @cached_property
    def test(self) -> Any:
        """The test texts and labels, as the run itself scored its bundle on."""
        return read_test(data_config(self.recipe), self.label_names)

    def write_train(self, path: Path) -> str:
        """Write the run's training rows (validation left out) for the makers; their hash."""
        artefacts = Artefacts(model=self.recipe.model, teacher=self.teacher)
        splits, _ = load_splits(self.recipe, artefacts)
        if splits is None:
            raise EvidenceError(f"{self.run} names no training data")
        return _write(
            path, {"texts": list(splits.train.texts), "labels": [int(i) for i in splits.train.labels]}
        )

    def write_inputs(self, path: Path, *, ours: bool) -> str:
        """Write the token ids that workers are fed, by the tokenizer of the teacher or of our bundle; their hash."""
        source = self.bundle if ours else self.teacher
        encoder = TextEncoder(source / "tokenizer.json", self.recipe.max_length, 0, _INPUTS)
        rows = [encoding.ids for encoding in encoder.tokenize(list(self.test.texts))]
        workloads = {
            workload.name: [
                feeds["input_ids"].tolist() for feeds in build_feeds(workload, rows[:REAL_INPUTS])
            ]
            for workload in WORKLOADS
        }
        return _write(path, {"texts": rows, "workloads": workloads})

    @property
    def teacher_files(self) -> list[Path]:
        """The teacher's weights: what an app ships that runs PyTorch itself."""
        return sorted(self.teacher.glob("*.safetensors"))

    @property
    def bundle_files(self) -> list[Path]:
        """Every file of the bundle that is the model: not the tokenizer, the samples and the README."""
        manifest = read_manifest(self.bundle)
        left_out = {manifest.preprocessing.tokenizer_file, *_NOT_THE_MODEL}
        return [self.bundle / name for name in manifest.files if name not in left_out]

    def key_of(self, files: list[Path]) -> str:
        """A hash of those files' contents."""
        return hashlib.sha256("\0".join(sha256_file(path) for path in files).encode()).hexdigest()[:16]


def subject_of(
    data: str,
    given: Path | None,
    *,
    repository: Repository,
    folder: Path,
    variables: dict[str, str],
    python: Path,
    say: Callable[[str], None],
) -> Subject:
    """The run that was given, or the demo's with its defaults, made below ``folder`` once for this code."""
    run = given or folder / repository.code_key() / data
    if given is None and not (run / "report.json").is_file():
        log = folder / f"{data}.log"
        say(f"{data}: pocketformer demo --data {data} -o {run} (about a quarter of an hour; {log})")
        argv = [str(python), "-m", "pocketformer", "demo", "--data", data, "-o", str(run)]
        code, _ = run_logged(argv, log=log, environment=variables, folder=repository.root)
        if code not in (0, BudgetNotMetError.exit_code):
            raise EvidenceError(f"pocketformer demo --data {data} ended with exit code {code}: {end_of(log)}")
    subject = Subject(data=data, run=run.resolve())
    missing = [path for path in (run / "recipe.yaml", run / "run.json", subject.bundle) if not path.exists()]
    if missing:
        raise EvidenceError(f"{run} is no finished run: {missing[0]} is missing")
    return subject


def _write(path: Path, content: dict[str, Any]) -> str:
    text = json.dumps(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
