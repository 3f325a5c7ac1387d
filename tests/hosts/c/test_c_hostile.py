"""Bundles that were made to harm are refused, under sanitizers and before anything outside of them is opened."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts.c.building import SANITIZED, Program, compile_c

Edit = Callable[[dict[str, Any]], object]


def _list(name: str) -> Edit:
    """The manifest lists a file of this name and takes it for its golden samples."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
        manifest["golden_file"] = name

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        *((_list(name), "golden_file must be") for name in ("../x", "a/../../x", "/etc/passwd", "a//b", "./a", "c:x",
                                                            "a\\b", "manifest.json", "", "a\0b", ".", "a/")),
        (lambda m: m["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}}), "under a path inside the bundle"),
        (lambda m: m["files"].update({str(n): {"sha256": "0" * 64, "bytes": 1} for n in range(1001)}), "1000 files"),
        (lambda m: m["files"]["model.onnx"].update(bytes=2**31 + 1), "at most 2147483648"),
        (lambda m: m["files"]["tokenizer.json"].update(bytes=2**26 + 1), "more than the 67108864 allowed"),
        (lambda m: m["files"]["golden.jsonl"].update(bytes=2**24 + 1), "more than the 16777216 allowed"),
        (lambda m: m["files"]["README.md"].update(bytes=2**70), "at most 2147483648"),
        (lambda m: m["files"]["golden.jsonl"].update(bytes=-1), "a whole number"),
        (lambda m: m["files"]["golden.jsonl"].update(bytes=1.5), "a whole number"),
        (lambda m: m["files"]["golden.jsonl"].update(sha256="F" * 64), "64 lower-case"),
        (lambda m: m["files"].pop("model.onnx"), "graph must be a file listed"),
        (lambda m: m["files"].update({"model.onnx": [1]}), "an object"),
        (lambda m: m.update(schema_version=2), "reads up to 1"),
        (lambda m: m.update(schema_version=True), "schema_version must be"),
        (lambda m: m.update(tolerance="0"), "tolerance must be"),
        (lambda m: m.update(inputs={}), "inputs must be a list"),
        (lambda m: m["inputs"][0].update(name="pixels"), "one of input_ids"),
        (lambda m: m["inputs"][0].update(dtype="float32"), "'int64'"),
        (lambda m: m["postprocessing"].update(labels=["a", "a", "b"]), "repetition"),
        (lambda m: m["session"].update(intra_op_threads=10**6), "at most 1024"),
        (lambda m: m["session"].update(spinning=1), "true or false"),
        (lambda m: m["preprocessing"].update(max_length=2**40), "at most 1048576"),
        (lambda m: m.update(graph="model.xml"), "ends in .onnx"),
        (lambda m: m.update(graph="golden.jsonl"), "ends in .onnx"),
        (lambda m: m.update(graph="model.xml", engine={"name": "openvino"}), "file listed"),
        (lambda m: m.update(name="\ud800"), "half a surrogate pair"),
        (lambda m: m.update(seed=10**101), "more than 100 digits"),
        (lambda m: m["files"].update({"manifest.json.sig": {"sha256": "0" * 64, "bytes": 1}}), "a path inside"),
        (lambda m: m.pop("name"), "name is missing"),
    ],
)  # fmt: skip
def test_manifests(sanitized: Program, changed: Callable[..., Path], edit: Edit, told: str) -> None:
    checks = sanitized.checks(changed(edit=edit), code=5)
    assert list(checks) == ["manifest"]
    assert told in checks["manifest"], checks["manifest"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "a value is expected"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (b"{}", "schema_version is missing"),
        (b'{"name": "\xff"}', "not UTF-8"),
        (b'{"a": 1,}', "a comma is not followed"),
        (b'{"a": 01}', "begins with 0"),
        (b'{"a": NaN}', "a value is expected"),
        (b'{"a": "\n"}', "control character"),
        (b'{"a": "\\x"}', "unknown escape"),
        (b"{} {}", "something follows"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "twice"),
        (b" " * (2**20 + 1), "more than the 1048576 allowed"),
    ],
)
def test_manifests_that_are_no_json(
    sanitized: Program, changed: Callable[..., Path], content: bytes, told: str
) -> None:
    bundle = changed()
    (bundle / "manifest.json").write_bytes(content)
    checks = sanitized.checks(bundle, code=5)
    assert list(checks) == ["manifest"]
    assert told in checks["manifest"], checks["manifest"]


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "model.onnx", "README.md", "deep/file"])
def test_links(sanitized: Program, changed: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Outside lies a pipe: whoever opens it for reading waits for ever."""
    os.mkfifo(tmp_path / "outside")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder/file")
    bundle = changed(
        edit=lambda m: (
            m["files"].update({"deep/file": {"sha256": "0" * 64, "bytes": 0}})
            if name == "deep/file"
            else None
        )
    )
    if name == "deep/file":
        (bundle / "deep").symlink_to(tmp_path / "folder")
    else:
        (bundle / name).unlink()
        (bundle / name).symlink_to(tmp_path / "outside")
    checks = sanitized.checks(bundle, code=5)
    last = list(checks)[-1]
    assert (last, "symbolic link" in checks[last]) == (
        "manifest" if name == "manifest.json" else "files",
        True,
    )


def test_files_that_are_none(sanitized: Program, changed: Callable[..., Path]) -> None:
    bundle = changed()
    for name in ("tokenizer.json", "README.md", "golden.jsonl"):
        (bundle / name).unlink()
    os.mkfifo(bundle / "tokenizer.json")
    (bundle / "README.md").mkdir()
    checks = sanitized.checks(bundle, code=5)
    assert "README.md is no regular file" in checks["files"]
    assert "tokenizer.json is no regular file" in checks["files"]
    assert "golden.jsonl is missing" in checks["files"]


def test_damaged_files(sanitized: Program, changed: Callable[..., Path], small_bundle: Path) -> None:
    graph = bytearray((small_bundle / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    checks = sanitized.checks(changed({"model.onnx": bytes(graph)}, listed=False, name="flipped"), code=5)
    assert list(checks) == ["manifest", "files"]
    assert checks["files"] == "FAIL model.onnx has another SHA-256 than the manifest says"
    checks = sanitized.checks(changed({"model.onnx": b"short"}, listed=False, name="short"), code=5)
    assert "model.onnx has 5 bytes instead of" in checks["files"]


def external_graphs(graph: bytes) -> dict[str, bytes]:
    """A graph with external data in every place where a tensor can stand."""
    import onnx
    from onnx import TensorProto, helper

    def tensor() -> TensorProto:
        made = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1])
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value="../outside")
        return made

    def sparse() -> onnx.SparseTensorProto:
        return onnx.SparseTensorProto(values=tensor(), dims=[1])

    found = {}
    for place in (
        "initializer", "sparse", "attribute", "tensors", "subgraph", "graphs", "function", "training", "unsaid",
        "sparse attribute",
    ):  # fmt: skip
        model = onnx.ModelProto.FromString(graph)
        inner = onnx.GraphProto(initializer=[tensor()])
        if place == "initializer":
            model.graph.initializer.append(tensor())
        elif place == "unsaid":  # the location alone, without data_location
            model.graph.initializer.append(tensor())
            model.graph.initializer[-1].data_location = TensorProto.DEFAULT
        elif place == "sparse":
            model.graph.sparse_initializer.append(sparse())
        elif place == "function":
            node = helper.make_node("Constant", [], ["c"], value=tensor())
            model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[node]))
        elif place == "training":
            model.training_info.append(onnx.TrainingInfoProto(algorithm=inner))
        else:
            attribute = onnx.AttributeProto(name="x")
            if place == "attribute":
                attribute.t.CopyFrom(tensor())
            elif place == "tensors":
                attribute.tensors.append(tensor())
            elif place == "subgraph":
                attribute.g.CopyFrom(inner)
            elif place == "graphs":
                attribute.graphs.append(inner)
            else:
                attribute.sparse_tensor.CopyFrom(sparse())
            model.graph.node[0].attribute.append(attribute)
        found[place] = model.SerializeToString()
    return found


def test_graphs_with_data_elsewhere(
    sanitized: Program, changed: Callable[..., Path], small_bundle: Path, tmp_path: Path
) -> None:
    import onnx

    os.mkfifo(tmp_path / "outside")
    graph = (small_bundle / "model.onnx").read_bytes()
    graphs = external_graphs(graph)
    assert len(graphs) == 10
    for place, content in graphs.items():
        checks = sanitized.checks(changed({"model.onnx": content}, name=place), code=5)
        assert "external data" in checks["load"], (place, checks)
    engine = onnx.ModelProto.FromString(graph)
    engine.graph.node[0].op_type = "EPContext"
    engine_bundle = changed({"model.onnx": engine.SerializeToString()}, name="engine")
    assert "EPContext" in sanitized.checks(engine_bundle, code=5)["load"]
    own = changed({"model.onnx": graph[:4] + b"ORTM" + graph[8:]}, name="own")
    assert "own format" in sanitized.checks(own, code=5)["load"]
    cut = changed({"model.onnx": graph[: len(graph) // 2]}, name="cut")
    assert "no well-formed ONNX" in sanitized.checks(cut, code=5)["load"]
    empty = changed({"model.onnx": b""}, name="empty")
    assert "cannot load" in sanitized.checks(empty, code=5)["load"]


@pytest.mark.parametrize(
    ("edit", "check", "told"),
    [
        (lambda row: row.update(input_ids=[2, 3]), "tokenizer", "gives "),
        (lambda row: row.update(input_ids=[2, 10**9, 3]), "logits", "the graph failed"),
        (lambda row: row.update(input_ids=[]), "tokenizer", "gives "),
        (lambda row: row["logits"].__setitem__(0, row["logits"][0] + 1), "logits", "differs by 1"),
        (lambda row: row["logits"].pop(), "logits", "2 golden logits for 3 labels"),
        (lambda row: row.update(label="nobody"), "labels", "golden label 'nobody'"),
        (lambda row: row.update(score=0.01), "labels", "golden score 0.01"),
        (lambda row: row.update(logits=["1"]), "golden", "line 1: logits must be"),
        (lambda row: row.update(input_ids=[-1]), "golden", "line 1: input_ids must be"),
        (lambda row: row.update(score=2), "golden", "line 1: score must be"),
        (lambda row: row.update(input_ids=[2.5]), "golden", "line 1: input_ids must be"),
        (lambda row: row.clear(), "golden", "line 1: text and label"),
    ],
)
def test_golden_samples_that_lie(
    sanitized: Program, changed: Callable[..., Path], small_bundle: Path, edit: Edit, check: str, told: str
) -> None:
    rows = [json.loads(line) for line in (small_bundle / "golden.jsonl").read_text().splitlines()]
    edit(rows[0])
    text = "".join(json.dumps(row) + "\n" for row in rows)
    checks = sanitized.checks(changed({"golden.jsonl": text.encode()}), code=5)
    assert checks[check].startswith("FAIL ")
    assert told in checks[check], checks


def test_a_bundle_for_another_engine(program: Program, changed: Callable[..., Path]) -> None:
    bundle = changed(edit=lambda m: m.update(engine={"name": "openvino", "minimum_version": "2024.5"}))
    done = program.run("verify", bundle)
    assert (done.returncode, "the bundle is for openvino" in done.stderr) == (4, True)


def test_readers_of_damaged_files(small_bundle: Path, tmp_path: Path) -> None:
    """Thousands of changed manifests, tokenizers, samples and graphs in one process, under sanitizers."""
    fuzz = compile_c(Path(__file__).with_name("fuzz_readers.c"), tmp_path / "fuzz", *SANITIZED)
    graph = tmp_path / "graph"
    graph.write_bytes((small_bundle / "model.onnx").read_bytes()[:8192])
    names = ("manifest.json", "tokenizer.json", "golden.jsonl")
    argv = [fuzz, "4000", *(small_bundle / name for name in names), graph]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    rounds, _, taken = done.stdout.partition(" rounds, ")
    # Many changes leave a file whole: were it none, the readers would not have been reached.
    assert (rounds, int(taken.split()[0]) > 100) == ("4000", True), done.stdout
