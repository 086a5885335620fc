"""Masked discrete diffusion: tokens are absorbed into a blank; a network fills blanks in.

A sample's tokens are revealed in a random order; p(x) = prod_i p(x_i | those revealed before it),
the law of any-order models. With all L cells unknown and a uniform order, and E over the number
k of blanks, uniform on 1..L, and over which,

    -log p(x) <= L E[ (1 / k) sum over blanks of -log p(x_i | rest) ]        (``count``),

the order-agnostic bound of Hoogeboom et al. 2022 (arXiv 2110.02037), eq. 3. It equals the bound of
masked diffusion in continuous time with a linear schedule, E over t uniform on (0, 1) and each
cell blank with probability t (Sahoo et al. 2024, arXiv 2406.07524, eq. 10; Shi et al. 2024, arXiv
2406.04329, eq. 5),

    E[ (1 / t) sum over blanks of -log p(x_i | rest) ]                       (``rate``).

What is unknown and in which order it is revealed is drawn for each sample from the kinds

    cells   all cells, one after another in any order
    panels  all cells, panel after panel in any order, the cells of a panel in any order
    some    the cells of n panels, a uniform subset of that number with P(n) proportional to
            few^n, one after another in any order; the other panels are known

In a state of the second kind some panels are blank, one of them with only k of its C cells blank,
and the bound holds with the mean over these k (the next token is one of them). ``rest`` adds the
mean over the cells of the other blank panels, whose laws given what is known the network has to
answer as well. The loss is the bound in nats a token of what is unknown. With weight ``even`` each
of its tokens counts 1 / C instead of 1 / k: no bound, but with the same best answer, the
conditional laws, and less noise from states with few blanks. ``hard`` multiplies a token's loss by
(1 - p)^hard (Ye et al. 2024, arXiv 2410.14157, eq. 8): then the best answer is another.

One token at a time in random order is a draw from the any-order law; so is, for a network whose
conditional laws agree with one another, the order by confidence (the cell with the largest
probability first) or margin (the largest lead of the best token over the second: Kim et al. 2025,
arXiv 2502.06768), since it depends on revealed tokens alone. Several at a time are drawn
independently of one another, in fewer evaluations.

The network is any object with ``fill(x, unknown, label, rng)`` and ``config`` as `CellNet` has.
"""

from __future__ import annotations

from typing import Any

import torch

from assay.core import guidance
from assay.families import base
from assay.families.celltokens import CellTokens
from assay.families.config import MaskedConfig
from assay.families.streams import Streams


