"""Pocketformer: make trained Transformers small and fast for the devices people own, and prove it.

    from pocketformer import Recipe, run, load

``Recipe`` and ``run`` need the ``compress`` extra; ``load`` and ``MicroBatcher`` work with the
base install.
Names are imported when first used, so that ``import pocketformer`` stays light on a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe
    from pocketformer.pipeline.run import run
    from pocketformer.runtime.errors import PocketformerError
    from pocketformer.runtime.microbatching import MicroBatcher
    from pocketformer.runtime.model import load

__version__ = "0.1.0"
__all__ = ["MicroBatcher", "PocketformerError", "Recipe", "__version__", "load", "run"]

_HOMES = {
    "Recipe": "pocketformer.pipeline.recipe",
    "run": "pocketformer.pipeline.run",
    "load": "pocketformer.runtime.model",
    "MicroBatcher": "pocketformer.runtime.microbatching",
    "PocketformerError": "pocketformer.runtime.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketformer' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
