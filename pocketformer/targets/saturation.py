"""Whether int8 products overflow on this processor, and whether a graph's answers suffer: measured, not guessed.

Without VNNI, onnxruntime multiplies uint8 activations with int8 weights on AVX2 and AVX512 by VPMADDUBSW. That
instruction adds two products in 16 bits and clips what does not fit: 2 * 255 * 127 = 64770 becomes 32767. Weights of
7 bits (``reduce_range``) cannot get there, VNNI and ARM add in 32 bits. Source: onnxruntime's documentation, "Quantize
ONNX models", under "When and why do I need to try U8U8?". Flags of the processor tell it less well: x86 without AVX2
lacks VNNI too, and is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from pocketformer.runtime.manifest import SessionSettings

# MatMulInteger of a uint8 [m, k] and b int8 [k, n], int32 [m, n]; IR 5 and opset 10, which any onnxruntime reads.
# The device has no onnx to make it with; the test of this module does, and compares.
PRODUCT = bytes.fromhex(
    "08053a650a180a01610a0162120179220d4d61744d756c496e74656765721204753873385a150a016112100a0e080212"
    "0a0a0312016d0a0312016b5a150a016212100a0e0803120a0a0312016b0a0312016e62150a017912100a0e0806120a0a"
    "0312016d0a0312016e42040a00100a"
)
# onnxruntime then multiplies unsigned weights by unsigned activations on such processors: slower, and exact.
_EXACT = ("session.x64quantprecision", "1")
_EXTREME = (127, -128)
_REDUCED = (63, -64)


def u8s8_saturates() -> Optional[bool]:
    """Whether products of uint8 and int8 are clipped here; None where onnxruntime is missing.

    Raises ``VerificationError`` when products that fit into 16 bits are wrong as well.
    """
    try:
        import numpy as np
        import onnxruntime as ort
    except ImportError:
        return None
    from pocketformer.runtime.engine import session_options
    from pocketformer.runtime.errors import VerificationError

    options = session_options(SessionSettings(intra_op_threads=1))
    session = ort.InferenceSession(PRODUCT, sess_options=options, providers=["CPUExecutionProvider"])

    def wrong(weight: int) -> bool:
        activations, weights = np.full((4, 64), 255, np.uint8), np.full((64, 16), weight, np.int8)
        product = session.run(None, {"a": activations, "b": weights})[0]
        return bool((product != activations.astype(np.int32) @ weights.astype(np.int32)).any())

    if any(map(wrong, _REDUCED)):
        raise VerificationError(
            f"onnxruntime {ort.__version__} multiplies 8-bit integers wrongly on this processor",
            hint="Install another onnxruntime; do not trust int8 models here.",
        )
    return any(map(wrong, _EXTREME))


def count_clipped(
    graph: Path, feeds: Sequence[Mapping[str, Any]], settings: SessionSettings
) -> Optional[int]:
    """For how many of ``feeds`` this processor gives another output than exact integer arithmetic does.

    Anything but 0 means that the graph's answers hold on processors like this one only. None when onnxruntime
    cannot run the graph exactly: it fails on some that share one tensor among several weights.
    """
    import numpy as np
    import onnxruntime as ort

    from pocketformer.runtime.engine import OnnxRuntimeEngine, session_options

    engine = OnnxRuntimeEngine(graph, settings)
    options = session_options(settings)
    options.add_session_config_entry(*_EXACT)
    options.log_severity_level = 4  # what fails here is told by the answer
    try:
        exact = ort.InferenceSession(
            str(graph), sess_options=options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        return sum(
            not np.array_equal(
                engine.run(batch),
                exact.run([engine.output_name], {name: batch[name] for name in engine.input_names})[0],
            )
            for batch in feeds
        )
    except Exception:  # noqa: BLE001 - onnxruntime's own exceptions share no base class
        return None
