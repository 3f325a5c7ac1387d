"""Candidates for OpenVINO: made by real OpenVINO and NNCF, close to fp32, and nothing is reported to anybody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.compress.quantize.candidates import OPENVINO_CANDIDATES, candidate_by_name
from pocketformer.compress.quantize.openvino import write_openvino
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.export.openvino_ir import inspect_ir
from pocketformer.runtime.backends.openvino import OpenvinoEngine
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import ModelError

Feeds = list[Mapping[str, Any]]


@pytest.mark.parametrize("name", OPENVINO_CANDIDATES)
def test_every_candidate_runs_close_to_fp32_and_is_what_it_says(
    name: str, graphs: dict[str, Path], feeds: Feeds, openvino: None, tmp_path: Path
) -> None:
    candidate = candidate_by_name(name)
    output = tmp_path / f"q{candidate.suffix}"
    result = quantize_candidate(name, graphs=graphs, output=output, calibration=feeds)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.bin", "q.xml"]
    assert result.metrics["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    expected, actual = OnnxRuntimeEngine(graphs["plain"]), OpenvinoEngine(output)
    differences = np.concatenate([(actual.run(feed) - expected.run(feed)).ravel() for feed in feeds])
    spread = np.concatenate([expected.run(feed).ravel() for feed in feeds]).std()
    assert np.sqrt((differences**2).mean()) < (2e-3 if candidate.config is None else 0.35 * spread)
    found = inspect_ir(output)
    assert found.precision == candidate.precision
    assert found.quantized == (candidate.config is not None)
    assert {spec.name for spec in found.inputs} == set(expected.input_names)
    if candidate.config is not None:
        assert found.dtype_bytes["i8"] > sum(found.dtype_bytes.values()) / 2


def test_a_file_that_is_no_graph_leaves_nothing(openvino: None, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing like a graph")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        write_openvino(tmp_path / "m.onnx", tmp_path / "q.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_nothing_is_reported_home(graphs: dict[str, Path], openvino: None, tmp_path: Path) -> None:
    # A process of its own: NNCF holds its telemetry back by itself where it sees pytest.
    program = (
        "import os, socket, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "def refuse(*arguments): raise AssertionError('it called out')\n"
        "socket.socket.connect = refuse\n"
        "os.environ.pop('CI', None)\n"
        "from pocketformer.compress.quantize.config import NncfConfig\n"
        "from pocketformer.compress.quantize.openvino import write_openvino\n"
        "ids = np.ones((2, 4), np.int64)\n"
        "feeds = {'input_ids': ids, 'attention_mask': ids, 'token_type_ids': 0 * ids}\n"
        f"write_openvino(Path({str(graphs['plain'])!r}), Path({str(tmp_path / 'q.xml')!r}), NncfConfig(), [feeds])\n"
        "assert 'openvino_telemetry' not in sys.modules and 'NNCF_CI' not in os.environ\n"
        "import nncf.telemetry.wrapper\n"
        "print(type(nncf.telemetry.wrapper.telemetry).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "MagicMock\n"
