"""Laws of x0 whose noisy versions x = x0 + sigma * noise are known exactly.

Gaussian, uniform box, truncated Gaussian, points (an empirical law) and products of any
components; :mod:`assay.core.mixture` mixes them. For each, at every sigma > 0 and in closed form:

    log_prob(x, sigma) = ln p(x; sigma),   p(.; sigma) = law of x0 + sigma * noise
    denoise(x, sigma)  = E[x0 | x]
    score(x, sigma)    = grad ln p(x; sigma) = (E[x0 | x] - x) / sigma^2      (Tweedie)

The last identity holds but is not how the score is computed: it would lose digits at small sigma.
Everything runs in log space, in the backend, dtype and device of ``x`` (numpy or torch), and torch
differentiates through it. Conventions of every method: x is (batch, d); sigma is a float or an
array broadcastable to (batch,); logarithms are natural; ValueError for anything else.

Reference: B. Efron, Tweedie's formula and selection bias, JASA 106 (2011), eq. 1.4.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from assay.core.pool import Leaves, Mixed, ProductStack, pooled, side_by_side
from assay.core.special import (
    Array,
    Rng,
    as_float64,
    erfcx,
    log_ndtr,
    namespace,
    ndtr,
    ndtri,
    param,
    rand,
    randn,
)
from assay.core.stacks import BoxStack, GaussianStack
from assay.core.validation import (
    check_points,
    clip_to,
    finite,
    freeze,
    noise_level,
    number,
    pick,
    shares,
    vectors,
)

Support = tuple[np.ndarray, np.ndarray]


class Component(ABC):
    """A law of x0 in d dimensions, exact at every noise level."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number d of coordinates."""

    @property
    @abstractmethod
    def support(self) -> Support:
        """Smallest closed box (low (d,), high (d,)) that holds the law, +-inf where unbounded."""

    @abstractmethod
    def contains(self, x: Array) -> Array:
        """Whether each row of x lies in the closed support: bool (batch,)."""

    @abstractmethod
    def _leaves(self) -> Leaves:
        """The law as weighted stacks."""

    @abstractmethod
    def _draw(self, n: int, rng: Rng) -> Array:
        """n draws of x0, (n, d), float64."""

    @cached_property
    def _mixed(self) -> Mixed:
        return pooled([self._leaves()])

    def log_prob(self, x: Array, sigma: Array | float) -> Array:
        """ln p(x; sigma), (batch,); sigma = 0 gives the data density, -inf outside the support.

        Raises ValueError at sigma = 0 where there is no density (points, singular Gaussians).
        """
        check_points(x, self.dim)
        return self._mixed.log_prob(x, noise_level(sigma, x, zero=True))[:, 0]

    def score(self, x: Array, sigma: Array | float) -> Array:
        """Gradient of ln p(x; sigma) in x, (batch, d); sigma > 0."""
        check_points(x, self.dim)
        return self._mixed.expect(x, noise_level(sigma, x), "score")[:, 0]

    def denoise(self, x: Array, sigma: Array | float) -> Array:
        """E[x0 | x], (batch, d), never outside :attr:`support`; sigma > 0."""
        check_points(x, self.dim)
        denoised = self._mixed.expect(x, noise_level(sigma, x), "denoised")[:, 0]
        return clip_to(self.support, denoised)

    __call__ = denoise

    def sample(self, n: int, rng: Rng, sigma: Array | float = 0.0) -> Array:
        """n draws of x0 + sigma * noise, (n, d) float64 of the generator's backend; sigma >= 0."""
        if n < 0 or n != int(n):
            raise ValueError(f"n={n}: the number of samples must be a whole number >= 0")
        x = self._draw(int(n), rng)
        level = noise_level(sigma, x, zero=True)
        return x if isinstance(level, float) and level == 0 else x + level * randn(rng, x.shape, x)


@dataclass(frozen=True, eq=False, init=False)
class Gaussian(Component):
    """N(mean, cov). mean: (d,) or a number. cov: (d, d), or variances (d,) or one for all.

    Singular covariances are allowed (no density at sigma = 0). ValueError: not finite, shapes
    that do not fit, a negative variance, cov not symmetric or not positive semidefinite.
    """

    mean: np.ndarray
    cov: np.ndarray
    _stack: GaussianStack = field(repr=False)

    def __init__(self, mean: Any, cov: Any = 1.0) -> None:
        (mean,), given = vectors(mean=finite(mean, "mean")), finite(cov, "cov")
        d = len(mean)
        if given.ndim < 2:
            if given.ndim == 1 and len(given) != d:
                raise ValueError(f"cov has {len(given)} variances but mean has {d} coordinates")
            full = np.diag(np.broadcast_to(given, (d,)))
        else:
            full = given
        spectrum, basis = _eigen(full, d)
        freeze(self, mean=mean, cov=(full + full.T) / 2)
        stack = GaussianStack(mean[None].copy(), spectrum[None], basis)
        object.__setattr__(self, "_stack", stack)

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def support(self) -> Support:
        reach = np.where(np.diag(self.cov) > 0, np.inf, 0.0)
        return self.mean - reach, self.mean + reach

    def contains(self, x: Array) -> Array:
        """All of space; for a singular covariance its own plane, to rounding."""
        check_points(x, self.dim)
        xp, stack = namespace(x), self._stack
        gap = x - param(self.mean.copy(), x)
        z = gap if stack.bases is None else gap @ param(stack.bases[0], x)
        eps = float(xp.finfo(x.dtype).eps)
        room = 8 * self.dim * eps * xp.max(xp.abs(x) + param(np.abs(self.mean), x), axis=-1)
        return xp.all((xp.abs(z) <= room[:, None]) | (param(stack.spectra, x) > 0), axis=-1)

    def _leaves(self) -> Leaves:
        return [(self._stack, np.zeros(1))]

    def _draw(self, n: int, rng: Rng) -> Array:
        z = randn(rng, (n, self.dim))
        z = z * param(np.sqrt(self._stack.spectra), z)
        bases = self._stack.bases
        return param(self.mean.copy(), z) + (z if bases is None else z @ param(bases[0].T, z))


