"""Nearest-neighbour measures of samples against a reference, Euclidean, exact at any size.

Precision, recall, density and coverage take the k-nearest-neighbour balls of one sample as its
support and ask which points of the other fall inside. `knn_support` asks the same of a distance:
which points lie farther from a reference than a second sample of the same law does.

Distances are taken directly, not by |x|^2 + |y|^2 - 2 x.y, so that copies lie at distance exactly
0 and ties count alike, in blocks of bounded memory. Time is n m d; up to 8 dimensions a k-d tree
serves the neighbours. Everything is re-exported by `assay.core.stats`.

Reference: Naeem, Oh, Uh, Choi and Yoo, "Reliable fidelity and diversity metrics for generative
models", ICML 2020, arXiv 2002.09797, section 3; Kynkäänniemi et al. 2019, arXiv 1904.06991.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from assay.core import intervals

TREE_DIM = 8  # up to here a k-d tree beats comparing all pairs


def rows(name: str, value: Any, dim: int | None = None) -> np.ndarray:
    """A finite (n, d) array, n >= 1; further axes are flattened and (n,) becomes (n, 1)."""
    array = intervals.as_array(name, value)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must be (n, d) with n and d >= 1, got shape {array.shape}")
    array = array.reshape(len(array), -1)
    if dim is not None and array.shape[1] != dim:
        raise ValueError(f"{name} has {array.shape[1]} columns, expected {dim}: one space for all")
    return array


def distance_blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows of x, their distances to all of y), in blocks of bounded memory."""
    step = max(1, intervals.BLOCK // len(y))
    for start in range(0, len(x), step):
        part = slice(start, min(start + step, len(x)))
        yield part, cdist(x[part], y)


def _kth(x: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    if x.shape[1] <= TREE_DIM:
        return KDTree(reference).query(x, k=[k])[0][:, 0]  # pyright: ignore[reportArgumentType]
    found = np.empty(len(x))
    for part, distance in distance_blocks(x, reference):
        found[part] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return found


def knn_distance(x: Any, reference: Any = None, k: int = 1) -> np.ndarray:
    """Euclidean distance (n,) from each row of x (n, d) to its k-th nearest row of reference.

    Without a reference the neighbours are the other rows of x, each row itself left out (a copy
    of it elsewhere in x counts). Raises ValueError unless 1 <= k <= the number of candidates.
    """
    x = rows("x", x)
    own = reference is None
    reference = x if own else rows("reference", reference, x.shape[1])
    most = len(reference) - own
    if not 1 <= k <= most:
        raise ValueError(f"k must lie in 1..{most}, the neighbours there are, got {k!r}")
    return _kth(x, reference, k + own)


def knn_support(
    x: Any, reference: Any, calibration: Any = None, k: int = 1, quantile: float = 0.99
) -> float:
    """Share of x (n, d) farther from the reference (m, d) than data of its own law is.

    The threshold is the `quantile` of the k-NN distances to the reference of `calibration`, a
    sample of the reference's law held out from it; without one, of the reference's rows to each
    other, each itself left out. Data of that law therefore score about 1 - quantile, not 0.

    Raises ValueError for a quantile outside (0, 1), mismatched columns or too large a k.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie strictly between 0 and 1, got {quantile!r}")
    own = (
        knn_distance(reference, None, k)
        if calibration is None
        else knn_distance(calibration, reference, k)
    )
    threshold = np.quantile(own, quantile)
    return float((knn_distance(x, reference, k) > threshold).mean())


def prdc(real: Any, fake: Any, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of fake (m, d) against real (n, d).

    B(y) is the open ball around y through its k-th nearest neighbour in y's own sample. precision:
    share of fake inside some B(real); recall: share of real inside some B(fake); density: mean
    over fake of the number of B(real) around it, over k (above 1 where fake crowds the modes);
    coverage: share of real whose ball holds a fake. All but density lie in [0, 1].

    Raises ValueError for mismatched columns or unless k < n and k < m.
    """
    real = rows("real", real)
    fake = rows("fake", fake, real.shape[1])
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k must be at least 1 and below both sample sizes {len(real)} and {len(fake)}, "
            f"got {k!r}"
        )
    real_radius, fake_radius = knn_distance(real, None, k), knn_distance(fake, None, k)
    around = np.zeros(len(fake), dtype=np.int64)
    recalled = np.zeros(len(real), dtype=bool)
    covered = np.zeros(len(real), dtype=bool)
    for part, distance in distance_blocks(real, fake):
        inside = distance < real_radius[part, None]
        around += inside.sum(0)
        covered[part] = inside.any(1)
        recalled[part] = (distance < fake_radius).any(1)
    return {
        "precision": float((around > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(around.mean() / k),
        "coverage": float(covered.mean()),
    }
