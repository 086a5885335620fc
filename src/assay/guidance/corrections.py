"""Guidance laws that correct the guided prediction: its size, its direction or its range.

Each is stated for one sample in its own prediction (``NativeLaw.prediction``, which can be
changed), c the conditional, u the unconditional one, g = (1+w) c - w u = c + w (c - u); norms,
means and quantiles are over the coordinates of a sample.

diffusers' guiders have the same formulas with guidance_scale = 1 + w: Rescale is
rescale_noise_cfg, CfgZeroStar and Tangential their namesakes. Apg equals theirs with
guidance_scale = w and use_original_formulation, or with form "diffusers" and
guidance_scale = 1 + w. DynamicThresholding is their schedulers' thresholding without
sample_max_value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from assay.core.special import Array, namespace
from assay.guidance.law import NativeLaw, dot, mean, over, quantile, require


@dataclass(frozen=True)
class Rescale(NativeLaw):
    """phi g std(c)/std(g) + (1-phi) g (Lin et al., arXiv 2305.08891, section 3.4).

    Prediction v of a variance-preserving process, phi = 0.7, both theirs.
    """

    prediction: str = "v"
    phi: float = 0.7
    name: ClassVar[str] = "rescale"
    least_dim: ClassVar[int] = 2
    why: ClassVar[str] = "the standard deviation over one coordinate is 0/0 (NaN in use)"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.phi <= 1, f"phi = {self.phi} must lie in [0, 1]")

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        guided = cond + self.w * (cond - uncond)
        spread, wide = (dot(c, c) ** 0.5 for c in (cond - mean(cond), guided - mean(guided)))
        return self.phi * guided * over(spread, wide) + (1 - self.phi) * guided, memory


@dataclass(frozen=True)
class Apg(NativeLaw):
    """c + w (m - (1-eta) p): m the difference with momentum, cut in norm, p its part along c.

    Adaptive projected guidance (Sadat et al., arXiv 2410.02416, algorithm 1) on x0. In memory
    m_i = c - u + momentum m_(i-1); cut: m min(1, norm_threshold/|m|), 0 for no limit;
    p = (m.c) c/|c|^2. For small steps momentum acts like w/(1 - momentum). form "diffusers" is
    u + (1+w) (m - (1-eta) p): the same only where eta = 1 without momentum and limit.
    """

    eta: float = 0.0
    norm_threshold: float = 2.5
    momentum: float = -0.75
    form: str = "paper"
    name: ClassVar[str] = "apg"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.form in ("paper", "diffusers"),
            f"form {self.form!r} is unknown; choose paper or diffusers",
        )
        require(self.norm_threshold >= 0, f"norm_threshold = {self.norm_threshold} must be >= 0")
        require(-1 < self.momentum < 1, f"momentum = {self.momentum} must lie in (-1, 1)")
        require(math.isfinite(self.eta), f"eta = {self.eta} must be a finite number")

    def note(self, dim: int) -> str | None:
        if dim > 1 or self.eta:
            return None
        return (
            "does nothing: no direction is orthogonal to one coordinate; in diffusers' form it "
            "jumps at guidance scale 1 from the conditional to the unconditional model"
        )

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        diff = cond - uncond
        if self.momentum:
            diff = memory = diff if memory is None else diff + self.momentum * memory
        if self.norm_threshold:
            excess = dot(diff, diff) ** 0.5 / self.norm_threshold
            diff = diff / namespace(excess).clip(excess, 1.0, None)
        update = diff - (1 - self.eta) * over(dot(diff, cond), dot(cond, cond)) * cond
        if self.form == "paper":
            return cond + self.w * update, memory
        return uncond + (1 + self.w) * update, memory


@dataclass(frozen=True)
class CfgZeroStar(NativeLaw):
    """(1+w) c - w s u with s = (c.u)/|u|^2, and velocity 0 for t > 1 - zero_init.

    CFG-Zero* (Fan et al., arXiv 2503.18886, section 4). Prediction velocity, flow time
    t = sigma/(1+sigma), zero_init = 0.04, all theirs (the share is of uniform steps in t).
    """

    prediction: str = "velocity"
    zero_init: float = 0.04
    name: ClassVar[str] = "cfg_zero_star"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.zero_init < 1, f"zero_init = {self.zero_init} must lie in [0, 1)")

    @property
    def breaks(self) -> tuple[float, ...]:
        return ((1 - self.zero_init) / self.zero_init,) if self.zero_init else ()

    def evaluations(self, sigma: float) -> int:
        return 0 if self.breaks and sigma > self.breaks[0] else 2

    def note(self, dim: int) -> str | None:
        if dim > 1:
            return None
        return "the scale does nothing: on one coordinate s u = c; zero_init alone acts"

    def _guide(
        self, x: Array, sigma: Any, d_cond: Array, d_uncond: Array, memory: Any
    ) -> tuple[Array, Any]:
        denoised, memory = super()._guide(x, sigma, d_cond, d_uncond, memory)
        if not self.breaks:
            return denoised, memory
        still = x / (1 + sigma)  # the estimate whose velocity is 0
        return namespace(x).where(sigma + 0 * x > self.breaks[0], still, denoised), memory

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        fitted = over(dot(cond, uncond), dot(uncond, uncond)) * uncond
        return cond + self.w * (cond - fitted), memory


@dataclass(frozen=True)
class Tangential(NativeLaw):
    """(1+w) c - w (u.e) e, e the leading right singular vector of the rows c and u.

    Tangential damping, TCFG (Kwon et al., arXiv 2503.18137). Prediction eps.
    """

    prediction: str = "eps"
    name: ClassVar[str] = "tangential"
    least_dim: ClassVar[int] = 2
    why: ClassVar[str] = "one coordinate has no second singular direction (an error in use)"

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        xp = namespace(cond)
        half = (dot(cond, cond) - dot(uncond, uncond)) / 2
        angle = xp.atan2(dot(cond, uncond), half) / 2  # of the Gram matrix's leading eigenvector
        lead = xp.cos(angle) * cond + xp.sin(angle) * uncond
        kept = over(dot(uncond, lead), dot(lead, lead)) * lead
        return cond + self.w * (cond - kept), memory


@dataclass(frozen=True)
class DynamicThresholding(NativeLaw):
    """clip(g, -s, s) bound/s with s = max(bound, quantile of |g|).

    Imagen (Saharia et al., arXiv 2205.11487, section 2.3). Prediction x0. bound is the largest
    |x0| of the data: 1 for images in [-1, 1].
    """

    bound: float = 1.0
    percentile: float = 0.995
    name: ClassVar[str] = "dynamic_thresholding"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.bound < math.inf, f"bound = {self.bound} must be a number > 0")
        require(0 < self.percentile <= 1, f"percentile = {self.percentile} must lie in (0, 1]")

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        xp = namespace(cond)
        guided = cond + self.w * (cond - uncond)
        limit = xp.clip(quantile(xp.abs(guided), self.percentile), self.bound, None)
        return xp.clip(guided / limit, -1.0, 1.0) * self.bound, memory


@dataclass(frozen=True)
class Mimic(NativeLaw):
    """Dynamic thresholding to the range that a smaller weight, mimic_w, would give.

    mean(g) + clip(g', -s, s) r/s, where ' is less the mean over coordinates, r the largest |h'| of
    h = c + mimic_w (c - u), s = max(r, quantile of |g'|). Prediction x0. Source: the
    sd-dynamic-thresholding extension of web interfaces (no paper), one channel, measure AD, start
    MEAN, constant modes; its mimic_scale is 1 + mimic_w.
    """

    mimic_w: float = 1.0
    percentile: float = 1.0
    name: ClassVar[str] = "mimic"
    least_dim: ClassVar[int] = 2
    why: ClassVar[str] = "the spread of one coordinate about its mean is 0/0 (NaN in use)"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(math.isfinite(self.mimic_w), f"mimic_w = {self.mimic_w} must be a finite number")
        require(0 < self.percentile <= 1, f"percentile = {self.percentile} must lie in (0, 1]")

    def combine(self, cond: Array, uncond: Array, memory: Any) -> tuple[Array, Any]:
        xp = namespace(cond)
        diff = cond - uncond
        guided, small = cond + self.w * diff, cond + self.mimic_w * diff
        centred = guided - mean(guided)
        reach = quantile(xp.abs(small - mean(small)), 1.0)
        limit = xp.maximum(reach, quantile(xp.abs(centred), self.percentile))
        shrunk = xp.clip(over(centred, limit), -1.0, 1.0) * reach
        return mean(guided) + shrunk, memory
