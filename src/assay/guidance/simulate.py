"""Guided samples by any solver from any pair of denoisers, and what is seen on their way.

Particles start at sigma_max * u + D_w(sigma_max * u / 2), u ~ N(0, I), where the plain
sigma_max * u biases every sample (core/guidance.py, unbiased_start; here for any law). The
projection is onto the direction of E[x|z] - E[x], which every pair of denoisers shows at
sigma_max, in the Ornstein-Uhlenbeck coordinate x / sqrt(1 + sigma^2).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import denoiser, solver, special
from assay.core import noise as noises
from assay.core.guidance import Guided
from assay.guidance.config import Simulation

STEPS = {
    "euler": solver.euler,
    "heun": solver.heun,
    "dpmpp_2m": solver.dpmpp_2m,
    "sde": solver.sde,
}
_JUMP = 1e-9  # relative distance of the nodes on both sides of a jump
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
    step, sigmas = method(simulation, step, getattr(guided.law, "breaks", ()))
    noise = special.randn(rng, (simulation.n, *shape))
    direction = class_direction(guided, simulation.sigma_max * noise, simulation.sigma_max)
    seen, last = [], None
    for last in solver.solve(guided, start(guided, noise, sigmas[0]), sigmas, step, rng):
        seen.append(_project(last.x, direction) / np.sqrt(1 + last.sigma**2))
    assert last is not None
    final, _ = denoiser.evaluate(guided, last.x, last.sigma, last.memory.law)
    return Samples(
        special.as_float64(last.x),
        special.as_float64(final),
        np.asarray(sigmas, dtype=np.float64),
        np.asarray(seen),
        direction,
        network_calls(guided, step, sigmas),
    )


def start(guided: Any, noise: Any, sigma_max: float) -> Any:
    """x at sigma_max on the trajectory that comes from noise (n, *shape) at sigma = infinity."""
    x = float(sigma_max) * noise
    first, _ = denoiser.evaluate(guided, x / 2, float(sigma_max), None)
    return x + first


def method(
    simulation: Simulation, step: Any = None, breaks: tuple[float, ...] = ()
) -> tuple[solver.Step, np.ndarray]:
    """The step and its grid from sigma_max to sigma_min: Karras, but Chebyshev for adams.

    Each of the breaks, where a law jumps, gets two nodes of the Karras grid, above it and at it,
    so that no step reaches across.
    """
    ends = (simulation.steps, simulation.sigma_min, simulation.sigma_max)
    if step is None and simulation.solver == "adams":
        scale = simulation.scale
        return solver.adams(scale=scale), noises.chebyshev(*ends, scale=scale)
    grid = noises.karras(*ends, zero=False)
    for jump in breaks:
        if simulation.sigma_min < jump < simulation.sigma_max:
            grid = grid[np.abs(grid / jump - 1) > 1e-6]
            grid = np.concatenate([grid, [jump * (1 + _JUMP), jump]])
    return step or STEPS[simulation.solver], np.sort(grid)[::-1]


def network_calls(guided: Any, step: solver.Step, sigmas: np.ndarray) -> int:
    """Networks called for one sample: start, steps, final denoise, without those not needed."""
    needs = getattr(guided.law, "evaluations", lambda sigma: guided.calls_per_evaluation)
    levels = [float(s) for s in sigmas]
    total = needs(levels[0]) + needs(levels[-1])
    for here, after in itertools.pairwise(levels):
        if after < here * (1 - 1e-6):  # the step across a jump is bookkeeping
            total += needs(here) + (step.evaluations > 1) * needs(after)
    return total


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
