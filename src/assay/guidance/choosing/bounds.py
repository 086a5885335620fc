"""Bounds for samples that come in looks, up to a largest number n = cap known beforehand.

A test at level alpha may stop at any look before the cap where a confidence sequence at level
alpha / 5 has settled it, and at the cap a fixed-n bound at level 4 alpha / 5 speaks as well: both
are wrong together with probability at most alpha, clear cases end early, and close ones keep
nearly the power of a single look.

Rates, exact. The capital of :mod:`assay.core.anytime` for draws of 0 and 1 depends on counts
alone: with k events in n samples the one who doubts "rate >= m" has

    K_n(m) = sum_j p_j (1 - theta_j)^k (1 + theta_j m / (1 - m))^(n - k),

and P(some n has K_n(m) >= 1/alpha) <= alpha where the doubt is wrong; it is monotone in m, so that
the rates not yet ruled out end at one root. At the cap: Clopper and Pearson's bound.

Means, of asymptotic coverage since the sd is estimated:
mean -+ sd sqrt(2 (n r + 1) / (n^2 r) ln(1 + sqrt(n r + 1) / (2 alpha))), the boundary of a
Gaussian mixture, each side at level alpha, with the r that is narrowest at cap / 4; at the cap the
normal quantile.

References: Waudby-Smith and Ramdas, arXiv 2010.09686 (betting); Waudby-Smith, Arbour, Sinha,
Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
arXiv 2103.06476, theorem 2.2 and its one-sided form.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from assay.core import anytime

EARLY = 0.2  # share of alpha for stopping before the cap
_SPLIT = np.linspace(0, 1, 65)
_REACH = 27.0  # log odds


def log_evidence(k: float, n: float, rate: Any, below: bool = True) -> Any:
    """ln of the capital against p >= rate (below) or p <= rate; k events in n samples.

    rate: number or (m,), in (0, 1); the answer has its shape.
    """
    m = np.asarray(rate, dtype=np.float64)[..., None]
    theta = anytime.THETAS if below else -anytime.THETAS * (1 - m) / m
    gain = np.log1p(theta * m / (1 - m))
    return logsumexp(anytime.LOG_PRIOR + k * np.log1p(-theta) + (n - k) * gain, axis=-1)


def rate_upper(k: int, n: int, alpha: float, cap: int) -> float:
    """Upper bound of a rate after k events in n samples, at every look up to n = cap at once."""
    found = _root(k, n, EARLY * alpha, True)
    if n < cap:
        return found
    return min(found, float(stats.beta.ppf(1 - (1 - EARLY) * alpha, k + 1, n - k)) if k < n else 1)


def rate_lower(k: int, n: int, alpha: float, cap: int) -> float:
    """Lower bound of a rate after k events in n samples, at every look up to n = cap at once."""
    found = _root(k, n, EARLY * alpha, False)
    if n < cap:
        return found
    return max(found, float(stats.beta.ppf((1 - EARLY) * alpha, k, n - k + 1)) if k > 0 else 0)


@functools.lru_cache(maxsize=4096)
def _root(k: int, n: int, alpha: float, below: bool) -> float:
    """The rate at which the evidence, monotone in it, reaches 1/alpha; on the safe side."""
    low, high = -_REACH, _REACH
    for _ in range(4):
        odds = low + (high - low) * _SPLIT
        refuted = log_evidence(k, n, 1 / (1 + np.exp(-odds)), below) >= -math.log(alpha)
        at = int(np.argmax(refuted == below))  # below: refuted from here up; above: up to here
        if not (refuted == below).any():
            return 1.0 if below else 0.0
        low, high = odds[max(at - 1, 0)], odds[at]
    end = high if below else low
    if abs(end) > _REACH - 1:
        return 1.0 if below else 0.0
    return float(1 / (1 + math.exp(-end)))


def passing_count(cap: int, limit: float, alpha: float) -> int:
    """The most events among n = cap that still show a rate below the limit; -1 where none does."""
    low, high = -1, cap
    while high - low > 1:
        middle = (low + high) // 2
        shown = rate_upper(middle, cap, alpha, cap) < limit
        low, high = (middle, high) if shown else (low, middle)
    return low


def radius(n: int, alpha: float, cap: int) -> float:
    """One-sided distance from a mean to its bound, in standard deviations of one sample, at
    every look up to n = cap at once."""
    early = EARLY * alpha
    spread = -2 * math.log(2 * min(early, 0.25))
    r = (spread + math.log(spread + 1)) / (cap / 4)
    ahead = math.log1p(math.sqrt(n * r + 1) / (2 * early))
    found = math.sqrt(2 * (n * r + 1) / (n * n * r) * ahead)
    if n < cap:
        return found
    return min(found, float(stats.norm.isf((1 - EARLY) * alpha)) / math.sqrt(n))


def log_ratio(x: np.ndarray, plain: np.ndarray) -> tuple[float, float]:
    """ln of sqrt(tr Cov(x) / tr Cov(plain)) and the standard deviation of its influence.

    x, plain (n, d): pairs from the same noise, so that what they share cancels.
    """
    first, second = (np.sum((a - a.mean(axis=0)) ** 2, axis=1) for a in (x, plain))
    top, under = float(first.mean()), float(second.mean())
    if not (top > 0 and under > 0):
        return -math.inf, 0.0
    influence = first / top - second / under
    return math.log(top / under) / 2, float(influence.std(ddof=1)) / 2
