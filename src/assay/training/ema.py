"""An exponential moving average of a model's weights.

average <- d average + (1 - d) weights after every step, with d = min(decay, (1 + t) / (10 + t)) at
step t, so that the first weights are soon forgotten. Averages are kept in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Average:
    """The average of the parameters of a model, by name."""

    def __init__(self, model: torch.nn.Module, decay: float):
        self.decay = decay
        self.tensors = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """Take in the weights after step 0, 1, ..."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, p in model.named_parameters():
            self.tensors[name].lerp_(p.detach().float(), 1 - decay)

    @contextmanager
    def applied(self, model: torch.nn.Module) -> Iterator[None]:
        """The model has the averaged weights inside, and its own again afterwards."""
        own = {name: p.detach().clone() for name, p in model.named_parameters()}
        _copy(self.tensors, model)
        try:
            yield
        finally:
            _copy(own, model)


@torch.no_grad()
def _copy(tensors: dict[str, torch.Tensor], model: torch.nn.Module) -> None:
    for name, p in model.named_parameters():
        p.copy_(tensors[name])
