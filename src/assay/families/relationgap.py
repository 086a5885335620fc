"""Rows of a mixture of relations of which the first or the second panel alone is unknown.

Given what governs the row and how many objects the unknown panel has, its sets are independent:
each is a sum over at most 2^W candidates, which are written out. So the law of the known panels,

    p(known | a, k) = sum over numbers n of  p_n(a, k)  prod over units of (sum over sets),

and draws from the unknown panel's are exact, whether the third panel is known or not. The logits
of a governed third set are linear in the bits of the unknown one: those of no bit and of each bit
alone say what all candidates have.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from assay.core import tokens
from assay.models.relationnet import Laws, RelationNet, third_logits

_HELD = 1 << 24  # numbers held at once, of the bits of every candidate under every relation


class Candidates(NamedTuple):
    """What a unit of the unknown panel can be, in the order of its sizes."""

    sets: torch.Tensor  # int64 (M,)
    bits: torch.Tensor  # int64 (M, W)
    size: torch.Tensor  # int64 (M,), 1 to P; of the number itself

    def each(self, most: int) -> list[slice]:
        """The candidates of each size, 1 to ``most``."""
        counts = torch.bincount(self.size, minlength=most + 1)[1:].tolist()
        ends = [sum(counts[: i + 1]) for i in range(len(counts))]
        return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def candidates(net: RelationNet) -> list[Candidates]:
    """Of every unit, the number last."""
    w, p = net.pairs.width, net.pairs.n_positions
    place = torch.arange(w, device=net.chosen.device)
    found = []
    for width in net.config.widths:
        sets = torch.arange(1 << width, device=place.device)
        bits = sets[:, None] >> place & 1
        size = bits.sum(1)
        order = size.argsort(stable=True)
        order = order[(size[order] >= 1) & (size[order] <= p)]
        found.append(Candidates(sets[order], bits[order], size[order]))
    number = torch.arange(1, p + 1, device=place.device)
    return [*found, Candidates(number, F.one_hot(number, w), number)]


class Gap:
    """m rows, int64 (m, 3, U), whose panel ``side`` (0 or 1) is unknown.

    third: is the third panel known. What x holds of an unknown panel is not used. choices: the
    network's `candidates`, where they are at hand.
    """

    def __init__(
        self,
        net: RelationNet,
        laws: Laws,
        x: torch.Tensor,
        side: int,
        third: bool,
        choices: list[Candidates] | None = None,
    ):
        self.net, self.laws, self.side, self.third = net, laws, side, third
        self.x, self.candidates, self.rows = x, choices or candidates(net), net.read(x)
        self.known = self.rows.bits[1 - side]  # (m, A, W)
        self.number = self.rows.number[1 - side]
        self.p = net.pairs.n_positions

    @classmethod
    def pieces(cls, net: RelationNet, laws: Laws, x: torch.Tensor, side: int, third: bool):
        """The rows some at a time, as memory allows."""
        w = net.pairs.width
        lines = max(1, _HELD // ((1 << w) * w * net.config.relations))
        choices = candidates(net)
        return [cls(net, laws, part, side, third, choices) for part in x.split(lines)]

    def _ordered(self, unknown: torch.Tensor, known: torch.Tensor):
        """What belongs to the first panel, then what belongs to the second."""
        return (unknown, known) if self.side == 0 else (known, unknown)

    # ---- laws of single units --------------------------------------------------------------

    def _met(self, unit: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cells and kinds (m, M) of every candidate with what is known."""
        bits, known = self.candidates[unit].bits, self.known[:, None, unit]
        return self.net.pairs(*self._ordered(bits.expand(len(known), -1, -1), known))

    def _governed(self, unit: int) -> torch.Tensor:
        """(m, M, K): log p of governed sets, the third's with them where it is known."""
        found = F.embedding(self._met(unit)[0], self.laws.pairs[unit])
        if not self.third:
            return found
        net, third, logits = self.net, self.rows.bits[2][:, None, unit], self._logits(unit)
        if unit == net.n_units:
            return found + net.log_number(logits, third)
        return (
            found + net.log_sets(logits[..., None, :, :], third[..., None, :], [unit])[..., 0, :]
        )

    def _logits(self, unit: int) -> torch.Tensor:
        """(m, M, W, K): of the third set's bits, by candidate."""
        laws = Laws(*(part[unit : unit + 1] for part in self.laws))
        w, known = self.net.pairs.width, self.known[:, None, None, unit]
        single = torch.cat([known.new_zeros(1, w), torch.eye(w, dtype=known.dtype).to(known)])
        shape = (len(known), w + 1, 1, w)
        first, second = self._ordered(single[:, None].expand(shape), known.expand(shape))
        at = third_logits(laws, first, second)[:, :, 0]  # (m, 1 + W, W, K)
        none, each = at[:, :1], (at[:, 1:] - at[:, :1]).flatten(2)
        bits = self.candidates[unit].bits.to(each)
        return (bits @ each).unflatten(2, none.shape[2:]) + none

    def _free(self, unit: int) -> torch.Tensor:
        """(m, M): log p of a free unit's sets, but for the bounds that numbers set."""
        net, (cells, kinds) = self.net, self._met(unit)
        found = net.free["cells"][unit][cells] - net.pairs.ways[unit][cells]
        if self.third:
            sizes = net.third_sizes(unit, kinds, self.rows.number[2][:, None])
            size = self.rows.sizes[2][:, None, unit, None].expand(*cells.shape, 1)
            found = found + sizes.gather(-1, size)[..., 0] - net.chosen[unit][size[..., 0]]
        return found

    def _meeting(self) -> torch.Tensor:
        """(m, M): log p of free positions given both numbers, up to one for each number."""
        net, size = self.net, self.candidates[0].size
        law = net.overlaps().log_softmax(-1) - net.ways
        n1, n2 = self._ordered(size - 1, self.number[:, None] - 1)
        both = (self.candidates[0].bits * self.known[:, None, 0]).sum(-1)
        return law[n1, n2, both]

    # ---- laws of numbers -------------------------------------------------------------------

    def _by_other(self, table: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
        """(m, P): a table (P, P) of the first and second panel, by the unknown one."""
        return (table.T if self.side == 0 else table)[lines]

    def _total(self, unit: int) -> torch.Tensor:
        """(m, P): log of what a free unit's pairs sum to, by the unknown number."""
        logits = self.net.free["cells"][unit] + self.net.pairs.barred[unit]
        return self._by_other(self.net.fitting(logits).logsumexp(-1), self.number - 1)

    def _counted(self, unit: int) -> torch.Tensor:
        """(m, P, P): log p of the numbers, by a governed size and the unknown number (last)."""
        net, given = self.net, self.net.least(self.rows.sizes[1 - self.side][:, unit])
        total = self._by_other(net.number_pairs().flatten(2).logsumexp(-1), given)
        found = self._by_other(net.free["numbers"], self.number - 1)[:, None] - total[..., None]
        fits = torch.ones(self.p, self.p, dtype=torch.bool, device=found.device).triu()
        found = found.masked_fill(~fits, -torch.inf)
        return found + self._third_number(unit)[:, None] if self.third else found

    def _third_number(self, unit: int) -> torch.Tensor:
        """(m, P): log p of the third number, by the unknown one, where a unit governs."""
        law = self.net.third_number().log_softmax(-1)
        unknown = torch.arange(self.p, device=law.device)
        n1, n2 = self._ordered(unknown[None], self.number[:, None] - 1)
        size = self.net.least(self.rows.sizes[2][:, unit])
        return law[n1, n2, size[:, None], (self.rows.number[2] - 1)[:, None]]

    # ---- what governs, and how many objects ----------------------------------------------------

    def evidence(self) -> torch.Tensor:
        """(m, P, A, K): log p of the known panels and the unknown number, given what governs."""
        net, u = self.net, self.net.n_units
        free = [torch.zeros_like(self._total(0))]
        for unit in range(1, u):
            law = self._by_size(unit, self._free(unit))
            free.append(law.logcumsumexp(1) - self._total(unit))
        every = torch.stack(free).sum(0)
        # what is known of free positions is one of so many ways, whatever the numbers
        rest = every - net.chosen[0][self.number][:, None]
        if self.third:
            rest = rest - net.chosen[0][self.rows.number[2]][:, None]
        governed = [self._by_size(unit, self._governed(unit)) for unit in range(u + 1)]
        found = [governed[0] + every[..., None]]
        for unit in range(1, u):
            own = governed[unit][:, :, None] + self._counted(unit)[..., None]
            found.append(own.logsumexp(1) + (rest - free[unit])[..., None])
        return torch.stack([*found, governed[u] + rest[..., None]], 2)

    def _by_size(self, unit: int, law: torch.Tensor) -> torch.Tensor:
        """(m, P, ...) of (m, M, ...): summed over the candidates of each size."""
        slices = self.candidates[unit].each(self.p)
        return torch.stack([law[:, each].logsumexp(1) for each in slices], 1)

    # ---- draws -----------------------------------------------------------------------------

    @staticmethod
    def needs(net: RelationNet) -> int:
        """Uniform numbers a row."""
        return 1 + net.n_units

    def draw(
        self,
        governs: torch.Tensor,
        evidence: torch.Tensor,
        uniform: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        """int64 sets (m, U) of the unknown panel.

        governs: int64 (m, 2), unit and relation; evidence: (m, P, A, K), that of these rows;
        uniform: (m, needs).
        """
        line = torch.arange(len(governs), device=governs.device)
        unit, relation = governs.unbind(1)
        number = 1 + tokens.draw(evidence[line, :, unit, relation], uniform[:, 0], temperature)
        drawn = []
        for u, choices in enumerate(self.candidates[:-1]):
            law = self._free(u) if u else self._meeting()
            fits = choices.size <= number[:, None] if u else choices.size == number[:, None]
            law = law.masked_fill(~fits, -torch.inf)
            own = (unit == u).nonzero()[:, 0]
            if len(own):
                law[own] = self._own(u, own, relation[own], number[own])
            drawn.append(choices.sets[tokens.draw(law, uniform[:, 1 + u], temperature)])
        return torch.stack(drawn, 1)

    def _own(self, unit: int, lines, relation, number) -> torch.Tensor:
        """(lines, M): log p of a governed unit's sets where so many objects are in the panel."""
        gap = Gap(self.net, self.laws, self.x[lines], self.side, self.third, self.candidates)
        line, size = torch.arange(len(lines), device=lines.device), self.candidates[unit].size
        law = gap._governed(unit)[line, :, relation]
        if unit == 0:
            return law.masked_fill(size != number[:, None], -torch.inf)
        return law + gap._counted(unit)[line, :, number - 1][:, size - 1]
