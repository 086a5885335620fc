"""Off-support probability on the line from threshold values of u, without sampling.

With c = x/sigma and r = 1/sigma a perturbed flow dc/dr = D~_w(c/r, 1/r) from sigma_max to
sigma_min cannot let two trajectories cross, so that u -> x increases and

    P(off) = sum over the intervals of x that count as off of Phi(u_high) - Phi(u_low).

The ends of those intervals are found in x: of the support itself, or, with the final denoise, of
the set that D~_w(., sigma_min) sends off the support, which needs no monotone denoiser. Each end
is then carried back to its u:

* bias, field, stop: the field is smooth; one integration back of all ends of all cells;
* zeroed: where v.x > b + k sigma the flow stands still in x, and b + k sigma falls, so a path is
  lost if and only if M(u) = max over sigma of (v.x - b)/sigma along the EXACT path reaches k.
  Integrating back is no use (D jumps at that line); M(u) is, for every k at once, monotone;
* precision: D is a step function and so no flow is unique; the map is that of a stated solver,
  walked forward on a grid of u and refined at every change between on and off.

Each result says whether its map was found to increase; where it was not, P(off) is still the sum
over the intervals that were found, those of u wider than 1/16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special as sp
from scipy.interpolate import CubicSpline

from assay.core import noise, solver
from assay.guidance import stack1d
from assay.guidance.error_kinds import ScoreErrors
from assay.guidance.paths import WINDOW, guided, integrate, march

STEPS = 64  # of Heun's method under finite precision
STARTS = ("plain", "unbiased")  # sigma_max u, or with the guided mean (core.guidance)
_HALVINGS = 52
_ROUGH = 1e-5  # tolerance where only the tails beyond 1e-18 are told apart
_FAR = 9.0
_U = np.linspace(-8.5, 8.5, 137)  # values of c at sigma_max where M is looked at
_STEP_U = np.linspace(-6.0, 6.0, 193)  # narrower intervals than their spacing are not seen

Denoiser = Callable[[np.ndarray, Any], np.ndarray]


class Off(NamedTuple):
    """Of every cell (m,): probability, whether the map increases, ends of the middle interval.

    low, high: the interval of u around its median that stays on the support; infinite where it
    has no end, NaN where the median itself is off.
    """

    probability: np.ndarray
    increasing: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells (m,) of a map: one kind of error, w and amount of each; sigma_end: where it stops."""

    errors: ScoreErrors
    kind: str
    w: np.ndarray
    amount: np.ndarray

    @property
    def sigma_end(self) -> np.ndarray:
        low = np.full(len(self.w), WINDOW[0])
        return np.maximum(self.amount, low) if self.kind == "stop" else low

    def denoiser(self, at: np.ndarray) -> Denoiser:
        """Guided denoiser whose rows belong to the cells ``at`` (n,)."""
        column = at[:, None]
        return guided(self.errors.denoisers(self.kind, self.amount[column]), self.w[column])


class Ends(NamedTuple):
    """Places (n,) where on and off change, their cells (n,), and the state of every cell (m,)
    below its first one. Sorted by cell, then place."""

    place: np.ndarray
    cell: np.ndarray
    first: np.ndarray


def off_support(cells: Cells) -> dict[tuple[str, bool], Off]:
    """P(off) by (start, final denoise or not): start one of STARTS; x on the line.

    Off means :meth:`Target.off_support` (support of the class, or its HDR99.9) at sigma_min.
    """
    if cells.kind == "precision":
        return _walked(cells)
    clean = Cells(cells.errors, "stop", cells.w, np.full(len(cells.w), WINDOW[0]))
    lost, rises = (None, None) if cells.kind != "zeroed" else _lost_beyond(cells)
    smooth = cells if lost is None else clean
    ends = [edges(smooth, denoise) for denoise in (False, True)]
    found = {}
    for denoise, c in enumerate(carry_back(smooth, ends)):
        sets = _sets(ends[denoise], c, len(cells.w))
        if lost is not None:
            side = cells.errors.direction[0]
            sets = [_union(one, at, side) for one, at in zip(sets, lost, strict=True)]
        for start in STARTS:
            off = _measure([_at_start(smooth, start, i, one) for i, one in enumerate(sets)])
            if rises is not None:
                off = off._replace(increasing=off.increasing & rises)
            found[start, bool(denoise)] = off
    return found


def edges(cells: Cells, denoise: bool) -> Ends:
    """Where x at sigma_end changes between on and off the support, after D~_w if ``denoise``."""
    target = cells.errors.target
    sigma = cells.sigma_end

    def is_off(x: np.ndarray, cell: np.ndarray) -> np.ndarray:
        rows = x[:, None]
        return target.off_support(cells.denoiser(cell)(rows, sigma[cell]) if denoise else rows)

    grid = _grid(cells)
    m, n = grid.shape
    off = is_off(grid.ravel(), np.repeat(np.arange(m), n)).reshape(m, n)
    cell, left = np.nonzero(off[:, 1:] != off[:, :-1])
    low, high, below = grid[cell, left], grid[cell, left + 1], off[cell, left]
    for _ in range(_HALVINGS if len(cell) else 0):
        middle = (low + high) / 2
        same = is_off(middle, cell) == below
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return Ends((low + high) / 2, cell, off[:, 0])


