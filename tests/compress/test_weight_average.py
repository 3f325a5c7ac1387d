"""The mean of the weights on the way is their arithmetic mean; what is not trained stays."""

from __future__ import annotations

import torch

from pocketformer.compress.weight_average import WeightAverage


def test_the_mean_of_the_weights_that_are_trained() -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    bias = model.bias.clone()
    average = WeightAverage(model)
    seen = []
    for seed in range(4):
        torch.manual_seed(seed)
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3))
        seen.append(model.weight.detach().clone())
        average.add()
    average.apply()
    assert average.count == 4
    torch.testing.assert_close(model.weight.detach(), torch.stack(seen).mean(0))
    torch.testing.assert_close(model.bias, bias)


def test_nothing_added_changes_nothing() -> None:
    model = torch.nn.Linear(2, 2)
    before = model.weight.detach().clone()
    WeightAverage(model).apply()
    torch.testing.assert_close(model.weight.detach(), before)
