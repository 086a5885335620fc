"""What happens while models learn: copies, collapse, early stopping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import TWO, Block, Figure, Gallery, Mark, Table, beside
from assay.report.rows import Row
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import Group, Study

LEVELS = (
    ("sample", "Whole samples"),
    ("row", "Rows"),
    ("set_row", "Rows as sets"),
    ("panel", "Panels"),
)


def copies(study: Study) -> list[Block]:
    """Copies by level beside the natural overlap of fresh data."""
    panels = [p for p in (_copies(study, *level) for level in LEVELS) if p is not None]
    if not panels:
        return []
    caption = (
        "Share of what is drawn that occurs in the training samples, and, dashed, how often "
        "fresh samples do by chance. Only the part above the dashed line was memorised."
    )
    legend = [*study.legend(), Mark("natural overlap of fresh data", fig.INK, "dash")]
    return [Gallery(panels, caption, legend, 226, "Copies beside the natural overlap")]


def _copies(study: Study, level: str, title: str) -> Figure | None:
    traces, column = [], f"copies_{level}"
    for group, held in study.groups().items():
        (color, dash), name = study.looks()[group], study.label(group)
        fixed = [r for r in held if r.get("per_rule")]
        x, y = read.means(fixed, column)
        if x:
            traces += [fig.line(x, y, name, color, dash=dash, hoverinfo="skip"),
                       read.dots(fixed, column, name, color)]  # fmt: skip
    if not traces:
        return None
    x, y = read.means([r for r in study.jobs if r.get("per_rule")], f"natural_{level}")
    traces.append(fig.points(x, y, "natural overlap", fig.INK, dash="dash", hollow=True,
                             hovertemplate="natural overlap<br>%{x:,} per rule: %{y:.4f}"
                             "<extra></extra>"))  # fmt: skip
    axis = read.per_rule_axis(study.sizes())
    return fig.figure(traces, axis, axes.shares(""), title, height=260)


# ---- collapse ---------------------------------------------------------------------------------


def collapse(study: Study) -> list[Block]:
    """Probes over training: C3, completion, copies above nature, gap; small data beside large."""
    if not any(row.get("probes") for row in study.jobs):
        return []
    made: list[Block] = []
    measures = (
        ("C3", lambda p: p.get("c3"), axes.shares("")),
        ("Rows copied above the natural overlap", _above, axes.shares("")),
        ("Gap: validation loss less training loss", lambda p: p.get("gap"), axes.axis("")),
    )
    for title, of, axis in measures:
        panels = [_course(study, group, of, axis) for group in study.groups()]
        drawn = [p for p in panels if p is not None]
        if drawn:
            legend = () if made else _amounts(study)
            made.append(Gallery(drawn, "", legend, beside(len(drawn)), title))
    if made:
        last = made[-1]
        assert isinstance(last, Gallery)
        caption = (
            "Each line is a training, looked at a few times (256 samples, raw weights): dark red "
            "the least data, pale the most. Open circles: the probe of least validation loss, "
            "where one would stop. Collapse is C3 that falls or never rises while copies and gap "
            "do. Losses are each family's own: compare gaps within a panel."
        )
        made[-1] = Gallery(last.items, caption, last.legend, last.width, last.title)
    return [*made, *stopping(study)]


def _above(probe: Row) -> float | None:
    copies, natural = (rows.value(probe, f"{name}_row") for name in ("copies", "natural"))
    return None if copies is None or natural is None else copies - natural


def _shades(study: Study) -> dict[float | None, str]:
    sizes: list[float | None] = [*study.sizes()]
    sizes += [None] if any(r.get("per_rule") is None for r in study.jobs) else []
    return dict(zip(sizes, reversed(fig.ramp(len(sizes))), strict=True))


def _amounts(study: Study) -> list[Mark]:
    shades = _shades(study).items()
    return [Mark(f"{read.amount(n)} per rule", color) for n, color in shades]


def _course(
    study: Study, group: Group, of: Callable[[Row], float | None], axis: dict[str, Any]
) -> Figure | None:
    """A measure over the samples seen, a line for each training of a model."""
    shades, traces = _shades(study), []
    for row in reversed(study.groups()[group]):  # the least data on top
        probes = [p for p in row.get("probes") or [] if of(p) is not None and p.get("samples")]
        if not probes:
            continue
        color = shades.get(row.get("per_rule"), fig.SOFT)
        x, y = [p["samples"] for p in probes], [of(p) for p in probes]
        said = f"{read.amount(row.get('per_rule'))} per rule, seed {row.get('seed')}"
        traces.append(fig.line(x, y, said, color, width=1.8,
                               hovertemplate=f"{text.safe(said)}<br>%{{x:,}} samples seen: "
                               "%{y:.3f}<extra></extra>"))  # fmt: skip
        losses = [p.get("validation_loss") for p in probes]
        if all(loss is not None for loss in losses):
            best = losses.index(min(losses))
            stop = fig.points([x[best]], [y[best]], "stopped", color, mode="markers", hollow=True,
                              hoverinfo="skip")  # fmt: skip
            stop["marker"]["size"] = 7
            traces.append(stop)
    if not traces:
        return None
    every = [x for trace in traces for x in trace["x"]]
    x_axis = read.powers("samples seen", min(every) / 1.3, max(every) * 1.3)
    return fig.figure(traces, x_axis, axis, study.label(group), height=210)


def stopping(study: Study) -> list[Block]:
    """What stopping at the least validation loss would have given."""
    found = study.of("stopping")
    panels = [_gain(study, *which) for which in (("c3", "C3"), ("completion", "Completion"))]
    drawn = [p for p in panels if p is not None]
    if not found or not drawn:
        return []
    caption = (
        "Above 0: the probe of least validation loss was better than the last one; each training "
        "a point with Newcombe's 95 % interval. At little data C3 at the end may be copies."
    )
    title = "What stopping early gives"
    return [Gallery(drawn, caption, study.legend(), TWO, title), _stopped(study, found)]


def _gain(study: Study, column: str, title: str) -> Figure | None:
    traces, name, looks = [], f"{column}_gain", study.looks()
    for i, (group, (color, _)) in enumerate(looks.items()):
        own = [r for r in rows.known(study.of("stopping", group), name) if r.get("per_rule")]
        aside = 1.07 ** (i - (len(looks) - 1) / 2)  # models side by side
        seen = [f"{text.safe(study.label(group))}<br>{read.amount(r['per_rule'])} per rule, seed "
                f"{r['seed']}<br>{text.number(r['samples_stop'])} samples instead of "
                f"{text.number(r['samples_end'])}: {r[name]:+.3f}" for r in own]  # fmt: skip
        ends = {end: [r[f"{name}_{end}"] for r in own] for end in ("low", "high")}
        traces.append(fig.points(
            [r["per_rule"] * aside for r in own], [r[name] for r in own], study.label(group),
            color, mode="markers", text=seen, hovertemplate="%{text}<extra></extra>", **ends,
        ))  # fmt: skip
    if not any(t["x"] for t in traces):
        return None
    axis = axes.axis("stopped less last", zeroline=True, zerolinecolor="#9aa3ad")
    return fig.figure(traces, read.per_rule_axis(study.sizes()), axis, title, height=260)


def _stopped(study: Study, found: Sequence[Row]) -> Table:
    columns = ("model", "per rule", "seed", "samples seen: stopped", "last", "C3 stopped", "last",
               "completion stopped", "last", "copied rows stopped", "last", "gap stopped", "last",
               "n")  # fmt: skip
    cells = [
        [study.label((str(r["model"]), str(r["rule_set"]))), read.amount(r.get("per_rule")),
         r.get("seed"), *(r.get(f"{name}_{end}") for name in
                          ("samples", "c3", "completion", "copies_row", "gap")
                          for end in ("stop", "end")), r.get("n")]
        for r in found
    ]  # fmt: skip
    title = "Table: stopped at the least validation loss, beside the last probe"
    return Table(columns, cells, "", title, folded=True)
