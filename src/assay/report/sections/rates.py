"""How fast samples concentrate as w grows: measured, beside the shapes of the theorems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from assay.report import axes
from assay.report import figures as fig
from assay.report import rows, text
from assay.report.blocks import Block, Figure, Finding, Gallery, Mark, Section, Table, beside
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "How fast it happens, as w grows"
LEGEND = (
    Mark("measured (exact)", fig.GUIDED, "point"),
    Mark(
        "shape of the theorem, through the first point: its constant is unknown", fig.SOFT, "dash"
    ),
)
_HOVER = {"hovertemplate": "w = %{customdata}<br>%{y:.4g}<extra></extra>"}


def sections(run: Run) -> list[Section]:
    """Rates of each target beside the theorems' shapes, and the fitted constants."""
    blocks: list[Block] = []
    for (name,), found in rows.groups(run.rows, "target").items():
        panels = [p for p in (draw(found) for draw in PANELS) if p is not None]
        if panels:
            title = text.capital(str(name))
            caption = _caption(found)
            blocks.append(Gallery(panels, caption, LEGEND, beside(len(panels)), title))
    blocks += [t for t in (fits(_of(run.rows, "fit")), table(run.rows)) if t is not None]
    lead = (
        "Theorems say that strong guidance pushes samples to the far edge of a bounded class, or "
        "into the far tail of an unbounded one. Their constants are unknown; here the rates are "
        "measured and their constants fitted."
    )
    told = said(findings(run))
    return [
        Section(anchor(run), "How fast samples concentrate", lead, told, blocks, METHOD,
                text.command(run.config))
    ]  # fmt: skip


METHOD = (
    "From the exact distribution of guided samples, without sampling. Constants are fitted where "
    "the next term of the expansion is below 1 %; an interval is the estimate ± the change that "
    "one more term makes."
)


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"rates-{run.path.name}")


def _of(found: Sequence[Row], rate: str) -> list[Row]:
    return [r for r in found if r.get("rate") == rate]


def findings(run: Run) -> list[Finding]:
    """The fitted constants, with their intervals."""
    told = [_fitted(r) for r in rows.known(_of(run.rows, "fit"), "constant", "low", "high")]
    return [Finding(CLAIM, told, anchor(run))] if told else []


def _fitted(row: Row) -> str:
    ends = [text.number(row[e], 5) for e in ("low", "high")]
    said = (
        f"{text.capital(str(row.get('target')))}: {row.get('law')}, with constant "
        f"{text.number(row['constant'], 5)} (interval {ends[0]} to {ends[1]}, fitted for w from "
        f"{text.number(row.get('w_low'))} to {text.number(row.get('w_high'))}, that is "
        f"guidance_scale {text.number(_scale(row, 'w_low'))} to "
        f"{text.number(_scale(row, 'w_high'))}; exact"
    )
    predicted = rows.value(row, "predicted")
    return said + (f"; derived: {text.number(predicted, 5)})." if predicted else ").")


def _scale(row: Row, end: str) -> float | None:
    w = rows.value(row, end)
    return None if w is None else 1 + w


def _caption(found: Sequence[Row]) -> str:
    if _of(found, "gap"):
        return (
            "Left: the distance of the median to the far edge falls much faster than the theorem's "
            "bound, an exponential in w. Right: how much of the samples lie within a layer at the "
            "edge, in shares of the width of the class."
        )
    return (
        "Left: the median grows like √w. Right: the share beyond c·√w standard deviations tends "
        "to 1 only for c below the fitted constant; at c = 1 it rises and then falls to 0."
    )


# ---- panels ------------------------------------------------------------------------------------


def gap(found: Sequence[Row]) -> Figure | None:
    """Distance of the median to the far edge, on a logarithmic axis."""
    w, y = rows.series(_of(found, "gap"), "gap")
    if len(w) < 2 or min(y) <= 0:
        return None
    later = [(a, b) for a, b in zip(w, y, strict=True) if a > 1]
    shape = [later[0][1] * np.sqrt(np.log(later[0][0]) / np.log(a)) for a, _ in later]
    axis = axes.axis("distance to the edge", type="log", exponentformat="power", dtick=2)
    traces = [_shape([a for a, _ in later], shape, w), _measured(w, y, w)]
    return fig.figure(traces, axes.of_w(w), axis, "Median: gap to the far edge")


def layers(found: Sequence[Row]) -> Figure | None:
    """Share of the samples within fixed layers at the far edge."""
    fixed = [r for r in _of(found, "layer") if r.get("delta_of") == "fixed"]
    return _family(
        fixed, "delta", lambda v: f"within {text.number(v)}", "Share of samples at the far edge"
    )


def median(found: Sequence[Row]) -> Figure | None:
    """The median of an unbounded class, beside the square root of w."""
    w, y = rows.series(_of(found, "median"), "median")
    if len(w) < 2:
        return None
    shape = [y[0] * np.sqrt(a / w[0]) for a in w]
    axis = axes.axis("median of x", rangemode="tozero")
    return fig.figure([_shape(w, shape, w), _measured(w, y, w)], axes.of_w(w), axis, "Median")


