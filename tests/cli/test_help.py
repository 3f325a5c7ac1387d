"""Help: there for every verb, and without the weight of any library."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pocketformer.cli.root import VERBS

_HEAVY = ("torch", "numpy", "onnxruntime", "transformers", "pydantic", "yaml", "rich", "pandas")


def test_no_help_imports_what_it_does_not_need() -> None:
    # One process asks for all of them: what any of them imports is seen.
    code = (
        "import contextlib, io, json, sys\n"
        "from pocketformer.cli import run_command\n"
        "found = {}\n"
        f"for verb in {[''] + [verb.name for verb in VERBS]!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        code = run_command([*verb.split(), '--help'])\n"
        f"    found[verb] = [code, [name for name in {_HEAVY!r} if name in sys.modules]]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {verb: [0, []] for verb in ["", *(v.name for v in VERBS)]}
    assert done.stderr == ""


def test_python_dash_m_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pocketformer", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pocketformer")


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_explains_itself(cli: Any, verb: str) -> None:
    outcome = cli(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: pocketformer {verb}")
    if verb != "targets":
        assert "--verbose" in outcome.out


def test_an_unknown_verb_suggests_the_nearest(cli: Any) -> None:
    outcome = cli("comprss")
    assert outcome.code == 2
    assert "Did you mean 'compress'?" in outcome.err


@pytest.mark.parametrize("value", ["3", "-1%", "little"])
def test_a_share_that_is_none(cli: Any, value: str) -> None:
    outcome = cli("compress", "m", "--train", "t.csv", "-o", "x", "--max-drop", value)
    assert outcome.code == 2
    assert "--max-drop" in outcome.err
    assert "1% or 0.01" in outcome.err or "1% is 0.01" in outcome.err
