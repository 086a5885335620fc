"""Distances between samples; with `intervals` and `neighbours`, every measure under one name.

Wasserstein-1 on the line is the integral over q in (0, 1) of |Q_x(q) - Q_y(q)| for the quantile
functions of the two laws: a finite sum for two samples, an adaptive Gauss-Kronrod quadrature for
a sample and an exact law. The sliced distance averages it over random directions.
MMD^2 is the unbiased U-statistic with kernel exp(-|x - y|^2 / (2 bandwidth^2)).
The Vendi score is exp(entropy of the eigenvalues of K/n), K the samples' similarity matrix.

Samples are numbers, numpy arrays or torch tensors on any device (converted at the edge, float64);
large ones are worked on in blocks of bounded memory.

References: Bonneel et al. 2015 (sliced W); Gretton et al., JMLR 2012, equation 3 (MMD);
Friedman and Dieng, TMLR 2023, arXiv 2210.02410, definition 3.1 (Vendi).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

from assay.core import intervals, neighbours
from assay.core.intervals import (
    bootstrap,
    bootstrap_counts,
    effective_sample_size,
    jackknife,
    mean_se,
    spearman,
    wilson,
)
from assay.core.neighbours import knn_distance, knn_support, prdc

__all__ = [
    "bootstrap",
    "bootstrap_counts",
    "effective_sample_size",
    "jackknife",
    "knn_distance",
    "knn_support",
    "mean_se",
    "median_distance",
    "mmd",
    "prdc",
    "sliced_w1",
    "spearman",
    "vendi",
    "w1",
    "w1_to_quantile",
    "wilson",
]

Quantile = Callable[[np.ndarray], np.ndarray]


def _line(name: str, value: Any) -> np.ndarray:
    array = intervals.as_array(name, value)
    if array.size == 0 or array.size != max(array.shape, default=1):
        raise ValueError(f"{name} must be a one-dimensional sample, got shape {array.shape}")
    return array.ravel()


def _coupling(
    x_share: np.ndarray, y_share: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index into sorted x, into sorted y, mass) of the monotone coupling of two samples."""
    x_ends, y_ends = np.cumsum(x_share)[:-1], np.cumsum(y_share)[:-1]
    starts = np.concatenate([[0.0], np.sort(np.concatenate([x_ends, y_ends]))])
    mass = np.diff(starts, append=max(1.0, starts[-1]))
    keep = mass > 0
    starts = starts[keep]
    return (
        np.searchsorted(x_ends, starts, side="right"),
        np.searchsorted(y_ends, starts, side="right"),
        mass[keep],
    )


def w1(x: Any, y: Any, x_weights: Any = None, y_weights: Any = None) -> float:
    """Exact Wasserstein-1 distance of two samples on the line, of any sizes, in units of x.

    x (n,), y (m,); weights (n,), (m,) need not be normalised, None means equal ones.
    Raises ValueError for empty or non-finite samples and for unusable weights.
    """
    x, y = _line("x", x), _line("y", y)
    if x_weights is None and y_weights is None and len(x) == len(y):
        return float(np.abs(np.sort(x) - np.sort(y)).mean())
    x_order, y_order = np.argsort(x), np.argsort(y)
    i, j, mass = _coupling(
        intervals.normalised("x_weights", x_weights, len(x))[x_order],
        intervals.normalised("y_weights", y_weights, len(y))[y_order],
    )
    return float(mass @ np.abs(x[x_order][i] - y[y_order][j]))


# Gauss-Kronrod pair on [-1, 1]: 7 nodes, of which the odd places are Gauss-Legendre's 3.
_NODES = np.array([0.9604912687080202, 0.7745966692414834, 0.4342437493468026, 0.0])
_NODES = np.concatenate([-_NODES, _NODES[-2::-1]])
_KRONROD = np.array([0.1046562260264673, 0.2684880898683334, 0.4013974147759622])
_KRONROD = np.concatenate([_KRONROD, [0.4509165386584741], _KRONROD[::-1]])
_GAUSS = np.array([0, 5 / 9, 0, 8 / 9, 0, 5 / 9, 0])
_NARROW = 1e-13  # intervals of probability are split down to here
_LAST = 1 - 2.0**-53  # the largest probability below 1


