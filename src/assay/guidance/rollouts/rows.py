"""Metric rows, checked against the guards before any is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.guidance.rollouts.guard import Guard
from assay.guidance.rollouts.state import Columns


def columns(rows: Sequence[Any], guards: Sequence[Guard]) -> Columns:
    """Values by guard, None where a row has none. ValueError naming the row and the guard."""
    names = {g.name for g in guards}
    for i, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"row {i} must map guards to values, got {type(row).__name__}")
        if unknown := sorted(str(k) for k in row if k not in names):
            raise ValueError(
                f"row {i} has {unknown[0]!r}, which is no guard; there are {sorted(names)}"
            )
    return {g.name: [_value(g, i, row.get(g.name)) for i, row in enumerate(rows, 1)]
            for g in guards}  # fmt: skip


def _value(guard: Guard, i: int, given: Any) -> float | None:
    if given is None:
        return None
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise ValueError(f"row {i}: {guard.name!r} is {given!r}, which is no number") from None
    if not math.isfinite(value) or not guard.low <= value <= guard.high:
        raise ValueError(
            f"row {i}: {guard.name!r} is {value:g}, outside its range {guard.low:g} to "
            f"{guard.high:g}: give the guard the metric's whole range"
        )
    return int(value) if value == int(value) else value  # shorter in the log
