"""Bundles of strangers in Node: changed, unsigned, hostile; all are refused, and nothing outside is read."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hosts.js.conftest import SIGN, restate, run, verify_all
from onnx import TensorProto, helper

from pocketformer.runtime.manifest import MANIFEST_FILE

Make = Callable[[Path], None]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _manifest(**changed: Any) -> Make:
    return lambda bundle: restate(bundle, change=lambda document: document.update(changed)) and None


def _listed(name: str, **entry: Any) -> Make:
    whole = {"sha256": "0" * 64, "bytes": 1} | entry
    return lambda bundle: (
        restate(bundle, change=lambda document: document["files"].update({name: whole})) and None
    )


def _raw(content: bytes) -> Make:
    return lambda bundle: (bundle / MANIFEST_FILE).write_bytes(content) and None


def _replaced(old: str, new: str) -> Make:
    def make(bundle: Path) -> None:
        path = bundle / MANIFEST_FILE
        text = json.dumps(json.loads(path.read_text(encoding="utf-8")))
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return make


def _link(bundle: Path) -> None:
    outside = bundle.parent / "outside.json"
    shutil.move(bundle / "tokenizer.json", outside)
    (bundle / "tokenizer.json").symlink_to(outside)


def _linked_folder(bundle: Path) -> None:
    outside = bundle.parent / "outside"
    outside.mkdir()
    shutil.move(bundle / "golden.jsonl", outside / "golden.jsonl")
    (bundle / "below").symlink_to(outside)

    def change(document: dict[str, Any]) -> None:
        document["files"]["below/golden.jsonl"] = document["files"].pop("golden.jsonl")
        document["golden_file"] = "below/golden.jsonl"

    restate(bundle, change=change)


def _pipe(bundle: Path) -> None:
    (bundle / "golden.jsonl").unlink()
    os.mkfifo(bundle / "golden.jsonl")


def _external(place: str) -> Make:
    """A graph with a tensor in another file, at one of the places where ONNX allows tensors."""

    def make(bundle: Path) -> None:
        tensor = TensorProto(
            name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value="../../outside.bin")
        model = onnx.load(bundle / "model.onnx")
        constant = helper.make_node("Constant", [], ["c"])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
        if place == "initializer":
            model.graph.initializer.append(tensor)
        elif place == "entries":
            tensor.data_location = TensorProto.DEFAULT
            model.graph.initializer.append(tensor)
        elif place == "attribute":
            model.graph.node.append(constant)
        elif place == "list":
            constant.attribute[0].tensors.append(tensor)
            constant.attribute[0].ClearField("t")
            model.graph.node.append(constant)
        elif place == "subgraph":
            branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("c", 1, [1])])
            model.graph.node.append(
                helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
            )
        elif place == "engine":
            model.graph.node.append(helper.make_node("EPContext", [], ["y"], domain="com.microsoft"))
        elif place == "function":
            model.functions.append(helper.make_function("d", "f", [], ["c"], [constant], []))
        else:
            sparse = model.graph.sparse_initializer.add()
            sparse.values.CopyFrom(tensor)
        (bundle / "model.onnx").write_bytes(model.SerializeToString())
        restate(bundle, "model.onnx")

    return make


def _file(name: str, content: bytes) -> Make:
    def make(bundle: Path) -> None:
        (bundle / name).write_bytes(content)
        restate(bundle, name)

    return make


PLACES = ("initializer", "entries", "attribute", "list", "subgraph", "function", "sparse", "engine")
HOSTILE: dict[str, Make] = {
    **{
        f"path {path!r}": _listed(path)
        for path in ("../x", "/x", "a/../../x", "a//b", "./a", "C:\\x", "c:x", "a\\b", "a\0b", "manifest.json", "")
    },
    "golden file outside": _manifest(golden_file="../golden.jsonl"),
    "link": _link,
    "linked folder": _linked_folder,
    "pipe": _pipe,
    "folder for a file": lambda bundle: ((bundle / "README.md").unlink(), (bundle / "README.md").mkdir())[1],
    "too many files": lambda bundle: restate(
        bundle,
        change=lambda document: document["files"].update(
            {f"f{number}": {"sha256": "0" * 64, "bytes": 0} for number in range(1001)}
        ),
    ) and None,
    "huge size": _listed("golden.jsonl", bytes=2**60),
    "size beyond all numbers": _replaced('"bytes": ', '"bytes": 1' + "0" * 300),
    "negative size": _listed("golden.jsonl", bytes=-1),
    "large manifest": _raw(b" " * (2**20 + 1)),
    "deep manifest": _manifest(provenance={"x": _nested(70)}),
    "endless nesting": _raw(b"[" * 100_000),
    "no JSON": _raw(b"\xff\xfe"),
    "empty manifest": _raw(b""),
    "list": _raw(b"[]"),
    "decimal for a whole number": _replaced('"schema_version": 1', '"schema_version": 1.0'),
    "text for a number": _manifest(tolerance="0.1"),
    "not a number": _replaced('"tolerance": ', '"tolerance": NaN, "was": '),
    "newer schema": _manifest(schema_version=2),
    "unknown task": _manifest(task="__proto__"),
    "labels twice": _replaced('"labels": ["animal"', '"labels": ["place"'),
    "half a pair": _manifest(name="\ud800"),
    "signature as a file": _listed("manifest.json.sig"),
    "graph of another kind": _manifest(graph="golden.jsonl"),
    "65 deep": _manifest(provenance={"x": _nested(63)}),
    "a key twice": _replaced('"name": ', '"name": "other", "name": '),
    "many digits": _replaced('"name": ', '"unknown": 1' + "0" * 200 + ', "name": '),
    "golden id below zero": _file("golden.jsonl", b'{"text":"a","input_ids":[-1],"logits":[1,2,3],"label":"person"}'),
    "deep golden": _file("golden.jsonl", b"[" * 5000 + b"\n"),
    "deep tokenizer": _file("tokenizer.json", b'{"model":' * 5000),
    "no tokenizer": _file("tokenizer.json", b"[]"),
    "engine's own format": _file("model.onnx", b"\x08\x00\x00\x00ORTM" + b"\0" * 100),
    "no graph": _file("model.onnx", b"\x08\x0a"),
    "cut graph": lambda bundle: _file("model.onnx", (bundle / "model.onnx").read_bytes()[:-9])(bundle),
    **{
        f"external data: {place}": _external(place)
        for place in PLACES
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def hostile_reports(
    node_app: Path, small_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    bundles = []
    for number, make in enumerate(HOSTILE.values()):
        bundle = shutil.copytree(small_bundle, folder / str(number) / "bundle")
        make(bundle)
        bundles.append((bundle, None))
    return dict(zip(HOSTILE, verify_all(node_app, bundles, folder / "list"), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(hostile_reports: dict[str, dict[str, Any]], name: str) -> None:
    report = hostile_reports[name]
    assert not report["ok"]
    assert report["checks"], report  # as a failed check, and not as an error of ours
    assert not report["checks"][-1]["ok"] or not all(check["ok"] for check in report["checks"])


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_named_as_the_reason(hostile_reports: dict[str, dict[str, Any]], place: str) -> None:
    checks = {check["name"]: check for check in hostile_reports[f"external data: {place}"]["checks"]}
    kept = "an engine in another file" if place == "engine" else "weights in other files"
    assert checks["load"]["detail"] == f"model.onnx keeps {kept}"


def test_a_signed_bundle_verifies_and_a_changed_one_does_not(
    node_app: Path, signed: tuple[Path, Path], small_bundle: Path, tmp_path: Path
) -> None:
    bundle, key = signed
    rng = random.Random(3)
    changed = []
    for name in (
        "model.onnx",
        "manifest.json",
        "tokenizer.json",
        "golden.jsonl",
        "manifest.json.sig",
        "README.md",
    ):
        for kind in ("flip", "more", "less"):
            copy = shutil.copytree(bundle, tmp_path / f"{name}-{kind}")
            content = bytearray((copy / name).read_bytes())
            if kind == "flip":
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            (copy / name).write_bytes(
                {"flip": bytes(content), "more": bytes(content) + b" ", "less": bytes(content[:-1])}[kind]
            )
            changed.append((copy, key))
    restated = shutil.copytree(bundle, tmp_path / "restated")
    (restated / "golden.jsonl").write_bytes((bundle / "golden.jsonl").read_bytes() + b"\n")
    changed.append((restate(restated, "golden.jsonl"), key))
    good, unsigned, *rest = verify_all(
        node_app, [(bundle, key), (small_bundle, key), *changed], tmp_path / "list"
    )
    assert good["ok"]
    assert [check["name"] for check in good["checks"]][:3] == ["signature", "manifest", "files"]
    assert unsigned["checks"] == [
        {"name": "signature", "ok": False, "detail": "there is no manifest.json.sig"}
    ]
    assert [report["ok"] for report in rest] == [False] * len(changed)
    # What was not signed is not parsed: a file that was changed ends it, before golden samples or graph.
    assert {len(report["checks"]) for report in rest} == {1, 3}


def test_another_key_and_a_load_with_a_key(node_app: Path, signed: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, key = signed
    other = tmp_path / "other.pem"
    run(["node", "-e", SIGN, str(shutil.copytree(bundle, tmp_path / "by-another")), str(other)])
    argv = ["node", str(node_app / "pocketformer-cli.mjs")]
    run([*argv, "verify", str(bundle), "--key", str(other)], code=5)
    texts = tmp_path / "texts"
    texts.write_text('{"text": "a king"}\n')
    assert run([*argv, "answers", str(bundle), str(texts), "--key", str(key)]).startswith('{"input_ids":[')
    run([*argv, "answers", str(bundle), str(texts), "--key", str(other)], code=5)


def test_a_golden_score_that_the_logits_do_not_give_fails(
    node_app: Path, small_bundle: Path, tmp_path: Path
) -> None:
    reports = []
    for name, factor in (("right", 1.0), ("wrong", 1.001)):
        bundle = shutil.copytree(small_bundle, tmp_path / name)
        rows = [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]
        for row in rows:
            powers = [2.718281828459045**value for value in row["logits"]]
            row["score"] = factor * max(powers) / sum(powers)
        (bundle / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        reports.append((restate(bundle, "golden.jsonl"), None))
    right, wrong = verify_all(node_app, reports, tmp_path / "list")
    assert right["ok"]
    assert [check["name"] for check in wrong["checks"] if not check["ok"]] == ["labels"]
