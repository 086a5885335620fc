"""Where methods of choosing w are compared: a target, an error of its scores, a criterion.

Errors perturb the unconditional denoiser (zeroed: both) by kind and size
(:mod:`assay.guidance.error_kinds`), their random field by seed FIELD_SEED. In one and two
dimensions samples come from a tabulated map of the solver, and the truth is a quadrature over it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from assay.guidance import dynamics, error_kinds, targets
from assay.guidance.choosing import draw as choosing_draw
from assay.guidance.choosing import pool as choosing_pool
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.table import TableSampler
from assay.guidance.config import Simulation

FIELD_SEED = 3
BOTH = "off_support < 1%; diversity >= 80%; confidence 95%"
OFF = "off_support < 1%; confidence 95%"
BACK = "off_support < 1%; returned before sigma 0.1; confidence 95%"


StudySampler = TableSampler | choosing_pool.PoolSampler


@dataclass(frozen=True)
class Case:
    """name; target and its parameters; criterion; kind and size of the score error, if any."""

    name: str
    target: str
    criterion: str
    params: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    size: float | None = None
    pool: str | None = None  # of choosing_pool.POOLS, in place of a tabulated map

    def row(self) -> dict[str, Any]:
        """The columns that say which case a row belongs to."""
        return {
            "case": self.name,
            "target": self.target,
            "dim": 64 if self.pool else targets.build(self.target, **self.params).dim,
            "error": self.error,
            "size": self.size,
            "criterion": self.criterion,
        }

    def sampler(self, simulation: Simulation, coarse_steps: int | None) -> StudySampler:
        """What draws the case's samples; a pool has its own solver."""
        if self.pool is not None:
            return choosing_pool.POOLS[self.pool]()
        target = targets.build(self.target, **self.params)
        pair = denoisers(target, self.error, self.size)
        late = Criterion.parse(self.criterion).returned
        return TableSampler(
            pair, choosing_draw.of_target(target), simulation, dynamics.direction(target),
            coarse_steps, late,
        )  # fmt: skip


def denoisers(target: targets.Target, error: str | None, size: float | None) -> Any:
    """Both denoisers of a target with a planted error, x, sigma -> (cond, uncond)."""
    errors = error_kinds.ScoreErrors(target, seed=FIELD_SEED)
    if error is None:
        return errors.pair
    if error == "stop":
        raise ValueError("error 'stop' is one of the solver; set its sigma_min instead")
    if size is None:
        raise ValueError(f"error {error!r} needs a size, such as 0.03")
    amount = float(errors.amounts(error, [size])[0])
    if not amount > 0:
        raise ValueError(f"error {error!r} has no amount of size {size:g}; take another size")
    return errors.denoisers(error, amount)


def _gaussian(weight: float, mean: float, sd: float) -> dict[str, Any]:
    return {"weight": weight, "kind": "gaussian", "mean": [mean], "cov": [[sd * sd]]}


_CLASS = [_gaussian(0.6, 0.4, 0.6), _gaussian(0.4, 2.0, 0.5)]
_OTHERS = [_gaussian(0.7, -0.8, 0.8), _gaussian(0.3, 1.2, 0.4)]
OVERLAP = {
    "cond": _CLASS,
    "uncond": [{**p, "weight": p["weight"] / 2} for p in (*_CLASS, *_OTHERS)],
}
BOX = {"low": [0.2, 0.2], "high": [1.2, 1.2]}
PLANE = {"mean": [1.0, 0.5], "sd": [1.0, 0.7]}

# What is reported: fixed before any method had been run on it.
CASES = (
    Case("gaussians", "gaussians", BOTH),
    Case("gaussians-off", "gaussians", OFF),
    Case("gaussians-bias", "gaussians", OFF, error="bias", size=1.0),
    Case("gaussians-field", "gaussians", BOTH, error="field", size=0.1),
    Case("uniforms", "uniforms", BOTH),
    Case("uniforms-back", "uniforms", BACK),
    Case("uniforms-bias", "uniforms", OFF, error="bias", size=0.01),
    Case("uniforms-field", "uniforms", OFF, error="field", size=0.1),
    Case("uniforms-zeroed", "uniforms", OFF, error="zeroed", size=0.03),
    Case("overlap", "mixture", BOTH, OVERLAP),
    Case("overlap-off", "mixture", OFF, OVERLAP),
    Case("overlap-field", "mixture", BOTH, OVERLAP, "field", 0.03),
    Case("boxes-2d", "uniforms", BOTH, BOX),
    Case("boxes-2d-field", "uniforms", OFF, BOX, "field", 0.1),
    Case("gaussians-2d-off", "gaussians", OFF, PLANE),
)
# In 64 dimensions, from pools; not among the default cases. Under this solver 1 % of the mixture's
# own samples are off at w = 0, so that a limit of 1 % can hardly be shown; 5 % came after that.
DIGITS = (
    Case("digits-mixture", "digits", BOTH, pool="digits-mixture"),
    Case(
        "digits-mixture-5", "digits",
        "off_support < 5%; diversity >= 80%; confidence 95%", pool="digits-mixture",
    ),
    Case(
        "digits-learned", "learned digits",
        "off_support < 5%; diversity >= 70%; confidence 95%", pool="digits-learned",
    ),
)  # fmt: skip
# Where the search's own constants were set; never reported beside the above.
TUNING = (
    Case("tune-gaussians", "gaussians", BOTH, {"mean": 1.5, "sd": 0.8, "prior": 0.3}),
    Case("tune-gaussians-off", "gaussians", OFF, {"mean": 1.5, "sd": 0.8, "prior": 0.3}),
    Case("tune-uniforms", "uniforms", BOTH, {"low": 0.5, "high": 2.0, "prior": 0.3}),
    Case("tune-uniforms-back", "uniforms", BACK, {"low": 0.5, "high": 2.0}),
    Case("tune-field", "uniforms", OFF, {"low": 0.5, "high": 2.0}, "field", 0.05),
    Case("tune-zeroed", "uniforms", OFF, {"low": 0.5, "high": 2.0}, "zeroed", 0.05),
)
NAMES = tuple(case.name for case in CASES)


def named(names: Any) -> list[Case]:
    """Cases by name. ValueError for an unknown one."""
    known = {case.name: case for case in (*CASES, *DIGITS, *TUNING)}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        there = ", ".join([*NAMES, *(case.name for case in DIGITS)])
        raise ValueError(f"case {', '.join(unknown) or '(none)'}: choose from {there}")
    return [known[name] for name in names]
