"""The tilted density, what guidance is said to sample: p(x) p(z|x)^(1+w), normalised.

Up to a constant its log density is

    ln p(x|z) + w ln p(z|x)  =  (1 + w) ln p(x|z) - w ln p(x),

the first form where the marginal contains the class. In 1-D the masses come from adaptive
quadrature, so that either tail has a logarithm far below the smallest number. Where the marginal
contains the class the tilt is exact in any dimension by rejection: draw from the class, accept
with probability p(z|x)^w.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from assay.core import components, mixture
from assay.core.special import logsumexp
from assay.guidance import cells, specs, stack1d
from assay.guidance.distribution import Distribution1D, whole
from assay.guidance.mixture1d import Mixture1D, scores
from assay.guidance.target import Target

_BATCH = 8192
_BATCHES = 500  # drawn in vain before rejection gives up
_FEATURES = np.array([-12.0, -6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0, 12.0])


class TargetLaw(Distribution1D):
    """The law of a target's samples at some w, with its distances to the two others."""

    target: Target
    w: float

    @cached_property
    def far_edge(self) -> float:
        """End of the support on the side that guidance pushes to: the sign of E[x|z] - E[x]."""
        low, high = self.support
        ours, every = (stack1d.stack(law).mean for law in (self.target.cond, self.target.uncond))
        return high if ours >= every else low

    def w1_to_cond(self) -> float:
        """Wasserstein-1 distance to the conditional p(x|z) of the same target."""
        return self.w1(conditional(self.target))

    def w1_to_tilted(self) -> float:
        """Wasserstein-1 distance to the tilt p(x) p(z|x)^(1+w) of the same target and w."""
        return self.w1(tilted(self.target, self.w))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target.name}, w={self.w:g})"


class Closed(TargetLaw, Mixture1D):
    """A target's law that is a mixture: the conditional, the marginal, tilted points."""

    def __init__(self, law: mixture.Mixture, target: Target, w: float) -> None:
        Mixture1D.__init__(self, law)
        self.target, self.w = target, w


def conditional(target: Target) -> TargetLaw:
    """The class p(x|z) itself, w = 0, in closed form. ValueError in d > 1 dimensions."""
    return Closed(target.cond, target, 0.0)


class Tilted(TargetLaw):
    """Tilt of a target by w >= -1; of a target in d > 1 dimensions ``sample`` alone.

    ValueError: w below -1 or not finite; a tilt that cannot be normalised; atoms beside a
    density.
    """

    def __init__(self, target: Target, w: float) -> None:
        self.target, self.w = target, _weight(w)
        if target.dim > 1:
            return
        self._ours, self._every = stack1d.stack(target.cond), stack1d.stack(target.uncond)
        if len(self._ours.atoms) or len(self._every.atoms):
            raise ValueError("tilted: atoms beside a density have no tilt; take one kind of law")
        _check(self._ours, self._every, self.w)

    @cached_property
    def _cells(self) -> cells.Cells:
        if self.target.dim > 1:
            raise ValueError(
                f"the tilt of a target of dim {self.target.dim} is known by its samples only; "
                "use sample(n, rng), or take a 1-D target"
            )
        parts = (self._ours, self._every)
        marks = [part.edges for part in parts] + [part.marks(_FEATURES) for part in parts]
        points = np.unique(np.concatenate(marks))
        return cells.cells(self._log_weight, self._ours.intervals, points)

    @cached_property
    def _rest(self) -> stack1d.Stack | None:
        return None if self.target.rest is None else stack1d.stack(self.target.rest)

    def _log_weight(self, x: np.ndarray) -> np.ndarray:
        """Log density without its constant, (n,)."""
        ours = logsumexp(self._ours.log_density(x[:, None]))
        if self._rest is None:
            every = logsumexp(self._every.log_density(x[:, None]))
            with np.errstate(invalid="ignore"):
                out = ours + self.w * (ours - every)
        else:
            rest = logsumexp(self._rest.log_density(x[:, None]))
            with np.errstate(invalid="ignore"):
                odds = special.logit(self.target.prior) + ours - rest
                out = ours - self.w * np.logaddexp(0.0, -odds)
        return np.where(ours == -np.inf, -np.inf, out)

    @property
    def support(self) -> tuple[float, float]:
        return self._cells.ends

    @property
    def atoms(self) -> np.ndarray:
        return np.empty(0)

    def _map(self, u: np.ndarray) -> np.ndarray:
        return self._cells.map(u)

    def _log_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._cells.log_tails(x)

    def _logpdf(self, x: np.ndarray) -> np.ndarray:
        return self._cells.logpdf(x)

    def _breaks(self) -> np.ndarray:
        low, high = self.support
        edges = np.union1d(self._ours.edges, self._every.edges)
        below, above = self._log_tails(edges[(edges > low) & (edges < high)])
        return scores(below, above)

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """n draws: (n,) in 1-D; (n, d) in d > 1 by rejection from the class.

        ValueError in d > 1 where uncond does not contain cond, where w < 0, and where fewer than
        about one draw in four million is accepted.
        """
        if self.target.dim == 1:
            return super().sample(n, rng)
        if self.target.rest is None or self.w < 0:
            raise ValueError(
                f"tilted: w = {self.w:g} in {self.target.dim} dimensions needs w >= 0 and an "
                "uncond that contains the class"
            )
        rng, kept, vain = np.random.default_rng(rng), [np.empty((0, self.target.dim))], 0
        while sum(map(len, kept)) < whole("n", n):
            kept.append(self._accepted(rng))
            vain = 0 if len(kept[-1]) else vain + 1
            if vain > _BATCHES:
                raise ValueError(
                    f"w = {self.w:g}: p(z|x)^w accepts nearly no draw of the class; take a lower w"
                )
        return np.concatenate(kept)[:n]

    def _accepted(self, rng: np.random.Generator) -> np.ndarray:
        x = self.target.cond.sample(_BATCH, rng)
        log_share = -self.w * np.logaddexp(0.0, -self.target.log_odds(x))
        return x[np.log(rng.random(len(x))) < log_share]


