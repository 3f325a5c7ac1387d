"""How much of a model stays: settings of the pruning steps, free of heavy imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pocketformer.runtime.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How many layers stay, and how much of each.

    ``layers``, ``heads`` and ``ffn``: an ``int`` is a count (of layers; of heads or neurons in each layer,
    where one that has fewer keeps what it has), a ``float`` in (0, 1] a share of what there is; widths are
    rounded down to ``width_multiple``. Layers are kept evenly spread.

    ``method``: "fisher" removes what has the least saliency, for training to make up for. "obs" also changes the
    weights that stay to make up for what went (``obs_core``, ``reconstruction``), which needs no training after it.

    ``hidden``: the width of the hidden state, a count or a share, rounded down to a multiple of the head size: its
    principal directions stay. It goes last, and takes from layers with more heads than it has room for those that
    matter least.

    ``embedding_rank``: the rank that the word table keeps, a count or a share of its width; what frequent pieces need
    counts most (``rank_core``). The table's shape stays, and exported graphs hold it as two small factors.

    ``allocation``: "uniform" keeps the same in every layer; "global" lets all layers' heads and neurons
    compete for the same number of parameters together, with at least one head and ``width_multiple`` neurons in
    each layer; "latency" lets them compete for the time that they take (``BlockCosts``; multiply-accumulates of
    a text of ``tokens`` tokens where nothing was measured). How much may stay is what ``heads`` and ``ffn`` would
    leave in every layer, or with "latency" ``cost``: a share of what the whole encoder costs, or "budget" for the
    smallest that is expected to keep the run's ``max_drop`` without training (``within_drop``).

    ``protected_layers`` (numbers after ``layers`` was applied) are left whole and do not count. ``samples``
    examples, drawn with ``seed`` (None: the run's), are read in batches of ``batch_size``.
    """

    layers: int | float = 1.0
    heads: int | float = 1.0
    ffn: int | float = 1.0
    hidden: int | float = 1.0
    embedding_rank: int | float = 1.0
    method: Literal["fisher", "obs"] = "fisher"
    allocation: Literal["uniform", "global", "latency"] = "uniform"
    cost: float | Literal["budget"] | None = None
    tokens: int = 128
    protected_layers: tuple[int, ...] = ()
    width_multiple: int = 8
    samples: int = 1024
    batch_size: int = 32
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "ffn", "hidden", "embedding_rank"):
            _check_amount(name, getattr(self, name))
        _check_choice("method", self.method, ("fisher", "obs"))
        _check_choice("allocation", self.allocation, ("uniform", "global", "latency"))
        self._check_cost()
        if self.method == "obs" and self.hidden != 1.0:
            raise RecipeError(
                "a narrower hidden state needs training, and method: obs is for models that get none",
                hint="Leave hidden out, or set method: fisher and distill afterwards.",
            )
        for name in ("width_multiple", "samples", "batch_size", "tokens"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}", hint="It must be 1 or more.")

    def _check_cost(self) -> None:
        if self.cost is None:
            return
        if self.allocation != "latency" or (self.heads, self.ffn) != (1.0, 1.0):
            raise RecipeError(
                "cost says how much stays, and goes with allocation: latency alone",
                hint="Set allocation: latency and leave heads and ffn out, or leave cost out.",
            )
        if self.cost != "budget" and not (isinstance(self.cost, float) and 0 < self.cost <= 1):
            raise RecipeError(f"cost is {self.cost!r}", hint="Give a share above 0, up to 1.0, or 'budget'.")
        if self.cost == "budget" and self.method != "obs":
            raise RecipeError(
                "cost: budget is for models that are not trained afterwards", hint="Set method: obs."
            )

    @property
    def changes_width(self) -> bool:
        """Whether heads or neurons go."""
        return (self.heads, self.ffn, self.cost) != (1.0, 1.0, None)


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """How many embedding rows stay.

    ``size``: a count of rows or a share of the vocabulary; more are kept when the texts need more.
    ``replacement``: what becomes of the other pieces, "split" or "nearest" (see ``vocabulary``).
    ``max_positions``: also cut the position embeddings to this many tokens.
    """

    size: int | float = 0.4
    replacement: Literal["split", "nearest"] = "split"
    max_positions: int | None = None

    def __post_init__(self) -> None:
        _check_amount("size", self.size)
        _check_choice("replacement", self.replacement, ("split", "nearest"))
        if self.max_positions is not None and self.max_positions < 1:
            raise RecipeError(f"max_positions is {self.max_positions}", hint="Keep at least one position.")


def _check_amount(name: str, value: Any) -> None:
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not count and not (isinstance(value, float) and 0 < value <= 1):
        raise RecipeError(
            f"{name} is {value!r}", hint="Give a count (1 or more) or a share above 0, up to 1.0."
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RecipeError(f"{name} is {value!r}", hint=f"Choose one of: {', '.join(choices)}.")
