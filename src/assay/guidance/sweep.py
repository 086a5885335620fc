"""Sweeps: target x law x solver x w x seed as a resumable list of rows.

Every row is made on its own from the configuration, so a sweep that was stopped computes only
what is missing. Rows of the solver "exact" come from the distribution of guided samples itself
(1-D, constant law); the others from particles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import neighbours
from assay.core.guidance import Guided
from assay.guidance import columns, exact, laws, pushforward, targets
from assay.guidance.config import Law, Simulation, SweepConfig
from assay.guidance.simulate import Samples, simulate
from assay.guidance.tilt import tilted
from assay.runs import Made, Run

_N_KEPT = 64  # samples and trajectories kept for pictures
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Job:
    """One row to be made."""

    key: str
    make: Callable[[], Made]

    def write(self, run: Run) -> dict[str, Any]:
        """Make the row where the Run lacks it."""
        return run.compute(self.key, self.make)


def jobs(config: SweepConfig) -> list[Job]:
    """The rows of a sweep. ValueError, before any is made, for what cannot be measured."""
    target = targets.build(config.target, **config.params)
    found = []
    for law in config.laws:
        for solver in config.solvers or (_default_solver(target, law),):
            for w in config.w:
                found += _of_seeds(config, target, law, solver, w)
    return found


def sweep(config: SweepConfig, run: Run) -> list[dict[str, Any]]:
    """All rows of the sweep, made where the Run lacks them."""
    return [job.write(run) for job in jobs(config)]


def _default_solver(target: targets.Target, law: Law) -> str:
    return "exact" if target.dim == 1 and law.name == "constant" else "heun"


def _of_seeds(
    config: SweepConfig, target: targets.Target, law: Law, solver: str, w: float
) -> list[Job]:
    stem = f"{target.name}-{_law_name(law)}-w{w:g}-{solver}"
    if solver == "exact":
        if law.name != "constant" or target.dim != 1:
            raise ValueError(
                f"solver 'exact' needs a 1-D target and the law 'constant', not "
                f"{target.dim}-D and {law.name!r}; take heun"
            )
        pushed = pushforward.Pushforward(target, w)
        return [Job(stem, functools.partial(exact.exact_row, target, pushed))]
    built = laws.build(law.name, w, **law.params)
    found = []
    for seed in config.seeds:
        simulation = Simulation(**config.particles.model_dump(), solver=solver, seed=seed)
        make = functools.partial(sampled_row, target, built, simulation)
        found.append(Job(f"{stem}-s{seed}", make))
    return found


def _law_name(law: Law) -> str:
    given = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in law.params.items()]
    return "+".join([law.name, *given]).replace(" ", "").replace("(", "").replace(")", "")


def sampled_row(target: targets.Target, law: laws.Law, simulation: Simulation) -> Made:
    """Row and pictures of particles under any law and solver."""
    w = law.w
    samples = _draw(target, law, simulation)
    rng = np.random.default_rng([simulation.seed, 1])
    cond = target.cond.sample(simulation.n, rng)
    tilted, reason = _tilted_sample(target, w, simulation.n, rng)
    row = {
        "target": target.name,
        "law": law.name,
        "w": w,
        "guidance_scale": 1 + w,
        **columns.settings(simulation, samples),
        **columns.moments(samples),
        **columns.distance_columns(samples, cond, tilted, simulation.seed),
        "tilted_reason": reason,
        **columns.support_columns(
            samples, lambda x: ~target.off_support(x), target.off_support_name
        ),
        **columns.overshoot(samples, columns.far_edge(target.support, samples.direction)),
        **_sampled_odds(target, samples.denoised),
    }
    heldout = getattr(target, "heldout", None)
    if heldout is not None:
        row |= columns.data_columns(samples, heldout) | _training_columns(target)
    return row, {"bands": _bands(samples), "samples": samples.denoised[:_N_KEPT]}


def _draw(target: targets.Target, law: laws.Law, simulation: Simulation) -> Samples:
    denoisers = target.cond.denoise, target.uncond.denoise
    # the constant law as a number costs one network at w = 0 and w = -1
    guided = Guided(*denoisers, law.w) if law.name == "constant" else laws.guided(law, *denoisers)
    return simulate(guided, (target.dim,), simulation, step=law.own_step)


def _bands(samples: Samples) -> np.ndarray:
    """(1 + quantiles, n_sigmas): sigma, then quantiles of the projection."""
    return np.vstack([samples.sigmas, np.quantile(samples.projection, _QUANTILES, axis=1)])


def _training_columns(target: Any) -> dict[str, Any]:
    """How far the training images are from the held-out ones: the yardstick for samples."""
    return {"knn_train": float(np.median(neighbours.knn_distance(target.train, target.heldout)))}


def _sampled_odds(target: targets.Target, x: np.ndarray) -> dict[str, Any]:
    if target.rest is None:
        return {"class_odds": None, "class_odds_reason": "uncond does not contain cond"}
    odds = target.log_odds(x)
    return columns.odds_columns(float(np.mean(odds)) if np.all(np.isfinite(odds)) else np.inf)


def _tilted_sample(
    target: targets.Target, w: float, n: int, rng: np.random.Generator
) -> tuple[np.ndarray | None, str | None]:
    """n exact draws of the tilt, or None and why there are none."""
    try:
        draws = tilted(target, w).sample(n, rng)
    except ValueError as error:
        return None, str(error)
    return draws.reshape(n, -1), None
