"""Guidance: two denoisers and a law are one denoiser.

Convention, stated here once: ``w`` is the paper's (Chidambaram et al. 2024, arXiv 2409.13074),

    guided = (1 + w) * cond - w * uncond = cond + w * (cond - uncond),

so w = 0 is the plain conditional model and w = -1 the unconditional one. Since score and denoised
are affine in each other at equal x and sigma, the same combination holds for scores, eps and
velocities. Most software counts ``guidance_scale`` = 1 + w instead (Ho and Salimans 2022,
arXiv 2207.12598, write w as here).

A law is a float w or a callable (x, sigma, d_cond, d_uncond, memory) -> (denoised, memory).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from assay.core import denoiser as denoisers
from assay.core import special

Array = special.Array
Sigma = denoisers.Sigma
AnyDenoiser = denoisers.AnyDenoiser
Law = float | Callable[..., tuple[Array, Any]]


def guidance_scale(w: float) -> float:
    """The guidance scale of most software, 1 + w."""
    return 1 + w


def w_from_guidance_scale(scale: float) -> float:
    """w of a guidance scale, scale - 1."""
    return scale - 1


def combine(cond: Array, uncond: Array, w: float) -> Array:
    """(1 + w) cond - w uncond of two arrays of log probabilities; -inf where cond is -inf.

    The discrete twin of `Guided`: the law proportional to p(v | label)^(1 + w) / p(v)^w. What the
    condition rules out stays out; what uncond alone rules out (-inf there) counts as w = 0.
    """
    xp: Any = special.namespace(cond)
    push = xp.where(xp.isfinite(cond) & xp.isfinite(uncond), w * (cond - uncond), 0.0 * w)
    return cond + push


@dataclass(frozen=True)
class Guided:
    """The denoiser cond guided away from uncond by a law; (x, sigma) -> denoised.

    cond, uncond: denoisers of the same x; law: finite w, or a callable
    (x, sigma, d_cond, d_uncond, memory) -> (denoised, memory), whose first memory is None.
    With w = 0 uncond is never called, with w = -1 cond is never called. ValueError on another w.
    """

    cond: AnyDenoiser
    uncond: AnyDenoiser
    law: Law

    def __post_init__(self) -> None:
        if isinstance(self.law, Real):
            if not math.isfinite(self.law):
                raise ValueError(f"law is w = {self.law}: give a finite w")
        elif not callable(self.law):
            raise ValueError(f"law is {self.law!r}: give a float w or a callable")

    @property
    def calls_per_evaluation(self) -> int:
        """How many of the two denoisers one evaluation calls: 1 for w = 0 and w = -1, else 2."""
        return 1 if isinstance(self.law, Real) and self.law in (0, -1) else 2

    def __call__(self, x: Array, sigma: Sigma) -> Array:
        """denoised, in the shape of x, from a law without memory (or at its first call)."""
        return self.evaluate(x, sigma, None)[0]

    def evaluate(self, x: Array, sigma: Sigma, memory: Any) -> tuple[Array, Any]:
        """(denoised, memory): what a solver calls; the solver carries the memory."""
        law = self.law
        if callable(law):
            return law(x, sigma, self.cond(x, sigma), self.uncond(x, sigma), memory)
        if law == 0:
            return self.cond(x, sigma), memory
        d_uncond = self.uncond(x, sigma)
        if law == -1:
            return d_uncond, memory
        d_cond = self.cond(x, sigma)
        return d_cond + float(law) * (d_cond - d_uncond), memory


def unbiased_start(
    cond: AnyDenoiser, uncond: AnyDenoiser, w: float, noise: Array, sigma_max: float
) -> Array:
    """x at sigma_max on the guided trajectory that comes from noise at sigma = infinity.

    In c = x / sigma and r = 1 / sigma the ODE is dc/dr = D_w(c / r, 1 / r) with c = noise at
    r = 0, and D_w = (1 + w) E[x0 | z] - w E[x0] + r Cov_w c + O(r^2). Its midpoint value over
    [0, r] is D_w with half the noise at r, hence

        x = sigma_max noise + D_w(sigma_max noise / 2, sigma_max),

    which leaves O(1 / sigma_max^2), where sigma_max noise alone leaves the means,
    (1 + w) E[x0 | z] - w E[x0], and is biased by them. Costs one guided evaluation.
    noise: (batch, *shape), standard normal; sigma_max > 0 finite.
    """
    if not (math.isfinite(sigma_max) and sigma_max > 0):
        raise ValueError(f"sigma_max is {sigma_max}: give a positive, finite noise level")
    at_max = sigma_max * noise
    return at_max + Guided(cond, uncond, w)(at_max / 2, sigma_max)
