"""How good guided digits are, against held-out images and by a classifier of its own.

The judge is a small network of scikit-learn, trained on the real images of the part ``judge``
alone, which no denoiser was trained on (each also moved by a pixel); log-odds are those of the
class, ln p(class | x) - ln(1 - p(class | x)), and its last hidden layer gives the features of the
Frechet distance. Everything else compares with the held-out images of the same digit:

    knn       distance to the nearest one over the median of theirs to each other (1 is real)
    far       share beyond the 95 % quantile of theirs to each other (0.05 is real)
    range     amount by which pixels leave [-1, 1], mean over pixels, and the share of pixels
              that leave it by more than SLACK
    precision, recall, density, coverage    with k = 5 (Naeem et al. 2020, arXiv 2002.09797)
    vendi     effective number of different images, Gaussian kernel of one width for all w
    frechet   |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) (Heusel et al. 2017, arXiv 1706.08500)

Intervals are of 95 %: bootstrap over samples for means, Wilson for shares, and for vendi and
frechet the normal ones of a jackknife that leaves out one of GROUPS groups at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from assay.core import intervals, neighbours, stats
from assay.guidance.images import data as image_data

SLACK = 0.05  # beyond [-1, 1]: less than half a grey level of the 8x8 digits
K, GROUPS = 5, 8
# measure -> whether more is better
BETTER = {
    "log_odds": True, "knn": False, "far": False, "range_amount": False, "precision": True,
    "recall": True, "density": True, "coverage": True, "vendi": True, "frechet": False,
}  # fmt: skip


class _Learned(NamedTuple):
    width: int
    epochs: int
    rate: float
    decay: float


_LEARNED = {"digits8": _Learned(128, 40, 2e-3, 1e-2), "digits28": _Learned(256, 16, 1e-3, 0.3)}
_FEATURES, _SHIFT = 16, 1  # width of the last hidden layer, pixels


@dataclass(frozen=True, eq=False)
class Judge:
    """The independent classifier; accuracy on held-out images with its Wilson interval."""

    net: Any
    n_train: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float

    def features(self, x: np.ndarray) -> np.ndarray:
        """(n, f) activations of the last hidden layer for images (n, d)."""
        for weights, bias in zip(self.net.coefs_[:-1], self.net.intercepts_[:-1], strict=True):
            x = np.maximum(x @ weights + bias, 0.0)
        return x

    def log_odds(self, x: np.ndarray, digit: int) -> np.ndarray:
        """(n,) nats of the digit against all others."""
        logits = self.features(x) @ self.net.coefs_[-1] + self.net.intercepts_[-1]
        others = np.delete(logits, digit, axis=1)
        return logits[:, digit] - np.logaddexp.reduce(others, axis=1)


@lru_cache(maxsize=2)
def judge(name: str) -> Judge:
    """The classifier of a data set, trained anew within seconds, always the same."""
    from sklearn.neural_network import MLPClassifier

    images, how = image_data.load(name), _LEARNED[name]
    x, y = _moved(images.judge, _SHIFT)
    options = {"alpha": how.decay, "learning_rate_init": how.rate, "batch_size": 64}
    net = MLPClassifier((how.width, _FEATURES), random_state=0, **options)
    for _ in range(how.epochs):
        net.partial_fit(x, y, classes=np.arange(image_data.N_LABELS))
    right = np.asarray(net.predict(_flat(images.heldout.x))) == images.heldout.y
    low, high = intervals.wilson(int(right.sum()), len(right))
    return Judge(net, len(images.judge.y), float(right.mean()), low, high)


def _moved(part: image_data.Part, far: int) -> tuple[np.ndarray, np.ndarray]:
    """Images moved by up to ``far`` pixels either way, flat, and their digits."""
    size, places = part.x.shape[1], range(2 * far + 1)
    padded = np.pad(part.x, ((0, 0), (far, far), (far, far)), constant_values=-1.0)
    every = [padded[:, a : a + size, b : b + size] for a in places for b in places]
    return _flat(np.concatenate(every)), np.tile(part.y, len(every))


def _flat(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)


@dataclass(frozen=True, eq=False)
class Reference:
    """The held-out images of one digit and what is known of them."""

    digit: int
    real: np.ndarray
    judge: Judge
    middle: float  # of the nearest distances of real images to each other
    edge: float
    radius: np.ndarray  # to the K-th nearest
    width: float
    features: np.ndarray


@lru_cache(maxsize=32)
def reference(name: str, digit: int) -> Reference:
    """The yardstick of a digit of a data set."""
    real, own = _flat(image_data.load(name).heldout.of(digit)), judge(name)
    near = neighbours.knn_distance(real)
    return Reference(
        digit, real, own, float(np.median(near)), float(np.quantile(near, 0.95)),
        neighbours.knn_distance(real, None, K), stats.median_distance(real), own.features(real),
    )  # fmt: skip


def quality(
    x: np.ndarray, denoised: np.ndarray, ref: Reference, seed: int = 0
) -> dict[str, float | int]:
    """Every measure of guided samples (n, d), each with _low and _high, n > K.

    denoised: after the final denoise, which all measures are of but range_amount_x and
    range_share_x, those of x at sigma_min.
    """
    rng, n = np.random.default_rng(seed), len(denoised)
    near = neighbours.knn_distance(denoised, ref.real)
    apart = cdist(ref.real, denoised)
    around = apart < ref.radius[:, None]
    row: dict[str, Any] = {"n": n, "n_data": len(ref.real)}
    samples = {
        "log_odds": ref.judge.log_odds(denoised, ref.digit),
        "knn": near / ref.middle,
        "density": around.sum(axis=0) / K,
        "range_amount": _beyond(denoised).mean(axis=1),
        "range_amount_x": _beyond(x).mean(axis=1),
        "range_share": (_beyond(denoised) > SLACK).mean(axis=1),
        "range_share_x": (_beyond(x) > SLACK).mean(axis=1),
    }
    for name, each in samples.items():
        row |= _told(name, *intervals.bootstrap(each, n_resamples=500, rng=rng))
    reach = neighbours.knn_distance(denoised, None, K)
    shares = {
        "far": near > ref.edge,
        "precision": around.any(axis=0),
        "recall": (apart < reach).any(axis=1),
        "coverage": around.any(axis=1),
    }
    for name, each in shares.items():
        row |= _told(name, each.mean(), *intervals.wilson(int(each.sum()), len(each)))
    kernel = np.exp(-cdist(denoised, denoised, "sqeuclidean") / (2 * ref.width**2))
    features = ref.judge.features(denoised)
    whole = {
        "vendi": lambda kept: stats.vendi(kernel[np.ix_(kept, kept)], "given"),
        "frechet": lambda kept: frechet(features[kept], ref.features),
    }
    for name, statistic in whole.items():
        row |= _told(name, *_jackknife(n, statistic))
    return row


def _jackknife(n: int, statistic: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    """(value, low, high) of a statistic of the lines that are kept, (m,) of 0 ... n - 1."""
    group = np.arange(n) * GROUPS // n
    value = statistic(np.arange(n))
    without = np.array([statistic(np.flatnonzero(group != g)) for g in range(GROUPS)])
    half = 1.96 * np.sqrt((GROUPS - 1) * without.var())
    return value, value - half, value + half


def _told(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def _beyond(x: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) - 1, 0.0)


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Frechet distance of the Gaussians of two samples (n, f) and (m, f)."""
    first, second = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ second @ root)
    apart = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2)
    both = np.trace(first) + np.trace(second)
    return float(apart + both - 2 * np.sqrt(np.maximum(cross, 0)).sum())


def real_row(name: str, digit: int, n: int) -> dict[str, Any]:
    """What up to n real images of a digit score, of the part train: every measure's yardstick."""
    real = _flat(image_data.load(name).train.of(digit)[:n])
    return quality(real, real, reference(name, digit))
