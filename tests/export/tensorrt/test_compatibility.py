"""Bad graphs on purpose: each rejected node is named, with the parser's reason and what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence.planted_graphs import PLANTED, Planted, node, write_planted

from pocketformer.export.tensorrt.compatibility import check_compatibility, explain, require_compatible
from pocketformer.runtime.errors import ExportError, ModelError
from pocketformer.runtime.tensorrt.config import PRECISIONS
from pocketformer.runtime.tensorrt.library import Library
from pocketformer.runtime.tensorrt.parser import Complaint, ask_parser


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_rejected_node_is_named_with_reason_and_fix(
    planted: Planted, library: Library, tmp_path: Path
) -> None:
    rejected = {
        r.node: r for r in check_compatibility(write_planted(planted, tmp_path / "bad.onnx"), library)
    }
    assert planted.bad in rejected, rejected
    found = rejected[planted.bad]
    assert (found.operator, found.domain) == (planted.operator, planted.domain)
    assert found.reason
    assert planted.fix in found.fix
    assert found.to_dict()["node"] == planted.bad


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_complaints_of_another_machine_are_explained_as_ones_own(
    planted: Planted, library: Library, tmp_path: Path
) -> None:
    graph = write_planted(planted, tmp_path / "bad.onnx")
    complaints = ask_parser(graph.read_bytes(), library)
    sent = tuple(Complaint(**complaint.to_dict()) for complaint in complaints)
    assert explain(graph, sent) == check_compatibility(graph, library)


def test_an_opset_that_is_too_new_is_told(library: Library, tmp_path: Path) -> None:
    planted = Planted("future", (node("Relu", "x", "y"),), "Relu", "opset", opset=99)
    (found,) = check_compatibility(write_planted(planted, tmp_path / "bad.onnx"), library)
    assert "opset 99" in found.fix
    assert "opset 99 is newer" in found.reason
    with pytest.raises(ExportError, match="opset 99 is newer"):
        require_compatible(tmp_path / "bad.onnx", library)


def test_all_of_a_graph_is_looked_through(library: Library, tmp_path: Path) -> None:
    nodes = (
        node("Frobnicate", "x", "a", name="first"),
        node("Relu", "a", "b", name="fine"),
        node("FastPath", "b", "y", name="second", domain="example.company"),
    )
    path = write_planted(Planted("two", nodes, "", ""), tmp_path / "bad.onnx")
    assert [r.node for r in check_compatibility(path, library)] == ["first", "second"]
    with pytest.raises(ExportError) as caught:
        require_compatible(path, library)
    assert "rejects 2 nodes" in caught.value.message
    assert all(word in caught.value.message for word in ("first", "second", "example.company.FastPath"))
    assert "another domain" in str(caught.value.hint)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_typed_graphs_are_taken(precision: str, typed_graphs: dict[str, Path], library: Library) -> None:
    assert check_compatibility(typed_graphs[precision], library) == ()


def test_a_file_that_is_no_graph_is_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ONNX file"):
        check_compatibility(tmp_path / "none.onnx", library)
