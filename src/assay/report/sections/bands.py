"""Trajectories as bands of quantiles over falling noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.report import axes, text
from assay.report import figures as fig
from assay.report.blocks import Figure, Mark
from assay.report.sections import curves

MOST = 110  # noise levels that a band keeps
LEGEND = (
    Mark("median of the samples", fig.GUIDED),
    Mark("the middle 50 % and 90 %", fig.GUIDED, "area"),
)


@dataclass(frozen=True)
class Bands:
    """Quantiles (T, 5) at 5, 25, 50, 75, 95 % over sigmas (T,), decreasing; mean (T,) or None;
    shown (T, k): single trajectories or None; edge: the class's far edge or None."""

    sigmas: np.ndarray
    quantiles: np.ndarray
    mean: np.ndarray | None = None
    shown: np.ndarray | None = None
    edge: float | None = None

    @property
    def centre(self) -> np.ndarray:
        return self.quantiles[:, 2] if self.mean is None else self.mean

    @property
    def reach(self) -> tuple[float, float]:
        """What its drawing must show: the bands, the edge."""
        ends = [self.quantiles.min(), self.quantiles.max(), *filter(None, [self.edge])]
        return float(min(ends)), float(max(ends))


def reach(found: list[Bands]) -> list[float]:
    """One range of the y axis for several panels."""
    low = min(b.reach[0] for b in found)
    high = max(b.reach[1] for b in found)
    room = 0.06 * (high - low)
    return [low - room, high + room]


def panel(found: Bands, w: float, span: list[float]) -> Figure:
    """One panel: bands, mean, single trajectories, far edge; the peak over the edge is marked."""
    keep = fig.thinned(len(found.sigmas), MOST)
    x, q = found.sigmas[keep], found.quantiles[keep]
    traces = [
        fig.band(x, q[:, 0], q[:, 4], fig.GUIDED, 0.13),
        fig.band(x, q[:, 1], q[:, 3], fig.GUIDED, 0.22),
    ]
    for single in found.shown[keep].T if found.shown is not None else ():
        traces.append(
            fig.line(x, single, "one trajectory", fig.GUIDED, width=0.7, opacity=0.55,
                     hoverinfo="skip")
        )  # fmt: skip
    traces.append(fig.line(x, found.centre[keep], "middle", fig.GUIDED, width=2.6))
    notes = []
    if found.edge is not None:
        traces.append(fig.across(found.edge))
        notes = _peak(found)
    across = axes.of_noise(float(x.min()), float(x.max()))
    up = axes.axis("x·v / √(1 + σ²)", range=span)
    return fig.figure(traces, across, up, **curves.heading(w), annotations=notes)


def _peak(found: Bands) -> list[dict]:
    """The overshoot of the middle line, where there is one, written at its top."""
    top = int(np.argmax(found.centre))
    over = float(found.centre[top] - (found.edge or 0.0))
    if over <= 0.005 * (1 + abs(found.edge or 0.0)) or top == 0:
        return []
    place = {"xanchor": "center", "yanchor": "bottom", "yshift": 2}
    upper = float(found.quantiles[:, 4].max())
    x = float(np.log10(found.sigmas[top]))
    return [fig.note(x, upper, f"mean +{text.number(over, 2)}", fig.INK, **place)]
