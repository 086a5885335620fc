"""The guided flow where components have edges or atoms; coordinates of :mod:`guidance.flow1d`.

Lanes carry arsinh(E), E = c - e r, over tau = arsinh(s r). When r is so large that noise no
longer reaches an edge, dE/d ln r = r (D_w - e) equals E and x = e + E/r stands still; at an atom
it is 0 and x = e. Backwards the flow contracts, so a start at finite r costs no accuracy: beside
an edge at a distance of ten standard deviations of noise, in a hole of the support on the line
between the two basins, where D_w is the hole's middle. Guidance can push so hard out of a hole
that x beside it is reached from within e^-400 of that line only: there u is the line's and the
density 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from assay.guidance import lanes
from assay.guidance.flow1d import End, chunks, state
from assay.guidance.guided1d import Guided1D

_START = 1e-10  # r at which the flow starts, in units of 1/s; the rest is linear
_FAR = 1e150  # r beyond which nothing but the nearest edge is seen, so that r itself is not
_END = 1e9  # tau at which everything has settled
_STEEP = 340.0  # largest arsinh(E) evaluated: E^2 is still a number
_CLEAR = 8.5  # standard deviations of noise from an edge at which it is no longer felt
_HOLE = 16.0  # width of a hole, in standard deviations of noise, at the start of its border
_MARGIN, _WIDE = 12.0, 60.0  # a hole in which a lane is held: from its ends, its width
_ULP = 2.0**-54


class Edged:
    """Any mixture with at least one edge or atom."""

    def __init__(self, pair: Guided1D, tol: float) -> None:
        self.pair, self.tol, self.nfe = pair, tol, 0
        joint = pair.joint
        self.nodes, self.atoms = joint.edges, joint.atoms
        self.middles = (self.nodes[1:] + self.nodes[:-1]) / 2
        intervals = pair.one.intervals
        self.gaps = np.stack([intervals[:-1, 1], intervals[1:, 0]], axis=1)
        spread = float(np.ptp([joint.centres + joint.widths, joint.centres - joint.widths]))
        self.unit = spread / 2 if spread > 0 else 1.0
        self.fine = float(np.min(joint.bends, initial=np.inf))
        # Rounding in D_w grows with w: nothing settles below it.
        self.settled = max(self.tol / 10, 1e-15 * (1 + abs(pair.w)))

    def drift(
        self, r: np.ndarray, away: np.ndarray, origin: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """D_w - e and the slope of D_w in c, (n,)."""
        terms = self.pair.joint.terms(r[:, None], away[:, None], origin[:, None])
        return self.pair.mix(terms)

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """The edge or atom nearest to each x."""
        return self.nodes[np.searchsorted(self.middles, x)]

    def forward(self, u: np.ndarray, slope: bool, fine: bool = False) -> End:
        out = np.empty((4, len(u)))
        for rows in chunks(len(u), self.pair):
            out[:, rows] = self._forward(u[rows], slope, fine)
        return End(*out)

    def _forward(self, u: np.ndarray, slope: bool, fine: bool) -> tuple[np.ndarray, ...]:
        r = np.full(len(u), _START / self.unit)
        run = _Run(self, self.nearest(u / r), fine or slope)
        first = u - run.origin * r  # adding r D_w(c = u), and c = u to that order
        away = first + r * (self.drift(r, first, run.origin)[0] + run.origin)
        problem = lanes.Problem(run.rhs, self.tol, np.zeros(1 + slope), run.after)
        t, y = lanes.integrate(
            problem,
            np.arcsinh(self.unit * r),
            state(np.arcsinh(away), slope),
            np.full(len(u), _END),
        )
        self.nfe += problem.nfe + len(u)
        away = np.where(run.caught, 0.0, np.sinh(y[:, 0]))
        log_r = _log_sinh(t) - np.log(self.unit)
        log_slope = y[:, -1] + np.log(self.unit) - np.log(np.tanh(t))
        return run.origin, away, log_r, log_slope if slope else np.full(len(u), np.nan)

    def backward(self, x: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
        out = np.empty((2, len(x)))
        for rows in chunks(len(x), self.pair):
            out[:, rows] = self._backward(x[rows], slope)
        return out[0], out[1]

    def _backward(self, x: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
        origin, away, r = self._arrival(x)
        run = _Run(self, origin, True, backward=True)
        start = np.arcsinh(self.unit * r)
        low = np.full(len(x), _START / self.unit)
        problem = lanes.Problem(run.rhs, self.tol, np.zeros(1 + slope), run.after)
        _, y = lanes.integrate(
            problem, start, state(np.arcsinh(away), slope), np.arcsinh(self.unit * low)
        )
        first = np.sinh(y[:, 0])
        u = first - low * self.drift(low, first, run.origin)[0]
        self.nfe += problem.nfe + len(x)
        held = run.border >= 0
        for i in np.unique(run.border[held]):
            u[run.border == i] = self.backward(self.gaps[i, :1], False)[0]
        if not slope:
            return u, np.full(len(x), np.nan)
        log_slope = np.log(self.unit) - np.log(np.tanh(start)) - y[:, 1]
        return u, np.where(held, np.inf, log_slope)

    def _arrival(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """e, E and r from which lanes are followed back from x."""
        origin = self.nearest(x)
        away = x - origin
        # On an edge inside the support E is bounded and forgotten; an atom holds |E| < 10.
        still = np.where(np.isin(x, self.atoms), 10.0, 0.0)
        least = 1e17 / max(self.unit, float(np.abs(self.nodes).max()))
        gap = np.maximum(np.abs(away), 10 / _FAR)
        r = np.where(away == 0, least, np.maximum(10 / gap, 10 / self.fine))
        self._settle(r, away, origin)
        away = np.where(away == 0, still, away * r)
        hole, index = self.hole(x)
        for i in np.unique(index[hole]):
            chosen = hole & (index == i)
            origin[chosen], away[chosen], r[chosen] = self._border(*self.gaps[i])
        return origin, away, r

    def hole(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether x lies in a hole of the support, its ends included unless P(x) > 0; which."""
        if not len(self.gaps):
            return np.zeros(len(x), bool), np.zeros(len(x), int)
        index = np.maximum(np.searchsorted(self.gaps[:, 0], x, side="right") - 1, 0)
        low, high = self.gaps[index].T
        return (x >= low) & (x <= high) & ~((x == high) & np.isin(x, self.atoms)), index

    def _settle(self, r: np.ndarray, gap: np.ndarray, origin: np.ndarray) -> None:
        """Raise r, in place, until x = origin + gap stands still."""
        moving = np.flatnonzero(gap != 0)
        while len(moving):
            level, away = r[moving], gap[moving] * r[moving]
            pull = level * self.drift(level, away, origin[moving])[0]
            self.nfe += len(moving)
            again = np.abs(pull - away) > self.settled * np.abs(away)
            moving = moving[again & (np.abs(away) < 1e17) & (level < _FAR / 8)]
            r[moving] *= 8

    def _border(self, low: float, high: float) -> tuple[float, float, float]:
        """Between the basins of both sides of a hole: D_w is its middle. (e, E, r)"""
        width, widths, middle = high - low, _HOLE, 0.0
        for _ in range(12):
            r = widths / width
            a, b = -widths, 2 * widths
            for _ in range(60):
                middle = (a + b) / 2
                shift, _ = self.drift(*(np.array([v]) for v in (r, middle, low)))
                a, b = (middle, b) if shift[0] < width / 2 else (a, middle)
            self.nfe += 60
            if 0.1 < middle / widths < 0.9:
                break
            widths = 2 * widths
        return low, middle, widths / width


