"""A sweep over w: densities where they are exact, and every figure by w."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.report import figures as fig
from assay.report.page import Block, Figure, Section, Table
from assay.runs import Run

COLUMNS = {
    "law": "law", "solver": "solver", "seed": "seed", "w": "w", "guidance_scale": "scale",
    "mean": "mean", "sd": "sd", "median": "median", "w1_to_cond": "W1 to conditional",
    "w1_to_tilted": "W1 to tilted", "class_odds": "class odds (nats)",
    "off_support": "off support", "off_support_denoised": "after final denoise",
    "overshoot": "overshoot", "nfe": "evaluations",
}  # fmt: skip


def sections(run: Run) -> list[Section]:
    """Densities by w, distances by w, and the table."""
    rows = run.rows
    name = str(run.config.get("target", run.path.name))
    blocks: list[Block] = []
    drawn = [r for r in rows if f"density.{r['key']}" in set(run.array_names())]
    if drawn:
        blocks.append(densities(run, drawn))
    blocks += [distances(rows), table(rows)]
    lead = (
        "Guided samples beside the conditional distribution they start from and the tilted one, "
        "p(x) p(z|x)^(1+w), that guidance is said to sample."
    )
    return [
        Section(
            f"sweep-{run.path.name}", f"{name.capitalize()}: what guidance samples", lead,
            conclusions(rows), blocks, method(run),
        )
    ]  # fmt: skip


def densities(run: Run, rows: Sequence[dict[str, Any]]) -> Figure:
    """Guided, tilted and conditional densities, one panel a weight."""
    columns = min(3, len(rows))
    titles = [f"w = {r['w']:g} (scale {r['guidance_scale']:g})" for r in rows]
    figure = fig.panels(len(rows), titles, columns)
    for i, row in enumerate(rows):
        x, guided, tilted, cond = np.asarray(run.array(f"density.{row['key']}"))
        cap = 1.15 * max(guided.max(), np.nanmax(cond))
        where = fig.place(i, columns)
        for y, label, color, dash in (
            (cond, "conditional", fig.CONDITIONAL, "dot"),
            (tilted, "tilted", fig.TILTED, "dash"),
            (guided, "guided", fig.GUIDED, None),
        ):
            if np.all(np.isnan(y)):
                continue
            trace = fig.line(x, np.minimum(y, cap), label, color, dash=dash,
                             showlegend=i == 0, legendgroup=label)  # fmt: skip
            figure.add_trace(trace, **where)
    fig.styled(figure, 260 * -(-len(rows) // columns) + 60)
    return Figure(
        figure,
        "Exact densities. Guidance does not sample the tilted density: as w grows its samples "
        "move on, towards the far edge or into the far tail.",
    )


def distances(rows: Sequence[dict[str, Any]]) -> Figure:
    """W1 to the conditional and to the tilt, and off-support, against w."""
    figure = fig.panels(3, ["W1 to the conditional", "W1 to the tilt", "off support"], 3)
    columns = ("w1_to_cond", "w1_to_tilted", "off_support")
    for k, group in enumerate(_groups(rows)):
        color = fig.GUIDED if k == 0 else fig.shades(9)[k % 9]
        label = _label(group[0])
        for i, column in enumerate(columns):
            known = [(r["w"], r[column]) for r in group if r.get(column) is not None]
            if known:
                w, y = zip(*sorted(known), strict=True)
                trace = fig.points(w, y, label, color, showlegend=i == 0, legendgroup=label)
                figure.add_trace(trace, **fig.place(i, 3))
        after = [(r["w"], r["off_support_denoised"]) for r in group
                 if r.get("off_support_denoised") is not None]  # fmt: skip
        if after and group[0].get("n"):
            w, y = zip(*sorted(after), strict=True)
            figure.add_trace(
                fig.points(w, y, f"{label}, denoised", fig.TILTED, legendgroup="denoised"),
                **fig.place(2, 3),
            )
    figure.update_xaxes(title_text="w")
    figure.update_yaxes(rangemode="tozero")
    return Figure(fig.styled(figure, 340), "How far guided samples are from either distribution.")


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows with the columns that any of them fills."""
    used = [c for c in COLUMNS if any(r.get(c) is not None for r in rows)]
    cells = [[r.get(c) for c in used] for r in rows]
    return Table([COLUMNS[c] for c in used], cells, "Every row also stands in rows.jsonl.")


def conclusions(rows: Sequence[dict[str, Any]]) -> list[str]:
    """In plain words, from the rows."""
    found = []
    best = [r for r in rows if r.get("w1_to_tilted") and r["w"] > 0]
    if best:
        worst = max(best, key=lambda r: r["w1_to_tilted"])
        found.append(
            f"Guidance misses the tilted distribution for every w > 0 measured; at w = "
            f"{worst['w']:g} (guidance_scale {worst['guidance_scale']:g}) by a Wasserstein "
            f"distance of {worst['w1_to_tilted']:.3g}, while its samples are "
            f"{worst['w1_to_cond']:.3g} away from the conditional."
        )
    limit = [r for r in rows if r.get("off_support_denoised") is not None]
    inside = [r["w"] for r in limit if r["off_support_denoised"] <= 0.01]
    if limit:
        where = limit[0].get("support")
        top = f"up to w = {max(inside):g}" if inside else "at no w measured"
        found.append(f"At most 1 % of the samples are outside the class ({where}) {top}.")
    return found


def method(run: Run) -> str:
    """How the rows were made."""
    sampled = [r for r in run.rows if r.get("n")]
    text = "Weights in the paper's convention, guided = (1+w) cond - w uncond; scale = 1 + w. "
    if len(sampled) < len(run.rows):
        text += "Rows of solver 'exact' integrate the guided flow itself, without sampling. "
    if sampled:
        r = sampled[0]
        text += (
            f"Sampled rows: n = {r['n']}, {r.get('steps')} steps from sigma {r.get('sigma_max')} "
            f"to {r.get('sigma_min')}, unbiased start. "
        )
    return text


def _groups(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    keys = dict.fromkeys((r.get("law"), r.get("solver")) for r in rows)
    return [[r for r in rows if (r.get("law"), r.get("solver")) == k] for k in keys]


def _label(row: dict[str, Any]) -> str:
    return f"{row.get('law')}, {row.get('solver')}"
