"""Which family now, when to switch, how sure, and at what cost: read off the curves of a study.

Each model's success p(N) at N samples per rule is its curve (`thresholds`); ``draws`` of its
parameters say how sure it is. With N = have + grow t, t in months:

    now      the model of largest p(have); sure: the share of draws in which it is the best
    switch   the first t at which another model's p is the largest, with the quartile range of
             that t over the draws in which it comes to it
    reached  the first t at which the best p is a wanted share

Nothing is said beyond the sizes measured (a factor of two apart): models without evidence at
``have`` are left out by name, and the horizon ends where the last curve's range does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.rules.scaling.thresholds import Counts, Curve

METRICS = ("novel_c3", "c3", "completion_trained", "completion_held_out")
_DRAWS, _GRID = 200, 160

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rates:
    """What resources cost: watts drawn while computing, money for an hour, for a kWh."""

    watts: float | None = None
    per_hour: float | None = None
    per_kwh: float | None = None

    def of(self, seconds: float) -> dict[str, float | None]:
        """{seconds, kwh, money} of computing for so long."""
        hours = seconds / 3600
        kwh = None if self.watts is None else self.watts * hours / 1000
        parts = [hours * self.per_hour] if self.per_hour is not None else []
        if self.per_kwh is not None and kwh is not None:
            parts.append(kwh * self.per_kwh)
        return {"seconds": seconds, "kwh": kwh, "money": sum(parts) if parts else None}


@dataclass(frozen=True)
class Family:
    """A model of the study: its trainings at each size, their curve, draws of it."""

    name: str
    rows: Sequence[Row]
    curve: Curve
    draws: np.ndarray

    def at(self, per_rule: Any) -> np.ndarray:
        """p at sizes; NaN beyond its range."""
        asked = np.atleast_1d(np.asarray(per_rule, dtype=np.float64))
        low, high = self.curve.range
        inside = (asked >= low) & (asked <= high)
        found = np.full(asked.shape, np.nan)
        found[inside] = self.curve(asked[inside])
        return found

    def drawn(self, per_rule: np.ndarray) -> np.ndarray:
        """(draws, sizes): p of each draw."""
        ceiling, slope, middle = (column[:, None] for column in self.draws.T)
        return ceiling / (1 + np.exp(-slope * (np.log(per_rule) - middle)))

    def seconds(self, name: str, per_rule: float) -> float | None:
        """The median of a cost over the trainings of the size nearest to ``per_rule``."""
        nearest = min(
            {r["per_rule"] for r in self.rows}, key=lambda n: abs(math.log(n / per_rule))
        )
        found = [r[name] for r in self.rows if r["per_rule"] == nearest and r.get(name)]
        return float(np.median(found)) if found else None


@dataclass(frozen=True)
class Switch:
    """From one model to another: at how many samples per rule, after how many months."""

    to: str
    per_rule: float
    months: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forecast:
    """The answer; `said` is it in one paragraph."""

    metric: str
    have: float
    grow: float
    want: float
    best: str
    value: float
    interval: tuple[float, float]
    sure: float
    horizon: float
    switches: tuple[Switch, ...]
    reached: float | None
    costs: Mapping[str, Mapping[str, float | None]]
    left_out: Sequence[str] = ()
    families: Sequence[Family] = field(default=(), repr=False)

    def row(self) -> dict[str, Any]:
        """The answer as a row."""
        names = ("metric", "have", "grow", "want", "best", "value", "sure", "horizon", "reached")
        row = {name: getattr(self, name) for name in names}
        row |= {"low": self.interval[0], "high": self.interval[1], "costs": dict(self.costs)}
        row["switches"] = [vars(switch) for switch in self.switches]
        return row | {"left_out": list(self.left_out), "said": self.said()}

    def said(self) -> str:
        """The answer in one paragraph."""
        name = self.metric.replace("_", " ")
        parts = [
            f"With {self.have:,.0f} samples per rule take {self.best}: {name} {self.value:.2f} "
            f"(95 % interval {self.interval[0]:.2f} to {self.interval[1]:.2f}); it is the best "
            f"in {self.sure:.0%} of the draws of all curves."
        ]
        for switch in self.switches:
            spread = ""
            if switch.low is not None and switch.high is not None:
                spread = f" (half of the draws: {switch.low:.1f} to {switch.high:.1f})"
            parts.append(
                f"Switch to {switch.to} at {switch.per_rule:,.0f} samples per rule, "
                f"{switch.months:.1f} months from now{spread}."
            )
        if not self.switches:
            parts.append(f"No switch pays within the evidence, {self.horizon:.1f} months.")
        parts.append(self._said_reached())
        parts += [_said_cost(what, cost) for what, cost in self.costs.items()]
        if self.left_out:
            parts.append(f"Without evidence at this size: {', '.join(self.left_out)}.")
        return " ".join(parts)

    def _said_reached(self) -> str:
        if self.reached is None:
            return f"{self.want:.2f} is not reached within the evidence."
        if self.reached == 0:
            return f"{self.want:.2f} is reached already."
        return f"{self.want:.2f} is reached after {self.reached:.1f} months."


def families(rows: Sequence[Row], metric: str = METRICS[0]) -> list[Family]:
    """The curves of every model of a study's rows that has three sizes or more.

    ValueError for an unknown metric, and where no model has.
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is unknown; choose from {', '.join(METRICS)}")
    usable = [r for r in rows if r.get("per_rule") and r.get(metric) is not None]
    sets = {r["rule_set"] for r in usable}
    if len(sets) > 1:
        raise ValueError(f"the study has several rule sets, {sorted(sets)}; name one of them")
    found = []
    for name in sorted({r["model"] for r in usable}):
        own = [r for r in usable if r["model"] == name]
        if len({r["per_rule"] for r in own}) >= 3:
            curve = Curve([_counts(r, metric) for r in own])
            found.append(Family(name, own, curve, curve.draws(_DRAWS)))
    if not found:
        raise ValueError("no model has trainings at three sizes of data; run the study further")
    return found


