"""Guidance laws that are a weight depending on the noise level.

    D = D_c + w(sigma) (D_c - D_u)

For linear Gaussians, cond N(0, A) and uncond N(0, B), the ODE's variance is

    A exp(-2 int_0^inf w(sigma) sigma (B-A) / ((A+sigma^2)(B+sigma^2)) dsigma),

so A (A/B)^w for a constant. Where no prediction is named all of them agree.
diffusers states interval by start and stop in steps instead of noise levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special as sp

from assay.core import noise
from assay.core.special import Array, as_float64
from assay.guidance.law import Law, column, dot, over, require, vp_time


@dataclass(frozen=True)
class Constant(Law):
    """One weight at every noise level (Ho and Salimans, arXiv 2207.12598, equation 6)."""

    name: ClassVar[str] = "constant"
    prediction: ClassVar[str] = "any"

    def weight(self, sigma: Any) -> Any:
        """w at noise level sigma (float or array)."""
        return self.w + 0.0 * sigma

    def evaluations(self, sigma: float) -> int:
        w = float(self.weight(sigma))
        return (w != -1) + (w != 0)

    def _guide(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any
    ) -> tuple[Array, Any]:
        w = column(self.weight(as_float64(sigma)), x)
        return d_cond + w * (d_cond - d_uncond), memory


@dataclass(frozen=True)
class Interval(Constant):
    """w for low < sigma <= high, else 0 (Kynkäänniemi et al., arXiv 2404.07724).

    Time is sigma. Linear Gaussians: A ((A+low^2)(B+high^2) / ((B+low^2)(A+high^2)))^w.
    """

    low: float = 0.3
    high: float = 3.0
    name: ClassVar[str] = "interval"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.low < self.high, f"interval ({self.low}, {self.high}] needs 0 <= low < high"
        )

    @property
    def breaks(self) -> tuple[float, ...]:
        return tuple(b for b in (self.high, self.low) if 0 < b < math.inf)

    def weight(self, sigma: Any) -> Any:
        return self.w * ((sigma > self.low) & (sigma <= self.high))


@dataclass(frozen=True)
class LowHighLow(Constant):
    """w(t) = 2 w (1 - |2t - 1|) over flow time t = sigma/(1+sigma): a triangle of mean w.

    TV-CFG (Jin, Shi, Gu, arXiv 2509.22007) for velocity models: the guidance scale rises from 1
    to 2s - 1 in the middle and falls back, with mean s = 1 + w.
    """

    name: ClassVar[str] = "low_high_low"

    def weight(self, sigma: Any) -> Any:
        return 2 * self.w * (1 - abs(2 * noise.flow_from_sigma(sigma) - 1))


@dataclass(frozen=True)
class Beta(Constant):
    """eps = eps_u + (1+w) beta(1-t; a, b) (eps_c - eps_u) / |eps_c - eps_u|^gamma.

    beta-CFG (Malarz et al., arXiv 2502.10574) in eps; beta is the density of the Beta
    distribution, 1 - t the elapsed share of variance-preserving time. At both ends the scale is
    0, which is the UNconditional model. gamma = 0 is the schedule alone, gamma = 1 takes the
    direction of the difference only; a = 2, b = 3 is the authors' example.
    """

    a: float = 2.0
    b: float = 3.0
    gamma: float = 0.0
    name: ClassVar[str] = "beta"
    prediction: ClassVar[str] = "eps"

    def __post_init__(self) -> None:
        super().__post_init__()
        shapes = self.a >= 1 and self.b >= 1 and math.isfinite(self.a + self.b)
        require(shapes, f"a = {self.a}, b = {self.b} must be finite and at least 1")
        require(0 <= self.gamma <= 1, f"gamma = {self.gamma} must lie in [0, 1]")

    def weight(self, sigma: Any) -> Any:
        left = np.clip(vp_time(sigma), 0, 1)
        density = (1 - left) ** (self.a - 1) * left ** (self.b - 1) / sp.beta(self.a, self.b)
        return (1 + self.w) * density - 1

    def _guide(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any
    ) -> tuple[Array, Any]:
        scale = 1 + column(self.weight(as_float64(sigma)), x)
        diff = d_cond - d_uncond
        if self.gamma:
            diff = over(diff, (dot(diff, diff) ** 0.5 / sigma) ** self.gamma)
        return d_uncond + scale * diff, memory


@dataclass(frozen=True)
class Autoguidance(Constant):
    """The constant law against a weaker conditional model (Karras et al., arXiv 2406.02507).

    The weak model is the conditional with every deviation from its mean stretched to ``variance``
    times the variance. Linear Gaussians: A variance^(-w).
    """

    variance: float = 1.25
    name: ClassVar[str] = "autoguidance"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.variance < math.inf, f"variance = {self.variance} must be a factor > 0")

    @property
    def weak_variance(self) -> float | None:
        return self.variance
