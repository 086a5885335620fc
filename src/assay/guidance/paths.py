"""Guided trajectories x(sigma): exact on the line, sampled by any solver in more dimensions.

With r = 1/sigma and c = x/sigma the guided flow is dc/dr = D_w(c/r, 1/r), c = u ~ N(0, I) at
r = 0, where D_w = D_cond + w (D_cond - D_uncond). Trajectories are kept in the Ornstein-Uhlenbeck
coordinate y = x / sqrt(1 + sigma^2); its time t = ln(1 + sigma^2)/2 runs back to 0, so that

    -dy/dt = sqrt(1 + sigma^2) (D_w - x / (1 + sigma^2)) / sigma^2.

Reference: Chidambaram, Gatmiry, Chen, Lee, Lu, "What does guidance do?", arXiv 2409.13074 (the
flow, in OU time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special as sp
from scipy.integrate import solve_ivp

from assay.core import mixture, noise, solver
from assay.guidance.targets import Target

WINDOW = (0.002, 80.0)
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
N_SHOWN = 8  # paths kept for pictures
_FIRST = 1e-6  # 1/sigma at which exact flows start; c is then known to 1e-12
_LINEAR = 0.02  # up to here the flow is integrated in r, beyond in ln r
NODES = np.linspace(-8.4, 8.4, 85)  # trapezoid in u: below 1e-10 for what is met here
NODE_WEIGHTS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()

Pair = Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray]]
Velocity = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True, eq=False)
class Paths:
    """Trajectories on one noise grid.

    sigmas (T,) decreasing; y (T, n, d) = x/sqrt(1+sigma^2); slope (T, n, d) = -dy/dt; weights
    (n,) of sum 1; u (n,) rising where the paths are exact ones, else None; shown: the numbers of
    a few paths for pictures.
    """

    sigmas: np.ndarray
    y: np.ndarray
    slope: np.ndarray
    weights: np.ndarray
    u: np.ndarray | None
    shown: np.ndarray

    @property
    def x(self) -> np.ndarray:
        """The trajectories themselves, (T, n, d)."""
        return self.y * np.sqrt(1 + self.sigmas**2)[:, None, None]


def grid(n: int = 241, window: tuple[float, float] = WINDOW) -> np.ndarray:
    """n noise levels from window[1] down to window[0], even in ln sigma."""
    low, high = window
    if not 0 < low < high < np.inf:
        raise ValueError(f"window {window!r} must be (low, high) with 0 < low < high")
    return np.geomspace(high, low, n)


def default_grid(target: Target, through: Sequence[float] = WINDOW) -> np.ndarray:
    """Noise levels over WINDOW, fine where trajectories cost little, with those of ``through``."""
    even = grid() if target.dim == 1 else noise.karras(64, *WINDOW, zero=False)
    more = [s for s in through if even[-1] < s < even[0] and not np.isclose(s, even).any()]
    return np.sort(np.append(even, more))[::-1]


def integrate(velocity: Velocity, c: np.ndarray, r: np.ndarray, rtol: float = 1e-9) -> np.ndarray:
    """c at every entry of r (k,), monotone either way, from c at r[0]: (k, *c.shape).

    velocity(c, r) = dc/dr. DOP853 to relative rtol, in r below 0.02 and in ln r above it.
    """
    r = np.asarray(r, dtype=np.float64)
    near = r < _LINEAR
    if near.all() or not near.any():
        return _leg(velocity, c, r, not near.any(), rtol)
    cut = int(np.argmax(near != near[0]))
    first = _leg(velocity, c, np.append(r[:cut], _LINEAR), not near[0], rtol)
    second = _leg(velocity, first[-1], np.insert(r[cut:], 0, _LINEAR), bool(near[0]), rtol)
    return np.concatenate([first[:-1], second[1:]])


def _leg(velocity: Velocity, c: np.ndarray, r: np.ndarray, log: bool, rtol: float) -> np.ndarray:
    def of_log_r(c: np.ndarray, s: float) -> np.ndarray:
        r = float(np.exp(s))
        return r * velocity(c, r)

    return march(of_log_r, c, np.log(r), rtol) if log else march(velocity, c, r, rtol)


def march(velocity: Velocity, c: np.ndarray, times: np.ndarray, rtol: float = 1e-9) -> np.ndarray:
    """c at every time (k,), monotone either way, from c at times[0]: (k, *c.shape).

    velocity(c, time) = dc/dtime. DOP853, one step for all entries, to rtol (1 + |c|).
    """
    keep = np.append(True, np.diff(times) != 0)
    if keep.sum() == 1:
        return np.repeat(c[None], len(times), axis=0)
    found = solve_ivp(
        lambda t, flat: velocity(flat.reshape(c.shape), float(t)).ravel(),
        (times[0], times[-1]),
        c.ravel(),
        method="DOP853",
        t_eval=times[keep],
        rtol=rtol,
        atol=rtol,
    )
    assert found.success, found.message
    return found.y.T.reshape(-1, *c.shape)[np.cumsum(keep) - 1]


def line(target: Target) -> Pair:
    """The two denoisers of a target on the line for x of any shape. ValueError in d > 1."""
    if target.dim != 1:
        raise ValueError(f"target {target.name!r} has d = {target.dim}; exact flows need d = 1")
    pair = mixture.Together([target.cond, target.uncond])

    def evaluate(x: np.ndarray, sigma: Any) -> tuple[np.ndarray, np.ndarray]:
        levels = np.broadcast_to(sigma, x.shape).ravel() if np.ndim(sigma) else sigma
        cond, uncond = pair(x.reshape(-1, 1), levels)
        return cond.reshape(x.shape), uncond.reshape(x.shape)

    return evaluate


def exact(
    target: Target, w: Any, u: np.ndarray, sigmas: np.ndarray, rtol: float = 1e-9
) -> np.ndarray:
    """x (T, n_w, n_u) of the exact guided flow in one dimension, at sigmas (T,) decreasing.

    Every u (n_u,) under every w, started at sigma = infinity. ValueError in d > 1.
    """
    pair, weight = line(target), np.asarray(w, dtype=np.float64)[:, None]

    def velocity(c: np.ndarray, r: float) -> np.ndarray:
        cond, uncond = pair(c / r, 1 / r)
        return cond + weight * (cond - uncond)

    start = np.broadcast_to(u, (len(weight), len(u)))
    start = start + _FIRST * velocity(start, _FIRST)
    r = np.append(_FIRST, 1 / np.asarray(sigmas))
    return integrate(velocity, start, r, rtol)[1:] * np.asarray(sigmas)[:, None, None]


def trace(
    target: Target,
    w: Sequence[float],
    sigmas: np.ndarray | None = None,
    n: int = 512,
    rng: np.random.Generator | None = None,
) -> list[Paths]:
    """Guided trajectories under each w; n and rng are for d > 1, the same noise for every w.

    d = 1: exact, at quadrature nodes of u and the quantiles LEVELS. d > 1: n sampled paths by
    Heun's method. ValueError for an empty or non-finite w.
    """
    if not len(w) or not np.all(np.isfinite(w)):
        raise ValueError(f"w {list(w)!r} must be one or more finite numbers")
    sigmas = default_grid(target) if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    if target.dim == 1:
        return _trace_exact(target, w, sigmas)
    u = (rng or np.random.default_rng(0)).standard_normal((n, target.dim))
    pair = mixture.Together([target.cond, target.uncond])
    return [follow(guided(pair, float(one)), u, sigmas) for one in w]


def guided(pair: Pair, w: Any) -> Callable[[np.ndarray, Any], np.ndarray]:
    """The denoiser D_w of both denoisers at once; w: number or (n, 1), one each row of x."""

    def denoise(x: np.ndarray, sigma: Any) -> np.ndarray:
        cond, uncond = pair(x, sigma)
        return cond + w * (cond - uncond)

    return denoise


def _trace_exact(target: Target, w: Sequence[float], sigmas: np.ndarray) -> list[Paths]:
    shown = sp.ndtri((np.arange(N_SHOWN) + 0.5) / N_SHOWN)
    u = np.unique(np.concatenate([NODES, sp.ndtri(LEVELS), shown]))
    weights = np.zeros(len(u))
    weights[np.searchsorted(u, NODES)] = NODE_WEIGHTS
    x = exact(target, w, u, sigmas)
    slope = slopes(target, np.asarray(w)[:, None], x, sigmas)
    y = x / np.sqrt(1 + sigmas**2)[:, None, None]
    places = np.searchsorted(u, shown)
    return [
        Paths(sigmas, y[:, i, :, None], slope[:, i, :, None], weights, u, places)
        for i in range(len(w))
    ]


def slopes(target: Target, w: np.ndarray, x: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """-dy/dt from the denoisers; x (T, n_w, n_u), w (n_w, 1)."""
    square = sigmas[:, None, None] ** 2
    cond, uncond = line(target)(x, sigmas[:, None, None])
    # x/(1+s) = x - x s/(1+s): the part that cancels with D_w comes first.
    drift = (cond - x) + w * (cond - uncond)
    return (drift / square * (1 + square) + x) / np.sqrt(1 + square)


def follow(
    denoiser: Any, u: np.ndarray, sigmas: np.ndarray, step: Any = None, rng: Any = None
) -> Paths:
    """Paths of any denoiser (guided by any law) from u ~ N(0, I), (n, d), along sigmas (T,).

    Starts as :func:`assay.core.guidance.unbiased_start` does; slopes are differences on the grid.
    step: one of :mod:`assay.core.solver`, Heun's by default.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    top = float(sigmas[0])
    x = top * u + denoiser(top * u / 2, top)
    states = solver.solve(denoiser, x, sigmas, step or solver.heun, rng)
    y = np.stack([state.x / np.sqrt(1 + state.sigma**2) for state in states])
    slope = np.gradient(y, -noise.ou_from_sigma(sigmas), axis=0)
    n = len(u)
    return Paths(sigmas, y, slope, np.full(n, 1 / n), None, np.arange(min(n, N_SHOWN)))
