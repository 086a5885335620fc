"""Real handwritten digits as a target: a mixture fitted to each class, then exact.

Data: the 1,797 8x8 images that ship with scikit-learn (optical recognition of handwritten digits,
E. Alpaydin, C. Kaynak, UCI 1998), pixels 0..16 mapped to [-1, 1], in 64 dimensions. Half of each
class trains, the other half is held out and only ever compared with.

Each class is a mixture of k Gaussians at k-means centres that share one covariance, the pooled
within-cluster one shrunk towards a multiple of the identity,

    Sigma = (1 - s) S + s (tr S / 64) I,

with k and s chosen by cross-validated likelihood inside the training half. Grey levels are
dequantised by uniform noise of one level, without which pixels that never vary would reward
s -> 0 without bound. The marginal is all ten classes by frequency. Denoisers, odds and samples
are exact FOR THE FITTED MIXTURE, not for the handwriting it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from assay.core import components, mixture, special
from assay.guidance.target import Target

SHAPE = (8, 8)
_LEVEL = 2 / 16  # one grey level of the [-1, 1] scale
_COMPONENTS = (1, 2, 3, 4, 6, 8)
_SHRINKAGE = (0.02, 0.05, 0.1, 0.2, 0.4)
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class DigitsTarget(Target):
    """A target with the images it was fitted to and those held out, each (n, 64) in [-1, 1]."""

    train: np.ndarray | None = None
    heldout: np.ndarray | None = None
    shape: tuple[int, int] = SHAPE


class Fit(NamedTuple):
    """One class: its mixture, what cross-validation chose, the score, the two halves."""

    law: mixture.Mixture
    n_components: int
    shrinkage: float
    log_likelihood: float  # nats an image, mean over the validation folds
    train: np.ndarray
    heldout: np.ndarray


def target(label: int = 3, seed: int = 0) -> DigitsTarget:
    """Class = images of one digit, 0 to 9; marginal = all ten by frequency.

    seed: of the split into halves, the dequantisation and the folds. ValueError for another label.
    """
    if label not in range(10):
        raise ValueError(f"label {label!r} must be a digit, 0 to 9")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed {seed!r} must be an integer >= 0")
    fits, share = fitted(seed)
    others = [d for d in range(10) if d != label]
    rest = mixture.Mixture([share[d] for d in others], [fits[d].law for d in others])
    uncond = mixture.Mixture(list(share), [f.law for f in fits])
    own = fits[label]
    return DigitsTarget(
        "digits", {"label": int(label), "seed": seed}, own.law, uncond,
        float(share[label]), rest, own.train, own.heldout,
    )  # fmt: skip


def images(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training, held-out) images of each digit, each (n, 64) in [-1, 1]; halves by ``seed``."""
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    x, y = np.asarray(pixels) / 8.0 - 1.0, np.asarray(y)
    rng = np.random.default_rng(seed)
    halves = []
    for digit in range(10):
        own = rng.permutation(np.flatnonzero(y == digit))
        half = len(own) // 2
        halves.append((x[own[:half]], x[own[half:]]))
    return halves


@lru_cache(maxsize=4)
def fitted(seed: int = 0) -> tuple[tuple[Fit, ...], np.ndarray]:
    """The ten classes' fits and their frequencies in the training halves."""
    halves = images(seed)
    rng = np.random.default_rng([seed, 1])
    fits = tuple(_fit_class(train, heldout, rng) for train, heldout in halves)
    counts = np.array([len(train) for train, _ in halves], dtype=np.float64)
    return fits, counts / counts.sum()


def _fit_class(train: np.ndarray, heldout: np.ndarray, rng: np.random.Generator) -> Fit:
    grey = _dequantised(train, rng)
    folds = rng.permutation(len(grey)) % _FOLDS
    scores = {(k, s): 0.0 for k in _COMPONENTS for s in _SHRINKAGE}
    for fold in range(_FOLDS):
        inside, outside = grey[folds != fold], grey[folds == fold]
        for k in _COMPONENTS:
            centres, weights, pooled = _clusters(inside, k)
            for s in _SHRINKAGE:
                found = log_likelihood(outside, centres, weights, _shrunk(pooled, s))
                scores[k, s] += float(found.sum()) / len(grey)
    (k, s), best = max(scores.items(), key=lambda item: item[1])
    centres, weights, pooled = _clusters(grey, k)
    cov = _shrunk(pooled, s)
    law = mixture.Mixture(weights, [components.Gaussian(c, cov) for c in centres])
    return Fit(law, k, s, best, train, heldout)


def _dequantised(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + rng.uniform(-_LEVEL / 2, _LEVEL / 2, x.shape)


def _clusters(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k-means centres, their shares, the pooled within-cluster covariance."""
    from sklearn.cluster import KMeans

    found = KMeans(k, n_init=2, random_state=0).fit(x)  # pyright: ignore[reportArgumentType]
    labels = np.asarray(found.labels_)
    own = found.cluster_centers_[labels]
    pooled = (x - own).T @ (x - own) / max(len(x) - k, 1)
    return found.cluster_centers_, np.bincount(labels, minlength=k) / len(x), pooled


def _shrunk(pooled: np.ndarray, shrinkage: float) -> np.ndarray:
    dim = pooled.shape[0]
    cov = (1 - shrinkage) * pooled + shrinkage * np.trace(pooled) / dim * np.eye(dim)
    return (cov + cov.T) / 2


def log_likelihood(
    x: np.ndarray, centres: np.ndarray, weights: np.ndarray, cov: np.ndarray
) -> np.ndarray:
    """log density (n,) of x (n, d) under Gaussians of one covariance at centres (k, d)."""
    half = np.linalg.cholesky(cov)
    white = np.linalg.solve(half, (x[:, None] - centres).reshape(-1, x.shape[1]).T)
    squares = np.sum(white**2, axis=0).reshape(len(x), -1)
    scale = np.log(np.diag(half)).sum() + x.shape[1] / 2 * np.log(2 * np.pi)
    return special.logsumexp(np.log(weights) - squares / 2, axis=1) - scale


def describe(seed: int = 0) -> list[dict[str, Any]]:
    """What cross-validation chose for each class, as rows."""
    fits, share = fitted(seed)
    rng = np.random.default_rng([seed, 2])
    return [
        {
            "digit": digit,
            "share": float(share[digit]),
            "n_train": len(f.train),
            "n_heldout": len(f.heldout),
            "n_components": f.n_components,
            "shrinkage": f.shrinkage,
            "log_likelihood_cv": f.log_likelihood,
            "log_likelihood_heldout": float(
                np.mean(f.law.log_prob(_dequantised(f.heldout, rng), 0.0))
            ),
        }
        for digit, f in enumerate(fits)
    ]
