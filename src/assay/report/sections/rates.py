"""How fast samples concentrate as w grows: measured, beside the shapes of the theorems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    Block,
    Figure,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    beside,
    said,
)
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "How fast it happens, as w grows"
METHOD = (
    "From the exact distribution of guided samples, without sampling. Constants are fitted where "
    "the next term of the expansion is below 1 %; an interval is the estimate ± the change that "
    "one more term makes."
)
BOUNDED = (
    "Left: the distance of the median to the far edge falls much faster than the theorem's bound. "
    "Middle: how many samples lie in a thin layer at the edge, in shares of the width of the "
    "class. Right: far out, the guided density exceeds the conditional by a factor that tends "
    "slowly to its limit."
)
UNBOUNDED = (
    "Left: the median grows like √w; the line is the constant fitted at large w. Middle: the "
    "share beyond c·√w standard deviations tends to 1 only for c below that constant, above it "
    "the share falls again. Right: far out, the guided density exceeds the conditional by a "
    "factor that tends slowly to its limit."
)
_THEOREM = Mark(
    "theorem's shape through the first point (its constant is unknown)", fig.SOFT, "dash"
)
_MEASURED = Mark("measured (exact)", fig.GUIDED, "point")
_FITTED = Mark("constant fitted at large w", fig.TILTED, "dash")


def sections(run: Run) -> list[Section]:
    """Rates of each target beside the theorems' shapes, and the fitted constants."""
    blocks: list[Block] = []
    for (name,), found in rows.groups(run.rows, "target").items():
        panels = [p for p in (draw(run, found) for draw in PANELS) if p is not None]
        if panels:
            bounded = bool(_of(found, "gap"))
            legend = (_MEASURED, _THEOREM if bounded else _FITTED)
            caption, title = BOUNDED if bounded else UNBOUNDED, text.capital(str(name))
            blocks.append(Gallery(panels, caption, legend, beside(len(panels)), title))
    blocks += [t for t in (fits(_of(run.rows, "fit")), table(run.rows)) if t is not None]
    lead = (
        "Theorems say that strong guidance pushes samples to the far edge of a bounded class, or "
        "into the far tail of an unbounded one. Their constants are unknown; here the rates are "
        "measured and constants fitted."
    )
    told, how = said(findings(run)), text.command(run.config)
    return [Section(anchor(run), "How fast samples concentrate", lead, told, blocks, METHOD, how)]


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
    low, high = (text.number(row[e], 5) for e in ("low", "high"))
    law = str(row.get("law") or "constant").replace("sqrt(w)", "√w").replace("-", "−")
    law = law.replace("constant", text.number(row["constant"], 4))
    return (
        f"{text.capital(str(row.get('target')))}: {law} (interval {low} to {high}, exact, fitted "
        f"for w from {_ends(row, 0)}, guidance_scale from {_ends(row, 1)})."
    )


def _ends(row: Row, more: float) -> str:
    """The range of a fit in w (more = 0) or guidance_scale (more = 1)."""
    ends = [rows.value(row, e) for e in ("w_low", "w_high")]
    return " to ".join(text.number(None if e is None else e + more) for e in ends)


# ---- panels ------------------------------------------------------------------------------------


def gap(run: Run, found: Sequence[Row]) -> Figure | None:
    """Distance of the median to the far edge, on a logarithmic axis."""
    w, y = rows.series(_of(found, "gap"), "gap")
    if len(w) < 2 or min(y) <= 0:
        return None
    later = [(a, b) for a, b in zip(w, y, strict=True) if a > 1]
    traces = [_measured(w, y, w)]
    if later:
        first = later[0][1] * np.sqrt(np.log(later[0][0]))
        x = axes.places([a for a, _ in later], w)
        shape = [first / np.sqrt(np.log(a)) for a, _ in later]
        traces.insert(0, fig.line(x, shape, "theorem's shape", fig.SOFT, dash="dash"))
    axis = axes.logarithmic("distance to the edge") | {"dtick": 2}
    return fig.figure(traces, axes.of_w(w), axis, "Median: gap to the far edge")


def layers(run: Run, found: Sequence[Row]) -> Figure | None:
    """Share of the samples within fixed layers at the far edge."""
    fixed = [r for r in _of(found, "layer") if r.get("delta_of") == "fixed"]
    return _family(fixed, "delta", "within {}", "Share of samples at the far edge")


def median(run: Run, found: Sequence[Row]) -> Figure | None:
    """The median of an unbounded class over the square root of w, and its fitted limit."""
    w, y = rows.series(_of(found, "median"), "median_over_sqrt_w")
    if len(w) < 2:
        return None
    fitted = rows.known(_of(found, "fit"), "constant")
    traces = [_measured(w, y, w)]
    if fitted:
        traces.append(fig.across(fitted[0]["constant"], "", fig.TILTED))
    axis = axes.axis("median / √w", rangemode="tozero")
    return fig.figure(traces, axes.of_w(w), axis, "Median over √w")


