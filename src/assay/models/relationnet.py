"""Rows of three panels as a mixture of relations, each between the sets of one unit.

Units are a panel's U sets, the first its positions, and its number of objects (`venn`). In each
of a sample's rows the same unit a is governed by the same relation k, both hidden:

    p(rows) = sum over a, k of p(a, k) prod over rows of p(row | a, k),

and the other units are drawn freely. A relation is a learned law of a unit's third set given the
first two, and of the first two together:

    p_k(first, second)          a table over cells (`venn.Pairs`)
    p_k(third | first, second)  a bit each, independent given the first two sets, of logit
                                local_k[first_v, second_v] + sum_ij first_i second_j T_k[i, j, v]

and p_k(third) is conditioned on the sets that a panel can hold; the number's is a softmax. All
units share each relation's parameters, up to ``own`` times some of their own (so that no two
units are tied exactly), and know each other's values by their index. Nothing says which relations
there are: T and local are free numbers. That rows are mixtures of this form, that relations are
shared and read values by index and bits in place is a structural prior, to be named as one.

Free units: the first two sets by a table of cells, the third's size by one of kinds and sizes,
then any set of that size alike, none larger than its panel's number. The order of a row is: the
governed unit, numbers, positions, the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import RelationNetConfig
from assay.models.transformer import initial
from assay.models.venn import Pairs, log_choose

_LOCAL, _PRODUCTS = 1.0, 0.1  # standard deviations with which relations begin


class Rows(NamedTuple):
    """What a law reads of rows (...): bits (3, ..., A, W), sizes and number by panel, cells."""

    bits: torch.Tensor
    sizes: torch.Tensor  # (3, ..., A)
    number: torch.Tensor  # (3, ...), at least 1
    both: torch.Tensor  # (..., A) values in the first two sets
    cells: torch.Tensor  # (..., A)
    kinds: torch.Tensor  # (..., A)


class Laws(NamedTuple):
    """The relations in each unit's form, from the parameters."""

    pairs: torch.Tensor  # (A, C, K) log p of one pair in the cell
    local: torch.Tensor  # (A, 4, K) of a bit by those of the first two sets: 00, 01, 10, 11
    products: torch.Tensor  # (A, W W, W, K)


