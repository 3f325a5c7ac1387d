"""The long runs behind the demo's table, shared by its rows and kept as ``kept`` says.

Of figures only how long ``make demo`` took is kept; everything else is measured anew from the runs' own files.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evidence.base_environment import INSIDE as INSIDE
from evidence.base_environment import base_python, inside, install_base
from evidence.kept import Kept, Make
from evidence.table import EvidenceError
from evidence.workspace import base_interpreter, end_of, kill_group, run_logged, started, usable_cores
from pocketformer.report.schema import Device, Report
from pocketformer.report.storage import load_report
from pocketformer.runtime.errors import BudgetNotMetError

# A run that ends with "budget not met" is whole; that is a row's business.
WHOLE = (0, BudgetNotMetError.exit_code)
# Of what the stage took in the uninterrupted run.
_KILL_AFTER = 0.4


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A pocketformer run that has ended: its run directory, and what is known of how it was made."""

    output: Path
    details: dict[str, Any]

    @property
    def report(self) -> Report:
        """Its report.json, checked against the schema."""
        return load_report(self.output)

    @property
    def device(self) -> Device:
        """The device that the table speaks of: the first, which must have been measured."""
        devices = self.report.devices
        if not devices or devices[0].status != "measured" or devices[0].result is None:
            raise EvidenceError(f"{self.output / 'report.json'} has no measured device")
        return devices[0]

    @property
    def bundle(self) -> Path:
        """The bundle that the run made for that device."""
        return self.output / "bundles" / self.device.name

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.output / "recipe.yaml"

    def test_file(self) -> tuple[Path, str]:
        """The test file of the run and the name of its text column."""
        data = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))["data"]
        return Path(data["test"]), str(data.get("text_column", "text"))


