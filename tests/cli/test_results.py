"""The verbs that look at a finished run or a bundle, over one tiny run."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest


def test_run_prints_json_and_nothing_else(finished: tuple[Path, Any]) -> None:
    directory, outcome = finished
    result = outcome.json
    assert result["budget_met"] is True
    assert Path(result["bundles"]["cpu"]) == directory / "bundles" / "cpu"
    assert [stage["name"] for stage in result["stages"]][-2:] == ["bench", "report"]


def test_stderr_has_our_lines_only(finished: tuple[Path, Any]) -> None:
    lines = finished[1].err.splitlines()
    assert lines[0].startswith("9 stages: finetune > ")
    # A line of ours is the list of stages, a finished stage, a note below one or a remark of what is timed.
    assert [x for x in lines if not x.startswith(("9 stages", "[", " " * 20, "timing "))] == []


@pytest.mark.parametrize(
    ("form", "start"), [("terminal", ""), ("html", "<!doctype html>"), ("md", "#"), ("card", "---")]
)
def test_report_in_every_format(cli: Any, run_dir: Path, form: str, start: str) -> None:
    outcome = cli("report", run_dir, "--format", form)
    assert outcome.code == 0
    assert outcome.out.lower().strip().startswith(start)
    assert "accuracy" in outcome.out.lower()


def test_report_to_a_file(cli: Any, run_dir: Path, tmp_path: Path) -> None:
    assert cli("report", run_dir, "--format", "html", "-o", tmp_path / "r.html").code == 0
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    outcome = cli("report", run_dir, "--format", "md", "-o", tmp_path / "none" / "r.md")
    assert outcome.code == 2
    assert "no folder" in outcome.err


def test_report_as_json_is_the_report(cli: Any, run_dir: Path) -> None:
    shown = cli("report", run_dir, "--json").json
    assert shown["verdict"] == json.loads((run_dir / "report.json").read_text())["verdict"]


def test_report_of_what_has_none(cli: Any, tmp_path: Path) -> None:
    outcome = cli("report", tmp_path)
    assert outcome.code == 2
    assert "no report" in outcome.err


def test_compare(cli: Any, run_dir: Path) -> None:
    outcome = cli("compare", run_dir, run_dir / "report.json")
    assert outcome.code == 0
    assert "same" in outcome.out
    changes = cli("compare", run_dir, run_dir, "--json").json["changes"]
    assert all(change["change"] in (0, None) for change in changes)


def test_predict_from_arguments_file_and_stdin(
    cli: Any, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cli("predict", bundle_dir, "who is the king ?", "the cat", "--json").json
    assert [set(row) for row in rows] == [{"text", "label", "score"}] * 2
    assert rows[0]["text"] == "who is the king ?"
    assert rows[0]["label"] in ("animal", "place", "person")
    assert 0 < rows[0]["score"] <= 1
    (tmp_path / "texts.txt").write_text("who is the king ?\n\nthe cat\n")
    assert cli("predict", bundle_dir, "--file", tmp_path / "texts.txt", "--json").json == rows
    monkeypatch.setattr(sys, "stdin", io.StringIO("who is the king ?\nthe cat\n"))
    assert cli("predict", bundle_dir, "--file", "-", "--json").json == rows
    plain = cli("predict", bundle_dir, "the cat").out
    # Asked alone: dynamic int8 takes its ranges from the whole batch, so small decimals differ with the company.
    (alone,) = cli("predict", bundle_dir, "the cat", "--json").json
    assert plain == f"{alone['label']}\t{alone['score']:.3f}\tthe cat\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"caf\xe9", "not UTF-8"), (b"\n\n", "at least one text")],
)
def test_predict_without_a_readable_text(
    cli: Any, bundle_dir: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    outcome = cli("predict", bundle_dir, "--file", tmp_path / "texts.txt")
    assert outcome.code == 2
    assert message in outcome.err


def test_predict_with_what_is_no_bundle(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    assert cli("predict", tmp_path / "none", "hello").code == 2
    outcome = cli("predict", tiny_model_dir, "hello")
    assert outcome.code == 2
    assert "manifest.json" in outcome.err


def test_verify_a_whole_and_a_damaged_bundle(cli: Any, bundle_dir: Path, tmp_path: Path) -> None:
    good = cli("verify", bundle_dir, "--json")
    assert good.code == 0
    assert good.json["ok"] is True
    assert {"name", "ok", "detail"} == set(good.json["checks"][0])
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_dir, copy)
    graph = bytearray((copy / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "model.onnx").write_bytes(graph)
    bad = cli("verify", copy, "--json")
    assert bad.code == 5
    assert bad.json["ok"] is False
    assert "FAIL  files       model.onnx has another SHA-256" in cli("verify", copy).out
    (copy / "model.onnx").write_bytes(graph[:100])
    assert cli("predict", copy, "hello").code == 5
    assert cli("verify", tmp_path / "none").code == 2


def test_inspect_model_run_bundle_and_graph(
    cli: Any, tiny_model_dir: Path, run_dir: Path, bundle_dir: Path
) -> None:
    facts = cli("inspect", tiny_model_dir, "--json").json
    assert facts["parameters"] > 1000
    assert "Pruning:" in cli("inspect", tiny_model_dir).out
    smaller = cli("inspect", run_dir, "--json").json
    assert smaller["parameters"] < facts["parameters"]
    assert cli("inspect", bundle_dir, "--json").json["opset"] <= 20
    assert "Quantized" in cli("inspect", bundle_dir / "model.onnx").out
    assert cli("inspect", tiny_model_dir / "none").code == 2


def test_targets(cli: Any) -> None:
    listed = {profile["name"]: profile for profile in cli("targets", "list", "--json").json}
    assert (listed["cpu"]["support"], listed["cpu"]["missing"]) == ("measured here", None)
    assert listed["jetson-thor"]["support"] == "not yet"
    assert "tensorrt" in listed["jetson-thor"]["missing"]
    lines = cli("targets", "list").out.splitlines()
    assert lines[0].split()[:3] == ["cpu", "measured", "here"]
    assert {line.split()[0] for line in lines[1:] if " not yet " not in line} == {
        "gpu",
        *(f"tensorrt-rtx-sm{number}" for number in (80, 86, 89, 120)),
    }
    assert listed["gpu"]["support"] == "with a GPU here"
    assert cli("targets", "show", "cpu", "--json").json["name"] == "cpu"
    assert "runtime: onnxruntime" in cli("targets", "show", "cpu").out
    assert cli("targets", "probe", "--json").json["threads"] >= 1
    outcome = cli("targets", "show", "cup")
    assert outcome.code == 2
    assert "Did you mean 'cpu'?" in outcome.err


def test_doctor_names_what_is_missing(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    assert {"package", "version", "extra", "purpose", "reason"} == set(cli("doctor", "--json").json[0])
    real = metadata.version

    def version(name: str) -> str:
        if name == "onnxscript":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    outcome = cli("doctor")
    assert outcome.code == 0
    assert "missing" in outcome.out
    assert "pip install 'pocketformer[compress]'" in outcome.out


def test_init_writes_a_recipe_that_runs(cli: Any, tmp_path: Path, tiny_model_dir: Path) -> None:
    path = tmp_path / "my.yaml"
    train = tmp_path / "train.csv"
    train.write_text(
        "text,label\n" + "".join(f"{w} {i},{w}\n" for i in range(20) for w in ("animal", "place", "person"))
    )
    assert cli("init", path, "--model", tiny_model_dir, "--train", train, "--test", train).code == 0
    before = path.read_bytes()
    assert cli("init", path).code == 2
    assert path.read_bytes() == before
    (tmp_path / "test.csv").write_text("text,label\nlake,place\nqueen,person\n")
    path.write_text(path.read_text().replace(f"test: {train}", "test: test.csv"))
    planned = cli("run", path, "--dry-run", "--json", "-o", tmp_path / "out")
    assert planned.code == 0, planned.err
    assert planned.json["train_rows"] == 54
    assert not (tmp_path / "out").exists()
    missing = cli("init", tmp_path / "none" / "r.yaml")
    assert missing.code == 2
    assert "no folder" in missing.err


def test_clean_asks_and_spares_what_is_not_its_own(
    cli: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "out"
    shutil.copytree(run_dir, copy)
    (copy / "notes.txt").write_text("mine")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    refused = cli("clean", copy)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert (copy / "report.json").exists()
    assert cli("clean", copy, "--yes").code == 0
    assert [p.name for p in copy.iterdir()] == ["notes.txt"]
    assert cli("clean", tmp_path, "--yes").code == 2


def test_signed_bundles_and_archives(
    cli: Any, bundle_dir: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    from pocketformer.export.archive import write_archive

    private, public = key_pair
    archive = tmp_path / "b.pfz"
    write_archive(bundle_dir, archive, private)
    assert cli("verify", archive).out.startswith("ok    manifest    schema_version 1")
    assert cli("verify", archive, "--key", public).out.startswith("ok    signature   Ed25519")
    asked = cli("predict", archive, "--key", public, "--provider", "cpu", "the cat", "--json").json
    assert asked == cli("predict", bundle_dir, "the cat", "--json").json
    unsigned = cli("verify", bundle_dir, "--key", public)
    assert unsigned.code == 5
    assert unsigned.out.startswith("FAIL  signature   manifest.json.sig: it is not signed")
    assert cli("predict", bundle_dir, "--key", public, "the cat").code == 5
    assert cli("verify", archive, "--key", private).code == 2
    assert cli("verify", archive, "--key", tmp_path / "none.pem").code == 2


def test_a_bundle_cannot_write_lines_of_its_own(cli: Any, bundle_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    document = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    document["name"] = "x\nok    files       all good\x1b[2J"
    (copy / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    first = cli("verify", copy).out.splitlines()[0]
    assert first.startswith("ok    manifest    schema_version 1, x\\nok    files       all good\\x1b[2J, ")
