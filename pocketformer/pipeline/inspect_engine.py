"""What a TensorRT engine is, read from what stands beside it: nothing but its own GPU can look into one."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pocketformer.pipeline.inspection import Inspection

_SHOWN = 8  # types of layers
_EXTRAS = {
    "tensorrt_rtx": "pip install 'pocketformer[tensorrt-rtx]'",
    "tensorrt": "on a Jetson it comes with JetPack",
}


def inspect_engine(engine: Path) -> Inspection:
    """Fingerprint, precision and layers of ``engine``, and whether it fits what is here, as ``verify`` says.

    No TensorRT is needed for that; that it is absent is told. ``VerificationError`` when the fingerprint is missing or
    damaged, or the report of its layers is damaged. An engine without that report has ``layers`` None.
    """
    from pocketformer.runtime.fingerprint import read_fingerprint
    from pocketformer.runtime.tensorrt.layers import layers_path, precision_counts, read_layers
    from pocketformer.runtime.verify_engine import installed_version, verify_engine

    known = read_fingerprint(engine)
    size = engine.stat().st_size
    fit = verify_engine(engine)
    built_by = f"{known.library} {known.library_version}"
    gpus = ", ".join(known.compute_capabilities)
    shapes = "; ".join(f"{name} {_span(sizes)}" for name, sizes in known.profile.items())
    lines = [
        f"{engine}: TensorRT engine, {known.precision}, {size / 1e6:.1f} MB, {known.status}, never run",
        f"Built by {built_by} for compute capability {gpus}"
        + (f", under a driver for CUDA {known.driver}" if known.driver else ", for any driver"),
        f"Shapes: {shapes}" if shapes else "Shapes: its fingerprint names none",
        f"Graph: SHA-256 {known.graph_sha256[:16]}; engine: SHA-256 {known.engine_sha256[:16]}",
    ]
    facts: dict[str, Any] = {"path": str(engine), "bytes": size, **asdict(known)}
    if layers_path(engine).exists():
        layers = read_layers(engine)
        precisions = {name: count for name, count in precision_counts(layers).items() if count}
        types = dict(Counter(layer.type for layer in layers).most_common())
        facts["layers"] = {"count": len(layers), "precisions": precisions, "types": types}
        lines.append(f"{len(layers)} layers: " + ", ".join(f"{name} {n}" for name, n in precisions.items()))
        lines.append("  by type: " + ", ".join(f"{name} {n}" for name, n in list(types.items())[:_SHOWN]))
    else:
        facts["layers"] = None
        lines.append(f"Layers: not known, there is no {layers_path(engine).name} beside it")
    module = installed_version(known.library)
    facts["module_installed"] = module
    if module is None:
        how = _EXTRAS.get(known.library, "see docs/tensorrt.md")
        lines.append(
            f"{known.library} is not installed here ({how}): what stands beside the engine was read, not it"
        )
    facts["fits"] = fit.to_dict()
    lines += [f"{'ok' if check.ok else 'FAILED'}: {check.name}: {check.detail}" for check in fit.checks]
    lines += [f"not seen: {item.name}: {item.reason}" for item in fit.unchecked]
    return Inspection(facts=facts, text=tuple(lines))


def _span(sizes: Any) -> str:
    """The smallest, usual and largest of a dimension."""
    if not isinstance(sizes, (list, tuple)) or len(sizes) != 3:
        return str(sizes)
    return f"{sizes[0]} to {sizes[2]}, usually {sizes[1]}"
