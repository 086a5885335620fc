"""Masses of a density known up to a constant, cell by cell, in log space.

Cells are bisected until Gauss-Legendre on 20 nodes agrees with itself on the halves to relative
1e-12, in every cell whose density comes within e^-100000 of the greatest: the tails then have
relative precision wherever they are asked. Beyond the cells a tail is integrated outwards from x
in steps of the length over which the density falls by 1/e.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special
from scipy.optimize import elementwise

from assay.core.special import logsumexp
from assay.guidance.mixture1d import scores

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_NODES, _LOG_WEIGHTS = (_NODES + 1) / 2, np.log(_WEIGHTS / 2)
_TOL = 1e-12
_ROUNDING = 4e-15  # of a large log density
_DEEP = 1e5
_ENDS = 300.0  # how far below its top the density is where the cells end
_ROUNDS = 200
_FALLS = np.arange(0.0, 50.0, 5.0)

LogDensity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Cells:
    """left, right, log_mass (m,) in order, of exp(log_f); ends: those of the support."""

    log_f: LogDensity
    left: np.ndarray
    right: np.ndarray
    log_mass: np.ndarray
    ends: tuple[float, float]

    @cached_property
    def log_total(self) -> float:
        return float(logsumexp(self.log_mass))

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Normalised log density."""
        return self.log_f(x) - self.log_total

    def log_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln P(X <= x) and ln P(X > x)."""
        before, after = self._sums
        index = np.clip(np.searchsorted(self.left, x, side="right") - 1, 0, len(self.left) - 1)
        inner = np.clip(x, self.left[index], self.right[index])
        below = np.logaddexp(before[index], _log_integral(self.log_f, self.left[index], inner))
        above = np.logaddexp(after[index], _log_integral(self.log_f, inner, self.right[index]))
        beyond = (below, x <= self.left[0], -1.0), (above, x >= self.right[-1], 1.0)
        for (out, side, sign), end in zip(beyond, self.ends, strict=True):
            if side.any() and not np.isfinite(end):
                out[side] = _outward(self.log_f, x[side], sign, self.right[-1] - self.left[0])
        total = self.log_total
        return np.minimum(below - total, 0.0), np.minimum(above - total, 0.0)

    @cached_property
    def _sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Log mass before and after each cell."""
        before = np.logaddexp.accumulate(np.concatenate([[-np.inf], self.log_mass[:-1]]))
        after = np.logaddexp.accumulate(np.concatenate([[-np.inf], self.log_mass[:0:-1]]))
        return before, after[::-1]

    def map(self, u: np.ndarray) -> np.ndarray:
        """Quantiles at standard normal scores u."""
        before, after = self._sums
        total = self.log_total
        at = scores(before[1:] - total, after[:-1] - total)  # between neighbouring cells
        index = np.searchsorted(at, u)
        low, high = self.left[index], self.right[index]
        self._reach_out(u, low, high)
        first, last = self._excess(low, u), self._excess(high, u)
        out = np.where(first >= 0, low, high)
        open_ = np.flatnonzero((first < 0) & (last > 0))
        if len(open_):
            ends = low[open_], high[open_]
            out[open_] = elementwise.find_root(self._excess, ends, args=(u[open_],)).x
        return out

    def _excess(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        below, above = self.log_tails(x)
        gap = np.where(u < 0, below - special.log_ndtr(u), special.log_ndtr(-u) - above)
        return np.clip(gap, -1e6, 1e6)

    def _reach_out(self, u: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Move brackets beyond the cells outwards, in place, until they hold u."""
        span = self.right[-1] - self.left[0]
        sides = (low, self.left[0], -1.0), (high, self.right[-1], 1.0)
        for (bracket, last, sign), end in zip(sides, self.ends, strict=True):
            step = span
            lanes = np.flatnonzero(bracket == last) if not np.isfinite(end) else np.empty(0, int)
            while len(lanes):
                lanes = lanes[sign * self._excess(bracket[lanes], u[lanes]) < 0]
                bracket[lanes] += sign * step
                step *= 2


def cells(log_f: LogDensity, intervals: np.ndarray, marks: np.ndarray) -> Cells:
    """Cells of exp(log_f) on disjoint intervals (n, 2), infinite at most at both ends.

    marks: points between which log_f is smooth and no feature is lost.
    """
    low, high = _ends(log_f, intervals, marks)
    inner = np.clip(intervals, low, high)
    left, right = _initial(inner, marks)
    done: list[np.ndarray] = []
    top = -np.inf
    for _ in range(_ROUNDS):
        middle = (left + right) / 2
        one, other = _log_integral(log_f, left, middle), _log_integral(log_f, middle, right)
        whole = _log_integral(log_f, left, right)
        halves = np.logaddexp(one, other)
        height = halves - np.log(right - left)
        top = max(top, float(np.max(height)))
        with np.errstate(invalid="ignore"):
            good = np.abs(whole - halves) <= _TOL + _ROUNDING * np.abs(halves)
        good |= (height < top - _DEEP) | (middle <= left) | (middle >= right)
        done.append(np.stack([left[good], right[good], halves[good]]))
        left, right, middle = left[~good], right[~good], middle[~good]
        if not len(left):
            break
        left, right = np.append(left, middle), np.append(middle, right)
    else:
        raise RuntimeError(f"{len(left)} cells have not settled after {_ROUNDS} bisections")
    left, right, log_mass = np.concatenate(done, axis=1)
    order = np.argsort(left)
    ends = float(intervals[0, 0]), float(intervals[-1, 1])
    return Cells(log_f, left[order], right[order], log_mass[order], ends)


def _initial(intervals: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = [], []
    for low, high in intervals.tolist():
        inside = np.unique(np.concatenate([[low, high], marks[(marks > low) & (marks < high)]]))
        left.append(inside[:-1])
        right.append(inside[1:])
    return np.concatenate(left), np.concatenate(right)


def _ends(log_f: LogDensity, intervals: np.ndarray, marks: np.ndarray) -> tuple[float, float]:
    """Where cells begin and end: at the support, or where the density is low and falling."""
    low, high = float(intervals[0, 0]), float(intervals[-1, 1])
    inside = marks[(marks >= low) & (marks <= high)]
    span = float(np.ptp(inside))
    grid = np.linspace(inside[0], inside[-1], 1001)
    top = float(np.max(log_f(grid)))

    def expand(at: float, sign: float) -> float:
        nonlocal top
        step = span / 8
        while True:
            here, there = log_f(np.array([at, at + sign * step])).tolist()
            top = max(top, here)
            if here < top - _ENDS and there < here:
                return at
            at, step = at + sign * step, step * 1.5

    return (
        low if np.isfinite(low) else expand(float(inside[0]), -1.0),
        high if np.isfinite(high) else expand(float(inside[-1]), 1.0),
    )


def _log_integral(log_f: LogDensity, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """ln of the integral of exp(log_f) over each [low, high], (n,)."""
    width = (high - low)[:, None]
    values = log_f((low[:, None] + width * _NODES).ravel()).reshape(-1, len(_NODES))
    with np.errstate(divide="ignore"):
        return logsumexp(values + _LOG_WEIGHTS) + np.log(high - low)


def _outward(log_f: LogDensity, x: np.ndarray, sign: float, span: float) -> np.ndarray:
    """ln of the integral from x outwards, where exp(log_f) falls."""
    here = log_f(x)
    step = np.full(len(x), span / 100)
    for _ in range(30):
        fall = here - log_f(x + sign * step)
        step = step / np.clip(fall, 1e-2, 1e2)
    parts = []
    for k in _FALLS:
        a, b = x + sign * k * step, x + sign * (k + 5) * step
        parts.append(_log_integral(log_f, np.minimum(a, b), np.maximum(a, b)))
    return logsumexp(np.stack(parts, axis=1))
