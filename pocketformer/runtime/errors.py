"""Every error that a user can meet, with the exit code that the command line ends with.

The command line turns these into one message and one hint, in one place; a library user catches
``PocketformerError``. Anything else that escapes is a defect and ends with exit code 1.
"""

from __future__ import annotations

from typing import ClassVar, Optional


class PocketformerError(Exception):
    """The root of all errors: what was wrong and where (``message``), what to do next (``hint``)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class InputError(PocketformerError):
    """The user's input is wrong: a path, an option, a file."""

    exit_code = 2


class DataError(InputError):
    """A data file cannot be used as it is."""


class ModelError(InputError):
    """A model directory cannot be used as it is."""


class AlreadyQuantizedError(ModelError):
    """A graph is quantized already; doing it again would only lose accuracy."""


class RecipeError(InputError):
    """A recipe or a configuration is not valid."""


class RunDirectoryError(InputError):
    """An output directory holds something else, or another run is using it."""


class RunInUseError(RunDirectoryError):
    """Another process is at work in a run directory."""


class BudgetNotMetError(PocketformerError):
    """No candidate met the budget; the best one found is saved."""

    exit_code = 3


class UnavailableError(PocketformerError):
    """Something outside is missing: a package, a download, a device."""

    exit_code = 4


class MissingDependencyError(UnavailableError):
    """A Python package that this verb needs is not installed."""


class DownloadError(UnavailableError):
    """A model or data set could not be fetched."""


class DeviceError(UnavailableError):
    """A device was lost, refused the connection or lacks what was asked of it."""


class BusyError(UnavailableError):
    """More is asked at once than can be answered in time: a queue is full, or a wait was too long."""


class VerificationError(PocketformerError):
    """An artefact is damaged, or does not give the answers that it promised."""

    exit_code = 5


class ParityError(VerificationError):
    """An exported graph does not compute what the torch model computes."""


class ExportError(PocketformerError):
    """A model could not be written in the format asked for."""


class NoSpaceError(PocketformerError):
    """The disk is full."""
