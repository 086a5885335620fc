"""What a wrong score lets one conclude, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import rows, text, verdict
from assay.report.blocks import Finding
from assay.report.rows import Row
from assay.report.sections import sentences
from assay.runs import Run

CLAIM = "A slightly wrong score drives strong guidance off the data"
AMPLIFIED = "Guidance amplifies errors of the score"
KINDS = {
    "bias": "constant bias", "field": "smooth random error", "zeroed": "score zeroed far out",
    "precision": "finite precision", "stop": "stopped early",
}  # fmt: skip
BEFORE, AFTER = "off_support", "off_support_denoised"


def of(run: Run, kind: str) -> list[Row]:
    """The rows of one part of the study: "error", "amplification" or "start"."""
    return [r for r in run.rows if r.get("kind", "error") == kind]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"error-{run.path.name}")


def named(kind: str) -> str:
    """A kind of error in words."""
    return KINDS.get(kind, kind)


def findings(run: Run) -> list[Finding]:
    """What each kind of error needs to leave the class, how it is amplified, what is repaired."""
    usable = rows.known(of(run, "error"), "w", "size", AFTER)
    broken = [breaking(found) for found in rows.groups(usable, "target").values()]
    told = (
        (CLAIM, broken),
        (AMPLIFIED, [amplified(of(run, "amplification"))]),
        (sentences.ARTEFACT, [artefact(of(run, "error"))]),
    )
    found = [(claim, [s for s in words if s]) for claim, words in told]
    return [Finding(claim, words, anchor(run)) for claim, words in found if words]


def breaking(found: Sequence[Row]) -> str:
    """At a middling w: the least size of any kind that leaves the class, and what never does."""
    grid = sorted({r["w"] for r in found if r["w"] > 0})
    if not grid:
        return ""
    here = [r for r in found if r["w"] == grid[len(grid) // 2]]
    # An unbounded class is left without any error too: what counts is what comes on top.
    level = verdict.LIMIT + min(r[AFTER] for r in here if r["size"] == _smallest(here))
    by_kind = {k: v for (k,), v in rows.groups(here, "error").items()}
    hurt = [r for r in here if r[AFTER] > level]
    if not hurt:
        return ""
    worst = min(hurt, key=lambda r: (r["size"], -r[AFTER]))
    spared = [named(str(k)) for k, v in by_kind.items() if not any(r in hurt for r in v)]
    words = (
        f"{_target(worst)}, at {text.weight(worst['w'])}: an error of size "
        f"{text.number(worst['size'])} ({named(str(worst.get('error')))}) puts "
        f"{rows.share(worst, AFTER)} of the samples off the class, final denoise included "
        f"({_how(worst)})"
    )
    return words + (f"; {text.listed(spared)} did at no size measured." if spared else ".")


def _smallest(found: Sequence[Row]) -> float:
    return min(r["size"] for r in found)


def amplified(found: Sequence[Row]) -> str:
    """How much farther a unit of error moves samples at the largest w than at the smallest."""
    grown = [r for r in rows.by_w(rows.known(found, "amplification")) if r["w"] > 0]
    if not grown:
        return ""
    last = max(grown, key=lambda r: r["amplification"])
    first = next(r for r in grown if _same(r) == _same(last))
    if first["w"] == last["w"] or last["amplification"] <= first["amplification"]:
        return ""
    return (
        f"{_target(last)}, {named(str(last.get('error')))}: a unit of "
        f"error moves a sample by {text.number(last['amplification'], 3)} at "
        f"{text.weight(last['w'])}, by {text.number(first['amplification'], 3)} at "
        f"{text.weight(first['w'])} ({_how(last)})."
    )


def artefact(found: Sequence[Row]) -> str:
    """What the final denoise alone puts back; stopping early, where it was measured."""
    both = rows.known(found, "w", "size", BEFORE, AFTER)
    both = [r for r in both if r.get("error") == "stop"] or both
    seen = [r for r in both if r[AFTER] <= verdict.LIMIT < r[BEFORE]]
    if not seen:
        return ""
    most = max(r[BEFORE] for r in seen)
    row = min((r for r in seen if r[BEFORE] > most / 2), key=lambda r: (r["size"], -r[BEFORE]))
    amount = f" ({row.get('amount_name') or 'amount'} {text.number(row.get('amount'), 3)})"
    return (
        f"{_target(row)}, {named(str(row.get('error')))}{amount}: at {text.weight(row['w'])} "
        f"{rows.share(row, BEFORE)} are off the class without the final denoise, "
        f"{rows.share(row, AFTER)} after it ({_how(row)})."
    )


def _same(row: Row) -> tuple[object, object]:
    return row.get("target"), row.get("error")


def _target(row: Row) -> str:
    return text.capital(str(row.get("target")))


def _how(row: Row) -> str:
    return "exact" if row.get("n") is None else f"n = {text.number(row['n'])}"
