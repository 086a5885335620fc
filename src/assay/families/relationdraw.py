"""Panels of rows drawn by ancestors from a mixture of relations, given what governs each row.

The order is that of the mixture's law (`models.relationnet`): in the first two panels the
governed pair, the numbers, the positions, the other sets; then the same of the third panel. One
uniform number a choice, and W for an arrangement; rows are lines, each with its own unit and
relation. At temperature 0 every choice is the likeliest one, and of arrangements that are alike
one is drawn.
"""

from __future__ import annotations

import torch

from assay.core import tokens
from assay.models.relationnet import Laws, RelationNet, third_logits


class RowDraw:
    """Draws of m rows governed by units and relations, int64 (m,), at a temperature.

    uniform: float64 (m, `RowDraw.needs`), used from the left.
    """

    def __init__(self, net: RelationNet, governed: torch.Tensor, uniform, temperature: float):
        """governed: int64 (m, 2), unit and relation."""
        self.net, self.pairs = net, net.pairs
        self.unit, self.relation = governed[:, 0], governed[:, 1]
        self.uniform, self.temperature, self.used = uniform, temperature, 0
        self.lines = torch.arange(len(governed), device=governed.device)
        self.bit = torch.arange(self.pairs.width, device=governed.device)

    @staticmethod
    def needs(net: RelationNet) -> int:
        """Uniform numbers a row."""
        return (4 + 2 * net.n_units) * (1 + net.pairs.width)

    def _next(self, n: int) -> torch.Tensor:
        self.used += n
        return self.uniform[:, self.used - n : self.used]

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        return tokens.draw(logits, self._next(1)[:, 0], self.temperature)

    def _pair(self, logits: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Bits (m, 2, W) of a pair whose cell is drawn from logits (m, C) of single pairs."""
        cells = self._draw(logits)
        return self.pairs.arrange(cells, units, self._next(self.pairs.width))

    def _within(self, units: torch.Tensor) -> torch.Tensor:
        """The units, the number (which has no arrangement) as the first."""
        return units.masked_fill(units == self.net.n_units, 0)

    def first(self, laws: Laws) -> torch.Tensor:
        """int64 sets (m, 2, U) of the first two panels."""
        net, pairs, u = self.net, self.pairs, self.net.n_units
        by_cell = laws.pairs[self.unit, :, self.relation] + pairs.ways[self.unit]
        governed = self._pair(by_cell, self._within(self.unit))
        numbers = self._first_numbers(governed)
        n1, n2 = (numbers - 1).unbind(1)
        both = self._draw(net.overlaps()[n1, n2])
        drawn = [self._arranged(net.meets[n1, n2, both], 0)]
        for unit in range(1, u):
            logits = net.free["cells"][unit] + pairs.barred[unit]
            fits = net.fitting(logits)[n1, n2]
            drawn.append(self._pair(fits, torch.full_like(n1, unit)))
        chosen = torch.stack(drawn, 2)  # (m, 2, U, W)
        is_governed = (self.unit[:, None] == torch.arange(u, device=n1.device))[:, None, :, None]
        return self._sets(torch.where(is_governed, governed[:, :, None], chosen))

    def _arranged(self, cells: torch.Tensor, unit: int) -> torch.Tensor:
        return self.pairs.arrange(
            cells, torch.full_like(cells, unit), self._next(self.pairs.width)
        )

    def _first_numbers(self, governed: torch.Tensor) -> torch.Tensor:
        """int64 (m, 2): of the first two panels, where a pair of bits (m, 2, W) governs."""
        p, sizes = self.pairs.n_positions, governed.sum(-1)
        least = (sizes - 1).clamp(0, p - 1)
        by_pair = self.net.number_pairs()[least[:, 0], least[:, 1]].flatten(1)
        drawn = self._draw(by_pair)
        drawn = torch.stack([drawn // p, drawn % p], 1) + 1
        told = torch.where(self.is_number[:, None], governed.argmax(-1), drawn)
        return torch.where(self.is_position[:, None], sizes, told)

    @property
    def is_number(self) -> torch.Tensor:
        """bool (m,): does the number govern."""
        return self.unit == self.net.n_units

    @property
    def is_position(self) -> torch.Tensor:
        """bool (m,): do the positions govern."""
        return self.unit == 0

    def third(self, laws: Laws, x: torch.Tensor) -> torch.Tensor:
        """int64 sets (m, U) of the third panels, given the first two of rows (m, 3, U)."""
        rows = self.net.read(x)
        governed, told = self._governed(laws, rows)
        n1, n2 = rows.number[0] - 1, rows.number[1] - 1
        least = (governed.sum(-1) - 1).clamp(0, self.pairs.n_positions - 1)
        number = self._draw(self.net.third_number()[n1, n2, least]) + 1
        number = torch.where(self.is_number, told, number)
        number = torch.where(self.is_position, governed.sum(-1), number)
        drawn = [self._subset(number, 0)]
        for unit in range(1, self.net.n_units):
            size = self._draw(self.net.third_sizes(unit, rows.kinds[:, unit], number))
            drawn.append(self._subset(size, unit))
        chosen = torch.stack(drawn, 1)
        units = torch.arange(self.net.n_units, device=number.device)
        is_governed = (self.unit[:, None] == units)[..., None]
        return self._sets(torch.where(is_governed, governed[:, None], chosen))

    def _governed(self, laws: Laws, rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Bits (m, W) of the governed third sets, and the number (m,) where that governs."""
        first, second = (rows.bits[i][self.lines, self.unit] for i in (0, 1))
        local = laws.local[self.unit, :, self.relation][..., None]
        products = laws.products[self.unit, ..., self.relation][..., None]
        logits = third_logits(Laws(laws.pairs, local, products), first, second)[..., 0]
        number = self._draw(logits.masked_fill(~self.pairs.values[-1], -torch.inf))
        unit = self._within(self.unit)
        sets = torch.arange(1 << self.pairs.width, device=unit.device)
        bits = sets[:, None] >> self.bit & 1
        size = bits.sum(1)
        fits = (size >= 1) & (size <= self.pairs.n_positions)
        inside = ~(bits.bool()[None] & ~self.pairs.values[:-1, None]).any(-1)  # (U, sets)
        by_set = logits @ bits.T.to(logits) + torch.where(inside & fits, 0.0, -torch.inf)[unit]
        return bits[self._draw(by_set)], number

    def _subset(self, size: torch.Tensor, unit: int) -> torch.Tensor:
        """Bits (m, W): a subset of each size, all alike."""
        units = torch.full_like(size, unit)
        ranks = self.pairs.ranks(units, self._next(self.pairs.width))
        return (ranks < size[:, None]).long()

    def _sets(self, bits: torch.Tensor) -> torch.Tensor:
        return (bits << self.bit).sum(-1)
