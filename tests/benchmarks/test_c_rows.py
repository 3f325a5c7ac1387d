"""Whom the row about memory blames for what valgrind finds."""

from __future__ import annotations

from pathlib import Path

from evidence.embed_c import _valgrind

PROGRAM = "/evidence/c-debug/app/build/pocketformer-c"
CHECKER = "/usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so"
LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
ENGINE = "/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1"
LOADER = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def test_the_innermost_frame_that_is_not_the_checkers_is_blamed(tmp_path: Path) -> None:
    findings = {
        "Leak_DefinitelyLost": (CHECKER, PROGRAM),
        "InvalidRead": (PROGRAM,),
        "UninitCondition": (LIBC, PROGRAM),
        "Overlap": (CHECKER, ENGINE, PROGRAM),
        "InvalidWrite": (LOADER, PROGRAM),
        "Leak_PossiblyLost": (CHECKER, LIBC),
    }
    errors = "".join(
        f"<error><kind>{kind}</kind><stack>"
        + "".join(f"<frame><obj>{place}</obj><fn>f</fn></frame>" for place in places)
        + "</stack></error>"
        for kind, places in findings.items()
    )
    report = tmp_path / "report.xml"
    report.write_text(f"<valgrindoutput>{errors}</valgrindoutput>")
    ours = ["Leak_DefinitelyLost in f", "InvalidRead in f", "UninitCondition in f"]
    assert _valgrind(report) == (ours, 3)
