"""What an engine is built for: precision, GPUs and shapes. Importing it needs no TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

from pocketformer.runtime.errors import ExportError, InputError

Precision = Literal["fp32", "fp16", "int8", "int8-fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int8-fp16")
# Those that TensorRT-RTX builds for when it is not told: Ampere, Ada and Blackwell.
DEFAULT_COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")

Range = tuple[int, int, int]
# Tensor cores work on eights: a usual length that is a multiple costs nothing extra.
_STEP = 8


@dataclass(frozen=True)
class Profile:
    """The shapes that an engine takes: (smallest, usual, largest) ``batch`` in rows and ``sequence`` in tokens.

    It is tuned for the usual shape and takes every shape between the other two.
    """

    batch: Range = (1, 1, 8)
    sequence: Range = (1, 32, 128)

    def __post_init__(self) -> None:
        for name in ("batch", "sequence"):
            smallest, usual, largest = getattr(self, name)
            if not 1 <= smallest <= usual <= largest:
                raise InputError(
                    f"the profile's {name} {smallest}, {usual}, {largest} is not in rising order from 1 on",
                    hint="Give the smallest, the usual and the largest.",
                )

    def shapes(self, name: str, dims: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The smallest, usual and largest shape of the graph's input ``name``; a free axis of ``dims`` is -1.

        The first axis is the batch, the second of a text input the sequence. ``ExportError`` for a free axis
        that is neither.
        """
        ranges: list[Range] = []
        for axis, size in enumerate(dims):
            if size >= 0:
                ranges.append((size, size, size))
            elif axis == 0:
                ranges.append(self.batch)
            elif axis == 1 and len(dims) == 2:
                ranges.append(self.sequence)
            else:
                raise ExportError(
                    f"axis {axis} of the input {name} {list(dims)} is free and is neither batch nor sequence",
                    hint="Export with that axis fixed.",
                )
        smallest, usual, largest = zip(*ranges)
        return tuple(smallest), tuple(usual), tuple(largest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"batch": list(self.batch), "sequence": list(self.sequence)}


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is built for.

    ``compute_capabilities`` are those of the GPUs that shall run it, such as "8.9"; plain TensorRT builds for
    the GPU of this machine, whose own is then to be named. ``profile`` are the shapes that it takes.
    ``timing_cache`` is a file of timings that plain TensorRT reads and adds to, None for none; TensorRT-RTX times
    nothing while it builds and leaves it alone. ``sparse_weights`` lets the builder take kernels that skip zeros where
    weights have two in every four.
    """

    compute_capabilities: tuple[str, ...] = DEFAULT_COMPUTE_CAPABILITIES
    profile: Profile = field(default_factory=Profile)
    timing_cache: Optional[Path] = None
    sparse_weights: bool = False


def profile_for_lengths(lengths: Sequence[int], *, batch: Range = (1, 1, 8)) -> Profile:
    """A profile for texts of these ``lengths`` in tokens: the shortest, the median rounded up to 8, the longest.

    The median is at most the longest. ``InputError`` when there are no lengths or one is below 1.
    """
    if not lengths or min(lengths) < 1:
        raise InputError("a profile is made from text lengths of at least 1 token", hint="Pass some texts.")
    ordered = sorted(int(length) for length in lengths)
    median = ordered[(len(ordered) - 1) // 2]
    usual = min(-(-median // _STEP) * _STEP, ordered[-1])
    return Profile(batch=batch, sequence=(ordered[0], usual, ordered[-1]))
