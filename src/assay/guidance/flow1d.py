"""The guided probability-flow ODE in one dimension, exact at both ends.

In r = 1/sigma and c = x/sigma the guided flow is

    dc/dr = D_w(x = c/r, sigma = 1/r),    c = u ~ N(0, 1) at r = 0,    x = lim c/r,

with D_w = D_c + w (D_c - D_u) = D_c + w (1 - P(z|x)) (D_c - D_rest) where the marginal contains
the class. The slope delta = dc/du obeys d(ln delta)/dr = dD_w/dc. No noise level is cut off.

* Only Gaussians (:class:`Smooth`): alpha = 1/sqrt(1 + (sigma/s)^2) runs from 0 to 1 and
  g = c sqrt(1 - alpha^2) from u to x/s; with q_i = sd_i^2/s^2 a component's drift is
  (m_i/s + alpha g (q_i - 1)) / (1 + (q_i - 1) alpha^2), smooth up to the end.
* Else (:mod:`assay.guidance.edged1d`): time is tau = arsinh(s r), the state arsinh(E) with
  E = c - e r and e the edge or atom nearest to x. Once the edge is resolved E grows like r and
  arsinh(E) is a straight line; before, in an overshoot, E changes slowly. Both are long steps, so
  gaps of e^-300 are no effort.

Source: Chidambaram et al., arXiv 2409.13074 (the ODE); the coordinates are this package's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from assay.guidance import lanes
from assay.guidance.guided1d import Guided1D
from assay.guidance.stack1d import Terms

_CELLS = 40_000  # lanes x components evaluated at once


class End(NamedTuple):
    """Where lanes arrive, (n,): x = origin + away/r, and ln dx/du (NaN where it was not asked)."""

    origin: np.ndarray
    away: np.ndarray
    log_r: np.ndarray
    log_slope: np.ndarray

    @property
    def x(self) -> np.ndarray:
        return self.origin + self.away * np.exp(-self.log_r)


class Flow(Protocol):
    """The increasing map F_w from u ~ N(0, 1) to the guided sample x."""

    nfe: int

    def forward(self, u: np.ndarray, slope: bool, fine: bool = False) -> End:
        """Samples of u (n,), finite; fine: follow them after float64 x has settled."""
        ...

    def backward(self, x: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
        """u (n,) and ln dx/du (n,) of x (n,) strictly between the ends of the support."""
        ...


class Smooth:
    """Gaussians only: alpha from 0 to 1, g from u to (x - e)/s with e the class mean."""

    def __init__(self, pair: Guided1D, tol: float) -> None:
        self.pair, self.tol, self.nfe = pair, tol, 0
        self.unit = float(np.sqrt(pair.joint.gaussians[:, 1].min()))
        shares = np.exp(pair.one.log_weights)
        self.origin = float(shares @ pair.one.gaussians[:, 0] / shares.sum())

    def _rhs(self, t: np.ndarray, y: np.ndarray, index: np.ndarray) -> np.ndarray:
        alpha, g = t[:, None], y[:, :1]
        mean = (self.pair.joint.gaussians[:, 0] - self.origin) / self.unit
        bend = self.pair.joint.gaussians[:, 1] / self.unit**2 - 1
        spread = 1 + bend * alpha * alpha
        z = g - alpha * mean
        log_prob = -0.5 * (z * z / spread + np.log(spread))
        shift, slope = (mean + alpha * g * bend) / spread, alpha * bend / spread
        drift = self.pair.mix(Terms(log_prob, shift, -z / spread, slope))
        return np.stack(drift[: y.shape[1]], axis=1)

    def _solve(self, start: float, y: np.ndarray) -> np.ndarray:
        out = np.empty_like(y)
        for rows in chunks(len(y), self.pair):
            problem = lanes.Problem(self._rhs, self.tol, np.array([1.0, 0.0])[: y.shape[1]])
            t = np.full(len(y[rows]), start)
            _, out[rows] = lanes.integrate(problem, t, y[rows], 1 - t)
            self.nfe += problem.nfe
        return out

    def forward(self, u: np.ndarray, slope: bool, fine: bool = False) -> End:
        y = self._solve(0.0, state(u, slope))
        log_slope = y[:, 1] + np.log(self.unit) if slope else np.full(len(u), np.nan)
        origin, log_r = np.full(len(u), self.origin), np.full(len(u), -np.log(self.unit))
        return End(origin, y[:, 0], log_r, log_slope)

    def backward(self, x: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
        y = self._solve(1.0, state((x - self.origin) / self.unit, slope))
        return y[:, 0], np.log(self.unit) - y[:, 1] if slope else np.full(len(x), np.nan)


def state(first: np.ndarray, slope: bool) -> np.ndarray:
    """States (n, 1), or (n, 2) with ln delta = 0 beside."""
    return np.stack([first, np.zeros_like(first)][: 1 + slope], axis=1)


def chunks(n: int, pair: Guided1D) -> Iterator[slice]:
    """Slices of n lanes small enough for the cache."""
    size = max(1, _CELLS // len(pair.joint.log_weights))
    return (slice(i, i + size) for i in range(0, n, size))
