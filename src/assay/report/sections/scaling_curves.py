"""Shares against samples per rule: trainings, fits with bands, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import TWO, Block, Cell, Figure, Gallery, Mark, Table
from assay.report.rows import Row
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import METRICS, Study

_SHARES = (0.5, 0.9)
_NAMES = METRICS | {
    "all": "all",
    "rising": "all that rise with data",
    "moving": "all that rise by 0.2 or more",
}


def curves(study: Study) -> list[Block]:
    """One panel a measure: points, fits with bands, marks at N50 and N90."""
    panels = [_curve(study, metric) for metric in METRICS]
    drawn = [p for p in panels if p is not None]
    if not drawn:
        return []
    caption = (
        "Every training is a point; curve: binomial logistic fit with its 95 % band; ◆ N50 and ★ "
        "N90 with their 95 % profile intervals. Dotted: means, where a share falls with data "
        "(copies of little data obey their rules; much data are not learned in as many steps), "
        "so that no threshold is said. Dashed: as new as fresh data are, whose rows occur among "
        "the training rows by chance; what draws like the data does no better. Squares: streamed "
        "data, at the samples seen per rule."
    )
    marks = [Mark("0.5 and 0.9", fig.SOFT, "dot")]
    marks += [Mark("novel-C3 of fresh data", fig.INK, "dash")] if study.of("fresh") else []
    return [Gallery(drawn, caption, [*study.legend(), *marks], TWO)]


def _curve(study: Study, metric: str) -> Figure | None:
    looks, bands, lines, marks, points = study.looks(), [], [], [], []
    for group, held in study.groups().items():
        color, dash = looks[group]
        name = study.label(group)
        fits = study.of("curve", group, metric=metric)
        if any(row.get("rises") is False for row in fits):  # no rising curve through it
            fits, (x, y) = [], read.means([r for r in held if r.get("per_rule")], metric)
            lines.append(fig.line(x, y, name, color, dash="dot", width=1.3, hoverinfo="skip"))
        for row in fits:
            bands.append(fig.band(row["grid"], row["p_low"], row["p_high"], color, 0.10))
            lines.append(fig.line(row["grid"], row["p"], name, color, dash=dash,
                                  hovertemplate=f"{text.safe(name)}, fit<br>%{{x:,.0f}} per rule: "
                                  "%{y:.3f}<extra></extra>"))  # fmt: skip
        marks += [_threshold(r, name, color) for r in study.of("threshold", group, metric=metric)
                  if r.get("per_rule") is not None]  # fmt: skip
        points.append(read.dots(held, metric, name, color))
    if not any(p["x"] for p in points):
        return None
    levels = [fig.across(share, "", fig.SOFT, "dot") for share in _SHARES]
    levels += _fresh(study) if metric == "novel_c3" else []
    x = read.per_rule_axis([*study.sizes(), *_ends(study)])
    y = axes.shares("")
    traces = [*bands, *levels, *lines, *points, *marks]
    return fig.figure(traces, x, y, METRICS[metric], height=330)


def _fresh(study: Study) -> list[dict[str, Any]]:
    """How new fresh data are, for each rule set."""
    return [
        fig.line([r["per_rule"] for r in held], [r["novel_c3"] for r in held], "fresh data",
                 fig.INK, dash="dash", width=1.5, hovertemplate="fresh data<br>%{x:,} per rule: "
                 "%{y:.3f}<extra></extra>")
        for held in rows.groups(study.of("fresh"), "rule_set").values()
    ]  # fmt: skip


def _ends(study: Study) -> list[float]:
    found = [read.place(row) for row in study.jobs]
    return [x for x in found if x is not None]


def _threshold(row: Row, name: str, color: str) -> dict[str, Any]:
    """A mark at a threshold, with its interval across."""
    value, share = float(row["per_rule"]), float(row["share"])
    low, high = (rows.value(row, end) for end in ("low", "high"))
    seen = f"{text.safe(name)}<br>N{100 * share:.0f} = {threshold(row)}"
    trace = fig.points([value], [share], name, color, mode="markers", text=[seen],
                       hovertemplate="%{text}<extra></extra>")  # fmt: skip
    trace["marker"] = {"size": 12, "color": "#ffffff", "symbol": "diamond" if share < 0.9 else
                       "star", "line": {"color": color, "width": 2}}  # fmt: skip
    trace["error_x"] = {
        "type": "data", "symmetric": False, "thickness": 1.6, "width": 5, "color": color,
        "array": [None if high is None else high - value],
        "arrayminus": [None if low is None else value - low],
    }  # fmt: skip
    return trace


def threshold(row: Row) -> str:
    """Samples per rule with the interval, or why there are none."""
    value, low, high = (rows.value(row, c) for c in ("per_rule", "low", "high"))
    if value is None:
        return str(row.get("said") or text.UNKNOWN)
    span = (rows.value(row, "range_low"), rows.value(row, "range_high"))
    ends = [
        text.number(round(low)) if low is not None else f"below {text.number(span[0], 3)}",
        text.number(round(high)) if high is not None else f"above {text.number(span[1], 3)}",
    ]
    return f"{text.number(round(value))} ({ends[0]} to {ends[1]})"


def thresholds(study: Study) -> list[Block]:
    """N50 and N90 of every model and measure."""
    if not study.of("threshold"):
        return []
    lines: list[list[Any]] = []
    for group in study.groups():
        cells: list[Any] = [study.label(group)]
        for metric in METRICS:
            for share in _SHARES:
                cells.append(_cell(study.of("threshold", group, metric=metric, share=share)))
        lines.append(cells)
    heads = [Cell(name, detail=f"N{100 * s:.0f}") for name in METRICS.values() for s in _SHARES]
    caption = (
        "Samples per rule at which a share of 0.5 (N50) or 0.9 (N90) is reached, with 95 % "
        "profile intervals; nothing is said beyond twice the largest or below half the smallest "
        "size measured."
    )
    return [Table(["model", *heads], lines, caption, "How many samples a rule needs")]


def _cell(found: Sequence[Row]) -> Cell:
    if not found:
        return Cell(text.UNKNOWN)
    row = found[0]
    value = rows.value(row, "per_rule")
    if value is None:
        return _without(str(row.get("said") or ""))
    shown = threshold(row)
    return Cell(text.number(round(value)), detail=shown[shown.index("(") + 1 : -1])


def _without(why: str) -> Cell:
    """A threshold that is not known: on which side it lies, or why none is said."""
    side, _, rest = why.partition(" ")
    sign = {"above": ">", "below": "<"}.get(side)
    if sign is None:
        return Cell(text.UNKNOWN, detail="falls with data" if side == "falls" else why)
    end, _, more = rest.partition(", ")
    return Cell(f"{sign} {text.number(float(end))}", detail=more)


def predictions(study: Study) -> list[Block]:
    """Held-out sizes: what the other sizes predict against what was measured."""
    found = study.of("held_out")
    if not found:
        return []
    panels = [p for p in (_predicted(study, m) for m in METRICS) if p is not None]
    aim = rows.value(found[0], "aim") or 0.0
    caption = (
        f"Each inner size left out and predicted from the others. Grey: within {aim:g}, the aim. "
        "Bars: Wilson intervals of what was measured, all seeds together."
    )
    table = _errors(study)
    return [Gallery(panels, caption, study.legend(), 226, "Can a size be foretold?"), *table]


def _predicted(study: Study, metric: str) -> Figure | None:
    found, looks = study.of("held_out", metric=metric), study.looks()
    if not found:
        return None
    aim = rows.value(found[0], "aim") or 0.0
    traces: list[Any] = [
        fig.band([0, 1], [-aim, 1 - aim], [aim, 1 + aim], fig.SOFT, 0.12),
        fig.line([0, 1], [0, 1], "equal", fig.SOFT, width=1, hoverinfo="skip"),
    ]
    for group, (color, _) in looks.items():
        own = study.of("held_out", group, metric=metric)
        if own:
            seen = [
                f"{text.safe(study.label(group))}<br>{read.amount(r['per_rule'])} per rule<br>"
                f"predicted {r['predicted']:.3f}, measured {r['observed']:.3f}"
                for r in own
            ]
            traces.append(fig.points(
                [r["predicted"] for r in own], [r["observed"] for r in own], study.label(group),
                color, mode="markers", text=seen, hovertemplate="%{text}<extra></extra>",
                low=[r["observed_low"] for r in own], high=[r["observed_high"] for r in own],
            ))  # fmt: skip
    x, y = (axes.shares(name) | {"dtick": 0.5} for name in ("predicted", "measured"))
    return fig.figure(traces, x, y, METRICS[metric], height=250)


def _errors(study: Study) -> list[Block]:
    found = study.of("held_out_summary")
    lines = [
        [_NAMES.get(str(r["metric"]), str(r["metric"])), r["mean_error"], r["largest_error"],
         f"{r['n_within']} of {r['n']}"]
        for r in found
    ]  # fmt: skip
    if not lines:
        return []
    aim = text.number(found[0].get("aim"))
    columns = ("measure", "mean error", "largest error", f"within {aim}")
    return [Table(columns, lines, "", "How far predictions of left-out sizes were off")]
