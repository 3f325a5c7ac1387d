"""Bundles made to mislead, each by one trait, its hashes right: only a reader that looks out for it refuses it.

Beside each lies a folder ``outside`` with good copies of the bundle's files, so that a reader which follows a path or
a link out of the bundle finds what it wants and is caught by having opened it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from pocketformer.runtime.manifest import MANIFEST_FILE, file_entry

OUTSIDE = "outside"
Document = dict[str, Any]
Make = Callable[[Path, Path], None]
_IN_ACCESS, _IN_OPEN = 0x1, 0x20


@dataclass(frozen=True)
class Hostile:
    """A name that says what is wrong, and what makes a good bundle so: ``make(bundle, outside)``."""

    name: str
    make: Make


class Watch:
    """Which files directly in ``folder`` were opened or read since, by any process (inotify(7), Linux)."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        path = os.fsencode(folder)
        if (
            self._descriptor < 0
            or self._libc.inotify_add_watch(self._descriptor, path, _IN_ACCESS | _IN_OPEN) < 0
        ):
            raise OSError(ctypes.get_errno(), "inotify cannot watch", str(folder))

    def opened(self) -> list[str]:
        """Their names since the last call; the folder itself is ``.``."""
        try:
            events = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        names = []
        while events:
            length = struct.unpack_from("iIII", events)[3]
            names.append(events[16 : 16 + length].rstrip(b"\0").decode() or ".")
            events = events[16 + length :]
        return sorted(set(names))

    def close(self) -> None:
        os.close(self._descriptor)


def plant(case: Hostile, source: Path, folder: Path) -> tuple[Path, Path]:
    """Copy the good bundle ``source`` into ``folder`` twice, and spoil one: (bundle, outside)."""
    bundle, outside = folder / "bundle", folder / OUTSIDE
    for place in (bundle, outside):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
    case.make(bundle, outside)
    return bundle, outside


def edit(bundle: Path, change: Callable[[Document], object]) -> None:
    """Change the manifest in place."""
    path = bundle / MANIFEST_FILE
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def restate(bundle: Path, name: str) -> None:
    """Make the manifest say what the file ``name`` is now."""
    entry = file_entry(bundle / name)
    edit(
        bundle,
        lambda document: document["files"].update({name: {"sha256": entry.sha256, "bytes": entry.bytes}}),
    )


def _path(shown: str, name: Callable[[Path], str]) -> Hostile:
    """The tokenizer is looked for under another name, with the right size and hash of the file there."""

    def make(bundle: Path, outside: Path) -> None:
        def change(document: Document) -> None:
            document["preprocessing"]["tokenizer_file"] = name(outside)
            document["files"][name(outside)] = document["files"].pop("tokenizer.json")

        edit(bundle, change)

    return Hostile(f"path {shown}", make)


def _link(name: str) -> Hostile:
    def make(bundle: Path, outside: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).symlink_to(outside / name)

    return Hostile(f"{name} is a link", make)


def _linked_folder(bundle: Path, outside: Path) -> None:
    (bundle / "sub").symlink_to(outside)

    def change(document: Document) -> None:
        document["golden_file"] = "sub/golden.jsonl"
        document["files"]["sub/golden.jsonl"] = document["files"]["golden.jsonl"]

    edit(bundle, change)


def _pipe(bundle: Path, _: Path) -> None:
    (bundle / "golden.jsonl").unlink()
    os.mkfifo(bundle / "golden.jsonl")
    edit(bundle, lambda document: document["files"]["golden.jsonl"].update(bytes=0))


def _folder_as_file(bundle: Path, _: Path) -> None:
    (bundle / "golden.jsonl").unlink()
    (bundle / "golden.jsonl").mkdir()
    size = (bundle / "golden.jsonl").stat().st_size
    edit(bundle, lambda document: document["files"]["golden.jsonl"].update(bytes=size))


def _sparse(name: str, size: int) -> Hostile:
    """A file that takes no room on the disk and would take all the memory."""

    def make(bundle: Path, _: Path) -> None:
        os.truncate(bundle / name, size)
        edit(bundle, lambda document: document["files"][name].update(bytes=size))

    return Hostile(f"{name} of {size} bytes", make)


def _set(where: str, value: object, shown: str | None = None) -> Hostile:
    def make(bundle: Path, _: Path) -> None:
        def change(document: Document) -> None:
            *above, last = where.split("/")
            node: Any = document
            for key in above:
                node = node[int(key)] if isinstance(node, list) else node[key]
            node[int(last) if isinstance(node, list) else last] = value

        edit(bundle, change)

    return Hostile(f"{where} is {shown or json.dumps(value)}", make)


def _manifest(shown: str, content: Callable[[str], bytes]) -> Hostile:
    def make(bundle: Path, _: Path) -> None:
        path = bundle / MANIFEST_FILE
        path.write_bytes(content(path.read_text(encoding="utf-8")))

    return Hostile(f"manifest {shown}", make)


def _golden(shown: str, line: Callable[[Document], str]) -> Hostile:
    def make(bundle: Path, _: Path) -> None:
        path = bundle / "golden.jsonl"
        first, *others = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([line(json.loads(first)), *others]) + "\n", encoding="utf-8")
        restate(bundle, "golden.jsonl")

    return Hostile(f"golden {shown}", make)


def _many_files(bundle: Path, _: Path) -> None:
    def change(document: Document) -> None:
        entry = document["files"]["README.md"]
        for index in range(1000):
            shutil.copyfile(bundle / "README.md", bundle / f"copy{index}")
            document["files"][f"copy{index}"] = entry

    edit(bundle, change)


