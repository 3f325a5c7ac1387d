"""What every maker begins and ends with: its job is a JSON file, its account another one beside the model.

``python make_....py JOB.json``. The job: ``teacher`` (a Hugging Face directory), ``train`` (a JSON file of texts and
label indices), ``output`` (an empty folder), ``max_length``, ``threads``, and the setup's own ``settings``.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

CALIBRATION_TEXTS = 300


class Job:
    """One artefact to make, as the command asked for it."""

    def __init__(self, path: str) -> None:
        content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        self.teacher = Path(content["teacher"])
        self.output = Path(content["output"])
        self.threads = int(content["threads"])
        self.max_length = int(content["max_length"])
        self.settings: dict[str, Any] = content["settings"]
        train = json.loads(Path(content["train"]).read_text(encoding="utf-8"))
        self.texts: list[str] = train["texts"]
        self.labels: list[int] = train["labels"]

    @property
    def calibration(self) -> list[str]:
        """The first training texts: as many as NNCF takes when nobody says otherwise."""
        return self.texts[:CALIBRATION_TEXTS]

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, special tokens included, truncated, without padding."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.teacher / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        return [encoding.ids for encoding in tokenizer.encode_batch(texts)]

    def done(self, model: Path, *, ships: list[Path], packages: list[str], how: dict[str, Any]) -> None:
        """Say what was made: the file to load, all files of a model that an app needs, versions, settings."""
        account = {
            "model": model.relative_to(self.output).as_posix(),
            "ships": [path.relative_to(self.output).as_posix() for path in ships],
            "versions": {name: version(name) for name in packages},
            "how": how,
        }
        (self.output / "made.json").write_text(json.dumps(account, indent=2) + "\n", encoding="utf-8")


def job_of_command_line() -> Job:
    """The job that this program was started with."""
    return Job(sys.argv[1])


def has_vnni() -> bool:
    """Whether this processor multiplies 8-bit numbers without overflow at 16 bits (x86), or is no x86."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "vnni" in flags or "avx" not in flags


def has_avx512() -> bool:
    """Whether this processor has AVX-512."""
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
