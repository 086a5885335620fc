"""The guidance laws by name, and what a law needs beside its formula.

    law = laws.build("interval", 3.0, low=0.3, high=3.0)
    guided = laws.guided(law, cond, uncond)      # a Denoiser; autoguidance gets its weak model
    step = law.own_step or solver.heun           # CFG++ is a step of its own

``w`` is the paper's: guided = (1+w) cond - w uncond, guidance_scale = 1 + w. The formulas, their
predictions and times are in :mod:`assay.guidance.law` (the terms), ``schedules`` (weights that
depend on the noise level), ``corrections`` (the rest), ``control`` (ours); CFG++ is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from assay.core.guidance import Guided
from assay.core.solver import Memory, State, Step
from assay.core.special import Array, param
from assay.guidance import corrections, schedules
from assay.guidance.control import thrifty as control
from assay.guidance.law import Law

__all__ = [
    "NAMES",
    "CfgPlusPlus",
    "Dilated",
    "Law",
    "build",
    "cfg_plus_plus",
    "guided",
    "matched_w",
    "models",
    "parameters",
]

_FAR = 1e8  # noise level at which an exact denoiser answers with its mean


@dataclass(frozen=True)
class CfgPlusPlus(schedules.Constant):
    """CFG++ (Chung et al., arXiv 2406.08070, algorithm 2): guided estimate, unconditional noise.

        D = D_u + lambda (D_c - D_u),   x_next = D + sigma_next (x - D_u)/sigma,   lambda = 1 + w

    Prediction eps; theirs is lambda in [0, 1], so w in [-1, 0]. The step is Euler's with the
    guidance scale lambda sigma/(sigma - sigma_next), hence has no limit for small steps.
    """

    name: ClassVar[str] = "cfg_plus_plus"
    prediction: ClassVar[str] = "eps"

    @property
    def own_step(self) -> Any:
        return cfg_plus_plus


def _advance(denoiser: Any, state: State, sigma_next: float, rng: Any) -> State:
    x, sigma = state.x, state.sigma
    cond, uncond = denoiser.cond(x, sigma), denoiser.uncond(x, sigma)
    denoised, memory = denoiser.law(x, sigma, cond, uncond, state.memory.law)
    ahead = denoised + (sigma_next / sigma) * (x - uncond)
    return State(ahead, sigma_next, denoised, Memory(memory))


# For Guided denoisers whose law is CfgPlusPlus; no equation is solved, so no order is claimed.
cfg_plus_plus = Step("cfg_plus_plus", _advance, order=0)


def matched_w(w: float, sigmas: Any) -> float:
    """The w of CFG++ whose guidance scales, averaged over the steps of a grid, are 1 + w.

    sigmas (n+1,) decreasing and > 0 before the last.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    return (1 + w) / float(np.mean(sigmas[:-1] / (sigmas[:-1] - sigmas[1:]))) - 1


_CLASSES: tuple[type[Law], ...] = (
    schedules.Constant,
    schedules.Interval,
    schedules.LowHighLow,
    schedules.Beta,
    schedules.Autoguidance,
    corrections.Rescale,
    corrections.Apg,
    corrections.CfgZeroStar,
    corrections.Tangential,
    corrections.DynamicThresholding,
    corrections.Mimic,
    CfgPlusPlus,
    control.Thrifty,
)
_BY_NAME: dict[str, type[Law]] = {cls.name: cls for cls in _CLASSES}
NAMES = tuple(_BY_NAME)


def build(name: str, w: float, **params: Any) -> Law:
    """The law of that name. ValueError for an unknown name or parameter, or a value refused."""
    allowed = parameters(name)
    unknown = sorted(set(params) - set(allowed))
    if unknown:
        known = ", ".join(allowed) or "no parameters"
        raise ValueError(f"law {name!r} does not take {', '.join(unknown)}; it takes {known}")
    try:
        return _BY_NAME[name](w, **params)
    except TypeError as error:
        raise ValueError(f"law {name!r}: w = {w!r}, {params}: {error}") from None


def parameters(name: str) -> dict[str, Any]:
    """Parameters of a law, beside w, with their defaults. ValueError for an unknown name."""
    if name not in _BY_NAME:
        raise ValueError(f"law {name!r} is unknown; choose from {', '.join(NAMES)}")
    return {f.name: f.default for f in fields(_BY_NAME[name]) if f.name != "w"}


@dataclass(frozen=True)
class Dilated:
    """Denoiser of mean + s (x0 - mean), s^2 = variance, made from the denoiser of x0.

        D'(x, sigma) = m + s (D(m + (x - m)/s, sigma/s) - m),   exact for every law of x0.

    mean (*shape) of x0, or None: then the denoiser is asked for it at sigma = 1e8, which an exact
    one answers and a network need not.
    """

    denoiser: Callable[[Array, Any], Array]
    variance: float
    mean: Any = None

    def __call__(self, x: Array, sigma: Any) -> Array:
        mean = self.denoiser(0 * x[:1], _FAR) if self.mean is None else param(self.mean, x)
        s = self.variance**0.5
        return mean + s * (self.denoiser(mean + (x - mean) / s, sigma / s) - mean)


def models(law: Law, cond: Any, uncond: Any, mean: Any = None) -> tuple[Any, Any]:
    """The two denoisers a law combines: autoguidance takes a wider conditional for ``uncond``."""
    if law.weak_variance is None:
        return cond, uncond
    return cond, Dilated(cond, law.weak_variance, mean)


def guided(law: Law, cond: Any, uncond: Any, mean: Any = None) -> Guided:
    """The law's denoiser; mean: of the class, for autoguidance with a network (Dilated)."""
    return Guided(*models(law, cond, uncond, mean), law)
