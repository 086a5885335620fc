"""A reference for many dimensions: held-out data as a mixture of Gaussians.

In many dimensions the empirical posterior has one neighbour at most noise levels, and only a model
with few parameters says anything. This one has k centres and one covariance

    Sigma = (1 - s) S + s (tr S / d) I,

or, where each centre has its own, Sigma_k = t S_k + (1 - t) Sigma with t = n_k / (n_k + d) for n_k
data in d dimensions: the fewer data, the more of the common one. Centres and shares are fitted by
expectation-maximisation from k-means centres under one covariance. It denoises exactly, and is as
good as its assumption, which the held-out loss alone can judge:
:mod:`assay.guidance.monitoring.levels` weighs it against the posterior, level by level. Fits
without a group start from the fit to all data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from assay.core import components, mixture
from assay.guidance.monitoring.posterior import Look

_ROUNDS, _REFITS = 30, 6  # of expectation-maximisation: from k-means, from the fit to all data
_FLOOR = 1e-6  # least variance, as a share of the mean one


@dataclass(frozen=True)
class _Fit:
    """Shares (k,), centres (k, d), the covariance (d, d) they share and their own (k, d, d), the
    part (k,) of it that counts."""

    weights: np.ndarray
    centres: np.ndarray
    cov: np.ndarray
    own: np.ndarray | None = None
    part: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Gaussians:
    """k Gaussians of one covariance, shrunk by a share towards a multiple of the identity, or of
    a covariance each."""

    groups: Sequence[np.ndarray]
    k: int = 1
    shrinkage: float = 0.0
    apart: bool = False

    @property
    def name(self) -> str:
        if self.apart:
            return f"{self.k} Gaussians, shrunk by {self.shrinkage:g}"
        return f"{self.k} Gaussians of one covariance, shrunk by {self.shrinkage:g}"

    def look(self, x: np.ndarray, sigma: float) -> Look:
        """Denoised (n, d) by the fit to all data, and by those without each group."""
        without = [law.denoise(x, sigma) for law in self._laws[1:]]
        return Look(self._laws[0].denoise(x, sigma), np.stack(without))

    def unseen(self, x: np.ndarray, sigma: float, own: np.ndarray) -> np.ndarray:
        """Denoised (n, d), each row by the fit without its group ``own`` (n,)."""
        out = np.empty_like(x)
        for g, law in enumerate(self._laws[1:]):
            at = own == g
            if at.any():
                out[at] = law.denoise(x[at], sigma)
        return out

    @cached_property
    def _laws(self) -> list[mixture.Mixture]:
        whole = np.concatenate(list(self.groups))
        first = _fit(whole, _start(whole, self.k), _ROUNDS)
        parts = [
            _fit(np.concatenate([x for i, x in enumerate(self.groups) if i != g]), first, _REFITS)
            for g in range(len(self.groups))
        ]
        fits = [first, *parts]
        if self.apart:
            left = [np.concatenate([x for i, x in enumerate(self.groups) if i != g])
                    for g in range(len(self.groups))]  # fmt: skip
            fits = [_apart(x, fit) for x, fit in zip([whole, *left], fits, strict=True)]
        return [_law(fit, self.shrinkage) for fit in fits]


def _start(x: np.ndarray, k: int) -> _Fit:
    if k == 1:
        labels = np.zeros(len(x), dtype=int)
    else:
        from sklearn.cluster import KMeans

        found = KMeans(k, n_init=1, random_state=0).fit(x)  # pyright: ignore[reportArgumentType]
        labels = np.asarray(found.labels_)
    return _refit(x, np.eye(k)[labels])


def _fit(x: np.ndarray, start: _Fit, rounds: int) -> _Fit:
    fit = start
    for _ in range(1 if len(start.weights) == 1 else rounds):
        fit = _refit(x, _shares(x, fit))
    return fit


def _refit(x: np.ndarray, shares: np.ndarray) -> _Fit:
    """Maximisation: from shares (n, k) of each datum."""
    count = shares.sum(axis=0) + 1e-12
    centres = shares.T @ x / count[:, None]
    second = x.T @ x - (centres * count[:, None]).T @ centres
    cov = second / max(len(x) - len(count), 1)
    floor = _FLOOR * np.trace(cov) / len(cov) + 1e-300
    return _Fit(count / count.sum(), centres, (cov + cov.T) / 2 + floor * np.eye(len(cov)))


def _apart(x: np.ndarray, fit: _Fit) -> _Fit:
    """The same with the covariance of each centre's data."""
    shares = _shares(x, fit)
    count = shares.sum(axis=0) + 1e-12
    second = np.einsum("nk,ni,nj->kij", shares, x, x, optimize=True) / count[:, None, None]
    centres = shares.T @ x / count[:, None]
    own = second - centres[:, :, None] * centres[:, None, :]
    return replace(fit, centres=centres, own=own, part=count / (count + x.shape[1]))


def _shares(x: np.ndarray, fit: _Fit) -> np.ndarray:
    """Expectation: P(centre | datum), (n, k)."""
    white = np.linalg.inv(np.linalg.cholesky(fit.cov))
    a, b = x @ white.T, fit.centres @ white.T
    square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
    joint = np.log(fit.weights + 1e-300) - square / 2
    shares = np.exp(joint - joint.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _law(fit: _Fit, shrinkage: float) -> mixture.Mixture:
    dim = len(fit.cov)
    even = np.trace(fit.cov) / dim * np.eye(dim)
    cov = (1 - shrinkage) * fit.cov + shrinkage * even
    every = [cov] * len(fit.centres)
    if fit.own is not None and fit.part is not None:
        every = [t * (own + own.T) / 2 + (1 - t) * cov
                 for t, own in zip(fit.part, fit.own, strict=True)]  # fmt: skip
    gaussians = [components.Gaussian(c, s) for c, s in zip(fit.centres, every, strict=True)]
    return mixture.Mixture(fit.weights, gaussians)
