"""What the comparison of guidance laws at equal class odds is asked to do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from assay import refusal
from assay.guidance import config, laws
from assay.guidance.choosing import criterion
from assay.guidance.control.targets import ERRORS, REPORTING, TUNING, Place, PlantedError

OURS, BASELINE, PLAIN, PEER = "thrifty", "constant", "conditional", "interval"
_FIELD = PlantedError(kind="field", which="uncond", size=0.1)


class ControlConfig(config._Config):
    """Targets, errors, laws and sizes.

    tuning, reporting: targets on which parameters are chosen, and others on which they are
    reported; errors: of the reporting targets, ``peers_error`` the one under which every law
    runs and fronts are drawn. criterion: what ``choose`` finds the constant law's w by.
    n: samples a seed, a power of two; steps: Heun steps; tolerance: of matched class odds, as a
    share of the gain; front: multiples of each law's matched w; cap: samples of one weight that
    ``choose`` may use; command: what makes the rows again.
    """

    kind: Literal["guidance.control"] = "guidance.control"
    tuning: tuple[Place, ...] = TUNING
    tuning_errors: tuple[PlantedError, ...] = (
        PlantedError(kind="bias", which="uncond", size=1.0),
        PlantedError(kind="field", which="uncond", size=0.07),
    )
    tuning_weights: tuple[float, ...] = (1.0, 2.0)
    reporting: tuple[Place, ...] = REPORTING
    errors: tuple[PlantedError, ...] = ERRORS
    peers_error: PlantedError = _FIELD
    criterion: str = "off_support < 3%; diversity >= 60%; confidence 95%"
    laws: tuple[str, ...] = laws.NAMES
    n: int = Field(default=512, ge=64, le=1 << 20)
    steps: int = Field(default=32, ge=4, le=10_000)
    seeds: tuple[int, ...] = (0, 1, 2)
    front: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.5)
    tolerance: float = Field(default=0.02, gt=0, lt=0.5)
    cap: int = Field(default=1024, ge=128, le=10_000_000)

    @field_validator("n")
    @classmethod
    def _binary(cls, n: int) -> int:
        if n & (n - 1):
            raise ValueError(f"n {n} must be a power of two, such as 1024")
        return n

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < 2 or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds {list(seeds)} must be two or more different integers >= 0")
        return seeds

    @field_validator("laws")
    @classmethod
    def _laws(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            laws.parameters(name)
        missing = [name for name in (BASELINE, OURS) if name not in names]
        if missing:
            raise ValueError(f"laws lacks {missing[0]!r}, which the others are compared with")
        return names

    @field_validator("criterion")
    @classmethod
    def _criterion(cls, text: str) -> str:
        return criterion.Criterion.parse(text).text

    command: str = "assay guidance control --out DIR"

    def simulation(self, seed: int) -> config.Simulation:
        """Heun's method on the Karras grid that all laws share."""
        return config.Simulation(n=self.n, steps=self.steps, solver="heun", seed=seed)


def build(values: dict[str, Any]) -> ControlConfig:
    """The config from plain values. ValueError in one line where a value is refused."""
    asked = refusal.checked(ControlConfig, values)
    both = {p.name for p in asked.tuning} & {p.name for p in asked.reporting}
    if both:
        raise ValueError(f"target {min(both)!r} is both tuned and reported on; take another")
    if asked.peers_error not in asked.errors:
        raise ValueError(f"peers_error {asked.peers_error.label} must be one of the errors")
    return asked