def w1_to_quantile(
    x: Any, quantile_fn: Quantile, weights: Any = None, rtol: float = 1e-8
) -> float:
    """Wasserstein-1 distance of a sample on the line to the law with that quantile function.

    x (n,), weights (n,) or None; quantile_fn maps an array of probabilities in (0, 1) to values,
    non-decreasing, of a law with finite mean. The error aimed at is rtol times the distance plus
    the law's interquartile range; kinks, jumps and logarithmic tails are refined. quantile_fn is
    asked for 7 values per entry of x and a few thousand more, and tails beyond probability 1e-16
    are not seen.

    Raises ValueError for an empty or non-finite sample, unusable weights, or a quantile_fn that
    returns NaN or another shape.
    """
    x = _line("x", x)
    order = np.argsort(x)
    share = intervals.normalised("weights", weights, len(x))[order]
    edges = np.concatenate([[0.0], np.cumsum(share)[:-1], [1.0]])
    low, high, at = edges[:-1], edges[1:], x[order]
    spread = float(np.ptp(_quantiles(quantile_fn, np.array([0.25, 0.75]))))
    done = 0.0
    while len(low):
        half = (high - low) / 2
        q = np.clip((low + half)[:, None] + half[:, None] * _NODES, 2.0**-1000, _LAST)
        gap = np.abs(_quantiles(quantile_fn, q.ravel()).reshape(q.shape) - at[:, None])
        value = half * (gap @ _KRONROD)
        error = np.abs(value - half * (gap @ _GAUSS))
        allowed = rtol * (done + value.sum() + spread) / len(x)
        split = (error > allowed) & (half > _NARROW)
        done += float(value[~split].sum())
        low, high, at, half = low[split], high[split], at[split], half[split]
        middle = low + half
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        at = np.concatenate([at, at])
    return done


def _quantiles(quantile_fn: Quantile, q: np.ndarray) -> np.ndarray:
    values = np.asarray(quantile_fn(q), dtype=np.float64)
    if values.shape != q.shape or np.isnan(values).any():
        raise ValueError("quantile_fn must return one number, not NaN, for each probability")
    return values


