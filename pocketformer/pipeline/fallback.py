"""What is tried when no int8 graph keeps the drop: SmoothQuant, then the most sensitive products in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.candidates import MIXED, SMOOTH, Candidate, candidate_by_name
from pocketformer.compress.quantize.config import DynamicConfig, StaticConfig
from pocketformer.pipeline.choice import Tried
from pocketformer.runtime.errors import PocketformerError
from pocketformer.runtime.manifest import ONNXRUNTIME

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Feeds = Sequence[Mapping[str, NDArray[np.int64]]]

log = logging.getLogger("pocketformer")


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """What more careful forms of a candidate need of a run.

    ``keeps_drop``: whether a validation metric keeps the budget's drop. ``graph``: the fp32 file that a candidate's
    products are quantized from. ``make``: a candidate by name, with these products in float32, made and scored.
    ``sample``: feeds of validation texts by which products are compared; ``calibration``: feeds for static ranges.
    ``note`` hears what takes its time.
    """

    keeps_drop: Callable[[float], bool]
    graph: Callable[[Candidate], Path]
    make: Callable[[str, tuple[str, ...]], Tried]
    sample: Feeds
    calibration: Callable[[], Feeds]
    work: Path
    note: Callable[[str], None]

    def forms(self, tried: Sequence[Tried], reference: Callable[[], float | None]) -> list[Tried]:
        """More careful forms of the nearest candidate of each kind; none when an int8 candidate keeps the drop already.

        Also none when the fp32 model itself, whose validation metric ``reference`` gives, does not keep it: no
        precision could. Mixed forms, which take a minute or two, are made where the smoothed one does not keep it
        either.
        """
        scored = [c for c in tried if c.metric is not None and c.precision.startswith("int8")]
        if any(self._holds(c) for c in scored):
            return []
        bases = [base for kind in (DynamicConfig, StaticConfig) if (base := _nearest(scored, kind))]
        if not bases:
            return []
        metric = reference()
        if metric is None or not self.keeps_drop(metric):
            log.info("no int8 candidate keeps the drop, and in float32 the model does not either")
            return []
        self.note("no int8 candidate keeps the drop: trying SmoothQuant, then single products in float32")
        found: list[Tried] = []
        for base in bases:
            smooth = [] if SMOOTH in base.name else [self.make(base.name + SMOOTH, ())]
            found += smooth
            if any(map(self._holds, smooth)):
                continue
            nearer = _nearest([base, *smooth], object) or base
            try:
                found += self._mixed(nearer)
            except PocketformerError as error:
                log.warning("%s%s: %s", nearer.name, MIXED, error)
        return found

    def _holds(self, candidate: Tried) -> bool:
        """Whether it keeps the drop, and its answers are the same on all processors."""
        return candidate.metric is not None and self.keeps_drop(candidate.metric) and not candidate.local

    def _mixed(self, base: Tried) -> list[Tried]:
        from pocketformer.compress.quantize.sensitivity import most_sensitive_first
        from pocketformer.compress.quantize.sensitivity_core import fewest

        candidate = candidate_by_name(base.name)
        assert isinstance(candidate.config, DynamicConfig | StaticConfig)
        self.note(f"{base.name}: measuring what each product loses to int8")
        self.work.mkdir(parents=True, exist_ok=True)
        products = most_sensitive_first(
            self.graph(candidate),
            candidate.config,
            sample=self.sample,
            calibration=self.calibration() if candidate.needs_calibration else (),
            work=self.work,
        )
        made: dict[int, Tried] = {}

        def holds(count: int) -> bool:
            names = tuple(product.name for product in products[:count])
            made[count] = self.make(base.name + MIXED, names)
            return self._holds(made[count])

        # All in float32 would be no int8 graph at all.
        count = fewest(len(products) - 1, holds)
        if count is None:
            log.info("%s: not even one product in int8 keeps the drop", base.name)
            return []
        log.info("%s%s: %d of %d products stay in float32", base.name, MIXED, count, len(products))
        return [replace(made[count], products=len(products))]


def _nearest(scored: Sequence[Tried], kind: type[Any]) -> Tried | None:
    """The candidate of a kind that drops least; one that answers alike on all processors before others."""
    able = [
        c
        for c in scored
        if c.engine == ONNXRUNTIME
        and isinstance(candidate_by_name(c.name).config, kind)
        and c.path is not None
    ]
    return max(able, key=lambda c: (not c.local, c.metric or 0.0, -c.file_mb), default=None)
