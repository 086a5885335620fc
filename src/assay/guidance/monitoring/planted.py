"""What the monitor is put on trial with: exact targets, and errors planted in their denoisers.

Kinds are those of :mod:`assay.guidance.error_kinds` that have an amount in the denoiser, and

    scaled     eps (1 + a)
    smoothed   the exact denoiser of the law widened by N(0, a^2), its score in place of the law's
    slope      D + a sigma z u: z the coordinate along the class-mean direction in standard
               deviations of the noised class, u a direction at right angles to it (on the line
               -1); the further guidance pushes, the larger the error

each with the size defined there. Targets "digits-D" are a class of one digit, a mixture of few
Gaussians of one covariance, which the monitor's own mixtures can fit; "digits-even" is the class
of all even digits, a mixture of five covariances, which they cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import brentq

from assay.core import mixture
from assay.guidance import targets
from assay.guidance.error_kinds import ScoreErrors

_THIN = 8  # every so many points of the quadrature serve to find an amount
_DRAWS = 20_000  # of the class, for its spread along the class-mean direction


def digits_among(labels: Sequence[int]) -> targets.Target:
    """Class = images of these digits by frequency, marginal = all ten."""
    from assay.guidance import digits

    fits, share = digits.fitted()
    own = mixture.Mixture([share[d] for d in labels], [fits[d].law for d in labels])
    every = mixture.Mixture(list(share), [f.law for f in fits])
    return targets.Target("digits", {"labels": list(labels)}, own, every)


PLACES: dict[str, Callable[[], targets.Target]] = {
    "gaussians": lambda: targets.gaussians(1.0, 1.0),
    "uniforms": lambda: targets.uniforms(1.0, 2.0),
    "gaussians-2d": lambda: targets.gaussians([1.0, 0.5], [0.7, 1.0]),
    "uniforms-2d": lambda: targets.uniforms([1.0, 0.5], [2.0, 1.5]),
    "digits-3": lambda: targets.digits(3),
    "digits-4": lambda: targets.digits(4),
    "digits-even": lambda: digits_among((0, 2, 4, 6, 8)),
}
KINDS = ("bias", "field", "zeroed", "precision", "scaled", "smoothed", "slope")
_OURS = ("scaled", "smoothed", "slope")  # the others are error_kinds'
_ENDS = {"smoothed": (1e-4, 30.0), "precision": (1e-9, 0.5)}  # sizes that bend with the amount


@dataclass(frozen=True, eq=False)
class Wrong:
    """The class's exact denoiser with an error of a kind and amount; x (n, d), sigma a number."""

    errors: ScoreErrors
    kind: str
    amount: float

    def __call__(self, x: np.ndarray, sigma: Any) -> np.ndarray:
        exact = self.errors.target.cond.denoise
        level = np.asarray(sigma, dtype=np.float64).reshape(-1, 1)
        if self.kind == "smoothed":
            wide = np.hypot(level, self.amount)
            s = wide[:, 0] if len(wide) > 1 else float(wide[0, 0])
            return x + (level / wide) ** 2 * (exact(x, s) - x)
        known = exact(x, sigma)
        if self.kind == "scaled":
            return x - (1 + self.amount) * (x - known)
        if self.kind == "slope":
            return known + self.amount * level * self._place(x, level) * self._across
        return self.errors.change(self.kind, self.amount, x, sigma, known, known)[0]

    def _place(self, x: np.ndarray, level: np.ndarray) -> np.ndarray:
        """z (n, 1) along the class-mean direction."""
        centre, spread = self._along
        return ((x @ self.errors.direction)[:, None] - centre) / np.hypot(spread, level)

    @cached_property
    def _along(self) -> tuple[float, float]:
        """Mean and standard deviation of the class along the class-mean direction."""
        draws = self.errors.target.cond.sample(_DRAWS, np.random.default_rng(0))
        along = draws @ self.errors.direction
        return float(along.mean()), float(along.std())

    @cached_property
    def _across(self) -> np.ndarray:
        """u (d,)."""
        v = self.errors.direction
        if len(v) == 1:
            return -v
        drawn = np.random.default_rng(self.errors.seed).standard_normal(len(v))
        drawn -= (drawn @ v) * v
        return drawn / np.linalg.norm(drawn)


def amount(errors: ScoreErrors, kind: str, size: float) -> float:
    """The amount of a kind with this size; NaN where none has it."""
    if kind not in (*_OURS, *_ENDS):
        return float(errors.amounts(kind, [size])[0])
    if kind not in _ENDS:
        return size / _size(errors, kind, 1.0, slice(None))
    few = slice(None, None, _THIN)

    def excess(place: float) -> float:
        return np.log(max(_size(errors, kind, float(np.exp(place)), few), 1e-150) / size)

    low, high = np.log(_ENDS[kind])
    if excess(low) * excess(high) > 0:
        return np.nan
    return float(np.exp(brentq(excess, low, high, xtol=5e-3)))  # pyright: ignore


def _size(errors: ScoreErrors, kind: str, given: float, some: slice) -> float:
    """Size of one of our kinds, over some points of the quadrature."""
    at = errors.reference
    x, sigma, cond, weights = at.x[some], at.sigma[some], at.cond[some], at.weights[some]
    wrong = Wrong(errors, kind, given)(x, sigma)
    return float(
        np.sqrt(weights @ (np.sum((wrong - cond) ** 2, axis=1) / sigma**2) / weights.sum())
    )
