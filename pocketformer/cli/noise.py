"""What reaches stderr: with ``-v`` every log line, without it only what this project itself has to say.

Libraries below us give advice to their own developers (torchao of kernels that it cannot load, torch of
deprecated calls, transformers of new heads). A run's log.txt keeps what is worth keeping.
"""

from __future__ import annotations

import logging
import sys
import warnings
from types import TracebackType
from typing import Optional

_LIBRARIES = (
    "accelerate",
    "neural_compressor",
    "onnxruntime",
    "onnxscript",
    "optimum",
    "torch",
    "torchao",
    "transformers",
)
# torch gives these a handler of their own when it is imported, so that a level set on "torch" is not enough.
_LOUD = ("torch.onnx", "torch.utils._pytree", "torch._inductor", "torch._dynamo", "torch.export")


class Noise:
    """Quiet inside a ``with`` block until ``show`` is called; everything is as it was after the block."""

    def __init__(self) -> None:
        self.shown = False
        self._levels: list[tuple[logging.Logger, int]] = []
        self._handler: Optional[logging.Handler] = None
        self._warnings = warnings.catch_warnings()
        self._silence = logging.NullHandler()
        self._propagate = True
        self._raise_exceptions = True

    def __enter__(self) -> Noise:
        self._warnings.__enter__()
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        for name in (*_LIBRARIES, *_LOUD):
            logger = logging.getLogger(name)
            self._levels.append((logger, logger.level))
            logger.setLevel(logging.ERROR)
        own = logging.getLogger("pocketformer")
        self._propagate, own.propagate = own.propagate, False
        own.addHandler(self._silence)  # else Python prints warnings that nobody handles
        # A log that cannot be written, on a full disk, is no reason for a traceback.
        self._raise_exceptions, logging.raiseExceptions = logging.raiseExceptions, False
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler = None
        self._restore()
        logging.raiseExceptions = self._raise_exceptions
        self._warnings.__exit__(kind, error, trace)

    def show(self) -> None:
        """Log to stderr from now on, and let warnings through."""
        if self.shown:
            return
        self.shown = True
        self._restore()
        warnings.simplefilter("default")
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._handler)

    def _restore(self) -> None:
        for logger, level in self._levels:
            logger.setLevel(level)
        self._levels.clear()
        own = logging.getLogger("pocketformer")
        own.propagate = self._propagate
        own.removeHandler(self._silence)
