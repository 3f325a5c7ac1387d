"""What differs with plain TensorRT, against a stand-in: no machine with the real one was at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketformer.pipeline import engine_stages
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.tensorrt import build
from pocketformer.runtime.tensorrt.config import EngineConfig
from pocketformer.runtime.tensorrt.library import Library

PLAIN = Library(module=SimpleNamespace(), name="tensorrt", version="10.3.0")


class Settings:
    """A builder configuration that reads what holds "timings" and takes those of version 10.3 only."""

    def __init__(self) -> None:
        self.cache: bytes | None = None

    def create_timing_cache(self, content: bytes) -> bytes | None:
        return content if content == b"" or b"timings" in content else None

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        if cache.startswith(b"9.") and not ignore_mismatch:
            return False
        self.cache = cache
        return True


@pytest.mark.parametrize(
    ("content", "used"),
    [(None, b""), (b"10.3 timings", b"10.3 timings"), (b"9.1 timings", b""), (b"damaged", b"")],
)
def test_a_timing_cache_is_read_unless_it_is_of_another_version(
    content: bytes | None, used: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "timing.bin"
    if content is not None:
        path.write_bytes(content)
    settings: Any = Settings()
    assert build._set_timing_cache(settings, path, PLAIN) == used
    assert settings.cache == used


def test_it_builds_for_one_gpu_the_one_at_hand() -> None:
    build._set_compute_capabilities(None, EngineConfig(compute_capabilities=("8.7",)), PLAIN)
    with pytest.raises(InputError, match="GPU of this machine, not for 4 kinds"):
        build._set_compute_capabilities(None, EngineConfig(), PLAIN)


def test_its_timings_are_kept_for_all_runs_and_per_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_stages._timing_cache(PLAIN) == tmp_path / "pocketformer" / "tensorrt-10.3.0.timings"
    ahead = Library(module=SimpleNamespace(ComputeCapability=None), name="tensorrt_rtx", version="1.7.1")
    assert engine_stages._timing_cache(ahead) is None
