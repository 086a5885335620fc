"""Which w an audit recommends, by a stated rule, and its reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.guidance.auditing.config import Limits

Row = dict[str, Any]


def recommend(lines: Sequence[Row], limits: Limits) -> Row:
    """The row that names a w, by :attr:`Limits.words`, and says what stopped it there."""
    ordered = sorted(lines, key=lambda row: row["w"])
    zero, chosen, stop = ordered[0], ordered[0], None
    for row in ordered[1:]:
        broken = breaks(row, zero, limits)
        if broken:
            stop = (row, broken)
            break
        chosen = row
    unknown = [name for name in ("off_support", "diversity") if zero.get(name) is None]
    return {
        "row": "recommendation", "w": chosen["w"], "guidance_scale": 1 + chosen["w"],
        "setting": chosen["setting"], "n": zero["n"], "n_prompts": zero["n_prompts"],
        "seed": 0, "nfe": chosen["nfe"], "criterion": f"Recommended is {limits.words}.",
        "reason": reason(chosen, stop, ordered, unknown),
        "sure": bool(not unknown and surely(chosen, zero, limits)),
        "stopped_at": stop[0]["w"] if stop else None,
        "monotone_rule_w": monotone_rule(ordered),
        "warnings": warnings_of(ordered),
    }  # fmt: skip


def breaks(row: Row, zero: Row, limits: Limits) -> list[str]:
    """Which limits a weight breaks, as estimated, each in words."""
    broken = []
    off, diversity = row.get("off_support"), row.get("diversity")
    if off is not None and off > limits.off_support:
        broken.append(
            f"{100 * off:.3g} % of its samples lie off the support of {_reference(row)} "
            f"(limit {100 * limits.off_support:g} %)"
        )
    if diversity is not None and diversity < limits.diversity:
        broken.append(
            f"the diversity of a prompt's images is {100 * diversity:.3g} % of that at w = 0 "
            f"(limit {100 * limits.diversity:g} %)"
        )
    error, usual = row["range_error"], zero["range_error"]
    if error is None:
        broken.append("some of its decoded values are no numbers")
    elif usual is not None and error - usual > limits.range_error:
        broken.append(
            f"the decoded values are {error:.3g} beyond [-1, 1] on average, {usual:.3g} at w = 0 "
            f"(limit {limits.range_error:g} more)"
        )
    return broken


def surely(row: Row, zero: Row, limits: Limits) -> bool:
    """Whether the whole intervals of the three measures keep the limits."""
    if row is zero:
        return True
    low, high = row.get("diversity_low"), row["off_support_high"]
    error = row.get("range_error_high")
    if low is None or error is None:
        return False
    held = high <= limits.off_support and low >= limits.diversity
    return held and error - zero["range_error"] <= limits.range_error


def _reference(row: Row) -> str:
    return "the images given" if row["reference"] == "images" else "the samples at w = 0"


def _named(row: Row) -> str:
    return f"w = {row['w']:g} (guidance_scale {row['guidance_scale']:g})"


def reason(chosen: Row, stop: Any, lines: Sequence[Row], unknown: Sequence[str]) -> str:
    """Why this weight, in words."""
    told = [f"{_named(chosen)} is the largest weight asked for up to which all limits are kept"]
    if len(lines) == 1:
        told = ["w = 0 is the only weight that was asked for"]
    elif stop is not None:
        told.append(f"at {_named(stop[0])} {' and '.join(stop[1])}")
    else:
        told.append("no weight asked for breaks one: a larger one may do as well")
    if unknown:
        named = " and ".join(name.replace("_", " ") for name in unknown)
        told.append(f"{named} could not be judged from so few samples")
    return "; ".join(told) + "."


def monotone_rule(lines: Sequence[Row]) -> float | None:
    """The largest w up to which as many prompts as at w = 0 have monotone mean paths.

    The rule of Chidambaram et al. 2024, section 5, here with its window from the scheduler's
    first step to its last; None where at w = 0 no mean path is monotone (it says nothing then).
    """
    usual = lines[0]["monotone_means"]
    if not usual:
        return None
    kept = lines[0]["w"]
    for row in lines[1:]:
        if row["monotone_means"] < usual:
            break
        kept = row["w"]
    return kept


def warnings_of(lines: Sequence[Row]) -> list[str]:
    """What a reader of these rows must know: weights that were not applied, laws that are not
    plain guidance, few samples."""
    told = []
    wrong = [
        r for r in lines
        if r["w_measured"] is not None and abs(r["w_measured"] - r["w"]) > 0.02 * (1 + r["w"])
    ]  # fmt: skip
    if wrong:
        said = ", ".join(f"{r['w_measured']:.4g} for w = {r['w']:g}" for r in wrong)
        told.append(f"The weight measured from the recorded predictions is another: {said}.")
    rest = max((r["residual"] or 0.0) for r in lines)
    if rest > 0.01:
        told.append(
            "The predictions used are no plain combination of the conditional and the "
            f"unconditional one (up to {100 * rest:.2g} % of them is something else): the "
            "pipeline rescales or corrects its guidance."
        )
    if lines[0]["n"] < 20:
        told.append(
            f"With {lines[0]['n']} samples a weight the intervals are wide: read the direction "
            "of a change, not its size."
        )
    return told
