"""Olive's ``auto-opt`` for the CPU: ``olive auto-opt --precision int8 --device cpu -t text-classification``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from job import job_of_command_line

PACKAGES = ["olive-ai", "onnx", "onnxruntime", "optimum", "torch", "transformers"]


def main() -> None:
    job = job_of_command_line()
    made = job.output / "olive"
    arguments = ["auto-opt", "-m", str(job.teacher), "-t", "text-classification", "--device", "cpu"]
    arguments += ["--provider", "CPUExecutionProvider", "--precision", "int8", "--log_level", "1"]
    arguments += ["--disable_telemetry"]
    olive = Path(sys.executable).with_name("olive")
    subprocess.run([olive, *arguments, "-o", made], cwd=job.output, check=True, stdin=subprocess.DEVNULL)
    models = sorted(made.rglob("*.onnx"))
    if not models:
        raise SystemExit(f"olive auto-opt left no ONNX file in {made}")
    model = models[-1]
    ships = [model, *sorted(model.parent.glob("*.data"))]
    job.done(model, ships=ships, packages=PACKAGES, how={"command": f"olive {' '.join(arguments[3:])}"})


if __name__ == "__main__":
    main()
