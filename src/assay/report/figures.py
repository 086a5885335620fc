"""The look of every figure: one theme, colours with one meaning each, few helpers.

Figures are plain plotly JSON (traces and layout), so that nothing but plotly's script is needed
to draw them. Titles and legends stand in HTML beside the drawing: they wrap on a small screen and
never overlap it. Labels that plotly draws pass through :func:`assay.report.text.safe`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from assay.report.blocks import Figure
from assay.report.text import safe

# One meaning each, on the whole page.
GUIDED, TILTED, CONDITIONAL, DATA = "#b4451f", "#2457a6", "#6b7683", "#1f7a4d"
INK, SOFT, GRID = "#1b1f24", "#5b6470", "#e6e9ed"
SERIES = ("#b4451f", "#c9962b", "#7d57a8", "#0f8b8d", "#c2557a", "#5d7a1f", "#8a5a3c", "#44607a")
# From nothing off the support to all of it, and from little to much.
HEAT = [[0, "#f4f6f8"], [0.02, "#fbe9d9"], [0.15, "#f6c9a0"], [0.5, "#dd7a45"], [1, "#7d1f0c"]]

_AXIS = {
    "gridcolor": GRID, "linecolor": "#c4cad1", "zeroline": False, "showline": True,
    "ticks": "outside", "ticklen": 4, "tickcolor": "#c4cad1", "automargin": True,
    "title": {"font": {"size": 12, "color": SOFT}, "standoff": 5}, "nticks": 6,
}  # fmt: skip
THEME = {
    "layout": {
        "font": {
            "family": "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif",
            "size": 12, "color": INK,
        },
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "colorway": SERIES,
        "margin": {"l": 8, "r": 16, "t": 10, "b": 8}, "showlegend": False,
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": "#c4cad1", "font": {"size": 12}},
        "hovermode": "closest", "xaxis": _AXIS, "yaxis": _AXIS,
    }
}  # fmt: skip


def figure(
    traces: Iterable[Any], x: dict[str, Any], y: dict[str, Any], title: str = "", **more: Any
) -> Figure:
    """A figure of these traces and axes.

    more: sub (a second, lighter title), note, height, and entries of plotly's layout.
    """
    options = {k: more.pop(k) for k in ("height", "note", "sub") if k in more}
    traces = list(traces)
    shapes = [s for s in traces if s.get("kind") == "mark"]
    layout = {"xaxis": x, "yaxis": y, **more}
    layout["shapes"] = [s["shape"] for s in shapes]
    labels = [s["label"] for s in shapes if s["label"]]
    layout["annotations"] = labels + more.get("annotations", [])
    return Figure([t for t in traces if t.get("kind") != "mark"], layout, title, **options)


def line(x: Any, y: Any, name: str, color: str, **options: Any) -> dict[str, Any]:
    """A line; options: dash, width, and plotly's."""
    stroke = {"color": color, "width": options.pop("width", 2)}
    if dash := options.pop("dash", None):
        stroke["dash"] = dash
    return {
        "type": "scatter", "mode": "lines", "x": compact(x), "y": compact(y),
        "name": safe(name), "line": stroke, **options,
    }  # fmt: skip


def points(x: Any, y: Any, name: str, color: str, **options: Any) -> dict[str, Any]:
    """Points joined by a line; options: mode, hollow, low and high (ends of intervals)."""
    hollow, mode = options.pop("hollow", False), options.pop("mode", "lines+markers")
    ends = options.pop("low", None), options.pop("high", None)
    trace = line(x, y, name, color, **options) | {"mode": mode}
    trace["marker"] = marker(color, hollow)
    if ends[0] is not None and ends[1] is not None:
        trace["error_y"] = _bars(y, *ends) | {"color": color}
    return trace


def marker(color: str, hollow: bool = False) -> dict[str, Any]:
    """A dot, full or open."""
    inner = "#ffffff" if hollow else color
    return {"size": 8, "color": inner, "line": {"color": color, "width": 1.8}}


def _bars(y: Any, low: Any, high: Any) -> dict[str, Any]:
    up = [max(h - v, 0) for v, h in zip(y, high, strict=True)]
    down = [max(v - e, 0) for v, e in zip(y, low, strict=True)]
    return {"type": "data", "symmetric": False, "array": compact(up), "arrayminus": compact(down),
            "thickness": 1.4, "width": 4}  # fmt: skip


def area(x: Any, y: Any, name: str, color: str, **options: Any) -> dict[str, Any]:
    """A line with the area down to 0 filled."""
    tint = faint(color, options.pop("opacity", 0.14))
    return line(x, y, name, color, fill="tozeroy", fillcolor=tint, **options)


def band(x: Any, low: Any, high: Any, color: str, opacity: float = 0.18) -> dict[str, Any]:
    """The area between two curves, pale."""
    x, low, high = compact(x), compact(low), compact(high)
    return {
        "type": "scatter", "mode": "none", "x": x + x[::-1], "y": high + low[::-1],
        "fill": "toself", "fillcolor": faint(color, opacity), "hoverinfo": "skip",
    }  # fmt: skip


def across(y: float, label: str = "", color: str = INK, dash: str = "dash") -> dict[str, Any]:
    """A level: a line across the whole drawing, with its label above the right end."""
    text = {"x": 1, "xref": "x domain", "y": y, "xanchor": "right", "yanchor": "bottom"}
    return _mark(
        {"x0": 0, "x1": 1, "xref": "x domain", "y0": y, "y1": y}, text, label, color, dash
    )


def upright(x: float, label: str = "", color: str = INK, dash: str = "dash") -> dict[str, Any]:
    """A place: a line from bottom to top, with its label at the top."""
    text = {"x": x, "y": 1, "yref": "y domain", "xanchor": "left", "yanchor": "top"}
    return _mark(
        {"x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain"}, text, label, color, dash
    )


def _mark(
    place: dict[str, Any], text: dict[str, Any], label: str, color: str, dash: str
) -> dict[str, Any]:
    shape = {"type": "line", "line": {"color": color, "width": 1.3, "dash": dash}, **place}
    words = {"text": safe(label), "showarrow": False, "font": {"size": 11, "color": color}, **text}
    return {"kind": "mark", "shape": shape, "label": words if label else None}


def note(x: float, y: float, label: str, color: str = INK, **place: Any) -> dict[str, Any]:
    """Words at a place of the drawing (an entry of ``annotations``)."""
    return {
        "x": x, "y": y, "text": safe(label), "showarrow": False,
        "font": {"size": 11, "color": color}, **place,
    }  # fmt: skip


def faint(color: str, opacity: float) -> str:
    """A colour "#rrggbb" with an opacity."""
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{opacity:g})"


def ramp(n: int) -> list[str]:
    """n colours from pale to strong, for lines of rising w."""
    low, high = np.array([240, 178, 122]), np.array([122, 26, 10])
    steps = [low + (high - low) * i / max(n - 1, 1) for i in range(n)]
    return ["#" + "".join(f"{round(v):02x}" for v in step) for step in steps]


def compact(values: Any) -> list[Any]:
    """Numbers to five digits, null where they are not finite; other entries as they are."""
    items = values.tolist() if hasattr(values, "tolist") else list(values)
    return [_short(v) for v in items]


def _short(given: Any) -> Any:
    if isinstance(given, float):
        return float(f"{given:.5g}") if math.isfinite(given) else None
    return [_short(v) for v in given] if isinstance(given, list) else given


def thinned(n: int, most: int) -> np.ndarray:
    """At most ``most`` of n places, even, with both ends."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
