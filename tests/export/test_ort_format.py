"""onnxruntime's own format: the same answers, what a reduced build needs, and no bundle that differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pocketformer import load
from pocketformer.export import ort_format
from pocketformer.export.agreement import TextAgreement
from pocketformer.export.bundle import refresh_manifest
from pocketformer.export.ort_format import OPERATORS_FILE, inspect_ort, write_ort, write_ort_bundle
from pocketformer.runtime.errors import ExportError, ModelError, ParityError, VerificationError
from pocketformer.runtime.manifest import read_manifest
from pocketformer.runtime.verify import verify


@pytest.fixture(scope="module")
def ort_bundle(small_bundle: Path, tiny_texts: list[str], tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("ort")
    bundle, near = write_ort_bundle(small_bundle, folder / "bundle", tiny_texts)
    assert near.texts == len(tiny_texts) + 4
    assert near.same_share == 1.0
    assert near.max_abs_difference <= 1e-4
    return bundle


def test_the_bundle_verifies_and_answers_alike(
    ort_bundle: Path, small_bundle: Path, tiny_texts: list[str]
) -> None:
    report = verify(ort_bundle)
    assert report.ok, report
    manifest = read_manifest(ort_bundle)
    assert (manifest.graph, manifest.engine.name) == ("model.ort", "onnxruntime")
    assert {"model.ort", OPERATORS_FILE} <= set(manifest.files)
    assert not (ort_bundle / "model.onnx").exists()
    assert "`model.ort`" in (ort_bundle / "README.md").read_text(encoding="utf-8")
    new, old = load(ort_bundle).predict(tiny_texts), load(small_bundle).predict(tiny_texts)
    assert [answer.label for answer in new] == [answer.label for answer in old]


def test_a_reduced_build_is_told_operators_and_types(ort_bundle: Path) -> None:
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    lines = (ort_bundle / OPERATORS_FILE).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Operators and types of model.ort")
    assert not any("/" in line for line in lines), "a path of this machine"
    # As onnxruntime's own build reads it.
    required, types = parse_config(str(ort_bundle / OPERATORS_FILE), enable_type_reduction=True)
    assert types is not None
    named = {name for opsets in required.values() for names in opsets.values() for name in names}
    needed = {name for names in inspect_ort(ort_bundle / "model.ort").operators.values() for name in names}
    assert named == needed
    assert "Gather" in named


def test_a_damaged_file_is_refused(ort_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(ort_bundle, tmp_path / "copy")
    content = bytearray((copy / "model.ort").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (copy / "model.ort").write_bytes(content)
    report = verify(copy)
    assert next(check.name for check in report.checks if not check.ok) == "files"
    (tmp_path / "no.ort").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"cannot be read as an \.ort file"):
        inspect_ort(tmp_path / "no.ort")


def test_signed_and_in_one_file_it_verifies(
    ort_bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path, tiny_texts: list[str]
) -> None:
    from pocketformer.export.archive import write_archive
    from pocketformer.export.signing import sign_bundle

    private, public = key_pair
    copy = shutil.copytree(ort_bundle, tmp_path / "copy")
    sign_bundle(copy, private)
    write_archive(copy, tmp_path / "bundle.pfz", private)
    for place in (copy, tmp_path / "bundle.pfz"):
        assert verify(place, key=public).ok
        answers = load(place, key=public).predict(tiny_texts)
        assert answers == load(ort_bundle).predict(tiny_texts)


def test_another_format_under_its_name_is_not_given_to_onnxruntime(
    ort_bundle: Path, small_bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(ort_bundle, tmp_path / "copy")
    shutil.copyfile(small_bundle / "model.onnx", copy / "model.ort")
    refresh_manifest(copy, read_manifest(ort_bundle))
    with pytest.raises(VerificationError, match="not in onnxruntime's own format"):
        load(copy)
    assert not verify(copy).ok


def test_what_cannot_be_converted_is_an_error(small_bundle: Path, ort_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ExportError, match="in its own format"):
        write_ort(tmp_path / "no.onnx", tmp_path / "no.ort")
    with pytest.raises(ExportError, match="not ONNX"):
        write_ort_bundle(ort_bundle, tmp_path / "again", [])


def test_another_answer_leaves_no_bundle(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = TextAgreement(texts=4, max_abs_difference=0.5, same_labels=3)
    monkeypatch.setattr(ort_format, "compare_models", lambda *_: far)
    with pytest.raises(ParityError, match="3 of 4 texts"):
        write_ort_bundle(small_bundle, tmp_path / "bundle", [])
    assert not list(tmp_path.iterdir())


def test_the_verb_writes_compares_and_replaces(
    cli_json: Any, small_bundle: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, printed = cli_json("export", small_bundle, "--format", "ort", "--test", tiny_files[1], "-o", out)
    assert code == 0
    assert "of 19 texts get the label that they had" in printed["notes"][0]
    assert any("none was made here" in note for note in printed["notes"])
    assert cli_json("export", small_bundle, "--format", "ort", "-o", out)[0] == 2
    assert cli_json("export", small_bundle, "--format", "ort", "--force", "-o", out)[0] == 0
    assert cli_json("verify", out)[0] == 0
    code, facts = cli_json("inspect", out)
    assert code == 0
    assert any("Gather" in names for names in facts["operators"].values())
    assert json.dumps(facts)
