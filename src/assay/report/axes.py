"""Axes: of w with guidance_scale below each tick, of falling noise, of shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from assay.report.text import number, safe

_ROUND = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
_MOST = 9  # so many weights get a tick each, as far as there is room
_APART = 0.11  # of the axis, at least, between ticks


def axis(title: str, **options: Any) -> dict[str, Any]:
    """An axis with its title; options as plotly's."""
    return {"title": {"text": safe(title)}, **options}


def shares(title: str = "share of samples", whole: bool = True) -> dict[str, Any]:
    """An axis of shares in per cent, from 0 to 1 or from 0 to what there is."""
    span = {"range": [-0.04, 1.04]} if whole else {"rangemode": "tozero"}
    return axis(title, tickformat=".0%", **span)


def logarithmic(title: str, **options: Any) -> dict[str, Any]:
    """An axis of powers of ten."""
    return axis(title, type="log", dtick=1, exponentformat="power", **options)


def of_w(grid: Iterable[float]) -> dict[str, Any]:
    """The axis of w, with guidance_scale below each tick; :func:`places` go on it.

    Steps of guidance_scale = 1 + w are even in its logarithm, so that 0, 1, 3, 7, 15 stand apart.
    """
    every = sorted(set(grid))
    marked = every
    if len(every) > _MOST and _is_logarithmic(every):
        marked = [w for w in _ROUND if every[0] <= w <= every[-1]]
    at = places(marked, every)
    shown = _apart(at)
    labels = [
        f"{number(float(marked[i]))}<br>"
        f"<span style='color:#8a94a0'>{number(1 + float(marked[i]))}</span>"
        for i in shown
    ]
    ticks = {"tickvals": [at[i] for i in shown], "ticktext": labels}
    return axis("w / guidance_scale", ticklabeloverflow="allow", **ticks)


def places(w: Sequence[float], grid: Iterable[float]) -> list[float]:
    """Where these w stand on the axis of a grid."""
    every = sorted(set(grid))
    if _is_logarithmic(every):
        return [math.log2(1 + v) for v in w]
    if every and every[0] <= -1 and every[-1] > 1:  # w = -1 is guidance_scale 0
        return [math.copysign(math.log2(1 + abs(1 + v)), 1 + v) for v in w]
    return [float(v) for v in w]


def of_noise(low: float, high: float) -> dict[str, Any]:
    """The axis of sigma: noise falls from left to right, as it does while sampling."""
    ticks = [s for s in (100, 10, 1, 0.1, 0.01) if low * 1.5 <= s <= high * 1.01]
    return axis(
        "noise level σ →", type="log", tickvals=ticks, ticktext=[number(s) for s in ticks],
        range=[math.log10(high), math.log10(low)],
    )  # fmt: skip


def _is_logarithmic(every: Sequence[float]) -> bool:
    return bool(every) and every[0] > -1 and every[-1] > 1


def _apart(at: Sequence[float]) -> list[int]:
    """Indices of ticks that have room, the last one always among them."""
    if len(at) < 2:
        return list(range(len(at)))
    room = _APART * (at[-1] - at[0])
    kept = [0]
    for i in range(1, len(at) - 1):
        if at[i] - at[kept[-1]] >= room and at[-1] - at[i] >= room:
            kept.append(i)
    return [*kept, len(at) - 1]
