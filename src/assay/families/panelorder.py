"""Cell tokens, autoregressive over panels: panels in any order, the cells of each in raster order.

    p(x) = prod_j prod_c p(token c of panel order_j | panels before it, its tokens 0..c-1),

one causal network for every order trained on (`orders`), told at each token its own place and the
next one's. The loss is the mean over a sample's tokens of -log p in nats, a row's last panel
weighted by ``last_weight``. Sampling goes in the natural order; a completion takes the known
panels in first and draws the rest. With a key-value cache a token costs one evaluation of one
position. A draw at temperature 1 is exact: one uniform number inverts one conditional law.

The network is any object with ``ahead(seq, places, label, span, cache, rng)``, ``begin(n)`` and
``config`` as `assay.models.cellnet.CellNet` has them.
"""

from __future__ import annotations

from typing import Any

import torch

from assay.families import base, orders
from assay.families.celltokens import CellTokens
from assay.families.config import PanelOrderConfig
from assay.families.streams import Streams

_N = orders.N_PANELS


class PanelOrder(CellTokens):
    """The autoregressive family over panels; codes are tokens int64 (n, 9 C), masks bool."""

    config: PanelOrderConfig

    def __init__(self, network: Any, config: PanelOrderConfig | None = None):
        super().__init__(network, config or PanelOrderConfig())
        if self.n_panels != _N:
            raise ValueError(f"grid {network.config.grid} must have {_N} panels, 3 rows of 3")

    def loss(self, batch: base.Batch, rng: Streams) -> torch.Tensor:
        """(n,) weighted mean over tokens of -log p, each sample in an order of its own."""
        x = batch["x"].to(self.device).long()
        uniform = rng.rand(len(x), orders.N_UNIFORMS)
        panels = orders.draw(self.config.orders, uniform).to(self.device)
        dropout = rng.generator(self.device) if self.training else None
        label = self._label(batch, rng)
        lp = self._log_prob(x, panels, label, dropout).unflatten(1, (_N, self.n_cells))
        last = orders.last_of_row(panels)
        weight = torch.where(last, self.config.last_weight, 1.0)
        return -(weight[..., None] * lp).sum((1, 2)) / (weight.sum(1) * self.n_cells)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(n, L): log p of each token of x, in the natural order."""
        x = x.to(self.device).long()
        return self._log_prob(x, torch.arange(_N, device=self.device).expand(len(x), _N), label)

    def _log_prob(self, x, panels, label=None, rng=None) -> torch.Tensor:
        """(n, L): log p of each token, panels (n, 9) in the order given."""
        places = self._cells(panels)
        seq = x.gather(1, places)
        return self.head.log_prob(self.network.ahead(seq, places, label, rng=rng), seq)

    def _cells(self, panels: torch.Tensor) -> torch.Tensor:
        """(n, L): the cells of panels (n, 9), in their order."""
        inside = torch.arange(self.n_cells, device=panels.device)
        return (panels[..., None] * self.n_cells + inside).flatten(1)

    @torch.no_grad()
    def complete(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        rng: Streams,
        temperature: float = 0.0,
    ) -> torch.Tensor:
        """Draw the unknown panels, mask bool (n, L), given the known; see `base.Family`."""
        x, unknown = self._known(context, mask, temperature)
        cut = mask.unflatten(1, (_N, self.n_cells))
        if (cut.any(2) != cut.all(2)).any():
            raise ValueError("mask cuts through a panel: this model completes whole panels only")
        panels, places, n_known = orders.plans(cut.all(2).cpu().numpy(), self.config.orders)
        cells, places = self._cells(panels.to(self.device)), self._cells(places.to(self.device))
        seq, hidden = x.gather(1, cells), unknown.gather(1, cells)
        uniform = rng.rand(len(x), *self.shape).to(self.device)
        start = int(min(n_known, default=_N)) * self.n_cells
        self._draw(seq, hidden, places, uniform, start, temperature)
        return torch.empty_like(seq).scatter_(1, cells, seq)

    def _draw(self, seq, hidden, places, uniform, start, temperature) -> None:
        """Fill the hidden tokens of seq in place; those before start are known in every line."""
        labels = self._labels(len(seq))
        caches = [self.network.begin(len(seq)) for _ in labels]
        done = 0
        for at in range(start, self.shape[0]):
            answers = [
                self.network.ahead(seq, places, label, (done, at + 1), cache)[:, -1]
                for label, cache in zip(labels, caches, strict=True)
            ]
            drawn = self.head.draw(
                uniform=uniform[:, at], temperature=temperature, **self._law(answers)
            )
            seq[:, at] = torch.where(hidden[:, at], drawn, seq[:, at])
            done = at + 1

    def evaluations(self, n_unknown: int | None = None) -> int:
        """Cached network evaluations, one a token; the first takes the known panels in."""
        unknown = _N if n_unknown is None else n_unknown
        return unknown * self.n_cells * len(self._labels(1))
