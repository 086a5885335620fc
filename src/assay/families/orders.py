"""Orders in which nine panels are drawn, so that one autoregressive model completes many masks.

A panel's place is 3 row + column. The orders trained on, each with its share:

    natural   0, 1, ..., 8
    column    in each row a column c (uniform) comes last, the other two ascending
    any       a uniform number of panels (1..9), a uniform subset of that number: last; both the
              rest and the subset in natural order

Completing draws the unknown panels last. Rows are exchangeable in the data, so that for the first
two kinds the rows may be relabelled: known rows first, then one with a last panel or two unknown,
then unknown rows. This covers every mask of one panel; ``any`` covers every mask.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

N_PANELS = 9
N_UNIFORMS = 3 + N_PANELS
COLUMNS = tuple(
    tuple(3 * row + col for row in range(3) for col in (*others, last))
    for last, others in ((2, (0, 1)), (0, (1, 2)), (1, (0, 2)))
)  # the first is the natural order
KINDS = ("natural", "column", "any")


class Plan(NamedTuple):
    """How to complete a mask: panels in the order drawn, as data and as the network is told."""

    panels: tuple[int, ...]
    places: tuple[int, ...]
    n_known: int


def draw(shares: tuple[float, float, float], uniform: torch.Tensor) -> torch.Tensor:
    """int64 orders (n, 9) by the shares of `KINDS` from uniform numbers (n, N_UNIFORMS)."""
    u = uniform.numpy()
    column = np.array(COLUMNS)[(u[:, 1] * 3).astype(np.int64)]
    n_last = 1 + (u[:, 2] * N_PANELS).astype(np.int64)
    last = u[:, 3:].argsort(1).argsort(1) < n_last[:, None]
    subset = (last * N_PANELS + np.arange(N_PANELS)).argsort(1)
    total = float(sum(shares))
    kind = (u[:, :1] * total >= np.cumsum(shares)[:2]).sum(1)
    natural = np.broadcast_to(np.arange(N_PANELS), column.shape)
    return torch.from_numpy(np.choose(kind[:, None], [natural, column, subset]))


def last_of_row(places: torch.Tensor) -> torch.Tensor:
    """bool (n, 9): the panels of an order that come last of the three of their row."""
    row = places // 3
    later = torch.ones(N_PANELS, N_PANELS, dtype=torch.bool, device=places.device).triu(1)
    return ~((row[:, :, None] == row[:, None, :]) & later).any(-1)


def plans(mask: np.ndarray, shares: tuple[float, float, float]) -> tuple[Any, Any, np.ndarray]:
    """(panels (n, 9), places (n, 9), n_known (n,)), int64, for masks bool (n, 9).

    ValueError, naming the masks that can be completed, where an order trained on covers no mask
    given.
    """
    kinds = tuple(share > 0 for share in shares)
    keys, where = np.unique(mask, axis=0, return_inverse=True)
    found = [plan(tuple(key), kinds) for key in keys.tolist()]
    lines = where.reshape(-1)
    return (
        torch.tensor([p.panels for p in found])[lines],
        torch.tensor([p.places for p in found])[lines],
        np.array([p.n_known for p in found])[lines],
    )


@functools.lru_cache(1024)
def plan(mask: tuple[bool, ...], kinds: tuple[bool, bool, bool]) -> Plan:
    """How to complete one mask (9,) with the kinds of order trained on, or ValueError."""
    rows = sorted(range(3), key=lambda row: sum(mask[3 * row : 3 * row + 3]))
    allowed = [order for order, on in zip(COLUMNS, (True, kinds[1], kinds[1]), strict=True) if on]
    for order in allowed if kinds[0] or kinds[1] else ():
        panels = tuple(3 * rows[place // 3] + place % 3 for place in order)
        unknown = [mask[panel] for panel in panels]
        if unknown == sorted(unknown):  # the unknown panels come last
            return Plan(panels, order, unknown.count(False))
    if not kinds[2]:
        raise ValueError(_refusal(mask, kinds))
    order = tuple(sorted(range(N_PANELS), key=lambda panel: (mask[panel], panel)))
    return Plan(order, order, list(mask).count(False))


def _refusal(mask: tuple[bool, ...], kinds: tuple[bool, bool, bool]) -> str:
    unknown = ", ".join(f"r{i // 3 + 1}c{i % 3 + 1}" for i, on in enumerate(mask) if on)
    column = "one panel of any column" if kinds[1] else "the last panel or the last two"
    return (
        f"mask {unknown} cannot be completed by this model: it can complete whole rows and, "
        f"in one more row, {column}; train with a share of order 'any' for other masks"
    )
