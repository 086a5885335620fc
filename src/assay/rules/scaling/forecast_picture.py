"""The forecast as a picture: every model's curve with its band, what was measured, what to do.

Samples per rule are logarithmic to the right, the share upwards. Dots are trainings, bands 95 %
of the curves' draws; a black line stands at what there is now, grey ones where to switch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from assay.rules.scaling.forecast import Family, Forecast

if TYPE_CHECKING:
    from assay.rules.canvas import Canvas, Item

_LINES = ("#1d5fbf", "#c2410c", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
_BANDS = ("#d6e3f7", "#fbdfd0", "#d3eddc", "#ead9f8", "#f7e6c8", "#d2ecf1", "#f8d9e6", "#e2eccd")
_INK, _MUTED, _GRID = "#1c2026", "#6b7280", "#e5e7eb"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860.0, 470.0, 64.0, 210.0, 60.0, 56.0
_POINTS = 80


class _Axes:
    """Where a share at samples per rule lies."""

    def __init__(self, low: float, high: float):
        self.low, self.high = math.log(low), math.log(high)

    def x(self, per_rule: float) -> float:
        share = (math.log(per_rule) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def scene(found: Forecast) -> Canvas:
    """The picture; see the module."""
    from assay.rules.canvas import Canvas, Text

    spans = [f.curve.range for f in found.families]
    axes = _Axes(min(s[0] for s in spans), max(s[1] for s in spans))
    name = found.metric.replace("_", " ")
    canvas = Canvas(_WIDTH, _HEIGHT, title=f"{name} by samples per rule")
    canvas.items.append(Text(_LEFT, 30, canvas.title, 17, _INK, bold=True))
    canvas.items += _frame(axes)
    for i, family in enumerate(found.families):
        canvas.items += _band(family, axes, _BANDS[i % len(_BANDS)])
    for i, family in enumerate(found.families):
        canvas.items += _curve(family, axes, _LINES[i % len(_LINES)], i, found.metric)
    canvas.items += _marks(found, axes)
    return canvas


def _frame(axes: _Axes) -> list[Item]:
    from assay.rules.canvas import Polygon, Style, Text

    items: list[Item] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = axes.y(share)
        line = ((_LEFT, y), (_WIDTH - _RIGHT, y))
        items.append(Polygon(line, Style(None, _GRID, 1), closed=False))
        items.append(Text(_LEFT - 8, y + 4, f"{share:g}", 11, _MUTED, "end"))
    for power in range(math.ceil(axes.low / math.log(10)), int(axes.high / math.log(10)) + 1):
        x = axes.x(10.0**power)
        line = ((x, axes.y(0)), (x, axes.y(1)))
        items.append(Polygon(line, Style(None, _GRID, 1), closed=False))
        items.append(Text(x, _HEIGHT - _BOTTOM + 18, f"{10**power:,}", 11, _MUTED, "middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    items.append(Text(middle, _HEIGHT - 14, "samples per rule", 12, _INK, "middle"))
    return items


def _band(family: Family, axes: _Axes, colour: str) -> list[Item]:
    from assay.rules.canvas import Polygon, Style

    sizes = np.geomspace(*family.curve.range, _POINTS)
    low, high = np.quantile(family.drawn(sizes), [0.025, 0.975], axis=0)
    upper = [(axes.x(n), axes.y(p)) for n, p in zip(sizes, high, strict=True)]
    lower = [(axes.x(n), axes.y(p)) for n, p in zip(sizes, low, strict=True)]
    return [Polygon((*upper, *reversed(lower)), Style(colour))]


def _curve(family: Family, axes: _Axes, colour: str, i: int, metric: str) -> list[Item]:
    from assay.rules.canvas import Disc, Polygon, Style, Text

    sizes = np.geomspace(*family.curve.range, _POINTS)
    line = tuple((axes.x(n), axes.y(p)) for n, p in zip(sizes, family.curve(sizes), strict=True))
    items: list[Item] = [Polygon(line, Style(None, colour, 2.2), closed=False)]
    for row in family.rows:
        items.append(Disc(axes.x(row["per_rule"]), axes.y(row[metric]), 3.2, Style(colour)))
    y = _TOP + 14 + 20 * i
    left = _WIDTH - _RIGHT + 18
    items.append(
        Polygon(((left, y - 4), (left + 20, y - 4)), Style(None, colour, 3), closed=False)
    )
    items.append(Text(left + 28, y, family.name, 12, _INK))
    return items


def _marks(found: Forecast, axes: _Axes) -> list[Item]:
    from assay.rules.canvas import Polygon, Style, Text

    items: list[Item] = []
    marks = [(found.have, _INK, "now")]
    marks += [(switch.per_rule, _MUTED, f"to {switch.to}") for switch in found.switches]
    for i, (per_rule, colour, words) in enumerate(marks):
        x = axes.x(per_rule)
        line = ((x, axes.y(0)), (x, axes.y(1)))
        items.append(Polygon(line, Style(None, colour, 1.4), closed=False))
        items.append(Text(x + 4, axes.y(1) - 4 - 12 * (i % 2), words, 11, colour))
    return items
