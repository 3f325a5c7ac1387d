"""The rows about devices that nobody had at hand: emulated ARM64, faults over SSH, what Jetson boards print."""

from __future__ import annotations

import random
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evidence.emulated import CPUS, outputs, run_everywhere, subject_name
from evidence.table import EvidenceError, Measured, Row
from evidence.workspace import end_of, run_logged
from pocketformer.targets.tegrastats import TegrastatsSample, parse_tegrastats

if TYPE_CHECKING:
    from evidence.devices import DeviceRuns

# Each kind of fault and the tests that bring it about over real SSH. Each test asks for the message, the hint and the
# exit code, and then for a device without a file and without a process of ours.
_REMOTE = "tests/targets/agent/test_remote.py::"
_BENCH = "tests/cli/test_bench_devices.py::test_a_device_that_warns_one_that_tells_its_power_and_an_emulator"
DRILLS: Mapping[str, tuple[str, ...]] = {
    "agent killed": (f"{_REMOTE}test_the_agent_is_killed",),
    "link dropped": (
        f"{_REMOTE}test_the_link_drops",
        f"{_REMOTE}test_the_device_goes_and_stays_away",
        f"{_REMOTE}test_only_the_first_connection_breaks",
    ),
    "disk full": (f"{_REMOTE}test_no_space_for_the_agent", f"{_REMOTE}test_no_space_for_the_bundle"),
    "wrong key": (f"{_REMOTE}test_a_wrong_key",),
    "changed host key": (f"{_REMOTE}test_a_changed_host_key",),
    "corrupt bundle": (
        f"{_REMOTE}test_a_bundle_that_is_damaged_on_the_way",
        f"{_REMOTE}test_a_bundle_that_was_damaged_before",
        "tests/cli/test_bench_devices.py::test_a_damaged_bundle_fails_its_device_as_any_other_fault_does",
    ),
    "old Python": (f"{_REMOTE}test_a_python_there_that_is_too_old",),
    "no onnxruntime": (f"{_REMOTE}test_no_onnxruntime_there",),
    "throttling": (_BENCH,),
    "clock skew": (_BENCH,),
}
_CORPUS = Path("tests/targets/tegrastats")
_FUZZED = 20_000
_SHOWN = 3


def int8_products(runs: DeviceRuns) -> Measured:
    """Values that the int8 products of a model give otherwise on ARM64, for the same inputs, in any bit."""
    folder, made = _emulated(runs)
    here = outputs(folder, "here", "products")
    values = sum(array.size for array in here)
    differing = {cpu: _differing_values(here, outputs(folder, cpu, "products")) for cpu in CPUS}
    products = len(here) // made["texts"]
    how = (
        f"{values} values of the {products} static QDQ products of {made['what']}, {made['texts']} texts, on emulated "
        f"{' and '.join(CPUS)} against onnxruntime's exact integer products here, which is what VNNI computes "
        "(none was at hand)"
    )
    return Measured(value=sum(differing.values()), how=f"{how}; {_whole(folder, made)}")


def int8_labels(runs: DeviceRuns) -> Measured:
    """Texts that the whole int8 model gives another label on ARM64."""
    folder, made = _emulated(runs)
    here = np.concatenate(outputs(folder, "here", "int8"))
    there = [np.concatenate(outputs(folder, cpu, "int8")) for cpu in CPUS]
    flips = sum(int((here.argmax(-1) != logits.argmax(-1)).sum()) for logits in there)
    return Measured(value=flips, how=f"static QDQ form of {made['what']}; {_whole(folder, made)}")


def fp32(runs: DeviceRuns) -> Measured:
    """The largest difference of a logit of the fp32 model on ARM64."""
    folder, made = _emulated(runs)
    here = np.concatenate(outputs(folder, "here", "fp32"))
    there = {cpu: np.concatenate(outputs(folder, cpu, "fp32")) for cpu in CPUS}
    worst = {cpu: float(np.abs(here - logits).max()) for cpu, logits in there.items()}
    each = ", ".join(f"{cpu} {value:.2g}" for cpu, value in worst.items())
    how = f"{made['what']}, {made['texts']} texts, logits up to {np.abs(here).max():.1f} in size; emulated {each}"
    return Measured(value=max(worst.values()), how=how)


def fault_drills(runs: DeviceRuns) -> Measured:
    """Kinds of faults whose drills over SSH all end as they should, with nothing left on the device."""
    results = _run_tests(runs, sorted({test for tests in DRILLS.values() for test in tests}))
    right, wrong = [], []
    for kind, tests in DRILLS.items():
        failed = [f"{test.partition('::')[2]} {results.get(test, 'did not run')}" for test in tests]
        failed = [word for word in failed if not word.endswith(" passed")]
        (wrong if failed else right).append(kind if not failed else f"{kind} ({', '.join(failed)})")
    how = (
        f"{', '.join(right)}: a real SSH server on the loopback, {len(results)} tests that ask for the message, the "
        "exit code (4, of a bench with a corrupt bundle too, whose own error is that of a bundle, 5; 0 with a warning "
        "for throttling and clock skew), and for an empty folder and no process left"
    )
    return Measured(value=len(right), how=how + (f". Not right: {'; '.join(wrong)}" if wrong else ""))