def beyond(run: Run, found: Sequence[Row]) -> Figure | None:
    """Share of the samples beyond c sqrt(w) standard deviations: finely, where arrays say so."""
    usable = rows.known(_of(found, "beyond"), "w", "c", "share")
    if not usable:
        return None
    title, suffix = "Share beyond c·√w·sd", str(usable[0].get("target"))
    w, share = (rows.array(run, f"{name}.{suffix}") for name in ("curve_w", "beyond"))
    cs = sorted({r["c"] for r in usable})
    if w is None or share is None or share.shape != (len(cs), len(w)):
        return _family(usable, "c", "c = {}", title)
    fine = [
        {"w": float(a), "c": c, "share": float(b)}
        for c, line in zip(cs, share, strict=True)
        for a, b in zip(w, line, strict=True)
    ]
    return _family(fine, "c", "c = {}", title)


def tail(run: Run, found: Sequence[Row]) -> Figure | None:
    """Density ratio to the conditional along the tail, as a share of its limit."""
    usable = [r for r in rows.known(_of(found, "tail"), "w", "u", "ratio", "limit") if r["limit"]]
    if not usable:
        return None
    by_w = rows.groups(rows.by_w(usable), "w")
    traces = [fig.across(1.0, "", fig.SOFT, "dot")]
    for ((w,), group), color in zip(by_w.items(), fig.ramp(len(by_w)), strict=True):
        group = sorted(group, key=lambda r: r["u"])
        y = [r["ratio"] / r["limit"] for r in group]
        traces.append(fig.points([r["u"] for r in group], y, f"w = {text.number(w)}", color))
    names = text.listed(text.number(float(w)) for (w,) in by_w)
    across = axes.axis("u: standard score of the noise")
    up = axes.shares("share of the limit P(z)⁻ʷ")
    note = f"Pale to dark: w = {names}."
    return fig.figure(traces, across, up, "Density ratio in the tail", note=note)


PANELS: tuple[Callable[[Run, Sequence[Row]], Figure | None], ...] = (
    gap, layers, median, beyond, tail,
)  # fmt: skip


def _family(found: Sequence[Row], by: str, label: str, title: str) -> Figure | None:
    """Shares against w, one line for each value of a column, pale to dark."""
    usable = rows.known(found, "w", by, "share")
    if not usable:
        return None
    grid = [r["w"] for r in usable]
    family = dict(sorted(rows.groups(usable, by).items(), key=lambda item: float(item[0][0])))
    names = [label.format(text.number(v)) for (v,) in family]
    traces = []
    for name, group, color in zip(names, family.values(), fig.ramp(len(names)), strict=True):
        w, y = rows.series(group, "share")
        fine = {"mode": "lines"} if len(w) > 12 else {}
        traces.append(_measured(w, y, grid, color) | {"name": text.safe(name)} | fine)
    note = f"Pale to dark: {text.listed(names)}."
    return fig.figure(traces, axes.of_w(grid), axes.shares(), title, note=note)


def _measured(
    w: Sequence[float], y: Sequence[float], grid: Sequence[float], color: str = fig.GUIDED
) -> dict[str, Any]:
    hover = {"customdata": list(w), "hovertemplate": "w = %{customdata}<br>%{y:.4g}"}
    return fig.points(axes.places(w, grid), y, "measured", color, **hover)


# ---- tables ------------------------------------------------------------------------------------


def fits(found: Sequence[Row]) -> Table | None:
    """The fitted constants."""
    if not found:
        return None
    cells = [
        [text.capital(str(r.get("target"))), r.get("law"), *_constants(r), _ends(r, 0),
         _ends(r, 1), r.get("reason") or ""]
        for r in found
    ]  # fmt: skip
    columns = ("target", "law for large w", "constant", "interval", "derived", "fitted for w",
               "guidance_scale", "why there is none")  # fmt: skip
    full = len(columns) - (not any(line[-1] for line in cells))
    return Table(columns[:full], [line[:full] for line in cells], "", "Fitted constants")


def _constants(row: Row) -> list[str]:
    shown = [text.number(rows.value(row, c), 6) for c in ("constant", "low", "high", "predicted")]
    return [shown[0], f"{shown[1]} to {shown[2]}", shown[3]]


_COLUMNS = (
    "target", "rate", "w", "guidance_scale", "delta", "delta_of", "c", "u", "x", "share", "gap",
    "log_gap", "log_outside", "theorem_log_outside", "median", "median_over_sqrt_w",
    "log_missing", "log_missing_over_w2", "ratio", "limit",
)  # fmt: skip


def table(found: Sequence[Row]) -> Table | None:
    """All other rows."""
    others = [r for r in found if r.get("rate") != "fit"]
    used = [c for c in _COLUMNS if any(r.get(c) is not None for r in others)]
    if not others:
        return None
    cells = [[r.get(c) for c in used] for r in others]
    return Table(used, cells, "", f"Table: all {text.plural(len(others), 'row')}", folded=True)