def beyond(found: Sequence[Row]) -> Figure | None:
    """Share of the samples beyond c sqrt(w) standard deviations."""
    return _family(
        _of(found, "beyond"), "c", lambda v: f"c = {text.number(v)}", "Share beyond c·√w·sd"
    )


def tail(found: Sequence[Row]) -> Figure | None:
    """Density ratio to the conditional along the tail, as a share of its limit."""
    usable = [r for r in rows.known(_of(found, "tail"), "w", "u", "ratio", "limit") if r["limit"]]
    if not usable:
        return None
    by_w = rows.groups(rows.by_w(usable), "w")
    colors = fig.ramp(len(by_w))
    traces = []
    for ((w,), group), color in zip(by_w.items(), colors, strict=True):
        group = sorted(group, key=lambda r: r["u"])
        y = [r["ratio"] / r["limit"] for r in group]
        traces.append(
            fig.points([r["u"] for r in group], y, f"w = {text.number(w)}", color,
                       hovertemplate="u = %{x}<br>%{y:.3%} of the limit<extra>%{fullData.name}"
                       "</extra>")
        )  # fmt: skip
    traces.append(fig.across(1.0, "", fig.SOFT, "dot"))
    return fig.figure(
        traces, axes.axis("u: how far out in the tail"), axes.axis("share of the limit",
        tickformat=".0%"), "Density ratio against its limit P(z)⁻ʷ",
        note="One line a weight, pale to dark: w = " + text.listed(
            text.number(float(w)) for (w,) in by_w) + ".",
    )  # fmt: skip


PANELS: tuple[Callable[[Sequence[Row]], Figure | None], ...] = (gap, layers, median, beyond, tail)


def _family(
    found: Sequence[Row], by: str, label: Callable[[float], str], title: str
) -> Figure | None:
    """Shares against w, one line for each value of a column, named at its end."""
    usable = rows.known(found, "w", by, "share")
    if not usable:
        return None
    grid = [r["w"] for r in usable]
    family = dict(sorted(rows.groups(usable, by).items(), key=lambda item: float(item[0][0])))
    traces, notes = [], []
    for ((v,), group), color in zip(family.items(), fig.ramp(len(family)), strict=True):
        w, y = rows.series(group, "share")
        traces.append(_measured(w, y, grid, color, label(v)))
        notes.append(label(v))
    axis = axes.shares("share of samples")
    note = f"Pale to dark: {text.listed(notes)}."
    return fig.figure(traces, axes.of_w(grid), axis, title, note=note)


def _measured(
    w: Sequence[float], y: Sequence[float], grid: Sequence[float], color: str = fig.GUIDED,
    name: str = "measured",
) -> dict:  # fmt: skip
    return fig.points(axes.places(w, grid), y, name, color, customdata=list(w), **_HOVER)


def _shape(w: Sequence[float], y: Sequence[float], grid: Sequence[float]) -> dict:
    return fig.line(axes.places(w, grid), y, "shape of the theorem", fig.SOFT, dash="dash")


# ---- tables ------------------------------------------------------------------------------------


def fits(found: Sequence[Row]) -> Table | None:
    """The fitted constants."""
    if not found:
        return None
    cells = [
        [text.capital(str(r.get("target"))), r.get("law"), text.number(r.get("constant"), 6),
         text.number(r.get("low"), 6), text.number(r.get("high"), 6),
         text.number(r.get("predicted"), 6), r.get("w_low"), r.get("w_high"),
         _scale(r, "w_low"), _scale(r, "w_high"), r.get("reason") or ""]
        for r in found
    ]  # fmt: skip
    columns = ("target", "law for large w", "constant", "from", "to", "derived", "w from", "w to",
               "guidance_scale from", "to", "why none")  # fmt: skip
    if not any(line[-1] for line in cells):
        columns, cells = columns[:-1], [line[:-1] for line in cells]
    return Table(columns, cells, "", "Fitted constants")


def table(found: Sequence[Row]) -> Table | None:
    """All other rows."""
    others = [r for r in found if r.get("rate") != "fit"]
    names = [
        n for n in ("target", "rate", "w", "guidance_scale", "delta", "delta_of", "c", "u", "x",
                    "share", "gap", "log_gap", "log_outside", "theorem_log_outside", "median",
                    "median_over_sqrt_w", "log_missing", "log_missing_over_w2", "ratio", "limit")
        if any(r.get(n) is not None for r in others)
    ]  # fmt: skip
    if not others:
        return None
    cells = [[r.get(n) for n in names] for r in others]
    title = f"Table: all {text.plural(len(others), 'row')}"
    return Table([n.replace("_", " ") if n != "guidance_scale" else n for n in names], cells, "",
                 title, folded=True)  # fmt: skip
