"""Components of one kind stacked, so that a mixture is a few matrix products and no loop.

Every stack of K components answers one question at x = x0 + sigma * noise: the K log densities
ln p_k(x; sigma), and for weights r_k both sums over components

    sum_k r_k E[x0 | x, k]    and    sum_k r_k grad ln p_k(x; sigma).

* Gaussian N(m, Q diag(lam) Q'), in its eigenbasis computed once: v = lam + sigma^2,
  E[x0 | x] = m + lam/v (x - m), score = (m - x)/v. A point mass is lam = 0.
* Box: per coordinate N(m, 1/q) cut to [low, high], q = 0 for the uniform law. Given x it is again
  a cut normal, of centre m + s (x - m) and variance s sigma^2, with share s = 1/(1 + q sigma^2).
  The score (centre - x)/sigma^2 + ... is taken from the moments, never as (E[x0|x] - x)/sigma^2.

|x - m_k|^2 is expanded into matrix products only where that costs less than ``_LOSS`` in the log
density; elsewhere the expansion is done in two halves, or differences are formed directly.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from assay.core import truncated
from assay.core.special import Array, as_float64, namespace, param

Level = Any  # sigma: a float, or a column (batch or 1, 1)
_LOG_2PI = float(np.log(2 * np.pi))
_HALF = 20  # bits of the coarse half: products of two, 2^12 of them, are exact in float64
_LOSS = {8: 1e-11, 4: 1e-4}  # allowed rounding error of a log density, by bytes per number


class Posterior(NamedTuple):
    """Of K components given x: log densities (batch, K); sums by weights (batch, K)."""

    log_prob: Array
    denoised: Callable[[Array], Array]
    score: Callable[[Array], Array]


class Stack(Protocol):
    """K components over d coordinates, evaluated together."""

    @property
    def size(self) -> int:
        """K, the number of components."""
        ...

    @property
    def dim(self) -> int:
        """Number d of coordinates."""
        ...

    @property
    def key(self) -> Hashable:
        """Kind and parameters: stacks of equal keys are equal."""
        ...

    def cells(self, x: Array, sigma: Level) -> int:
        """Numbers held at once per row of x."""
        ...

    def at(self, x: Array, sigma: Level) -> Posterior:
        """Evaluate at x (batch, d)."""
        ...

    def density(self, x: Array) -> Array:
        """Log densities (batch, K) of the data, sigma = 0."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianStack:
    """means (K, d); spectra (K, d), or (1, d) shared; bases None (identity), (1 or K, d, d)."""

    means: np.ndarray
    spectra: np.ndarray
    bases: np.ndarray | None = None

    @property
    def size(self) -> int:
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @cached_property
    def covariance(self) -> Hashable:
        """Equal for stacks of equal spectra and bases."""
        return self.spectra.tobytes(), None if self.bases is None else self.bases.tobytes()

    @property
    def key(self) -> Hashable:
        return "gaussian", self.means.tobytes(), self.covariance

    @cached_property
    def centre(self) -> np.ndarray:
        """Origin of all differences: the smaller the means' offsets, the less rounding."""
        return self.means.mean(axis=0)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Means from the centre, in the eigenbasis."""
        offsets = self.means - self.centre
        return offsets if self.bases is None else (offsets[:, None, :] @ self.bases)[:, 0]

    @cached_property
    def _reach(self) -> tuple[np.ndarray, np.ndarray]:
        return (self.offsets**2).max(axis=0), self.spectra.min(axis=0)

    def _apart(self, sigma: Level) -> bool:
        """Whether a (batch, K, d) array cannot be avoided."""
        own_basis = self.bases is not None and len(self.bases) > 1
        return own_basis or (len(self.spectra) > 1 and not isinstance(sigma, float))

    def _bits(self, x: Array, sigma: Level) -> int | None:
        """How |y - m|^2 keeps within ``_LOSS``: 0 expanded, > 0 in exact halves, None directly."""
        if self.size == 1:  # the only mean is the centre
            return 0
        xp = namespace(x)
        floor = sigma if isinstance(sigma, float) else float(as_float64(sigma).min())
        squares, low = self._reach
        loss = float(xp.finfo(x.dtype).eps * np.sum(squares / (low + floor * floor)))
        if loss <= _LOSS[x.dtype.itemsize]:
            return 0
        halves = isinstance(sigma, float) and len(self.spectra) == 1 and x.dtype.itemsize == 8
        return _HALF if halves and loss <= 2**_HALF * _LOSS[8] else None

    def cells(self, x: Array, sigma: Level) -> int:
        if not self._apart(sigma) and self._bits(x, sigma) is not None:
            return self.size + self.dim
        return self.size * self.dim

    def density(self, x: Array) -> Array:
        if not np.all(self.spectra > 0):
            raise ValueError(
                "sigma=0: point masses and singular Gaussians have no density; take sigma > 0"
            )
        return self.at(x, 0.0).log_prob

    def at(self, x: Array, sigma: Level) -> Posterior:
        return self._at_apart(x, sigma) if self._apart(sigma) else self._at_common(x, sigma)

    def _at_common(self, x: Array, sigma: Level) -> Posterior:
        """One basis for all: y, v and the offsets in it; v is (1 or batch, d) or (K, d)."""
        xp = namespace(x)
        basis = None if self.bases is None else param(self.bases[0], x)
        centre, offsets, lam = (param(a, x) for a in (self.centre, self.offsets, self.spectra))
        y = x - centre if basis is None else (x - centre) @ basis
        v = lam + sigma * sigma
        shared = len(self.spectra) == 1

        def back(z: Array) -> Array:
            return z if basis is None else z @ basis.T

        def denoised(r: Array) -> Array:
            if not self.spectra.any():
                return r @ param(self.means, x)
            total = xp.sum(r, axis=-1, keepdims=True)
            if shared:
                inner = ((r @ offsets) * (sigma * sigma) + y * total * lam) / v
            else:
                inner = r @ (offsets * (sigma * sigma / v)) + y * (r @ (lam / v))
            return total * centre + back(inner)

        def score(r: Array) -> Array:
            if shared:
                return back((r @ offsets - y * xp.sum(r, axis=-1, keepdims=True)) / v)
            return back(r @ (offsets / v) - y * (r @ (1 / v)))

        square = self._squares(y, offsets, v, self._bits(x, sigma))
        log_det = xp.sum(xp.log(v), axis=-1)
        log_det = log_det[:, None] if shared else log_det
        return Posterior(-0.5 * (square + log_det + self.dim * _LOG_2PI), denoised, score)

    def _squares(self, y: Array, offsets: Array, v: Array, bits: int | None) -> Array:
        """sum over coordinates of (y - offsets)^2 / v, (batch, K)."""
        xp = namespace(y)
        shared = len(self.spectra) == 1
        if bits is None:
            z = y[:, None, :] - offsets
            z = z * z
            if v.shape[0] == 1:
                return z @ (1 / v[0])
            return xp.sum(z / (v[:, None, :] if shared else v), axis=-1)
        if bits:
            return _in_halves(y, offsets, v, bits)
        if shared:
            scaled = y / v
            own = xp.sum(y * scaled, axis=-1, keepdims=True)
            return own - 2 * (scaled @ offsets.T) + (1 / v) @ (offsets * offsets).T
        scaled = offsets / v
        return (y * y) @ (1 / v).T - 2 * (y @ scaled.T) + xp.sum(offsets * scaled, axis=-1)

    def _at_apart(self, x: Array, sigma: Level) -> Posterior:
        """A basis, or a row of variances, for each component: all differences z (batch, K, d)."""
        xp = namespace(x)
        centre, offsets, lam = (param(a, x) for a in (self.centre, self.offsets, self.spectra))
        turn, back = self._turns(x)
        z = turn(x - centre) - offsets
        sigma = sigma if isinstance(sigma, float) else sigma[:, None, :]
        v = lam + sigma * sigma
        ratio = z / v
        log_prob = -0.5 * xp.sum(z * ratio + xp.log(v), axis=-1) - 0.5 * self.dim * _LOG_2PI

        def denoised(r: Array) -> Array:
            return xp.sum(r, axis=-1, keepdims=True) * centre + back(r, offsets + ratio * lam)

        return Posterior(log_prob, denoised, lambda r: -back(r, ratio))

    def _turns(self, x: Array) -> tuple[Callable[..., Array], Callable[..., Array]]:
        """Into every basis (batch, K or 1, d), and the weighted sum of the way back."""
        if self.bases is None:
            return lambda y: y[:, None, :], _weighted
        if len(self.bases) == 1:
            basis = param(self.bases[0], x)
            return lambda y: (y @ basis)[:, None, :], lambda r, u: _weighted(r, u) @ basis.T
        size, dim = self.size, self.dim
        side_by_side = param(np.moveaxis(self.bases, 0, 1).reshape(dim, size * dim), x)

        def back(r: Array, u: Array) -> Array:
            return (r[:, :, None] * u).reshape((-1, size * dim)) @ side_by_side.T

        return lambda y: (y @ side_by_side).reshape((-1, size, dim)), back


def _in_halves(y: Array, m: Array, v: Array, bits: int) -> Array:
    """sum of (y - m)^2 / v expanded without loss, v (1, d).

    y = a + p and m = b + q, with a and b on a grid so coarse (``bits`` to the largest offset) that
    sums of their products are exact; what is left is 2^-bits smaller, and so is its rounding.
    """
    xp = namespace(y)
    root = xp.sqrt(v)
    y, m = y / root, m / root
    step = 2.0 ** (np.ceil(np.log2(float(xp.max(xp.abs(m))))) - bits)
    a, b = xp.round(y / step) * step, xp.round(m / step) * step
    p, q = y - a, m - b
    coarse = xp.sum(a * a, axis=-1)[:, None] - 2 * (a @ b.T) + xp.sum(b * b, axis=-1)
    own = xp.sum(p * (2 * a + p), axis=-1)[:, None] + xp.sum(q * (2 * b + q), axis=-1)
    return coarse + (own - 2 * (a @ q.T + p @ m.T))


def _weighted(r: Array, u: Array) -> Array:
    return (r[:, None, :] @ u)[:, 0]


@dataclass(frozen=True, eq=False)
class BoxStack:
    """Normal laws of the means and precisions (0: flat) cut to boxes; all four (K, d)."""

    means: np.ndarray
    precisions: np.ndarray
    lows: np.ndarray
    highs: np.ndarray

    @property
    def size(self) -> int:
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The four parameters in the constructor's order."""
        return self.means, self.precisions, self.lows, self.highs

    @property
    def key(self) -> Hashable:
        return "box", *(part.tobytes() for part in self.arrays)

    def cells(self, x: Array, sigma: Level) -> int:
        return 16 * self.size * self.dim  # the quadrature nodes of the moments

    @cached_property
    def constants(self) -> np.ndarray:
        """Log normalisers (K,), -inf or inf where a box holds no mass in float64."""
        flat = self.precisions == 0
        root = np.sqrt(np.where(flat, 1.0, self.precisions))
        low = np.where(flat, 0.0, (self.lows - self.means) * root)
        high = np.where(flat, 1.0, (self.highs - self.means) * root)
        width = np.where(flat, 1.0, (self.highs - self.lows) * root)
        cut = np.log(root) - _LOG_2PI / 2 - truncated.log_mass(low, high, width)
        volume = np.where(flat, self.highs - self.lows, 1.0)
        return np.sum(np.where(flat, -np.log(volume), cut), axis=-1)

    def density(self, x: Array) -> Array:
        xp = namespace(x)
        mean, precision, low, high = (param(a, x) for a in self.arrays)
        at = x[:, None, :]
        inside = xp.all((at >= low) & (at <= high), axis=-1)
        log_prob = -0.5 * xp.sum(precision * (at - mean) ** 2, axis=-1) + param(self.constants, x)
        return xp.where(inside, log_prob, xp.full_like(log_prob, -float("inf")))

    def at(self, x: Array, sigma: Level) -> Posterior:
        xp = namespace(x)
        mean, precision = param(self.means, x), param(self.precisions, x)
        sigma = sigma if isinstance(sigma, float) else sigma[:, None, :]
        share = 1 / (1 + precision * (sigma * sigma))
        sd = sigma * xp.sqrt(share)
        gap = x[:, None, :] - mean
        centre = mean + share * gap
        a, b = (_standard(edge, centre, sd) for edge in (self.lows, self.highs))
        cut = truncated.moments(a, b, _standard(self.highs - self.lows, 0.0 * centre, sd))
        log_prob = cut.log_mass - 0.5 * (precision * share * gap * gap) + 0.5 * xp.log(share)

        def denoised(r: Array) -> Array:
            # Within one sd of an edge the distance to that edge carries the digits.
            lower = cut.to_low <= cut.to_high
            nearer = xp.where(lower, cut.to_low, cut.to_high)
            close = nearer <= 1
            step = sd * xp.where(close, nearer, xp.zeros_like(nearer))
            edge = xp.where(lower, _finite(self.lows, x) + step, _finite(self.highs, x) - step)
            return _weighted(r, xp.where(close, edge, centre + sd * cut.mean))

        def score(r: Array) -> Array:
            return _weighted(r, cut.mean * (xp.sqrt(share) / sigma) - precision * share * gap)

        return Posterior(xp.sum(log_prob, axis=-1) + param(self.constants, x), denoised, score)


def _standard(edge: np.ndarray, centre: Array, sd: Array) -> Array:
    """(edge - centre) / sd, an infinite edge as a constant: its gradient in sd were 0 * inf."""
    z = (_finite(edge, centre) - centre) / sd
    bounded = np.isfinite(edge)
    if bounded.all():
        return z
    return namespace(z).where(param(bounded, z) > 0, z, param(edge, z))


def _finite(edges: np.ndarray, like: Array) -> Array:
    return param(np.where(np.isfinite(edges), edges, 0.0), like)
