"""The look of every figure: one theme, one set of colours with a meaning each, few helpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

GUIDED, TILTED, CONDITIONAL, DATA = "#b4451f", "#2457a6", "#7b8794", "#20744a"
_FONT = {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13}


def styled(figure: go.Figure, height: int = 380, **layout: Any) -> go.Figure:
    """The figure in the page's theme."""
    figure.update_layout(
        template="plotly_white",
        font=_FONT,
        height=height,
        margin={"l": 60, "r": 20, "t": 46, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **layout,
    )
    return figure


def panels(n: int, titles: Sequence[str], columns: int = 3, **options: Any) -> go.Figure:
    """n panels in rows of ``columns``, each with its title."""
    columns = min(columns, n)
    rows = -(-n // columns)
    return make_subplots(
        rows=rows, cols=columns, subplot_titles=list(titles),
        horizontal_spacing=0.07, vertical_spacing=0.28 / rows, **options,
    )  # fmt: skip


def place(index: int, columns: int) -> dict[str, int]:
    """Row and column of panel ``index`` in rows of ``columns``."""
    return {"row": index // columns + 1, "col": index % columns + 1}


def line(x: Any, y: Any, name: str, color: str, **options: Any) -> go.Scatter:
    """A line; options: dash, width, showlegend, legendgroup, ..."""
    stroke = {"color": color, "width": options.pop("width", 2), "dash": options.pop("dash", None)}
    return go.Scatter(x=_list(x), y=_list(y), name=name, mode="lines", line=stroke, **options)


def points(x: Any, y: Any, name: str, color: str, **options: Any) -> go.Scatter:
    """Points joined by thin lines."""
    return go.Scatter(
        x=_list(x), y=_list(y), name=name, mode="lines+markers",
        line={"color": color, "width": 1.5}, marker={"size": 7}, **options,
    )  # fmt: skip


def band(x: Any, low: Any, high: Any, color: str, **options: Any) -> go.Scatter:
    """The area between two curves, pale."""
    x, low, high = _list(x), _list(low), _list(high)
    return go.Scatter(
        x=x + x[::-1], y=high + low[::-1], fill="toself", mode="none", hoverinfo="skip",
        fillcolor=faint(color, options.pop("opacity", 0.18)), showlegend=False, **options,
    )  # fmt: skip


def faint(color: str, opacity: float) -> str:
    """A hexadecimal or rgb colour with an opacity."""
    if color.startswith("#"):
        r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    else:
        r, g, b = (int(float(v)) for v in color[color.index("(") + 1 : -1].split(",")[:3])
    return f"rgba({r},{g},{b},{opacity})"


def shades(n: int) -> list[str]:
    """n colours from pale to strong, for grids of w."""
    spots = [0.15 + 0.75 * i / max(n - 1, 1) for i in range(n)]
    return sample_colorscale("YlOrRd", [0.2 + 0.8 * s for s in spots])


def _list(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)
