"""Intervals and standard errors: how far a measured number may be trusted.

`wilson` inverts the score test of a binomial share (Wilson 1927): the roots p of
(n + z^2) p^2 - (2k + z^2) p + k^2/n = 0, z the normal quantile of the level. The lower root is
taken from the product of the roots, so that k = 0 gives exactly 0 and nothing cancels.

`bootstrap` is the percentile bootstrap (Efron 1979): rows are redrawn with replacement, and the
interval holds the central `level` of the statistic's values. A mean over few distinct values is
redrawn through its counts, one multinomial draw per resample, whatever the number of rows.

Every interval has the confidence `level` (0.95 unless told) and every random one draws from the
numpy Generator given to it. Everything is re-exported by `assay.core.stats`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special, stats

BLOCK = 1 << 22  # entries of the largest temporary array
FEW = 64  # up to so many distinct values, a mean is resampled through its counts

Statistic = Callable[[np.ndarray], Any]


def as_array(name: str, value: Any) -> np.ndarray:
    """A finite float64 array from numbers, numpy or a torch tensor on any device."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite entries: remove them first")
    return array


def _critical(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}: try 0.95")
    return float(special.ndtri(0.5 + level / 2))


def _sample(name: str, value: Any, least: int) -> np.ndarray:
    """An array with at least `least` entries along its first axis."""
    array = as_array(name, value)
    if array.ndim == 0 or len(array) < least:
        raise ValueError(f"{name} needs {least} or more entries, got shape {array.shape}")
    return array


def _plain(value: Any) -> Any:
    """A Python float for a scalar, the array itself otherwise."""
    return float(value) if np.ndim(value) == 0 else value


def wilson(k: Any, n: Any, level: float = 0.95) -> tuple[Any, Any]:
    """Wilson score interval (low, high) of the share k/n.

    k successes among n trials, numbers or arrays that broadcast, 0 <= k <= n; effective,
    non-integer counts are allowed. n = 0 gives (0, 1): nothing is known. Numbers give floats.

    Raises ValueError for counts outside 0 <= k <= n and for a level outside (0, 1).
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z2 = _critical(level) ** 2
    k, n = np.broadcast_arrays(as_array("k", k), as_array("n", n))
    if ((k < 0) | (k > n)).any():
        raise ValueError("k must satisfy 0 <= k <= n: check that k counts a part of the n trials")
    trials = np.where(n > 0, n, 1.0)
    root = np.sqrt(z2 * (k * (n - k) / trials + z2 / 4))
    upper = k + z2 / 2 + root
    low = k * k / trials / upper
    high = np.where(k == n, 1.0, upper / (n + z2))
    return _plain(low), _plain(high)


def mean_se(values: Any, weights: Any = None) -> tuple[Any, Any]:
    """(mean, standard error of the mean) over the first axis of `values`, (n,) or (n, ...).

    Without weights the error is sd/sqrt(n) with divisor n - 1. With weights (n,), not
    necessarily normalised, the mean is the self-normalised one, sum W x with W = w / sum w, and
    its error the delta method's sqrt(sum W^2 (x - mean)^2) for independent draws.

    Raises ValueError for fewer than two rows, or weights that are negative, all zero or of
    another length.
    """
    values = _sample("values", values, 2)
    n = len(values)
    if weights is None:
        return _plain(values.mean(0)), _plain(values.std(0, ddof=1) / np.sqrt(n))
    share = normalised("weights", weights, n)
    mean = np.tensordot(share, values, 1)
    return _plain(mean), _plain(np.sqrt(np.tensordot(share**2, (values - mean) ** 2, 1)))


def normalised(name: str, weights: Any, n: int) -> np.ndarray:
    """Weights (n,) divided by their sum; equal ones for None."""
    if weights is None:
        return np.full(n, 1.0 / n)
    weights = as_array(name, weights)
    if weights.shape != (n,) or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(
            f"{name} must be {n} numbers, none negative and not all zero, got shape "
            f"{weights.shape}: give one weight per sample"
        )
    return weights / weights.sum()


def effective_sample_size(log_weights: Any) -> float:
    """(sum w)^2 / sum w^2 from natural logarithms of weights (n,): between 1 and n.

    Entries may be -inf (weight 0); where all are, the result is 0. Overflow is impossible.
    Raises ValueError for NaN or +inf. Source: Kish 1965; Kong, Liu and Wong 1994.
    """
    if hasattr(log_weights, "detach"):
        log_weights = log_weights.detach().cpu().double().numpy()
    log_weights = np.asarray(log_weights, dtype=np.float64).ravel()
    top = log_weights.max(initial=-np.inf)
    if np.isnan(top) or top == np.inf:
        raise ValueError("log_weights hold NaN or +inf: they must be finite or -inf")
    if top == -np.inf:
        return 0.0
    weights = np.exp(log_weights - top)
    return float(weights.sum() ** 2 / (weights**2).sum())


def _interval(draws: np.ndarray, level: float) -> tuple[Any, Any]:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return _plain(low), _plain(high)


def _blocks(n_resamples: int, size: int) -> Iterator[int]:
    """Numbers of resamples, each small enough that their rows together fit in a block."""
    step = max(1, BLOCK // max(size, 1))
    for start in range(0, n_resamples, step):
        yield min(step, n_resamples - start)


def _resampled_means(values: np.ndarray, n_resamples: int, rng: np.random.Generator) -> Any:
    n = len(values)
    return np.concatenate(
        [
            values[rng.integers(n, size=(block, n))].mean(1)
            for block in _blocks(n_resamples, values.size)
        ]
    )


def bootstrap(
    values: Any,
    statistic: Statistic | str = "mean",
    n_resamples: int = 2000,
    level: float = 0.95,
    *,
    rng: np.random.Generator,
) -> tuple[Any, Any, Any]:
    """(estimate, low, high) of a statistic of the rows of `values` by percentile bootstrap.

    values (n,) or (n, ...), n >= 2: whole rows are redrawn, so pairs stay together; where rows
    depend on each other, give one row per independent group. statistic is "mean" (vectorised,
    through counts where at most 64 values are distinct) or a callable of such an array returning
    a number or an array.

    Raises ValueError for fewer than two rows, an unknown statistic, n_resamples < 1 or a level
    outside (0, 1). Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    _critical(level)
    values = _sample("values", values, 2)
    _check_resamples(n_resamples)
    if callable(statistic):
        n = len(values)
        draws = np.array([statistic(values[rng.integers(n, size=n)]) for _ in range(n_resamples)])
        return _plain(statistic(values)), *_interval(draws, level)
    if statistic != "mean":
        raise ValueError(f"statistic must be 'mean' or a callable, got {statistic!r}")
    if values.ndim == 1:
        kinds, counts = np.unique(values, return_counts=True)
        if len(kinds) <= FEW:
            return bootstrap_counts(kinds, counts, n_resamples, level, rng=rng)
    return _plain(values.mean(0)), *_interval(_resampled_means(values, n_resamples, rng), level)