def _grid(cells: Cells) -> np.ndarray:
    """x (m, n) over the reach of the flow, dense within some sigma_end of every edge."""
    target, sigma = cells.errors.target, cells.sigma_end[:, None]
    parts = [stack1d.stack(target.cond), stack1d.stack(target.uncond)]
    spans = [s.centres + side * s.widths for s in parts for side in (-9, 9)]
    low, high = np.concatenate(spans).min(), np.concatenate(spans).max()
    reach = high - low + 12 * sigma
    broad = low - reach + np.linspace(0, 1, 801) * (high - low + 2 * reach)
    places = np.unique(np.concatenate([*(s.edges for s in parts), [cells.errors.edge]]))
    close = places[:, None] + np.linspace(-12, 12, 97) * sigma[:, :, None]
    return np.sort(np.concatenate([broad, close.reshape(len(sigma), -1)], axis=1), axis=1)


def carry_back(cells: Cells, ends: list[Ends]) -> list[np.ndarray]:
    """c at sigma_max (n,) of the trajectories that end at the places of each set of ends.

    Beyond those of |c| = 9 at sigma_max lies no probability: infinite, without a calculation.
    """
    m = len(cells.w)
    outer = np.repeat([-_FAR, _FAR], m)
    low, high = np.split(carry(cells, outer, np.tile(np.arange(m), 2), True, _ROUGH), 2)
    place = np.concatenate([e.place for e in ends])
    cell = np.concatenate([e.cell for e in ends])
    c = np.where(place <= low[cell], -np.inf, np.inf)
    within = (place > low[cell]) & (place < high[cell])
    if within.any():
        c[within] = carry(cells, place[within], cell[within], False)
    return np.split(c, np.cumsum([len(e.place) for e in ends])[:-1])


def carry(
    cells: Cells, start: np.ndarray, cell: np.ndarray, forth: bool, rtol: float = 1e-8
) -> np.ndarray:
    """x at sigma_end from c at sigma_max, or, back, c at sigma_max from x at sigma_end.

    start (n,), rows of the cells ``cell`` (n,); every cell on its own way in ln r.
    """
    last = np.log(1 / cells.sigma_end[cell])
    span = last - np.log(1 / WINDOW[1])
    denoiser = cells.denoiser(cell)

    def velocity(c: np.ndarray, share: float) -> np.ndarray:
        r = np.exp(last - (1 - share) * span)
        return span * r * denoiser((c / r)[:, None], 1 / r)[:, 0]

    if forth:
        return march(velocity, start, np.array([0.0, 1.0]), rtol)[-1] / np.exp(last)
    return march(velocity, start * np.exp(last), np.array([1.0, 0.0]), rtol)[-1]


class _Set(NamedTuple):
    """A set of reals: bounds (k,), and whether each of the k + 1 intervals is in it."""

    bounds: np.ndarray
    inside: np.ndarray


def _sets(ends: Ends, c: np.ndarray, m: int) -> list[_Set]:
    """The values of c that end off the support, cell by cell."""
    sets = []
    for i in range(m):
        bounds = c[ends.cell == i]
        sets.append(_Set(bounds, (np.arange(len(bounds) + 1) % 2 == 1) ^ ends.first[i]))
    return sets


def _union(one: _Set, c: float, side: float) -> _Set:
    """With all values beyond c: above it for side > 0, below it else."""
    place = int(np.searchsorted(one.bounds, c))
    bounds = np.insert(one.bounds, place, c)
    inside = np.insert(one.inside, place, one.inside[place])
    if side > 0:
        inside[place + 1 :] = True
    else:
        inside[: place + 1] = True
    return _Set(bounds, inside)


def _at_start(cells: Cells, start: str, cell: int, one: _Set) -> _Set:
    """A set of c at sigma_max as one of the noise u that it starts from."""
    if start == "plain" or not len(one.bounds):
        return one
    top = WINDOW[1]
    denoiser = cells.denoiser(np.full(len(one.bounds), cell))
    finite = np.isfinite(one.bounds)
    c = np.where(finite, one.bounds, 0.0)
    u = c.copy()
    for _ in range(12):  # c = u + D~_w(sigma_max u / 2, sigma_max) / sigma_max
        u = c - denoiser(top * u[:, None] / 2, top)[:, 0] / top
    return one._replace(bounds=np.where(finite, u, one.bounds))


