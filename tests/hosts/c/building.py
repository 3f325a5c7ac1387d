"""Building the C host in the ways that it is meant to be built, and running its program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pocketformer.export.hosts import SOURCES

C = SOURCES / "c"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = (
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)
LIBRARIES = ("-ldl", "-lm", "-pthread")
_LIMIT_S = 600


@dataclass(frozen=True)
class Program:
    """``pocketformer-c`` as it was built, with the onnxruntime that it opens."""

    command: Sequence[str | Path]
    onnxruntime: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        argv = [*self.command, "--onnxruntime", self.onnxruntime, *arguments]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("POCKETFORMER_")}
        return subprocess.run(
            [str(word) for word in argv],
            env=kept | dict(self.environment) | environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )

    def rows(self, verb: str, bundle: Path, texts: Sequence[str], folder: Path) -> list[dict[str, Any]]:
        """What it prints for texts, a row each."""
        file = folder / "texts.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="ascii")
        done = self.run(verb, bundle, file)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def checks(self, bundle: Path, *options: str | Path, code: int = 0, **environment: str) -> dict[str, str]:
        """Name and detail of each check of ``verify``, FAIL before those that fail; the exit code is ``code``."""
        done = self.run("verify", bundle, "--json", *options, **environment)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Sanitizer" not in done.stderr
        report = json.loads(done.stdout)
        assert report["ok"] is (code == 0)
        return {
            check["name"]: ("" if check["ok"] else "FAIL ") + check["detail"] for check in report["checks"]
        }


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install cmake gcc gcc-aarch64-linux-gnu libc6-dev make openssl")
    return found


def compile_c(source: Path, output: Path, *flags: str, compiler: str = "gcc") -> Path:
    """Build one file; warnings are errors."""
    argv = [tool(compiler), *STRICT, *flags, f"-I{C}", str(source), "-o", str(output), *LIBRARIES]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return output
