"""Settings of the search, free of heavy imports."""

from __future__ import annotations

from dataclasses import dataclass, field

from pocketformer.compress.distill import DistillConfig
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.training import TrainingConfig
from pocketformer.runtime.errors import RecipeError


def _stroke(layers: float, heads: float, ffn: float, *, embedding_rank: float = 1.0) -> PruneConfig:
    return PruneConfig(
        layers=layers, heads=heads, ffn=ffn, embedding_rank=embedding_rank, allocation="global"
    )


# Each leaves about two thirds of the products of the model before it. Depth goes late and little by little, because
# it costs most accuracy (docs/decisions/0006), but what short texts take is mostly a price for each layer.
_STROKES: tuple[PruneConfig, ...] = (
    _stroke(0.84, 0.5, 0.45, embedding_rank=0.5),
    _stroke(1.0, 0.5, 0.5),
    _stroke(0.8, 0.8, 0.8),
    _stroke(0.75, 0.8, 0.8),
    _stroke(0.67, 1.0, 0.8),
)


def _training(epochs: float) -> DistillConfig:
    return DistillConfig(training=TrainingConfig(epochs=epochs, learning_rate=None, keep="average"))


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How far and how long is searched.

    ``strokes``: what is cut, one after the other, each from the model that the stroke before it left; shares are of
    what that model has. After each comes ``recovery``, a short distillation; the model that is promising for the
    budget is then trained with ``polish``. ``vocabularies``: shares of the embedding rows that stay; trials are
    delivered with the first, and the best is tried with the others in turn only where it is too large for the budget.
    ``candidates`` are the quantizers by which a trial is judged (what ships is chosen anew among all of them).
    ``time_limit_s``: seconds after which nothing new is begun; None: no limit. ``polished`` models at most are
    trained to the end.
    """

    strokes: tuple[PruneConfig, ...] = _STROKES
    recovery: DistillConfig = field(default_factory=lambda: _training(2))
    polish: DistillConfig = field(default_factory=lambda: _training(8))
    vocabularies: tuple[float, ...] = (0.7, 0.5, 0.35, 0.25, 0.15)
    candidates: tuple[str, ...] = ("dynamic-fused-int4", "dynamic-fused-reduced-int4", "dynamic-fused-packed")
    rounds: int = 10
    time_limit_s: float | None = 2400.0
    polished: int = 3

    def __post_init__(self) -> None:
        if not self.strokes:
            raise RecipeError("the search has no strokes", hint="Name at least one, or leave `strokes` out.")
        if not self.vocabularies or not all(0 < share <= 1 for share in self.vocabularies):
            raise RecipeError(
                f"vocabularies is {list(self.vocabularies)}",
                hint="Give shares above 0, up to 1, at least one.",
            )
        if not self.candidates:
            raise RecipeError("the search has no candidates", hint="Name at least one quantizer.")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise RecipeError(f"time_limit_s is {self.time_limit_s:g}", hint="Give seconds above 0.")
        if self.rounds < 1 or self.polished < 1:
            raise RecipeError("rounds and polished are 1 or more")


@dataclass(frozen=True, kw_only=True)
class ChooseConfig:
    """``model``: number of a model in the table of an earlier search, from 1; None: the best for the run's budget."""

    model: int | None = None
