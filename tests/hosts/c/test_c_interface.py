"""The places and types of onnxruntime's functions, which the C host states itself, are those of the real header."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts.c.building import C, compile_c

_CHECKED = """
#include <stddef.h>
#include "onnxruntime_c_api.h"
#include "src/onnxruntime_api.h"

#define CHECK(name, place, result, parameters)                                                                  \\
    _Static_assert(offsetof(OrtApi, name) == place * sizeof(void *), #name " lies elsewhere");                  \\
    _Static_assert(__builtin_types_compatible_p(ort_##name##_function, __typeof__(((OrtApi *)0)->name)),        \\
                   #name " has another type");
ORT_ENTRIES(CHECK)
_Static_assert(offsetof(OrtApiBase, GetApi) == offsetof(struct ort_base, get_api), "GetApi");
_Static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(struct ort_base, get_version), "GetVersionString");
_Static_assert((int)ORT_FLOAT == (int)ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "float");
_Static_assert((int)ORT_INT64 == (int)ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, "int64");
_Static_assert((int)ORT_FATAL == (int)ORT_LOGGING_LEVEL_FATAL, "fatal");
_Static_assert(ORT_SEQUENTIAL == 0 && ORT_ENABLE_ALL == 99 && ORT_ENABLE_EXTENDED == 2 && ORT_ENABLE_BASIC == 1 &&
               ORT_DISABLE_ALL == 0 && OrtArenaAllocator == 1 && OrtMemTypeDefault == 0, "settings");
_Static_assert(ORT_API_VERSION >= ORT_INTERFACE, "version");
int main(void) { return 0; }
"""


def test_places_and_types(tmp_path: Path) -> None:
    """With the header that Debian packs, of a release younger than the interface that is asked for."""
    from emulation import aarch64

    try:
        aarch64.unpack_debian(
            tmp_path / "apt",
            tmp_path / "root",
            release="trixie",
            architecture="amd64",
            packages=["libonnxruntime-dev"],
        )
    except aarch64.EmulationError as error:
        pytest.skip(f"the real header cannot be fetched: {error}")
    (tmp_path / "check.c").write_text(_CHECKED)
    (header,) = tmp_path.glob("root/usr/include/**/onnxruntime_c_api.h")
    compile_c(tmp_path / "check.c", tmp_path / "check", f"-I{C}", f"-isystem{header.parent}")