def _check_resamples(n_resamples: int) -> None:
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be 1 or more, got {n_resamples!r}: try 2000")


def bootstrap_counts(
    values: Any,
    counts: Any,
    n_resamples: int = 2000,
    level: float = 0.95,
    *,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """(estimate, low, high) of the mean of a categorical sample given by its counts.

    values (m,) occur counts (m,) times, counts whole, n = sum counts >= 1. A resample is one
    multinomial draw of the counts, the very law of redrawing all n rows, at a cost free of n.

    Raises ValueError for counts that are negative, broken or all zero, and as `bootstrap` does.
    """
    _critical(level)
    _check_resamples(n_resamples)
    values, counts = as_array("values", values), as_array("counts", counts)
    whole = counts.astype(np.int64)
    if values.ndim != 1 or values.shape != counts.shape or (whole != counts).any():
        raise ValueError("counts must be whole numbers, one for each entry of values")
    share = normalised("counts", whole, len(whole))
    draws = rng.multinomial(whole.sum(), share, size=n_resamples) @ values / whole.sum()
    return float(share @ values), *_interval(draws, level)


def jackknife(values: Any, statistic: Statistic) -> tuple[Any, Any]:
    """(bias-corrected estimate, standard error) of a smooth statistic by leaving out each row.

    values (n,) or (n, ...), n >= 2; statistic maps such an array to a number or an array. With
    T_i the statistic without row i and T-bar their mean: estimate n T - (n-1) T-bar, variance
    (n-1)/n sum (T_i - T-bar)^2. Not for medians and quantiles, where it is inconsistent.

    Raises ValueError for fewer than two rows. Source: Quenouille 1956; Tukey 1958.
    """
    values = _sample("values", values, 2)
    n = len(values)
    without = np.array([statistic(np.delete(values, i, axis=0)) for i in range(n)])
    estimate = n * np.asarray(statistic(values)) - (n - 1) * without.mean(0)
    return _plain(estimate), _plain(np.sqrt((n - 1) * without.var(0)))


def spearman(x: Any, y: Any, level: float = 0.95) -> tuple[float, float, float]:
    """(rank correlation, low, high) of two samples (n,), n >= 4, ties at their mean ranks.

    The interval is Fisher's, tanh(artanh r -+ z se) with se^2 = (1 + r^2/2)/(n - 3), good for
    |r| < 0.95 and n >= 25; at r = +-1 it closes on that end.

    Raises ValueError for unequal or short samples, or a constant one.
    Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations", Psychometrika 2000.
    """
    z = _critical(level)
    x, y = _sample("x", x, 4), _sample("y", y, 4)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must be of one length, got shapes {x.shape} and {y.shape}")
    ranks = np.array([stats.rankdata(x), stats.rankdata(y)]) - (len(x) + 1) / 2
    power = (ranks**2).sum(1)
    if not power.all():
        raise ValueError("x or y is constant: a rank correlation needs two values or more")
    r = float(np.clip(ranks[0] @ ranks[1] / np.sqrt(power[0] * power[1]), -1, 1))
    if abs(r) == 1.0:
        return r, r, r
    half = z * np.sqrt((1 + r * r / 2) / (len(x) - 3))
    low, high = np.tanh(np.arctanh(r) + np.array([-half, half]))
    return r, float(low), float(high)