class Masked(CellTokens):
    """Masked diffusion over a network; codes are tokens int64 (n, L), masks bool (n, L)."""

    config: MaskedConfig

    def __init__(self, network: Any, config: MaskedConfig | None = None):
        super().__init__(network, config or MaskedConfig())

    def loss(self, batch: base.Batch, rng: Streams) -> torch.Tensor:
        """(n,) the bound of a random state of each sample, in nats a token."""
        x = batch["x"].to(self.device).long()
        uniform = rng.rand(len(x), n_uniforms(self.n_panels, self.n_cells))
        unknown, weight = draw(self.config, uniform, self.n_panels, self.n_cells)
        unknown, weight = unknown.to(self.device), weight.to(self.device)
        dropout = rng.generator(self.device) if self.training else None
        hidden = self.network.fill(x, unknown, self._label(batch, rng), dropout)
        line, cell = weight.nonzero(as_tuple=True)
        lp = self.head.log_prob(hidden[line, cell], x[line, cell])
        weight = weight[line, cell].to(lp.dtype)
        if self.config.hard:
            weight = weight * (-torch.expm1(lp.detach())) ** self.config.hard
        return lp.new_zeros(len(x)).index_add(0, line, -weight * lp)

    @torch.no_grad()
    def complete(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        rng: Streams,
        temperature: float = 0.0,
    ) -> torch.Tensor:
        """Reveal the unknown cells, mask bool (n, L), given the known; see `base.Family`.

        ValueError for a mask that cuts through panels where only whole ones were trained on.
        """
        x, unknown = self._known(context, mask, temperature)
        self._check_mask(unknown)
        keys, uniform = (rng.rand(len(x), *self.shape).to(self.device) for _ in range(2))
        labels = self._labels(len(x))
        while unknown.any():
            law = self._law([self.network.fill(x, unknown, label) for label in labels])
            cells, valid = self._next(unknown, self._scores(keys, law))
            law |= {k: _at(law[k], cells) for k in ("hidden", "uncond")}
            drawn = self.head.draw(
                uniform=uniform.gather(1, cells), temperature=temperature, **law
            )
            x.scatter_(1, cells, torch.where(valid, drawn, x.gather(1, cells)))
            unknown = unknown.scatter(1, cells, unknown.gather(1, cells) & ~valid)
        return x

    def _check_mask(self, unknown: torch.Tensor) -> None:
        panels = unknown.unflatten(1, (self.n_panels, self.n_cells))
        if not self.config.any_cells and (panels.any(2) != panels.all(2)).any():
            raise ValueError(
                "mask cuts through a panel: this model can complete any set of whole panels; "
                "train with a share of masks 'cells' or 'some' for other masks"
            )

    def _scores(self, keys: torch.Tensor, law: dict[str, Any]) -> torch.Tensor:
        """(n, L): which cell comes first, the largest; uniform keys for a random order."""
        if self.config.choice == "random":
            return keys
        log_p = self.head.log_probs(law["hidden"])
        if law["uncond"] is not None:
            log_p = guidance.combine(log_p, self.head.log_probs(law["uncond"]), law["w"])
            log_p = torch.log_softmax(log_p, -1)
        if self.config.choice == "confidence" or log_p.shape[-1] == 1:
            return log_p.amax(-1)
        best = log_p.exp().topk(2).values
        return best[..., 0] - best[..., 1]

    def _next(
        self, unknown: torch.Tensor, scores: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cells (n, k) revealed next, and which of them are (n, k): fewer may be left."""
        free = unknown
        if self.config.order == "panels":
            free = unknown & self._open(unknown, scores).repeat_interleave(self.n_cells, 1)
        k = min(self.config.at_once, free.shape[1])
        cells = scores.masked_fill(~free, -torch.inf).topk(k).indices
        return cells, free.gather(1, cells)

    def _open(self, unknown: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """bool (n, panels), one a line: a panel known in part, else that of the first cell."""
        left = unknown.unflatten(1, (self.n_panels, self.n_cells)).sum(2)
        begun = (left > 0) & (left < self.n_cells)
        best = scores.masked_fill(~unknown, -torch.inf).argmax(1) // self.n_cells
        panel = torch.where(begun.any(1), begun.long().argmax(1), best)
        return torch.arange(self.n_panels, device=panel.device) == panel[:, None]

    def evaluations(self, n_unknown: int | None = None) -> int:
        """Network evaluations; `config.at_once` cells are revealed in each."""
        panels, k = self.n_panels if n_unknown is None else n_unknown, self.config.at_once
        if self.config.order == "panels":
            steps = panels * -(-self.n_cells // k)
        else:
            steps = -(-panels * self.n_cells // k)
        return steps * len(self._labels(1))


def _at(hidden: torch.Tensor | None, cells: torch.Tensor) -> torch.Tensor | None:
    """The vectors of cells (n, k) among hidden (n, L, d)."""
    if hidden is None:
        return None
    return hidden.gather(1, cells[..., None].expand(-1, -1, hidden.shape[-1]))


# ---- training masks -----------------------------------------------------------------------------


def n_uniforms(n_panels: int, n_cells: int) -> int:
    """How many uniform numbers a sample's mask is made from."""
    return 4 + n_panels + n_panels * n_cells


def draw(
    config: MaskedConfig, uniform: torch.Tensor, n_panels: int, n_cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(unknown bool (n, L), weight of each token's loss float64 (n, L)) from uniform numbers.

    uniform (n, `n_uniforms`). Weights are 0 off the unknown cells. With ``rest`` 0, the mean over
    masks of the weighted sum is the bound of the module's docstring in nats a token.
    """
    shares = torch.tensor(config.masks, dtype=torch.float64)
    kind = _number(shares, uniform[:, :1]) - 1
    stage = 1 + (uniform[:, 2] * n_panels).long()  # blank panels, the open one among them
    task = _number(config.few ** torch.arange(n_panels, dtype=torch.float64), uniform[:, 1:2])
    rank = _ranks(uniform[:, 4 : 4 + n_panels])
    begun = torch.where(kind == 0, n_panels, torch.where(kind == 1, 1, task))
    pool = (rank < begun[:, None]).repeat_interleave(n_cells, 1)
    blank = (rank < stage[:, None]) & (kind == 1)[:, None]
    others = blank.repeat_interleave(n_cells, 1) & ~pool
    keys = uniform[:, 4 + n_panels :]
    chosen, weight = _blanks(config, pool, uniform[:, 3:4], keys, n_cells)
    if config.rest:
        number = others.sum(1, keepdim=True).clamp(min=1)
        even = config.weight == "even"
        weight = weight + config.rest * others.double() / (n_cells if even else number)
    return chosen | others, weight


def _blanks(config: MaskedConfig, pool: torch.Tensor, u: torch.Tensor, keys: torch.Tensor, c: int):
    """The blanks among a pool of cells (n, L), and the weights of their losses."""
    size = pool.sum(1, keepdim=True)
    if config.weight == "rate":
        t = 1 - u  # on (0, 1]
        chosen = pool & (keys < t)
        return chosen, chosen / (size * t)
    k = 1 + (u * size).long()
    chosen = pool & (_ranks(keys.masked_fill(~pool, 2.0)) < k)
    return chosen, chosen.double() / (c if config.weight == "even" else k)


def _number(shares: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Numbers 1, 2, ... (n,) by their shares, from uniform numbers (n, 1)."""
    return 1 + (u >= (shares / shares.sum()).cumsum(0)[:-1]).sum(1)


def _ranks(keys: torch.Tensor) -> torch.Tensor:
    """The rank of each key in its line, from 0."""
    return keys.argsort(1).argsort(1)
