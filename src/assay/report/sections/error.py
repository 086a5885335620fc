"""What a wrong score does: maps of the share off the class over w and the size of the error."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    TWO,
    Block,
    Cell,
    Figure,
    Gallery,
    Mark,
    Section,
    Table,
    beside,
    percent,
    said,
)
from assay.report.rows import Row
from assay.report.sections import curves, error_said
from assay.report.sections.error_said import AFTER, BEFORE, anchor, findings, named, of
from assay.runs import Run

__all__ = ["findings", "sections"]

_COUNTS = ((0, "0 % off the class"), (1, "2 %"), (2, "15 %"), (3, "50 %"), (4, "100 %"))
LEGEND = tuple(Mark(label, fig.HEAT[i][1], "chip") for i, label in _COUNTS)
_STARTS = {
    "w1_plain": "σ_max · u", "w1_means": "with guided means", "w1_unbiased": "unbiased start",
}  # fmt: skip
_MOST_SIZES = 4  # labels on the axis of sizes


def sections(run: Run) -> list[Section]:
    """Heat maps by kind of error, amplification, the bias of the start."""
    blocks: list[Block] = []
    for (name,), found in rows.groups(of(run, "error"), "target").items():
        blocks += maps(text.capital(str(name)), found)
    blocks += [*amplification(of(run, "amplification")), *starts(of(run, "start"))]
    blocks.append(table(of(run, "error")))
    lead = (
        "The scores so far were exact. Here they are wrong on purpose, in several ways, each with "
        "its size on one axis: the root mean square error of the predicted noise, over all noise "
        "levels, for data of the class."
    )
    told, how = said(error_said.findings(run)), text.command(run.config)
    return [Section(anchor(run), "When the score is wrong", lead, told, blocks, method(run), how)]


def maps(name: str, found: Sequence[Row]) -> list[Block]:
    """Heat maps: kinds side by side, without the final denoise and with it."""
    kinds = rows.groups(rows.known(found, "w", "size"), "error")
    if not kinds:
        return []
    caption = (
        f"Per cent of the samples off the class ({found[0].get('off_support_name')}), by w "
        "(upwards; guidance_scale = 1 + w) and size of the error (to the right). What turns pale "
        "after the final denoise was noise that was left, not damage. White: the kind has no "
        "error of that size."
    )
    width = beside(len(kinds))

    def row_of_maps(column: str) -> list[Figure]:
        return [heat_map(g, column, text.capital(named(str(k)))) for (k,), g in kinds.items()]

    before, after = row_of_maps(BEFORE), row_of_maps(AFTER)
    return [
        Gallery(before, "", LEGEND, width, f"{name}: samples as the solver leaves them"),
        Gallery(after, caption, (), width, f"{name}: samples after one final denoise"),
    ]


def heat_map(group: Sequence[Row], column: str, title: str) -> Figure:
    """One map, each cell with its per cent."""
    sizes = sorted({r["size"] for r in group})
    grid = sorted({r["w"] for r in group})
    at = {(r["w"], r["size"]): rows.value(r, column) for r in group}
    share = [[at.get((w, s)) for s in sizes] for w in grid]
    names = [text.number(float(s)) for s in sizes]
    trace = {
        "type": "heatmap", "z": fig.compact(share), "zmin": 0, "zmax": 1, "colorscale": fig.HEAT,
        "showscale": False, "xgap": 1.5, "ygap": 1.5, "texttemplate": "%{text}",
        "text": [[_whole(v) for v in line] for line in share], "textfont": {"size": 10},
        "hovertemplate": "size %{x}, w = %{y}<br>%{z:.3%} off the class<extra></extra>",
        "x": names, "y": [text.number(float(w)) for w in grid],
    }  # fmt: skip
    step = -(-len(names) // _MOST_SIZES)
    plain = {"type": "category", "showline": False, "ticks": "", "showgrid": False}
    small = {"tickfont": {"size": 10}, "tickangle": 0}
    across = axes.axis("size of the error", **plain, **small, tickvals=names[::step])
    return fig.figure([trace], across, axes.axis("w", **plain, **small), title, height=205)


def _whole(share: float | None) -> str:
    """Whole per cent; small ones to a digit; nothing where nothing is known."""
    if share is None or share < 5e-4:
        return "" if share is None else "0"
    return f"{100 * share:.0f}" if share >= 0.0095 else f"{100 * share:.1f}"


def amplification(found: Sequence[Row]) -> list[Block]:
    """A(w) of every target and kind, on a logarithmic axis."""
    group = {
        f"{text.capital(str(t))}, {named(str(e))}": rows.by_w(held)
        for (t, e), held in rows.groups(found, "target", "error").items()
    }
    axis = axes.logarithmic("movement by unit of error")
    panels = [
        curves.curve(group, "amplification", axis, "Amplification as the solver leaves them"),
        curves.curve(group, "amplification_denoised", axis, "After one final denoise"),
    ]
    drawn = [p for p in panels if p is not None]
    legend = [Mark(name, color, "point") for name, color in curves.colors(group).items()]
    caption = (
        "Amplification A(w): how far a small error of the score moves the samples, by unit of its "
        "size. On these axes a straight line is a power of guidance_scale."
    )
    return [Gallery(drawn, caption, legend, TWO)] if drawn else []


def starts(found: Sequence[Row]) -> list[Block]:
    """What a start at finite noise does to exact scores, as a table."""
    names = [n for n in _STARTS if rows.known(found, n)]
    if not names:
        return []
    cells = [
        [text.capital(str(r.get("target"))), r.get("w"), r.get("guidance_scale"),
         r.get("sigma_max"), *(Cell(text.number(rows.value(r, n), 2)) for n in names)]
        for r in found
    ]  # fmt: skip
    columns = ["target", "w", "guidance_scale", "σ_max", *(_STARTS[n] for n in names)]
    caption = "Exact scores: W1 distance to the exact guided samples that the start alone causes."
    title = "Table: what starting at a finite noise level does"
    return [Table(columns, cells, caption, title, folded=True)]


def table(found: Sequence[Row]) -> Table:
    """The rows of the maps."""
    columns = ("target", "error", "w", "guidance_scale", "size", "amount", "off the class",
               "… after final denoise", "… from the plain start", "n")  # fmt: skip
    cells = [
        [text.capital(str(r.get("target"))), named(str(r.get("error"))), r.get("w"),
         r.get("guidance_scale"), r.get("size"), Cell(text.number(r.get("amount"), 3)),
         percent(rows.value(r, BEFORE)), percent(rows.value(r, AFTER)),
         percent(rows.value(r, f"{BEFORE}_plain_start")), r.get("n")]
        for r in found
    ]  # fmt: skip
    title = f"Table: all {text.plural(len(found), 'row')} of the maps"
    return Table(columns, cells, "", title, folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    found = [r for r in of(run, "error") if r.get("method")]
    if not found:
        return ""
    perturbed = {str(r.get("error")): r.get("perturbed") for r in found}
    which = "; ".join(f"{named(k)}: {text.number(v)}" for k, v in perturbed.items())
    top, end = (text.number(rows.value(found[0], f"sigma_{e}")) for e in ("max", "min"))
    return (
        f"Probabilities by {found[0]['method']} from σ = {top} to {end}, from the unbiased start; "
        f"no sampling where n is empty. Which denoiser is wrong: {which}."
    )
