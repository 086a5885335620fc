"""Other ways to choose w, and what each of them costs in truth.

    monotone   the largest weight of the grid up to which the mean projected trajectory only rises
               while sigma falls through the whole window [sigma_min, sigma_max] (Chidambaram et
               al., arXiv 2409.13074, section 5: the largest w whose projected trajectories stay
               monotone; the window is ours to state);
    habit      guidance_scale 7.5, that is w = 6.5;
    grid       every weight of the grid with ``cap`` samples: the largest whose estimates satisfy
               the criterion, no bounds asked for;
    oracle     the largest weight of the grid that truly satisfies it.

The grid: w = 0 and 25 weights, even in ln w over [0.1, 30]. A method's regret is
(log(1 + w*) - log(1 + w)) / log(1 + w*) with the oracle's w*, not below 0, and 1 where its w
truly violates a constraint or where it names no weight.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.core import noise
from assay.guidance.choosing import bounds as choosing_bounds
from assay.guidance.choosing.cases import StudySampler
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.draw import Drawn, Sampler
from assay.guidance.choosing.search import GRAIN
from assay.guidance.choosing.table import keeps

GRID = (0.0, *(float(w) for w in np.geomspace(0.1, 30.0, 25)))
HABIT = 6.5
SLOPE = 1e-3  # a projection that falls by less, in units of x by OU time, still counts as rising
_GRID_NOISE = 4


def satisfied(criterion: Criterion, drawn: Drawn, plain: Drawn) -> bool:
    """Whether a sample's plain estimates satisfy every constraint."""
    values: dict[str, float] = {}
    if drawn.off is not None:
        values["off_support"] = float(drawn.off.mean())
    if criterion.diversity is not None:
        values["diversity"] = math.exp(choosing_bounds.log_ratio(drawn.x, plain.x)[0])
    if drawn.late is not None:
        values["returned"] = float(drawn.late.mean(axis=1).max())
    if drawn.odds is not None and plain.odds is not None:
        values["odds_gain"] = float(np.mean(drawn.odds - plain.odds))
    return keeps(criterion, values)


def measured_grid(
    sampler: Sampler, criterion: Criterion, cap: int, seed: int
) -> tuple[float | None, int]:
    """(w, network evaluations): the grid with ``cap`` samples a weight, one noise for all."""
    key = (seed, _GRID_NOISE)
    plain = sampler.draw(0.0, cap, key)
    best, spent = None, 0
    for w in GRID:
        drawn = plain if w == 0 else sampler.draw(w, cap, key)
        spent += cap * sampler.nfe(w)
        if satisfied(criterion, drawn, plain):
            best = w
    return best, spent


def rises(sigmas: np.ndarray, mean: np.ndarray) -> bool:
    """Whether a mean projection (T,) only rises while sigma (T,) falls."""
    step = -np.diff(noise.ou_from_sigma(sigmas))
    return bool(np.all(np.diff(mean) >= -SLOPE * step))


def monotone(sampler: StudySampler) -> float:
    """The rule's weight on the true mean trajectories; 0 where none rises."""
    best = 0.0
    for w in GRID[1:]:
        if not rises(*sampler.projection(w)):
            return best
        best = w
    return best


def oracle(sampler: StudySampler, criterion: Criterion) -> tuple[float | None, float | None]:
    """The largest w that truly satisfies: (of the grid, of all weights up to 30 in grains)."""
    sampler.prepare(GRID)
    kept = [w for w in GRID if keeps(criterion, sampler.truth(criterion, w))]
    if not kept:
        return None, None
    best = kept[-1]
    if best == GRID[-1]:
        return best, best
    low = round(math.log1p(best) / GRAIN)
    high = math.ceil(math.log1p(GRID[GRID.index(best) + 1]) / GRAIN)
    while high - low > 1:
        middle = (low + high) // 2
        holds = keeps(criterion, sampler.truth(criterion, math.expm1(GRAIN * middle)))
        low, high = (middle, high) if holds else (low, middle)
    return best, max(best, math.expm1(GRAIN * low))


def regret(w: float | None, violates: bool | None, best: float) -> float:
    """Share of the oracle's log(1 + w*) that is lost; 1 for a violation or no weight."""
    if w is None or violates:
        return 1.0
    if best == 0:
        return 0.0
    return max(0.0, 1 - math.log1p(w) / math.log1p(best))


def judged(
    sampler: StudySampler, criterion: Criterion, w: float | None, best: tuple[float, float]
) -> dict[str, Any]:
    """The columns that say how good a weight is; best: the oracle's w of the grid, of all."""
    row: dict[str, Any] = {
        "w": w,
        "guidance_scale": None if w is None else 1 + w,
        "oracle_w": best[0],
        "oracle_w_exact": best[1],
    }
    values = {} if w is None else sampler.truth(criterion, w)
    violates = None if w is None else not keeps(criterion, values)
    row |= {f"true_{name}": values.get(name) for name in criterion.names}
    row["violates"] = violates
    row["regret"] = regret(w, violates, best[0])
    row["regret_exact"] = regret(w, violates, best[1])
    return row