def _log_sinh(t: np.ndarray) -> np.ndarray:
    return t + np.log(-np.expm1(-2 * t) / 2)


@dataclass(eq=False)
class _Run:
    """One integration: each lane's origin, which lanes an atom caught going forward, and which
    hole's border going backward."""

    flow: Edged
    origin: np.ndarray
    fine: bool
    backward: bool = False
    caught: np.ndarray = field(init=False)
    border: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.caught = np.zeros(len(self.origin), bool)
        self.border = np.full(len(self.origin), -1)

    def rhs(self, t: np.ndarray, y: np.ndarray, index: np.ndarray) -> np.ndarray:
        r, speed = self._level(t)
        bent = np.clip(y[:, 0], -_STEEP, _STEEP)  # a step that is too long must not overflow
        shift, slope = self.flow.drift(r, np.sinh(bent), self.origin[index])
        first = speed * shift / np.cosh(bent)
        return np.stack([first, speed * slope - np.tanh(t)][: y.shape[1]], axis=1)

    def _level(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """r, and dr/dtau; in units of noise the layer of one edge is the same at every large r."""
        t = np.minimum(t, np.arcsinh(_FAR))
        return np.sinh(t) / self.flow.unit, np.cosh(t) / self.flow.unit

    def after(
        self, t: np.ndarray, y: np.ndarray, f: np.ndarray, index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        r, away, origin = self._level(t)[0], np.sinh(y[:, 0]), self.origin[index]
        held = self._held(r, origin, away, index) if self.backward else None
        done = self._done(t, y, f, index) if held is None else held
        nearest = self.flow.nearest(origin + away / r)
        moved = away + (origin - nearest) * r
        changed = (np.abs(moved) < np.abs(away) / 2) & ~done
        y[changed, 0] = np.arcsinh(moved[changed])
        self.origin[index[changed]] = nearest[changed]
        return done, changed

    def _held(
        self, r: np.ndarray, origin: np.ndarray, away: np.ndarray, index: np.ndarray
    ) -> np.ndarray:
        """Lanes on the border between the two sides of a wide hole, which they never leave."""
        hole, number = self.flow.hole(origin + away / r)
        if not hole.any():
            return hole
        low, high = self.flow.gaps[number].T
        from_low, from_high = away + (origin - low) * r, (high - origin) * r - away
        held = hole & (np.minimum(from_low, from_high) > _MARGIN) & (r * (high - low) > _WIDE)
        self.border[index[held]] = number[held]
        return held

    def _done(self, t: np.ndarray, y: np.ndarray, f: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Lanes whose x stands still, or settled in float64 where that is enough."""
        flow, origin = self.flow, self.origin[index]
        r, away = self._level(t)[0], np.sinh(y[:, 0])
        pull = f[:, 0] * np.cosh(y[:, 0]) * np.tanh(t)  # dE/d ln r
        free = (np.abs(away) > _CLEAR) & (np.abs(pull - away) <= flow.settled * np.abs(away))
        free &= r * flow.fine >= 10
        caught = (np.abs(pull) <= 1e-13) & np.isin(origin, flow.atoms) & (t > 1)
        self.caught[index] = caught
        if self.fine:
            return free | caught
        return free | caught | (np.abs(away) <= _ULP * np.abs(origin) * r)
