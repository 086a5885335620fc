"""What the study of guided rules draws, and how it is refused where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from assay import refusal
from assay.families.config import SamplerConfig
from assay.models.config import Config
from assay.rules import mini
from assay.studies import guided_models as models
from assay.studies.guided_models import EXACT, FAMILIES

KIND = "studies.guided-rules"
W = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)


class GuidedRules(Config):
    """What is drawn. n: samples of a rule and seed, of which slow families draw a share.

    n_rows: rows a rule of the exact law; n_steps: training steps of every learned family, None
    for each one's own; shipped: families taken as they are shipped, by the hash of their weights.
    """

    kind: Literal["studies.guided-rules"] = KIND
    families: tuple[str, ...] = tuple(FAMILIES)
    w: tuple[float, ...] = W
    rules: tuple[int, ...] = mini.TRAINED
    n: int = Field(default=128, ge=4)
    seeds: tuple[int, ...] = (0, 1)
    sampler: SamplerConfig = SamplerConfig(
        kind="dpmpp_2m", grid="karras", n_steps=20, sigma_min=0.05, sigma_max=40.0
    )
    n_rows: int = Field(default=300, ge=3, multiple_of=3)
    n_steps: int | None = Field(default=None, ge=1)
    shown: tuple[int, ...] = (30, 38)
    shipped: dict[str, str] = Field(default_factory=dict)
    command: str = ""

    @field_validator("families")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FAMILIES:
                raise ValueError(f"family {name!r} is unknown; choose from {', '.join(FAMILIES)}")
        return _each_once("families", names)

    @field_validator("w")
    @classmethod
    def _with_plain(cls, w: tuple[float, ...]) -> tuple[float, ...]:
        if 0 not in w:
            raise ValueError(
                "w must hold 0, the plain conditional law: the others are compared with it"
            )
        return tuple(sorted(_each_once("w", w)))

    @field_validator("rules")
    @classmethod
    def _trained(cls, rules: tuple[int, ...]) -> tuple[int, ...]:
        for rule in rules:
            if rule not in mini.TRAINED:
                known = ", ".join(map(str, mini.TRAINED))
                raise ValueError(f"rule {rule} has no label learned here; choose from {known}")
        return _each_once("rules", rules)

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if min(seeds, default=0) < 0:
            raise ValueError(f"seeds {seeds} must be 0 or more")
        return _each_once("seeds", seeds)

    def n_of(self, family: str) -> int:
        """Samples that a family draws of a rule and seed."""
        return max(4, round(self.n * FAMILIES[family].share))


def _each_once(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must name one or more, each once; got {list(values)}")
    return values


def build(values: Mapping[str, Any]) -> GuidedRules:
    """The configuration from plain values; ValueError in one line where refused."""
    return refusal.checked(GuidedRules, dict(values))


def from_shipped(**changes: Any) -> GuidedRules:
    """The study of the shipped families beside the exact law; changes as of `GuidedRules`."""
    from assay.rules import modelfile

    names = models.shipped_names()
    for name in changes.get("families", ()):
        if name not in (EXACT, *names):
            there = ", ".join((EXACT, *names))
            raise ValueError(f"family {name!r} is not shipped; choose from {there}, or train it")
    hashes = {n: modelfile.about(models.FOLDER / f"{n}.json")["sha256"] for n in names}
    return build({"families": (EXACT, *names), "shipped": hashes, **changes})


def demo() -> GuidedRules:
    """What `assay demo` draws from the shipped families: a small study, nothing trained."""
    return from_shipped(w=(0.0, 1.0, 3.0, 8.0, 20.0), rules=(30, 33, 36, 38), n=24, n_rows=90)
