"""Collapse of a training, told from its end, and the signals of its first fifth.

Collapse is told from the END of a training. A training has collapsed where

    poor        its novel-C3 is below half of what the same model reaches with ample data, AND
    memorised   it copies rows above the natural overlap (the 95 % intervals lie apart), or its
                validation loss ends more than a tenth above its own smallest.

Why so: being poor alone may be slowness, which more steps cure; memorising alone does no harm
while rules are still learned; collapse is memorising in their place. Half, a tenth and intervals
apart are conventions, fixed before any score was computed. "Ample" is the largest amount of data
that the model was trained with in the study (streamed counts as largest), its novel-C3 the mean
over seeds there. A model with fewer than three amounts, or that reaches less than 0.05 even so,
says nothing about being poor, hence about collapse: its trainings are left out of both. Streamed
ones, which have nothing to memorise, are left out of all. ``DEFINITIONS`` has the neighbours poor
and memorised beside collapse, so that no figure is the accident of one definition.

Signals are computed from the probes up to a share of the steps, a fifth unless told. Each has a
sign fixed beforehand: +1 where a large value should announce collapse. Losses of families have
different units, so gaps are relative to the validation loss; shares p enter as asin(sqrt(p)),
whose variance does not depend on p; slopes are those of least squares against ln(step).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = Mapping[str, Any]
FIFTH = 0.2
LEAST_REACH = 0.05  # novel-C3 with ample data below which half of it cannot be told from none
_SIZES = 3  # amounts of data that a model needs
POOR = 0.5  # of the reach
_ABOVE = 1.1  # last validation loss by the smallest


@dataclass(frozen=True)
class Signal:
    """A number from early probes; sign +1 where large values should announce collapse."""

    name: str
    sign: int
    said: str
    of: Callable[[Sequence[Row]], float]


def _last(name: str) -> Callable[[Sequence[Row]], float]:
    return lambda probes: _bent(probes[-1][name])


def _slope(value: Callable[[Row], float]) -> Callable[[Sequence[Row]], float]:
    def of(probes: Sequence[Row]) -> float:
        at = np.log([p["step"] for p in probes])
        values = np.array([value(p) for p in probes])
        return float((at - at.mean()) @ values / ((at - at.mean()) ** 2).sum())

    return of


def _above(level: str) -> Callable[[Sequence[Row]], float]:
    """Copies above nature; 0 where they lie below it.

    What a model that draws nothing valid lacks of the natural overlap would be that overlap
    itself, which only reads off the amount of data.
    """
    return lambda probes: max(0.0, probes[-1][f"copies_{level}"] - probes[-1][f"natural_{level}"])


def _bent(share: float) -> float:
    return math.asin(math.sqrt(min(max(share, 0.0), 1.0)))


def _gap(probe: Row) -> float:
    return probe["gap"] / abs(probe["validation_loss"])


def _rise(probes: Sequence[Row]) -> float:
    losses = [p["validation_loss"] for p in probes]
    return losses[-1] / min(losses) - 1


SIGNALS = (
    Signal("gap", 1, "gap of validation to training loss, relative", lambda p: _gap(p[-1])),
    Signal("gap_slope", 1, "growth of that gap with ln(step)", _slope(_gap)),
    Signal("rise", 1, "validation loss above its smallest so far", _rise),
    Signal("loss_slope", 1, "slope of ln(validation loss)",
           _slope(lambda p: math.log(abs(p["validation_loss"])))),
    Signal("c3", -1, "C3 of the samples drawn", _last("c3")),
    Signal("any_valid", -1, "rows drawn that obey a rule", _last("any_valid")),
    Signal("any_valid_slope", -1, "growth of rows that obey a rule",
           _slope(lambda p: _bent(p["any_valid"]))),
    Signal("completion", -1, "third panels completed", _last("completion")),
    Signal("completion_slope", -1, "growth of completion",
           _slope(lambda p: _bent(p["completion"]))),
    Signal("copies", 1, "copied rows above the natural overlap", _above("row")),
    Signal("panels", 1, "panel overlap above the natural one", _above("panel")),
    Signal("half_empty", 1, "half-empty cells drawn", _last("half_empty")),
)  # fmt: skip
NAMES = tuple(signal.name for signal in SIGNALS)


def signals(probes: Sequence[Row], n_steps: int, share: float = FIFTH) -> np.ndarray | None:
    """(signals,) from the probes within a share of the steps; None with fewer than two of them.

    A signal whose probes lack a figure is NaN.
    """
    early = sorted((p for p in probes if p["step"] <= share * n_steps), key=lambda p: p["step"])
    if len(early) < 2:
        return None
    return np.array([_value(signal, early) for signal in SIGNALS])


def _value(signal: Signal, early: Sequence[Row]) -> float:
    try:
        value = signal.of(early)
    except (KeyError, TypeError, ZeroDivisionError, ValueError):  # absent, null, loss of 0
        return math.nan
    return value if math.isfinite(value) else math.nan


# ---- what became of trainings ----------------------------------------------------------------

DEFINITIONS = {
    "collapse": "novel-C3 below half of the model's with ample data, and rows copied above "
    "nature or validation loss a tenth above its smallest",
    "poor": "novel-C3 below half of the model's with ample data",
    "memorised": "rows copied above nature, or validation loss a tenth above its smallest",
}


@dataclass(frozen=True)
class Training:
    """A training of a study of which some outcome is known."""

    row: Row
    outcomes: dict[str, bool | None]  # by definition; None where it is not known
    reach: float | None  # the model's novel-C3 with ample data, where that is enough

    @property
    def cell(self) -> tuple[Any, ...]:
        """What it is a seed of."""
        return (*_model(self.row), self.row["per_rule"])


def trainings(rows: Sequence[Row]) -> list[Training]:
    """The trainings in a study's rows of which some outcome is known (see the module)."""
    reach = _reaches(rows)
    found = []
    for row in rows:
        ample, memorised, poor = reach.get(_model(row)), _memorised(row), None
        if row["per_rule"] is None or memorised is None:
            continue
        if ample is not None and row.get("novel_c3") is not None:
            poor = row["novel_c3"] < POOR * ample
        both = None if poor is None else poor and memorised
        outcomes = {"collapse": both, "poor": poor, "memorised": memorised}
        found.append(Training(row, outcomes, ample))
    return found


def _model(row: Row) -> tuple[str, str]:
    return row["model"], row["rule_set"]


def _reaches(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """novel-C3 with ample data of each model that can tell collapse."""
    found = {}
    for model in dict.fromkeys(_model(row) for row in rows):
        own = [r for r in rows if _model(r) == model and r.get("novel_c3") is not None]
        sizes = {math.inf if r["per_rule"] is None else r["per_rule"] for r in own}
        if len(sizes) < _SIZES:
            continue
        ample = [r for r in own if (r["per_rule"] or math.inf) == max(sizes)]
        reach = float(np.mean([r["novel_c3"] for r in ample]))
        if reach >= LEAST_REACH:
            found[model] = reach
    return found


def _memorised(row: Row) -> bool | None:
    """Copies above nature or a validation loss that has risen; None where nothing is measured."""
    copied, risen = None, None
    if row.get("copies_row_low") is not None and row.get("natural_row_high") is not None:
        copied = row["copies_row_low"] > row["natural_row_high"]
    losses = {p["step"]: p["validation_loss"] for p in row["probes"] if "validation_loss" in p}
    if row["n_steps"] in losses:
        risen = losses[row["n_steps"]] > _ABOVE * min(losses.values())
    if copied is None and risen is None:
        return None
    return bool(copied or risen)
