"""Staged rollouts: the confidence sequences of some, and how often many simulated ones err."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    TWO,
    Block,
    Cell,
    Figure,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    said,
)
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "A staged rollout keeps its error budget and rolls back what is bad"
UNCLEAR = "A staged rollout: too few simulated to tell whether it keeps its error budget"
BROKEN = "A staged rollout does not keep its error budget"
LEAD = (
    "w is raised stage by stage. Each metric has a limit and a confidence sequence, an interval "
    "that holds at every moment at once; w is raised where all of them lie wholly inside their "
    "limits, and set back where one lies wholly outside."
)
METHOD = (
    "Simulated metrics, no network: events of which at most 1 % may occur, and scores whose mean "
    'must be at least 0.8. "× limit": the metric\'s distance from the good end of its range, in '
    "units of its limit's; 1 is exactly at the limit, which must not be promoted and gives no "
    "cause to roll back. Delays are in rows, from the first faulty row. Intervals are Wilson's, "
    "95 %. The theorem behind the budget is Ville's inequality."
)
LEGEND = (
    Mark("confidence sequence", fig.GUIDED, "area"), Mark("mean so far", fig.GUIDED),
    Mark("limit", fig.INK, "dash"), Mark("a stage begins", fig.SOFT, "dot"),
)  # fmt: skip
_REACH = 4  # limits away from the good end that a drawing shows


def sections(run: Run) -> list[Section]:
    """Traces of single rollouts, then the tables of all simulated ones."""
    blocks: list[Block] = [b for b in (gallery(run, r) for r in _part(run, "trace")) if b]
    for part, make in (("stages", stages), ("exact", exact), ("production", production)):
        found = rows.known(_part(run, part), "size")
        if found:
            blocks.append(make(found))
    if not blocks:
        return []
    told, how = said(findings(run)), text.command(run.config)
    return [Section(anchor(run), "Staged rollout", LEAD, told, blocks, METHOD, how)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"rollout-{run.path.name}")


def _part(run: Run, part: str) -> list[Row]:
    return [r for r in run.rows if r.get("part") == part]


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """Whether the error budget is kept: by every measured rate, or within its interval."""
    budget = rows.known(_part(run, "stages"), "alpha", "promoted_bad", "promoted_bad_low", "size")
    false = rows.known(_part(run, "stages"), "alpha", "false_rollback", "false_rollback_low")
    alarm = rows.known(_part(run, "production"), "alpha", "false_alarm", "false_alarm_low")
    every = [(budget, "promoted_bad"), (false, "false_rollback"), (alarm, "false_alarm")]
    faulty = [r for r in budget if r.get("scenario") != "clean"]
    if not (faulty and false and alarm):
        return []
    pairs = [(r, name) for found, name in every for r in found]
    known = {(r["scenario"], r["size"]): r["promoted"] for r in _exact(run)}
    open_ = [r for r, name in pairs if r[name] > r["alpha"]]
    settled = [known.get((r.get("scenario"), r.get("size")), 1.0) <= r["alpha"] for r in open_]
    claim = CLAIM if all(settled) else UNCLEAR
    if any(r[f"{name}_low"] > r["alpha"] for r, name in pairs):
        claim = BROKEN
    told = [
        f"The budget is alpha = {text.number(budget[0]['alpha'])}; the worst error rate of each "
        f"kind: {_worst(faulty, 'promoted_bad')} of the rollouts promoted a bad w; "
        f"{_worst(false, 'false_rollback')} were rolled back without cause; "
        f"{_worst(alarm, 'false_alarm')} fell back in production without cause."
    ]
    at_limit = [r for r in _exact(run) if r["size"] == 1]
    told += [_exactly(at_limit[0])] if at_limit else []
    slow = [r for r in faulty if r["size"] > 1 and r.get("delay_median")]
    told += [_delay(max(slow, key=lambda r: r["delay_median"]), "slowest")] if slow else []
    told += [_delay(min(slow, key=lambda r: r["delay_median"]), "fastest")] if slow else []
    return [Finding(claim, told, anchor(run))]


def _exact(run: Run) -> list[Row]:
    return [r for r in rows.known(_part(run, "exact"), "size", "promoted") if "scenario" in r]


def _exactly(row: Row) -> str:
    shown = text.number(100 * row["promoted"], 3)
    return (
        f"Exactly, without sampling: a w with {row['scenario']} at its limit is promoted with "
        f"probability {shown} % at one stage."
    )


def _worst(found: Sequence[Row], column: str) -> str:
    return rows.share(max(found, key=lambda r: r[column]), column)


def _delay(row: Row, word: str) -> str:
    ninety = rows.value(row, "delay_90")
    more = "" if ninety is None else f", within {ninety:,.0f} in 90 %"
    return (
        f"The {word} to find: {row['scenario']} at {text.number(row['size'])} × its limit, rolled "
        f"back after {row['delay_median']:,} rows in the median{more}."
    )


# ---- one rollout -------------------------------------------------------------------------------


def gallery(run: Run, row: Row) -> Gallery | None:
    """The confidence sequences of one rollout, a figure for each guard, and what happened."""
    guards = row.get("guards")
    guards = [g for g in guards if isinstance(g, Mapping)] if isinstance(guards, list) else []
    named = [(f"guard{i}.{row.get('key')}", g) for i, g in enumerate(guards)]
    panels = [p for p in (panel(row, g, rows.array(run, name)) for name, g in named) if p]
    if not panels:
        return None
    size, fault = rows.value(row, "size"), str(row.get("scenario"))
    title = f"One rollout: {fault}"
    if size is not None and fault != "clean":
        title += f" at {text.number(size)} × its limit"
    elif fault == "clean":
        title = f"One rollout: all metrics at {text.number(size)} × their limits"
    return Gallery(panels, _story(row), LEGEND, TWO, title)


def _story(row: Row) -> str:
    events = row.get("events")
    found = [e for e in events if isinstance(e, Mapping)] if isinstance(events, list) else []
    return " ".join(f"Row {text.number(e.get('row'))}: {e.get('reason')}." for e in found)


def panel(row: Row, guard: Mapping[str, Any], path: np.ndarray | None) -> Figure | None:
    """A guard's confidence sequence against rows so far, stage by stage."""
    usual = {k: guard.get(k) for k in ("limit", "low", "high")}
    if (
        path is None
        or path.ndim != 2
        or len(path) != 6
        or not path.size
        or rows.known([usual], *usual) == []
    ):
        return None
    span = _span(guard)
    traces: list[dict[str, Any]] = [fig.across(float(guard["limit"]), "", fig.INK)]
    said_w = row.get("stages")
    weights = said_w if isinstance(said_w, list) else []
    start = 0.0
    for stage in np.unique(path[1]):
        x, _, _, mean, low, high = path[:, path[1] == stage]
        low, mean, high = (np.clip(v, *span) for v in (low, mean, high))
        w = weights[int(stage)] if int(stage) < len(weights) else None
        seen = {"hovertemplate": f"w = {text.number(w)}<br>row %{{x}}<br>mean %{{y:.4g}}"}
        label = "" if w is None else f"w = {text.number(w)}"
        traces += [
            fig.upright(start, label, fig.SOFT, "dot"), fig.band(x, low, high, fig.GUIDED),
            fig.line(x, mean, str(guard.get("name")), fig.GUIDED, **seen),
        ]  # fmt: skip
        start = float(x[-1])
    title = f"{guard.get('name')}: {guard.get('side')} {text.number(guard['limit'])}"
    x_axis = axes.axis("rows so far", rangemode="tozero")
    return fig.figure(traces, x_axis, axes.axis("", range=list(span)), title, height=270)


