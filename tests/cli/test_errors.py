"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import errno
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import click
import pytest

from pocketformer.cli.root import root
from pocketformer.runtime import errors


@pytest.fixture
def failing(cli: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a verb that raises this error."""
    from pocketformer.cli.options import verbose_option

    def fail(error: BaseException, *options: str) -> Any:
        @click.command("fail")
        @verbose_option
        def command() -> None:
            raise error

        monkeypatch.setattr(root, "resolve_command", lambda ctx, args: ("fail", command, args[1:]))
        return cli("fail", *options)

    return fail


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.InputError("what, where", hint="do this"), 2, "Error: what, where\n  do this\n"),
        (errors.NoSpaceError("full"), 1, "Error: full"),
        (errors.DownloadError("gone", hint="connect"), 4, "connect"),
        (errors.VerificationError("damaged"), 5, "damaged"),
        (errors.BudgetNotMetError("too slow"), 3, "too slow"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 4, "pip install 'pocketformer[compress]'"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (BrokenPipeError(), 0, ""),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), 1, "no space left on the disk: /x/y"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "/x/y: Permission denied"),
        (RuntimeError("oops"), 1, "Internal error: RuntimeError: oops"),
    ],
)  # fmt: skip
def test_exit_codes_and_messages(failing: Any, error: BaseException, code: int, words: str) -> None:
    outcome = failing(error)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_a_traceback_with_v_only(failing: Any) -> None:
    assert "Traceback" in failing(RuntimeError("oops"), "-v").err
    shown = failing(errors.InputError("what"), "-v").err
    assert "Traceback" in shown
    assert shown.endswith("Error: what\n")
    assert "-v" in failing(RuntimeError("oops")).err


def test_noise_is_heard_with_v_only(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pocketformer.cli.options import verbose_option

    @click.command("noisy")
    @verbose_option
    def command() -> None:
        for name in ("torchao", "torch.utils._pytree", "transformers.trainer"):
            logging.getLogger(name).warning("advice of %s", name)
        logging.getLogger("pocketformer").warning("for the log")
        warnings.warn("advice for developers", UserWarning, stacklevel=1)

    monkeypatch.setattr(root, "resolve_command", lambda ctx, args: ("noisy", command, args[1:]))
    before = [logging.getLogger(name).level for name in ("torchao", "transformers")]
    assert cli("noisy").err == ""
    with pytest.warns(UserWarning, match="advice for developers"):
        loud = cli("noisy", "-v").err
    assert "advice of torchao" in loud
    assert "WARNING pocketformer: for the log" in loud
    # A program that calls run_command gets its logging back as it was.
    assert [logging.getLogger(name).level for name in ("torchao", "transformers")] == before
    assert logging.getLogger("pocketformer").propagate
    assert logging.raiseExceptions


def test_from_another_thread(cli: Any) -> None:
    import threading

    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(cli("--version").code))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_pipe_that_is_closed_early(tmp_path: Path) -> None:
    import subprocess
    import sys

    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "pocketformer", "doctor"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == b""
