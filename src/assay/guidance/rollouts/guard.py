"""Guards of a rollout: what is measured, its range, the limit of its mean and the side of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_TEXT = re.compile(r"(.+?)\s+at\s+(most|least)\s+(\S+)(?:\s+in\s+(\S+?)\s*\.\.\s*(\S+))?")
_LONGEST = 100
_SHORTEST_STEP, _STEPS = 0.03, 20  # of the means drawn beside a limit


@dataclass(frozen=True)
class Guard:
    """The mean of a metric must be at most, or at least, a limit.

    Guard("off_support", at_most=0.01) or Guard("quality", at_least=0.8). low, high: the range
    that no value may leave (1 and 0 for events); clip a metric without bounds before it comes
    here, from the good side only: clipping the bad side hides what the guard is there to see.
    limit: strictly between low and high. metric: optional callable of samples (n, ...) giving n
    values, for :meth:`Rollout.measure`. ValueError for anything else, naming the guard.
    """

    name: str
    at_most: float | None = None
    at_least: float | None = None
    low: float = 0.0
    high: float = 1.0
    metric: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and self.name.isprintable()
        if not named or not 0 < len(self.name.strip()) <= _LONGEST:
            raise ValueError(
                f"guard {self.name!r} needs a name of 1 to {_LONGEST} printable letters"
            )
        if self.name == "w":
            raise ValueError('a guard cannot be named "w", which rows use for the weight')
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"guard {self.name!r} needs one of at_most and at_least")
        numbers = (self.limit, self.low, self.high)
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers):
            raise ValueError(f"guard {self.name!r}: limit, low and high must be finite numbers")
        if not self.low < self.limit < self.high:
            raise ValueError(
                f"guard {self.name!r}: its limit {self.limit:g} must lie strictly between the "
                f"ends of its range, {self.low:g} and {self.high:g}: no number of samples shows "
                "more"
            )

    @classmethod
    def parse(cls, text: str) -> Guard:
        """From words: "off_support at most 0.01", "score_error at most 0.3 in 0..2"."""
        found = _TEXT.fullmatch(text.strip())
        if not found:
            raise ValueError(
                f'guard {text!r} is not understood: write "NAME at most 0.01" or '
                '"NAME at least 0.8", with "in LOW..HIGH" where its range is not 0 to 1'
            )
        name, side, limit, low, high = found.groups()
        ends = _number(text, low or "0"), _number(text, high or "1")
        at = _number(text, limit)
        return cls(name, *((at, None) if side == "most" else (None, at)), *ends)

    @property
    def limit(self) -> float:
        """Where the mean's limit lies."""
        found = self.at_least if self.at_most is None else self.at_most
        assert found is not None
        return found

    @property
    def side(self) -> str:
        """ "at most" or "at least"."""
        return "at least" if self.at_most is None else "at most"

    @property
    def good_side(self) -> int:
        """Index of the evidence for it in a MeanSequence: 1 (below) for "at most", else 0."""
        return 0 if self.at_most is None else 1

    @property
    def words(self) -> str:
        """ "off_support at most 0.01"; :meth:`parse` reads it."""
        usual = (self.low, self.high) == (0.0, 1.0)
        span = "" if usual else f" in {self.low:.17g}..{self.high:.17g}"
        return f"{self.name} {self.side} {self.limit:.17g}{span}"

    def data(self) -> dict[str, Any]:
        """For a log; :meth:`of` reads it."""
        return {"name": self.name, "side": self.side, "limit": float(self.limit),
                "low": float(self.low), "high": float(self.high)}  # fmt: skip

    @classmethod
    def of(cls, data: dict[str, Any]) -> Guard:
        """From :meth:`data`."""
        side = {data["side"].replace(" ", "_"): data["limit"]}
        return cls(data["name"], **side, low=data["low"], high=data["high"])

    def means(self) -> np.ndarray:
        """Means at which its confidence sequence is drawn: closer to the limit, more of them."""
        below, above = self.limit - self.low, self.high - self.limit
        first = _SHORTEST_STEP * min(below, above)
        down = self.limit - np.geomspace(first, 0.97 * below, _STEPS)
        up = self.limit + np.geomspace(first, 0.97 * above, _STEPS)
        return np.concatenate([down[::-1], [self.limit], up])


def read(guards: Iterable[Guard | str] | str) -> tuple[Guard, ...]:
    """Guards, some of them in words. ValueError where there is none or a name comes twice."""
    items = [guards] if isinstance(guards, str) else list(guards)
    made = tuple(g if isinstance(g, Guard) else Guard.parse(g) for g in items)
    names = [g.name for g in made]
    twice = sorted({n for n in names if names.count(n) > 1})
    if not made:
        raise ValueError('a rollout needs one guard at least, such as "off_support at most 0.01"')
    if twice:
        raise ValueError(f"guard {twice[0]!r} comes twice: give each a name of its own")
    return made


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"guard {text!r}: {value!r} is not a number") from None
