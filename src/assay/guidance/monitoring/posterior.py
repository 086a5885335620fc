"""What held-out samples say of E[x0 | x]: the empirical posterior, and how far to trust it.

With held-out x_1 ... x_n and x = x0 + sigma noise, the empirical posterior weighs each of them,

    w_j(x) = exp(-|x - x_j|^2 / 2 s^2) / sum_k exp(-|x - x_k|^2 / 2 s^2),   m(x; s) = sum w_j x_j,

and m(x; sigma) estimates E[x0 | x] without a model, from effectively 1 / sum_j w_j^2 neighbours.
Where these are few, smoothing over a width b takes more of them: the score of the law at
s^2 = sigma^2 + b^2 stands in for that at sigma,

    D(x, sigma) = x + (sigma / s)^2 (m(x; s) - x),

exact at b = 0, and as b grows biased where the density bends within b.

Data come in groups. Every answer is also given without each group in turn: a datum is never asked
about itself, and n_groups answers give the jackknife's bias and variance (Quenouille 1956, Tukey
1958). Weights are kept as logarithms, group by group, so that none underflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from assay.core.special import logsumexp

_BLOCK = 1 << 21  # weights held at a time


class Look(NamedTuple):
    """Answers at x (n, d): from all data (n, d), and without each group (G, n, d)."""

    whole: np.ndarray
    without: np.ndarray


class Crowd(NamedTuple):
    """Held-out data around x (n, d): effective neighbours (n,), log of the summed weights (n,)."""

    neighbours: np.ndarray
    log_density: np.ndarray


class Reference(Protocol):
    """An estimate of E[x0 | x] from held-out data, with and without each group."""

    @property
    def name(self) -> str: ...

    def look(self, x: np.ndarray, sigma: float) -> Look: ...

    def unseen(self, x: np.ndarray, sigma: float, own: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Posterior:
    """The empirical posterior of data (n, d) in groups, smoothed over a width >= 0.

    groups: one array of rows for each group, none empty.
    """

    groups: Sequence[np.ndarray]
    width: float = 0.0

    @property
    def name(self) -> str:
        return f"posterior, width {self.width:.3g}" if self.width else "posterior"

    def look(self, x: np.ndarray, sigma: float) -> Look:
        """Answers at x (n, d), sigma > 0, with and without each group."""
        return self.survey(x, sigma)[0]

    def survey(self, x: np.ndarray, sigma: float) -> tuple[Look, Crowd]:
        """Answers at x (n, d), and the data around it."""
        log_mass, means, log_squares = self._sums(x, sigma)
        whole = self._denoised(x, sigma, log_mass, means)
        without = []
        for g in range(len(self.groups)):
            kept = log_mass.copy()
            kept[:, g] = -np.inf
            without.append(self._denoised(x, sigma, kept, means))
        asked = np.array(float(sum(len(g) for g in self.groups)))
        return Look(whole, np.stack(without)), _crowd(log_mass, log_squares, asked)

    def unseen(self, x: np.ndarray, sigma: float, own: np.ndarray) -> np.ndarray:
        """Answers (n, d) without the group ``own`` (n,) of each row."""
        log_mass, means, _ = self._sums(x, sigma)
        log_mass[np.arange(len(x)), own] = -np.inf
        return self._denoised(x, sigma, log_mass, means)

    def crowd(self, x: np.ndarray, sigma: float, own: np.ndarray | None = None) -> Crowd:
        """How many held-out data are around x (n, d), without the group ``own`` (n,) of each.

        log_density: ln of the mean weight over the data asked, one Gaussian kernel at s.
        """
        log_mass, _, log_squares = self._sums(x, sigma)
        count = np.array([len(g) for g in self.groups], dtype=float)
        asked = np.full(len(x), count.sum())
        if own is not None:
            rows = np.arange(len(x))
            log_mass[rows, own] = log_squares[rows, own] = -np.inf
            asked = asked - count[own]
        return _crowd(log_mass, log_squares, asked)

    def _spread(self, sigma: float) -> float:
        return float(np.hypot(sigma, self.width))

    def _sums(self, x: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ln sum w (n, G), mean (n, G, d) and ln sum w^2 (n, G) of each group."""
        s = self._spread(sigma)
        parts = []
        for data in self.groups:
            step = max(1, _BLOCK // len(data))
            found = [_sums(x[i : i + step], data, s) for i in range(0, len(x), step)]
            parts.append([np.concatenate(p) for p in zip(*found, strict=True)])
        mass, means, squares = (np.stack(p, axis=1) for p in zip(*parts, strict=True))
        return mass, means, squares

    def _denoised(
        self, x: np.ndarray, sigma: float, log_mass: np.ndarray, means: np.ndarray
    ) -> np.ndarray:
        share = np.exp(log_mass - log_mass.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        mean = np.einsum("ng,ngd->nd", share, means)
        return x + (sigma / self._spread(sigma)) ** 2 * (mean - x)


def _crowd(log_mass: np.ndarray, log_squares: np.ndarray, asked: np.ndarray) -> Crowd:
    """From the groups' ln sum w and ln sum w^2, (n, G) each, and how many data were asked."""
    total = logsumexp(log_mass, 1)
    return Crowd(np.exp(2 * total - logsumexp(log_squares, 1)), total - np.log(asked))


def _sums(x: np.ndarray, data: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ln sum w, mean and ln sum w^2 over one group's data, for rows x (n, d)."""
    if x.shape[1] == 1:
        log_w = -((x - data.T) ** 2) / (2 * s * s)
    else:
        square = np.sum(x**2, axis=1)[:, None] + np.sum(data**2, axis=1) - 2 * x @ data.T
        log_w = square / (-2 * s * s)
    top = log_w.max(axis=1)
    w = np.exp((log_w - top[:, None]).astype(np.float32)).astype(np.float64)
    total = w.sum(axis=1)
    squares = np.einsum("nj,nj->n", w, w)
    return top + np.log(total), (w @ data) / total[:, None], 2 * top + np.log(squares)
