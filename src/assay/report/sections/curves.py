"""Measures against w: one panel a measure, one line a group of rows (law and solver)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from assay.report import axes, rows, text, verdict
from assay.report import figures as fig
from assay.report.blocks import Figure, Mark
from assay.report.rows import Row

Groups = Mapping[str, list[Row]]


def heading(w: float) -> dict[str, str]:
    """Both titles of a panel of one weight."""
    return {"title": f"w = {_plain(w)}", "sub": f"guidance_scale {_plain(1 + w)}"}


def title(w: float) -> str:
    """The same in one line."""
    return " · ".join(heading(w).values())


def _plain(value: float) -> str:
    return text.number(float(value))


def label(row: Row) -> str:
    """A row's law with its parameters, as its key has them, and its solver."""
    stem = re.sub(r"-w[-+0-9.e]+-.*$", "", str(row.get("key")))
    law = str(row.get("law") or "law")
    found = stem.removeprefix(f"{row.get('target')}-")
    solver = row.get("solver")
    return ", ".join([found if found.startswith(law) else law, *([str(solver)] if solver else [])])


def groups(found: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by law and solver, each by rising w."""
    named: dict[str, list[Row]] = {}
    for row in rows.by_w(found):
        named.setdefault(label(row), []).append(row)
    return named


def main(found: Sequence[Row], array: str = "", names: Collection[str] = ()) -> list[Row]:
    """The group to speak of: constant law, exact where it is; one seed; with arrays if asked."""
    usable = [r for r in found if not array or f"{array}.{r['key']}" in names]
    by_label = groups(usable)
    if not by_label:
        return []
    best = min(
        by_label.values(),
        key=lambda g: (g[0].get("law") != "constant", g[0].get("solver") != "exact"),
    )
    return [r for r in best if r.get("seed") == best[0].get("seed")]


def colors(by_label: Groups) -> dict[str, str]:
    """A colour for each group; the only one has that of guided samples."""
    return {name: fig.SERIES[i % len(fig.SERIES)] for i, name in enumerate(by_label)}


def legend(by_label: Groups) -> list[Mark]:
    """Groups by colour, and the tilt where it is drawn."""
    marks = [Mark(name, color, "point") for name, color in colors(by_label).items()]
    every = [r for g in by_label.values() for r in g]
    tilted = [Mark("tilted", fig.TILTED, "dash")] if rows.known(every, "tilted_mean") else []
    return marks + tilted


def curve(
    by_label: Groups, column: str, axis: dict[str, Any], name: str, **more: Any
) -> Figure | None:
    """One column against w, a line for each group; None where no row has it.

    more: extra (traces below), hollow (a column drawn with open circles beside it), and what
    :func:`assay.report.figures.figure` takes. Only positive values stand on a logarithmic axis.
    """
    positive = axis.get("type") == "log"
    every = [r for g in by_label.values() for r in g]
    usable = rows.known(every, "w", column)
    if not [r for r in usable if r[column] > 0 or not positive]:
        return None
    grid = [r["w"] for r in every]
    traces = list(more.pop("extra", ()))
    columns = [c for c in (more.pop("hollow", None), column) if c]
    for group, color in colors(by_label).items():
        for c in columns:
            held = [r for r in rows.known(by_label[group], c) if r[c] > 0 or not positive]
            if held:
                traces.append(_line(held, c, (group, color), grid) | _look(c != column, color))
    return fig.figure(traces, axes.of_w(grid), axis, name, **more)


def _line(
    held: Sequence[Row], column: str, look: tuple[str, str], grid: Sequence[float]
) -> dict[str, Any]:
    y = [float(r[column]) for r in held]
    ends = {}
    if len(rows.known(held, f"{column}_low", f"{column}_high")) == len(held):
        ends = {e: [float(r[f"{column}_{e}"]) for r in held] for e in ("low", "high")}
    x = axes.places([r["w"] for r in held], grid)
    seen = [
        f"{text.safe(look[0])}<br>{title(r['w'])}<br>{text.number(v)}"
        for r, v in zip(held, y, strict=True)
    ]
    hover = {"text": seen, "hovertemplate": "%{text}<extra></extra>"}
    return fig.points(x, y, *look, **ends, **hover)


def _look(hollow: bool, color: str) -> dict[str, Any]:
    """Open circles without a line, or nothing to change."""
    if not hollow:
        return {}
    return {"mode": "markers", "marker": fig.marker(color, hollow=True)}


def centres(by_label: Groups) -> Figure | None:
    """Means with the standard deviation about them (one group), beside the tilt's means."""
    every = [r for g in by_label.values() for r in g]
    grid = [r["w"] for r in every]
    extra, name = [], "Mean"
    if len(by_label) == 1:
        held = rows.by_w(rows.known(every, "mean", "sd"))
        x = axes.places([r["w"] for r in held], grid)
        low, high = ([r["mean"] + s * r["sd"] for r in held] for s in (-1, 1))
        extra.append(fig.band(x, low, high, fig.GUIDED))
        name = "Mean ± 1 sd"
    w, y = rows.series(every, "tilted_mean")
    if w:
        extra.append(fig.line(axes.places(w, grid), y, "tilted", fig.TILTED, dash="dash"))
    where = next((str(r["coordinate"]) for r in every if r.get("coordinate")), "x")
    return curve(by_label, "mean", axes.axis(f"mean of {where}"), name, extra=extra)


def spreads(by_label: Groups) -> Figure | None:
    """Standard deviations, on a logarithmic axis where they fall far."""
    found = [r["sd"] for g in by_label.values() for r in rows.known(g, "sd") if r["sd"] > 0]
    far = bool(found) and max(found) > 20 * min(found)
    name = "standard deviation"
    axis = axes.logarithmic(name) if far else axes.axis(name, rangemode="tozero")
    return curve(by_label, "sd", axis, "Spread that is left")


def distances(by_label: Groups) -> list[Figure | None]:
    """Wasserstein distances to the conditional and to the tilt."""
    axis = axes.axis("distance", rangemode="tozero")
    return [
        curve(by_label, "w1_to_cond", axis, "W1 to conditional"),
        curve(by_label, "w1_to_tilted", axis, "W1 to tilted"),
    ]


def off_support(by_label: Groups) -> Figure | None:
    """Shares off the class without (open) and with the final denoise, and the limit."""
    level = fig.across(verdict.LIMIT, "", fig.SOFT, "dot")
    more = {"hollow": "off_support", "extra": [level]}
    return curve(
        by_label, "off_support_denoised", axes.shares(whole=False), "Off the class", **more
    )
