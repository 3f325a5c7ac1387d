"""The mean of a model's weights over the last part of its training.

Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization": the mean of points along the
way lies in a flatter place than any of them, and answers about as their ensemble would, for the price of one model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

AVERAGED_SHARE = 0.3
"""Share of the training's steps, at its end, whose weights are averaged."""


class WeightAverage:
    """The running mean of the weights of ``model`` that are trained, in their own precision."""

    def __init__(self, model: Any) -> None:
        self._trained: dict[str, torch.Tensor] = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._mean: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self) -> None:
        """Count the weights as they are now."""
        self.count += 1
        for name, weight in self._trained.items():
            now = weight.detach()
            if name in self._mean:
                self._mean[name] += (now - self._mean[name]) / self.count
            else:
                self._mean[name] = now.clone()

    def apply(self) -> None:
        """Give the model the mean; nothing happens when nothing was added."""
        import torch

        with torch.no_grad():
            for name, mean in self._mean.items():
                self._trained[name].copy_(mean)
