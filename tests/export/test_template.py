"""A resized template must be the graph that a real export of that structure is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from pocketformer.compress.random_student import random_student
from pocketformer.export.first_position import compute_first_position_only
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.graph_file import load_graph, random_feeds
from pocketformer.export.onnx_export import export_onnx
from pocketformer.export.template import Widths, resize_graph, unmistakable_widths
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import ExportError, InputError
from pocketformer.runtime.manifest import SessionSettings

ORDINARY, LAST = unmistakable_widths(2, head_size=8, taken=(32, 8, 64, 3))
WANTED, WANTED_LAST = Widths(3, 24), Widths(1, 40)


def narrow(model_dir: Path, layers: list[Widths], folder: Path) -> dict[str, Path]:
    """The plain and the fused graph of a student of these widths, whose last layer computes one position."""
    folder.mkdir()
    pairs = [(widths.heads, widths.ffn) for widths in layers]
    plain = export_onnx(random_student(model_dir, pairs), model_dir, folder / "m.onnx").output
    heads = [count for count, _ in pairs]
    fused = fuse_for_onnxruntime(
        plain, folder / "f.onnx", heads=heads, hidden_size=32, fuse_embeddings=False
    ).output
    return {
        kind: compute_first_position_only(graph, folder / f"{kind}.onnx").output
        for kind, graph in (("plain", plain), ("fused", fused))
    }


@pytest.fixture(scope="module")
def templates(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return narrow(tiny_model_dir, [ORDINARY, ORDINARY, LAST], tmp_path_factory.mktemp("template") / "t")


@pytest.fixture(scope="module")
def exported(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return narrow(tiny_model_dir, [WANTED, WANTED, WANTED_LAST], tmp_path_factory.mktemp("real") / "r")


def shape_of(path: Path) -> tuple[list[str], Counter[tuple[int, ...]], list[int]]:
    """Operators in their order, shapes of weights, and heads of fused attention."""
    graph: onnx.GraphProto = load_graph(path).graph
    heads = [a.i for node in graph.node for a in node.attribute if a.name == "num_heads"]
    return [n.op_type for n in graph.node], Counter(tuple(i.dims) for i in graph.initializer), heads


@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_a_resized_template_is_what_an_export_would_be(
    templates: dict[str, Path], exported: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    resized = resize_graph(
        templates[kind], tmp_path / "r.onnx", {ORDINARY: WANTED, LAST: WANTED_LAST}, head_size=8
    )
    assert shape_of(resized) == shape_of(exported[kind])
    assert (kind == "fused") == bool(shape_of(resized)[2])
    feeds = random_feeds(load_graph(resized), 2, 9)
    assert OnnxRuntimeEngine(resized, SessionSettings(intra_op_threads=1)).run(feeds).shape == (2, 3)


def test_widths_that_are_not_in_the_graph_are_an_error(exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no layers of the widths"):
        resize_graph(exported["fused"], tmp_path / "r.onnx", {ORDINARY: WANTED}, head_size=8)


def numbers(widths: Widths, head_size: int) -> set[int]:
    return {widths.ffn} | {p * widths.heads * s for p in (1, 3) for s in (1, head_size)}


@pytest.mark.parametrize("head_size", [8, 32, 64, 128])
def test_no_number_of_a_template_stands_for_two_things(head_size: int) -> None:
    taken = {23, 384, 3072, head_size, 29 * head_size, 1523}
    first, second = unmistakable_widths(2, head_size=head_size, taken=taken)
    assert not numbers(first, head_size) & numbers(second, head_size)
    assert not (numbers(first, head_size) | numbers(second, head_size)) & taken


def test_more_widths_than_there_are_is_an_error() -> None:
    with pytest.raises(InputError, match="there are no 20 widths"):
        unmistakable_widths(20, head_size=32, taken=())


def test_a_student_of_any_structure_answers(tiny_model_dir: Path) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    student = random_student(tiny_model_dir, [(6, 7), (1, 100)], vocabulary=20)
    assert torch.equal(torch.rand(1), expected), "other random numbers of the run must go on as they were"
    assert student(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3)
    assert student.config.vocab_size == 20
    with pytest.raises(InputError, match="layers are"):
        random_student(tiny_model_dir, [(0, 8)])
