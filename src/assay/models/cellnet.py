"""Networks over the cells of panels: one vector a cell, from which a head makes its token's law.

A sample is L = rows x columns x cells tokens in that order, of panels in a grid and cells inside
each. A token is read as the sum of its parts' vectors (a cell's shape, size and colour), its place
as the sum of row, column and cell of the panel, and a vector for each whole place. The label, 0
for none, is added to every input. Two ways to run the trunk of `assay.models.transformer`:

    fill   looking both ways: the vector of cell i sees all cells but the unknown ones, which are
           read as one learned blank. For masked diffusion, in the form without a time input (its
           answer depends on time through what is masked alone: Shi et al. 2024, arXiv 2406.04329;
           Sahoo et al. 2024, arXiv 2406.07524)
    ahead  causal, in an order told: input j reads token j - 1 of the sequence and is told that
           token's place and the place of token j, which its vector predicts (Pannatier et al.
           2024, "sigma-GPTs", arXiv 2404.09562)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import CellNetConfig
from assay.models.transformer import Cache, Transformer, initial


def parts_of(sizes: tuple[int, ...]) -> torch.Tensor:
    """float (prod sizes, sum sizes): for each token the one-hots of its parts, side by side."""
    token = torch.arange(math.prod(sizes))
    found = []
    for size in reversed(sizes):
        found.append(F.one_hot(token % size, size))
        token = token // size
    return torch.cat(found[::-1], 1).float()


class CellNet(nn.Module):
    """The network of a `CellNetConfig`, initialised from a seed."""

    parts: torch.Tensor

    def __init__(self, config: CellNetConfig, seed: int = 0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.config, self.length = config, math.prod(config.grid)
        d, roles = config.trunk.width, 2 if config.trunk.causal else 1
        self.trunk = Transformer(config.trunk, rng)
        self.register_buffer("parts", parts_of(config.sizes), persistent=False)
        self.token = initial((sum(config.sizes), d), 0.5 * len(config.sizes) ** -0.5, rng)
        self.blank = initial((1, d), 0.5, rng)  # unknown, or before the first
        rows, columns, cells = config.grid
        self.row = initial((roles, rows, d), 0.5, rng)
        self.column = initial((roles, columns, d), 0.5, rng)
        self.cell = initial((roles, cells, d), 0.5, rng)
        self.place = initial((roles, self.length, d), 0.02, rng)
        self.label = initial((config.n_labels + 1, d), 0.02, rng)

    def fill(
        self,
        x: torch.Tensor,
        unknown: torch.Tensor,
        label: torch.Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """(n, L, width): a vector of each cell's token given the tokens that are known.

        x (n, L): tokens, in the order of places; unknown bool (n, L): what x holds there is not
        read; label (n,): 0 for none; rng: a generator for dropout in training.
        """
        assert not self.config.trunk.causal, "a causal trunk runs ahead"
        blank = len(self.parts)
        read = F.embedding(x.masked_fill(unknown, blank), self._tokens())
        return self.trunk(read + self._places()[0] + self._labelled(x, label), None, rng)

    def begin(self, n: int) -> Cache:
        """An empty cache for n sequences."""
        return self.trunk.cache(n, self.length)

    def ahead(
        self,
        seq: torch.Tensor,
        places: torch.Tensor,
        label: torch.Tensor | None = None,
        span: tuple[int, int] | None = None,
        cache: Cache | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """(n, stop - start, width): vectors that predict tokens start..stop-1 of seq.

        seq (n, L): tokens in the order drawn, of which those from stop - 1 on are not read;
        places (n, L): their places. With a cache, ``span`` goes on where the last one stopped.
        """
        assert self.config.trunk.causal, "a trunk that looks both ways fills"
        start, stop = span or (0, self.length)
        source, target = self._places()
        first, kept = int(start == 0), slice(max(start - 1, 0), stop - 1)
        blank, none = len(self.parts), self.length
        before = F.pad(seq[:, kept], (first, 0), value=blank)
        left = F.pad(places[:, kept], (first, 0), value=none)
        x = F.embedding(before, self._tokens())
        x = x + F.embedding(left, F.pad(source, (0, 0, 0, 1)))
        x = x + F.embedding(places[:, start:stop], target) + self._labelled(seq, label)
        return self.trunk(x, cache, rng)

    def _tokens(self) -> torch.Tensor:
        """(tokens + 1, width): the vector of every token, and of a blank."""
        return torch.cat([self.parts @ self.token, self.blank])

    def _places(self) -> torch.Tensor:
        """(roles, L, width): the vector of every place."""
        row, column, cell = self.row[:, :, None, None], self.column[:, None, :, None], self.cell
        return (row + column + cell[:, None, None]).flatten(1, 3) + self.place

    def _labelled(self, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        label = torch.zeros_like(x[:, 0]) if label is None else label
        return F.embedding(label, self.label)[:, None]
