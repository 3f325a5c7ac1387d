"""The stage that writes a bundle for LiteRT: convert the model, hold it against the fp32 ONNX graph, pack it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.deliver_stages import BundleConfig, pack_graph, publish
from pocketformer.runtime.errors import ParityError

# What the two may differ by on real texts. Dynamic-range int8 is another model by rounding: its labels are looked at.
_FLOAT_TOLERANCE = 1e-3
_COMPARED = 256


@dataclass(frozen=True, kw_only=True)
class LitertConfig:
    """``precision``: fp32, or int8 with activations rounded while it runs. ``golden``: samples that prove the bundle.

    ``same_labels``: the share of validation texts that must keep the label of the fp32 ONNX graph, in [0, 1].
    """

    precision: Literal["fp32", "int8"] = "int8"
    golden: int = 16
    same_labels: float = 0.95


def litert_stage(config: LitertConfig, context: RunContext, folder: Path) -> Made:
    """Write ``bundles/litert``: a bundle whose graph is ``model.tflite``, run by LiteRT."""
    from pocketformer.compress.models import load_classifier
    from pocketformer.export.agreement import compare_models
    from pocketformer.export.bundle import FLOAT_TOLERANCE, INTEGER_TOLERANCE
    from pocketformer.export.litert import signature_lengths, write_litert
    from pocketformer.export.onnx_export import model_inputs
    from pocketformer.export.variant import GraphForm, write_variant
    from pocketformer.runtime.manifest import LITERT, TensorSpec
    from pocketformer.runtime.model import load

    source = context.artefacts.need("model", verb="litert")
    graph = context.artefacts.need("graph", verb="litert")
    reference = pack_graph(BundleConfig(golden=config.golden), context, folder / "work" / "onnx", graph=graph)
    model = load_classifier(source)
    lengths = signature_lengths(context.recipe.max_length)
    written = write_litert(
        model,
        model_inputs(model, source),
        folder / "work" / "model.tflite",
        lengths=lengths,
        precision=config.precision,
    )
    plain = load(reference)
    bundle = write_variant(
        reference,
        folder / "bundle",
        GraphForm(
            graph=written.output,
            engine=LITERT,
            precision="fp32" if config.precision == "fp32" else "int8-dynamic",
            target=LITERT,
            tolerance=FLOAT_TOLERANCE if config.precision == "fp32" else INTEGER_TOLERANCE,
            inputs=tuple(TensorSpec(spec.name, "int32", spec.axes) for spec in plain.manifest.inputs),
        ),
    )
    texts = context.need_splits("litert").validation.texts[:_COMPARED]
    near = compare_models(plain, load(bundle), texts)
    allowed = _FLOAT_TOLERANCE if config.precision == "fp32" else float("inf")
    if not near.max_abs_difference <= allowed or near.same_share < config.same_labels:
        raise ParityError(
            f"model.tflite does not answer as the ONNX graph does: {near.sentence()}",
            hint="Try --precision fp32, or ship the ONNX bundle: onnxruntime runs on Android as well.",
        )
    publish(bundle, context.directory.path / "bundles" / LITERT)
    return Made(
        artefacts={"bundle": "bundle"},
        metrics={
            "file_mb": written.metrics["bytes"] / 1e6,
            "max_abs_difference": near.max_abs_difference,
            "same_label": near.same_share,
        },
        notes=(
            f"beside the fp32 ONNX graph: {near.sentence()}",
            f"signatures for texts of up to {', '.join(map(str, lengths))} tokens; nothing ran on a phone",
        ),
        details={"precision": config.precision, "engine": LITERT, "lengths": list(lengths)},
    )