class RelationNet(nn.Module):
    """The network of a `RelationNetConfig`, initialised from a seed."""

    chosen: torch.Tensor
    meets: torch.Tensor
    ways: torch.Tensor

    def __init__(self, config: RelationNetConfig, seed: int = 0):
        super().__init__()
        self.config, self.n_units, k = config, len(config.widths), config.relations
        self.pairs = Pairs(config.widths)
        a, w, c = self.n_units + 1, self.pairs.width, self.pairs.barred.shape[1]
        p = config.widths[0]
        rng, units = torch.Generator().manual_seed(seed), 1 if config.shared else a
        self.local = initial((units, 4, k), _LOCAL, rng)
        self.products = initial((units, w * w, w, k), _PRODUCTS, rng)
        self.cells = initial((units, c, k), config.apart, rng)
        with torch.no_grad():
            self.local += config.sparse
        if config.shared and config.own:
            self.own = nn.ParameterDict({
                "local": nn.Parameter(torch.zeros(a, 4, k)),
                "products": nn.Parameter(torch.zeros(a, w * w, w, k)),
                "cells": nn.Parameter(torch.zeros(a, c, k)),
            })  # fmt: skip
        self.prior = nn.Parameter(torch.zeros(a, k))
        if config.n_labels:
            self.labelled = nn.Parameter(torch.zeros(config.n_labels, a, k))
        self.free = nn.ParameterDict({
            "cells": nn.Parameter(torch.zeros(self.n_units, c)),
            "third": nn.Parameter(torch.zeros(self.n_units, c, w + 1)),
            "numbers": nn.Parameter(torch.zeros(p, p)),
            "number3": nn.Parameter(torch.zeros(p, p, p)),
            "both": nn.Parameter(torch.zeros(p, p, p + 1)),
        })  # fmt: skip
        self._register(config.widths, w, p)

    def _register(self, widths: tuple[int, ...], w: int, p: int) -> None:
        chosen = torch.zeros(len(widths), w + 1)
        for unit, width in enumerate(widths):
            chosen[unit, : width + 1] = torch.tensor([
                log_choose(width, size) for size in range(width + 1)
            ])  # fmt: skip
        self.register_buffer("chosen", chosen, persistent=False)
        first, second, both = torch.meshgrid(
            torch.arange(1, p + 1), torch.arange(1, p + 1), torch.arange(p + 1), indexing="ij"
        )
        counts = torch.stack([first - both, second - both, both], -1)
        possible = (counts >= 0).all(-1) & (counts.sum(-1) <= p)
        kinds = self.pairs.width**2 + self.pairs.index[tuple(counts.clamp(min=0).unbind(-1))]
        self.register_buffer("meets", kinds, persistent=False)
        ways = self.pairs.ways.new_zeros(p, p, p + 1)
        for place in possible.nonzero().tolist():
            n1, n2, n = place[0] + 1, place[1] + 1, place[2]
            ways[tuple(place)] = log_choose(p, n1) + log_choose(n1, n) + log_choose(p - n1, n2 - n)
        ways = ways.masked_fill(~possible, torch.inf)
        self.register_buffer("ways", ways, persistent=False)

    # ---- reading -----------------------------------------------------------------------------

    def read(self, x: torch.Tensor) -> Rows:
        """Rows of sets, int64 (..., 3, U); what an empty panel says must not be used."""
        bits = x[..., None] >> torch.arange(self.pairs.width, device=x.device) & 1
        number = bits[..., 0, :].sum(-1)
        told = F.one_hot(number, self.pairs.width)[..., None, :]
        bits = torch.cat([bits, told], -2).movedim(-3, 0)
        cells, kinds = self.pairs(bits[0], bits[1])
        both = (bits[0] * bits[1]).sum(-1)
        number = number.movedim(-1, 0).clamp(min=1)
        return Rows(bits, bits.sum(-1), number, both, cells, kinds)

    def laws(self) -> Laws:
        """The relations as they stand."""
        parts = {name: getattr(self, name) for name in ("local", "products", "cells")}
        if hasattr(self, "own"):
            own = self.config.own
            parts = {name: part + own * self.own[name] for name, part in parts.items()}
        shape = (self.n_units + 1, *(-1,) * 2)
        cells = parts["cells"].expand(shape) + self.pairs.barred[..., None]
        pairs = cells.log_softmax(1) - self.pairs.ways[..., None]
        products = parts["products"].expand(*shape, -1)
        return Laws(pairs, parts["local"].expand(shape), products)

    # ---- the law of a row given what governs it ------------------------------------------------

    def first(self, rows: Rows, laws: Laws) -> torch.Tensor:
        """(..., A, K): log p of the first two panels given that k governs unit a."""
        a, c, k = laws.pairs.shape
        places = rows.cells + c * torch.arange(a, device=rows.cells.device)
        governed = F.embedding(places, laws.pairs.reshape(a * c, k))
        return governed + self._rest(self._free_pairs(rows), *self._numbers(rows))[..., None]

    def third(self, rows: Rows, laws: Laws) -> torch.Tensor:
        """(..., A, K): log p of the third panel given the first two and that k governs a."""
        logits = third_logits(laws, rows.bits[0], rows.bits[1])
        governed = self.third_sets(logits, rows.bits[2])
        positions = -self.chosen[0][rows.number[2]]
        rest = self._rest(self._free_thirds(rows), self.third_numbers(rows), positions)
        return governed + rest[..., None]

    @staticmethod
    def _rest(free: list[torch.Tensor], numbers: list[torch.Tensor], positions: torch.Tensor):
        """(..., A): log p of the units that are not governed, by which one is.

        free: of each set but the positions; numbers: of the numbers given such a set.
        """
        sets = torch.stack(free).sum(0) if free else torch.zeros_like(positions)
        others = [sets - own + n + positions for own, n in zip(free, numbers, strict=True)]
        return torch.stack([sets, *others, sets + positions], -1)

    def _free_pairs(self, rows: Rows) -> list[torch.Tensor]:
        """Of each set but the positions, log p of the first two given the numbers."""
        n1, n2 = rows.number[0] - 1, rows.number[1] - 1
        found = []
        for unit in range(1, self.n_units):
            logits = self.free["cells"][unit] + self.pairs.barred[unit]
            cells, total = rows.cells[..., unit], self.fitting(logits).logsumexp(-1)
            found.append(logits[cells] - self.pairs.ways[unit][cells] - total[n1, n2])
        return found

    def fitting(self, logits: torch.Tensor) -> torch.Tensor:
        """(P, P, C): logits (C,) of the cells that fit into panels of 1..P objects each."""
        n = torch.arange(1, self.pairs.n_positions + 1, device=logits.device)[:, None]
        fits = (self.pairs.sizes[:, 0] <= n)[:, None] & (self.pairs.sizes[:, 1] <= n)[None]
        return logits.masked_fill(~fits, -torch.inf)

    def third_sizes(self, unit: int, kinds: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """(..., W + 1): log p of the size of a free third set in panels of ``number`` objects."""
        size = torch.arange(self.pairs.width + 1, device=kinds.device)
        most = number.clamp(max=self.config.widths[unit])[..., None]
        logits = self.free["third"][unit][kinds]
        return logits.masked_fill((size < 1) | (size > most), -torch.inf).log_softmax(-1)

    def _free_thirds(self, rows: Rows) -> list[torch.Tensor]:
        """Of each set but the positions, log p of the third one given the first two."""
        found = []
        for unit in range(1, self.n_units):
            sizes = self.third_sizes(unit, rows.kinds[..., unit], rows.number[2])
            size = rows.sizes[2][..., unit]
            found.append(sizes.gather(-1, size[..., None])[..., 0] - self.chosen[unit][size])
        return found

    def _numbers(self, rows: Rows) -> tuple[list[torch.Tensor], torch.Tensor]:
        """log p of the first two numbers given a governed set, and of positions given numbers."""
        n1, n2 = rows.number[0] - 1, rows.number[1] - 1
        total = self.number_pairs().flatten(2).logsumexp(-1)
        found = []
        for unit in range(1, self.n_units):
            s1, s2 = (self.least(rows.sizes[i][..., unit]) for i in (0, 1))
            found.append(self.free["numbers"][n1, n2] - total[s1, s2])
        meeting = self.overlaps().log_softmax(-1) - self.ways
        return found, meeting[n1, n2, rows.both[..., 0]]

    def least(self, sizes: torch.Tensor) -> torch.Tensor:
        """The line of a table over 1..P of what sizes ask for, some of them out of range."""
        return (sizes - 1).clamp(0, self.pairs.n_positions - 1)

    def number_pairs(self) -> torch.Tensor:
        """(P, P, P, P): logits of the first two numbers (last) that hold sets of given sizes."""
        fits = torch.ones_like(self.ways[..., 0]).triu()  # (size, number)
        fits = fits[:, None, :, None] * fits[None, :, None, :] > 0
        return self.free["numbers"].masked_fill(~fits, -torch.inf)

    def third_number(self) -> torch.Tensor:
        """(P, P, P, P): logits of the third number (last) given the first two and a size."""
        fits = torch.ones_like(self.ways[..., 0]).triu() > 0
        return self.free["number3"][:, :, None].masked_fill(~fits, -torch.inf)

    def third_numbers(self, rows: Rows) -> list[torch.Tensor]:
        logits = self.third_number().log_softmax(-1)
        n1, n2, n3 = (rows.number[i] - 1 for i in range(3))
        return [
            logits[n1, n2, self.least(rows.sizes[2][..., unit]), n3]
            for unit in range(1, self.n_units)
        ]

    def overlaps(self) -> torch.Tensor:
        """(P, P, P + 1): logits of how many positions two panels of given numbers share."""
        return self.free["both"].masked_fill(self.ways.isinf(), -torch.inf)

    def third_sets(self, logits: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
        """(..., A, K): log p of governed third sets, bits (..., A, W), by `third_logits`."""
        u = self.n_units
        sets = self.log_sets(logits[..., :u, :, :], third[..., :u, :], list(range(u)))
        told = self.log_number(logits[..., u, :, :], third[..., u, :])
        return torch.cat([sets, told[..., None, :]], -2)

    def log_sets(self, bits: torch.Tensor, third: torch.Tensor, units: list[int]) -> torch.Tensor:
        """(..., S, K): log p of sets (..., S, W) of these S units, logits (..., S, W, K)."""
        values = self.pairs.values[units][..., None]
        rest = (F.softplus(bits) * values).sum(-2)
        total = (bits * values).sum(-2)
        more = [self.config.widths[unit] > self.pairs.n_positions for unit in units]
        full = torch.tensor(more, device=bits.device)[:, None] * (total - rest).exp()
        inside = 1 - ((-rest).exp() + full).clamp(max=1 - 1e-6)  # not empty, and not too large
        return (third[..., None, :].to(bits) @ bits)[..., 0, :] - rest - inside.log()

    def log_number(self, logits: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
        """(..., K): log p of numbers, bits (..., W), by logits (..., W, K)."""
        told = logits.masked_fill(~self.pairs.values[-1][:, None], -torch.inf).log_softmax(-2)
        return told.masked_fill(third[..., None] == 0, 0.0).sum(-2)

    # ---- whole samples -----------------------------------------------------------------------

    def evidence(self, x: torch.Tensor, known: Any = None) -> torch.Tensor:
        """(n, A, K): log p of the known parts of samples, int64 (n, 9, U), given what governs.

        known: bool (n, 3, 2), is a row's first pair and its third panel known; None for all.
        """
        rows, laws = self.read(x.view(len(x), 3, 3, self.n_units)), self.laws()
        first, third = self.first(rows, laws), self.third(rows, laws)
        if known is not None:
            first, third = (
                part.masked_fill(~known[..., i, None, None], 0.0)
                for i, part in enumerate((first, third))
            )
        return (first + third).sum(1)

    def log_prior(self, floor: float = 0.0, label: Any = None) -> torch.Tensor:
        """(A, K): log p(a, k), a share ``floor`` of it the product of its margins.

        label: int64 (n,), 0 for none, else a label + 1: gives (n, A, K).
        """
        logits = self.prior
        if label is not None:
            logits = torch.cat([torch.zeros_like(logits)[None], self.labelled])[label] + logits
        prior = logits.flatten(-2).log_softmax(-1).view_as(logits)
        if not floor:
            return prior
        p = prior.exp()
        margins = p.sum(-1, keepdim=True) * p.sum(-2, keepdim=True)
        return ((1 - floor) * p + floor * margins).log()

    def log_prob(self, x: torch.Tensor, label: Any = None) -> torch.Tensor:
        """(n,): log p of samples, int64 (n, 9, U); label as for `log_prior`."""
        return (self.evidence(x) + self.log_prior(0.0, label)).flatten(1).logsumexp(1)


def third_logits(laws: Laws, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(..., A, W, K) logits of a third set's bits from those of the first two, (..., A, W)."""
    a, places, w, k = laws.products.shape
    kind = laws.products
    outer = (first[..., :, None] & second[..., None, :]).flatten(-2)
    lines = outer.reshape(-1, a, places).transpose(0, 1).to(kind)
    state = F.one_hot(2 * first + second, 4).reshape(-1, a, w, 4).transpose(0, 1).to(kind)
    local = torch.bmm(state.flatten(1, 2), laws.local).view(a, -1, w * k)
    logits = torch.baddbmm(local, lines, kind.reshape(a, places, w * k))
    return logits.transpose(0, 1).reshape(*first.shape, k)
