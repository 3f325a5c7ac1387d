"""What the rows about devices share: graphs and engines, made in child processes and kept as ``kept`` says.

Of what is kept, rows count only what they can see again: engines by their bytes, fingerprints and layer reports.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from evidence.kept import Kept
from evidence.table import EvidenceError
from evidence.workspace import DEMO_CODE, end_of, run_logged
from pocketformer.runtime.manifest import sha256_file

INSIDE = Path(__file__).parent / "inside"
# What decides how these rows end; the tests hold the lines of devices and the drills.
DEVICE_CODE = (*DEMO_CODE, "benchmarks", "tests")
PACKAGES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "optimum",
    "tensorrt",
    "tensorrt-rtx-cu12",
    "torch",
    "transformers",
)
# Many times what these models take, in memory and in seconds of a processor.
_MEMORY_GB = 8
_WORK_S = 900
# Of the wall's clock, for what waits for ever.
_LIMIT_S = 7200.0


def installed_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class DeviceRuns(Kept):
    """What is made once for the rows of one call."""

    place = "evidence-devices"

    def packages(self) -> dict[str, str]:
        return installed_versions()

    def environment(self) -> dict[str, str]:
        root = self.repository.root
        # This checkout's package and no other that is installed.
        return super().environment() | {"PYTHONPATH": os.pathsep.join((str(root), str(root / "benchmarks")))}

    def graphs(self, name: str, *options: str) -> Path:
        """The folder with the typed graph of a model of ``architectures`` in every precision."""

        def make(folder: Path) -> dict[str, Any]:
            self.say(f"{name}: graphs in every precision")
            return self.child("engine_graphs.py", [name, str(folder), *options], folder)

        self.once(f"graphs-{name}", make)
        return self.folder / f"graphs-{name}"

    def engines(
        self, name: str, precision: str, capabilities: Sequence[str], *options: str
    ) -> Mapping[str, Path]:
        """An engine of ``name`` in ``precision`` for each compute capability; those that could not be built lack."""
        graph = self.graphs(name, *options) / f"{precision}.onnx"

        def make(folder: Path) -> dict[str, Any]:
            self.say(f"{name} {precision}: engines for {', '.join(capabilities)}")
            return self.child("engine_builds.py", [str(graph), str(folder), *capabilities], folder)

        folder = self.folder / f"engines-{name}-{precision}"
        built = self.once(folder.name, make)["built"]
        return {capability: folder / f"sm{capability}.engine" for capability in built}

    def student(self, precision: str) -> Path | None:
        """An engine of what a demo made in ``out/demo``, for the usual GPUs; None where no demo was run."""
        demo = self.repository.root / "out" / "demo"
        if not (demo / "run.json").is_file():
            return None
        data = yaml.safe_load((demo / "recipe.yaml").read_text(encoding="utf-8"))["data"]
        options = ["--format", "tensorrt", "--precision", precision, "--train", data["train"]]
        options += ["--text-column", data["text_column"], "--label-column", data["label_column"]]

        def make(folder: Path) -> dict[str, Any]:
            self.say(f"student of out/demo {precision}: an engine for all GPUs")
            argv = [
                sys.executable,
                "-m",
                "pocketformer",
                "export",
                str(demo),
                *options,
                "-o",
                str(folder / "run"),
            ]
            code, seconds = run_logged(
                argv,
                log=folder / "log.txt",
                environment=self.environment(),
                folder=folder,
                limit_s=_LIMIT_S,
            )
            if code != 0:
                raise EvidenceError(f"the export ended with exit code {code}: {end_of(folder / 'log.txt')}")
            return {"seconds": seconds}

        # Another demo's student is another model.
        name = f"student-{precision}-{sha256_file(demo / 'run.json')[:8]}"
        self.once(name, make)
        return next((self.folder / name / "run" / "stages").glob("*-tensorrt/model.engine"))

    def child(self, program: str, arguments: Sequence[str], folder: Path) -> dict[str, Any]:
        """Run a program of ``inside``, held to some memory and time; the JSON object that is its last line."""
        log = folder / "log.txt"
        argv = [
            sys.executable,
            str(INSIDE / "limited.py"),
            str(_MEMORY_GB),
            str(_WORK_S),
            program,
            *arguments,
        ]
        code, seconds = run_logged(
            argv, log=log, environment=self.environment(), folder=folder, limit_s=_LIMIT_S
        )
        if code != 0:
            raise EvidenceError(f"{program} ended with exit code {code}: {end_of(log)} ({log})")
        last = log.read_text(encoding="utf-8", errors="replace").strip().rsplit("\n", 1)[-1]
        said: dict[str, Any] = json.loads(last)
        if not Path(said["package"]).is_relative_to(self.repository.root):
            raise EvidenceError(f"{program} ran {said['package']}, which is not this checkout's")
        return said | {"seconds": seconds}
