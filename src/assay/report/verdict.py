"""Is a row still inside its class? One answer, with the limits it rests on.

    outside   more than LIMIT of the samples are off the class after the final denoise
    unclear   the interval of that share contains LIMIT: n is too small to tell
    artefact  more than LIMIT are off without the final denoise, but not after it
    narrow    inside, but less than KEPT of the spread at w = 0 is left
    inside    none of these

The spread is the standard deviation; for images, the share of held-out images that samples cover.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import rows, text
from assay.report.blocks import Cell, Mark
from assay.report.rows import Row

LIMIT, KEPT = 0.01, 0.5
LEGEND = (
    Mark(f"inside: at most {text.percent(LIMIT)} of the samples off the class", "#d5ecdd", "chip"),
    Mark("inside, but less than half of the spread at w = 0 is left", "#fbeab8", "chip"),
    Mark("artefact: off the class only until one final denoise", "#d6e2f5", "chip"),
    Mark(f"outside: more than {text.percent(LIMIT)} off", "#f3c4b3", "chip"),
    Mark("n too small to tell", "#e8eaee", "chip"),
)


def state(row: Row, plain: Row | None) -> str:
    """The verdict on a row; plain: the row of w = 0 beside it. Empty where nothing is known."""
    ends = _ends(row, column(row))
    if ends is None:
        return ""
    low, high = ends
    if low > LIMIT:
        return "outside"
    if high > LIMIT:
        return "unclear"
    before = _ends(row, "off_support")
    if before and before[0] > LIMIT:
        return "artefact"
    left = kept(row, plain)
    return "narrow" if left is not None and left < KEPT else "inside"


def column(row: Row) -> str:
    """The column that counts: after the final denoise, where that was measured."""
    denoised = rows.value(row, "off_support_denoised") is not None
    return "off_support_denoised" if denoised else "off_support"


def off(row: Row) -> float | None:
    """The share off the class that counts."""
    return rows.value(row, column(row))


def spread(row: Row) -> float | None:
    """How far the samples spread: coverage of images, else standard deviation."""
    covered = rows.value(row, "coverage")
    return rows.value(row, "sd") if covered is None else covered


def kept(row: Row, plain: Row | None) -> float | None:
    """The spread as a share of that at w = 0."""
    own, first = spread(row), spread(plain) if plain else None
    return own / first if own is not None and first else None


def cell(row: Row, plain: Row | None) -> Cell:
    """The verdict as a coloured cell: share off the class, spread left below it."""
    found = state(row, plain)
    if not found:
        return Cell(text.UNKNOWN)
    shown = f"{text.percent(off(row))} off"
    if found == "artefact":
        before = text.percent(rows.value(row, "off_support"))
        return Cell(shown, state=found, detail=f"{before} before denoise")
    left = kept(row, plain)
    word = "spread" if rows.value(row, "coverage") is None else "coverage"
    return Cell(shown, state=found, detail="" if left is None else f"{word} {text.ratio(left)}")


def worst(found: Sequence[Row]) -> Row:
    """Of rows that differ in their seed alone, the one with most samples off the class."""
    return max(found, key=lambda row: rows.value(row, "off_support_denoised") or 0.0)


def _ends(row: Row, name: str) -> tuple[float, float] | None:
    centre = rows.value(row, name)
    if centre is None:
        return None
    low, high = (rows.value(row, f"{name}_{end}") for end in ("low", "high"))
    return (centre if low is None else low, centre if high is None else high)
