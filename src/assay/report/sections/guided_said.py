"""Guided rules in sentences: what guidance bought each family, what it cost, where it breaks."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import rows, text
from assay.report.blocks import Finding
from assay.report.rows import Row
from assay.runs import Run

GAINS = "Guidance makes learned models keep the rule they are told more often, up to a point"
NOTHING = "Guidance does not make these models keep the rule they are told more often"
BREAKS = "Strong guidance breaks learned rules"
SOME = "Strong guidance breaks the rules of some learned models, not of others"
BEARS = "Strong guidance costs these models little of the rule they are told"
EXACT = "Without score error guidance breaks no rule: it only makes samples alike"
INEXACT = "Without score error guidance keeps most of the rule"
GROWS = "Strong guidance drives a learned model to where its score is worse"
STAYS = "A learned model's score is no worse where strong guidance drives it"
REFERENCE = "exact"
WHERE = {"data": "noisy data", "guided": "states of guided sampling"}


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"guided-rules-{run.path.name}")


def part(run: Run, name: str) -> list[Row]:
    """The rows of a part, families in the order of the configuration."""
    order = run.config.get("families")
    places = {str(f): i for i, f in enumerate(order)} if isinstance(order, list) else {}
    found = [row for row in run.rows if row.get("part") == name]
    return sorted(found, key=lambda row: places.get(str(row.get("family")), len(places)))


def families(run: Run) -> dict[str, list[Row]]:
    """The pooled rows of each family by rising w."""
    found = rows.groups(rows.known(part(run, "pooled"), "w", "intended"), "family")
    return {str(name): rows.by_w(held) for (name,), held in found.items()}


def findings(run: Run) -> list[Finding]:
    """What guidance buys, what strong guidance does, and what it does without score error."""
    made = (_bought(run), _strong(run), _reference(run), _error(run))
    return [Finding(claim, said, anchor(run)) for claim, said in filter(None, made)]


def _bought(run: Run) -> tuple[str, list[str]] | None:
    best = [
        row
        for row in rows.known(part(run, "best"), "w", "intended", "change", "change_low")
        if row.get("family") != REFERENCE
    ]
    if not best:
        return None
    gained = [row for row in best if row["change_low"] > 0]
    said = [_gain(row) for row in sorted(gained, key=lambda r: -r["change"])]
    rest = [row for row in best if row not in gained]
    if rest:
        named = "; ".join(
            f"{row['family']} ({percent(row, 'intended_at_0')} at w = 0, best "
            f"{text.weight(row['w'])}: {signed(row)})"
            for row in rest
        )
        said.append(f"No certain gain at any w tried: {named}.")
    return (GAINS if gained else NOTHING), said


def _gain(row: Row) -> str:
    kept, off = rows.value(row, "vendi_kept"), rows.value(row, "off_support_denoised")
    said = (
        f"{row['family']}: best at {text.weight(row['w'])}, where the intended rule holds in "
        f"{percent(row, 'intended')} of samples, {percent(row, 'intended_at_0')} at w = 0: "
        f"{signed(row)}, n = {text.number(row.get('n'))}"
    )
    if kept is not None:
        said += f"; {text.ratio(kept)} of the diversity at w = 0 is left"
    if off is not None:
        said += f"; {text.percent(off)} of samples have a pixel off the data's two values"
    return said + "."


def signed(row: Row) -> str:
    """A change of a share in points, with its interval."""
    ends = (rows.value(row, f"change_{end}") for end in ("low", "high"))
    low, high = (points(v) for v in ends)
    return f"{points(rows.value(row, 'change'))} points (95 % interval {low} to {high})"


def points(share: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return text.UNKNOWN if share is None else f"{100 * share:+.1f}".replace("-", "−")


def percent(row: Row, column: str) -> str:
    """A share of a row."""
    return text.percent(rows.value(row, column))


def _strong(run: Run) -> tuple[str, list[str]] | None:
    ends = {
        name: (rows.at(held, 0.0), held[-1])
        for name, held in families(run).items()
        if name != REFERENCE and held[-1]["w"] > 0 and rows.at(held, 0.0)
    }
    if not ends:
        return None
    said, broken = [], 0
    for name, (first, last) in ends.items():
        assert first is not None
        broken += last["intended_high"] < first["intended_low"]
        off = rows.value(last, "off_support_denoised")
        words = f"{name} {percent(last, 'intended')} ({percent(first, 'intended')} at w = 0"
        if off is not None:
            words += f"; {text.percent(off)} of samples off the data's two values"
        said.append(words + ")")
    top = max(last["w"] for _, last in ends.values())
    held = f"Samples that keep the intended rule at {text.weight(top)}: {'; '.join(said)}."
    claim = BREAKS if broken == len(ends) else SOME if broken else BEARS
    return claim, [held]


def _reference(run: Run) -> tuple[str, list[str]] | None:
    held = families(run).get(REFERENCE, [])
    if len(held) < 2:
        return None
    least = min(held, key=lambda row: row["intended"])
    last = held[-1]
    kept = rows.value(last, "vendi_kept")
    always = least["intended"] == 1
    often = "all samples" if always else f"{percent(least, 'intended')} of samples or more"
    said = (
        f"A law of the same rules whose denoisers are exact: the intended rule holds in {often} "
        f"at every w (95 % interval from {percent(least, 'intended_low')}, n = "
        f"{text.number(least.get('n'))} at each)"
    )
    if kept is not None:
        said += f"; at {text.weight(last['w'])} {text.ratio(kept)} of the diversity is left"
    alone = (
        "What learned models lose beyond that is no doing of exact guidance: it is their own "
        "error, amplified, and at few steps the solver's."
    )
    return (EXACT if least["intended"] > 0.99 else INEXACT), [f"{said}. {alone}"]


def _error(run: Run) -> tuple[str, list[str]] | None:
    found = rows.by_w(rows.known(part(run, "error"), "size_cond", "size_guided"))
    data, guided = ([r for r in found if r.get("where") == where] for where in WHERE)
    if not data or not guided:
        return None
    first, last = guided[0], guided[-1]
    least = min(guided, key=lambda row: row["size_cond"])
    grows = (rows.value(last, "size_cond_low") or 0) > (rows.value(first, "size_cond_high") or 0)
    told = "; ".join(
        f"{text.number(row['size_cond'], 3)} at {text.weight(row['w'])}"
        for row in sorted({r["w"]: r for r in (first, least, last)}.values(), key=_w)
    )
    said = (
        f"A network trained on the exact law errs by {text.number(data[0]['size_cond'], 3)} on "
        f"noisy data (root mean square, rule told), and on the states that its own sampling "
        f"visits by {told}. The guided denoiser's error goes from "
        f"{text.number(first['size_guided'], 3)} to {text.number(last['size_guided'], 3)} there "
        f"(n = {text.number(last.get('n'))})."
    )
    return (GROWS if grows else STAYS), [said]


def _w(row: Row) -> float:
    return row["w"]


def trained(found: Sequence[Row]) -> str:
    """How the models of a Run were made, in a sentence."""
    seen = [int(n) for row in found if (n := rows.value(row, "samples_seen"))]
    if not seen:
        return ""
    span = f"{min(seen):,}" if min(seen) == max(seen) else f"{min(seen):,} to {max(seen):,}"
    return (
        f"Learned families saw {span} samples, each new; labels were dropped a tenth of the time."
    )