def tilted(target: Target, w: float) -> TargetLaw:
    """The tilt p(x) p(z|x)^(1+w) of a target; :class:`Tilted` has the refusals.

    w = 0 is the class and w = -1 the marginal, in closed form in 1-D.
    """
    w = _weight(w)
    if target.dim == 1 and w in (0, -1):
        return Closed(target.cond if w == 0 else target.uncond, target, w)
    if target.dim == 1:
        ours = stack1d.stack(target.cond)
        if len(ours.atoms) == len(ours.log_weights):
            return Closed(_points(ours, stack1d.stack(target.uncond), w), target, w)
    return Tilted(target, w)


def _weight(w: float) -> float:
    value = specs.number("w", w)
    if value < -1:
        raise ValueError(f"w = {value:g} is below -1, the unconditional model; take w >= -1")
    return value


def _points(ours: stack1d.Stack, every: stack1d.Stack, w: float) -> mixture.Mixture:
    """Tilt of point masses: mass (mass / mass in the marginal)^w."""
    masses = [[_mass(part, at) for at in ours.atoms] for part in (ours, every)]
    with np.errstate(divide="ignore"):
        one, other = np.log(masses)
    if w > 0 and np.any(other == -np.inf):
        raise ValueError(f"w = {w:g}: uncond lacks a point of cond; let uncond include the class")
    log_weights = one + w * (one - np.maximum(other, -1e300))
    weights = np.exp(log_weights - log_weights.max())
    return mixture.Mixture([1.0], [components.Points(ours.atoms[:, None], weights)])


def _mass(part: stack1d.Stack, at: float) -> float:
    mean, var = part.gaussians.T
    held = (mean == at) & (var == 0)
    return float(np.sum(np.exp(part.log_weights[: len(mean)][held])))


def _check(ours: stack1d.Stack, every: stack1d.Stack, w: float) -> None:
    """ValueError where the tilt has infinite mass."""
    remedy = f"w = {w:g}: the tilt cannot be normalised; let uncond include the class, or lower w"
    if w <= 0:
        return
    if not every.covers(ours):
        raise ValueError(remedy)
    for sign in (-1.0, 1.0):
        if np.isfinite(ours.intervals[0, 0] if sign < 0 else ours.intervals[-1, 1]):
            continue
        (lam, mean), (lam_u, mean_u) = ours.tail(sign), every.tail(sign)
        bend = (1 + w) * lam - w * lam_u
        lean = sign * ((1 + w) * lam * mean - w * lam_u * mean_u)
        flat = abs(bend) <= 1e-12 * (1 + w) * lam
        if lean >= 0 if flat else bend < 0:
            raise ValueError(remedy)
