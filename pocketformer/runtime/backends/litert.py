"""LiteRT (formerly TensorFlow Lite) on a processor: a ``.tflite`` file with one signature for each length of a text.

LiteRT plans its memory for fixed shapes, so that a file made here holds the same weights under several signatures,
``tokens_16``, ``tokens_32`` and so on, each for one text of that many tokens. A text runs in the shortest that holds
it, filled up with padding that the mask hides. The API: ai.google.dev/edge/litert, ``Interpreter``; Python imports the
package only when a bundle asks for it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from pocketformer.runtime.backends.needs import refuse_providers, release
from pocketformer.runtime.engine import FloatArray, available_cores, missing_feed
from pocketformer.runtime.errors import MissingDependencyError, VerificationError
from pocketformer.runtime.manifest import SessionSettings

LITERT_PROVIDER = "LiteRT"
INSTALL = 'pip install "pocketformer[litert]"'
SIGNATURE = re.compile(r"tokens_([1-9][0-9]*)\Z")


class LitertEngine:
    """The file at ``path`` in LiteRT's interpreter; ``run`` may be called from several threads, one at a time.

    Of ``settings`` only ``intra_op_threads`` means something here. ``lengths`` are those of its signatures, ascending;
    a longer text is refused. ``content`` is what the file holds, where it was read already. Raises
    ``MissingDependencyError`` without LiteRT or with one older than ``minimum_version``, ``VerificationError`` when
    LiteRT cannot load the file or it has no signature for texts, ``InputError`` when ``settings`` name providers of
    onnxruntime.
    """

    def __init__(
        self,
        path: Union[str, Path],
        settings: Optional[SessionSettings] = None,
        *,
        minimum_version: Optional[str] = None,
        content: Optional[bytes] = None,
    ) -> None:
        self.settings = SessionSettings() if settings is None else settings
        self.model_path = str(path)
        refuse_providers(path, "LiteRT", self.settings)
        interpreter = import_litert(minimum_version)
        try:
            self._interpreter = interpreter.Interpreter(
                model_path=self.model_path if content is None else None,
                model_content=content,
                num_threads=self.settings.intra_op_threads or available_cores(),
            )
            found = {
                int(match.group(1)): name
                for name in self._interpreter.get_signature_list()
                if (match := SIGNATURE.match(name))
            }
            self._runners = {
                length: self._interpreter.get_signature_runner(found[length]) for length in sorted(found)
            }
        except Exception as error:  # LiteRT raises ValueError and RuntimeError of its own wording
            raise VerificationError(
                f"LiteRT cannot load {path}: {_first_line(error)}",
                hint="Copy the bundle again, or install a newer LiteRT: pip install -U ai-edge-litert.",
            ) from error
        if not self._runners:
            raise VerificationError(
                f"{path} has no signature such as tokens_32, which says how long a text it takes",
                hint="Write it with `pocketformer export MODEL --format litert`.",
            )
        self.lengths: tuple[int, ...] = tuple(self._runners)
        runner = self._runners[self.lengths[-1]]
        outputs = runner.get_output_details()
        self.output_name: str = next(iter(outputs))
        self.output_shape: tuple[Any, ...] = (
            None,
            *(int(size) for size in outputs[self.output_name]["shape"][1:]),
        )
        self._types = {name: detail["dtype"] for name, detail in runner.get_input_details().items()}
        self.input_names: tuple[str, ...] = tuple(self._types)
        self.providers: tuple[str, ...] = (LITERT_PROVIDER,)
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> FloatArray:
        """Logits [batch, labels], each text run by itself; feeds that the graph lacks are left out.

        Raises ``InputError`` when a feed is missing, ``VerificationError`` when a text is longer than all signatures.
        """
        try:
            values = {name: feeds[name] for name in self.input_names}
        except KeyError as error:
            raise missing_feed(error, feeds, self.input_names) from error
        batch, width = next(iter(values.values())).shape
        with self._lock:
            rows = [
                self._one({name: value[i] for name, value in values.items()}, width) for i in range(batch)
            ]
        return np.stack(rows)

    def _one(self, row: Mapping[str, NDArray[Any]], width: int) -> FloatArray:
        """Logits [labels] of one text; padding at its end is cut off and made anew."""
        mask = row.get("attention_mask")
        used = width if mask is None else max(1, int(np.count_nonzero(mask)))
        length = next((length for length in self.lengths if length >= used), None)
        if length is None:
            raise VerificationError(
                f"{self.model_path} takes texts of at most {self.lengths[-1]} tokens, and one has {used}",
                hint="Its manifest names the longest text: max_length.",
            )
        if mask is None and length != used:  # without a mask padding would be read as text
            raise VerificationError(
                f"{self.model_path} has no attention_mask and no signature for {used} tokens",
                hint="Write it with `pocketformer export MODEL --format litert`.",
            )
        padded = {}
        for name, value in row.items():
            kept = min(width, length)
            padded[name] = np.zeros((1, length), dtype=self._types[name])
            padded[name][0, :kept] = value[:kept]
        try:
            output = self._runners[length](**padded)[self.output_name]
        except Exception as error:  # LiteRT raises ValueError and RuntimeError of its own wording
            raise VerificationError(
                f"{self.model_path} failed on {used} tokens: {_first_line(error)}",
                hint="Check the bundle with `pocketformer verify`.",
            ) from error
        return np.array(output[0], dtype=np.float32)


def import_litert(minimum_version: Optional[str] = None) -> Any:
    """The module ``ai_edge_litert.interpreter``; ``MissingDependencyError`` when it is absent or too old."""
    try:
        from ai_edge_litert import interpreter
    # A package whose shared libraries are missing raises OSError or RuntimeError.
    except Exception as error:
        raise MissingDependencyError(
            f"this bundle needs LiteRT, which cannot be imported: {error}", hint=f"Install it: {INSTALL}."
        ) from error
    if minimum_version is not None:
        from importlib.metadata import version

        here = version("ai-edge-litert")
        if release(here) < release(minimum_version):
            raise MissingDependencyError(
                f"this bundle needs LiteRT {minimum_version} or newer, and {here} is installed",
                hint="Install a newer one: pip install -U ai-edge-litert.",
            )
    return interpreter


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:400]
