"""What the families over cell tokens share: a head, labels, and what a context may hold.

Codes are int64 (n, L), one token a cell as `assay.families.heads` counts them, panel after panel.
The network's config has ``grid`` (rows, columns, cells of a panel), ``sizes``, ``n_labels`` and
``trunk.width``.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from assay.families import base, heads
from assay.families.config import CellTokensConfig
from assay.families.streams import Streams


class CellTokens(base.Family):
    """A network with one vector a cell, and a head."""

    config: CellTokensConfig

    def __init__(self, network: Any, config: CellTokensConfig):
        super().__init__()
        if config.head.sizes != network.config.sizes:
            raise ValueError(
                f"head sizes {config.head.sizes} differ from the network's "
                f"{network.config.sizes}: give both the same"
            )
        self.network, self.config = network, config
        self.head = heads.build(config.head, network.config.trunk.width)
        rows, columns, self.n_cells = network.config.grid
        self.n_panels = rows * columns
        self.shape = (math.prod(network.config.grid),)

    def sample(self, n: int, rng: Streams, temperature: float = 1.0) -> torch.Tensor:
        """int64 (n, L) draws: nothing is known, everything is completed."""
        everything = torch.ones(n, *self.shape, dtype=torch.bool)
        nothing = torch.zeros(n, *self.shape, dtype=torch.int64)
        return self.complete(nothing, everything, rng, temperature)

    def _known(
        self, context: torch.Tensor, mask: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens with 0 where unknown, mask), on the device; ValueError for other contexts."""
        base.check_context(context, mask, self.shape)
        base.check_temperature(temperature)
        if mask.shape != context.shape:
            raise ValueError(f"mask must have shape (n, {self.shape[0]}), got {tuple(mask.shape)}")
        unknown = mask.to(self.device)
        x = context.to(self.device).long().masked_fill(unknown, 0)
        bad = (x < 0) | (x >= self.head.n_tokens)
        if bad.any():
            sample, cell = bad.nonzero()[0].tolist()
            raise ValueError(
                f"context holds {int(x[sample, cell])} at cell {cell} of sample {sample}: tokens "
                f"lie in 0..{self.head.n_tokens - 1}; correct it or mask it"
            )
        return x, unknown

    def _labels(self, n: int) -> list[torch.Tensor]:
        """The labels (n,) that draws are made under: one, or one and none to guide away from."""
        label, w = self.bound or (0, 0.0)
        told = [0] if w == -1 else [label] if w == 0 else [label, 0]
        return [torch.full((n,), value, device=self.device) for value in told]

    def _law(self, hidden: list[torch.Tensor]) -> dict[str, Any]:
        """What a head needs to draw from the vectors under `_labels`."""
        guided = len(hidden) > 1
        w = self.bound[1] if guided and self.bound else 0.0
        return {"hidden": hidden[0], "uncond": hidden[1] if guided else None, "w": w}
