"""The command line: each verb parses, makes one library call and renders.

Results go to stdout, logs and progress to stderr. Errors become a message and an exit code here and nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

# Set by the shell that asks for completions.
_COMPLETION = "_POCKETFORMER_COMPLETE"
_WORKSTATION = (3, 11)
INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived. Unwinds like Ctrl-C, so that half-written files are removed and the lock is released."""


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the command line and exit the process."""
    sys.exit(run_command(argv))


def run_command(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; the exit code."""
    import click

    from pocketformer.cli.noise import Noise
    from pocketformer.cli.root import root
    from pocketformer.runtime.errors import PocketformerError

    arguments = list(sys.argv[1:] if argv is None else argv)
    with Noise() as noise, _terminating():
        try:
            if _COMPLETION in os.environ:
                root.main(args=arguments, prog_name="pocketformer")
            if "RANK" in os.environ and _is_follower():
                return 0
            # Not main(), which ends with 1 when the reader of our output has gone.
            with root.make_context("pocketformer", arguments, obj=noise) as context:
                outcome = root.invoke(context)
            sys.stdout.flush()
            return outcome if isinstance(outcome, int) else 0
        except click.exceptions.Exit as done:
            return int(done.exit_code)
        except click.ClickException as error:
            error.show()
            return 2
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nInterrupted.", err=True)
            return INTERRUPTED
        except Terminated:
            click.echo("Terminated.", err=True)
            return TERMINATED
        except PocketformerError as error:
            return _tell(error.message, error.hint, error.exit_code, noise.shown)
        except BrokenPipeError:
            # The reader of our output (head, less) has gone: nothing is wrong. Python flushes stdout once more
            # when it ends, and would complain.
            _discard_stdout()
            return 0
        except ImportError as error:
            return _tell_missing(error, noise.shown)
        except Exception as error:  # noqa: BLE001 - the one place where a defect becomes a message
            return _tell_unexpected(error, noise.shown)


def _is_follower() -> bool:
    """Whether torchrun started this process to train along with another one; returns when that has ended."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    from pocketformer.compress.ranks import follow, join

    if join().rank == 0:
        return False
    follow()
    return True


def _tell(message: str, hint: Optional[str], code: int, verbose: bool, word: str = "Error") -> int:
    import click

    if verbose:
        import traceback

        traceback.print_exc()
    click.echo(f"{word}: {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)
    return code


def _tell_missing(error: ImportError, verbose: bool) -> int:
    hint = "Install it with: pip install 'pocketformer[compress]'; `pocketformer doctor` lists all."
    if sys.version_info < _WORKSTATION:
        hint = "All but predict, verify and the other light verbs need Python 3.11 or newer."
    missing = error.name or str(error)
    return _tell(f"this verb needs a package that is not installed: {missing}", hint, 4, verbose)


def _tell_unexpected(error: Exception, verbose: bool) -> int:
    """A path that cannot be read or written is the user's to mend; anything else is a defect."""
    import errno

    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f": {error.filename}" if error.filename else ""
            return _tell(f"no space left on the disk{where}", "Free some space and run again.", 1, verbose)
        if error.filename and error.errno in (
            errno.EACCES,
            errno.EISDIR,
            errno.ENOENT,
            errno.ENOTDIR,
            errno.EPERM,
            errno.EROFS,
        ):
            return _tell(f"{error.filename}: {error.strerror}", "Check the path and its rights.", 2, verbose)
    hint = None if verbose else "This is a defect of Pocketformer. Run again with -v for the traceback."
    return _tell(f"{type(error).__name__}: {error}", hint, 1, verbose, word="Internal error")


@contextmanager
def _terminating() -> Iterator[None]:
    """Turn SIGTERM into ``Terminated``, where Python lets us: in the main thread."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _discard_stdout() -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        # A stdout that is no file of the system has nothing to flush.
        return
