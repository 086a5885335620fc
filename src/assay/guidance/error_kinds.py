"""Ways for a score to be wrong, and the size of each on one axis.

A score error ds changes a denoiser by dD = sigma^2 ds. With v the class-mean direction, b the far
edge of the class along v, eps = (x - D)/sigma, and both denoisers exact otherwise:

* bias: D_uncond - a v (or D_cond + a v): constant in x and sigma;
* field: D + a sigma xi(x / sqrt(1 + sigma^2), ln sigma): xi a fixed smooth random field, a sum of
  N_WAVES cosines with lengths about LENGTH in x and TIME in ln sigma, unit variance;
* zeroed: both scores 0, so D = x, where v.x > b + a sigma: what a network does where no training
  point ever was; upper side only;
* precision: both eps rounded to a significand of relative spacing a (float16: 2^-10,
  bfloat16: 2^-7);
* stop: exact scores, but none below sigma = a.

Size = sqrt(mean over ln sigma in [0.002, 80] of E_{p_sigma(.|z)}[sigma^2 |ds|^2]), a root mean
square error of eps; where both denoisers are perturbed, the root mean square over the two; for
"stop" that of the score left out. The expectation is a quadrature on the line and a sample else.
An unbounded class has no far edge: the upper end of the region that holds 99.9 % of it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import cumulative_simpson, simpson
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from assay.core import mixture
from assay.guidance import dynamics, stack1d
from assay.guidance.paths import WINDOW
from assay.guidance.targets import Target

KINDS = ("bias", "field", "zeroed", "precision", "stop")
AMOUNTS = {
    "bias": "shift of the denoiser",
    "field": "amplitude in eps",
    "zeroed": "k sigma beyond the far edge",
    "precision": "relative spacing",
    "stop": "last sigma",
}
N_WAVES, LENGTH, TIME = 48, 0.5, 1.0
_N_SIGMAS = 97  # of the quadrature over ln sigma
_N_DRAWS = 512  # at each of them, in d > 1

Pair = Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray]]


class Reference(NamedTuple):
    """Quadrature for the size: x (n, d), sigma (n,), weights (n,) of sum 1, both denoisers."""

    x: np.ndarray
    sigma: np.ndarray
    weights: np.ndarray
    cond: np.ndarray
    uncond: np.ndarray


@dataclass(frozen=True, eq=False)
class ScoreErrors:
    """The kinds of error on one target. which: the denoiser that "bias" and "field" perturb."""

    target: Target
    which: str = "uncond"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.which not in ("cond", "uncond"):
            raise ValueError(f"which {self.which!r} must be 'cond' or 'uncond'")

    @cached_property
    def pair(self) -> Pair:
        """Both exact denoisers, x (n, d), sigma number or (n,)."""
        return mixture.Together([self.target.cond, self.target.uncond])

    @cached_property
    def direction(self) -> np.ndarray:
        return dynamics.direction(self.target)

    @cached_property
    def edge(self) -> float:
        """Far edge b along the direction."""
        edge = dynamics.far_edge(self.target)
        return _outer_edge(self.target, self.direction) if edge is None else edge

    @cached_property
    def waves(self) -> tuple[np.ndarray, ...]:
        """Of the random field: frequencies (N, d) and (N,), phases (N,), directions (N, d)."""
        rng = np.random.default_rng(self.seed)
        dim = self.target.dim
        return (
            rng.standard_normal((N_WAVES, dim)) / LENGTH,
            rng.standard_normal(N_WAVES) / TIME,
            rng.uniform(0, 2 * np.pi, N_WAVES),
            rng.standard_normal((N_WAVES, dim)),
        )

    def perturbs(self, kind: str) -> str:
        """Which denoisers a kind perturbs."""
        _known(kind)
        return {"zeroed": "both", "precision": "both", "stop": "none"}.get(kind, self.which)

    def field(self, x: np.ndarray, sigma: Any) -> np.ndarray:
        """xi at x (n, d), sigma number or (n,): (n, d)."""
        in_x, in_time, phase, towards = self.waves
        level = np.asarray(sigma, dtype=np.float64).reshape(-1, 1)
        angle = (x / np.sqrt(1 + level**2)) @ in_x.T + np.log(level) * in_time + phase
        return np.sqrt(2 / N_WAVES) * np.cos(angle) @ towards

    def denoisers(self, kind: str, amount: Any) -> Pair:
        """Both denoisers with an error of that kind; amount: number or (n, 1), one each row."""
        _known(kind)
        exact = self.pair
        if kind == "stop":
            return exact

        def perturbed(x: np.ndarray, sigma: Any) -> tuple[np.ndarray, np.ndarray]:
            cond, uncond = exact(x, sigma)
            return self.change(kind, amount, x, sigma, cond, uncond)

        return perturbed

    def change(
        self, kind: str, amount: Any, x: np.ndarray, sigma: Any, cond: Any, uncond: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """The perturbed values of exact ones at x (n, d); sigma number or (n,)."""
        level = np.asarray(sigma, dtype=np.float64).reshape(-1, 1)
        if kind == "precision":
            return _rounded(x, level, cond, amount), _rounded(x, level, uncond, amount)
        if kind == "zeroed":
            beyond = (x @ self.direction)[:, None] > self.edge + amount * level
            return np.where(beyond, x, cond), np.where(beyond, x, uncond)
        if kind == "bias":
            shift = amount * self.direction
        else:
            shift = amount * level * self.field(x, sigma)
        return (cond + shift, uncond) if self.which == "cond" else (cond, uncond - shift)

    @cached_property
    def reference(self) -> Reference:
        """Points and weights of the expectation that defines the size."""
        sigmas = np.geomspace(*WINDOW, _N_SIGMAS)
        even = np.asarray(simpson(np.eye(_N_SIGMAS), dx=1 / (_N_SIGMAS - 1), axis=0))
        if self.target.dim == 1:
            x, weights = _quadrature(self.target, sigmas)
        else:
            rng = np.random.default_rng(self.seed + 1)
            draws = [self.target.cond.sample(_N_DRAWS, rng, float(s)) for s in sigmas]
            x = np.stack(draws)
            weights = np.full(x.shape[:2], 1 / _N_DRAWS)
        weights = (weights * even[:, None]).ravel()
        level = np.repeat(sigmas, x.shape[1])
        points = x.reshape(len(level), -1)
        return Reference(points, level, weights, *self.pair(points, level))

    def size(self, kind: str, amount: float) -> float:
        """Size of an error of that kind and amount."""
        at = self.reference
        if kind == "stop":
            return float(np.sqrt(PchipInterpolator(*self._left_out)(np.log(amount))))
        changed = self.change(kind, amount, at.x, at.sigma, at.cond, at.uncond)
        apart = [np.sum((c - e) ** 2, axis=1) for c, e in zip(changed, at[3:], strict=True)]
        square = sum(float(at.weights @ (a / at.sigma**2)) for a in apart)
        return float(np.sqrt(square / (2 if self.perturbs(kind) == "both" else 1)))

    @cached_property
    def _left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """ln sigma, and the squared size of the score left out from 0.002 up to there."""
        at = self.reference
        s = np.log(np.geomspace(*WINDOW, _N_SIGMAS))
        per_level = (at.weights * np.sum((at.cond - at.x) ** 2, axis=1)).reshape(_N_SIGMAS, -1)
        level_weight = at.weights.reshape(_N_SIGMAS, -1).sum(axis=1)
        mean = per_level.sum(axis=1) / level_weight / np.exp(2 * s)
        left = cumulative_simpson(mean, x=s, initial=0.0) / (s[-1] - s[0])
        return s, np.asarray(left)

    def amounts(self, kind: str, sizes: Sequence[float]) -> np.ndarray:
        """Amounts (n,) that give these sizes; NaN where no amount does."""
        _known(kind)
        wanted = np.asarray(sizes, dtype=np.float64)
        if not np.all((wanted > 0) & (wanted < np.inf)):
            raise ValueError(f"size {list(sizes)!r} of a score error must be numbers > 0")
        if kind in ("bias", "field"):
            return wanted / self.size(kind, 1.0)
        if kind == "stop":
            s, left = self._left_out
            return np.exp(PchipInterpolator(left, s, extrapolate=False)(wanted**2))
        return np.array([self._root(kind, float(size)) for size in wanted])

    def _root(self, kind: str, size: float) -> float:
        """The amount of a kind whose size is not linear in it."""
        logarithmic = kind == "precision"
        low, high = (np.log(1e-9), np.log(0.5)) if logarithmic else (0.0, 8.0)

        def excess(place: float) -> float:
            return self.size(kind, float(np.exp(place)) if logarithmic else place) - size

        if excess(low) * excess(high) > 0:
            return np.nan
        place = float(brentq(excess, low, high, xtol=1e-4))  # pyright: ignore
        return float(np.exp(place)) if logarithmic else place


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"score error {kind!r} is unknown; choose from {', '.join(KINDS)}")


def _rounded(x: np.ndarray, level: np.ndarray, denoised: np.ndarray, unit: Any) -> np.ndarray:
    """The denoised value of an eps that was rounded to a relative spacing."""
    eps = (x - denoised) / level
    _, exponent = np.frexp(eps)
    spacing = unit * np.ldexp(1.0, exponent - 1)
    return x - level * np.round(eps / spacing) * spacing


def _outer_edge(target: Target, v: np.ndarray) -> float:
    """Largest projection in the region of an unbounded class that holds 99.9 % of it."""
    draws = target.cond.sample(20_000, np.random.default_rng(0)) @ v
    if target.dim > 1:
        return float(np.quantile(draws, 0.9995))
    centre, spread = float(np.median(draws)), float(np.ptp(draws))
    x = v[0] * (centre + np.linspace(0, 3 * spread, 4001))
    inside = np.flatnonzero(~target.off_support(x[:, None]))[-1]
    return _flip(target, x[inside], x[inside + 1]) * float(v[0])


def _flip(target: Target, inside: float, outside: float) -> float:
    for _ in range(60):
        middle = (inside + outside) / 2
        if target.off_support(np.array([[middle]]))[0]:
            outside = middle
        else:
            inside = middle
    return inside


def _quadrature(target: Target, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (n_sigmas, n) and weights of sum 1 for p_sigma(.|z) on the line, dense at every edge."""
    stack = stack1d.stack(target.cond)
    ends = np.concatenate([stack.centres - 9 * stack.widths, stack.centres + 9 * stack.widths])
    low, high = max(ends.min(), target.support[0][0]), min(ends.max(), target.support[1][0])
    broad = np.linspace(low - 9 * sigmas, high + 9 * sigmas, 401, axis=1)
    close = np.linspace(-9, 9, 121) * sigmas[:, None, None] + stack.edges[:, None]
    x = np.sort(np.concatenate([broad, close.reshape(len(sigmas), -1)], axis=1), axis=1)
    level = np.repeat(sigmas, x.shape[1])
    density = np.exp(target.cond.log_prob(x.reshape(-1, 1), level)).reshape(x.shape)
    gap = np.diff(x, axis=1) / 2
    weights = density * (np.pad(gap, ((0, 0), (1, 0))) + np.pad(gap, ((0, 0), (0, 1))))
    return x, weights / weights.sum(axis=1, keepdims=True)
