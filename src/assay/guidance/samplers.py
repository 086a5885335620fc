"""Five samplers side by side: what each of them samples, against the exact tilted moments.

On two mirrored Gaussians along the first of d coordinates: the conditional, the guided ODE, the
guided SDE, the tilted distribution itself (rejection) and Feynman-Kac correctors. Moments are of
the class coordinate, whose tilted law does not depend on d, so the 1-D quadrature is the truth.
Standard errors come from islands that never meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from assay.core import noise as noises
from assay.guidance import correctors, targets
from assay.guidance.tilt import tilted

SAMPLERS = ("conditional", "guided ODE", "guided SDE", "tilted", "Feynman-Kac")
ISLANDS = 20
_SIGMAS = (0.002, 80.0)


def sampler_row(
    sampler: str, d: int, w: float, n: int = 4000, steps: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Mean and sd of one sampler's class coordinate with standard errors, beside the tilt's.

    sampler: one of SAMPLERS; n: a multiple of 20 (islands); steps: of a Karras grid from 80 to
    0.002. z_mean and z_sd are the distances to the tilted moments in standard errors.
    ValueError for another sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown; choose from {', '.join(SAMPLERS)}")
    target = targets.gaussians(mean=[1.0] + [0.0] * (d - 1))
    exact = tilted(targets.gaussians(), w)
    rng = np.random.default_rng([seed, d, SAMPLERS.index(sampler)])
    found = _draw(sampler, target, w, (n, steps), rng)
    (mean, mean_se), (sd, sd_se) = found.mean(), found.sd()
    row = {
        "sampler": sampler,
        "target": "gaussians",
        "d": d,
        "w": float(w),
        "guidance_scale": 1 + float(w),
        "n": n,
        "steps": steps if found.nfe else None,
        "seed": seed,
        "nfe": found.nfe,
        "islands": ISLANDS,
        "mean": float(mean[0]),
        "mean_se": float(mean_se[0]),
        "sd": float(sd[0]),
        "sd_se": float(sd_se[0]),
        "exact_mean": exact.mean(),
        "exact_sd": exact.sd(),
    }
    row["z_mean"] = (row["mean"] - row["exact_mean"]) / row["mean_se"]
    row["z_sd"] = (row["sd"] - row["exact_sd"]) / row["sd_se"]
    return row


def _draw(
    sampler: str,
    target: targets.Target,
    w: float,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> correctors.Weighted:
    n, steps = size
    if sampler == "conditional":
        return _unweighted(target.cond.sample(n, rng))
    if sampler == "tilted":
        return _unweighted(tilted(target, w).sample(n, rng))
    methods: dict[str, Callable[..., correctors.Weighted]] = {
        "guided ODE": correctors.guided_ode,
        "guided SDE": correctors.guided_sde,
        "Feynman-Kac": correctors.feynman_kac,
    }
    grid = noises.karras(steps, *_SIGMAS, zero=False)
    noise = rng.standard_normal((n, target.dim))
    return methods[sampler](target.cond.denoise, target.uncond.denoise, w, noise, grid, rng)


def _unweighted(x: np.ndarray) -> correctors.Weighted:
    """Independent draws as particles of equal weight."""
    none = np.ones((1, ISLANDS))
    return correctors.Weighted(x, np.zeros(len(x)), none, none[:0].astype(bool), 0)
