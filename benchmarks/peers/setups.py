"""The setups of the grid, as one explicit list: who makes the model, where, and how it is run.

``environment`` is "project" (the one that runs this) or a file of ``requirements/``, of which a virtual environment
is made. ``maker`` is a program of ``inside/``; None: the teacher, or Pocketformer's bundle, is loaded as it is.
``backend`` is a function of ``inside/backends.py``. ``code``: what of this repository decides the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROJECT = "project"
OURS = "pocketformer"
REFERENCE = "torch-eager"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One column of the grid: a tool with its recommended settings."""

    name: str
    title: str
    backend: str
    environment: str = PROJECT
    maker: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: tuple[str, ...] = ()


_OLIVE = "olive-torch-pruning"
_OPENVINO = "openvino-nncf"

SETUPS: tuple[Setup, ...] = (
    Setup(name=REFERENCE, title="PyTorch eager", backend="torch-eager"),
    Setup(name="torch-compile", title="torch.compile", backend="torch-compile"),
    Setup(
        name="onnxruntime",
        title="ONNX Runtime fp32",
        backend="onnxruntime",
        maker="make_optimum.py",
        settings={"route": "fp32"},
    ),
    Setup(
        name="optimum-o2",
        title="Optimum O2",
        backend="onnxruntime",
        maker="make_optimum.py",
        settings={"route": "O2"},
    ),
    Setup(
        name="optimum-int8",
        title="Optimum int8 dynamic",
        backend="onnxruntime",
        maker="make_optimum.py",
        settings={"route": "int8"},
    ),
    Setup(
        name="optimum-int8-per-channel",
        title="Optimum int8 per channel",
        backend="onnxruntime",
        maker="make_optimum.py",
        settings={"route": "int8-per-channel"},
    ),
    Setup(
        name="olive-int8",
        title="Olive auto-opt int8",
        backend="onnxruntime",
        environment=_OLIVE,
        maker="make_olive.py",
    ),
    Setup(
        name="openvino",
        title="OpenVINO fp32",
        backend="openvino",
        environment=_OPENVINO,
        maker="make_openvino.py",
        settings={"precision": "fp32"},
    ),
    Setup(
        name="openvino-nncf-int8",
        title="OpenVINO + NNCF int8",
        backend="openvino",
        environment=_OPENVINO,
        maker="make_openvino.py",
        settings={"precision": "int8"},
    ),
    Setup(
        name="neural-compressor-static",
        title="neural-compressor static",
        backend="onnxruntime",
        maker="make_neural_compressor.py",
        code=("pocketformer/compress/quantize", "pocketformer/export"),
    ),
    *(
        Setup(
            name=f"torch-pruning-{percent}-int8",
            title=f"Torch-Pruning {percent}% + int8",
            backend="onnxruntime",
            environment=_OLIVE,
            maker="make_torch_pruning.py",
            settings={"ratio": percent / 100, "epochs": 5, "learning_rate": 1e-4},
        )
        for percent in (25, 50)
    ),
    Setup(name=OURS, title="Pocketformer", backend="pocketformer", code=("pocketformer/runtime",)),
)


def select_setups(wanted: str | None, setups: Sequence[Setup] = SETUPS) -> list[Setup]:
    """The setups named in ``a,b``, in the grid's order, all without names; ``ValueError`` for an unknown one.

    The reference is always among them: drops and ratios are taken against it.
    """
    if not wanted:
        return list(setups)
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    unknown = sorted(names - {setup.name for setup in setups})
    if unknown or not names:
        known = ", ".join(setup.name for setup in setups)
        raise ValueError(f"there is no setup {', '.join(unknown) or repr(wanted)}; setups: {known}")
    return [setup for setup in setups if setup.name in names | {REFERENCE}]
