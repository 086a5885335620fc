"""Many small initial value problems at once, each lane with its own time and its own step.

Dormand and Prince's method of order 8 with embedded orders 5 and 3 (Hairer, Norsett, Wanner,
"Solving Ordinary Differential Equations I", section II.10; coefficients from scipy). A lane's
result depends on the lanes beside it by rounding alone, and each evaluation counted is one lane's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import DOP853

_A, _B, _C = DOP853.A[:12, :12], DOP853.B, DOP853.C[:12]
_E3, _E5 = DOP853.E3, DOP853.E5
_STAGES = 12
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
_MAX_STEPS = 100_000

Rhs = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
After = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Any]


@dataclass
class Lanes:
    """Lanes still under way: own number, time, state, slope, step (signed), end."""

    index: np.ndarray
    t: np.ndarray
    y: np.ndarray
    f: np.ndarray
    h: np.ndarray
    end: np.ndarray

    def keep(self, mask: np.ndarray) -> Lanes:
        return Lanes(*(a[mask] for a in (self.index, self.t, self.y, self.f, self.h, self.end)))


@dataclass
class Problem:
    """y' = rhs(t, y, lanes) for t (n,), y (n, d) and the lanes' numbers (n,).

    tol: allowed error of a step, times 1 + relative |y| (relative: (d,) of 0 or 1).
    after(t, y, f, lanes) -> (done, changed), called on accepted lanes: done lanes stop, changed
    lanes had their y rewritten in place and need a new slope.
    """

    rhs: Rhs
    tol: float
    relative: np.ndarray
    after: After | None = None
    nfe: int = 0

    def slope(self, t: np.ndarray, y: np.ndarray, index: np.ndarray) -> np.ndarray:
        self.nfe += len(t)
        return self.rhs(t, y, index)

    def scale(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return self.tol * (1 + self.relative * np.maximum(np.abs(y), np.abs(z)))


def integrate(
    problem: Problem, t: np.ndarray, y: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and states (n, d) at ``end`` (n,), or where ``after`` stopped the lane."""
    out_t, out_y = t.astype(float), y.astype(float)
    index = np.arange(len(t))
    f = problem.slope(out_t, out_y, index)
    lanes = Lanes(index, out_t.copy(), out_y.copy(), f, _first_step(problem, t, y, f, end), end)
    for _ in range(_MAX_STEPS):
        if not len(lanes.index):
            return out_t, out_y
        done = _step(problem, lanes)
        if done.any():
            out_t[lanes.index[done]], out_y[lanes.index[done]] = lanes.t[done], lanes.y[done]
            lanes = lanes.keep(~done)
    raise RuntimeError(f"no end after {_MAX_STEPS} steps; {len(lanes.index)} lanes are left")


def _step(problem: Problem, lanes: Lanes) -> np.ndarray:
    """One attempted step of every lane, in place; which lanes are done."""
    left = lanes.end - lanes.t
    last = np.abs(lanes.h) >= np.abs(left)
    h = np.where(last, left, lanes.h)
    t = np.where(last, lanes.end, lanes.t + h)
    stages = np.empty((_STAGES + 1, *lanes.y.shape))
    stages[0] = lanes.f
    for s in range(1, _STAGES):
        moved = lanes.y + h[:, None] * np.tensordot(_A[s, :s], stages[:s], axes=1)
        stages[s] = problem.slope(lanes.t + _C[s] * h, moved, lanes.index)
    y = lanes.y + h[:, None] * np.tensordot(_B, stages[:_STAGES], axes=1)
    stages[_STAGES] = problem.slope(t, y, lanes.index)
    error = _error(stages, h, problem.scale(lanes.y, y))
    accepted = error < 1
    lanes.t[accepted], lanes.y[accepted] = t[accepted], y[accepted]
    lanes.f[accepted] = stages[_STAGES][accepted]
    with np.errstate(divide="ignore"):
        factor = np.where(error > 0, _SAFETY * error ** (-1 / 8), _GROW)
    lanes.h = h * np.clip(factor, _SHRINK, np.where(accepted, _GROW, 1.0))
    done = accepted & last
    if problem.after is not None and accepted.any():
        _notify(problem, lanes, accepted, done)
    return done


def _notify(problem: Problem, lanes: Lanes, accepted: np.ndarray, done: np.ndarray) -> None:
    """Let the problem end or rewrite the lanes that moved."""
    assert problem.after is not None
    moved = np.flatnonzero(accepted)
    y = lanes.y[moved]
    ended, changed = problem.after(lanes.t[moved], y, lanes.f[moved], lanes.index[moved])
    done[moved] |= ended
    again = moved[changed]
    if len(again):
        lanes.y[again] = y[changed]
        lanes.f[again] = problem.slope(lanes.t[again], lanes.y[again], lanes.index[again])


def _error(stages: np.ndarray, h: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Size of a step's error per lane, 1 at the tolerance; a step that left the numbers is 1e9."""
    with np.errstate(invalid="ignore", over="ignore"):
        fifth = np.sum((np.tensordot(_E5, stages, axes=1) / scale) ** 2, axis=-1)
        third = np.sum((np.tensordot(_E3, stages, axes=1) / scale) ** 2, axis=-1)
        total = np.sqrt((fifth + 0.01 * third) * scale.shape[-1])
        error = np.abs(h) * fifth / np.where(total > 0, total, 1.0)
    return np.where(np.isfinite(error), error, 1e9)


def _first_step(
    problem: Problem, t: np.ndarray, y: np.ndarray, f: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Starting step of Hairer, Norsett, Wanner I, section II.4."""
    scale = problem.scale(y, y)
    span = end - t

    def size(v: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean((v / scale) ** 2, axis=-1))

    # A state of 0 is of size 1 here, as the tolerance has it.
    d0, d1 = size(1 + problem.relative * np.abs(y)), size(f)
    h0 = np.minimum(0.01 * d0 / np.maximum(d1, 1e-5), np.abs(span))
    probe = problem.slope(
        t + np.sign(span) * h0, y + (np.sign(span) * h0)[:, None] * f, np.arange(len(t))
    )
    top = np.maximum(d1, size(probe - f) / np.where(h0 > 0, h0, 1.0))
    h1 = (0.01 / np.maximum(top, 1e-15)) ** 0.125
    return np.sign(span) * np.minimum(np.minimum(100 * h0, h1), np.abs(span))