def _graph(shown: str, change: Callable[[Any, Any], None]) -> Hostile:
    """``change(model, tensor)``; the tensor's values are the first ones in ``outside/model.onnx``."""

    def make(bundle: Path, _: Path) -> None:
        path = bundle / "model.onnx"
        model = onnx.load(str(path))
        values = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[0]), "outside")
        external = TensorProto(name="outside", data_type=values.data_type, dims=values.dims)
        external.data_location = TensorProto.EXTERNAL
        external.external_data.add(key="location", value=f"../{OUTSIDE}/model.onnx")
        external.external_data.add(key="length", value=str(len(values.raw_data)))
        change(model, external)
        path.write_bytes(model.SerializeToString())
        restate(bundle, "model.onnx")

    return Hostile(f"external data in {shown}", make)


def _initializer(model: Any, tensor: Any) -> None:
    tensor.name = model.graph.initializer[0].name
    model.graph.initializer[0].CopyFrom(tensor)


def _absolute(model: Any, tensor: Any) -> None:
    _initializer(model, tensor)
    model.graph.initializer[0].external_data[0].value = "/etc/hostname"


def _unmarked(model: Any, tensor: Any) -> None:
    tensor.ClearField("data_location")
    _initializer(model, tensor)


def _constant(tensor: Any) -> Any:
    return helper.make_node("Constant", [], ["outside"], value=tensor)


def _subgraph(model: Any, tensor: Any) -> None:
    output = helper.make_tensor_value_info("outside", tensor.data_type, None)
    branch = helper.make_graph([_constant(tensor)], "branch", [], [output])
    model.graph.node.add().CopyFrom(
        helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch)
    )


def _function(model: Any, tensor: Any) -> None:
    opset = [helper.make_opsetid("", 17)]
    model.functions.add().CopyFrom(
        helper.make_function("local", "Outside", [], ["outside"], [_constant(tensor)], opset)
    )


def _sparse_initializer(model: Any, tensor: Any) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.dims.extend([1 << 20])


_TWO_GIB = 2**31
_DEEP = 65
_WRONG_TYPES: Mapping[str, object] = {
    "schema_version": "1",
    "name": 3,
    "graph": None,
    "inputs": {},
    "inputs/0": "input_ids",
    "inputs/0/name": ["input_ids"],
    "outputs": [],
    "preprocessing": [],
    "preprocessing/max_length": 16.5,
    "preprocessing/pad_id": "0",
    "postprocessing/labels": "ABCDEF",
    "postprocessing/labels/0": None,
    "session/spinning": 1,
    "session/intra_op_threads": -1,
    "tolerance": "0.1",
    "golden_file": 7,
    "runtime": {"name": 1},
    "provenance": "me",
    "files": [],
    "files/model.onnx": "model.onnx",
    "files/model.onnx/sha256": 0,
    "files/model.onnx/bytes": True,
}

HOSTILE: tuple[Hostile, ...] = (
    _path("up and out", lambda _: f"../{OUTSIDE}/tokenizer.json"),
    _path("down, up and out", lambda _: f"sub/../../{OUTSIDE}/tokenizer.json"),
    _path("absolute", lambda outside: str(outside / "tokenizer.json")),
    _path("with a dot", lambda _: "./tokenizer.json"),
    _path("with an empty part", lambda _: "sub//tokenizer.json"),
    _path("with a backslash", lambda _: f"..\\{OUTSIDE}\\tokenizer.json"),
    _path("with a drive", lambda _: "C:tokenizer.json"),
    _path("with a NUL", lambda _: "tokenizer.json\0.txt"),
    _path("of the manifest", lambda _: MANIFEST_FILE),
    *map(_link, ("model.onnx", "tokenizer.json", "golden.jsonl", "README.md", MANIFEST_FILE)),
    Hostile("a folder that is a link", _linked_folder),
    Hostile("a pipe", _pipe),
    Hostile("a folder in place of a file", _folder_as_file),
    _sparse("model.onnx", _TWO_GIB + 1),
    _sparse("tokenizer.json", 64 * 2**20 + 1),
    _sparse("golden.jsonl", 16 * 2**20 + 1),
    _set("files/model.onnx/bytes", 10**30),
    _set("files/model.onnx/bytes", -1),
    _set("preprocessing/max_length", 2**40),
    Hostile("1,000 files more", _many_files),
    _manifest("of more than 1 MiB", lambda text: text.encode() + b" " * 2**20),
    _manifest("that is no UTF-8", lambda text: text.encode().replace(b"minilm", b"mini\xff")[:-1] + b"\xff"),
    _manifest("with NaN", lambda text: text.replace('"tolerance": ', '"tolerance": NaN, "x": ').encode()),
    _manifest("of 100,000 lists", lambda _: b"[" * 100_000),
    _manifest("of 100,000 objects", lambda _: b'{"a":' * 100_000),
    _set("provenance", {"a": json.loads("[" * _DEEP + "]" * _DEEP)}, f"{_DEEP} lists deep"),
    _golden(
        f"{_DEEP} lists deep", lambda row: json.dumps({**row, "x": json.loads("[" * _DEEP + "]" * _DEEP)})
    ),
    _golden("of 100,000 lists", lambda _: "[" * 100_000),
    _golden("with more ids than max_length", lambda row: json.dumps({**row, "input_ids": [1] * 100_000})),
    _golden("with an id beyond 64 bits", lambda row: json.dumps({**row, "input_ids": [2**70]})),
    *(_set(where, value) for where, value in _WRONG_TYPES.items()),
    _graph("an initializer", _initializer),
    _graph("an initializer, absolute", _absolute),
    _graph("an initializer, not marked as such", _unmarked),
    _graph("an attribute", lambda model, tensor: model.graph.node.insert(0, _constant(tensor))),
    _graph("a graph inside a node", _subgraph),
    _graph("a function", _function),
    _graph("a sparse initializer", _sparse_initializer),
)
