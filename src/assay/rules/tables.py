"""Tables for the terminal: models, recipes, and the rows of an evaluation in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from assay.terminal import table

Row = Mapping[str, Any]
UNCONDITIONAL, COMPLETION = "unconditional/T=1", "completion/r3c3"
_DRAWN = (
    ("c3", "C3", "a rule in all three rows"),
    ("novel_c3", "novel-C3", "... and no row is a copy"),
    ("novel_set_c3", "novel-C3, sets", "... rows compared as sets"),
    ("c2", "C2", "a rule in exactly two rows"),
    ("any_valid", "AnyValid", "rows that obey a rule"),
    ("row1", "row 1 valid", "row 1 obeys a rule"),
    ("row2", "row 2 agrees", "then shares one with row 1"),
    ("row3", "row 3 agrees", "then shares one with both"),
    ("implied", "implied completion", "C3 / (C3 + C2/3)"),
)


def share(row: Row, name: str) -> tuple[str, str]:
    """A share and its interval, in two cells."""
    found = triple(row, name)
    return ("-", "") if found is None else (f"{found[0]:.4f}", f"{found[1]:.4f} to {found[2]:.4f}")


def brief(row: Row, name: str) -> str:
    """A share and its interval in one short cell."""
    found = triple(row, name)
    return "-" if found is None else f"{found[0]:.3f} ({found[1]:.3f}–{found[2]:.3f})"


def count(value: float | None) -> str:
    """A count in three figures: 164k, 7.42M, 1.3e+15."""
    if value is None:
        return "-"
    for size, letter in ((1e12, ""), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}" if letter else f"{value:.3g}"
    return f"{value:.3g}"


def stacked(share: tuple[float, float, float] | None) -> str:
    """A share above its interval."""
    if share is None:
        return "-"
    low, high = (f"{end:.3f}".replace("0.", ".", 1) for end in share[1:])
    return f"{share[0]:.3f}\n{low}–{high}"


def triple(row: Row | None, name: str) -> tuple[float, float, float] | None:
    """(share, low, high) of a row; None where it was not measured."""
    if row is None or row.get(name) is None:
        return None
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def by_key(rows: Iterable[Row]) -> dict[str, Row]:
    """The rows of an evaluation by their keys."""
    return {row["key"]: row for row in rows}


def evaluation(title: str, rows: Iterable[Row]) -> list[Table | str]:
    """What the rows of an evaluation say, rules apart left out."""
    parts = list(rows)
    drawn = [row for row in parts if row["part"] == "unconditional"]
    made: list[Table | str] = [_drawn(title, row) for row in drawn]
    made += [_copies(row["temperature"], parts) for row in drawn if _copied(row, parts)]
    filled = [row for row in parts if row["part"] in ("completion", "any_panel")]
    if filled:
        made.append(_filled(title, filled))
    refused = {row["refused"] for row in filled if "refused" in row}
    made += [f"not completed: {text}" for text in sorted(refused)]
    return made + [_cost(row) for row in drawn + [r for r in filled if r["part"] == "completion"]]


def _drawn(title: str, row: Row) -> Table:
    made = table(
        f"{title}: {row['n']:,} samples at T = {row['temperature']:g}",
        "measure", "share", "95 % interval", "",
    )  # fmt: skip
    for name, label, meaning in _DRAWN:
        if name in row:
            made.add_row(label, *share(row, name), f"[dim]{meaning}[/]")
    return made


def _copied(drawn: Row, rows: list[Row]) -> list[Row]:
    wanted = ("copies", drawn["temperature"])
    return [row for row in rows if (row["part"], row.get("temperature")) == wanted]


def _copies(temperature: float, rows: list[Row]) -> Table:
    made = table(
        f"Copies of training data at T = {temperature:g}",
        "level", "copies", "natural overlap",
    )  # fmt: skip
    for row in _copied({"temperature": temperature}, rows):
        level = row["level"].replace("_", " ")
        made.add_row(level, brief(row, "copies"), brief(row, "natural"))
    return made


def _filled(title: str, rows: list[Row]) -> Table:
    made = table(
        f"{title}: completions with a rule in all rows (fill: blind)",
        "unknown", "n", "trained rules", "fill", "held-out rules", "fill",
    )  # fmt: skip
    for row in rows:
        if "refused" not in row:
            cells = [row["mask"], f"{row['n']:,}"]
            for name in ("trained", "held_out"):
                fill = row.get(f"marginal_{name}")
                cells += [brief(row, name), "-" if fill is None else f"{fill:.3f}"]
            made.add_row(*cells)
    return made


def _cost(row: Row) -> str:
    what = "samples" if row["part"] == "unconditional" else f"completions of {row['mask']}"
    return (
        f"{row['n']:,} {what} at T = {row['temperature']:g}: {row['nfe'] or '?'} network "
        f"evaluations each, {row['seconds']:.1f} s, {row['samples_per_s']:.0f} a second"
    )
