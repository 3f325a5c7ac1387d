"""The verbs of single steps: each takes what the one before left, by relative paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CHAIN: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("finetune", "model", ("--epochs", "1", "--train", "train.csv", "--test", "test.csv"), "model"),
    ("distill", "finetune", ("--epochs", "1", "--layers", "2"), "model"),
    (
        "prune",
        "distill",
        ("--method", "obs", "--cost", "60%", "--sparsity", "2:4", "--vocabulary", "90%"),
        "model",
    ),
    ("export", "prune", ("--exporter", "optimum"), "graph"),
    ("quantize", "export", ("--candidate", "fp32", "--max-drop", "100%"), "quantized"),
    ("bundle", "quantize", ("--name", "tiny"), "bundle"),
    ("bench", "bundle", ("--rounds", "5"), "measurements"),
)


@pytest.fixture(scope="module")
def chain(
    cli: Any,
    tiny_model_dir: Path,
    tiny_files: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """The outcome of every verb, called from one folder, with what takes long in bench left out."""
    from pocketformer.pipeline import bench, measurements

    folder = tmp_path_factory.mktemp("chain")
    (folder / "model").symlink_to(tiny_model_dir)
    for path in tiny_files:
        (folder / path.name).write_bytes(path.read_bytes())
    outcomes: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(bench, "drive_loadgen", lambda *_: (None, "LoadGen: left out"))
        patch.setattr(measurements, "_add_cold_starts", lambda *_: None)
        for verb, source, options, _ in CHAIN:
            common = ("--threads", "1", "--max-length", "16", "--json")
            outcomes[verb] = cli(verb, source, *options, *common, "-o", verb)
    return outcomes


@pytest.mark.parametrize(("verb", "made"), [(verb, made) for verb, _, _, made in CHAIN])
def test_each_verb_makes_its_artefact(chain: dict[str, Any], verb: str, made: str) -> None:
    outcome = chain[verb]
    assert outcome.code in (0, 3), outcome.err
    result = outcome.json
    assert (chain["folder"] / result["artefacts"][made]).exists()
    record = json.loads((chain["folder"] / verb / "run.json").read_text())
    assert made in record["artefacts"]


def test_a_report_at_the_end_of_a_chain_names_the_model_that_it_began_with(chain: dict[str, Any]) -> None:
    report = json.loads((chain["folder"] / "bench" / "report.json").read_text())
    assert report["name"] == "model"
    assert report["lineage"]["teacher"]["name"] == "model"
    assert report["lineage"]["teacher"]["sha256"] is not None


def test_quantize_exports_a_directory_first(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    train, _ = tiny_files
    outcome = cli(
        "quantize", tiny_model_dir, "--train", train, "--candidate", "dynamic-plain",
        "--max-drop", "100%", "--threads", "1", "-o", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("2 stages: export > quantize")
    assert "quantized: " in outcome.out


def test_prune_wants_to_know_what_to_keep(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    outcome = cli("prune", tiny_model_dir, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "--heads" in outcome.err


def test_a_new_graph_leaves_no_older_bundle_behind(chain: dict[str, Any], cli: Any, tmp_path: Path) -> None:
    again = cli("export", chain["folder"] / "bundle", "--threads", "1", "--json", "-o", tmp_path / "out")
    assert again.code == 0, again.err
    assert set(again.json["artefacts"]) == {"teacher", "model", "graph"}


def test_dry_run_says_what_and_writes_nothing(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ("compress", tiny_model_dir, "--train", tiny_files[0], "--dry-run", "-o", tmp_path / "out")
    planned = cli(*arguments, "--json").json
    assert [stage["name"] for stage in planned["stages"]][-1] == "report"
    assert planned["train_rows"] + planned["validation_rows"] == 45
    assert planned["seconds"] > 0
    assert "Nothing was written" in cli(*arguments).out
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_is_not_met_is_exit_3(
    cli: Any, run_dir: Path, recipe_file: Path, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "out"
    shutil.copytree(run_dir, copy)
    strict = tmp_path / "recipe.yaml"
    strict.write_text(recipe_file.read_text().replace("max_drop: 1.0", "max_drop: 1.0\n  max_size_mb: 0.001"))
    assert cli("run", strict, "-o", copy).code == 2
    outcome = cli("run", strict, "-o", copy, "--force")
    assert outcome.code == 3, outcome.err
    assert (copy / "bundles" / "cpu" / "model.onnx").exists()
    assert "Budget not met" in outcome.out
