"""Which TensorRT is installed: NVIDIA's TensorRT or TensorRT-RTX, behind one small object.

Both have the same Python interface as far as this package uses it; their engines are not interchangeable.
TensorRT builds for the GPU of the machine that it runs on. TensorRT-RTX builds ahead of time, without a GPU, for
compute capabilities that are named. The branch for plain TensorRT has never been run: no machine with it was at hand.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from pocketformer.runtime.errors import InputError, MissingDependencyError

EXTRA = "tensorrt-rtx"
LIBRARIES = ("tensorrt", "tensorrt_rtx")
_JETSON_ORIN = "8.7"


@dataclass(frozen=True)
class Library:
    """An imported TensorRT: its ``module``, the module's ``name`` and its ``version``, such as "1.7.1"."""

    module: Any
    name: str
    version: str

    @property
    def builds_ahead_of_time(self) -> bool:
        """Whether compute capabilities can be named instead of being those of the GPU at hand."""
        return hasattr(self.module, "ComputeCapability")

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """Those that can be named, such as "8.9", in rising order; empty where the GPU at hand decides."""
        if not self.builds_ahead_of_time:
            return ()
        names = self.module.ComputeCapability.__members__
        found = [re.fullmatch(r"SM(\d+)(\d)", str(name)) for name in names]
        numbers = sorted((int(m.group(1)), int(m.group(2))) for m in found if m)
        return tuple(f"{major}.{minor}" for major, minor in numbers)

    def compute_capability(self, text: str) -> Any:
        """The library's constant for a compute capability such as "8.9".

        ``InputError`` when it is none or when this library cannot build for it.
        """
        known = self.compute_capabilities
        if text not in known:
            hint = f"Known here: {', '.join(known)}."
            if text == _JETSON_ORIN:
                hint = (
                    "That is Jetson Orin: its engines are built on the device, with JetPack's TensorRT. "
                    + hint
                )
            raise InputError(
                f"{self.name} {self.version} cannot build for compute capability {text!r}", hint=hint
            )
        return getattr(self.module.ComputeCapability, "SM" + text.replace(".", ""))

    def network(self, builder: Any) -> Any:
        """An empty network definition in which every precision is what the graph says."""
        flags = self.module.NetworkDefinitionCreationFlag
        # TensorRT 10 wants to be asked for it; where the flag has gone, nothing else is left.
        typed = getattr(flags, "STRONGLY_TYPED", None)
        return builder.create_network(0 if typed is None else 1 << int(typed))


class Log:
    """What a TensorRT library says from now on, oldest first: ``lines`` are (severity, text).

    A library keeps the first logger that it is given for as long as anything made with it lives, and ignores
    later ones. So there is one logger for each library, and it writes into the newest ``Log``.
    """

    def __init__(self, library: Library) -> None:
        self.lines: list[tuple[str, str]] = []
        if library.name not in _LOGGERS:
            _LOGGERS[library.name] = _logger(library.module)
        self.logger = _LOGGERS[library.name]
        self.logger.lines = self.lines

    @property
    def errors(self) -> list[str]:
        """The texts of errors and internal errors."""
        return [text for severity, text in self.lines if severity in ("ERROR", "INTERNAL_ERROR")]

    def last_error(self, otherwise: str) -> str:
        """The newest error in one line, or ``otherwise``."""
        return " ".join(self.errors[-1].split()) if self.errors else otherwise


_LOGGERS: dict[str, Any] = {}


def _logger(module: Any) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((str(getattr(severity, "name", severity)), message))

    return Logger()


def load_library(names: Optional[Sequence[str]] = None) -> Library:
    """Import ``tensorrt`` where it is installed, else ``tensorrt_rtx``; or the first of ``names`` that is.

    Raises ``MissingDependencyError`` that names the extra when none can be imported.
    """
    names = LIBRARIES if names is None else names
    reasons: list[str] = []
    for name in names:
        try:
            module = importlib.import_module(name)
            return Library(module=module, name=name, version=str(module.__version__))
        # A package whose shared libraries are missing raises OSError, AttributeError or RuntimeError.
        except Exception as error:  # noqa: BLE001
            if not isinstance(error, ModuleNotFoundError) or error.name != name:
                reasons.append(f"{name} cannot be imported: {error}")
    detail = f" ({'; '.join(reasons)})" if reasons else ""
    lacking = f"neither {' nor '.join(names)} is" if len(names) > 1 else f"{names[0]} is not"
    raise MissingDependencyError(
        f"{lacking} installed{detail}",
        hint=f"pip install 'pocketformer[{EXTRA}]' builds engines without a GPU.",
    )
