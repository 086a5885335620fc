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
    zero, one = xp.zeros_like(near), xp.ones_like(near)
    first = _narrow(xp.where(narrow, near, zero), xp.where(narrow, width, one))
    # In the branch not taken harmless numbers stand in, so that gradients stay finite.
    second = _wide(
        xp.where(narrow, zero, near), xp.where(narrow, 4 * one, far), xp.where(narrow, one, width)
    )
    log_p, to_near, to_far, mean, var = (
        xp.where(narrow, p, q) for p, q in zip(first, second, strict=True)
    )
    return Moments(
        log_p,
        xp.where(mirrored, to_far, to_near),
        xp.where(mirrored, to_near, to_far),
        xp.where(mirrored, -mean, mean),
        var,
    )


def _narrow(a: Array, width: Array) -> Moments:
    xp = namespace(a)
    share = param(_NODES, a)
    t = width[..., None] * share
    density = xp.exp(-a[..., None] * t - t * t / 2) * param(_WEIGHTS, a)
    total = xp.sum(density, axis=-1)
    low = width * xp.sum(density * share, axis=-1) / total
    high = width * xp.sum(density * (1 - share), axis=-1) / total
    var = xp.sum(density * (t - low[..., None]) ** 2, axis=-1) / total
    log_p = xp.log(total * width) - a * a / 2 - _LOG_SQRT_2PI
    return Moments(log_p, low, high, a + low, var)


def _wide(a: Array, b: Array, width: Array) -> Moments:
    xp = namespace(a)
    positive = a > 0
    # What lies 40 standard deviations beyond the nearer edge has no mass in float64.
    cut = xp.where(positive, xp.minimum(width, 40 + xp.zeros_like(a)), xp.zeros_like(a))
    tail = _tail(xp.where(positive, a, xp.ones_like(a)), xp.where(positive, cut, 4.0 + 0 * cut))
    middle = _middle(
        xp.where(positive, xp.zeros_like(a), xp.clip(a, -40, 0)),
        xp.where(positive, 4.0 + xp.zeros_like(a), xp.clip(b, -1, 40)),
    )
    log_p, mean, var = (
        xp.where(positive, p, q)
        for p, q in zip((tail[0], a + tail[1], tail[2]), middle, strict=True)
    )
    low = xp.where(positive, tail[1], mean - a)
    return Moments(log_p, low, xp.where(positive, width - tail[1], b - mean), mean, var)


def _tail(a: Array, width: Array) -> tuple[Array, Array, Array]:
    """Log mass, mean - a, variance for 0 < a."""
    xp = namespace(a)
    b = a + width
    root = float(np.sqrt(0.5))
    ratio = xp.exp(-width * (a + b) / 2) * erfcx(b * root) / erfcx(a * root)
    g_a, m2_a = _excess(a)
    g_b, m2_b = _excess(b)
    low = (g_a - ratio * (width + g_b)) / (1 - ratio)
    second = (m2_a - ratio * (m2_b + 2 * width * g_b + width * width)) / (1 - ratio)
    log_upper = xp.log(erfcx(a * root) / 2) - a * a / 2  # torch's log_ndtr loses gradients here
    return log_upper + xp.log1p(-ratio), low, second - low * low


def _middle(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Log mass, mean, variance for a <= 0 < b."""
    xp = namespace(a)
    outside = ndtr(a) + ndtr(-b)
    mass = 1 - outside
    phi_a, phi_b = (xp.exp(-z * z / 2 - _LOG_SQRT_2PI) for z in (a, b))
    mean = (phi_a - phi_b) / mass
    var = 1 + (a * phi_a - b * phi_b) / mass - mean * mean
    return xp.log1p(-outside), mean, var


def _excess(a: Array) -> tuple[Array, Array]:
    """h(a) - a and E[(Z-a)^2 | Z > a] for a > 0."""
    xp = namespace(a)
    far = a > 10
    root = float(np.sqrt(0.5))
    near_a = xp.where(far, xp.ones_like(a), a)
    g_near = float(np.sqrt(2 / np.pi)) / erfcx(near_a * root) - near_a
    far_a = xp.where(far, a, 10 * xp.ones_like(a))
    k = far_a * 0
    for n in range(_TERMS, 1, -1):
        k = n / (far_a + k)
    g_far = 1 / (far_a + k)
    return xp.where(far, g_far, g_near), xp.where(far, k * g_far, 1 - near_a * g_near)
