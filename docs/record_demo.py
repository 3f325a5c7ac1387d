"""Run the demo and record what it printed, how long it took and its pictures in docs/demo/ (`make record-demo`)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from pocketformer.report.pictures import save_png
from pocketformer.report.storage import load_report

DEMO = Path(__file__).parent / "demo"


def main() -> None:
    """Run, then write docs/demo/ (what was printed, the report in Markdown, the pictures) and the README."""
    output = Path("out/demo")
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    command = ["pocketformer", "demo", "-o", str(output)]
    done = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, check=False)
    minutes = (time.perf_counter() - started) / 60
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout.strip()
    DEMO.mkdir(exist_ok=True)
    header = f"$ {' '.join(command)}\n"
    footer = f"\n{minutes:.1f} minutes, installation not counted; measured on commit {commit}\n"
    (DEMO / "output.txt").write_text(header + done.stdout.rstrip() + "\n" + footer, encoding="utf-8")
    shutil.copyfile(output / "report.md", DEMO / "report.md")
    save_png(load_report(output), DEMO)
    sys.stdout.write(header + done.stdout + footer)
    subprocess.run([sys.executable, str(Path(__file__).with_name("generate.py"))], check=True)


if __name__ == "__main__":
    main()
