"""Moments of a standard normal truncated to [a, b], to relative precision at either edge.

With Z ~ N(0, 1) given a < Z < b, everything downstream needs the distances of the mean from the
two edges, ``mean - a`` and ``b - mean``: their plain differences lose all digits once the
interval lies in a tail. By reflection let ``a`` be the edge nearer to zero.

* Narrow (|a| (b-a) + (b-a)^2/2 <= 8): Gauss-Legendre on exp(-a t - t^2/2), t = Z - a; sums of
  positive terms.
* Wide: the hazard h(a) = phi(a)/Q(a) = sqrt(2/pi)/erfcx(a/sqrt 2); beyond a = 10 its excess
  g = h(a) - a by Laplace's continued fraction g = 1/(a + k), k = 2/(a + 3/(a + ...)), so that
  E[(Z-a)^2 | Z > a] = 1 - a g = k g has no cancellation either. The upper edge enters through
  rho = Q(b)/Q(a).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from assay.core.special import Array, erfcx, namespace, ndtr, param

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2
_LOG_SQRT_2PI = float(0.5 * np.log(2 * np.pi))
_TERMS = 24  # of the continued fraction: 1e-16 at a = 10


class Moments(NamedTuple):
    """Of Z given a < Z < b: log P(a < Z < b), mean - a, b - mean, mean, variance."""

    log_mass: Any
    to_low: Any
    to_high: Any
    mean: Any
    var: Any


def log_mass(a: Array, b: Array, width: Array | None = None) -> Array:
    """ln(Phi(b) - Phi(a)), elementwise; see :func:`moments`."""
    return moments(a, b, width).log_mass


def moments(a: Array, b: Array, width: Array | None = None) -> Moments:
    """Moments of Z ~ N(0, 1) given a < Z < b, elementwise.

    a, b: arrays of one shape, a < b, infinities allowed. width: b - a where the caller knows it
    more exactly than the difference (an interval seen from far away).
    """
    xp = namespace(a, b)
    width = b - a if width is None else width
    mirrored = xp.abs(a) > xp.abs(b)
    near, far = xp.where(mirrored, -b, a), xp.where(mirrored, -a, b)
    capped = xp.clip(width, None, 1e6)  # 0 times an infinite width is no number
    narrow = xp.abs(near) * capped + capped * capped / 2 <= 8
    log_p, to_near, to_far, mean, var = _either(
        narrow, (near, far, width), (_narrow, (0.0, 1.0, 1.0)), (_wide, (0.0, 4.0, 4.0))
    )
    return Moments(
        log_p,
        xp.where(mirrored, to_far, to_near),
        xp.where(mirrored, to_near, to_far),
        xp.where(mirrored, -mean, mean),
        var,
    )


Branch = tuple[Callable[..., tuple[Array, ...]], tuple[float, ...]]


def _either(mask: Array, args: tuple[Array, ...], one: Branch, other: Branch) -> tuple[Array, ...]:
    """one(*args) where mask, other(*args) elsewhere; a branch is a function and harmless numbers.

    numpy: each branch sees its own entries only. torch: both see all, with the harmless numbers
    in place of entries that are not theirs, so that no device waits and gradients stay finite.
    """
    if isinstance(mask, np.ndarray):
        if mask.all():
            return one[0](*args)
        if not mask.any():
            return other[0](*args)
        first = one[0](*(x[mask] for x in args))
        second = other[0](*(x[~mask] for x in args))
        out = tuple(np.empty(mask.shape, part.dtype) for part in first)
        for whole, p, q in zip(out, first, second, strict=True):
            whole[mask], whole[~mask] = p, q
        return out
    xp = namespace(mask)
    first = one[0](*(xp.where(mask, x, v) for x, v in zip(args, one[1], strict=True)))
    second = other[0](*(xp.where(mask, v, x) for x, v in zip(args, other[1], strict=True)))
    return tuple(xp.where(mask, p, q) for p, q in zip(first, second, strict=True))


def _narrow(a: Array, _: Array, width: Array) -> tuple[Array, ...]:
    xp = namespace(a)
    share = param(_NODES, a)
    t = width[..., None] * share
    density = xp.exp(-a[..., None] * t - t * t / 2) * param(_WEIGHTS, a)
    total = xp.sum(density, axis=-1)
    low = width * xp.sum(density * share, axis=-1) / total
    high = width * xp.sum(density * (1 - share), axis=-1) / total
    var = xp.sum(density * (t - low[..., None]) ** 2, axis=-1) / total
    log_p = xp.log(total * width) - a * a / 2 - _LOG_SQRT_2PI
    return log_p, low, high, a + low, var


def _wide(a: Array, b: Array, width: Array) -> tuple[Array, ...]:
    return _either(a > 0, (a, b, width), (_tail, (1.0, 5.0, 4.0)), (_middle, (0.0, 4.0, 4.0)))


def _tail(a: Array, _: Array, width: Array) -> tuple[Array, ...]:
    """0 < a. What lies 40 standard deviations beyond a has no mass in float64."""
    xp = namespace(a)
    cut = xp.clip(width, None, 40.0)
    b = a + cut
    root = float(np.sqrt(0.5))
    upper = erfcx(a * root)
    ratio = xp.exp(-cut * (a + b) / 2) * erfcx(b * root) / upper
    g_a, m2_a = _excess(a)
    g_b, m2_b = _excess(b)
    low = (g_a - ratio * (cut + g_b)) / (1 - ratio)
    second = (m2_a - ratio * (m2_b + 2 * cut * g_b + cut * cut)) / (1 - ratio)
    log_upper = xp.log(upper / 2) - a * a / 2  # torch's log_ndtr loses gradients here
    return log_upper + xp.log1p(-ratio), low, width - low, a + low, second - low * low


def _middle(a: Array, b: Array, _: Array) -> tuple[Array, ...]:
    """a <= 0 < b."""
    xp = namespace(a)
    near, far = xp.clip(a, -40.0, 0.0), xp.clip(b, -1.0, 40.0)
    outside = ndtr(near) + ndtr(-far)
    mass = 1 - outside
    phi_a, phi_b = (xp.exp(-z * z / 2 - _LOG_SQRT_2PI) for z in (near, far))
    mean = (phi_a - phi_b) / mass
    var = 1 + (near * phi_a - far * phi_b) / mass - mean * mean
    return xp.log1p(-outside), mean - a, b - mean, mean, var


def _excess(a: Array) -> tuple[Array, ...]:
    """h(a) - a and E[(Z-a)^2 | Z > a] for a > 0."""
    return _either(a > 10, (a,), (_excess_far, (20.0,)), (_excess_near, (1.0,)))


def _excess_near(a: Array) -> tuple[Array, Array]:
    g = float(np.sqrt(2 / np.pi)) / erfcx(a * float(np.sqrt(0.5))) - a
    return g, 1 - a * g


def _excess_far(a: Array) -> tuple[Array, Array]:
    k = a * 0
    for n in range(_TERMS, 1, -1):
        k = n / (a + k)
    g = 1 / (a + k)
    return g, k * g
