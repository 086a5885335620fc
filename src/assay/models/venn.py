"""Pairs of sets as cells of a table: what a law of two sets sees, and what it leaves to chance.

Two sets of one value each are the cell (i, j) of their values. Any other pair is the cell of its
Venn counts (values in the first set alone, in the second alone, in both), and every pair of the
same counts is as likely as another: with W possible values there are

    W! / (n10! n01! n11! (W - n10 - n01 - n11)!)

of them. So a law over cells is a law over pairs, exchangeable in the values of larger sets.

Units are the sets of a panel, the first its positions, and last the number of positions, read as
the set {number}: a unit's values are 0..width-1, the number's 1..P.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn


def log_choose(n: int, k: int) -> float:
    """Log of how many subsets of k there are among n, 0 <= k <= n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


class Pairs(nn.Module):
    """Tables of the cells of every unit: C cells, A units, W values at most.

    barred (A, C): 0 where a unit's pair can be in the cell, -inf elsewhere; ways (A, C): log of
    how many pairs the cell has; sizes (C, 2): of the two sets; values (A, W): is v a unit's value.
    """

    barred: torch.Tensor
    ways: torch.Tensor
    sizes: torch.Tensor
    values: torch.Tensor
    counts: torch.Tensor
    index: torch.Tensor

    def __init__(self, widths: tuple[int, ...]):
        """widths: values of each set, the first of the positions."""
        super().__init__()
        self.number, self.n_positions = len(widths), widths[0]
        self.width = max(*widths, widths[0] + 1)
        triples = [
            t for t in itertools.product(range(self.width + 1), repeat=3) if sum(t) <= self.width
        ]
        index = torch.zeros((self.width + 1,) * 3, dtype=torch.int64)
        for place, triple in enumerate(triples):
            index[triple] = place
        n_singles = self.width**2
        counts = torch.tensor([(0, 0, 0)] * n_singles + triples)
        sizes = counts[:, :2] + counts[:, 2:]
        sizes[:n_singles] = 1
        values = torch.zeros(len(widths) + 1, self.width, dtype=torch.bool)
        for unit, width in enumerate(widths):
            values[unit, :width] = True
        values[-1, 1 : widths[0] + 1] = True
        ways = torch.stack([_ways(counts, width) for width in (*widths, 0)])
        ways[:, :n_singles] = torch.where(
            (values[:, :, None] & values[:, None, :]).flatten(1), 0.0, -math.inf
        )
        many = (sizes > 1).any(1) & (sizes >= 1).all(1) & (sizes <= widths[0]).all(1)
        possible = ways.isfinite() & (many | (torch.arange(len(counts)) < n_singles))
        barred = torch.where(possible, 0.0, -math.inf)
        tables = {"barred": barred, "ways": ways.where(possible, 0.0), "sizes": sizes}
        for name, table in {**tables, "values": values, "counts": counts, "index": index}.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, first: torch.Tensor, second: torch.Tensor):
        """(cells, kinds), int64 (...), of sets given as int64 bits (..., W).

        A kind is the cell of the Venn counts, also for two single values.
        """
        both = (first * second).sum(-1)
        alone = [bits.sum(-1) - both for bits in (first, second)]
        kinds = self.width**2 + self.index[alone[0], alone[1], both]
        single = (first.sum(-1) == 1) & (second.sum(-1) == 1)
        pair = self.width * first.argmax(-1) + second.argmax(-1)
        return torch.where(single, pair, kinds), kinds

    def arrange(self, cells: torch.Tensor, units: torch.Tensor, uniform: torch.Tensor):
        """int64 bits (m, 2, W): a pair of each cell, drawn with uniform numbers (m, W)."""
        rank = self.ranks(units, uniform)
        ends = self.counts[cells].cumsum(1)[..., None]
        alone, other, both = (rank < ends[:, i] for i in range(3))
        drawn = torch.stack([alone | (both & ~other), both & ~alone], 1)
        single = torch.stack([cells // self.width, cells % self.width], 1)[..., None]
        one = single == torch.arange(self.width, device=cells.device)
        return torch.where((cells < self.width**2)[:, None, None], one, drawn).long()

    def ranks(self, units: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """int64 (m, W): a random order of each unit's values, the others after them."""
        return (uniform + 2.0 * ~self.values[units]).argsort(1).argsort(1)


def _ways(counts: torch.Tensor, width: int) -> torch.Tensor:
    """Log of how many pairs have each line of Venn counts among ``width`` values, or -inf."""
    total = counts.sum(1)
    inside = torch.cat([counts, (width - total).clamp(min=0)[:, None]], 1)
    found = math.lgamma(width + 1) - torch.lgamma(inside + 1.0).sum(1)
    return found.where(total <= width, torch.tensor(-math.inf))
