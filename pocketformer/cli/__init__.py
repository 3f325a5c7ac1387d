"""The command line: each verb parses, makes one library call and renders.

Results go to stdout, logs and progress to stderr. Errors become a message and an exit code here and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Optional

INTERRUPTED = 130
TERMINATED = 143


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the command line and exit the process."""
    sys.exit(run_command(argv))


def run_command(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; the exit code."""
    import signal

    import click

    from pocketformer.cli.root import root
    from pocketformer.runtime.errors import PocketformerError

    def terminate(*_: object) -> None:
        raise SystemExit(TERMINATED)

    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = any(a in ("-v", "--verbose") for a in arguments)
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        outcome = root.main(args=arguments, prog_name="pocketformer", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted. The same command goes on from the last finished stage.", err=True)
        return INTERRUPTED
    except PocketformerError as error:
        if verbose:
            _traceback()
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is wrong.
        sys.stderr.close()
        return 0
    except ImportError as error:
        return _missing_package(error, verbose)
    except Exception as error:  # noqa: BLE001 - the one place where a defect becomes a message
        if verbose:
            _traceback()
        click.echo(f"Internal error: {type(error).__name__}: {error}", err=True)
        if not verbose:
            click.echo("  This is a defect of Pocketformer. Run again with -v for the traceback.", err=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _missing_package(error: ImportError, verbose: bool) -> int:
    import click

    if verbose:
        _traceback()
    click.echo(f"Error: this verb needs a package that is not installed: {error.name or error}", err=True)
    click.echo(
        "  Install it with: pip install 'pocketformer[compress]'; `pocketformer doctor` lists all.", err=True
    )
    return 4


def _traceback() -> None:
    import traceback

    traceback.print_exc()