def sliced_w1(x: Any, y: Any, n_projections: int = 128, *, rng: np.random.Generator) -> float:
    """Mean Wasserstein-1 distance of x (n, d) and y (m, d) along random unit directions.

    Monte Carlo over n_projections directions, uniform on the sphere; d = 1 is exact with one.
    Raises ValueError for mismatched columns or n_projections < 1.
    """
    x = neighbours.rows("x", x)
    n, dim = x.shape
    y = neighbours.rows("y", y, dim)
    if n_projections < 1:
        raise ValueError(f"n_projections must be 1 or more, got {n_projections!r}: try 128")
    i, j, mass = _coupling(np.full(n, 1 / n), np.full(len(y), 1 / len(y)))
    step = max(1, intervals.BLOCK // (n + len(y)))
    total = 0.0
    for start in range(0, n_projections, step):
        directions = rng.standard_normal((min(step, n_projections - start), dim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        x_line = np.sort(directions @ x.T, axis=1)[:, i]
        y_line = np.sort(directions @ y.T, axis=1)[:, j]
        total += float((np.abs(x_line - y_line) @ mass).sum())
    return total / n_projections


def median_distance(x: Any, n_most: int = 2000) -> float:
    """Median Euclidean distance of the pairs of rows of x (n, d): the usual kernel bandwidth.

    Beyond n_most rows, of that many evenly spaced ones. Raises ValueError where it is 0.
    """
    x = neighbours.rows("x", x)
    if len(x) > n_most:
        x = x[np.linspace(0, len(x) - 1, n_most).astype(int)]
    pairs = [
        distance[np.arange(len(x)) > np.arange(part.start, part.stop)[:, None]]
        for part, distance in neighbours.distance_blocks(x, x)
    ]
    median = float(np.median(np.concatenate(pairs))) if len(x) > 1 else 0.0
    if not median > 0:
        raise ValueError("the median distance is 0: most rows are equal, so give bandwidth=number")
    return median


def _bandwidth(bandwidth: float | str, *samples: np.ndarray) -> float:
    if bandwidth == "median":
        return median_distance(np.concatenate(samples))
    if isinstance(bandwidth, str) or not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth must be 'median' or a number above 0, got {bandwidth!r}")
    return float(bandwidth)


def _rbf_blocks(x: np.ndarray, y: np.ndarray, bandwidth: float) -> Iterator[np.ndarray]:
    """Blocks of rows of the kernel matrix; the expanded square is ten times faster than cdist."""
    centre = x.mean(0)
    x, y = (x - centre) / bandwidth, (y - centre) / bandwidth
    y_square = (y**2).sum(1) / 2
    step = max(1, intervals.BLOCK // len(y))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        half = part @ y.T
        half -= y_square
        half -= (part**2).sum(1, keepdims=True) / 2
        yield np.exp(np.minimum(half, 0.0, out=half), out=half)


def _rbf_sum(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    return sum(float(block.sum()) for block in _rbf_blocks(x, y, bandwidth))


def mmd(x: Any, y: Any, bandwidth: float | str = "median") -> float:
    """Unbiased squared maximum mean discrepancy of x (n, d) and y (m, d), Gaussian kernel.

    bandwidth is the kernel's standard deviation, in units of x, or "median": the median distance
    of the pairs of both samples together. The estimate averages to 0 under equal laws, and so
    may be negative. Raises ValueError for fewer than two rows or an unusable bandwidth.
    """
    x = neighbours.rows("x", x)
    y = neighbours.rows("y", y, x.shape[1])
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"x and y need two rows or more, got {n} and {m}")
    width = _bandwidth(bandwidth, x, y)
    within_x = (_rbf_sum(x, x, width) - n) / (n * (n - 1))
    within_y = (_rbf_sum(y, y, width) - m) / (m * (m - 1))
    return within_x + within_y - 2 * _rbf_sum(x, y, width) / (n * m)


def vendi(x: Any, kernel: str = "cosine", bandwidth: float | str = "median") -> float:
    """Vendi score of x (n, d): the effective number of distinct samples, between 1 and n.

    kernel "cosine" compares directions (rows must not be 0; cost n d min(n, d)), "rbf" is the
    Gaussian kernel of `mmd` (cost n^3: thin large samples first), and "given" takes x as the
    (n, n) similarity matrix itself, symmetric, positive semidefinite, with unit diagonal.

    Raises ValueError for an unknown kernel, zero rows under cosine, or a matrix of another kind.
    """
    x = neighbours.rows("x", x)
    n = len(x)
    if kernel == "cosine":
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        if not norm.all():
            raise ValueError("x has rows that are all 0, without a direction: use kernel='rbf'")
        eigenvalues = np.linalg.svd(x / norm, compute_uv=False) ** 2
    elif kernel == "rbf":
        width = _bandwidth(bandwidth, x) if n > 1 else 1.0
        eigenvalues = np.linalg.eigvalsh(np.concatenate(list(_rbf_blocks(x, x, width))))
    elif kernel == "given":
        if x.shape != (n, n) or not np.allclose(x, x.T) or not np.allclose(np.diag(x), 1):
            raise ValueError("x must be a symmetric (n, n) matrix with unit diagonal, as 'given'")
        eigenvalues = np.linalg.eigvalsh(x)
    else:
        raise ValueError(f"kernel must be 'cosine', 'rbf' or 'given', got {kernel!r}")
    return float(np.exp(special.entr(np.maximum(eigenvalues, 0) / n).sum()))
