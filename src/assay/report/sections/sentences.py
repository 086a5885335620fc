"""What sweeps let one conclude, in sentences with their numbers: shared by targets and digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.report import rows, text, verdict
from assay.report.rows import Row

INSIDE = "How hard may it be guided?"
ARTEFACT = "What was an artefact"
MISSES = "Guidance does not sample the tilted distribution"
_NOTHING, _FLOORS = 1e-6, 2.0  # distances that count: exact ones, multiples of that at w = 0


def region(found: Sequence[Row]) -> str:
    """What samples are off: the support, or the region that stands in for it."""
    name = next((str(r["support"]) for r in found if r.get("support")), "support")
    return "the support of the class" if name == "support" else name


def inside(name: str, found: Sequence[Row]) -> str:
    """Up to which w the samples stay in the class, and what is left of their spread."""
    measured = [r for r in rows.by_w(found) if r["w"] >= 0 and verdict.state(r, None)]
    if not measured:
        return ""
    beyond = [r for r in measured if (verdict.off(r) or 0.0) > verdict.LIMIT]
    held = [r for r in measured if not beyond or r["w"] < beyond[0]["w"]]
    where = region(measured)
    if not held:
        row = beyond[0]
        return f"{name}: not inside at {text.weight(row['w'])}, {_off(row)} outside {where}."
    last = held[-1]
    words = f"{name}: inside up to {text.weight(last['w'])}, {_off(last)} outside {where}"
    if beyond:
        first = beyond[0]
        sure = "no longer" if verdict.state(first, None) == "outside" else "undecided"
        words += f"; {sure} at {text.weight(first['w'])}, {_off(first)}"
    return words + "." + _narrowing(measured, rows.at(measured, 0.0))


def _narrowing(measured: Sequence[Row], plain: Row | None) -> str:
    """From which w on less than half of the spread at w = 0 is left."""
    lost = [(r, verdict.kept(r, plain)) for r in measured]
    below = [(r, left) for r, left in lost if left is not None and left < verdict.KEPT]
    if not below or plain is None:
        return ""
    row, left = below[0]
    what = "sd" if rows.value(row, "coverage") is None else "coverage of real images"
    own, first = (text.number(verdict.spread(r), 3) for r in (row, plain))
    return (
        f" At {text.weight(row['w'])} only {text.percent(left)} of its spread at "
        f"{text.weight(0.0)} is left ({what} {own}, from {first})."
    )


def _off(row: Row) -> str:
    column = verdict.column(row)
    exact = " (exact)" if row.get("n") is None else ""
    return rows.share(row, column) + exact


def artefact(name: str, found: Sequence[Row]) -> str:
    """What only stopping before the data made look off the class."""
    seen = [r for r in rows.by_w(found) if verdict.state(r, None) == "artefact"]
    if not seen:
        return ""
    row = max(seen, key=lambda r: r["off_support"])
    end = rows.value(row, "sigma_min")
    stopped = f", stopped at σ = {text.number(end)}" if end is not None else ""
    return (
        f"{name}, {row.get('solver')}{stopped}: at {text.weight(row['w'])} "
        f"{rows.share(row, 'off_support')} lie off the class, and after one final denoise "
        f"{rows.share(row, 'off_support_denoised')}. The scores are exact: what looked like "
        "leaving the data was the noise of the last level."
    )


def misses(name: str, found: Sequence[Row]) -> str:
    """How far guided samples are from the tilt, at the largest w where both are known.

    Empty where they are not: exact distances of 0, sampled ones near those of w = 0, where guided
    and tilted samples have one law.
    """
    known = rows.by_w(rows.known(found, "w1_to_tilted"))
    if not known or known[-1]["w"] <= 0:
        return ""
    row, floor = known[-1], rows.at(known, 0.0)
    measure = str(row.get("distance") or "W1").split(",")[0]
    apart = f"{measure} distance {text.number(row['w1_to_tilted'], 3)}"
    n = rows.value(row, "n")
    least = _NOTHING if n is None else _FLOORS * floor["w1_to_tilted"] if floor else np.inf
    if row["w1_to_tilted"] <= least:
        return ""
    if n is not None and floor:
        zero = f"{text.number(floor['w1_to_tilted'], 2)} at {text.weight(0.0)}"
        apart += f", against {zero} where both are the same"
    how = "exact" if n is None else f"n = {text.number(int(n))}"
    tilt = rows.value(row, "tilted_mean")
    means = f"guided mean {text.number(row.get('mean'))}, tilted mean {text.number(tilt)}, "
    return (
        f"{name}, at {text.weight(row['w'])}: {means if tilt is not None else ''}{apart} ({how})."
    )
