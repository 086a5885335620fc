"""Noise levels: sigma grids, training distributions of sigma, other clocks mapped onto sigma.

One coordinate: x = x0 + sigma * noise. Other clocks and their x are maps of it:

    OU (variance preserving) time t: x_t = e^-t x0 + sqrt(1 - e^-2t) noise = e^-t x,
        sigma = sqrt(e^2t - 1), e^-t = 1 / sqrt(1 + sigma^2)
    VP alpha_bar: x_vp = sqrt(alpha_bar) x, sigma = sqrt((1 - alpha_bar) / alpha_bar)
    linear flow time t in [0, 1): x_t = (1 - t) x0 + t noise = (1 - t) x, sigma = t / (1 - t)

A grid of n steps is a numpy float64 array of n + 1 strictly decreasing sigmas that starts at
sigma_max. With ``zero=True`` the n-th entry is sigma_min and a final 0 follows; with
``zero=False`` the last entry is sigma_min. (With one step and ``zero=True`` it is sigma_max, 0.)

References: Karras et al. 2022 (EDM, arXiv 2206.00364), eq. 5 and table 1; Ho et al. 2020 (DDPM,
arXiv 2006.11239), section 4; Esser et al. 2024 (arXiv 2403.03206), eq. 19.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from assay.core import special

Array = special.Array


def sigma_from_ou(t: Array) -> Array:
    """sigma = sqrt(e^2t - 1) of the OU time t >= 0."""
    return _like(t, lambda xp, t: xp.sqrt(xp.expm1(2 * t)))


def ou_from_sigma(sigma: Array) -> Array:
    """OU time t = ln(1 + sigma^2) / 2."""
    return _like(sigma, lambda xp, s: xp.log1p(s * s) / 2)


def ou_scale(sigma: Array) -> Array:
    """e^-t = 1 / sqrt(1 + sigma^2), which takes x into the OU (and the VP) coordinate."""
    return _like(sigma, lambda xp, s: 1 / xp.sqrt(1 + s * s))


def sigma_from_alpha_bar(alpha_bar: Array) -> Array:
    """sigma = sqrt((1 - alpha_bar) / alpha_bar), alpha_bar in (0, 1]."""
    return _like(alpha_bar, lambda xp, a: xp.sqrt((1 - a) / a))


def alpha_bar_from_sigma(sigma: Array) -> Array:
    """alpha_bar = 1 / (1 + sigma^2), the squared scale of the VP coordinate."""
    return _like(sigma, lambda xp, s: 1 / (1 + s * s))


def sigma_from_flow(t: Array) -> Array:
    """sigma = t / (1 - t) of the linear-flow time t in [0, 1)."""
    return t / (1 - t)


def flow_from_sigma(sigma: Array) -> Array:
    """Linear-flow time t = sigma / (1 + sigma); the flow's x_t is (1 - t) x."""
    return sigma / (1 + sigma)


def karras(
    n: int, sigma_min: float, sigma_max: float, rho: float = 7.0, zero: bool = True
) -> np.ndarray:
    """n steps, uniform in sigma^(1/rho): EDM, eq. 5. rho > 0; ValueError on a bad interval."""
    if not (math.isfinite(rho) and rho > 0):
        raise ValueError(f"rho is {rho}: give a positive number, EDM's is 7")
    to, back = (lambda s: s ** (1 / rho)), (lambda v: v**rho)
    return _uniform(n, (sigma_min, sigma_max), to, back, zero)


def exponential(n: int, sigma_min: float, sigma_max: float, zero: bool = True) -> np.ndarray:
    """n steps, uniform in ln sigma."""
    return _uniform(n, (sigma_min, sigma_max), np.log, np.exp, zero)


def ou(n: int, sigma_min: float, sigma_max: float, zero: bool = True) -> np.ndarray:
    """n steps, uniform in the OU time t = ln(1 + sigma^2) / 2."""
    return _uniform(n, (sigma_min, sigma_max), ou_from_sigma, sigma_from_ou, zero)


def flow(n: int, sigma_min: float, sigma_max: float, zero: bool = True) -> np.ndarray:
    """n steps, uniform in the linear-flow time t = sigma / (1 + sigma)."""
    return _uniform(n, (sigma_min, sigma_max), flow_from_sigma, sigma_from_flow, zero)


