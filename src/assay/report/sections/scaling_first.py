"""When each kind of rule is learned (tau_rule), when copies first appear (tau_mem)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import THREE, TWO, Block, Figure, Gallery, Table
from assay.report.rows import Row
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import Group, Study

_FIRST = [[0, "#0b5d5f"], [0.5, "#58b0a8"], [1, "#e3f1ee"]]  # early to late
_NEVER = "#eceef1"


def first_rules(study: Study) -> list[Block]:
    """Heat maps of tau_rule: samples per rule across, kinds of rules down."""
    found = rows.known(study.of("tau_rule"), "samples_end")
    times = [math.log10(t) for r in found for t in [rows.value(r, "tau_high")] if t]
    if not found:
        return []
    span = (min(times), max(times)) if times else (0.0, 1.0)
    panels = [p for p in (_heat(study, group, span) for group in study.groups()) if p is not None]
    caption = (
        "Samples seen when a kind of rule first makes up half of its share in the data, among 256 "
        "samples drawn; any rule (C3) and completion: when they first reach 0.5. Dark: early. "
        "Grey: not by the end of any training; 1/2: in one of two. Where copies come first, a "
        "rule may appear because its samples are copied."
    )
    title = "When each kind of rule is learned (τ_rule)"
    return [Gallery(panels, caption, (), THREE, title)] if panels else []


def _heat(study: Study, group: Group, span: tuple[float, float]) -> Figure | None:
    found = study.of("tau_rule", group)
    if not found:
        return None
    kinds = list(dict.fromkeys(str(r["kind"]) for r in found))
    sizes = list(dict.fromkeys(r["per_rule"] for r in found))
    at = {(str(r["kind"]), r["per_rule"]): r for r in found}
    cells = [[at.get((k, n)) for n in sizes] for k in kinds]
    z = [[_known_time(r) for r in line] for line in cells]
    hover = [[_said_time(study.label(group), r) for r in line] for line in cells]
    shown = [[_short_time(r) for r in line] for line in cells]
    x = ["stream" if n is None else read.short(n) for n in sizes]
    trace = {
        "type": "heatmap", "z": fig.compact(z), "x": x, "y": [text.safe(k) for k in kinds],
        "texttemplate": "%{text}", "customdata": hover, "colorscale": _FIRST,
        "hovertemplate": "%{customdata}<extra></extra>", "zmin": span[0], "zmax": span[1],
        "showscale": False, "xgap": 2, "ygap": 2, "hoverongaps": False, "textfont": {"size": 10},
    }  # fmt: skip
    x_axis = axes.axis("samples per rule", type="category", showgrid=False, tickangle=0)
    y_axis = axes.axis("", type="category", autorange="reversed", showgrid=False)
    height = 80 + 27 * len(kinds)
    empty = {
        **trace, "z": [[0] * len(x)] * len(kinds), "colorscale": [[0, _NEVER], [1, _NEVER]],
        "text": [["–" if v is None else "" for v in line] for line in z],
    }  # fmt: skip
    trace["text"] = [["" if v is None else t for v, t in zip(*lines, strict=True)]
                     for lines in zip(z, shown, strict=True)]  # fmt: skip
    return fig.figure([empty, trace], x_axis, y_axis, study.label(group), height=height)


def _known_time(row: Row | None) -> float | None:
    """ln10 of the samples seen: all seeds' mean, else the least of those that reached it."""
    if row is None:
        return None
    ends = [v if v is not None else h for v, h in zip(row["taus"], row["highs"], strict=True)]
    known = [math.log10(end) for end in ends if end]
    return sum(known) / len(known) if known else None


def _short_time(row: Row | None) -> str:
    time = _known_time(row)
    if row is None or time is None:
        return ""
    n, n_all = row["n_reached"], len(row["taus"])
    first = "< " if row["tau_low"] is None and row["tau_high"] is not None else ""
    return f"{first}{_thousands(10**time)}" + (f"<br>{n}/{n_all}" if n < n_all else "")


def _thousands(value: float) -> str:
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value / 1000:.1f}k"


def _said_time(name: str, row: Row | None) -> str:
    if row is None:
        return ""
    each = [_span(*ends) for ends in zip(row["lows"], row["taus"], row["highs"], strict=True)]
    lasting = f"; still so at the end in {row['n_lasting']}" if row["n_reached"] else ""
    return (
        f"{text.safe(name)}, {text.safe(row['kind'])}<br>{read.amount(row['per_rule'])} per rule"
        f"<br>level {row['level']:.3g}: {'; '.join(each)}"
        f"<br>in {row['n_reached']} of {len(each)} trainings{lasting}"
    )


