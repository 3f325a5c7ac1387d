"""The iOS package as far as it can be looked at without Swift: its C target compiles, its manifest names what is there.

Swift itself runs in benchmarks/evidence/swift_machine.py, which is too large to be fetched for each run of the tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pocketformer.export.hosts import host_by_name, write_app
from pocketformer.runtime.verify import verify

_LINKED = """
#include "pocketformer.h"
#include "linked_onnxruntime.h"
#include <stdio.h>

static void show(const pf_check *check, void *user)
{
    (void)user;
    printf("%s %d\\n", check->name, check->ok);
}

int main(int count, char **words)
{
    const pf_options options = {.onnxruntime = "/nowhere.so", .onnxruntime_api = pf_linked_onnxruntime};
    pf_error error;
    return count == 2 ? (int)pf_verify(words[1], &options, show, NULL, &error) : 2;
}
"""


@pytest.fixture(scope="module")
def app(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_app(host_by_name("ios"), small_bundle, tmp_path_factory.mktemp("ios") / "app")


def test_the_package_names_what_is_there(app: Path) -> None:
    package = (app / "Package.swift").read_text()
    for kind, folder in (("target", "Sources"), ("testTarget", "Tests")):
        names = re.findall(rf'\.{kind}\(name: "(\w+)"', package)
        assert sorted(names) == sorted(path.name for path in (app / folder).iterdir())
    (resources,) = re.findall(r'\.copy\("(\w+)"\)', package)
    assert verify(app / "Tests/PocketformerTests" / resources).ok
    core = app / "Sources/CPocketformer"
    headers = re.findall(r'header "([\w.]+)"', (core / "module.modulemap").read_text())
    assert sorted(headers) == sorted(path.name for path in core.glob("*.h"))
    # What SwiftPM would take for sources of the target.
    assert sorted(path.name for path in core.rglob("*.c")) == ["linked_onnxruntime.c", "pocketformer.c"]


def test_the_functions_that_swift_calls_are_those_of_c(app: Path) -> None:
    swift = (app / "Sources/Pocketformer/PocketformerModel.swift").read_text()
    headers = "".join(path.read_text() for path in (app / "Sources/CPocketformer").glob("*.h"))
    called = set(re.findall(r"\b(pf_\w+)", swift))
    assert "pf_predict" not in called  # Swift takes the three steps itself
    assert {name for name in called if not re.search(rf"\b{name}\b", headers)} == set()


def test_onnxruntime_is_linked_and_not_opened(app: Path, small_bundle: Path, tmp_path: Path) -> None:
    """The C target with an onnxruntime that the linker found: the golden samples hold, and no library is opened."""
    import onnxruntime

    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("needs gcc: apt-get install gcc libc6-dev")
    core = app / "Sources/CPocketformer"
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    (tmp_path / "linked.c").write_text(_LINKED)
    argv = [
        gcc,
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{core}",
        tmp_path / "linked.c",
        *core.glob("*.c"),
    ]
    argv += [
        tmp_path / "libonnxruntime.so.1",
        f"-Wl,-rpath,{tmp_path}",
        "-ldl",
        "-lm",
        "-o",
        tmp_path / "linked",
    ]
    built = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([tmp_path / "linked", small_bundle], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.split()[-2:] == ["labels", "1"]
