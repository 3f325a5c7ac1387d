"""One data set's part of the grid: make every setup's model, ask for its answers, then time all in turns."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evidence.table import EvidenceError, write_document

from peers.artefacts import INSIDE, Artefact, made_artefact
from peers.environments import Environments
from peers.setups import OURS, Setup
from peers.subjects import Subject
from peers.turns import CALLS_A_TURN, ROUNDS, WARM_FOR_S, Samples, kept_samples, take_turns
from peers.worker_process import Worker

_LOAD_LIMIT_S = 900.0
_ANSWERS_LIMIT_S = 1800.0


@dataclass
class Entry:
    """What is known of one setup: its model, its logits [texts, labels]; or why there is none."""

    setup: Setup
    artefact: Artefact | None = None
    logits: np.ndarray[Any, np.dtype[np.float64]] | None = None
    error: str | None = None


class Grid:
    """All setups on one subject. ``folder`` keeps what is made of it."""

    def __init__(
        self,
        subject: Subject,
        setups: Sequence[Setup],
        *,
        folder: Path,
        environments: Environments,
        threads: int,
        say: Callable[[str], None],
    ) -> None:
        self.subject = subject
        self.folder = folder
        self.entries = {setup.name: Entry(setup) for setup in setups}
        self._environments = environments
        self._threads = threads
        self._say = say
        self._train = folder / "train.json"
        self._train_key = subject.write_train(self._train)
        self._inputs_keys = {
            ours: subject.write_inputs(self._inputs(ours), ours=ours) for ours in (False, True)
        }
        self._teacher_key = subject.key_of(subject.teacher_files)

    def prepare(self) -> None:
        """Make what is missing and ask each model for its logits, one after another; errors stay with their setup."""
        for entry in self.entries.values():
            try:
                entry.artefact = self._artefact(entry.setup)
                self._answers(entry)
            except EvidenceError as error:
                entry.error = str(error)
                self._say(f"{self.subject.data}, {entry.setup.name}: {entry.error}")

    def time(self, *, rounds: int = ROUNDS, time_limit_s: float | None = None) -> tuple[Samples, bool]:
        """Time what was prepared; the samples, and whether all rounds are done."""
        able = [entry for entry in self.entries.values() if entry.error is None]
        path = self.folder / "samples.json"
        samples = kept_samples(path, self._timing_key(able))
        if samples.rounds >= rounds or not able:
            return samples, True
        self._say(f"{self.subject.data}: loading {len(able)} workers")
        workers = {entry.setup.name: self._worker(entry, timed=True) for entry in able}
        try:
            # One at a time: what inductor and OpenVINO find out while loading must not be disturbed.
            for name, worker in workers.items():
                try:
                    loaded = worker.ask({"do": "load"}, limit_s=_LOAD_LIMIT_S)
                    worker.settle()
                    samples.settings[name] = {**loaded["settings"], "load_s": round(loaded["load_s"], 3)}
                except EvidenceError as error:
                    samples.errors[name] = f"while loading: {error}"
            done = take_turns(
                workers,
                samples,
                path,
                rounds=rounds,
                time_limit_s=time_limit_s,
                say=lambda text: self._say(f"{self.subject.data}: {text}"),
            )
        finally:
            for worker in workers.values():
                worker.stop()
        return samples, done

    def _inputs(self, ours: bool) -> Path:
        return self.folder / ("inputs-pocketformer.json" if ours else "inputs.json")

    def _artefact(self, setup: Setup) -> Artefact:
        python = self._environments.python(setup.environment)
        if setup.maker is None:
            ours = setup.name == OURS
            files = self.subject.bundle_files if ours else self.subject.teacher_files
            return Artefact(
                model=self.subject.bundle if ours else self.subject.teacher,
                ships=tuple(files),
                key=self.subject.key_of(files),
                how={"model": "the bundle" if ours else "the teacher as it was fine-tuned"},
                versions={},
            )
        job = {
            "threads": self._threads,
            "max_length": self.subject.recipe.max_length,
            "settings": dict(setup.settings),
        }
        depends_on = {
            "teacher": self._teacher_key,
            "train": self._train_key,
            "environment": self._environments.key(setup.environment),
            "code": self._environments.code_key(setup.code),
        }
        return made_artefact(
            self.folder / "models" / setup.name,
            setup.maker,
            job,
            inputs={"teacher": self.subject.teacher, "train": self._train},
            depends_on=depends_on,
            python=python,
            variables=self._environments.variables(self._threads),
            say=self._say,
        )

    def _answers(self, entry: Entry) -> None:
        """Fill in the logits of all test texts, kept or asked for."""
        path = self.folder / "answers" / f"{entry.setup.name}.json"
        key = self._subject_key(entry)
        content = _kept(path, key)
        if content is None:
            self._say(f"{self.subject.data}, {entry.setup.name}: {len(self.subject.test.texts)} test texts")
            worker = self._worker(entry, timed=False)
            try:
                worker.ask({"do": "load"}, limit_s=_LOAD_LIMIT_S)
                answers = worker.ask({"do": "answers"}, limit_s=_ANSWERS_LIMIT_S)
            finally:
                worker.stop()
            content = {"key": key, **answers}
            write_document(path, content)
        entry.logits = np.asarray(content["logits"], dtype=np.float64)
        wanted = (len(self.subject.test.texts), len(self.subject.label_names))
        if entry.logits.shape != wanted:
            raise EvidenceError(f"logits of shape {entry.logits.shape}, expected {wanted}")
        if not np.isfinite(entry.logits).all():
            raise EvidenceError("some logits are not finite")

    def _worker(self, entry: Entry, *, timed: bool) -> Worker:
        assert entry.artefact is not None
        # Answers need no speed, and one thread waits for no other where the machine is busy.
        threads = self._threads if timed else 1
        setup = entry.setup
        job = self.folder / "workers" / f"{setup.name}.json"
        write_document(
            job,
            {
                "backend": setup.backend,
                "model": str(entry.artefact.model),
                "inputs": str(self._inputs(setup.name == OURS)),
                "threads": threads,
                "timed": timed,
            },
        )
        python = self._environments.python(setup.environment)
        return Worker(
            setup.name,
            [str(python), str(INSIDE / "worker.py"), str(job)],
            variables=self._environments.variables(threads),
            folder=job.parent,
            log=job.with_suffix(".log"),
        )

    def _subject_key(self, entry: Entry) -> str:
        """Names the model, what it is asked, and the code and the packages that run it."""
        assert entry.artefact is not None
        code = [
            hashlib.sha256((INSIDE / name).read_bytes()).hexdigest() for name in ("worker.py", "backends.py")
        ]
        parts = [
            entry.setup.name,
            entry.artefact.key,
            self._inputs_keys[entry.setup.name == OURS],
            self._environments.key(entry.setup.environment),
            self._environments.code_key(entry.setup.code),
            str(self._threads),
            sys.version,
            *code,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _timing_key(self, entries: Sequence[Entry]) -> str:
        """Names everything that is timed together: with another setup among them all are timed anew."""
        content = [[self._subject_key(entry) for entry in entries], dict(CALLS_A_TURN), WARM_FOR_S]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _kept(path: Path, key: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if content.get("key") == key else None
