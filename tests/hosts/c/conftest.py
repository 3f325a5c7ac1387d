"""The C host as a program of every kind, and bundles that are not what they should be."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hosts.c.building import SANITIZED, C, Program, compile_c


@pytest.fixture(scope="session")
def onnxruntime_library() -> Path:
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    return library


@pytest.fixture(scope="session")
def program(onnxruntime_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("c")
    return Program([compile_c(C / "pocketformer-c.c", folder / "pocketformer-c", "-O2")], onnxruntime_library)


@pytest.fixture(scope="session")
def sanitized(onnxruntime_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With AddressSanitizer, UndefinedBehaviorSanitizer and, at its end, LeakSanitizer."""
    folder = tmp_path_factory.mktemp("c-sanitized")
    return Program(
        [compile_c(C / "pocketformer-c.c", folder / "pocketformer-c", *SANITIZED)], onnxruntime_library
    )


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Program:
    from emulation import aarch64

    folder = tmp_path_factory.mktemp("c-arm64")
    binary = compile_c(
        C / "pocketformer-c.c", folder / "pocketformer-c", "-O2", compiler="aarch64-linux-gnu-gcc"
    )
    try:
        start, library = aarch64.emulated_program()
    except aarch64.EmulationError as error:
        pytest.skip(f"no ARM64 machine can be emulated here: {error}")
    return Program([*start, binary], library)


@pytest.fixture
def changed(small_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the small bundle with files replaced (None: removed), and with what ``edit`` makes of its manifest.

    Sizes and hashes in the manifest follow the files unless ``listed`` is false.
    """

    def make(
        files: Mapping[str, bytes | None] | None = None,
        edit: Callable[[dict[str, Any]], object] | None = None,
        *,
        listed: bool = True,
        name: str = "changed",
    ) -> Path:
        folder = tmp_path / name
        shutil.copytree(small_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for file, content in (files or {}).items():
            if content is None:
                (folder / file).unlink()
                continue
            (folder / file).write_bytes(content)
            if listed:
                digest = hashlib.sha256(content).hexdigest()
                manifest["files"][file] = {"sha256": digest, "bytes": len(content)}
        if edit is not None:
            edit(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    return make
