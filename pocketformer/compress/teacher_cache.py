"""What a teacher says of every text, computed once and kept on disk for every step that asks the same.

Hidden states are float16 in one flat memory-mapped file, tokens of all texts after each other, so that a large
corpus costs disk and not memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.encoding import TokenIds, iterate_padded
from pocketformer.runtime.errors import UnavailableError

if TYPE_CHECKING:
    import torch


class TeacherCache:
    """Logits [texts, labels] and vectors [texts' tokens, vectors, width] of a teacher over ``rows``."""

    def __init__(self, logits: torch.Tensor, vectors: np.ndarray | None, offsets: np.ndarray) -> None:
        self.logits = logits
        self._vectors = vectors
        self._offsets = offsets

    def batch(
        self, indices: Sequence[int], length: int, chosen: Sequence[int] | None = None
    ) -> torch.Tensor | None:
        """The vectors of these texts, float32 [vectors, batch, length, width], zero where no token stands.

        ``chosen``: which of the kept vectors, by position; None: all.
        """
        import torch

        if self._vectors is None:
            return None
        count, width = self._vectors.shape[1:]
        positions = list(range(count)) if chosen is None else list(chosen)
        out = np.zeros((len(indices), length, len(positions), width), dtype=np.float32)
        for row, index in enumerate(indices):
            first, last = self._offsets[index], self._offsets[index + 1]
            out[row, : last - first] = self._vectors[first:last][:, positions]
        return torch.from_numpy(out).permute(2, 0, 1, 3)


def teacher_cache(
    teacher: Callable[[], Any],
    rows: Sequence[TokenIds],
    *,
    pad_id: int,
    vectors: Callable[[Any, dict[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor | None]],
    folder: Path,
    key: str,
    on_batch: Callable[[int], None] = lambda _: None,
    computes: bool = True,
) -> TeacherCache:
    """What ``teacher`` says of ``rows``: read from ``folder`` when it was computed for this ``key``, else computed.

    ``teacher`` gives the model and is called only when it must run; ``vectors(model, batch)`` gives its logits
    [batch, labels] and, or None, the vectors to imitate [vectors, batch, length, width]. ``key`` must name the teacher
    and what ``vectors`` reads; the rows are added to it here. ``on_batch`` hears how many rows are done. Without
    ``computes`` it must be there: ``UnavailableError`` when it is not. Processes that compute the same at once do not
    disturb each other.
    """
    import torch

    if not rows:
        raise ValueError("a teacher cache needs at least one row")
    digest = hashlib.sha256(json.dumps([key, list(rows)]).encode()).hexdigest()[:32]
    place = folder / digest
    if not (place / "logits.npy").exists():
        if not computes:
            raise UnavailableError(
                f"{place} is not there, where process 0 has put what the teacher says",
                hint="Write the run to a folder that all processes see under the same path.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{digest}.", dir=folder))
        try:
            _compute(teacher(), rows, pad_id, vectors, temporary, on_batch)
            try:
                temporary.rename(place)
            except OSError:  # another process was there first, with the same
                if not (place / "logits.npy").exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    kept = place / "vectors.npy"
    return TeacherCache(
        torch.from_numpy(np.load(place / "logits.npy")),
        np.load(kept, mmap_mode="r") if kept.exists() else None,
        _offsets(rows),
    )


def _compute(
    teacher: Any,
    rows: Sequence[TokenIds],
    pad_id: int,
    vectors: Callable[[Any, dict[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor | None]],
    folder: Path,
    on_batch: Callable[[int], None],
) -> None:
    import torch

    offsets = _offsets(rows)
    store: np.ndarray | None = None
    logits: np.ndarray | None = None
    done = 0
    teacher.eval()
    with torch.inference_mode():
        for indices, batch in iterate_padded(rows, pad_id):
            batch_logits, batch_vectors = vectors(teacher, batch)
            if logits is None:
                logits = np.empty((len(rows), batch_logits.shape[-1]), dtype=np.float32)
            logits[indices] = batch_logits.float().numpy()
            if batch_vectors is not None:
                if store is None:
                    shape = (int(offsets[-1]), batch_vectors.shape[0], batch_vectors.shape[-1])
                    store = np.lib.format.open_memmap(
                        folder / "vectors.npy", mode="w+", dtype=np.float16, shape=shape
                    )
                flat = batch_vectors.permute(1, 2, 0, 3).half().numpy()
                for position, index in enumerate(indices):
                    store[offsets[index] : offsets[index + 1]] = flat[position, : len(rows[index])]
            done += len(indices)
            on_batch(done)
    if logits is not None:
        np.save(folder / "logits.npy", logits)


def _offsets(rows: Sequence[TokenIds]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])])
