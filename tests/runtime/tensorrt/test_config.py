from __future__ import annotations

import subprocess
import sys

import pytest

from pocketformer.runtime.errors import ExportError, InputError
from pocketformer.runtime.tensorrt.config import Profile, profile_for_lengths


def test_lengths_make_a_profile() -> None:
    assert profile_for_lengths([3, 9, 11, 40]).sequence == (3, 16, 40)
    assert profile_for_lengths([16]).sequence == (16, 16, 16)
    # The median is rounded up to 8, but not beyond the longest.
    assert profile_for_lengths([5, 5, 6]).sequence == (5, 6, 6)
    assert profile_for_lengths([4, 8], batch=(1, 4, 32)).batch == (1, 4, 32)
    for lengths in ([], [0, 4]):
        with pytest.raises(InputError, match="at least 1 token"):
            profile_for_lengths(lengths)


def test_shapes_follow_the_axes() -> None:
    profile = Profile(batch=(1, 2, 4), sequence=(3, 8, 64))
    assert profile.shapes("input_ids", (-1, -1)) == ((1, 3), (2, 8), (4, 64))
    assert profile.shapes("pixel_values", (-1, 3, 32, 32)) == ((1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32))
    with pytest.raises(ExportError, match="axis 2 of the input pixel_values"):
        profile.shapes("pixel_values", (-1, 3, -1, -1))


@pytest.mark.parametrize("batch", [(2, 1, 4), (0, 1, 2), (1, 8, 4)])
def test_a_profile_is_in_rising_order(batch: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="rising order"):
        Profile(batch=batch)


def test_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, pocketformer.runtime.tensorrt.config; "
        "heavy = {'onnx', 'onnxruntime', 'torch', 'tensorrt', 'tensorrt_rtx'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
