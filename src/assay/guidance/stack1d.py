"""1-D mixtures as stacked parameter arrays, seen from a point of reference.

With c = x/sigma and r = 1/sigma a component shows its density, its denoiser and their slopes in c.
Positions are carried as E = c - e r from a reference e, an edge or an atom near which the digits
are needed: x = e + E/r keeps the relative precision of x - e that float64 x has lost.

A component is a density C exp(-lam (x - m)^2 / 2) cut to [a, b]: lam = 0 is the uniform law,
infinite ends the Gaussian, a Gaussian of variance 0 an atom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from assay.core import components, mixture, truncated

_LOG_2PI = float(np.log(2 * np.pi))
_DEEP = 30.0  # standard deviations from both edges at which a cut is no cut


class Terms(NamedTuple):
    """Per component, (n, K): log density, shift of the denoiser, tilt and slope: the derivatives
    of log density (up to a part common to all components) and of shift in the state."""

    log_prob: np.ndarray
    shift: np.ndarray
    tilt: np.ndarray
    slope: np.ndarray


@dataclass(frozen=True, eq=False)
class Stack:
    """log weights (K,); Gaussians (mean, var) come first, then pieces (a, b, lam, m, log C)."""

    log_weights: np.ndarray
    gaussians: np.ndarray
    cuts: np.ndarray

    @property
    def smooth(self) -> bool:
        """Whether every component is a Gaussian of positive variance."""
        return not len(self.cuts) and bool(np.all(self.gaussians[:, 1] > 0))

    @cached_property
    def atoms(self) -> np.ndarray:
        """Sorted positions of point masses."""
        return np.unique(self.gaussians[self.gaussians[:, 1] == 0, 0])

    @cached_property
    def edges(self) -> np.ndarray:
        """Sorted finite ends of components and atoms."""
        ends = self.cuts[:, :2].ravel()
        return np.unique(np.concatenate([ends[np.isfinite(ends)], self.atoms]))

    @cached_property
    def intervals(self) -> np.ndarray:
        """Support as disjoint closed intervals (n, 2), in order; an atom is [p, p]."""
        whole = np.broadcast_to([-np.inf, np.inf], (int(np.sum(self.gaussians[:, 1] > 0)), 2))
        every = np.concatenate([whole, self.cuts[:, :2], np.repeat(self.atoms[:, None], 2, 1)])
        merged: list[list[float]] = []
        for low, high in sorted(every.tolist()):
            if merged and low <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        return np.array(merged)

    def covers(self, inner: Stack) -> bool:
        """Whether this support holds the inner one's."""
        low, high = self.intervals.T
        index = np.searchsorted(low, inner.intervals[:, 0], side="right") - 1
        inside = inner.intervals[:, 1] <= high[np.maximum(index, 0)]
        return bool(np.all(inside & (index >= 0)))

    def tail(self, sign: float) -> tuple[float, float]:
        """(lam, m) with ln density ~ -lam x^2/2 + lam m x towards sign * infinity."""
        mean, var = self.gaussians[self.gaussians[:, 1] > 0].T
        _, _, lam, centre, _ = self.cuts[~np.isfinite(self.cuts[:, (0, 1)[sign > 0]])].T
        lams, means = np.concatenate([1 / var, lam]), np.concatenate([mean, centre])
        widest = lams <= lams.min() * (1 + 1e-12)
        return float(lams.min()), float(sign * np.max(sign * means[widest]))

    @cached_property
    def widths(self) -> np.ndarray:
        """Length scale of each component: sd, or the width of the interval if that is less."""
        with np.errstate(divide="ignore"):
            sd = 1 / np.sqrt(self.cuts[:, 2])
        cut = np.minimum(sd, self.cuts[:, 1] - self.cuts[:, 0])
        return np.concatenate([np.sqrt(self.gaussians[:, 1]), cut])

    @property
    def bends(self) -> np.ndarray:
        """Standard deviations of the components that are neither flat nor atoms."""
        var, lam = self.gaussians[:, 1], self.cuts[:, 2]
        return np.concatenate([np.sqrt(var[var > 0]), lam[lam > 0] ** -0.5])

    @cached_property
    def centres(self) -> np.ndarray:
        """A point within each component, (K,)."""
        low, high, _, mean, _ = self.cuts.T
        return np.concatenate([self.gaussians[:, 0], np.clip(mean, low, high)])

    def marks(self, scores: np.ndarray) -> np.ndarray:
        """Points that many widths from the centre of each component, sorted."""
        return np.unique(self.centres[:, None] + self.widths[:, None] * scores)

    @cached_property
    def mean(self) -> float:
        """E X: the denoiser where noise is all there is."""
        r = np.array([[1e-10 / float(np.max(np.abs(self.centres) + self.widths))]])
        shift = self.terms(r, np.zeros((1, 1)), np.zeros((1, 1))).shift[0]
        shares = np.exp(self.log_weights)
        return float(shares @ shift / shares.sum())

    def terms(self, r: np.ndarray, away: np.ndarray, origin: np.ndarray) -> Terms:
        """At 1/sigma r, E = away and reference e = origin, all (n, 1); the shift is D - e."""
        parts = []
        if len(self.gaussians):
            parts.append(self._gaussian(r, away, origin))
        if len(self.cuts):
            parts.append(self._cut(r, away, origin))
        log_prob, shift, slope = map(np.hstack, zip(*parts, strict=True))
        return Terms(log_prob, shift, r * shift, slope)

    def _gaussian(
        self, r: np.ndarray, away: np.ndarray, origin: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        mean, var = self.gaussians.T
        gap, spread = mean - origin, 1 + var * r * r
        z = away - gap * r
        log_prob = -0.5 * (z * z / spread + np.log(spread) + _LOG_2PI)
        return log_prob, (gap + var * r * away) / spread, r * var / spread

    def _cut(self, r: np.ndarray, away: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, ...]:
        low, high, lam, mean, log_c = self.cuts.T
        precision = lam + r * r
        sd = 1 / np.sqrt(precision)
        from_low, from_high = away + (origin - low) * r, away + (origin - high) * r
        a = sd * (lam * (low - mean) - r * from_low)
        b = sd * (lam * (high - mean) - r * from_high)
        cut = truncated.moments(a, b, (high - low) / sd)
        z = away + (origin - mean) * r
        log_prob = log_c + cut.log_mass - 0.5 * (np.log(precision) + lam * z * z / precision)
        upper = np.abs(origin - high) <= np.abs(origin - low)
        edge = np.where(upper, high, low) - origin
        shift = edge + sd * np.where(upper, -cut.to_high, cut.to_low)
        # Deep inside the distance to an edge would cost the digits of what is left beside it.
        deep = (a < -_DEEP) & (b > _DEEP)
        centre = (lam * (mean - origin) + r * away) / precision
        return log_prob, np.where(deep, centre, shift), r * cut.var / precision

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log densities (n, K) of x (n, 1) without noise; atoms have none, -inf."""
        mean, var = self.gaussians.T
        low, high, lam, centre, log_c = self.cuts.T
        with np.errstate(divide="ignore", invalid="ignore"):
            normal = -0.5 * ((x - mean) ** 2 / var + np.log(var) + _LOG_2PI)
        normal = np.where(var > 0, normal, -np.inf)
        cut = np.where((x >= low) & (x <= high), log_c - 0.5 * lam * (x - centre) ** 2, -np.inf)
        return self.log_weights + np.hstack([normal, cut])


def stack(law: components.Component) -> Stack:
    """Parameters of a 1-D law. ValueError for another dimension or an unknown component."""
    if law.dim != 1:
        raise ValueError(f"a law in {law.dim} dimensions has no exact 1-D map; give dim 1")
    leaves = list(_leaves(law, 1.0))
    normal = [(w, p) for w, p in leaves if len(p) == 2]
    cut = [(w, p) for w, p in leaves if len(p) == 5]
    weights = np.log([w for w, _ in normal + cut])
    return Stack(
        weights,
        np.array([p for _, p in normal]).reshape(-1, 2),
        np.array([p for _, p in cut]).reshape(-1, 5),
    )


def joined(one: Stack, other: Stack) -> tuple[Stack, np.ndarray]:
    """Both stacks as one, and which of its components are the first one's, (K,)."""
    n, m = len(one.gaussians), len(other.gaussians)
    weights = [one.log_weights[:n], other.log_weights[:m]]
    weights += [one.log_weights[n:], other.log_weights[m:]]
    both = Stack(
        np.concatenate(weights),
        np.concatenate([one.gaussians, other.gaussians]),
        np.concatenate([one.cuts, other.cuts]),
    )
    return both, np.repeat([True, False, True, False], [len(part) for part in weights])


def _leaves(law: components.Component, weight: float) -> Iterator[tuple[float, tuple]]:
    """Weights and parameters: (mean, var) or (a, b, lam, m, log C)."""
    if isinstance(law, mixture.Mixture):
        for share, part in zip(law.weights.tolist(), law.components, strict=True):
            if share > 0:
                yield from _leaves(part, weight * share)
    elif isinstance(law, components.Product):
        yield from _leaves(law.parts[0], weight)
    elif isinstance(law, components.Gaussian):
        yield weight, (float(law.mean[0]), float(law.cov[0, 0]))
    elif isinstance(law, components.Points):
        for share, point in zip(law.weights.tolist(), law.points[:, 0].tolist(), strict=True):
            if share > 0:
                yield weight * share, (point, 0.0)
    elif isinstance(law, components.Uniform):
        low, high = float(law.low[0]), float(law.high[0])
        yield weight, (low, high, 0.0, (low + high) / 2, -float(np.log(high - low)))
    elif isinstance(law, components.TruncatedGaussian):
        yield weight, _truncated(*(float(v[0]) for v in (law.mean, law.sd, law.low, law.high)))
    else:
        raise ValueError(f"component {type(law).__name__} has no exact 1-D map; give another")


def _truncated(mean: float, sd: float, low: float, high: float) -> tuple[float, ...]:
    if not np.isfinite(low) and not np.isfinite(high):
        return mean, sd * sd
    a, b, width = (np.array([v / sd]) for v in (low - mean, high - mean, high - low))
    log_mass = float(truncated.log_mass(a, b, width)[0])
    return low, high, sd**-2, mean, -np.log(sd) - 0.5 * _LOG_2PI - log_mass
