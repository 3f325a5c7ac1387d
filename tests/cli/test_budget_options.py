"""The budget of `compress` as a person writes it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from pocketformer.cli.options import Drop, Duration, Latency
from pocketformer.cli.progress import trial_table
from pocketformer.pipeline.search.trials import Trial


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Latency(), "0.8", (0.8, "real")),
        (Latency(), "12@1x128", (12.0, "1x128")),
        (Latency(), " 60ms@8x128", (60.0, "8x128")),
        (Drop(), "none", None),
        (Drop(), "2%", 0.02),
        (Duration(), "90", 90.0),
        (Duration(), "90s", 90.0),
        (Duration(), "20m", 1200.0),
        (Duration(), "1.5h", 5400.0),
    ],
)
def test_a_value_in_its_forms(kind: click.ParamType, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (Latency(), "fast", "write 0.8 or 12@1x128"),
        (Latency(), "0", "not above 0"),
        (Latency(), "nan", "not above 0"),
        (Latency(), "1@2x64", "choose real, 1x32, 1x128, 8x128"),
        (Drop(), "nothing", "write 1% or 0.01"),
        (Duration(), "soon", "write 90s, 20m or 1.5h"),
        (Duration(), "-1m", "not above 0"),
        (Duration(), "m", "write 90s, 20m or 1.5h"),
    ],
)
def test_what_is_wrong_is_told(kind: click.ParamType, text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        kind.convert(text, None, None)


def test_a_search_is_planned_within_its_time(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    command = (
        "compress",
        tiny_model_dir,
        "--train",
        tiny_files[0],
        "--dry-run",
        "--json",
        "-o",
        tmp_path / "out",
    )
    usual = cli(*command).json
    names = [stage["name"] for stage in usual["stages"]]
    assert names[:2] == ["prune", "distill"]
    trained = [stage["name"] for stage in cli(*command, "--qat").json["stages"]]
    assert trained == [*names[: names.index("export")], "qat", *names[names.index("export") :]]
    searched = cli(*command, "--time-limit", "20s", "--max-latency", "1@1x32", "--max-drop", "none").json
    assert [stage["name"] for stage in searched["stages"]][:2] == ["search", "export"]
    assert searched["stages"][0]["seconds"] == 20.0
    assert cli(*command, "--search").json["stages"][0]["seconds"] > 20.0
    assert not (tmp_path / "out").exists()


def test_the_models_so_far_are_drawn() -> None:
    trial = Trial(
        number=1, name="1", depth=1, polished=False, vocabulary=0.7, layers=((2, 8),), metric=0.9, drop=0.02,
        divergence=0.1, latency_ms={"real": 2.0}, speedup={"real": 4.0}, file_mb=5.0, parameters=10,
        candidate="fp32", seconds=1.0,
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=100)
    console.print(trial_table([trial], trial))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(part in text for part in ("4.0x", "5.0 MB", "2.0 points", "best so far"))


def test_a_search_and_fast_are_two_ways(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    outcome = cli(
        "compress", tiny_model_dir, "--train", tiny_files[0], "--fast", "--search", "-o", tmp_path / "out"
    )
    assert outcome.code == 2
    assert "--search" in outcome.err
    outcome = cli(
        "compress", tiny_model_dir, "--train", tiny_files[0], "--fast", "--qat", "-o", tmp_path / "out"
    )
    assert outcome.code == 2
    assert "leave --qat out" in outcome.err


def test_a_store_is_for_a_search(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    train, _ = tiny_files
    command = (
        "compress",
        tiny_model_dir,
        "--train",
        train,
        "-o",
        tmp_path / "out",
        "--store",
        tmp_path / "db",
    )
    outcome = cli(*command)
    assert (outcome.code, "--store is for --search" in outcome.err) == (2, True)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {tiny_model_dir}\ndata: {{train: {train}}}\nsteps: [vocabulary]\n")
    outcome = cli("run", recipe, "-o", tmp_path / "out", "--store", tmp_path / "db")
    assert (outcome.code, "no search to share" in outcome.err) == (2, True)
    assert not (tmp_path / "out").exists()
