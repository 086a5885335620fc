"""Completion: unknown panels filled in, by a symbolic solver and by two fills that know nothing.

A mask is bool (3 rows, 3 panels), or (n, 3, 3) for one a sample; True is unknown. A completion is
correct if some rule holds in all three rows. The task is the third panel of row 3 (THIRD_PANEL);
any mask may be asked for.

The solver deduces, from the sets of the known panels, the rules that all three rows can still
satisfy (`rowsolve` counts each row's completions exactly), chooses one uniformly, completes the
governed quantity row by row uniformly, and fills the rest freely. On valid samples it is always
correct: the reference line at 1. The lower lines: the marginal fill puts panels of other samples
in place, whatever the known ones say (0.07 on held-out rules); the uniform fill draws each
attribute of each cell over -1..M-1 (0.024 on the third panel).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np

from assay.rules import bits, codecs, genraven, rowsolve, shares, streams
from assay.rules.relations import TABLES

Fill = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""fill(x, mask (n, 3, 3), rng) -> panels of x's shape; only the unknown ones are looked at."""

THIRD_PANEL = np.arange(9).reshape(3, 3) == 8
THIRD_PANEL.setflags(write=False)

# The unit that each rule governs; the last entry is for rule -1, which governs nothing.
_UNITS = np.array([genraven.ATTRIBUTES.index(rule.attribute) for rule in genraven.RULES] + [5])


def as_mask(mask: np.ndarray, n: int) -> np.ndarray:
    """bool (n, 3, 3) from a mask for all samples (3, 3) or for each; ValueError otherwise."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape not in ((3, 3), (n, 3, 3)):
        raise ValueError(
            f"mask must be bool (3, 3) or ({n}, 3, 3), True where a panel is unknown; "
            f"got {mask.dtype} {mask.shape}"
        )
    return np.broadcast_to(mask, (n, 3, 3))


def deduce(x: np.ndarray, mask: np.ndarray, rules: Iterable[int] = range(40)) -> np.ndarray:
    """bool (n, 40): the rules (among those given) that all rows satisfy or still can.

    x (n, 3, 3, 9, 3), any integers; its unknown panels are not looked at. ValueError for another
    shape, dtype or mask, or unknown rules.
    """
    x = codecs.as_panels(x)
    ids = np.array(sorted(set(rules)), np.int64)
    if len(ids) == 0 or ids[0] < 0 or ids[-1] > 39:
        raise ValueError("rules must be one or more ids in 0..39")
    out = np.zeros((len(x), 40), np.bool_)
    rowsolve.feasible(_masks(x), _unknown(x, mask), ids, TABLES, out)
    return out


def complete(
    x: np.ndarray, mask: np.ndarray, rng: np.random.Generator, rules: Iterable[int] = range(40)
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the unknown panels: (int8 panels, the rule used (n,), -1 where none is possible).

    x and mask as for `deduce`. The rule is uniform over the possible ones, the governed quantity
    uniform over each row's completions, the number of objects and the other sets are drawn freely
    and the cells by the fill law. Where no rule is possible all sets are drawn freely.
    """
    x = bits.as_bytes(codecs.as_panels(x))
    governed = np.zeros((len(x), 9), np.int64)
    key = streams.key(int(rng.integers(1 << 63)))
    open_rules = deduce(x, mask, rules)
    chosen = rowsolve.choose(_masks(x), _unknown(x, mask), open_rules, key, TABLES, governed)
    where = as_mask(mask, len(x)).reshape(-1, 9)
    sets = _dress(np.repeat(chosen[:, None], 9, 1)[where], governed[where], rng)
    out = x.reshape(-1, 9, 9, 3).copy()
    out[where] = bits.fill_panels(sets, int(rng.integers(1 << 63)))
    return out.reshape(x.shape), chosen


def _masks(x: np.ndarray) -> np.ndarray:
    return bits.panel_masks(x.reshape(-1, 9, 9, 3))


