"""The guidance laws by name, and what a law needs beside its formula.

    law = laws.build("interval", 3.0, low=0.3, high=3.0)
    guided = laws.guided(law, cond, uncond)      # a Denoiser; autoguidance gets its weak model
    step = law.own_step or solver.heun           # CFG++ is a step of its own

``w`` is the paper's: guided = (1+w) cond - w uncond, guidance_scale = 1 + w. The formulas, their
predictions and times are in :mod:`assay.guidance.law` (the terms), ``schedules`` (weights that
depend on the noise level), ``corrections`` (the rest); CFG++ is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from assay.guidance import corrections, schedules
from assay.guidance.law import Law, flow_time, vp_time

__all__ = [
    "NAMES",
    "CfgPlusPlus",
    "Law",
    "build",
    "flow_time",
    "matched_w",
    "parameters",
    "vp_time",
]

_FAR = 1e8  # noise level at which an exact denoiser answers with its mean


@dataclass(frozen=True)
class CfgPlusPlus(schedules.Constant):
    """CFG++ (Chung et al., arXiv 2406.08070, algorithm 2): guided estimate, unconditional noise.

        D = D_u + lambda (D_c - D_u),   x_next = D + sigma_next (x - D_u)/sigma,   lambda = 1 + w

    Prediction eps; theirs is lambda in [0, 1], so w in [-1, 0]. It is Euler with the guidance
    scale lambda sigma/(sigma - sigma_next) at each step, hence has no limit for small steps.
    """

    name: ClassVar[str] = "cfg_plus_plus"

    @property
    def own_step(self) -> Any:
        return None


def matched_w(w: float, sigmas: Any) -> float:
    """The w of CFG++ whose guidance scales, averaged over the steps of a grid, are 1 + w.

    sigmas (n+1,) decreasing and > 0 before the last.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    return (1 + w) / float(np.mean(sigmas[:-1] / (sigmas[:-1] - sigmas[1:]))) - 1


_CLASSES = (
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
)
_BY_NAME: dict[str, Callable[..., Law]] = {cls.name: cls for cls in _CLASSES}
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