def forecast(
    found: Sequence[Family],
    have: float,
    grow: float = 0.0,
    metric: str = METRICS[0],
    want: float = 0.9,
    rates: Rates | None = None,
) -> Forecast:
    """The answer for ``have`` samples per rule now and ``grow`` more each month.

    ValueError where have is not positive, grow negative, or no model was measured near have.
    """
    if not (have > 0 and math.isfinite(have)):
        raise ValueError(f"have must be a positive number of samples per rule, got {have:g}")
    if not (grow >= 0 and math.isfinite(grow)):
        raise ValueError(f"grow must be 0 or more samples per rule a month, got {grow:g}")
    here = [f for f in found if np.isfinite(f.at(have)[0])]
    if not here:
        spans = [f.curve.range for f in found]
        raise ValueError(
            f"{have:g} samples per rule lie outside the evidence, {min(s[0] for s in spans):g} "
            f"to {max(s[1] for s in spans):g}; measure nearer to it"
        )
    best, sure = _best(here, have)
    end = max(f.curve.range[1] for f in here)
    sizes = np.geomspace(have, max(end, have * (1 + 1e-9)), _GRID) if grow else np.array([have])
    reached = _reached(here, sizes, want)
    return Forecast(
        metric=metric, have=have, grow=grow, want=want, best=best.name,
        value=float(best.at(have)[0]), interval=best.curve.interval(have), sure=sure,
        horizon=(end - have) / grow if grow else 0.0,
        switches=tuple(_switches(here, best, sizes, have, grow)),
        reached=None if reached is None else ((reached - have) / grow if grow else 0.0),
        costs=_costs(best, have, rates or Rates()),
        left_out=[f.name for f in found if f not in here], families=here,
    )  # fmt: skip


def _counts(row: Row, metric: str) -> Counts:
    n = int(row[f"{metric}_n"])
    return Counts(float(row["per_rule"]), row[metric] * n, n)


def _best(here: Sequence[Family], per_rule: float) -> tuple[Family, float]:
    """The model of largest p, and the share of draws in which it is that."""
    best = max(here, key=lambda f: float(f.at(per_rule)[0]))
    each = np.stack([f.drawn(np.array([per_rule]))[:, 0] for f in here])
    return best, float((each.argmax(0) == here.index(best)).mean())


def _switches(
    here: Sequence[Family], now: Family, sizes: np.ndarray, have: float, grow: float
) -> list[Switch]:
    """Every change of the best model along the sizes."""
    values = np.stack([f.at(sizes) for f in here])
    leads = np.nanargmax(values, 0)
    found, current = [], here.index(now)
    for i, lead in enumerate(leads):
        if lead != current and values[lead, i] > np.nan_to_num(values[current, i], nan=-1.0):
            spread = _spread(here, current, int(lead), sizes, have, grow)
            months = (sizes[i] - have) / grow
            found.append(Switch(here[lead].name, float(sizes[i]), float(months), *spread))
            current = int(lead)
    return found


def _spread(
    here: Sequence[Family], old: int, new: int, sizes: np.ndarray, have: float, grow: float
) -> tuple[float | None, float | None]:
    """The quartiles of the months after which the new model passes the old one, over draws."""
    ahead = here[new].drawn(sizes) > here[old].drawn(sizes)
    comes = ahead.any(1)
    if comes.mean() < 0.5:
        return None, None
    months = (sizes[ahead[comes].argmax(1)] - have) / grow
    low, high = np.quantile(months, [0.25, 0.75])
    return float(low), float(high)


def _reached(here: Sequence[Family], sizes: np.ndarray, want: float) -> float | None:
    """The first size at which the best p is what is wanted."""
    values = np.nanmax(np.stack([f.at(sizes) for f in here]), 0)
    there = np.flatnonzero(values >= want)
    return float(sizes[there[0]]) if len(there) else None


def _costs(best: Family, have: float, rates: Rates) -> dict[str, dict[str, float | None]]:
    """What training the model once costs, and a thousand of its samples."""
    found = {}
    for what, name in (("training", "training_seconds"), ("1,000 samples", "sampling_seconds")):
        seconds = best.seconds(name, have)
        if seconds is not None:
            found[what] = rates.of(seconds)
    return found


def _said_cost(what: str, cost: Mapping[str, float | None]) -> str:
    seconds, kwh, money = cost["seconds"], cost["kwh"], cost["money"]
    assert seconds is not None
    long = f"{seconds / 3600:.1f} hours" if seconds > 7200 else f"{seconds:,.0f} s"
    parts = [long]
    if kwh is not None:
        parts.append(f"{kwh:.2g} kWh")
    if money is not None:
        parts.append(f"{money:.2g} in money")
    return f"Cost of {what}: {', '.join(parts)} on the machine of the study."
