"""What guided samples must satisfy, stated in words and numbers.

    off_support  the share of samples off the class support, after the final denoise, lies below
                 a limit;
    diversity    sqrt(tr Cov(x_w) / tr Cov(x_0)) is at least a share: the root mean square
                 distance between two samples under w, over that under w = 0;
    returned     max over sigma <= s of E[v.x / sqrt(1 + sigma^2)] does not exceed the far edge
                 of the class along v ~ E[x|z] - E[x]: the mean overshoot is over before
                 sigma = s (the overshoot of every table, :mod:`assay.guidance.dynamics`);
    odds_gain    the mean of log p(z|x)/(1 - p(z|x)) exceeds that of w = 0 by so many nats.

Each is to be shown with the same confidence. A weight that meets all of them is acceptable; among
these, :func:`assay.guidance.choosing.choose.choose` takes the largest log(1 + w).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from assay import refusal
from assay.guidance import config

NAMES = ("off_support", "diversity", "returned", "odds_gain")
EXAMPLE = "off_support < 1%; diversity >= 80%; confidence 95%"
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)(e-?\d+)?\s*(%?)"
_CONFIDENCE = re.compile(rf"(?:@|with|confidence)\s*:?\s*{_NUMBER}(?:\s*confidence)?$", re.I)
_CLAUSES = (
    ("off_support", re.compile(rf"off[ _-]support\s*<=?\s*{_NUMBER}$", re.I)),
    ("diversity", re.compile(rf"diversity\s*>=?\s*{_NUMBER}(?:\s*of w ?= ?0)?$", re.I)),
    (
        "returned",
        re.compile(rf"(?:overshoot\s+)?returned before sigma\s*=?\s*{_NUMBER}$", re.I),
    ),
    ("odds_gain", re.compile(rf"odds[ _-]gain\s*>=?\s*{_NUMBER}(?:\s*nats)?$", re.I)),
)


class Criterion(config._Config):
    """Limits that guided samples must keep; None: not asked for. At least one must be given.

    off_support: share in (0, 1); diversity: share of w = 0's in (0, 1); returned: a noise level
    > 0; odds_gain: nats > 0; confidence in (0.5, 1), of each constraint at the w returned.
    """

    off_support: float | None = Field(default=None, gt=0, lt=1)
    diversity: float | None = Field(default=None, gt=0, lt=1)
    returned: float | None = Field(default=None, gt=0)
    odds_gain: float | None = Field(default=None, gt=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @field_validator("off_support", "diversity", "confidence", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip()[:-1]) / 100
        return value

    @model_validator(mode="after")
    def _something(self) -> Criterion:
        if not self.names:
            raise ValueError(f"a criterion without a constraint; give one such as {EXAMPLE!r}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The constraints that are asked for, in the order of NAMES."""
        return tuple(name for name in NAMES if getattr(self, name) is not None)

    @property
    def alpha(self) -> float:
        """1 - confidence."""
        return round(1 - self.confidence, 12)

    @property
    def text(self) -> str:
        """What :meth:`parse` reads: one clause each, then the confidence."""
        clauses = {
            "off_support": f"off_support < {_percents(self.off_support)}",
            "diversity": f"diversity >= {_percents(self.diversity)}",
            "returned": f"returned before sigma {_plain(self.returned)}",
            "odds_gain": f"odds_gain >= {_plain(self.odds_gain)}",
        }
        said = [clauses[name] for name in self.names]
        return "; ".join([*said, f"confidence {_percents(self.confidence)}"])

    def __str__(self) -> str:
        clauses = {
            "off_support": "off the support after the final denoise in fewer than "
            f"{_percents(self.off_support, ' %')} of samples",
            "diversity": f"diversity at least {_percents(self.diversity, ' %')} of that at w = 0",
            "returned": "the mean overshoot back inside the far edge before sigma = "
            f"{_plain(self.returned)}",
            "odds_gain": f"class odds at least {_plain(self.odds_gain)} nats above those at w = 0",
        }
        said = [clauses[name] for name in self.names]
        sentence = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
        each = "" if len(said) == 1 else " each"
        return (
            f"{sentence[0].upper()}{sentence[1:]}, with "
            f"{_percents(self.confidence, ' %')} confidence{each}."
        )

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """A criterion from clauses such as EXAMPLE, separated by ";" or lines, or from TOML.

        A clause may carry the confidence itself: "off_support < 1% @ 95%". TOML: the fields by
        name. ValueError in one line for what cannot be read.
        """
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"criterion is empty; give one such as {EXAMPLE!r}")
        return cls.build(_toml(text) if _is_toml(text) else _clauses(text))

    @classmethod
    def read(cls, path: Path) -> Criterion:
        """A criterion from a TOML file of its fields. ValueError where it cannot be read."""
        return cls.build(config.read_toml(path))

    @classmethod
    def build(cls, values: dict[str, Any]) -> Criterion:
        """A criterion from plain values. ValueError in one line where one is refused."""
        return refusal.checked(cls, values, given=True)


def coerced(criterion: Any) -> Criterion:
    """A criterion from one, its text or its fields. ValueError for anything else."""
    if isinstance(criterion, Criterion):
        return criterion
    if isinstance(criterion, str):
        return Criterion.parse(criterion)
    if isinstance(criterion, dict):
        return Criterion.build(criterion)
    raise ValueError(f"criterion {criterion!r} must be a Criterion or text such as {EXAMPLE!r}")


def _is_toml(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    return bool(lines) and all(re.match(r"\s*\w+\s*=(?!=)", line) for line in lines)


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"criterion is not TOML ({error})") from None


def _clauses(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for clause in re.split(r"[;\n]", text):
        rest = clause.strip().rstrip(".")
        if not rest:
            continue
        at = _CONFIDENCE.search(rest)
        if at is not None:
            _put(found, "confidence", _value(at), text)
            rest = rest[: at.start()].strip().rstrip(",")
        if rest:
            _put(found, *_constraint(rest), text)
    return found


def _constraint(clause: str) -> tuple[str, float]:
    for name, pattern in _CLAUSES:
        match = pattern.match(clause)
        if match is not None:
            return name, _value(match)
    raise ValueError(f"criterion clause {clause!r} is not understood; write it as in {EXAMPLE!r}")


def _put(found: dict[str, Any], name: str, value: float, text: str) -> None:
    if found.setdefault(name, value) != value:
        raise ValueError(f"criterion {text!r} states {name} twice; give one value")


def _value(match: re.Match[str]) -> float:
    number, exponent, percent = match.groups()
    return float(number + (exponent or "")) / (100 if percent else 1)


def _percents(share: float | None, sign: str = "%") -> str:
    return "" if share is None else f"{float(f'{100 * share:.12g}'):.12g}{sign}"


def _plain(value: float | None) -> str:
    return "" if value is None else repr(float(value)).removesuffix(".0")
