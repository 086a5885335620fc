"""What a guidance law is, and the predictions and times in which laws are stated.

A law is a callable ``(x, sigma, d_cond, d_uncond, memory) -> (denoised, memory)``: x, d_cond and
d_uncond (batch, *shape) of one backend, sigma a float or (batch,), memory None at the start.
``w`` is the weight of guided = (1+w) cond - w uncond; guidance_scale = 1 + w.

With x = x0 + sigma noise and D an estimate of x0 the native predictions are

    x0        D
    eps       (x - D)/sigma                                 the noise
    v         alpha eps - alpha sigma D                     alpha = (1 + sigma^2)^(-1/2)
    velocity  eps - D                                       d/dt of (1-t) x0 + t noise

and the native times are flow t = sigma/(1+sigma) and the variance-preserving t of
1 + sigma^2 = exp(0.1 t + 9.95 t^2) (beta from 0.1 to 20: Song et al. 2021, arXiv 2011.13456);
both grow with noise. A law that is an affine combination of the two models with weights that sum
to 1 is the same in every prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from assay.core.special import Array, as_float64, namespace, param

PREDICTIONS = ("x0", "eps", "v", "velocity")
_VP_LOW, _VP_HIGH = 0.1, 20.0


def vp_time(sigma: Any) -> np.ndarray:
    """Variance-preserving time of sigma for beta(t) = 0.1 + 19.9 t; 1 at sigma = 152."""
    grown = 2 * np.log1p(np.square(sigma))
    return grown / (_VP_LOW + np.sqrt(_VP_LOW**2 + (_VP_HIGH - _VP_LOW) * grown))


def affine(prediction: str, sigma: Any) -> tuple[Any, Any]:
    """(a, b) with prediction = a x + b D."""
    if prediction == "x0":
        return 0.0, 1.0
    if prediction == "eps":
        return 1 / sigma, -1 / sigma
    if prediction == "velocity":
        return 1 / sigma, -(1 + sigma) / sigma
    alpha = (1 + sigma * sigma) ** -0.5
    return alpha / sigma, -1 / (alpha * sigma)


def column(value: Any, x: Array) -> Any:
    """A float, or one number per sample that broadcasts against x."""
    value = as_float64(value)
    if value.size == 1:
        return float(value.reshape(()))
    return param(value.reshape((-1,) + (1,) * (x.ndim - 1)), x)


def rows(x: Array) -> Array:
    """(batch, *shape) as (batch, d)."""
    return namespace(x).reshape(x, (x.shape[0], -1))


def per_sample(value: Array, x: Array) -> Array:
    """(batch,) so that it broadcasts against x."""
    return namespace(x).reshape(value, (-1,) + (1,) * (x.ndim - 1))


def dot(a: Array, b: Array) -> Array:
    """Inner product per sample, broadcastable against a."""
    return per_sample(namespace(a).vecdot(rows(a), rows(b), axis=-1), a)


def mean(x: Array) -> Array:
    """Mean over the coordinates of each sample, broadcastable against x."""
    return per_sample(namespace(x).mean(rows(x), axis=-1), x)


def over(a: Array, b: Array) -> Array:
    """a/b, 0 where b is 0; a may be wider than b."""
    xp = namespace(b)
    none = b == 0
    return a * xp.where(none, xp.zeros_like(b), 1 / xp.where(none, xp.ones_like(b), b))


def quantile(x: Array, share: float) -> Array:
    """Quantile over the coordinates of each sample, linearly interpolated, broadcastable."""
    xp = namespace(x)
    if share == 1:
        return per_sample(xp.max(rows(x), axis=-1), x)
    ordered = xp.sort(rows(x), axis=-1)
    last = ordered.shape[-1] - 1
    low = min(int(share * last), max(last - 1, 0))
    below, above = ordered[:, low], ordered[:, min(low + 1, last)]
    return per_sample(below + (share * last - low) * (above - below), x)


@dataclass(frozen=True)
class Law:
    """What every law has beside its parameters; w must be finite.

    name: in the registry. prediction: in which it is stated; "any" where all agree.
    """

    w: float
    name: ClassVar[str] = ""
    least_dim: ClassVar[int] = 1
    why: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if isinstance(self.w, bool) or not math.isfinite(self.w):
            raise ValueError(f"w {self.w!r} must be a finite number")

    @property
    def breaks(self) -> tuple[float, ...]:
        """Noise levels, decreasing, at which the law jumps; the level belongs to what is below."""
        return ()

    @property
    def weak_variance(self) -> float | None:
        """Factor on the conditional's variance that makes the model it is guided against."""
        return None

    @property
    def own_step(self) -> Any:
        """The solver step that the law needs in place of a general one, or None."""
        return None

    def evaluations(self, sigma: float) -> int:
        """Network evaluations that the law needs at this noise level: 0, 1 or 2."""
        return 2

    def undefined(self, dim: int) -> str | None:
        """Why the law has no value in this many coordinates; None where it has one."""
        return self.why if dim < self.least_dim else None

    def note(self, dim: int) -> str | None:
        """What a reader of the law's numbers in this many coordinates should know."""
        return None

    def __call__(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any = None
    ) -> tuple[Array, Any]:
        """Guided estimate of x0 (batch, *shape), and what the law remembers."""
        reason = self.undefined(math.prod(x.shape[1:]))
        if reason:
            raise ValueError(
                f"law {self.name!r} is undefined here: {reason}; use more coordinates"
            )
        return self._guide(x, column(sigma, x), d_cond, d_uncond, memory)

    def _guide(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any
    ) -> tuple[Array, Any]:
        raise AssertionError("a law states its own formula")


@dataclass(frozen=True)
class NativeLaw(Law):
    """A law that is not affine: converted to its prediction, combined there, converted back."""

    prediction: str = "x0"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prediction not in PREDICTIONS:
            raise ValueError(
                f"prediction {self.prediction!r} is unknown; choose from {', '.join(PREDICTIONS)}"
            )

    def _guide(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any
    ) -> tuple[Array, Any]:
        if self.prediction == "x0":
            return self.combine(d_cond, d_uncond, memory)
        a, b = affine(self.prediction, sigma)
        guided, memory = self.combine(a * x + b * d_cond, a * x + b * d_uncond, memory)
        return (guided - a * x) / b, memory

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        """The law in its own prediction; cond, uncond (batch, *shape)."""
        raise AssertionError("a native law states its own formula")


def require(holds: bool, message: str) -> None:
    """ValueError with this message unless the condition holds (NaN never does)."""
    if not holds:
        raise ValueError(message)
