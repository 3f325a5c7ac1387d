"""OpenVINO's IR is read from its XML alone; what real OpenVINO writes is tested beside its candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketformer.export.openvino_ir import inspect_ir
from pocketformer.runtime.errors import ModelError

IR = """<?xml version="1.0"?>
<net name="n" version="11"><layers>
<layer id="0" name="ids" type="Parameter" version="opset1"><data shape="?,?" element_type="i64" />
 <output><port id="0" precision="I64" names="input_ids,ids"><dim>-1</dim><dim>-1</dim></port></output></layer>
<layer id="1" name="w" type="Const" version="opset1">
 <data element_type="f16" shape="10, 4" offset="0" size="80" /></layer>
<layer id="2" name="b" type="Const" version="opset1"><data element_type="f32" shape="4" offset="80" size="16" /></layer>
<layer id="3" name="g" type="Gather" version="{version}"></layer>
<layer id="4" name="logits/sink_port_0" type="Result" version="opset1" output_names="logits">
 <input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim></port></input></layer>
</layers></net>
"""


def _write(folder: Path, version: str = "opset8") -> Path:
    (folder / "m.xml").write_text(IR.format(version=version))
    (folder / "m.bin").write_bytes(bytes(96))
    return folder / "m.xml"


def test_what_an_ir_holds(tmp_path: Path) -> None:
    path = _write(tmp_path)
    found = inspect_ir(path)
    assert found.bytes == path.stat().st_size + 96
    assert found.dtype_bytes == {"f16": 80, "f32": 16}
    assert (found.parameters, found.nodes) == (40, 5)
    assert [(spec.name, spec.dtype) for spec in found.inputs] == [("input_ids", "int64")]
    assert [(spec.name, spec.dtype) for spec in found.outputs] == [("logits", "float32")]
    assert found.precision == "fp32-weights-fp16"
    assert not found.quantized


@pytest.mark.parametrize(
    ("version", "release"),
    [("opset1", "2022.1"), ("opset13", "2023.2"), ("opset15", "2024.5"), ("opset99", None)],
)
def test_the_oldest_release_follows_from_the_operation_sets(
    version: str, release: str | None, tmp_path: Path
) -> None:
    assert inspect_ir(_write(tmp_path, version)).minimum_version == release


def test_what_is_no_ir_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelError, match=r"m\.bin"):
        inspect_ir(path)
    (tmp_path / "m.bin").touch()
    for text in ("<net>", "<page><p>text</p></page>"):
        path.write_text(text)
        with pytest.raises(ModelError, match=r"m\.xml"):
            inspect_ir(path)