class Runs(Kept):
    """All runs of one call of the demo's evidence."""

    place = "evidence"

    def demo(self) -> Finished:
        """``make demo`` in a fresh clone with an empty cache; ``details``: seconds, exit_code, source, cores."""
        return self._finished("demo", self._make_demo, "checkout/out/demo")

    def base_python(self) -> Path:
        """The python of a fresh environment with the base install of the demo's clone and nothing else."""
        self.once("base", self._make_base)
        return base_python(self.folder / "base")

    def repeat(self) -> Finished:
        """The demo's resolved recipe, run again into another directory."""
        return self._finished("repeat", self._make_repeat, "run")

    def resume(self) -> Finished:
        """A run of the same recipe, killed in a stage and resumed; ``details``: stage, seconds, kept."""
        return self._finished("resume", self._make_resume, "run")

    def sms(self) -> Finished:
        """``pocketformer demo --data sms``: the same command, other data, nothing else changed."""
        return self._finished("sms", self._make_sms, "run")

    def answers(self, run: Finished, questions: Finished) -> list[str]:
        """Labels that ``run``'s bundle gives to all test texts of ``questions``, asked one at a time."""
        file, column = questions.test_file()
        printed = self.inside(self.demo_python(), "answers.py", str(run.bundle), str(file), column)
        labels: list[str] = json.loads(printed)
        if not labels:
            raise EvidenceError(f"{file} holds no test texts")
        return labels

    def packages(self) -> dict[str, str]:
        """Versions in the environment that made the demo; empty while no row has needed the demo."""
        return dict(self.demo().report.environment.packages) if self.has_made("demo") else {}

    def demo_python(self) -> Path:
        """The python of the environment that ``make demo`` installed."""
        return self.folder / "demo" / "checkout" / ".venv" / "bin" / "python"

    def pocketformer(self) -> Path:
        """The command that ``make demo`` installed."""
        return self.demo_python().with_name("pocketformer")

    def inside(self, python: Path, program: str, *arguments: str) -> str:
        """What a program of ``evidence/inside`` prints when that python runs it, isolated from this one."""
        return inside(self, python, program, *arguments)

    def _finished(self, name: str, make: Make, output: str) -> Finished:
        details = self.once(name, make)
        return Finished(output=self.folder / name / output, details=details)

    def _make_demo(self, folder: Path) -> dict[str, Any]:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        checkout, log = folder / "checkout", folder / "log.txt"
        source = self.repository.clone(checkout)
        self.say(f"demo: make demo in {source} (about 15 minutes; {log})")
        code, seconds = run_logged(
            ["make", "demo", f"PYTHON={base_interpreter()}"],
            log=log,
            environment=self.environment(),
            folder=checkout,
        )
        if not (checkout / "out" / "demo" / "report.json").is_file():
            raise EvidenceError(
                f"make demo ended with exit code {code} after {seconds / 60:.1f} minutes and left no report: "
                f"{end_of(log)} ({log})"
            )
        # Gigabytes that nothing needs any more; what pip fetched for the demo itself lies elsewhere.
        shutil.rmtree(self.folder / "cache" / "pip", ignore_errors=True)
        return {"seconds": seconds, "exit_code": code, "source": source, "cores": usable_cores()}

    def _make_base(self, folder: Path) -> dict[str, Any]:
        self.demo()
        self.say("base: a fresh environment with the base install")
        return install_base(self.folder / "demo" / "checkout", folder, self.environment())

    def _make_repeat(self, folder: Path) -> dict[str, Any]:
        self.say(f"repeat: the resolved recipe again ({folder / 'log.txt'})")
        recipe = str(self.demo().recipe)
        return self._whole_run(["run", recipe, "-o", str(folder / "run")], folder)

    def _make_sms(self, folder: Path) -> dict[str, Any]:
        self.demo()
        self.say(f"sms: pocketformer demo --data sms ({folder / 'log.txt'})")
        return self._whole_run(["demo", "--data", "sms", "-o", str(folder / "run")], folder)

    def _whole_run(self, arguments: list[str], folder: Path) -> dict[str, Any]:
        log = folder / "log.txt"
        argv = [str(self.pocketformer()), *arguments]
        code, seconds = run_logged(argv, log=log, environment=self.environment(), folder=folder)
        if code not in WHOLE or not (folder / "run" / "report.json").is_file():
            raise EvidenceError(f"pocketformer {arguments[0]} ended with exit code {code}: {end_of(log)}")
        return {"seconds": seconds, "exit_code": code}

    def _make_resume(self, folder: Path) -> dict[str, Any]:
        repeat = self.repeat()
        stage, seconds = stage_to_kill(repeat.output)
        kept = copy_until(repeat.output, folder / "run", stage)
        before = {path.name: (path / "stage.json").read_bytes() for path in kept}
        arguments = ["run", str(self.demo().recipe), "-o", str(folder / "run")]
        self.say(f"resume: kill -9 in stage {stage.name}, then go on ({folder / 'log.txt'})")
        after = self._kill_in(stage.name, seconds * _KILL_AFTER, arguments, folder)
        done = self._whole_run(arguments, folder)
        remade = [
            n for n, old in before.items() if (folder / "run/stages" / n / "stage.json").read_bytes() != old
        ]
        if remade:
            raise EvidenceError(f"the resumed run made finished stages again: {', '.join(remade)}")
        return {**done, "stage": stage.name, "killed_after_s": after, "kept": list(before)}

    def _kill_in(self, stage: str, delay_s: float, arguments: list[str], folder: Path) -> float:
        """Start a run and SIGKILL it ``delay_s`` after it began ``stage``; the seconds since then."""
        stages = folder / "run" / "stages"
        argv = [str(self.pocketformer()), *arguments]
        log = folder / "killed.log"
        with started(argv, log=log, environment=self.environment(), folder=folder) as process:
            deadline = time.monotonic() + 600
            while not (stages / f".{stage}.tmp").is_dir():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise EvidenceError(f"the run to be killed never came to {stage}: {end_of(log)}")
                time.sleep(0.2)
            began = time.monotonic()
            while time.monotonic() < began + delay_s and process.poll() is None:
                time.sleep(0.2)
            if process.poll() is not None:
                raise EvidenceError(f"the run to be killed ended by itself: {end_of(log)}")
            kill_group(process)
            after = time.monotonic() - began
        if (stages / stage).exists() or not (stages / f".{stage}.tmp").is_dir():
            raise EvidenceError(f"the run was not killed in the middle of {stage}, but after it")
        return after


def stage_to_kill(run: Path) -> tuple[Path, float]:
    """The folder of the last distill stage of a finished run, and how many seconds it took.

    The last one trains for minutes on what three earlier stages made, and much comes after it.
    """
    stages = sorted((run / "stages").glob("[0-9][0-9]-distill"))
    if not stages:
        raise EvidenceError(f"{run} has no distill stage to kill a run in")
    record = json.loads((stages[-1] / "stage.json").read_text(encoding="utf-8"))
    return stages[-1], float(record["seconds"])


def copy_until(run: Path, to: Path, stage: Path) -> list[Path]:
    """Copy a run directory as it stood when ``stage`` began; the folders of the stages copied."""
    kept = [path for path in sorted((run / "stages").glob("[0-9][0-9]-*")) if path.name < stage.name]
    (to / "stages").mkdir(parents=True)
    for path in kept:
        shutil.copytree(path, to / "stages" / path.name)
    for name in ("run.json", "recipe.yaml"):
        shutil.copy(run / name, to / name)
    return kept
