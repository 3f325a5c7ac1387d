"""Record what the demo printed, how long it took and its pictures in docs/demo/ (`make record-demo`).

    python docs/record_demo.py [--checkout FOLDER]

Runs the demo afresh, or, with ``--checkout``, records the one that `make demo` has finished in that checkout: its
command is given again there, which runs no stage and prints the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from pocketformer.report.pictures import save_png
from pocketformer.report.storage import load_report

DEMO = Path(__file__).parent / "demo"


def main() -> None:
    """Write docs/demo/ (what was printed, the report in Markdown, the pictures) and the README."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--checkout", type=Path, help="where `make demo` has run")
    checkout: Path | None = parser.parse_args().checkout
    place = checkout or Path()
    output = place / "out/demo"
    if checkout is None:
        shutil.rmtree(output, ignore_errors=True)
    elif not (output / "report.json").is_file():
        raise SystemExit(f"no demo has run in {checkout}")
    python = sys.executable if checkout is None else str(place.absolute() / ".venv/bin/python")
    command = ["pocketformer", "demo", "-o", "out/demo"]
    done = subprocess.run([python, "-m", *command], cwd=place, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    stages = json.loads((output / "run.json").read_text(encoding="utf-8"))["stages"]
    minutes = sum(stage["seconds"] for stage in stages) / 60
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=place, capture_output=True, text=True, check=True
    ).stdout.strip()
    DEMO.mkdir(exist_ok=True)
    header = f"$ {' '.join(command)}\n"
    footer = f"\n{minutes:.1f} minutes in its stages, installation not counted; measured on commit {commit}\n"
    (DEMO / "output.txt").write_text(header + done.stdout.rstrip() + "\n" + footer, encoding="utf-8")
    shutil.copyfile(output / "report.md", DEMO / "report.md")
    save_png(load_report(output), DEMO)
    sys.stdout.write(header + done.stdout + footer)
    subprocess.run([sys.executable, str(Path(__file__).with_name("generate.py"))], check=True)


if __name__ == "__main__":
    main()
