"""Measures of one recorded run of a pipeline: paths, amplification, images. Numpy only.

With z = x / sqrt(1 + sigma^2) (the OU coordinate, in which pure noise has variance 1) and v the
unit vector along the mean of D(x | prompt) - D(x) over the steps and samples of w = 0:

    path         y_i = <z_i, v>, i over the scheduler's steps, and <x_end, v> at the end
    turned       (TV - |y_end - y_0|) / TV, TV = sum |y_{i+1} - y_i|; 0 for a monotone path
    overshoot    max_i y_i - far edge, the largest <x_end, v> among the samples of w = 0
    returned     max(0, max_i y_i - max(y_0, y_end)): how far the path came back
    amplification |x_end - x_end'| / (size sqrt(d)), x_end' with planted errors of predictions,
                 size = sqrt(mean over ln sigma of the squared error of eps): errors of the
                 conditional and the unconditional prediction independent, each of that size
    clipped      share of the decoded values beyond [-1, 1] by a grey level (2/255) or more, before
                 any clamping: what rounding to bytes hides is not counted
    range_error  mean of max(|value| - 1, 0)
    disagreement root mean square of eps(prompt) - eps, mean over the steps

Monotone paths choose w in Chidambaram et al. 2024 (arXiv 2409.13074), section 5. Amplification is
that of guidance.md's axis of errors: sigma |score error|, here of every prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MONOTONE = 0.01  # a path that turned by at most this share counts as monotone
LEVEL = 2 / 255  # one grey level of images in [-1, 1]
SIDE = 32  # images are compared at this many pixels, or fewer


def direction(cond: np.ndarray, uncond: np.ndarray) -> np.ndarray | None:
    """Unit vector (d,) along the mean of cond - uncond, (steps, n, *shape); None where it is 0."""
    mean = np.asarray(cond - uncond, dtype=np.float64).mean(axis=(0, 1)).ravel()
    size = float(np.linalg.norm(mean))
    return mean / size if size > 0 and np.isfinite(size) else None


def path(ou: np.ndarray, final: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Projected paths (steps + 1, n) of ou (steps, n, *shape), ending at final (n, *shape)."""
    every = np.concatenate([ou, final[None]]).reshape(len(ou) + 1, len(final), -1)
    return every.astype(np.float64) @ along


def of_path(y: np.ndarray, edge: float) -> dict[str, np.ndarray]:
    """turned, monotone, overshoot, returned (n,) of paths (steps + 1, n); edge of w = 0."""
    travelled = np.abs(np.diff(y, axis=0)).sum(0)
    net = np.abs(y[-1] - y[0])
    turned = np.where(travelled > 0, 1 - net / np.where(travelled > 0, travelled, 1), 0.0)
    peak = y.max(0)
    return {
        "turned": turned,
        "monotone": (turned <= MONOTONE).astype(float),
        "overshoot": peak - edge,
        "returned": np.maximum(peak - np.maximum(y[0], y[-1]), 0.0),
    }


def error_size(sigma: np.ndarray, per_prediction: np.ndarray, size: float) -> float:
    """Size of a planted error of standard deviation ``size``, on the axis of errors of eps.

    sigma (steps,); per_prediction (steps,): error of eps that a unit error of the prediction
    makes. Root mean square over ln sigma, trapezoidal; levels of infinite sigma left out.
    """
    usable = np.isfinite(sigma) & (sigma > 0)
    at, squares = np.log(sigma[usable]), per_prediction[usable] ** 2
    if len(at) < 2 or at.max() == at.min():
        return size * float(np.sqrt(squares.mean()))
    order = np.argsort(at)
    return size * float(np.sqrt(np.trapezoid(squares[order], at[order]) / np.ptp(at)))


def displacement(final: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Root mean square over the entries of final - moved, both (n, *shape); (n,)."""
    apart = (np.asarray(final, float) - np.asarray(moved, float)).reshape(len(final), -1)
    return np.sqrt((apart**2).mean(1))


def disagreement(sigma: np.ndarray, cond: np.ndarray, uncond: np.ndarray) -> np.ndarray:
    """Root mean square of eps_cond - eps_uncond, mean over steps of finite sigma; (n,)."""
    usable = np.isfinite(sigma)
    apart = np.asarray(cond - uncond, float)[usable].reshape(usable.sum(), cond.shape[1], -1)
    return (np.sqrt((apart**2).mean(2)) / sigma[usable, None]).mean(0)


def of_images(decoded: np.ndarray) -> dict[str, np.ndarray]:
    """clipped and range_error (n,) of decoded images (n, channels, height, width).

    A value that is no number counts as clipped, and its image's range error as infinite.
    """
    size = np.abs(decoded.reshape(len(decoded), -1).astype(np.float64))
    beyond = np.maximum(np.where(np.isnan(size), np.inf, size) - 1, 0)
    return {"clipped": (beyond >= LEVEL).mean(1), "range_error": beyond.mean(1)}


def features(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Images (n, channels, height, width) as rows: clipped to [-1, 1], averaged to side x side."""
    seen = np.clip(np.nan_to_num(images.astype(np.float64)), -1, 1)
    for axis in (2, 3):
        seen = _averaged(seen, axis, min(side, images.shape[axis]))
    return seen.reshape(len(images), -1).astype(np.float32)


def _averaged(values: np.ndarray, axis: int, parts: int) -> np.ndarray:
    """Means over ``parts`` runs of an axis, as even as whole pixels allow."""
    edges = np.linspace(0, values.shape[axis], parts + 1).round().astype(int)
    sums = np.add.reduceat(values, edges[:-1], axis=axis)
    shape = [-1 if k == axis else 1 for k in range(values.ndim)]
    return sums / np.diff(edges).reshape(shape)


def thumbs(images: np.ndarray, most: int = 128) -> np.ndarray:
    """Images as bytes (n, height, width, 3), clamped as a pipeline does, at most so large."""
    seen = np.clip(np.nan_to_num(images.astype(np.float64)), -1, 1)
    for axis in (2, 3):
        if images.shape[axis] > most:
            seen = _averaged(seen, axis, most)
    seen = np.rint((seen + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return seen if seen.shape[3] == 3 else np.repeat(seen[..., :1], 3, axis=3)


# ---- samples beside the samples of w = 0 --------------------------------------------------------


def apart(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance (n,) of each row to the nearest reference row of ANOTHER seed, both (n, d).

    Row i of both comes from seed i: samples of one seed share their noise, so that the own
    partner at w = 0 is no independent neighbour, and is left out at every w alike.
    """
    from scipy.spatial.distance import cdist

    distance = cdist(rows.astype(np.float64), reference.astype(np.float64))
    np.fill_diagonal(distance, np.inf)
    return distance.min(1)


def spread(rows: np.ndarray) -> float:
    """sqrt(tr Cov) of rows (n, d), n >= 2: proportional to the rms distance of two samples."""
    return float(np.sqrt(rows.astype(np.float64).var(axis=0, ddof=1).sum()))


def mean_finite(values: Sequence[Any] | np.ndarray) -> float | None:
    """Mean of the finite entries; None where there is none."""
    kept = np.asarray([v for v in np.ravel(values) if v is not None], dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    return float(kept.mean()) if len(kept) else None