def tegrastats(runs: DeviceRuns) -> Measured:
    """The share of recorded lines that are understood whole."""
    lines = _corpus(runs.repository.root)
    missed = [line for line in lines if not _understood(parse_tegrastats(line))]
    how = f"{len(lines) - len(missed)} of {len(lines)} lines that others recorded on boards, each with its source"
    return Measured(value=100 * (1 - len(missed) / len(lines)), how="; ".join([how, *missed[:_SHOWN]]))


def fuzzed_tegrastats(runs: DeviceRuns) -> Measured:
    """How many damaged lines raise anything."""
    lines = _corpus(runs.repository.root)
    source = random.Random(0)
    raised = []
    for _ in range(_FUZZED):
        line = _damaged(source, lines)
        try:
            parse_tegrastats(line)
        except Exception as error:  # noqa: BLE001 - whatever it raises is what is counted
            raised.append(f"{type(error).__name__}: {line[:60]!r}")
    how = f"{_FUZZED} lines of the corpus, each cut, spliced with another or with characters replaced; seed 0"
    return Measured(value=len(raised), how="; ".join([how, *raised[:_SHOWN]]))


def _emulated(runs: DeviceRuns) -> tuple[Path, dict[str, Any]]:
    """Everything that ran here and there, made once for one model."""
    name = f"emulated-{subject_name(runs.repository.root)}"

    def make(folder: Path) -> dict[str, Any]:
        runs.say(f"{name}: three graphs here and on emulated {', '.join(CPUS)}")
        return run_everywhere(runs.repository.root, folder)

    made = runs.once(name, make)
    return runs.folder / name, made


def _whole(folder: Path, made: Mapping[str, Any]) -> str:
    """What the whole int8 model answers: float kernels round as each processor likes, and may move a code by one."""
    here = outputs(folder, "here", "int8")
    parts = []
    for cpu in CPUS:
        there = outputs(folder, cpu, "int8")
        same = sum(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
        most = max(float(np.abs(a - b).max()) for a, b in zip(here, there, strict=True))
        parts.append(
            f"{cpu}: {same} of {made['texts']} texts bit for bit, the others within {most:.2g}"
            if most
            else f"{cpu}: all"
        )
    return f"the model's own logits are the same on {'; '.join(parts)}"


def _differing_values(here: list[Any], there: list[Any]) -> int:
    pairs = zip(here, there, strict=True)
    return sum(int((a.view(np.uint32) != b.view(np.uint32)).sum()) for a, b in pairs)


def _run_tests(runs: DeviceRuns, tests: list[str]) -> dict[str, str]:
    """``passed``, ``failed`` or ``skipped`` for each of these tests, run in a process of their own."""
    root = runs.repository.root
    runs.folder.mkdir(parents=True, exist_ok=True)
    report, log = runs.folder / "drills.xml", runs.folder / "drills.txt"
    report.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    run_logged(argv, log=log, environment=runs.environment(), folder=root, limit_s=1200.0)
    if not report.is_file():
        raise EvidenceError(f"the drills did not run: {end_of(log)} ({log})")
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        ends = {child.tag for child in case} & {"failure", "error", "skipped"}
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        found[name] = "failed" if ends - {"skipped"} else "skipped" if ends else "passed"
    return found


def _corpus(root: Path) -> list[str]:
    lines = [
        line
        for path in sorted((root / _CORPUS).glob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    if not lines:
        raise EvidenceError(f"there are no lines in {root / _CORPUS}")
    return lines


def _understood(sample: TegrastatsSample) -> bool:
    """No word is left over, and what every board tells is there."""
    return not sample.unknown and bool(sample.ram_total_mb) and any(sample.cpus)


def _damaged(source: random.Random, lines: list[str]) -> str:
    line, other = source.choice(lines), source.choice(lines)
    how: list[Callable[[], str]] = [
        lambda: line[: source.randrange(len(line))],
        lambda: line[: source.randrange(len(line))] + other[source.randrange(len(other)) :],
        lambda: "".join(
            source.choice("@%/[]x-. 9\0\N{SNOWMAN}mW") if source.random() < 0.05 else c for c in line
        ),
        lambda: " ".join(source.sample(line.split(), len(line.split()))),
    ]
    return source.choice(how)()


ROWS: tuple[Row[DeviceRuns], ...] = (
    Row(
        id="aarch64-int8",
        what="int8 QDQ products on emulated ARM64 against x86, same inputs: values that differ in any bit",
        comparator="==",
        required=0,
        unit="values",
        measure=int8_products,
    ),
    Row(
        id="aarch64-int8-labels",
        what="The whole int8 model on emulated ARM64: texts that get another label",
        comparator="==",
        required=0,
        unit="texts",
        measure=int8_labels,
    ),
    Row(
        id="aarch64-fp32",
        what="Its fp32 logits on emulated ARM64 against x86, largest difference",
        comparator="<=",
        required=1e-5,
        unit="logits",
        measure=fp32,
    ),
    Row(
        id="fault-drills",
        what="Kinds of faults over SSH that end with the right message, exit code and a clean device",
        comparator=">=",
        required=len(DRILLS),
        unit="kinds",
        measure=fault_drills,
    ),
    Row(
        id="tegrastats",
        what="Recorded tegrastats lines understood whole",
        comparator=">=",
        required=100,
        unit="%",
        measure=tegrastats,
    ),
    Row(
        id="tegrastats-fuzzed",
        what="Damaged tegrastats lines that raise an error",
        comparator="==",
        required=0,
        unit="lines",
        measure=fuzzed_tegrastats,
    ),
)
