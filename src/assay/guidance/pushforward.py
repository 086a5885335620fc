"""The distribution of guided samples, exact in one dimension.

The guided flow in 1-D moves points without crossing, so its map F_w from u ~ N(0, 1) to the sample
x increases: P(X <= x) = Phi(u(x)) with u(x) from one integration back from x, the density is
phi(u) / F_w'(u), and the far tail is a score u, never an underflow. The flow and its coordinates:
:mod:`assay.guidance.flow1d`.

guided = (1 + w) cond - w uncond; w = 0 is the class, w = -1 the marginal. Source: Chidambaram et
al., arXiv 2409.13074.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import special

from assay.guidance import panels, specs
from assay.guidance.edged1d import Edged
from assay.guidance.flow1d import Flow, Smooth
from assay.guidance.guided1d import Guided1D, guided
from assay.guidance.target import Target
from assay.guidance.tilt import TargetLaw

_TOL = 1e-11


class Pushforward(TargetLaw):
    """Guided samples of a 1-D target: ``Pushforward(t, w=3.0)``.

    w: finite, >= 0 or -1; also between where every component is a Gaussian (elsewhere a compact
    class then gathers samples in a point off its support). tol: error allowed in one integration
    step, in units of noise or, for Gaussians alone, relative to the state; the default gives nine
    digits or more, 1e-4 four or more at about a seventh of the cost.

    ``nfe`` counts evaluations of the guided denoiser, each at one x and sigma, since the object
    was made. ValueError: d > 1, w out of range, w > 0 where uncond has no mass under cond.
    """

    def __init__(self, target: Target, w: float, tol: float = _TOL) -> None:
        self.target, self.w = target, specs.number("w", w)
        self.tol = specs.number("tol", tol)
        if not 0 < self.tol <= 0.1:
            raise ValueError(f"tol = {self.tol:g} must lie in (0, 0.1]")
        if target.dim != 1:
            raise ValueError(
                f"Pushforward is exact in 1-D only and the target has dim {target.dim}; "
                "take a 1-D target, or sample with a solver"
            )
        self._pair = guided(target, self.w)
        _check(self._pair, self.w)
        smooth = self._pair.joint.smooth
        self._flow: Flow = (Smooth if smooth else Edged)(self._pair, self.tol)
        self._rounding = max(2e-14, 10 * self.tol)

    @property
    def nfe(self) -> int:
        """Evaluations of the guided denoiser by this object so far."""
        return self._flow.nfe

    @property
    def support(self) -> tuple[float, float]:
        intervals = self._pair.one.intervals
        return float(intervals[0, 0]), float(intervals[-1, 1])

    @property
    def atoms(self) -> np.ndarray:
        return self._pair.one.atoms

    def _map(self, u: np.ndarray) -> np.ndarray:
        return self._flow.forward(u, False).x

    def _map_slope(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        end = self._flow.forward(u, True)
        return end.x, end.log_slope

    def _log_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = np.full(len(x), -np.inf)
        low, _ = self.support
        inside = (x > low) | np.isin(x, self.atoms)
        if inside.any():
            u[inside] = self._flow.backward(x[inside], False)[0]
        return special.log_ndtr(u), special.log_ndtr(-u)

    def _logpdf(self, x: np.ndarray) -> np.ndarray:
        self._refuse_atoms("density")
        u, log_slope = self._flow.backward(x, True)
        return -0.5 * (u * u + np.log(2 * np.pi)) - log_slope

    def _log_gap(self, u: np.ndarray) -> np.ndarray:
        end = self._flow.forward(u, False, fine=True)
        with np.errstate(divide="ignore"):
            from_edge = np.log(np.abs(end.away)) - end.log_r
            from_other = np.log(np.abs(self.far_edge - end.x))
        return np.where(end.origin == self.far_edge, from_edge, from_other)

    def _breaks(self) -> np.ndarray:
        return self._thresholds if isinstance(self._flow, Edged) else np.empty(0)

    @cached_property
    def _thresholds(self) -> np.ndarray:
        """Scores of all edges and holes inside the support, and of both sides of its atoms."""
        low, high = self.support
        joint = self._pair.joint
        right = joint.edges[(joint.edges > low) & (joint.edges < high)]
        if low in self.atoms:
            right = np.append(low, right)
        left = np.nextafter(self.atoms[self.atoms > low], -np.inf)
        return self._flow.backward(np.concatenate([right, left]), False)[0]

    @cached_property
    def _table(self) -> panels.Table:
        if len(self.atoms) < len(self._pair.one.log_weights):
            return super()._table
        u, _ = self._flow.backward(self.atoms[:-1], False)
        return panels.steps(u, self.atoms)


def _check(pair: Guided1D, w: float) -> None:
    """ValueError where the guided flow does not end on the support."""
    if w < -1:
        raise ValueError(f"w = {w:g} is below -1, the unconditional model; take w >= 0 or w = -1")
    if -1 < w < 0 and not pair.joint.smooth:
        raise ValueError(
            f"w = {w:g} lies between -1 and 0, where only Gaussian components keep their "
            "samples on the support; take w >= 0 or w = -1"
        )
    if w > 0 and pair.other and pair.log_odds is None and not pair.other.covers(pair.one):
        raise ValueError(
            f"w = {w:g}: uncond has no mass on part of the support of cond, so that guidance "
            "leaves it; let uncond include the class"
        )
