from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.runtime.errors import InputError
from pocketformer.runtime.golden import softmax
from pocketformer.runtime.manifest import MANIFEST_FILE, file_entry
from pocketformer.runtime.verify import VerifyReport, verify

ALL_CHECKS = ["manifest", "files", "golden", "load", "tokenizer", "logits", "labels"]


def failed(report: VerifyReport) -> dict[str, str]:
    assert report.ok == all(check.ok for check in report.checks)
    return {check.name: check.detail for check in report.checks if not check.ok}


def restate(bundle: Path, name: str, content: bytes) -> None:
    """Change a file and make its hash right again: only a replay can tell."""
    (bundle / name).write_bytes(content)
    path = bundle / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    entry = file_entry(bundle / name)
    document["files"][name] = {"sha256": entry.sha256, "bytes": entry.bytes}
    path.write_text(json.dumps(document), encoding="utf-8")


def rewrite_golden(bundle: Path, **changes: object) -> None:
    rows = [json.loads(line) for line in (bundle / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[0].update(changes)
    restate(bundle, "golden.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def golden(bundle: Path) -> dict[str, object]:
    row: dict[str, object] = json.loads((bundle / "golden.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return row


def test_a_whole_bundle(tiny_bundle: Path) -> None:
    report = verify(tiny_bundle)
    assert report.ok
    assert [check.name for check in report.checks] == ALL_CHECKS
    assert all(check.detail for check in report.checks)
    document = report.to_dict()
    assert document["ok"] is True
    assert document["checks"][0].keys() == {"name", "ok", "detail"}
    json.dumps(document)


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no bundle at"):
        verify(tmp_path / "absent")


def test_directory_without_manifest(tmp_path: Path) -> None:
    assert "cannot be read" in failed(verify(tmp_path))["manifest"]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.jsonl"])
def test_one_changed_byte_is_seen(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(bytes(content))
    assert f"{name} has another SHA-256" in failed(verify(bundle))["files"]


def test_missing_and_truncated_files(bundle: Path) -> None:
    (bundle / "golden.jsonl").unlink()
    (bundle / "tokenizer.json").write_bytes(b"{}")
    problems = failed(verify(bundle))
    assert "golden.jsonl is missing" in problems["files"]
    assert "tokenizer.json has 2 bytes" in problems["files"]
    assert {"golden", "load"} <= set(problems)


def test_another_tokenizer_is_seen(bundle: Path) -> None:
    text = (bundle / "tokenizer.json").read_text(encoding="utf-8")
    document = json.loads(text)
    vocabulary = document["model"]["vocab"]
    vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
    restate(bundle, "tokenizer.json", json.dumps(document).encode())
    problems = failed(verify(bundle))
    assert "gives ids" in problems["tokenizer"]
    # The other steps begin with the golden ids and the golden logits: they are not to blame.
    assert set(problems) == {"tokenizer"}


def test_another_score_is_seen(bundle: Path) -> None:
    score = golden(bundle)["score"]
    assert isinstance(score, float)
    rewrite_golden(bundle, score=score + 0.9e-6)
    assert verify(bundle).ok
    rewrite_golden(bundle, score=score - 1.1e-6)
    assert set(failed(verify(bundle))) == {"labels"}
    rewrite_golden(bundle, score=None)  # as bundles of before it was written
    assert verify(bundle).ok


def test_golden_ids_are_held_to_the_models_length(bundle: Path) -> None:
    rewrite_golden(bundle, input_ids=[2] + [5] * 100_000 + [3])
    assert "golden ids, and max_length is 16" in failed(verify(bundle))["logits"]
    rewrite_golden(bundle, input_ids=[2, 10**6, 3])
    assert {"tokenizer", "logits"} == set(failed(verify(bundle)))


def test_logits_beyond_the_tolerance_are_seen(bundle: Path) -> None:
    logits = golden(bundle)["logits"]
    assert isinstance(logits, list)
    # The same to all logits, so that the scores stay.
    rewrite_golden(bundle, logits=[value + 0.9e-4 for value in logits])
    assert verify(bundle).ok
    rewrite_golden(bundle, logits=[value + 1e-2 for value in logits])
    assert set(failed(verify(bundle))) == {"logits"}


def test_permuted_labels_are_seen(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document["postprocessing"]["labels"] = ["place", "person", "animal"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert set(failed(verify(bundle))) == {"labels"}


def test_another_answer_is_seen(bundle: Path) -> None:
    logits = golden(bundle)["logits"]
    assert isinstance(logits, list)
    best = logits.index(max(logits))
    other = (best + 1) % 3
    logits[best], logits[other] = logits[other], logits[best] + 1.0
    label = ("animal", "place", "person")[other]
    rewrite_golden(bundle, logits=logits, label=label)
    assert set(failed(verify(bundle))) == {"logits", "labels"}


def test_a_tie_within_the_tolerance_is_no_damage(bundle: Path) -> None:
    row = golden(bundle)
    logits = row["logits"]
    assert isinstance(logits, list)
    path = bundle / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document["tolerance"] = 10.0
    path.write_text(json.dumps(document), encoding="utf-8")
    best = logits.index(max(logits))
    other = (best + 1) % 3
    logits[other] = logits[best] + 0.1
    label = ("animal", "place", "person")[other]
    rewrite_golden(bundle, logits=logits, label=label, score=softmax(logits, other))
    report = verify(bundle)
    assert report.ok
    assert "1 nearly tied" in report.checks[-1].detail


def test_golden_of_another_number_of_labels(bundle: Path) -> None:
    rewrite_golden(bundle, logits=[1.0])
    assert "1 golden logits for 3 labels" in failed(verify(bundle))["logits"]


@given(data=st.data())
@settings(max_examples=60)
def test_never_raises_for_damage(bundle: Path, data: st.DataObject) -> None:
    """Any bytes changed or cut off in a file that is parsed here, its hash made right again."""
    name = data.draw(st.sampled_from([MANIFEST_FILE, "golden.jsonl", "tokenizer.json"]))
    original = {file.name: file.read_bytes() for file in bundle.iterdir()}
    content = bytearray(original[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) - 20, len(content)))]
    try:
        if name == MANIFEST_FILE:
            (bundle / name).write_bytes(content)
        else:
            restate(bundle, name, bytes(content))
        assert isinstance(verify(bundle), VerifyReport)
    finally:
        for file, before in original.items():
            (bundle / file).write_bytes(before)
