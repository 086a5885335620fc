"""A trained family as a generator of panels: sample and complete, in whole panels.

Both work through the samples in internal batches of one fixed size, the last one filled up, so
that the network always sees the same shapes; sample i draws from stream i of the seed. The same
seed gives the same bytes, and the first samples of a larger n are those of a smaller one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.rules import bindings, codecs
from assay.rules.completion import as_mask

BATCH = 128


class Generator:
    """A family (see `assay.families.base`) bound to panels. ``about`` says what it is."""

    def __init__(
        self, family: Any, binding: bindings.Binding, about: dict[str, Any] | None = None
    ):
        self.family, self.binding, self.about = family, binding, about or {}
        self.batch = BATCH

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """int8 (n, 3, 3, 9, 3): n draws. ValueError for n or seed < 0 or a bad temperature."""
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}")
        rng = self.family.streams(seed)
        codes = [np.empty((0, *self.binding.shape), np.int64)]
        for first in range(0, n, self.batch):
            drawn = self.family.sample(self.batch, rng.at(first), temperature)
            codes.append(drawn.cpu().numpy()[: n - first])
        return self.binding.decode(np.concatenate(codes), seed)

    def complete(
        self, panels: np.ndarray, mask: np.ndarray, seed: int = 0, temperature: float = 0.0
    ) -> np.ndarray:
        """int8 panels with the unknown ones drawn, the known ones untouched.

        panels (n, 3, 3, 9, 3), integers; mask bool (3, 3) or (n, 3, 3), True where unknown: what
        lies there is never read. ValueError for other shapes, for invalid cells in known panels,
        and for masks that the family cannot complete.
        """
        x = codecs.as_panels(panels)
        where = as_mask(mask, len(x))
        hidden = where[..., None, None]
        _check_known(x, hidden)
        known = np.where(hidden, -1, x).astype(np.int8)
        if not where.any():
            return known
        codes = self.binding.encode(known)
        unknown = where.sum((1, 2))
        for count in np.unique(unknown[unknown > 0]):  # one number of unknowns: one shape of work
            lines = np.flatnonzero(unknown == count)
            for first in range(0, len(lines), self.batch):
                part = lines[first : first + self.batch]
                codes[part] = self._drawn(codes, where, part, seed, temperature)
        return np.where(hidden, self.binding.decode(codes, seed), known)

    def _drawn(self, codes, where, lines, seed, temperature) -> np.ndarray:
        """The codes of some lines, completed in a batch that is filled up by repetition."""
        import torch

        full = np.resize(lines, self.batch)
        mask = np.ascontiguousarray(self.binding.place(where[full]))
        rng = self.family.streams(seed).take(full)
        context, unknown = torch.from_numpy(codes[full]), torch.from_numpy(mask)
        drawn = self.family.complete(context, unknown, rng, temperature)
        return drawn.cpu().numpy()[: len(lines)]


def _check_known(x: np.ndarray, hidden: np.ndarray) -> None:
    """ValueError where a known cell is neither empty nor valid, or a known panel is empty."""
    empty = (x == -1).all(-1)
    valid = ((x >= 0) & (x < codecs.LEVELS)).all(-1)
    bad = ~(empty | valid | hidden[..., 0])
    if bad.any():
        i, row, col, cell = np.argwhere(bad)[0]
        raise ValueError(
            f"panels hold {x[i, row, col, cell].tolist()} at r{row + 1}c{col + 1}, position "
            f"{cell} of sample {i}: a known cell is -1 in all three attributes or has shape 0..6, "
            "size 0..9, colour 0..9; correct it or mask its panel"
        )
    void = empty.all(-1) & ~hidden[..., 0, 0]
    if void.any():
        i, row, col = np.argwhere(void)[0]
        raise ValueError(
            f"panels hold no object at r{row + 1}c{col + 1} of sample {i}: a known "
            "panel has 1 to 9 objects; mask it if it is unknown"
        )