def _eigen(cov: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Eigenvalues (d,), eigenvectors (1, d, d) or None where the axes are those of space."""
    if cov.shape != (d, d):
        raise ValueError(f"cov of shape {cov.shape} does not fit a mean of {d} coordinates")
    scale = float(np.abs(cov).max())
    if np.abs(cov - cov.T).max() > 1e-10 * scale:
        raise ValueError("cov is not symmetric: give (cov + cov.T) / 2")
    if not np.any(cov - np.diag(np.diag(cov))):
        spectrum, basis = np.diag(cov).copy(), None
    else:
        spectrum, vectors = np.linalg.eigh((cov + cov.T) / 2)
        basis = vectors[None]
        spectrum[np.abs(spectrum) <= 4 * d * np.finfo(float).eps * scale] = 0.0
    if spectrum.min() < 0:
        raise ValueError(f"cov has a variance {spectrum.min():g}: it must be >= 0 on every axis")
    return spectrum, basis


class _Box(Component):
    """What uniform boxes and truncated Gaussians have in common."""

    low: np.ndarray
    high: np.ndarray
    _stack: BoxStack

    @property
    def dim(self) -> int:
        return len(self.low)

    @property
    def support(self) -> Support:
        return self.low, self.high

    def contains(self, x: Array) -> Array:
        """Whether low <= x <= high in every coordinate."""
        check_points(x, self.dim)
        low, high = param(self.low.copy(), x), param(self.high.copy(), x)
        return namespace(x).all((x >= low) & (x <= high), axis=-1)

    def _leaves(self) -> Leaves:
        return [(self._stack, np.zeros(1))]


@dataclass(frozen=True, eq=False, init=False)
class Uniform(_Box):
    """Uniform on the box [low, high]. low, high: (d,) or numbers, finite, low < high."""

    low: np.ndarray
    high: np.ndarray

    def __init__(self, low: Any, high: Any) -> None:
        low, high = vectors(low=finite(low, "low"), high=finite(high, "high"))
        _check_order(low, high)
        freeze(self, low=low, high=high)
        flat = np.zeros((1, len(low)))
        object.__setattr__(self, "_stack", _box(flat, flat, low[None].copy(), high[None].copy()))

    def _draw(self, n: int, rng: Rng) -> Array:
        u = rand(rng, (n, self.dim))
        low, width = param(self.low.copy(), u), param(self.high - self.low, u)
        return clip_to(self.support, low + u * width)


@dataclass(frozen=True, eq=False, init=False)
class TruncatedGaussian(_Box):
    """N(mean, diag(sd^2)) given low <= x0 <= high, in each coordinate.

    mean, sd, low, high: (d,) or numbers; sd > 0; low < high, either may be infinite. The mean may
    lie outside. ValueError also where the box holds no mass that float64 can express.
    """

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __init__(self, mean: Any, sd: Any, low: Any = -np.inf, high: Any = np.inf) -> None:
        mean, sd, low, high = vectors(
            mean=finite(mean, "mean"),
            sd=finite(sd, "sd"),
            low=number(low, "low"),
            high=number(high, "high"),
        )
        if not np.all(sd > 0):
            raise ValueError(f"sd={sd.tolist()}: every standard deviation must be > 0")
        _check_order(low, high)
        freeze(self, mean=mean, sd=sd, low=low, high=high)
        with np.errstate(all="ignore"):
            rows = [part[None].copy() for part in (mean, 1 / sd**2, low, high)]
        object.__setattr__(self, "_stack", _box(*rows))

    def _draw(self, n: int, rng: Rng) -> Array:
        u = rand(rng, (n, self.dim))
        a, b = ((edge - self.mean) / self.sd for edge in (self.low, self.high))
        z = _cut_normal(a, b, u)
        return clip_to(self.support, param(self.mean.copy(), u) + param(self.sd.copy(), u) * z)


def _cut_normal(a: np.ndarray, b: np.ndarray, u: Array) -> Array:
    """Draws of N(0, 1) cut to [a, b] (d,) from uniform u (n, d), exact in either tail."""
    xp = namespace(u)
    flip = b < -a  # then the mass lies at low values: draw the mirror image
    sign = param(np.where(flip, -1.0, 1.0), u)
    low, high = param(np.where(flip, -b, a), u), param(np.where(flip, -a, b), u)
    upper = ndtr(-low) + u * (ndtr(-high) - ndtr(-low))
    z = -ndtri(xp.clip(upper, 1e-300, 1 - 2.0**-53))
    # Far out ln Q(z) = ln Q(low) + fall by Newton; the start lies beyond the root.
    out = low > 4
    top = log_ndtr(-xp.where(out, low, 4 + 0 * u))
    fall = xp.log1p(u * xp.expm1(log_ndtr(-xp.where(out, high, 40 + 0 * u)) - top))
    far = xp.sqrt(xp.where(out, low * low, 16 + 0 * u) - 2 * fall)
    for _ in range(5):
        excess = log_ndtr(-far) - top - fall
        far = far + excess * erfcx(far * 0.5**0.5) * float(np.sqrt(np.pi / 2))
    return sign * xp.clip(xp.where(out, far, z), low, high)


def _box(mean: np.ndarray, precision: np.ndarray, low: np.ndarray, high: np.ndarray) -> BoxStack:
    stack = BoxStack(mean, precision, low, high)
    with np.errstate(all="ignore"):
        if not np.all(np.isfinite(stack.constants)):
            raise ValueError(
                "low, high: float64 cannot express this box's mass; bring them nearer"
            )
    return stack


def _check_order(low: np.ndarray, high: np.ndarray) -> None:
    if not np.all(low < high):
        raise ValueError(f"low={low.tolist()}, high={high.tolist()}: need low < high everywhere")


@dataclass(frozen=True, eq=False, init=False)
class Points(Component):
    """Point masses: an empirical law. points: (n, d), finite; weights: (n,) >= 0, default equal.

    log_prob at sigma = 0 raises ValueError. Equal points may be repeated.
    """

    points: np.ndarray
    weights: np.ndarray

    def __init__(self, points: Any, weights: Any = None) -> None:
        points = finite(points, "points")
        if points.ndim != 2 or 0 in points.shape:
            raise ValueError(f"points of shape {points.shape}: give an array (n, d)")
        freeze(self, points=points, weights=shares(weights, len(points)))

    @property
    def dim(self) -> int:
        return self.points.shape[1]

    @cached_property
    def support(self) -> Support:
        held = self.points[self.weights > 0]
        return held.min(axis=0), held.max(axis=0)

    def contains(self, x: Array) -> Array:
        """Whether each row of x is one of the points, exactly."""
        check_points(x, self.dim)
        held = param(self.points[self.weights > 0], x)  # at the precision of x
        known, asked = (as_float64(rows) + 0.0 for rows in (held, x))  # -0.0 becomes 0.0
        known = {row.tobytes() for row in known}
        return param(np.array([float(row.tobytes() in known) for row in asked]), x) > 0

    def _leaves(self) -> Leaves:
        held = self.weights > 0
        stack = GaussianStack(self.points[held], np.zeros((1, self.dim)))
        return [(stack, np.log(self.weights[held]))]

    def _draw(self, n: int, rng: Rng) -> Array:
        u = rand(rng, (n,))
        return param(self.points.copy(), u)[pick(self.weights, u)]


@dataclass(frozen=True, eq=False, init=False)
class Product(Component):
    """Independent parts over concatenated coordinates. parts: components, at least one."""

    parts: tuple[Component, ...]

    def __init__(self, parts: Sequence[Component]) -> None:
        parts = tuple(parts)
        if not parts or not all(isinstance(part, Component) for part in parts):
            raise ValueError("parts: give one or more components")
        object.__setattr__(self, "parts", parts)

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    @cached_property
    def support(self) -> Support:
        lows, highs = zip(*(part.support for part in self.parts), strict=True)
        return np.concatenate(lows), np.concatenate(highs)

    def contains(self, x: Array) -> Array:
        """Whether every part contains its coordinates."""
        check_points(x, self.dim)
        ends = np.cumsum([part.dim for part in self.parts]).tolist()
        blocks = (x[:, e - p.dim : e] for p, e in zip(self.parts, ends, strict=True))
        inside = [part.contains(block) for part, block in zip(self.parts, blocks, strict=True)]
        return namespace(x).all(namespace(x).stack(inside, axis=1), axis=1)

    def _leaves(self) -> Leaves:
        slots = []
        for part in self.parts:
            leaves = part._leaves()
            stack = leaves[0][0] if len(leaves) == 1 and len(leaves[0][1]) == 1 else part._mixed
            slots += stack.slots if isinstance(stack, ProductStack) else [stack]
        return [(side_by_side(slots), np.zeros(1))]

    def _draw(self, n: int, rng: Rng) -> Array:
        draws = [part.sample(n, rng) for part in self.parts]
        return namespace(draws[0]).concat(draws, axis=1)
