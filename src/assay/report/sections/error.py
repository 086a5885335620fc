"""What a wrong score does: maps of the share off the class over w and the size of the error."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import axes
from assay.report import figures as fig
from assay.report import rows, text, verdict
from assay.report.blocks import (
    TWO,
    Block,
    Figure,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    beside,
    percent,
)
from assay.report.rows import Row
from assay.report.sections import curves
from assay.runs import Run

CLAIM = "A slightly wrong score is what drives strong guidance off the data"
REPAIRED = "What was an artefact"
KINDS = {
    "bias": "constant bias",
    "field": "smooth random error",
    "zeroed": "score zeroed far out",
    "precision": "finite precision",
    "stop": "stopped early",
}
BEFORE, AFTER = "off_support", "off_support_denoised"
LEGEND = tuple(
    Mark(label, fig.HEAT[i][1], "chip")
    for i, label in enumerate(("0 % off the class", "2 %", "15 %", "50 %", "100 %"))
)


def sections(run: Run) -> list[Section]:
    """Heat maps by kind of error, amplification, the bias of the start."""
    blocks: list[Block] = []
    for (name,), found in rows.groups(_of(run, "error"), "target").items():
        blocks += maps(text.capital(str(name)), found)
    blocks += [*amplification(_of(run, "amplification")), *starts(_of(run, "start"))]
    blocks.append(table(_of(run, "error")))
    lead = (
        "The scores so far were exact. Here they are wrong on purpose, in five ways, each with "
        "its size on one axis: the root mean square error of the predicted noise, over all noise "
        "levels, for data of the class."
    )
    told = said(findings(run))
    return [
        Section(anchor(run), "When the score is wrong", lead, told, blocks, method(run),
                text.command(run.config))
    ]  # fmt: skip


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"error-{run.path.name}")


def _of(run: Run, kind: str) -> list[Row]:
    """The rows of one part of the study."""
    return [r for r in run.rows if r.get("kind", "error") == kind]


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """What each kind of error needs to leave the class, how it is amplified, what is repaired."""
    told = [s for s in map(_breaking, _by_target(run)) if s]
    told += [s for s in [_amplified(_of(run, "amplification"))] if s]
    found = [Finding(CLAIM, told, anchor(run))] if told else []
    repaired = _repaired(_of(run, "error"))
    return found + ([Finding(REPAIRED, [repaired], anchor(run))] if repaired else [])


def _by_target(run: Run) -> list[list[Row]]:
    return list(rows.groups(rows.known(_of(run, "error"), "w", "size", AFTER), "target").values())


def _breaking(found: Sequence[Row]) -> str:
    """At a middling and the largest w: the least size of each kind that leaves the class."""
    grid = sorted({r["w"] for r in found if r["w"] > 0})
    if not grid:
        return ""
    w = grid[len(grid) // 2]
    here = [r for r in found if r["w"] == w]
    # An unbounded class is left without any error too: what counts is what comes on top.
    level = verdict.LIMIT + min(r[AFTER] for r in here if r["size"] == here[0]["size"])
    least = {}
    for (kind,), group in rows.groups(here, "error").items():
        off = [r for r in group if r[AFTER] > level]
        least[str(kind)] = min(off, key=lambda r: r["size"]) if off else None
    hurt = [r for r in least.values() if r is not None]
    if not hurt:
        return ""
    worst = min(hurt, key=lambda r: (r["size"], -r[AFTER]))
    spared = [_named(k) for k, r in least.items() if r is None]
    said = (
        f"{text.capital(str(worst.get('target')))}: at {text.weight(w)} an error of size "
        f"{text.number(worst['size'])} ({_named(str(worst.get('error')))}) puts "
        f"{rows.share(worst, AFTER)} of the samples off the class, final denoise included "
        f"({_how(worst)})"
    )
    if spared:
        said += f"; no size measured of {text.listed(spared)} does"
    return said + "."


def _named(kind: str) -> str:
    return KINDS.get(kind, kind)


def _amplified(found: Sequence[Row]) -> str:
    grown = rows.by_w(rows.known(found, "amplification"))
    if not grown:
        return ""
    grown = [r for r in grown if r["w"] > 0 and r["amplification"] > 0]
    if len(grown) < 2:
        return ""
    last = max(grown, key=lambda r: r["amplification"])
    first = next(r for r in grown if _same(r) == _same(last))
    return (
        f"Guidance amplifies errors: {text.capital(str(last.get('target')))}, "
        f"{_named(str(last.get('error')))}: a unit of error moves a sample by "
        f"{text.number(last['amplification'], 3)} at {text.weight(last['w'])}, and by "
        f"{text.number(first['amplification'], 3)} at {text.weight(first['w'])} "
        f"({_how(last)})."
    )


def _same(row: Row) -> tuple[object, object]:
    return row.get("target"), row.get("error")


def _how(row: Row) -> str:
    return "exact" if row.get("n") is None else f"n = {text.number(row['n'])}"


def _repaired(found: Sequence[Row]) -> str:
    """The largest share that the final denoise alone puts back."""
    both = [r for r in rows.known(found, "w", "size", BEFORE, AFTER) if r[AFTER] <= verdict.LIMIT]
    if not both:
        return ""
    most = max(r[BEFORE] for r in both)
    if most <= verdict.LIMIT:
        return ""
    row = min((r for r in both if r[BEFORE] > most / 2), key=lambda r: r["size"])
    return (
        f"{text.capital(str(row.get('target')))}, {_named(str(row.get('error')))} "
        f"({row.get('amount_name') or 'amount'} {text.number(row.get('amount'), 3)}): at "
        f"{text.weight(row['w'])} {rows.share(row, BEFORE)} of the samples are off the class "
        f"without the final denoise, {rows.share(row, AFTER)} after it ({_how(row)})."
    )


# ---- what shows it -----------------------------------------------------------------------------


def maps(name: str, found: Sequence[Row]) -> list[Block]:
    """Heat maps: kinds side by side, without the final denoise above, with it below."""
    kinds = rows.groups(rows.known(found, "w", "size"), "error")
    if not kinds:
        return []
    caption = (
        f"Per cent of the samples off the class ({found[0].get('off_support_name')}), by w "
        "(upwards) and size of the error (to the right). What turns pale after the final denoise "
        "was noise that was left, not damage. White: the kind has no error of that size."
    )
    galleries = []
    for column, when in (
        (BEFORE, "as the solver leaves them"),
        (AFTER, "after one final denoise"),
    ):
        panels = [heat_map(g, column, text.capital(_named(str(k)))) for (k,), g in kinds.items()]
        first = column == BEFORE
        galleries.append(
            Gallery(panels, "" if first else caption, LEGEND if first else (), beside(len(panels)),
                    f"{name}: samples {when}")
        )  # fmt: skip
    return galleries


def heat_map(group: Sequence[Row], column: str, title: str) -> Figure:
    """One map, each cell with its per cent."""
    sizes = sorted({r["size"] for r in group})
    grid = sorted({r["w"] for r in group})
    at = {(r["w"], r["size"]): rows.value(r, column) for r in group}
    share = [[at.get((w, s)) for s in sizes] for w in grid]
    labels = [[_cell(v) for v in line] for line in share]
    trace = {
        "type": "heatmap", "z": fig.compact(share), "zmin": 0, "zmax": 1, "colorscale": fig.HEAT,
        "showscale": False, "xgap": 1.5, "ygap": 1.5, "text": labels,
        "texttemplate": "%{text}", "textfont": {"size": 10},
        "hovertemplate": "size %{x}, w = %{y}<br>%{z:.3%} off the class<extra></extra>",
        "x": [text.number(s) for s in sizes], "y": [text.number(float(w)) for w in grid],
    }  # fmt: skip
    plain = {"type": "category", "showline": False, "ticks": "", "showgrid": False}
    return fig.figure(
        [trace], axes.axis("size of the error", **plain, tickangle=0, tickfont={"size": 10}),
        axes.axis("w", **plain, tickfont={"size": 10}), title, height=205,
    )  # fmt: skip


def _cell(share: float | None) -> str:
    """Whole per cent; small ones to a digit; nothing for nothing."""
    if share is None or share < 5e-4:
        return "" if share is None else "0"
    return f"{100 * share:.0f}" if share >= 0.0095 else f"{100 * share:.1f}"


def amplification(found: Sequence[Row]) -> list[Block]:
    """A(w) of every target and kind, on a logarithmic axis."""
    grown = rows.by_w(rows.known(found, "amplification"))
    if not grown:
        return []
    by_label = {
        f"{text.capital(str(t))}, {_named(str(e))}": group
        for (t, e), group in rows.groups(grown, "target", "error").items()
    }
    axis = axes.axis("movement of a sample by unit of error", type="log")
    one = curves.curve(by_label, "amplification_denoised", axis, "After a final denoise")
    two = curves.curve(by_label, "amplification", axis, "As the solver leaves them")
    legend = [Mark(n, c, "point") for n, c in curves.colors(by_label).items()]
    caption = (
        "Amplification A(w): how far a small error of the score moves the samples, by unit of its "
        "size. A straight line upwards here is growth faster than any power of 1 + w."
    )
    return [Gallery([f for f in (two, one) if f is not None], caption, legend, TWO)]


def starts(found: Sequence[Row]) -> list[Block]:
    """What a start at finite noise does to exact scores, as a table."""
    names = [n for n in ("w1_plain", "w1_means", "w1_unbiased") if rows.known(found, n)]
    if not names:
        return []
    titles = {
        "w1_plain": "σ_max · u", "w1_means": "… + guided means", "w1_unbiased": "unbiased start",
    }  # fmt: skip
    cells = [
        [text.capital(str(r.get("target"))), r.get("w"), r.get("guidance_scale"), r.get("sigma_max"),
         *(text.number(rows.value(r, n), 2) for n in names)]
        for r in found
    ]  # fmt: skip
    columns = ["target", "w", "guidance_scale", "σ_max", *(titles[n] for n in names)]
    caption = "Exact scores: W1 distance to the exact guided samples that the start alone causes."
    title = "Table: what starting at a finite noise level does"
    return [Table(columns, cells, caption, title, folded=True)]


def table(found: Sequence[Row]) -> Table:
    """The rows of the maps."""
    columns = ("target", "error", "w", "guidance_scale", "size", "amount", "off the class",
               "… after final denoise", "… from the plain start", "n")  # fmt: skip
    cells = [
        [text.capital(str(r.get("target"))), _named(str(r.get("error"))), r.get("w"),
         r.get("guidance_scale"), r.get("size"), text.number(r.get("amount"), 3),
         percent(rows.value(r, BEFORE)), percent(rows.value(r, AFTER)),
         percent(rows.value(r, f"{BEFORE}_plain_start")), r.get("n")]
        for r in found
    ]  # fmt: skip
    title = f"Table: all {text.plural(len(found), 'row')} of the maps"
    return Table(columns, cells, "", title, folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    found = [r for r in _of(run, "error") if r.get("method")]
    perturbed = {str(r["error"]): r.get("perturbed") for r in found if r.get("error")}
    which = "; ".join(f"{_named(k)}: {v}" for k, v in perturbed.items())
    made = next((r.get("method") for r in found), text.UNKNOWN)
    levels = (
        [text.number(rows.value(found[0], f"sigma_{e}")) for e in ("max", "min")] if found else []
    )
    span = f" from σ = {' to '.join(levels)}" if levels else ""
    return (
        f"Probabilities by {made}{span}, from the unbiased start; no sampling where n is empty. "
        f"Which denoiser is wrong: {which}."
    )
