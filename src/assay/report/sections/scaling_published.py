"""Published figures and ours on the same axes, each in panels of their own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from assay.report import axes, published, rows, text
from assay.report import figures as fig
from assay.report.blocks import THREE, Block, Figure, Gallery, Mark
from assay.report.published import Published
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import Study

_PAPER = "#fbf6ea"  # behind published figures
_TICKS = (100.0, 1e3, 1e4, 1e5)
_SPAN = (15.0, 3e7)  # the right third is room for names


def beside(study: Study) -> list[Block]:
    """Published figures and ours, each in its own panel, on the same axes."""
    measured = _measured_setting(study)
    continuous = [m for m in published.MODELS if m.group == published.CONTINUOUS]
    others = [m for m in published.MODELS if m.group == published.AUTOREGRESSIVE]
    galleries = [
        ("C3 of what is drawn", [_paper(continuous, "c3", "continuous"),
                                 _paper(others, "c3", "autoregressive"),
                                 _ours(study, "c3", measured)]),
        ("Rows that obey some rule", [_paper(continuous, "any_valid", "continuous"),
                                      _ours(study, "any_valid", measured)]),
        ("Completion of the last panel, trained and held-out rules together",
         [_paper(others, "completion", "autoregressive"),
          _ours(study, "completion_all", measured)]),
    ]  # fmt: skip
    made: list[Block] = []
    for title, panels in galleries:
        drawn = [p for p in panels if p is not None]
        made.append(Gallery(drawn, "", () if made else _legend(study), THREE, title))
    if made:
        caption = (
            f"Tinted: published by {published.SOURCE}, {published.SETTING}, no intervals given. "
            f"White: measured here, {measured}, mean over seeds. Another set of rules, other "
            "sizes of models or another length of training: shapes may be compared, levels not."
        )
        last = made[-1]
        assert isinstance(last, Gallery)
        made[-1] = Gallery(last.items, caption, last.legend, THREE, last.title)
    return made


def _measured_setting(study: Study) -> str:
    """What ours are: rules, time."""
    sets = sorted({str(r.get("rule_set")) for r in study.jobs})
    named = text.listed("genraven-mini" if s == "mini" else f"rule set {s}" for s in sets)
    n_rules = text.listed(str(n) for n in sorted({r.get("n_rules") or 0 for r in study.jobs}))
    seconds = sorted(r["training_seconds"] for r in rows.known(study.jobs, "training_seconds"))
    about = f", about {text.number(seconds[len(seconds) // 2], 2)} s a training" if seconds else ""
    return f"{named} ({n_rules} trained rules{about})"


def _paper(models: Sequence[Published], column: str, which: str) -> Figure | None:
    traces = []
    for model in models:
        values = getattr(model, column)
        if values is not None:
            color = read.FAMILIES[model.family]
            seen = [f"published: {model.name}<br>{n:,} per rule: {v:.3f}"
                    for n, v in zip(published.PER_RULE, values, strict=True)]  # fmt: skip
            traces.append(fig.points(published.PER_RULE, values, model.name, color, hollow=True,
                                     dash=model.dash, text=seen,
                                     hovertemplate="%{text}<extra></extra>"))  # fmt: skip
    names = [_name_at_end(m, getattr(m, column)) for m in models if getattr(m, column)]
    x, y = _same_axes()
    note = f"{text.capital(published.SETTING)}"
    return fig.figure(traces, x, y, f"Published, {which}", height=300, plot_bgcolor=_PAPER,
                      note=note, annotations=_spread(names)) if traces else None  # fmt: skip


def _name_at_end(model: Published, values: Sequence[float]) -> dict[str, Any]:
    """The model's name right of its last point."""
    return fig.note(math.log10(published.PER_RULE[-1]) + 0.08, values[-1],
                    _short(model.name),
                    read.FAMILIES[model.family], xanchor="left", font={
                        "size": 10, "color": read.FAMILIES[model.family]})  # fmt: skip


def _short(name: str) -> str:
    for long, short in (
        (", separate heads", " sep."),
        (", joint head", " joint"),
        (" medium", ""),
    ):
        name = name.replace(long, short)
    return name


def _spread(names: list[dict[str, Any]], gap: float = 0.052) -> list[dict[str, Any]]:
    """Names moved apart upwards where they would overlap."""
    ordered = sorted(names, key=lambda n: n["y"])
    for below, above in itertools.pairwise(ordered):
        above["y"] = max(above["y"], below["y"] + gap)
    return ordered


def _ours(study: Study, column: str, setting: str) -> Figure | None:
    traces = []
    for group, held in study.groups().items():
        (color, dash), name = study.looks()[group], study.label(group)
        x, y = read.means(held, column)
        if x:
            traces += [fig.line(x, y, name, color, dash=dash, hoverinfo="skip"),
                       read.dots(held, column, name, color)]  # fmt: skip
    if not traces:
        return None
    x_axis, y_axis = _same_axes()
    return fig.figure(traces, x_axis, y_axis, "Measured here", height=300,
                      note=text.capital(setting))  # fmt: skip


def _same_axes() -> tuple[dict[str, Any], dict[str, Any]]:
    ticks = {"tickvals": list(_TICKS), "ticktext": [read.short(n) for n in _TICKS]}
    return read.powers("samples per rule", *_SPAN, **ticks), axes.shares("")


def _legend(study: Study) -> list[Mark]:
    families = {m.family for m in published.MODELS}
    names = {"edm": "EDM", "dit": "DiT", "sit": "SiT", "gpt2": "GPT-2", "mamba": "Mamba"}
    shown = [Mark(f"{names[f]} (published)", read.FAMILIES[f], "hollow")
             for f in names if f in families]  # fmt: skip
    return [*shown, *study.legend()]
