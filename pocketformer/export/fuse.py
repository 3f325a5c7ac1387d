"""Fuse an exported graph into the operators that onnxruntime runs fastest on CPU.

onnxruntime's own transformer optimizer does the rewriting. It reads the number of heads of each layer out of
the graph, so pruned layers with different numbers of heads fuse too; what it cannot read it leaves as it is.
Nothing is taken on trust: the heads found are compared with those of the model, and the fused graph must give
the logits of the plain one.

Attention and EmbedLayerNormalization are fused; SkipLayerNormalization and BiasGelu only on request, because
their kernels lose to what onnxruntime makes of single operators when it loads a graph. A dynamic int8 student
(3 layers of 8 heads, width 384, FFN 512) on one core with AVX2, onnxruntime 1.31, median milliseconds at
1 x 10, 1 x 32, 1 x 128 and 8 x 128 tokens, interleaved: plain graph 0.99, 2.30, 8.2, 64; everything fused
0.92, 2.43, 9.3, 75; attention alone 0.80, 2.03, 7.7, 61.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pocketformer.export.graph_file import load_graph, save_graph
from pocketformer.export.parity import check_rewrite
from pocketformer.runtime.errors import ExportError
from pocketformer.runtime.results import StepResult

FUSED_OPERATORS = ("Attention", "SkipLayerNormalization", "BiasGelu", "EmbedLayerNormalization")
TOLERANCE = 1e-4


def fuse_for_onnxruntime(
    onnx_path: Path,
    output: Path,
    *,
    heads: Sequence[int],
    hidden_size: int,
    fuse_embeddings: bool = True,
    fuse_norms: bool = False,
    any_mask: bool = True,
    tolerance: float = TOLERANCE,
) -> StepResult[Path]:
    """Write the fused form of the fp32 graph ``onnx_path`` to ``output``.

    ``heads`` is the number of attention heads of each layer, in order; ``hidden_size`` the model's width.
    ``fuse_embeddings`` False leaves the embedding look-ups as single nodes, which is what quantizing the
    tables needs. ``fuse_norms`` also fuses layer normalizations with their residuals and activations with
    their biases; that is off because it is slower: see the module's text. ``any_mask`` False assumes that
    texts are padded on the right only, as the runtime pads: the mask then becomes a length. On the student above
    that gained nothing that could be measured.

    Metrics: how many of each of ``FUSED_OPERATORS`` there are (``Attention`` and so on),
    ``max_abs_difference`` and ``bytes``. Notes name the layers that stayed unfused. Raises ``ParityError``
    when fused and plain logits differ by more than ``tolerance``, ``ExportError`` when the optimizer fails.
    """
    plain = load_graph(onnx_path)
    fused = _optimized(
        onnx_path, plain, fuse_embeddings=fuse_embeddings, fuse_norms=fuse_norms, any_mask=any_mask
    )
    save_graph(fused, output)
    difference = check_rewrite(
        onnx_path,
        output,
        tolerance=tolerance,
        what="fusing",
        hint="Ship the plain graph: leave the fused candidates out.",
    )
    counts = dict.fromkeys(FUSED_OPERATORS, 0)
    for node in fused.graph.node:
        if node.op_type in counts:
            counts[node.op_type] += 1
    metrics = {name: float(count) for name, count in counts.items()}
    metrics["max_abs_difference"] = difference
    metrics["bytes"] = float(output.stat().st_size)
    notes = _notes(fused, counts, heads, hidden_size, fuse_norms=fuse_norms)
    return StepResult(output=output, metrics=metrics, notes=notes)


def _optimized(
    onnx_path: Path, plain: Any, *, fuse_embeddings: bool, fuse_norms: bool, any_mask: bool
) -> Any:
    with _quiet():
        try:
            from onnxruntime.transformers import optimizer
            from onnxruntime.transformers.fusion_options import FusionOptions

            options = FusionOptions("bert")
            options.enable_embed_layer_norm = fuse_embeddings
            options.enable_skip_layer_norm = fuse_norms
            options.enable_bias_skip_layer_norm = fuse_norms
            options.enable_bias_gelu = fuse_norms
            options.enable_gelu = fuse_norms
            options.use_raw_attention_mask(any_mask)
            # 0 and 0: the optimizer reads both from the graph, layer by layer. Stating the model's own
            # figures would make it distrust a pruned layer.
            optimized = optimizer.optimize_model(
                str(onnx_path),
                "bert",
                num_heads=0,
                hidden_size=0,
                opt_level=1,
                use_gpu=False,
                optimization_options=options,
            )
        except Exception as error:  # its passes assert on shapes that they did not expect
            raise ExportError(
                f"onnxruntime's optimizer failed on {onnx_path}: {type(error).__name__} {error}",
                hint="Ship the plain graph: leave the fused candidates out.",
            ) from error
    model = optimized.model
    # The optimizer may reorder the inputs; hosts that feed by position must not notice.
    order = [item.name for item in plain.graph.input]
    inputs = sorted(model.graph.input, key=lambda item: order.index(item.name))
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _notes(
    fused: Any, counts: dict[str, int], heads: Sequence[int], hidden_size: int, *, fuse_norms: bool
) -> list[str]:
    found = [
        int(attribute.i)
        for node in fused.graph.node
        if node.op_type == "Attention"
        for attribute in node.attribute
        if attribute.name == "num_heads"
    ]
    notes = []
    if found != list(heads):
        notes.append(
            f"attention fused in {len(found)} of {len(heads)} layers (heads {found}, the model has "
            f"{list(heads)} at width {hidden_size}); the others keep single operators"
        )
    if not fuse_norms:
        return notes
    if counts["SkipLayerNormalization"] < 2 * len(heads):
        notes.append(
            f"{counts['SkipLayerNormalization']} of {2 * len(heads)} layer normalizations "
            "fused with their residual"
        )
    if counts["BiasGelu"] < len(heads):
        notes.append(f"{counts['BiasGelu']} of {len(heads)} activations fused with their bias")
    return notes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the optimizer's chatter, and give back the import path that it extends."""
    previous, path = logging.root.manager.disable, list(sys.path)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        sys.path[:] = path
