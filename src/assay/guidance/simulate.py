"""Guided samples by any solver from any pair of denoisers, and what is seen on their way.

Particles start at sigma_max * u + D_w(sigma_max * u), u ~ N(0, I): to first order in 1/sigma the
exact start of the flow in c = x/sigma, where the plain sigma_max * u biases every sample
(guidance.unbiased_start). The projection is onto the direction of E[x|z] - E[x], which every pair
of denoisers shows at sigma_max, in the Ornstein-Uhlenbeck coordinate x / sqrt(1 + sigma^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import noise, solver, special
from assay.core.guidance import Guided
from assay.guidance.config import Simulation

STEPS = {
    "euler": solver.euler,
    "heun": solver.heun,
    "dpmpp_2m": solver.dpmpp_2m,
    "adams": solver.adams,
    "sde": solver.sde,
}
Generators = Callable[[int], Any]


@dataclass(frozen=True)
class Samples:
    """x and denoised (n, *shape) at sigma_min, without and with the final denoise; projection
    (n_sigmas, n) in the Ornstein-Uhlenbeck coordinate; nfe network evaluations a sample."""

    x: np.ndarray
    denoised: np.ndarray
    sigmas: np.ndarray
    projection: np.ndarray
    direction: np.ndarray
    nfe: int


def simulate(
    guided: Guided,
    shape: tuple[int, ...],
    simulation: Simulation,
    generator: Generators = np.random.default_rng,
    step: Any = None,
) -> Samples:
    """Draw simulation.n samples of one shape, from sigma_max down to sigma_min.

    generator: seed -> numpy or torch generator, which decides the backend. step: a step of
    core/solver.py in place of the one that ``simulation.solver`` names. nfe counts every call of
    a network for one sample: the solver's, one for the start and one for the final denoise.
    """
    rng = generator(simulation.seed)
    step = STEPS[simulation.solver] if step is None else step
    sigmas = noise.karras(simulation.steps, simulation.sigma_min, simulation.sigma_max)
    x = simulation.sigma_max * special.randn(rng, (simulation.n, *shape))
    first, _ = guided.evaluate(x, simulation.sigma_max, None)
    direction = class_direction(guided, x, simulation.sigma_max)
    seen, last = [], None
    for last in solver.solve(guided, x + first, sigmas, step, rng):
        seen.append(_project(last.x, direction) / np.sqrt(1 + last.sigma**2))
    assert last is not None
    final, _ = guided.evaluate(last.x, simulation.sigma_min, None)
    return Samples(
        special.as_float64(last.x),
        special.as_float64(final),
        np.asarray(sigmas, dtype=np.float64),
        np.asarray(seen),
        direction,
        (solver.nfe(step, sigmas) + 2) * guided.calls_per_evaluation,
    )


def class_direction(guided: Guided, x: Any, sigma: float) -> np.ndarray:
    """Unit vector (d,) along E[x|z] - E[x], from the two denoisers at large sigma."""
    shift = special.as_float64(guided.cond(x, sigma) - guided.uncond(x, sigma)).mean(axis=0)
    shift = shift.reshape(-1)
    norm = float(np.linalg.norm(shift))
    if norm > 0:
        return shift / norm
    unit = np.zeros_like(shift)
    unit[0] = 1.0
    return unit


def _project(x: Any, direction: np.ndarray) -> np.ndarray:
    flat = special.as_float64(x)
    return flat.reshape(len(flat), -1) @ direction
