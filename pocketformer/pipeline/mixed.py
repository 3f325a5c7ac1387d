"""When no int8 graph keeps the drop: the most sensitive products stay in float32, as few as the budget asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.candidates import MIXED, Candidate, candidate_by_name
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
    """What leaving products in float32 needs of a run.

    ``keeps_drop``: whether a validation metric keeps the budget's drop. ``graph``: the fp32 file that a candidate's
    products are quantized from. ``make``: a candidate by name, with these products in float32, made and scored.
    ``sample``: feeds of validation texts by which products are compared; ``calibration``: feeds for static ranges.
    """

    keeps_drop: Callable[[float], bool]
    graph: Callable[[Candidate], Path]
    make: Callable[[str, tuple[str, ...]], Tried]
    sample: Feeds
    calibration: Callable[[], Feeds]
    work: Path

    def mixed(self, tried: Sequence[Tried], reference: Callable[[], float | None]) -> list[Tried]:
        """Mixed forms of the nearest candidate of each kind; none when an int8 candidate keeps the drop already.

        Also none when the fp32 model itself, whose validation metric ``reference`` gives, does not keep it: no
        precision could. One that cannot be made is missing from the list and named in the log.
        """
        scored = [c for c in tried if c.metric is not None and c.precision.startswith("int8")]
        if any(self.keeps_drop(c.metric) and not c.local for c in scored if c.metric is not None):
            return []
        bases = [base for kind in (DynamicConfig, StaticConfig) if (base := _nearest(scored, kind))]
        if not bases:
            return []
        metric = reference()
        if metric is None or not self.keeps_drop(metric):
            log.info("no int8 candidate keeps the drop, and in float32 the model does not either")
            return []
        found = []
        for base in bases:
            try:
                made = self._mixed(base)
            except PocketformerError as error:
                log.warning("%s%s: %s", base.name, MIXED, error)
                continue
            if made is not None:
                found.append(made)
        return found

    def _mixed(self, base: Tried) -> Tried | None:
        from pocketformer.compress.quantize.sensitivity import most_sensitive_first
        from pocketformer.compress.quantize.sensitivity_core import fewest

        candidate = candidate_by_name(base.name)
        assert isinstance(candidate.config, DynamicConfig | StaticConfig)
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
            metric = made[count].metric
            return metric is not None and self.keeps_drop(metric)

        # All in float32 would be no int8 graph at all.
        count = fewest(len(products) - 1, holds)
        if count is None:
            log.info("%s: not even one product in int8 keeps the drop", base.name)
            return None
        log.info("%s%s: %d of %d products stay in float32", base.name, MIXED, count, len(products))
        return replace(made[count], products=len(products))


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
