"""A class coordinate beside Gaussian nuisances, its denoiser tabulated once per noise level.

At one noise level a 1-D denoiser is one smooth function of x, and a table of laws asks for it
a million times at the same few levels. It is therefore replaced by the cubic spline through
nodes that are halved until the spline misses the exact denoiser by less than ``tolerance`` at
every midpoint; outside the nodes the exact denoiser answers.

Beside the class coordinate lie independent N(0, variance) coordinates, whose denoiser is
x variance/(variance + sigma^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline

Line = Callable[[np.ndarray, float], np.ndarray]
_FIRST = 65  # nodes to begin with
_ROUNDS = 40  # halvings, far below the spacing of float64
_REACH = 5.0  # standard deviations of noise


@dataclass(frozen=True, eq=False)
class Tabulated:
    """``line`` (x (n,), sigma) -> (n,) on the class coordinate, as a spline per noise level.

    reach: how far beyond the noise the nodes go, in units of x; tolerance: in units of x.
    """

    line: Line
    reach: float = 12.0
    tolerance: float = 5e-8
    _splines: dict[float, CubicSpline] = field(default_factory=dict, repr=False)

    def __call__(self, x: np.ndarray, sigma: float) -> np.ndarray:
        spline = self._splines.get(sigma)
        if spline is None:
            spline = self._splines[sigma] = self._fit(sigma)
        value = spline(x)
        outside = (x < spline.x[0]) | (x > spline.x[-1])
        if np.any(outside):
            value[outside] = self.line(x[outside], sigma)
        return value

    def _fit(self, sigma: float) -> CubicSpline:
        end = self.reach + _REACH * sigma
        nodes = np.linspace(-end, end, _FIRST)
        values = self.line(nodes, sigma)
        wide = np.ones(_FIRST - 1, dtype=bool)  # intervals that may have to be halved
        for _ in range(_ROUNDS):
            spline = CubicSpline(nodes, values)
            middle = ((nodes[:-1] + nodes[1:]) / 2)[wide]
            exact = self.line(middle, sigma)
            bad = np.zeros_like(wide)
            bad[wide] = np.abs(spline(middle) - exact) > self.tolerance
            if not bad.any():
                return spline
            near = bad.copy()  # a miss spreads to the intervals beside it
            near[1:] |= bad[:-1]
            near[:-1] |= bad[1:]
            split = near & wide
            at, kept = np.flatnonzero(split) + 1, split[wide]
            nodes = np.insert(nodes, at, middle[kept])
            values = np.insert(values, at, exact[kept])
            wide = np.repeat(split, 1 + split)
        raise AssertionError(f"no table at sigma = {sigma}: the denoiser jumps")


@dataclass(frozen=True, eq=False)
class WithNuisance:
    """Denoiser of (batch, d): the first coordinate by ``line``, the others N(0, variance)."""

    line: Line
    variance: float = 1.0

    def __call__(self, x: np.ndarray, sigma: float) -> np.ndarray:
        denoised = x * (self.variance / (self.variance + sigma * sigma))
        denoised[:, 0] = self.line(x[:, 0], sigma)
        return denoised