def _span(guard: Mapping[str, Any]) -> tuple[float, float]:
    """The part of the range that is drawn: from its good end past the limit."""
    low, high, limit = (float(guard[k]) for k in ("low", "high", "limit"))
    if guard.get("side") == "at most":
        return low, min(high, low + _REACH * (limit - low))
    return max(low, high - _REACH * (high - limit)), high


# ---- many --------------------------------------------------------------------------------------


def stages(found: Sequence[Row]) -> Table:
    """Error rates and delays of rollouts through stages."""
    cells = [
        [str(r.get("scenario")), text.number(r["size"]), *_w(r), _share(r, "promoted_bad"),
         _share(r, "false_rollback"), _share(r, "rolled_back"), _share(r, "held"),
         _times(r, "delay"), _times(r, "rows_to_promote"), *_last(r)]
        for r in found
    ]  # fmt: skip
    columns = ("fault", "× limit", "w", "guidance_scale", "promoted a bad w", "false rollback",
               "rolled back", "held for good", "delay (90 %)", "rows to promote (90 %)", "n",
               "seed", "nfe")  # fmt: skip
    note = (
        'w: the first faulty one. "False rollback": at a w none of whose metrics is beyond its '
        'limit. "Rows to promote": at healthy stages.'
    )
    return Table(columns, cells, note, _title(found, "Through the stages"))


def exact(found: Sequence[Row]) -> Table:
    """One stage with events alone, by the law of their counts."""
    cells = [
        [str(r.get("scenario")), text.number(r["size"]), *_w(r), _share(r, "promoted"),
         _share(r, "rolled_back"), _times(r, "delay"), _times(r, "rows_to_promote"),
         rows.value(r, "nfe")]
        for r in found
    ]  # fmt: skip
    columns = ("metric", "× limit", "w", "guidance_scale", "promoted", "rolled back",
               "delay (90 %)", "rows to promote (90 %)", "nfe")  # fmt: skip
    note = "From the law of the counts, without sampling; the other guard inside at once."
    return Table(columns, cells, note, "One stage, events alone: exact")


def production(found: Sequence[Row]) -> Table:
    """False alarms and delays in production."""
    cells = [
        [str(r.get("scenario")), text.number(r["size"]), *_w(r), _share(r, "false_alarm"),
         _share(r, "detected"), _times(r, "delay"), *_last(r)]
        for r in found
    ]  # fmt: skip
    columns = ("fault", "× limit", "w", "guidance_scale", "false alarm", "found",
               "delay (90 %)", "n", "seed", "nfe")  # fmt: skip
    ends = [text.number(rows.constant(found, c)) for c in ("before", "after")]
    note = f"{ends[0]} healthy rows, then the fault for {ends[1]}; the clean one stays healthy."
    return Table(columns, cells, note, _title(found, "In production"))


def _title(found: Sequence[Row], what: str) -> str:
    alpha = rows.constant(found, "alpha")
    return f"{what}: simulated, error budget alpha = {text.number(alpha)}"


def _w(row: Row) -> list[str]:
    return [text.number(rows.value(row, c)) for c in ("w", "guidance_scale")]


def _last(row: Row) -> list[Any]:
    return [rows.value(row, c) if row.get(c) is None else row[c] for c in ("n", "seed", "nfe")]


def _share(row: Row, column: str) -> Cell:
    value, low, high = (rows.value(row, f"{column}{e}") for e in ("", "_low", "_high"))
    if low is None or high is None:
        return Cell(text.percent(value))
    return Cell(text.percent(value), detail=f"{text.percent(low)} to {text.percent(high)}")


def _times(row: Row, name: str) -> Cell:
    median, ninety = (rows.value(row, f"{name}_{e}") for e in ("median", "90"))
    return Cell(text.number(median), detail="" if ninety is None else text.number(ninety))
