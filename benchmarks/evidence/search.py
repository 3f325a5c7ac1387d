"""What the rows about the search share: a teacher and what was made of it, in child processes, kept as ``kept`` says.

They run in this environment, with this checkout's package. Of what is kept, how long it took is kept with it; all else
is measured anew.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from evidence.devices import INSIDE, installed_versions
from evidence.runs import WHOLE, Finished
from evidence.search_peers import PeerRuns
from evidence.table import EvidenceError, Measured
from evidence.workspace import DEMO_CODE, end_of, run_logged, usable_cores
from pocketformer.pipeline.demo import DemoInputs, demo_inputs

CORES = 2
# What decides how these rows end.
SEARCH_CODE = (*DEMO_CODE, "benchmarks")
_LIMIT_S = 7200.0


class SearchRuns(PeerRuns):
    """What is made once for the rows of one call."""

    place = "evidence-search"

    def packages(self) -> dict[str, str]:
        return super().packages() | installed_versions()

    def environment(self) -> dict[str, str]:
        root = self.repository.root
        # This checkout's package and no other that is installed.
        return super().environment() | {"PYTHONPATH": os.pathsep.join((str(root), str(root / "benchmarks")))}

    @cached_property
    def inputs(self) -> DemoInputs:
        """The demo's model and questions, fetched where they are not in the cache."""
        return demo_inputs("trec", say=self.say)

    def demo(self) -> Finished:
        """What ``pocketformer compress`` makes of the demo's model with its defaults, fine-tuning first."""
        details = self._run("demo", "compress", str(self.inputs.model))
        return Finished(output=self.folder / "demo" / "run", details=details)

    def demo_run(self) -> Path:
        """The run whose bundle is compared with the peers'."""
        return self.demo().output

    def teacher(self) -> Path:
        """The demo's teacher: MiniLM fine-tuned on the questions."""
        self._run("teacher", "finetune", str(self.inputs.model))
        return self.folder / "teacher" / "run" / "stages" / "01-finetune" / "model"

    def search(self) -> Finished:
        """``pocketformer compress --search`` of that teacher for the usual point; ``details`` as of ``fast``."""
        details = self._run("search", "compress", str(self.teacher()), "--search")
        return Finished(output=self.folder / "search" / "run", details=details)

    def answer(self, max_drop: float, max_latency_ms: float) -> Finished:
        """``pocketformer choose`` from that search, for a drop and a latency on 8 x 128."""
        search = self.search().output
        name = f"answer-{max_drop:g}-{max_latency_ms:.1f}"

        def make(folder: Path) -> dict[str, Any]:
            limits = ["--max-drop", f"{max_drop:g}", "--max-latency", f"{max_latency_ms:.3f}@8x128"]
            argv = [sys.executable, "-m", "pocketformer", "choose", str(search), *limits]
            return self._logged([*argv, "-o", str(folder / "run")], name, folder)

        return Finished(output=self.folder / name / "run", details=self.once(name, make))

    def fast(self) -> Finished:
        """``pocketformer compress --fast`` of that teacher; ``details``: seconds, exit_code, cores."""
        details = self._run("fast", "compress", str(self.teacher()), "--fast")
        return Finished(output=self.folder / "fast" / "run", details=details)

    @cached_property
    def fast_graph(self) -> dict[str, Any]:
        """The fast run's model before quantization against its teacher in onnxruntime fp32, measured in this call.

        ``teacher_ms``, ``result_ms``: medians on 8 x 128, timed in turns; ``teacher_accuracy``, ``result_accuracy``:
        on the ``rows`` test questions.
        """
        argv = [sys.executable, str(INSIDE / "fast_graph.py"), str(self.teacher()), str(self.fast().output)]
        found: dict[str, Any] = json.loads(self.output([*argv, str(self.inputs.test)]).splitlines()[-1])
        return found

    def _run(self, name: str, verb: str, *arguments: str) -> dict[str, Any]:
        """A pocketformer run into ``self.folder / name / "run"``, made once."""

        def make(folder: Path) -> dict[str, Any]:
            data = ["--train", str(self.inputs.train), "--test", str(self.inputs.test)]
            argv = [sys.executable, "-m", "pocketformer", verb, *arguments, *data, "-o", str(folder / "run")]
            return self._logged(argv, name, folder)

        return self.once(name, make)

    def _logged(self, argv: list[str], name: str, folder: Path) -> dict[str, Any]:
        """Run a verb that writes ``folder / "run"``; ``seconds``, ``exit_code`` and ``cores``."""
        log, verb = folder / "log.txt", argv[3]
        self.say(f"{name}: pocketformer {verb} ({log})")
        code, seconds = run_logged(
            argv, log=log, environment=self.environment(), folder=folder, limit_s=_LIMIT_S
        )
        if code not in WHOLE or not (folder / "run" / "run.json").is_file():
            raise EvidenceError(f"pocketformer {verb} ended with exit code {code}: {end_of(log)}")
        return {"seconds": seconds, "exit_code": code, "cores": usable_cores()}


def stage_of(run: Finished, name: str) -> dict[str, Any]:
    """The record of one stage of a run; ``EvidenceError`` when it had other cores than the claims are for."""
    if run.details["cores"] != CORES:
        raise EvidenceError(f"the run had {run.details['cores']} cores, the claim is for {CORES}")
    stages = json.loads((run.output / "run.json").read_text(encoding="utf-8"))["stages"]
    record: dict[str, Any] = next(stage for stage in stages if stage["name"] == name)
    return record


def drop_on_test(run: Finished) -> Measured:
    """How much accuracy the bundle of a run loses on test, by its report."""
    result = run.device.result
    if result is None or result.drop is None:
        raise EvidenceError("the report has no drop")
    return Measured(value=result.drop, how=f"report.json of the run, {result.file_mb:.1f} MB")
