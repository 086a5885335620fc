"""What an audit is asked to do: prompts, weights, seeds, limits; enough to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from assay import refusal
from assay.guidance import config


class Limits(config._Config):
    """What samples under a recommended w must keep, as estimated.

    off_support: largest share of samples farther from the reference than 95 % of it is from
    itself; diversity: least sqrt(tr Cov) of the images of a prompt, as a share of w = 0's;
    range_error: largest mean excess of the decoded values beyond [-1, 1], over that of w = 0;
    0.02 is 1 % of the range. Shares of clipped values would not do: in images with much pure
    black or white they are large at any w.
    """

    off_support: float = Field(default=0.15, ge=0, le=1)
    diversity: float = Field(default=0.8, ge=0)
    range_error: float = Field(default=0.02, ge=0)

    @property
    def words(self) -> str:
        """The rule in words."""
        return (
            "the largest w up to which, at every w asked for, at most "
            f"{100 * self.off_support:g} % of the samples lie off the support, the diversity of "
            f"a prompt's images is at least {100 * self.diversity:g} % of that at w = 0, and "
            f"the decoded values are on average at most {self.range_error:g} farther beyond "
            "[-1, 1] than at w = 0"
        )


class Settings(config._Config):
    """How every run is made.

    seeds: one sample each, >= 0; batch: samples in one call of the pipeline, dividing their
    number; steps, height, width: the pipeline's own where None; amplify: run everything a second
    time with a planted error of ``error`` (standard deviation, per entry of the prediction).
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    batch: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    amplify: bool = True
    error: float = Field(default=0.01, gt=0)
    limits: Limits = Limits()

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or min(seeds) < 0:
            raise ValueError(f"seeds {list(seeds)} must be one or more integers >= 0")
        return config._unique("seeds", seeds)

    @property
    def chunks(self) -> list[tuple[int, ...]]:
        """The seeds of each call. ValueError unless the batch divides their number."""
        size = self.batch or len(self.seeds)
        if len(self.seeds) % size:
            raise ValueError(
                f"batch is {size} with {len(self.seeds)} seeds: give a batch that divides them"
            )
        return [self.seeds[i : i + size] for i in range(0, len(self.seeds), size)]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of every call of the pipeline."""
        return {"num_inference_steps": self.steps, "height": self.height, "width": self.width}


class Pictures(config._Config):
    """A folder of real images: its name, how many, and what they are (a hash)."""

    name: str
    n: int
    digest: str


class AuditConfig(config._Config):
    """A Run of kind guidance.audit: the pipeline as it was found, and what was asked."""

    kind: Literal["guidance.audit"] = "guidance.audit"
    pipeline: str
    pipeline_class: str
    scheduler: str
    prediction: str
    fingerprint: str
    prompts: tuple[str, ...]
    w: tuple[float, ...]
    settings: Settings
    images: Pictures | None = None
    command: str


def settings(values: dict[str, Any]) -> Settings:
    """Settings from plain values. ValueError in one line where one is refused."""
    return refusal.checked(Settings, values)


def grid(w: Iterable[Any] | None, guidance_scale: Iterable[Any] | None) -> tuple[float, ...]:
    """The weights, 0 first, from exactly one of the two conventions, each a list of numbers.

    ValueError for both or neither, or a w below 0 (guidance_scale below 1), which pipelines
    answer without guidance.
    """
    if (w is None) == (guidance_scale is None):
        both = "both are given" if w is not None else "neither is given"
        raise ValueError(f"give either w or guidance_scale = 1 + w, such as --w 0,1,3: {both}")
    given = w if w is not None else guidance_scale
    name = "w" if w is not None else "guidance_scale"
    try:
        values = config.weights(_listed(given))
    except ValueError as error:
        raise ValueError(str(error).replace("w ", f"{name} ", 1)) from None
    if w is None:
        values = tuple(round(scale - 1, 12) for scale in values)
    low = [v for v in values if v < 0 or not math.isfinite(v)]
    if low:
        raise ValueError(
            f"w {low[0]:g} (guidance_scale {1 + low[0]:g}) is below 0: pipelines do not guide "
            "there; give w >= 0, guidance_scale >= 1"
        )
    return tuple(sorted({0.0, *values}))


def _listed(given: Any) -> Sequence[Any]:
    return [given] if isinstance(given, (str, int, float)) else list(given)
