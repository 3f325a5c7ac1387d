"""The Android module as it runs on this computer's Java virtual machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocketformer.export.hosts import host_by_name, write_app

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

from evidence import kotlin_host  # noqa: E402
from evidence.table import EvidenceError  # noqa: E402


class Machine:
    """The compiled module with an onnxruntime under the name that Android's has."""

    def __init__(self, host: kotlin_host.KotlinHost, libraries: Path) -> None:
        self.host = host
        self.library = libraries / "libonnxruntime.so"

    def run(
        self, main: str, *words: str | Path, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        argv = [*self.host.command(main, options=("-Xcheck:jni", "-Xint", *options)), *map(str, words)]
        environment = os.environ | {"LD_LIBRARY_PATH": str(self.library.parent)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="session")
def android_app(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_app(host_by_name("android"), small_bundle, tmp_path_factory.mktemp("android") / "app")


@pytest.fixture(scope="session")
def machine(android_app: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    import onnxruntime

    folder = tmp_path_factory.mktemp("kotlin")
    try:
        kotlin_host.find_tools()
    except EvidenceError as error:
        pytest.skip(str(error))
    host = kotlin_host.build(android_app, folder)
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so").symlink_to(library)
    return Machine(host, folder)
