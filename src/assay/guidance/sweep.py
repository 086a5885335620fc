"""Sweeps: target x law x solver x w x seed as a resumable list of rows.

Every row is made on its own from the configuration, so a sweep that was stopped computes only
what is missing. Rows of the solver "exact" come from the distribution of guided samples itself
(1-D, constant law); the others from particles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import special
from assay.core.guidance import Guided
from assay.guidance import columns, distribution, laws, pushforward, targets, tilt
from assay.guidance.config import Law, Simulation, SweepConfig
from assay.guidance.simulate import simulate
from assay.runs import Made, Run

_N_GRID = 400  # abscissae of a density
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
        return [Job(stem, lambda: exact_row(target, pushed))]
    built = float(w) if law.name == "constant" else laws.build(law.name, w, **law.params)
    found = []
    for seed in config.seeds:
        simulation = Simulation(**config.particles.model_dump(), solver=solver, seed=seed)
        found.append(
            Job(
                f"{stem}-s{seed}",
                lambda s=simulation: sampled_row(target, law, built, w, s),
            )
        )
    return found


def _law_name(law: Law) -> str:
    given = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in law.params.items()]
    return "+".join([law.name, *given]).replace(" ", "").replace("(", "").replace(")", "")


def exact_row(target: targets.Target, pushed: pushforward.Pushforward) -> Made:
    """Row and density of the exact distribution of guided samples in 1-D."""
    tilted, reason = _tilted(target, pushed.w)
    cond = distribution.conditional(target)
    off = _off_support(target, pushed)
    row = {
        "target": target.name,
        "law": "constant",
        "w": pushed.w,
        "guidance_scale": 1 + pushed.w,
        "solver": "exact",
        "n": None,
        "seed": None,
        "coordinate": "x",
        "mean": pushed.mean(),
        "sd": pushed.sd(),
        "median": pushed.quantile(0.5),
        "entropy": pushed.entropy(),
        "distance": "W1",
        "w1_to_cond": pushed.w1_to_cond(),
        "w1_to_tilted": None if tilted is None else pushed.w1(tilted),
        "tilted_reason": reason,
        "tilted_mean": None if tilted is None else tilted.mean(),
        "support": target.off_support_name,
        "off_support": off,
        "off_support_denoised": off,  # no noise is left at the end of the exact flow
    }
    row |= _odds_columns(target, pushed)
    row["nfe"] = pushed.nfe
    return row, {"density": _densities(pushed, tilted, cond)}
