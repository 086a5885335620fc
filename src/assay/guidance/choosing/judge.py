"""One weight judged against a criterion: estimates, bounds and verdicts from paired samples.

Off-support is a rate, the others are means of one number a sample; :mod:`choosing_bounds` has
the bounds. A constraint is *held* where its bound lies inside the limit, *broken* where the
opposite bound lies outside, and *hopeless* where with LUCK standard errors to spare this sample
would still not be held at the largest allowed n. Only *held* carries a guarantee; stopping
for the others merely gives a weight up. Its margin says how far the estimate lies inside what
would just be held at the largest n, on a scale that is nearly straight in log(1 + w).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from assay.core import intervals
from assay.guidance.choosing import bounds
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.draw import Drawn

LUCK = 1.5
_LOST = -10.0  # margin of samples that left the numbers


class Level(NamedTuple):
    """alpha: error allowed to "held"; cap: the largest number of samples of one weight."""

    alpha: float
    cap: int


class Measured(NamedTuple):
    """One constraint at one weight: value with its bounds, verdicts, margin with its error."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    limit: float
    held: bool
    broken: bool
    hopeless: bool
    margin: float
    margin_se: float


def judge(criterion: Criterion, drawn: Drawn, plain: Drawn, level: Level) -> list[Measured]:
    """Every constraint on samples of one weight; plain: those of w = 0 from the same noise."""
    return [_JUDGES[name](criterion, drawn, plain, level) for name in criterion.names]


def needs_plain(criterion: Criterion) -> bool:
    """Whether samples of w = 0 are compared with."""
    return criterion.diversity is not None or criterion.odds_gain is not None


def _off_support(criterion: Criterion, drawn: Drawn, plain: Drawn, level: Level) -> Measured:
    limit, off = criterion.off_support, drawn.off
    assert limit is not None
    assert off is not None
    k, n = int(off.sum()), len(off)
    least = most_off(level.cap, limit, level.alpha)
    high = bounds.rate_upper(k, n, *level)
    low = bounds.rate_lower(k, n, *level)
    lucky = k + (level.cap - n) * max(0.0, k - LUCK * math.sqrt(k)) / n
    passing = math.log((least + 0.5) / level.cap)
    margin, error = passing - math.log((k + 0.5) / n), 1 / math.sqrt(k + 0.5)
    return Measured(
        "off_support", k / n, low, high, limit, high < limit, low > limit, lucky > least, margin,
        error,
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def most_off(cap: int, limit: float, alpha: float) -> int:
    """Most samples off among ``cap`` that still show a rate below the limit; else ValueError."""
    count = bounds.passing_count(cap, limit, alpha)
    if count < 0:
        raise ValueError(
            f"cap {cap} is too few samples to show off_support < {limit:g} even where none is "
            f"off; allow about {math.ceil(6 / limit)} or more, or a higher limit"
        )
    return count


def _mean(name: str, value: float, sd: float, n: int, limit: float, level: Level) -> Measured:
    """A mean that must be shown to be at least its limit."""
    if not (math.isfinite(value) and math.isfinite(sd)):
        return Measured(name, None, None, None, limit, False, True, True, _LOST, 1.0)
    room = sd * bounds.radius(n, *level)
    at_cap = sd * bounds.radius(level.cap, *level)
    error = sd / math.sqrt(n)
    lucky = value + (LUCK * error if n < level.cap else 0.0)
    return Measured(
        name, value, value - room, value + room, limit, value - room >= limit,
        value + room < limit, lucky - at_cap < limit, value - limit - at_cap, max(error, 1e-6),
    )  # fmt: skip


def _diversity(criterion: Criterion, drawn: Drawn, plain: Drawn, level: Level) -> Measured:
    assert criterion.diversity is not None
    with np.errstate(over="ignore", invalid="ignore"):
        ratio, sd = bounds.log_ratio(drawn.x, plain.x)
    found = _mean("diversity", ratio, sd, len(drawn.x), math.log(criterion.diversity), level)
    if found.value is None or found.low is None or found.high is None:
        return found._replace(limit=criterion.diversity)
    value, low, high = (math.exp(v) for v in (found.value, found.low, found.high))
    return found._replace(value=value, low=low, high=high, limit=criterion.diversity)


def _returned(criterion: Criterion, drawn: Drawn, plain: Drawn, level: Level) -> Measured:
    """Every noise level must be shown to have returned: the worst one speaks for all."""
    if drawn.late is None:
        raise ValueError(
            f"returned: no noise level of the solver lies at or below sigma "
            f"{criterion.returned:g}; take one inside its grid"
        )
    each = [
        _mean("returned", -float(y.mean()), float(y.std(ddof=1)), len(y), 0.0, level)
        for y in drawn.late
    ]
    worst = min(each, key=lambda m: -math.inf if m.low is None else m.low)
    if worst.value is None or worst.low is None or worst.high is None:
        return worst
    return worst._replace(
        value=-worst.value, low=-worst.high, high=-worst.low, held=all(m.held for m in each),
        broken=any(m.broken for m in each), hopeless=any(m.hopeless for m in each),
    )  # fmt: skip


def _odds_gain(criterion: Criterion, drawn: Drawn, plain: Drawn, level: Level) -> Measured:
    assert criterion.odds_gain is not None
    if drawn.odds is None or plain.odds is None:
        raise ValueError("odds_gain needs odds: a callable x (n, d) -> log odds of the class (n,)")
    with np.errstate(invalid="ignore"):
        gain = drawn.odds - plain.odds
    sd = float(gain.std(ddof=1)) if np.all(np.isfinite(gain)) else math.nan
    return _mean("odds_gain", float(gain.mean()), sd, len(gain), criterion.odds_gain, level)


_JUDGES: dict[str, Callable[[Criterion, Drawn, Drawn, Level], Measured]] = {
    "off_support": _off_support,
    "diversity": _diversity,
    "returned": _returned,
    "odds_gain": _odds_gain,
}


def columns(measured: list[Measured], drawn: Drawn) -> dict[str, Any]:
    """The columns of an evidence row: <name>, _low, _high for each constraint; off-support
    without the final denoise with its Wilson interval; null where there is none."""
    row: dict[str, Any] = {}
    for one in measured:
        ends = {"": one.value, "_low": one.low, "_high": one.high, "_limit": one.limit}
        row |= {f"{one.name}{end}": value for end, value in ends.items()}
    row |= dict.fromkeys(("off_support_plain", "off_support_plain_low", "off_support_plain_high"))
    if drawn.off_plain is not None:
        count, n = int(drawn.off_plain.sum()), len(drawn.off_plain)
        low, high = intervals.wilson(count, n)
        row |= {"off_support_plain": count / n, "off_support_plain_low": low}
        row["off_support_plain_high"] = high
    return row