def _span(low: float | None, value: float | None, high: float | None) -> str:
    if high is None:
        return f"not by {text.number(low)} samples"
    if value is None:
        return f"before {text.number(high)}"
    return f"about {text.number(round(value))} ({text.number(low)} to {text.number(high)})"


def first_copies(study: Study) -> list[Block]:
    """tau_mem against samples per rule with its fitted growth; the same in passes."""
    if not any(r.get("per_rule") for r in study.of("tau_mem")):
        return []
    panels = [_copies(study, "samples seen", False), _copies(study, "passes over the data", True)]
    caption = (
        "Samples seen, and how often each training sample was, when copied rows first lie above "
        "the natural overlap (95 % intervals apart in a probe); bars: between which probes. Open "
        "triangles: no copies by the end. Dotted: fitted growth, censored trainings included."
    )
    title = "When copies first appear (τ_mem)"
    return [Gallery(panels, caption, study.legend(), TWO, title), *_growth(study)]


def _copies(study: Study, title: str, passes: bool) -> Figure:
    traces: list[Any] = []
    looks = study.looks()
    for i, (group, (color, _)) in enumerate(looks.items()):
        own = [r for r in study.of("tau_mem", group) if r.get("per_rule")]
        aside = 1.05 ** (i - (len(looks) - 1) / 2)  # models side by side
        if not passes:
            traces += _fitted(study, group, color)
        traces.append(_times(study.label(group), own, color, (aside, passes)))
    every = [y for t in traces for y in t["y"] if "marker" in t and y]
    y = read.powers(title, min(every) / 3, max(every) * 3)
    return fig.figure(traces, read.per_rule_axis(study.sizes()), y, "", height=320)


def _fitted(study: Study, group: Group, color: str) -> list[Any]:
    made, sizes = [], study.sizes()
    for row in rows.known(study.of("tau_mem_growth", group), "slope"):
        height = (row.get("intercepts") or {}).get(group[0])
        if height is not None:
            y = [math.exp(height) * n ** row["slope"] for n in sizes]
            made.append(fig.line(sizes, y, study.label(group), color, dash="dot", width=1.6,
                                 hoverinfo="skip"))  # fmt: skip
    return made


def _times(name: str, own: Sequence[Row], color: str, how: tuple[float, bool]) -> dict[str, Any]:
    """Every training: a point with the span between probes; how: (aside, in passes)."""
    aside, passes = how
    x, y, low, high, seen, symbols = [], [], [], [], [], []
    for row in own:
        unit = row["per_rule"] * row["n_rules"] if passes else 1
        for least, value, most in zip(row["lows"], row["taus"], row["highs"], strict=True):
            at = value or most or row["samples_end"]
            x.append(row["per_rule"] * aside)
            y.append(at / unit)
            low.append((least if most and least else at) / unit)
            high.append((most or at) / unit)
            symbols.append("circle" if most else "triangle-up-open")
            seen.append(f"{text.safe(name)}<br>{read.amount(row['per_rule'])} per rule<br>"
                        f"{_span(least, value, most)}")  # fmt: skip
    trace = fig.points(x, y, name, color, mode="markers", text=seen, low=low, high=high,
                       hovertemplate="%{text}<extra></extra>")  # fmt: skip
    trace["marker"] |= {"symbol": symbols}
    return trace


def _growth(study: Study) -> list[Block]:
    found = study.of("tau_mem_growth")
    if not found:
        return []
    lines = [
        [str(r["model"]) if r["model"] != "all" else "all, one slope", _slope(r),
         str(r.get("said") or ""), r.get("n")]
        for r in found
    ]  # fmt: skip
    columns = ("model", "slope of ln τ_mem on ln N", "why none", "trainings")
    caption = "Slope 1: copies come after so many passes over the data, whatever their number."
    return [Table(columns, lines, caption, "How the first copies move with data")]


def _slope(row: Row) -> str:
    slope = rows.value(row, "slope")
    if slope is None:
        return text.UNKNOWN
    ends = [text.number(rows.value(row, end), 3) for end in ("low", "high")]
    return f"{text.number(slope, 3)} ({ends[0]} to {ends[1]})"
