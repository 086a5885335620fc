"""Set tokens, autoregressive: nine panels of U sets each, drawn panel by panel in any order.

    p(x) = prod_j prod_u p(set u of panel order_j | panels before it, sets 0..u-1 of its own),

one network for every order trained on (`orders`). The loss is the mean over a sample's 9 U tokens
of -log p in nats, a row's last panel weighted by ``last_weight``, sets by ``set_weights``.
Sampling goes in the natural order; a completion takes the known panels in first and draws the
rest. A draw at temperature 1 is exact: one uniform number inverts one conditional law.

The network is any object with ``config.widths``, ``log_prob(seq, places, label, rng)``,
``begin(n)``, ``skip(...)`` and ``step(...)`` as `assay.models.setnet.SetNet` has them.
"""

from __future__ import annotations

from typing import Any

import torch

from assay.core import guidance, tokens
from assay.families import base, orders
from assay.families.config import SetTokenConfig
from assay.families.streams import Streams

_N = orders.N_PANELS


class SetTokens(base.Family):
    """The family of set tokens over a network; codes are int64 (n, 9, U), bits of sets."""

    def __init__(self, network: Any, config: SetTokenConfig | None = None):
        super().__init__()
        self.network, self.config = network, config or SetTokenConfig()
        self.widths: tuple[int, ...] = network.config.widths
        self.shape = (_N, len(self.widths))
        weights = self.config.set_weights or (1.0,) * len(self.widths)
        if len(weights) != len(self.widths):
            raise ValueError(f"set_weights {weights} must be {len(self.widths)} numbers")
        self.set_weights = torch.tensor(weights) / sum(weights)

    def loss(self, batch: base.Batch, rng: Streams) -> torch.Tensor:
        """(n,) weighted mean over tokens of -log p, each sample in an order of its own."""
        x = batch["x"].to(self.device).long()
        uniform = rng.rand(len(x), orders.N_UNIFORMS)
        places = orders.draw(self.config.orders, uniform).to(self.device)
        dropout = rng.generator(self.device) if self.training else None
        label = self._label(batch, rng)
        lp = self.network.log_prob(_taken(x, places), places, label, dropout)
        last = orders.last_of_row(places)
        weight = torch.where(last, self.config.last_weight, 1.0)
        return -(weight * (lp @ self.set_weights.to(lp))).sum(1) / weight.sum(1)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(n, 9, U): log p of each token of x, in the natural order."""
        x = x.to(self.device).long()
        places = torch.arange(_N, device=self.device).expand(len(x), _N)
        return self.network.log_prob(x, places, label)

    def sample(self, n: int, rng: Streams, temperature: float = 1.0) -> torch.Tensor:
        """(n, 9, U) draws in the natural order; each conditional law at the temperature.

        Then ``config.sweeps`` times each row in turn is drawn anew given the other two: Gibbs
        steps by the model's own conditional laws, which leave its law as it is where they agree.
        """
        everything = torch.ones(n, _N, dtype=torch.bool)
        x = self.complete(torch.zeros(n, *self.shape), everything, rng, temperature)
        for row in list(range(3)) * self.config.sweeps:
            mask = (torch.arange(_N) // 3 == row).expand(n, _N)
            x = self.complete(x, mask, rng, temperature)
        return x

    @torch.no_grad()
    def complete(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        rng: Streams,
        temperature: float = 0.0,
    ) -> torch.Tensor:
        """Draw the unknown panels, mask bool (n, 9), given the known ones; see `base.Family`."""
        base.check_context(context, mask, self.shape)
        base.check_temperature(temperature)
        panels, places, n_known = orders.plans(mask.cpu().numpy(), self.config.orders)
        panels, places = panels.to(self.device), places.to(self.device)
        unknown = mask.to(self.device)
        x = context.to(self.device).long().masked_fill(unknown[..., None], 0)
        base.check_sets(x, unknown, self.widths)
        seq, hidden = _taken(x, panels), unknown.gather(1, panels)
        uniform = rng.rand(len(x), *self.shape).to(self.device)
        self._draw(seq, hidden, places, uniform, int(min(n_known, default=_N)), temperature)
        return torch.empty_like(seq).scatter_(1, _index(panels, seq), seq)

    def _draw(self, seq, hidden, places, uniform, n_known, temperature) -> None:
        """Fill the hidden panels of seq in place; the first n_known are known in every line."""
        label, w = self.bound or (0, 0.0)
        labels = [label] if w == 0 else [label, 0]  # guided away from no label
        told = [torch.full_like(seq[:, 0, 0], value) for value in labels]
        states = [self.network.begin(len(seq)) for _ in told]
        for state, value in zip(states, told, strict=True):
            self.network.skip(state, seq, places, n_known, value)
        for panel in range(n_known, _N):
            for unit in range(len(self.widths)):
                answers = [
                    self.network.step(state, seq, places, panel, unit, value)
                    for state, value in zip(states, told, strict=True)
                ]
                logits = answers[0] if w == 0 else guidance.combine(answers[0], answers[1], w)
                drawn = tokens.draw(logits, uniform[:, panel, unit], temperature)
                seq[:, panel, unit] = torch.where(hidden[:, panel], drawn, seq[:, panel, unit])

    def evaluations(self, n_unknown: int | None = None) -> int:
        """Cached network steps: one a set drawn, and one for the known panels."""
        if n_unknown is None:
            return self.evaluations(_N) + 3 * self.config.sweeps * self.evaluations(3)
        return n_unknown * len(self.widths) + (0 < n_unknown < _N)


def _index(panels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return panels[..., None].expand(-1, -1, x.shape[-1])


def _taken(x: torch.Tensor, panels: torch.Tensor) -> torch.Tensor:
    """x (n, 9, U) with its panels in the order given (n, 9)."""
    return x.gather(1, _index(panels, x))