def _measure(sets: list[_Set]) -> Off:
    """Normal probability of each set of u, and the gap around u = 0 that it leaves."""
    rows = []
    for bounds, inside in sets:
        u = np.concatenate([[-np.inf], np.maximum.accumulate(bounds), [np.inf]])
        low, high = u[:-1], u[1:]
        # The side of the smaller tail keeps its digits.
        mass = np.where(low > 0, sp.ndtr(-low) - sp.ndtr(-high), sp.ndtr(high) - sp.ndtr(low))
        at = int(np.searchsorted(u[1:-1], 0.0))
        gap = (np.nan, np.nan)
        if not inside[at]:
            below, above = np.flatnonzero(inside[:at]), np.flatnonzero(inside[at:])
            gap = (
                high[below[-1]] if len(below) else -np.inf,
                low[at + above[0]] if len(above) else np.inf,
            )
        rows.append((mass[inside].sum(), bool(np.all(bounds[1:] >= bounds[:-1])), *gap))
    return Off(*(np.array(column) for column in zip(*rows, strict=True)))


def _lost_beyond(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """c at sigma_max (m,) beyond which a path meets v.x = b + k sigma, and whether the map u -> M
    and the exact flow increase there, (m,)."""
    errors, v = cells.errors, float(cells.errors.direction[0])
    w, which = np.unique(cells.w, return_inverse=True)
    sigmas = np.geomspace(WINDOW[1], WINDOW[0], 241)
    c = np.repeat(_U[None], len(w), axis=0)
    denoiser = guided(errors.pair, np.repeat(w, len(_U))[:, None])

    def velocity(c: np.ndarray, r: float) -> np.ndarray:
        return denoiser((c / r).reshape(-1, 1), 1 / r).reshape(c.shape)

    path = integrate(velocity, c, 1 / sigmas, 1e-8)
    # Paths are smooth in u, where their maximum is not: interpolate before the maximum.
    u = v * np.linspace(_U[0], _U[-1], 20 * len(_U) - 19)
    m = np.array(
        [
            _crests(v * CubicSpline(_U, path[:, i], axis=1)(u) - errors.edge / sigmas[:, None])
            for i in range(len(w))
        ]
    )
    rises = np.all(np.diff(m, axis=1) > 0, axis=1) & np.all(np.diff(path[-1], axis=1) > 0, axis=1)
    # u runs in direction v, so that what lies beyond comes last.
    beyond = [
        np.interp(k, np.maximum.accumulate(m[i]), u, left=-v * np.inf, right=v * np.inf)
        for i, k in zip(which, cells.amount, strict=True)
    ]
    return np.array(beyond), rises[which]


def _crests(values: np.ndarray) -> np.ndarray:
    """Largest value along the first axis, by a parabola through the three top points."""
    top = np.argmax(values, axis=0)
    inner = np.clip(top, 1, len(values) - 2)[None]
    before, middle, after = (np.take_along_axis(values, inner + k, axis=0)[0] for k in (-1, 0, 1))
    bend = 2 * middle - before - after
    smooth = (inner[0] == top) & (bend > 0)
    crest = middle + (after - before) ** 2 / (8 * np.where(smooth, bend, 1.0))
    return np.where(smooth, crest, values.max(axis=0))


def _walked(cells: Cells) -> dict[tuple[str, bool], Off]:
    """Finite precision: the map of Heun's method, on a grid of u refined where it changes."""
    m = len(cells.w)
    cell = np.repeat(np.arange(m), len(_STEP_U))
    found = {}
    for start in STARTS:
        x, off = _walk(cells, start, np.tile(_STEP_U, m), cell)
        increasing = np.all(np.diff(x.reshape(m, -1), axis=1) >= 0, axis=1)
        for denoise in (False, True):
            state = off[int(denoise)].reshape(m, -1)
            at, left = np.nonzero(state[:, 1:] != state[:, :-1])
            low, high, below = _STEP_U[left], _STEP_U[left + 1], state[at, left]
            for _ in range(2):
                low, high = _narrow(cells, start, denoise, at, low, high, below)
            bounds = [(low + high)[at == i] / 2 for i in range(m)]
            sets = [
                _Set(b, (np.arange(len(b) + 1) % 2 == 1) ^ state[i, 0])
                for i, b in enumerate(bounds)
            ]
            found[start, denoise] = _measure(sets)._replace(increasing=increasing)
    return found


def _narrow(
    cells: Cells,
    start: str,
    denoise: bool,
    cell: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    below: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The first sixteenth of every interval in which the state is no longer the one below."""
    if not len(cell):
        return low, high
    share = np.linspace(0, 1, 17)
    u = low[:, None] + (high - low)[:, None] * share
    _, off = _walk(cells, start, u[:, 1:-1].ravel(), np.repeat(cell, 15))
    changed = off[int(denoise)].reshape(len(cell), 15) != below[:, None]
    first = np.where(changed.any(axis=1), np.argmax(changed, axis=1), 15)
    rows = np.arange(len(cell))
    return u[rows, first], u[rows, first + 1]


def _walk(
    cells: Cells, start: str, u: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """x (n,) at sigma_min by Heun's method, and whether it is off without and with denoising."""
    low, top = WINDOW
    denoiser = cells.denoiser(cell)
    x = top * u[:, None]
    if start == "unbiased":
        x = x + denoiser(x / 2, top)
    x = solver.last(solver.solve(denoiser, x, noise.karras(STEPS, low, top, zero=False))).x
    off = cells.errors.target.off_support
    return x[:, 0], (off(x), off(denoiser(x, low)))
