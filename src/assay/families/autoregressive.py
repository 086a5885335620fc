"""Autoregressive on tokens: L tokens of a sample, drawn in their order.

    p(x) = prod_i p(x_i | x_1 .. x_{i-1}, label),

what is known before token i a hidden state of a causal network, the law of the token a head of it
(`assay.families.heads`). The loss is the mean over a sample's L tokens of -log p in nats. One
uniform number inverts the law of one token, so that a draw at temperature 1 is exact.

Completions take the known tokens in first. Rows are exchangeable in the data, so that they may be
relabelled: known rows first, then one known in part, then unknown ones. So whole rows can be
completed and, in one more row, the tokens that come last in it; no others.

The network is any object with ``config.length``, ``config.width``, ``config.sizes``, a call
(tokens, label) -> hidden states, ``begin(n)`` and ``step(state, tokens, label)`` as
`assay.models.hf.TokenNet` has them.
"""

from __future__ import annotations

from typing import Any

import torch

from assay.families import base, heads
from assay.families.config import AutoregressiveConfig
from assay.families.streams import Streams


class Autoregressive(base.Family):
    """The family of a causal network and a head; codes are int64 tokens (n, L)."""

    def __init__(self, network: Any, config: AutoregressiveConfig | None = None):
        super().__init__()
        self.network, self.config = network, config or AutoregressiveConfig()
        self.shape = (network.config.length,)
        sizes, rows = self.config.head.sizes, self.config.rows
        if sizes != network.config.sizes:
            raise ValueError(f"head.sizes {sizes} are not the network's, {network.config.sizes}")
        if self.shape[0] % rows:
            raise ValueError(f"rows {rows} do not divide a length of {self.shape[0]} tokens")
        seed = getattr(network, "seed", 0)
        self.head = heads.build(self.config.head, network.config.width, seed)

    def loss(self, batch: base.Batch, rng: Streams) -> torch.Tensor:
        """(n,) mean over tokens of -log p; the labels of a conditional network partly dropped."""
        return -self._log_prob(batch["x"], self._label(batch, rng)).mean(1)

    def _log_prob(self, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        x = x.to(self.device).long()
        return self.head.log_prob(self.network(x, label), x)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(n, L): log p of each token of x given those before it and a label (n,)."""
        return self._log_prob(x, label if label is None else label.to(self.device))

    def sample(self, n: int, rng: Streams, temperature: float = 1.0) -> torch.Tensor:
        """(n, L) draws; each token's law at the temperature."""
        everything = torch.ones(n, *self.shape, dtype=torch.bool)
        return self.complete(torch.zeros(n, *self.shape), everything, rng, temperature)

    @torch.no_grad()
    def complete(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        rng: Streams,
        temperature: float = 0.0,
    ) -> torch.Tensor:
        """Draw the unknown tokens, mask bool (n, L), given the known ones; see `base.Family`."""
        base.check_context(context, mask, self.shape)
        base.check_temperature(temperature)
        x, unknown = context.to(self.device).long(), mask.to(self.device)
        x = x.masked_fill(unknown, 0)
        self._check_known(x)
        order = self._order(unknown)
        seq, hidden = x.gather(1, order), unknown.gather(1, order)
        uniform = rng.rand(len(x), *self.shape).to(self.device)
        self._draw(seq, hidden, uniform, temperature)
        return torch.empty_like(seq).scatter_(1, order, seq)

    def _order(self, unknown: torch.Tensor) -> torch.Tensor:
        """int64 (n, L): the tokens in the order drawn, rows with more unknown later."""
        n, rows = len(unknown), self.config.rows
        count = unknown.view(n, rows, -1).sum(-1)
        within = torch.arange(self.shape[0] // rows, device=unknown.device)
        first = count.argsort(dim=1, stable=True)[..., None] * len(within)
        order = (first + within).view(n, -1)
        taken = unknown.gather(1, order)
        wrong = (taken[:, 1:] < taken[:, :-1]).any(1)  # a known token after an unknown one
        if wrong.any():
            raise ValueError(_refusal(unknown[wrong][0]))
        return order

    def _draw(self, seq, hidden, uniform, temperature) -> None:
        """Fill the hidden tokens of seq in place, in order, after those known in every line."""
        n, known = len(seq), int((~hidden).sum(1).min())
        label, w = self.bound or (0, 0.0)
        labels = [label] if w == 0 else [0] if w == -1 else [label, 0]
        told = torch.tensor(labels, device=seq.device).repeat_interleave(n)
        state = self.network.begin(len(told))
        for i in range(known, self.shape[0]):
            new = seq[:, :i] if i == known else seq[:, i - 1 : i]
            cond, *uncond = self.network.step(state, new.repeat(len(labels), 1), told).split(n)
            away = uncond[0] if uncond else None
            drawn = self.head.draw(cond, uniform[:, i], temperature, away, w)
            seq[:, i] = torch.where(hidden[:, i], drawn, seq[:, i])

    def _check_known(self, x: torch.Tensor) -> None:
        """ValueError where a known token is none that there is."""
        wrong = (x < 0) | (x >= self.head.n_tokens)
        if wrong.any():
            sample, place = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"context has token {x[sample, place].item()} at place {place} of sample "
                f"{sample}: known tokens lie in 0..{self.head.n_tokens - 1}; mask it instead"
            )

    def evaluations(self, n_unknown: int | None = None) -> int:
        """Cached network steps, one a token drawn of so many of nine panels, known ones with the
        first; twice as many where guidance needs both networks."""
        unknown = 9 if n_unknown is None else n_unknown
        both = self.bound is not None and self.bound[1] not in (0, -1)
        return self.shape[0] * unknown // 9 * (1 + both)


def _refusal(unknown: torch.Tensor) -> str:
    panels = unknown.view(9, -1).any(1) if len(unknown) % 9 == 0 else unknown
    named = ", ".join(f"r{i // 3 + 1}c{i % 3 + 1}" for i in panels.nonzero()[:, 0].tolist())
    return (
        f"mask {named} cannot be completed by this model, which draws tokens in their order: it "
        "can complete whole rows and, in one more row, the last panel or the last two; take a "
        "panel-order, masked or set-token model for other masks"
    )
