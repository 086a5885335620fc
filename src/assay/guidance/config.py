"""What a sweep is asked to do: typed, frozen, unknown names refused; enough to repeat it.

Weights are the paper's: guided = (1+w) cond - w uncond; guidance_scale = 1 + w.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from assay import refusal

SOLVERS = ("exact", "euler", "heun", "dpmpp_2m", "adams", "sde")


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Law(_Config):
    """A guidance law of the registry in :mod:`assay.guidance.laws`, with its parameters."""

    name: str = "constant"
    params: dict[str, Any] = {}


class Particles(_Config):
    """How many samples are drawn, over which Karras grid, where no exact distribution is."""

    n: int = Field(default=4096, ge=2, le=10_000_000)
    steps: int = Field(default=64, ge=2, le=100_000)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    scale: float = Field(
        default=1.0, gt=0
    )  # a standard deviation of the data, for the solver adams


class Simulation(Particles):
    """Particles drawn by one solver from one seed."""

    solver: str = "heun"
    seed: int = Field(default=0, ge=0)

    @field_validator("solver")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known_solver(name)


class SweepConfig(_Config):
    """Target x law x solver x w x seed. ``solvers`` empty: exact where 1-D, else heun."""

    kind: Literal["guidance.sweep"] = "guidance.sweep"
    target: str = "gaussians"
    params: dict[str, Any] = {}
    w: tuple[float, ...] = (0.0, 1.0, 3.0, 7.0, 15.0)
    laws: tuple[Law, ...] = (Law(),)
    solvers: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    particles: Particles = Particles()

    @field_validator("w", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> tuple[float, ...]:
        return weights(value if isinstance(value, (list, tuple)) else [value])

    @field_validator("solvers")
    @classmethod
    def _solvers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _unique("solvers", tuple(_known_solver(n) for n in names))

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or min(seeds) < 0:
            raise ValueError(f"seeds {list(seeds)} must be one or more integers >= 0")
        return _unique("seeds", seeds)

    @field_validator("laws")
    @classmethod
    def _laws(cls, laws: tuple[Law, ...]) -> tuple[Law, ...]:
        if not laws:
            raise ValueError("laws is empty; name at least one law, such as constant")
        _unique("laws", tuple(law.model_dump_json() for law in laws))
        return laws


def weights(values: Iterable[Any]) -> tuple[float, ...]:
    """The grid of w from numbers or comma lists; ValueError where empty, doubled or not finite."""
    parts = [p.strip() for v in values for p in str(v).split(",")]
    if not parts or not all(parts):
        raise ValueError("w is empty or has an empty entry; give numbers such as --w 0,1,3")
    try:
        grid = tuple(float(p) for p in parts)
    except ValueError:
        raise ValueError(f"w {','.join(parts)!r} is not a list of numbers") from None
    if not all(math.isfinite(w) for w in grid):
        raise ValueError(f"w {','.join(parts)!r} has a value that is not finite")
    return _unique("w", grid)


def split(name: str, values: Iterable[str]) -> list[str]:
    """The entries of comma lists. ValueError naming what was given, where one is empty."""
    parts = [p.strip() for v in values for p in v.split(",")]
    if not all(parts):
        raise ValueError(f"{name} has an empty entry; give names or numbers, comma separated")
    return parts


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a mapping. ValueError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not TOML ({error})") from None


def build(values: dict[str, Any]) -> SweepConfig:
    """The config from plain values. ValueError in one line where a value is refused."""
    return refusal.checked(SweepConfig, values, given=True)


def _known_solver(name: str) -> str:
    if name not in SOLVERS:
        raise ValueError(f"solver {name!r} is unknown; choose from {', '.join(SOLVERS)}")
    return name


def _unique(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    doubled = [v for i, v in enumerate(values) if v in values[:i]]
    if doubled:
        raise ValueError(f"{name} has {doubled[0]!r} twice; give each value once")
    return values
