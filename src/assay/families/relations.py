"""A mixture of relations over set tokens: which unit is governed, and by what, is hidden.

    p(x) = sum over a, k of p(a, k) prod over rows of p(row | a, k),

all of it learned by maximum likelihood from unlabelled samples (`models.relationnet`; the loss is
-log p(x) in nats): gradient ascent on the logarithm of the sum, whose weights are the posterior of
(a, k) given the sample, as in expectation maximisation (Dempster, Laird and Rubin 1977). A
component is pushed only as far as it is believed, so likelihood does not push against a relation
of a unit that training never shows: it may not know it, or know it from other units.

Completing draws (a, k) from its posterior given the known panels, then the unknown ones, exactly.
What cannot be completed: a row's first two panels where its third is known. The prior of (a, k)
lets a share ``floor`` of relations govern units that training never saw them govern. A label
changes the prior of (a, k) alone, so guidance raises that: the law of (a, k, x) is
p(a, k | label)^(1+w) p(a, k)^(-w) p(x | a, k), normalised.

The network is any object with ``config.widths`` and the laws of `models.relationnet.RelationNet`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from assay.core import guidance, tokens
from assay.families import base
from assay.families.config import RelationsConfig
from assay.families.relationdraw import RowDraw
from assay.families.relationgap import Gap
from assay.families.streams import Streams

_N_PANELS = 9


class Relations(base.Family):
    """The family of relations over a network; codes are int64 (n, 9, U), bits of sets."""

    def __init__(self, network: Any, config: RelationsConfig | None = None):
        super().__init__()
        self.network, self.config = network, config or RelationsConfig()
        self.shape = (_N_PANELS, len(network.config.widths))

    def loss(self, batch: base.Batch, rng: Streams) -> torch.Tensor:
        """(n,) -log p(x) in nats, given the label for a network that has labels."""
        label = self._label(batch, rng)
        return -self.network.log_prob(batch["x"].to(self.device).long(), label)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """(n,): log p of samples (n, 9, U) in nats."""
        return self.network.log_prob(x.to(self.device).long())

    @torch.no_grad()
    def posterior(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(n, A, K): p(unit, relation | the known panels of x), by the prior of completing.

        mask: bool (n, 9), True where unknown; ValueError as for `complete`.
        """
        x = x.to(self.device).long()
        hidden = torch.zeros(x.shape[:2], dtype=torch.bool) if mask is None else mask
        logits, _ = self._governs(x, _by_row(hidden.to(self.device)))
        return logits.flatten(1).softmax(1).view_as(logits)

    @torch.no_grad()
    def sample(self, n: int, rng: Streams, temperature: float = 1.0) -> torch.Tensor:
        """(n, 9, U) draws by ancestors; every choice at the temperature."""
        base.check_temperature(temperature)
        prior = self._prior(0.0).expand(n, -1, -1)
        x = torch.zeros(n, *self.shape, dtype=torch.int64, device=self.device)
        unknown = torch.ones(n, 3, 3, dtype=torch.bool, device=self.device)
        return self._fill(x, unknown, prior, [], rng, temperature)

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
        hidden = mask.to(self.device)
        unknown = _by_row(hidden)
        x = context.to(self.device).long().masked_fill(hidden[..., None], 0)
        base.check_sets(x, hidden, self.network.config.widths)
        logits, gaps = self._governs(x, unknown)
        return self._fill(x, unknown, logits, gaps, rng, temperature)

    def _governs(self, x: torch.Tensor, unknown: torch.Tensor):
        """(n, A, K) logits of what governs samples, unknown bool (n, 3, 3), and their gaps.

        A gap is (lines, rows with one of their first two panels unknown, their evidence).
        """
        pair = ~unknown[..., :2].any(-1)
        known = torch.stack([pair, pair & ~unknown[..., 2]], -1)
        logits = self.network.evidence(x, known) + self._prior(self.config.floor)
        gaps, laws = [], self.network.laws()
        panels, hidden = x.reshape(-1, 3, self.shape[1]), unknown.reshape(-1, 3)
        for side, third in itertools.product((0, 1), (True, False)):
            here = hidden[:, side] & ~hidden[:, 1 - side] & (hidden[:, 2] != third)
            lines = here.nonzero()[:, 0]
            pieces = (
                Gap.pieces(self.network, laws, panels[lines], side, third) if len(lines) else ()
            )
            start = 0
            for gap in pieces:
                found = gap.evidence()
                at = lines[start : start + len(found)]
                logits = logits.index_add(0, at // 3, found.logsumexp(1))
                gaps.append((at, gap, found))
                start += len(found)
        return logits, gaps

    def _prior(self, floor: float) -> torch.Tensor:
        """(A, K): logits of what governs, guided where a label is bound."""
        prior = self.network.log_prior(floor)
        if self.bound is None:
            return prior
        label, w = self.bound
        told = self.network.log_prior(floor, torch.tensor([label], device=self.device))[0]
        return guidance.combine(told, prior, w)

    def _fill(self, x, unknown, logits, gaps, rng: Streams, temperature: float) -> torch.Tensor:
        """x with what is unknown of its rows, bool (n, 3, 3), drawn; logits (n, A, K)."""
        n, net = len(x), self.network
        needs = RowDraw.needs(net)
        uniform = rng.rand(n, 1 + 3 * needs).to(self.device)
        drawn = tokens.draw(logits.flatten(1), uniform[:, 0], temperature)
        governed = torch.stack([drawn // net.config.relations, drawn % net.config.relations], 1)
        rows, own = governed.repeat_interleave(3, 0), uniform[:, 1:].reshape(3 * n, needs)
        draw = RowDraw(net, rows, own, temperature)
        laws, panels = net.laws(), x.reshape(3 * n, 3, -1).clone()
        lines = unknown.reshape(3 * n, 3)[..., None]
        panels[:, :2] = torch.where(lines[:, :2].all(1, True), draw.first(laws), panels[:, :2])
        for at, gap, evidence in gaps:
            made = gap.draw(rows[at], evidence, own[at, : Gap.needs(net)], temperature)
            panels[at, gap.side] = made
        panels[:, 2] = torch.where(lines[:, 2], draw.third(laws, panels), panels[:, 2])
        return panels.view_as(x)

    def evaluations(self, n_unknown: int | None = None) -> int:
        """Relations are asked once of the known panels, and once of every row drawn."""
        return 3 if n_unknown is None else 1 + min(3, n_unknown)


def _by_row(mask: torch.Tensor) -> torch.Tensor:
    """bool (n, 3, 3): which panels of each row are unknown.

    ValueError where a row's first two panels are unknown and its third is known.
    """
    rows = mask.view(-1, 3, 3)
    wrong = rows[..., 0] & rows[..., 1] & ~rows[..., 2]
    if wrong.any():
        row = 1 + int(wrong.nonzero()[0, 1])
        raise ValueError(
            f"mask r{row}c1, r{row}c2 cannot be completed by this model where r{row}c3 is known: "
            "it can complete any other panels of a row"
        )
    return rows
