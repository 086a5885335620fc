"""What a sweep's arrays show, one panel a weight: densities, trajectories, single samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import Block, Figure, Gallery, Mark, beside
from assay.report.rows import Row
from assay.report.sections import bands, curves
from assay.runs import Run

_PANELS = 10  # at most so many weights are drawn side by side
LEGEND = (
    Mark("guided samples", fig.GUIDED),
    Mark("tilted, p(x) p(z|x)¹⁺ʷ: what guidance is said to sample", fig.TILTED, "dash"),
    Mark("conditional, p(x|z): w = 0, guidance_scale 1", fig.CONDITIONAL, "area"),
)


def of(run: Run, array: str) -> list[tuple[Row, np.ndarray]]:
    """The rows to draw, by rising w, with their arrays of that name."""
    names = set(run.array_names())
    found = rows.by_w(curves.main(run.rows, array, names))
    kept = [found[i] for i in fig.thinned(len(found), _PANELS)] if found else []
    return [(row, np.asarray(run.array(f"{array}.{row['key']}"))) for row in kept]


@dataclass(frozen=True)
class _Frame:
    """What all panels of densities share: ends of x, top of y."""

    x: list[float]
    top: float


def densities(run: Run) -> list[Block]:
    """Guided, tilted and conditional densities."""
    drawn = of(run, "density")
    if not drawn:
        return []
    frame = _frame([curve for _, curve in drawn])
    panels = [_density(row["w"], curve, frame) for row, curve in drawn]
    caption = (
        "Exact densities. If guidance sampled the tilted density, the solid and the dashed line "
        "would agree. Where the density at an edge leaves the drawing, its peak is written there."
    )
    return [Gallery(panels, caption, LEGEND, beside(len(panels)))]


def _frame(found: Sequence[np.ndarray]) -> _Frame:
    """One frame for all: high enough for what is usual, cut where guided densities shoot up."""
    usual = max(float(np.nanmax(c[2:], initial=0.0)) for c in found)
    highest = max(usual, *(float(np.nanmax(c[1], initial=0.0)) for c in found))
    ends = [min(float(c[0, 0]) for c in found), max(float(c[0, -1]) for c in found)]
    return _Frame(ends, 1.08 * (min(highest, 4 * usual) or 1.0))


def _density(w: float, curve: np.ndarray, frame: _Frame) -> Figure:
    x, guided, tilted, cond = curve
    looks: tuple[tuple[np.ndarray, Any], ...] = (
        (cond, lambda y: fig.area(x, y, "conditional", fig.CONDITIONAL, width=1)),
        (guided, lambda y: fig.area(x, y, "guided", fig.GUIDED, width=2.2)),
        (tilted, lambda y: fig.line(x, y, "tilted", fig.TILTED, dash="dash", width=2)),
    )
    traces = [look(np.minimum(y, frame.top)) for y, look in looks if np.isfinite(y).any()]
    across = axes.axis("x", range=frame.x)
    up = axes.axis("density", range=[0, frame.top])
    notes = _peak(x, guided, frame)
    return fig.figure(traces, across, up, **curves.heading(w), height=215, annotations=notes)


def _peak(x: np.ndarray, guided: np.ndarray, frame: _Frame) -> list[dict[str, Any]]:
    """How high the guided density goes where that is beyond the drawing."""
    peak = float(np.nanmax(guided, initial=0.0))
    if peak <= frame.top:
        return []
    at = float(x[int(np.nanargmax(guided))])
    side = {"xanchor": "right" if at > np.mean(frame.x) else "left", "yanchor": "top"}
    return [fig.note(at, frame.top, f" peak {text.number(peak, 3)} ↑ ", fig.GUIDED, **side)]


def trajectories(run: Run) -> list[Block]:
    """Bands of the projected trajectories of sampled rows."""
    drawn = of(run, "bands")
    if not drawn:
        return []
    seen = [(row["w"], bands.Bands(array[0], array[1:].T)) for row, array in drawn]
    span = bands.reach([b for _, b in seen])
    panels = [bands.panel(b, w, span) for w, b in seen]
    caption = (
        "From noise (left) to sample (right), projected on the direction from the mean of all "
        "data to the mean of the class, in the coordinate x/√(1 + σ²) in which pure noise has "
        f"variance 1. Solver {drawn[0][0].get('solver')}."
    )
    return [Gallery(panels, caption, bands.LEGEND, beside(len(panels)))]


def scatter(run: Run) -> list[Block]:
    """Single samples in the plane of the first two coordinates."""
    drawn = [(row, a) for row, a in of(run, "samples") if a.ndim == 2 and a.shape[1] > 1]
    if not drawn:
        return []
    every = np.concatenate([a[:, :2] for _, a in drawn])
    spans = [[float(v.min()) - 0.3, float(v.max()) + 0.3] for v in every.T]
    panels = [_cloud(row["w"], a, spans) for row, a in drawn]
    caption = f"{len(drawn[0][1])} samples at each w, first two coordinates."
    return [Gallery(panels, caption, (), beside(len(panels)))]


def _cloud(w: float, samples: np.ndarray, spans: Sequence[list[float]]) -> Figure:
    dots = fig.points(samples[:, 0], samples[:, 1], "sample", fig.GUIDED, mode="markers")
    across, up = (axes.axis(name, range=s) for name, s in zip(("x₁", "x₂"), spans, strict=True))
    return fig.figure([dots | {"opacity": 0.6}], across, up, **curves.heading(w))
