"""Reading rows that may lack columns: numbers or None, groups, order by w."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from assay.report import text
from assay.runs import Run

Row = dict[str, Any]


def value(row: Row, column: str) -> float | None:
    """The column as a number; None where it is missing, null or no number."""
    found = row.get(column)
    if isinstance(found, (bool, int, float)) and math.isfinite(found):
        return float(found)
    return None


def known(rows: Iterable[Row], *columns: str) -> list[Row]:
    """The rows in which all of these columns are numbers."""
    return [row for row in rows if all(value(row, c) is not None for c in columns)]


def by_w(rows: Iterable[Row]) -> list[Row]:
    """The rows that have a w, by rising w."""
    return sorted(known(rows, "w"), key=lambda row: row["w"])


def series(rows: Iterable[Row], column: str) -> tuple[list[float], list[float]]:
    """w and a column, where both are known, by rising w."""
    found = by_w(known(rows, column))
    return [float(r["w"]) for r in found], [float(r[column]) for r in found]


def groups(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of these columns, in the order in which they first appear."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(_hashable(row.get(c)) for c in columns), []).append(row)
    return found


def _hashable(given: Any) -> Any:
    return given if isinstance(given, (str, int, float)) or given is None else str(given)


def at(rows: Iterable[Row], w: float) -> Row | None:
    """The first row of this w."""
    return next((row for row in rows if value(row, "w") == w), None)


def array(run: Run, name: str) -> np.ndarray | None:
    """An array of the Run, or None where it is not there."""
    return np.asarray(run.array(name)) if name in run.array_names() else None


def share(row: Row, column: str, places: str = "percent") -> str:
    """A share with its 95 % interval and n where it was sampled, else as exact."""
    shown = text.percent if places == "percent" else text.number
    found = shown(value(row, column))
    low, high, n = (value(row, c) for c in (f"{column}_low", f"{column}_high", "n"))
    if low is not None and high is not None:
        found += f" (95 % interval {shown(low)} to {shown(high)}, n = {text.number(int(n or 0))})"
    elif n is not None:
        found += f" (n = {text.number(int(n))})"
    return found


def spread(row: Row, column: str) -> str:
    """A mean with its 95 % interval from its standard error where there is one, and n."""
    centre, se, n = (value(row, c) for c in (column, f"{column}_se", "n"))
    found = text.number(centre)
    if se is not None:
        found += f" ± {text.number(1.96 * se, 2)}"
    return found + (f" (n = {text.number(int(n))})" if n is not None else "")


def constant(rows: Sequence[Row], column: str) -> Any:
    """The column's value where all rows agree on it, else None."""
    found = {_hashable(row.get(column)) for row in rows}
    return found.pop() if len(found) == 1 else None
