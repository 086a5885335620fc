"""Guided trajectories measured: overshoot, return, monotonicity, quantile bands.

Everything is seen in the Ornstein-Uhlenbeck coordinate y = x / sqrt(1 + sigma^2), projected on the
class-mean direction v ~ E[x|z] - E[x], on the noise levels of :mod:`assay.guidance.paths`.

* overshoot of a compact class: max over sigma of E[v.y] less the far edge (the largest v.x in the
  class support); per path: max over sigma of v.y less the far edge. Starting noise counts, so that
  w = 0 has overshooting paths too: compare with it.
* return: a path is over where its overshoot is positive, and has returned where its final denoise
  lies inside (without it, noise still at sigma_min would count).
* monotone in a window [sigma_low, sigma_high] of noise: the slope -d(v.y)/dt in OU time is nowhere
  below -tolerance: for the mean, the pointwise median (on the line the path of u = 0), and as the
  share of paths.

On the line means are quadratures over u of the exact flow, and quantiles are paths, since the map
u -> x is increasing; in more dimensions both are those of a sample.

Reference: Chidambaram, Gatmiry, Chen, Lee, Lu, "What does guidance do?", arXiv 2409.13074
(overshoot and return; the largest w whose projected trajectories stay monotone).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special as sp
from scipy.interpolate import CubicHermiteSpline, CubicSpline, KroghInterpolator

from assay.core import mixture, noise
from assay.guidance import paths as routes
from assay.guidance.paths import LEVELS, NODE_WEIGHTS, NODES, WINDOW, Paths
from assay.guidance.targets import Target

_EXACT_SLOPE, _SAMPLED_SLOPE = 1e-6, 1e-3  # tolerances, in units of x by OU time
_FINE = np.linspace(-8.4, 8.4, 841)  # values of u where margins are looked at


def direction(target: Target) -> np.ndarray:
    """Unit vector (d,) along E[x|z] - E[x]. ValueError where both means agree."""
    far = np.full((1, target.dim), 0.0)
    cond, uncond = mixture.Together([target.cond, target.uncond])(far, 1e8)
    shift = (cond - uncond)[0]
    norm = np.linalg.norm(shift)
    if not norm > 1e-9 * (1 + np.linalg.norm(cond)):
        raise ValueError(f"target {target.name!r}: class and marginal share their mean")
    v = shift / norm
    return np.where(np.abs(v) > 1e-9, v, 0.0)


def far_edge(target: Target) -> float | None:
    """Largest projection of the class support on :func:`direction`; None where unbounded."""
    v = direction(target)
    low, high = target.support
    held = v != 0
    reach = float(np.sum(np.where(v > 0, high, low)[held] * v[held]))
    return reach if np.isfinite(reach) else None


def overshoot(paths: Paths, v: np.ndarray, edge: float | None) -> dict[str, Any]:
    """Peak of the mean and of the paths over the far edge; see the module's definitions.

    v (d,): direction; edge None (unbounded class) gives None where the edge is needed. Keys: peak
    (of the mean), peak_sigma, final, returned (= peak - final), overshoot, overshoot_se (None
    where exact), overshoot_per_path (mean over paths), share_over, share_returned (of all paths).
    """
    y, slope = paths.y @ v, paths.slope @ v
    mean, rate = y @ paths.weights, slope @ paths.weights
    peak, at = _maximum(mean, rate, -noise.ou_from_sigma(paths.sigmas))
    row: dict[str, Any] = {
        "peak": peak,
        "peak_sigma": float(np.sqrt(np.expm1(-2 * at))),
        "final": float(mean[-1]),
        "returned": peak - float(mean[-1]),
    }
    if edge is None:
        return row | dict.fromkeys(_EDGE_KEYS)
    square = paths.sigmas[-1] ** 2
    denoised = (y[-1:] + square * slope[-1:]) / np.sqrt(1 + square)
    # In units of sigma^2 and on a scale where a spline does not ring.
    final = np.arcsinh((denoised - edge) / square)
    top = y.max(axis=0) - edge
    exact = paths.u is not None
    values = (
        peak - edge,
        None if exact else float(y[np.argmax(mean)].std(ddof=1) / np.sqrt(y.shape[1])),
        float(top @ paths.weights),
        share(paths, y - edge, np.max),
        share(paths, np.concatenate([y - edge, final]), _turned_back),
    )
    return row | dict(zip(_EDGE_KEYS, values, strict=True))


_EDGE_KEYS = (
    "overshoot",
    "overshoot_se",
    "overshoot_per_path",
    "share_over",
    "share_returned",
)


def _turned_back(over: np.ndarray, axis: int) -> np.ndarray:
    """Positive where a path was over the edge and is not at the end, which is the last row."""
    assert axis == 0
    return np.minimum(over[:-1].max(axis=0), -over[-1])


def monotone(paths: Paths, v: np.ndarray, window: tuple[float, float] = WINDOW) -> dict[str, Any]:
    """Whether projections only rise while sigma falls through the window.

    Keys: window_low, window_high, least_slope_mean, least_slope_median, monotone_mean,
    monotone_median (bool), monotone_share, slope_tolerance. ValueError for a window that holds
    fewer than two noise levels of the paths.
    """
    low, high = window
    inside = (paths.sigmas >= low * (1 - 1e-12)) & (paths.sigmas <= high * (1 + 1e-12))
    if inside.sum() < 2:
        raise ValueError(f"window {window!r} holds {inside.sum()} noise levels; widen it")
    slope = (paths.slope @ v)[inside]
    if paths.u is None:
        tolerance = _SAMPLED_SLOPE
        middle = np.median((paths.y @ v)[inside], axis=1)
        median = np.gradient(middle, -noise.ou_from_sigma(paths.sigmas[inside]))
    else:
        tolerance = _EXACT_SLOPE
        median = slope[:, int(np.argmin(np.abs(paths.u)))]
    least_mean, least_median = float((slope @ paths.weights).min()), float(median.min())
    return {
        "window_low": float(low),
        "window_high": float(high),
        "least_slope_mean": least_mean,
        "least_slope_median": least_median,
        "monotone_mean": least_mean >= -tolerance,
        "monotone_median": least_median >= -tolerance,
        "monotone_share": share(paths, slope + tolerance, np.min),
        "slope_tolerance": tolerance,
    }


def share(paths: Paths, values: np.ndarray, margin: Any) -> float:
    """P(margin > 0), where margin(values, axis=0) turns values (k, n) of the paths into (n,).

    Exact paths: from the roots in u after interpolation of the values, which are smooth in u
    where the margin may not be; sampled ones: by counting.
    """
    if paths.u is None:
        return float(paths.weights @ (margin(values, axis=0) > 0))
    fine = margin(CubicSpline(paths.u, values, axis=1)(_FINE), axis=0)
    turn = np.flatnonzero((fine[1:] > 0) != (fine[:-1] > 0))
    slant = (_FINE[1] - _FINE[0]) / (fine[turn + 1] - fine[turn])
    ends = np.concatenate([[-np.inf], _FINE[turn] - fine[turn] * slant, [np.inf]])
    low, high = ends[:-1], ends[1:]
    positive = np.arange(len(low)) % 2 == (0 if fine[0] > 0 else 1)
    # The side of the smaller tail keeps its digits.
    mass = np.where(low > 0, sp.ndtr(-low) - sp.ndtr(-high), sp.ndtr(high) - sp.ndtr(low))
    return float(min(1.0, mass[positive].sum()))


def bands(paths: Paths, v: np.ndarray, levels: Sequence[float] = LEVELS) -> np.ndarray:
    """Quantiles (T, n_levels) of the projection at every noise level.

    Exact paths: interpolated in u (exact at LEVELS); sampled ones: of the sample.
    """
    y = paths.y @ v
    if paths.u is None:
        return np.quantile(y, levels, axis=1).T
    at = sp.ndtri(np.asarray(levels)) * np.sign(v[0])
    return CubicSpline(paths.u, y, axis=1)(at)


def trajectory_rows(
    target: Target,
    w_values: Sequence[float],
    window: tuple[float, float] = WINDOW,
    sigmas: np.ndarray | None = None,
    n: int = 512,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """One row for each w, and what a picture of the trajectories needs.

    Row: key, kind "dynamics", target, dim, w, guidance_scale, method, n (None where exact), seed,
    sigma_min, sigma_max, far_edge, and the keys of :func:`overshoot` and :func:`monotone`.
    Arrays: w (n_w,), sigmas (T,), levels (5,), bands (n_w, T, 5), mean (n_w, T) and shown
    (n_w, T, up to 8), all in the projected coordinate v.x/sqrt(1+sigma^2).
    """
    v, edge = direction(target), far_edge(target)
    if sigmas is None:
        sigmas = routes.default_grid(target, window)
    traced = routes.trace(target, w_values, sigmas, n, np.random.default_rng(seed))
    drawn = target.dim > 1
    rows = []
    for w, paths in zip(w_values, traced, strict=True):
        row: dict[str, Any] = {
            "key": f"dynamics/{target.name}/w={float(w):g}",
            "kind": "dynamics",
            "target": target.name,
            "dim": target.dim,
            "w": float(w),
            "guidance_scale": 1 + float(w),
            "method": "heun, sampled" if drawn else "exact flow, quadrature",
            "n": n if drawn else None,
            "seed": seed if drawn else None,
            "sigma_min": float(paths.sigmas[-1]),
            "sigma_max": float(paths.sigmas[0]),
            "far_edge": edge,
        }
        rows.append(row | overshoot(paths, v, edge) | monotone(paths, v, window))
    arrays = {
        "w": np.asarray(w_values, dtype=np.float64),
        "sigmas": traced[0].sigmas,
        "levels": np.asarray(LEVELS),
        "bands": np.stack([bands(p, v) for p in traced]),
        "mean": np.stack([(p.y @ v) @ p.weights for p in traced]),
        "shown": np.stack([(p.y @ v)[:, p.shown] for p in traced]),
    }
    return rows, arrays


def monotone_limit(
    target: Target,
    of: str = "median",
    window: tuple[float, float] = WINDOW,
    w_max: float = 100.0,
) -> float | None:
    """The w in [0, w_max] beyond which a trajectory turns back, to about 1e-7; d = 1.

    of: "median" (the path of u = 0) or "mean". None where it stays monotone up to w_max; 0.0
    where it is not even monotone at w = 0.
    """
    if of not in ("median", "mean"):
        raise ValueError(f"of {of!r} must be 'median' or 'mean'")
    w = np.geomspace(1, 1 + w_max, 25) - 1
    step = 0.0
    for _ in range(2):
        falls = np.flatnonzero(_least_slopes(target, w, of, window, fine=False) < -_EXACT_SLOPE)
        if not len(falls):
            return None
        if falls[0] == 0:
            return 0.0
        step = w[falls[0]] - w[falls[0] - 1]
        w = np.linspace(w[falls[0] - 1], w[falls[0]], 17)
    # Past the limit the least slope is smooth in w: follow it back to zero.
    w = w[falls[0]] + step / 16 * np.arange(4)
    return float(KroghInterpolator(_least_slopes(target, w, of, window, fine=True), w)(0.0))


def _least_slopes(
    target: Target, w: np.ndarray, of: str, window: tuple[float, float], fine: bool
) -> np.ndarray:
    """Least slope over the window for each w, (n_w,); fine: between grid points too."""
    sigmas = routes.grid(481 if fine else 161, window)
    thin = slice(None, None, 1 if fine else 2)
    u = np.zeros(1) if of == "median" else NODES[thin]
    weights = np.ones(1) if of == "median" else NODE_WEIGHTS[thin] / NODE_WEIGHTS[thin].sum()
    x = routes.exact(target, w, u, sigmas, 1e-10 if fine else 1e-7)
    slope = routes.slopes(target, w[:, None], x, sigmas) @ weights * direction(target)[0]
    if not fine:
        return slope.min(axis=0)
    return np.array([-_crest(-column) for column in slope.T])


def _crest(value: np.ndarray) -> float:
    """Largest value of a curve on an even grid, by the quartic through its five top points."""
    top = int(np.clip(np.argmax(value), 2, len(value) - 3))
    t = np.arange(-2.0, 3.0)
    quartic = np.polynomial.Polynomial.fit(t, value[top - 2 : top + 3], 4)
    turns = quartic.deriv().roots()
    turns = turns[np.isreal(turns)].real
    places = np.concatenate([t, turns[np.abs(turns) < 2]])
    return float(quartic(places).max())


def _maximum(value: np.ndarray, rate: np.ndarray, s: np.ndarray) -> tuple[float, float]:
    """Largest value and its place, of a curve with its derivatives on a rising grid s."""
    top = int(np.argmax(value))
    near = slice(max(0, top - 1), top + 2)
    curve = CubicHermiteSpline(s[near], value[near], rate[near])
    turns = curve.derivative().roots(extrapolate=False)
    places = np.concatenate([s[near], turns[np.isfinite(turns)]])
    best = places[int(np.argmax(curve(places)))]
    return float(curve(best)), float(best)