def ddpm(
    n: int,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    train_steps: int = 1000,
    zero: bool = True,
) -> np.ndarray:
    """n steps through the sigmas of DDPM's linear beta schedule, evenly spaced in training step.

    alpha_bar_k = prod_{j <= k} (1 - beta_j), beta_j linear from beta_start to beta_end in
    train_steps entries (DDPM, section 4: sigma from 0.01 to 157); the grid interpolates ln sigma
    where it falls between training steps. ValueError unless 0 < beta_start <= beta_end < 1.
    """
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            f"beta_start {beta_start}, beta_end {beta_end}: give 0 < beta_start <= beta_end < 1"
        )
    _check_steps(n)
    if train_steps < 2:
        raise ValueError(f"train_steps is {train_steps}: give at least 2")
    log_alpha_bar = np.cumsum(np.log1p(-np.linspace(beta_start, beta_end, train_steps)))
    log_sigma = np.log(np.expm1(-log_alpha_bar)) / 2
    at = np.linspace(train_steps - 1, 0, n if zero else n + 1)
    return _ended(np.exp(np.interp(at, np.arange(train_steps), log_sigma)), zero)


def chebyshev(n: int, sigma_min: float, sigma_max: float, scale: float = 1.0) -> np.ndarray:
    """n steps at the Chebyshev points of alpha = 1 / sqrt(1 + sigma^2 / scale^2).

    alpha = a + (b - a) (1 - cos(pi k / n)) / 2, k = 0..n, from a = alpha(sigma_max) to
    b = alpha(sigma_min); sigma_min >= 0 is the last entry, and where it is 0 the entry before is
    near pi scale / (sqrt(2) n). The grid of :func:`assay.core.solver.adams`: steps shrink
    quadratically towards both ends, so that a multistep method may start at low order without
    losing its own. ``scale`` > 0 is a standard deviation of the data; a factor of 2 either way
    costs little.
    """
    _check_steps(n)
    if not 0 <= sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"sigma_min {sigma_min}, sigma_max {sigma_max}: give 0 <= sigma_min < sigma_max < inf"
        )
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}: give the data's standard deviation, > 0")
    # alpha = cos(angle) and 1 - alpha = 2 sin(angle / 2)^2: no cancellation at either end
    first, last = math.atan(sigma_max / scale), math.atan(sigma_min / scale)
    left = np.sin(np.pi / 2 * np.arange(n, -1, -1) / n) ** 2
    short = 2 * math.sin(last / 2) ** 2 + (math.cos(last) - math.cos(first)) * left
    sigmas = scale * np.sqrt(short * (2 - short)) / (1 - short)
    sigmas[0], sigmas[-1] = sigma_max, sigma_min
    return sigmas


def lognormal(rng: special.Rng, n: int, mean: float = -1.2, sd: float = 1.2) -> Array:
    """n training sigmas with ln sigma ~ N(mean, sd^2): EDM, table 1. (n,) in rng's backend."""
    _check_spread(sd)
    draws = special.randn(rng, (n,))
    return special.namespace(draws).exp(mean + sd * draws)


def logit_normal(rng: special.Rng, n: int, mean: float = 0.0, sd: float = 1.0) -> Array:
    """n training sigmas of a linear flow with logit t ~ N(mean, sd^2): Esser et al., eq. 19.

    sigma = t / (1 - t) makes ln sigma = logit t, so this is a log-normal sigma too.
    """
    return lognormal(rng, n, mean, sd)


def _like(value: Array, formula: Callable) -> Array:
    """The formula in value's backend; a Python number gives a Python float."""
    if isinstance(value, (int, float)):
        return float(formula(np, float(value)))
    return formula(special.namespace(value), value)


def _uniform(
    n: int, interval: tuple[float, float], to: Callable, back: Callable, zero: bool
) -> np.ndarray:
    """n steps uniform in the coordinate to(sigma)."""
    low, high = interval
    _check_interval(n, low, high)
    if zero and n == 1:
        return np.array([float(high), 0.0])
    sigmas = back(np.linspace(to(float(high)), to(float(low)), n if zero else n + 1))
    sigmas[0], sigmas[-1] = high, low  # the ends exactly, whatever the round trip lost
    return _ended(sigmas, zero)


def _ended(sigmas: np.ndarray, zero: bool) -> np.ndarray:
    return np.append(sigmas, 0.0) if zero else sigmas


def _check_steps(n: int) -> None:
    if n < 1:
        raise ValueError(f"n is {n}: give at least one step")


def _check_interval(n: int, sigma_min: float, sigma_max: float) -> None:
    _check_steps(n)
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"sigma_min {sigma_min}, sigma_max {sigma_max}: give 0 < sigma_min < sigma_max < inf"
        )


def _check_spread(sd: float) -> None:
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd is {sd}: give a finite standard deviation >= 0")
