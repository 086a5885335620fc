"""A guidance law of our own that pays distance only where it buys class odds.

To raise the mean of a function L over samples at the least mean distance moved, each sample x goes
to the y that maximises lambda L(y) - |y - x| (Lagrange; Kantorovich's dual of W1): it moves only
through places where L is steeper than 1/lambda, and not at all elsewhere. For class odds,
L = log p(z|x), whose slope two denoisers show at every noise level,

    grad log p_sigma(z|x) = (D_c - D_u)/sigma^2.

The law is that rule on the way: w times the slope, less a threshold, cut at a limit, both in
units of 1/(standard deviation of the data),

    D = D_c + p (D_c - D_u)/|D_c - D_u|,
    p = min(max(w |D_c - D_u| - k sigma^2/s, 0), K sigma^2/s).

Where classes are not yet told apart (high noise) the slope is small and nothing is pushed, so that
no mode is chosen for a sample; a sample is let go as soon as the slope at its place is below
k/(w s). The limit acts at low noise: what does not vanish with sigma^2 there is an error, not a
slope (D_u - eta sends plain guidance to b + w eta; here the push beyond an edge is at most
K sigma^2/s). k = 0 and K = inf is the constant law, w = 0 the conditional model. Where log p(z|x)
is linear in x every place is as steep and all laws that only push forward cost the same.

Memory is not needed: the law is a function of the state, so any solver may call it in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from assay.core.special import Array, as_float64, namespace
from assay.guidance.law import Law, dot, over, quantile, require


@dataclass(frozen=True)
class Thrifty(Law):
    """D_c + p along D_c - D_u: p = w |D_c - D_u| less threshold, at most limit, x sigma^2/scale.

    w >= 0: typically two to four times the constant law's. threshold k >= 0 and limit K > 0 (inf
    for none) have no units. scale: the data's standard deviation over all coordinates, see
    :func:`data_scale`; 1 for normalised data. The defaults are those of the study's tuning
    targets (docs/control.md).
    """

    threshold: float = 2.0
    limit: float = 4.0
    scale: float = 1.0
    name: ClassVar[str] = "thrifty"
    prediction: ClassVar[str] = "x0"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.w >= 0, f"w = {self.w} must be >= 0: the law thresholds a push forward")
        require(0 <= self.threshold < math.inf, f"threshold = {self.threshold} must be >= 0")
        require(self.limit > 0, f"limit = {self.limit} must be > 0 (inf for none)")
        require(0 < self.scale < math.inf, f"scale = {self.scale} must be a number > 0")

    def evaluations(self, sigma: float) -> int:
        return 1 if self.w == 0 else 2

    def _guide(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any
    ) -> tuple[Array, Any]:
        xp = namespace(x)
        diff = d_cond - d_uncond
        size = _norm(diff)
        unit = sigma * sigma / self.scale + 0 * size
        push = xp.clip(self.w * size - self.threshold * unit, 0.0, None)
        if math.isfinite(self.limit):
            push = xp.minimum(push, self.limit * unit)
        return d_cond + over(push, size) * diff, memory


def _norm(x: Array) -> Array:
    """Norm of each sample; half precision neither overflows nor loses what is small."""
    top = quantile(namespace(x).abs(x), 1.0)
    part = over(x, top)
    return top * dot(part, part) ** 0.5


def data_scale(data: Any) -> float:
    """The law's scale: sqrt of the mean over coordinates of the variance over samples.

    data (n, *shape), n >= 2, numpy or torch. ValueError where it has no spread.
    """
    values = as_float64(data)
    if values.ndim < 2 or len(values) < 2 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"data of shape {values.shape} must be finite (n, *shape) with n >= 2 samples"
        )
    scale = float(np.sqrt(values.reshape(len(values), -1).var(axis=0).mean()))
    if scale == 0:
        raise ValueError("data has no spread: every sample is the same; give samples that differ")
    return scale