def _unknown(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Bit 3 * row + panel of each sample's unknown panels."""
    return as_mask(mask, len(x)).reshape(-1, 9) @ (1 << np.arange(9))


def _dress(rules: np.ndarray, governed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64 (m, 4): sets of m panels, each with its governed quantity and the rest drawn."""
    unit = _UNITS[rules]
    least = np.where(unit < 3, np.bitwise_count(governed), 1)
    number = rng.integers(least, 10)
    number = np.where(unit == rowsolve.NUMBER_UNIT, governed, number)
    given = unit == rowsolve.POSITION_UNIT
    number = np.where(given, np.bitwise_count(governed), number)
    sets = [np.where(given, governed, _subset(number, 9, rng))]
    for attribute, width in enumerate(bits.WIDTHS[1:]):
        size = rng.integers(1, np.minimum(number, width) + 1)
        sets.append(np.where(unit == attribute, governed, _subset(size, width, rng)))
    return np.stack(sets, -1)


def _subset(size: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Masks (m,) of uniform subsets of the given sizes (m,) of `width` values."""
    rank = rng.random((len(size), width)).argsort(1).argsort(1)
    return (rank < size[:, None]) @ (1 << np.arange(width))


def symbolic(x: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The solver as a fill: the reference line at 1."""
    return complete(x, mask, rng)[0]


def marginal(rules: Iterable[int]) -> Fill:
    """A fill by the marginal law of the samples of these rules, blind to the known panels.

    Each unknown panel is the panel at its place in a fresh sample, drawn anew for each place.
    """
    rules = tuple(rules)

    def fill(x: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        donors, _ = genraven.generate(len(x), rules, int(rng.integers(1 << 63)))
        donors = donors.reshape(-1, 9, 9, 3)
        for place in range(9):
            donors[:, place] = donors[rng.permutation(len(x)), place]
        return donors.reshape(x.shape)

    return fill


def uniform(x: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fill that draws each attribute of each cell uniformly over {-1..M-1}."""
    return rng.integers(-1, codecs.LEVELS, x.shape).astype(np.int8)


def evaluate_completion(
    fill: Fill,
    x: np.ndarray,
    y: np.ndarray,
    mask: np.ndarray = THIRD_PANEL,
    held_out: Collection[int] = genraven.SPLITS[0],
    seed: int = 0,
) -> dict[str, Any]:
    """How often a fill makes some rule hold in all three rows, trained and held-out rules apart.

    fill: see `Fill`; it is given x with the unknown panels empty, and what it does to the known
    ones is ignored. x (n >= 1, 3, 3, 9, 3), y (n,) the samples' rules, mask as in the module.
    Returns "all", "trained", "held_out" (None where there are none) and "per_rule", each
    {n, k, estimate, low, high} with Wilson intervals, and "any_valid": the share of rows with an
    unknown panel in which some rule holds. ValueError for other shapes or dtypes.
    """
    x, y = codecs.as_panels(x), np.asarray(y)
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise ValueError(f"y must hold one rule id a sample, got {y.dtype} {y.shape}")
    where: Any = as_mask(mask, len(x))
    if not where.any((1, 2)).all():
        raise ValueError("mask leaves a sample without unknown panels: there is nothing to fill")
    hidden = np.where(where[..., None, None], -1, x).astype(np.int8)
    answer = codecs.as_panels(fill(hidden, where, np.random.default_rng(seed)))
    ok: Any = genraven.check(np.where(where[..., None, None], answer, x))
    correct = ok.all(1).any(1)
    unseen = np.isin(y, list(held_out))
    rows = where.any(2)
    return {
        "all": shares.share(correct),
        "trained": _part(correct, ~unseen),
        "held_out": _part(correct, unseen),
        "any_valid": shares.ratio(ok.any(2) & rows, rows),
        "per_rule": {
            genraven.RULES[r].name: shares.share(correct[y == r]) for r in np.unique(y).tolist()
        },
    }


def _part(correct: np.ndarray, chosen: np.ndarray) -> dict[str, float] | None:
    return shares.share(correct[chosen]) if chosen.any() else None
