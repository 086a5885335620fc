"""The sweep's row of an exact pushforward: no particles, no grid of noise levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.guidance import columns, tilt
from assay.guidance.distribution import Distribution1D
from assay.guidance.pushforward import Pushforward
from assay.guidance.target import Target
from assay.runs import Made

_N_GRID = 200  # even abscissae of a density, beside the quantiles
_LEVELS = np.linspace(1e-4, 1 - 1e-4, 201)
_N_LEVELS = 4001
_FAR = 1e-12  # tail mass beyond which no boundary of the region is looked for
_NODES = np.linspace(-8.5, 8.5, 171)  # trapezoid for smooth functions of u: below 1e-12
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()


def exact_row(target: Target, pushed: Pushforward) -> Made:
    """Row of the exact distribution of guided samples, and its density beside two others.

    Arrays: density (4, m) = x, guided, tilted, conditional; NaN where one has no density.
    """
    tilted, reason = _tilt(target, pushed.w)
    off = off_support(target, pushed)
    quantiles = np.asarray(pushed.quantile(_LEVELS))  # one integration for all of them
    row = {
        "target": target.name,
        "law": "constant",
        "w": pushed.w,
        "guidance_scale": 1 + pushed.w,
        "solver": "exact",
        "steps": None,
        "n": None,
        "seed": None,
        "coordinate": "x",
        "mean": pushed.mean(),
        "sd": pushed.sd(),
        "median": float(quantiles[len(_LEVELS) // 2]),
        "entropy": None if len(pushed.atoms) else pushed.entropy(),
        "distance": "W1",
        "w1_to_cond": pushed.w1_to_cond(),
        "w1_to_tilted": None if tilted is None else pushed.w1(tilted),
        "tilted_reason": reason,
        "tilted_mean": None if tilted is None else tilted.mean(),
        "support": target.off_support_name,
        "off_support": off,
        "off_support_denoised": off,  # no noise is left at the end of the exact flow
        **_odds(target, pushed),
        "nfe": pushed.nfe,
    }
    cond = tilt.conditional(target)
    return row, {"density": densities(pushed, quantiles, tilted, cond)}


def off_support(target: Target, law: Distribution1D) -> float:
    """P(outside the class) of a 1-D law: outside its support, or its HDR99.9 if unbounded."""
    if np.all(np.isfinite(target.support)):
        return float(law.cdf(np.nextafter(target.support[0][0], -np.inf))) + float(
            law.sf(target.support[1][0])
        )
    cond = tilt.conditional(target)
    ends = [d.quantile(q) for d in (cond, law) for q in (_FAR, 1 - _FAR)]
    edges, outside = _boundaries(target, min(ends), max(ends))
    below = np.concatenate([[0.0], np.atleast_1d(law.cdf(edges)), [1.0]])
    masses = np.diff(below)
    if outside[-1]:  # the upper tail has digits of its own
        masses[-1] = float(law.sf(edges[-1])) if len(edges) else 1.0
    return float(masses[outside].sum())


def _boundaries(target: Target, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Where x enters or leaves the class, and which of the stretches between lie outside."""

    def outside(x: np.ndarray) -> np.ndarray:
        return target.off_support(x[:, None])

    grid = np.linspace(low, high, _N_LEVELS)
    out = outside(grid)
    at = np.flatnonzero(out[1:] != out[:-1])
    left, right = grid[at], grid[at + 1]
    for _ in range(60):
        middle = (left + right) / 2
        same = outside(middle) == out[at] if len(at) else np.empty(0, bool)
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    return right, out[np.concatenate([at, [len(grid) - 1]])]


def densities(
    law: Distribution1D,
    quantiles: np.ndarray,
    tilted: Distribution1D | None,
    cond: Distribution1D,
) -> np.ndarray:
    """(4, m): x over what any of the three holds, and their densities.

    quantiles: of the law at _LEVELS; x is even, and finer where the law is, since near an edge
    its density may be very steep.
    """
    ends = [np.asarray(d.quantile(_LEVELS[[0, -1]])) for d in (tilted, cond) if d is not None]
    low, high = (extreme([e[i] for e in ends] + [quantiles[i]]) for i, extreme in
                 ((0, min), (-1, max)))  # fmt: skip
    room = 0.04 * (high - low)
    x = np.sort(np.concatenate([np.linspace(low - room, high + room, _N_GRID), quantiles]))
    return np.stack([x, *(_pdf(d, x) for d in (law, tilted, cond))])


def _pdf(law: Distribution1D | None, x: np.ndarray) -> np.ndarray:
    if law is None or len(law.atoms):
        return np.full(x.shape, np.nan)
    return law.pdf(x)


def _tilt(target: Target, w: float) -> tuple[Distribution1D | None, str | None]:
    """The tilt, or None and why there is none."""
    try:
        tilted = tilt.tilted(target, w)
        tilted.mean()
    except ValueError as error:
        return None, str(error)
    return tilted, None


def _odds(target: Target, law: Distribution1D) -> dict[str, Any]:
    if target.rest is None:
        return {"class_odds": None, "class_odds_reason": "uncond does not contain cond"}
    if len(law.atoms):
        return {"class_odds": None, "class_odds_reason": "atoms"}
    x = np.asarray(law.map(_NODES))
    odds = target.log_odds(x[:, None])
    return columns.odds_columns(float(_WEIGHTS @ odds) if np.all(np.isfinite(odds)) else np.inf)
