"""Panels drawn as people know them from Raven's matrices.

Shape is the number of sides (0: triangle ... 5: octagon, 6: circle), size is size, and colour is
grey (0: white ... 9: black). Every sample is a 3x3 matrix of panels of 3x3 cells, with the rule
found named underneath; where no rule holds in all three rows, the offending rows are marked: the
third row where two agree, else the rows that obey no rule, else all. A half-empty cell (-1 in some
attributes only) is a red cross, a cell with a value out of range a red question mark.
"""

from __future__ import annotations

import math
import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.rules import codecs, genraven
from assay.rules.canvas import Box, Canvas, Disc, Item, Polygon, Style, Text, ending

PANEL, GAP, MARGIN, GUTTER, CAPTION, TITLE = 96.0, 7.0, 26.0, 30.0, 66.0, 40.0
MATRIX = 3 * PANEL + 2 * GAP
INK, MUTED, GOOD, BAD, TINT = "#1c2026", "#6b7280", "#1a7f4b", "#c4302b", "#fbe6e4"
MOST = 1000  # samples in one picture
_STRETCH = (1.16, 1.10, 1.04, 1.02, 1.01, 1.0)  # few corners need more room for the same look


@dataclass(frozen=True)
class Verdict:
    """What the checker says about one sample, in words, and the rows (0..2) at fault."""

    title: str
    note: str
    offending: tuple[int, ...]


def verdict(ok: np.ndarray) -> Verdict:
    """Words for one sample's checks ok, bool (3 rows, 40 rules)."""
    names = [", ".join(genraven.RULES[r].name for r in np.flatnonzero(row)) for row in ok]
    common = np.flatnonzero(ok.all(0))
    if len(common):
        title = ", ".join(genraven.RULES[r].name for r in common)
        ids = ", ".join(str(r) for r in common)
        return Verdict(title, f"rule {ids} in all three rows", ())
    pairs = np.flatnonzero(ok.sum(0) == 2)
    if len(pairs):
        odd = int(np.flatnonzero(~ok[:, pairs[0]])[0])
        note = f"row {odd + 1} breaks {genraven.RULES[pairs[0]].name}"
        return Verdict("no common rule", note + _instead(names[odd]), (odd,))
    none = tuple(r for r in range(3) if not names[r])
    listed = "; ".join(f"row\u00a0{r + 1}:\u00a0{names[r] or 'none'}" for r in range(3))
    return Verdict("no rule", listed, none or (0, 1, 2))


def _instead(name: str) -> str:
    return f" (obeys {name})" if name else " (obeys none)"


def corners(sides: int, x: float, y: float, radius: float) -> tuple[tuple[float, float], ...]:
    """A regular polygon with a flat base, its bounding box centred on (x, y)."""
    turn = math.pi / 2 + math.pi / sides
    angles = [turn + 2 * math.pi * k / sides for k in range(sides)]
    points = [(math.cos(a) * radius, math.sin(a) * radius) for a in angles]
    shift = (max(p[1] for p in points) + min(p[1] for p in points)) / 2
    return tuple((x + px, y + py - shift) for px, py in points)


def _object(cell: np.ndarray, x: float, y: float, width: float) -> Item:
    """One object in the middle (x, y) of a cell of this width; the cell is not empty."""
    shape, size, colour = (int(v) for v in cell)
    grey = round(255 * (1 - colour / 9))
    style = Style(f"#{grey:02x}{grey:02x}{grey:02x}", INK, width / 24)
    radius = width / 2 * (0.26 + 0.60 * size / 9)
    if shape == 6:
        return Disc(x, y, radius, style)
    return Polygon(corners(shape + 3, x, y, radius * _STRETCH[shape]), style)


def _fault(cell: np.ndarray, x: float, y: float, width: float) -> list[Item]:
    """What stands for a cell that no object has: half empty, or with a value out of range."""
    if (cell == -1).any():
        d, line = width / 5, Style(None, BAD, width / 16)
        ends = (((x - d, y - d), (x + d, y + d)), ((x - d, y + d), (x + d, y - d)))
        return [Polygon(pair, line, closed=False) for pair in ends]
    return [Text(x, y + width / 5, "?", width * 0.6, BAD, "middle", bold=True)]


def panel(cells: np.ndarray, x: float, y: float, width: float = PANEL) -> list[Item]:
    """The items of one panel, cells (9, 3), with its upper left corner at (x, y)."""
    items: list[Item] = [Box(x, y, width, width, width / 32, Style("#ffffff", INK, width / 72))]
    inset = width * 0.04
    cell_width = (width - 2 * inset) / 3
    for p, cell in enumerate(np.asarray(cells)):
        if (cell == -1).all():
            continue
        cx = x + inset + (p % 3 + 0.5) * cell_width
        cy = y + inset + (p // 3 + 0.5) * cell_width
        if ((cell >= 0) & (cell < codecs.LEVELS)).all():
            items.append(_object(cell, cx, cy, cell_width))
        else:
            items += _fault(cell, cx, cy, cell_width)
    return items


def _sample(x: np.ndarray, words: Verdict, left: float, top: float) -> list[Item]:
    """The items of one sample x (3, 3, 9, 3) and its caption."""
    items: list[Item] = []
    for row in range(3):
        y = top + row * (PANEL + GAP)
        if row in words.offending:
            pad = GAP / 2
            mark = Box(left - 13, y - pad, MATRIX + 13 + pad, PANEL + 2 * pad, 5, Style(TINT))
            items += [mark, Box(left - 13, y - pad, 4, PANEL + 2 * pad, 2, Style(BAD))]
        for q in range(3):
            items += panel(x[row, q], left + q * (PANEL + GAP), y)
    base = top + MATRIX + 21
    items.append(Disc(left + 5, base - 5, 4.5, Style(BAD if words.offending else GOOD)))
    items.append(Text(left + 16, base, _short(words.title, 32), 15, INK, bold=True))
    for line, note in enumerate(textwrap.wrap(words.note, 46)[:2]):
        note = note.replace("\u00a0", " ")
        items.append(Text(left + 16, base + 18 + 15 * line, note, 11.5, MUTED))
    return items


def _short(text: str, n: int) -> str:
    return text if len(text) <= n else text[: n - 1].rstrip() + "…"


def scene(x: np.ndarray, columns: int | None = None, title: str = "") -> Canvas:
    """Samples x (n, 3, 3, 9, 3), 1 <= n <= 1000, in a grid, each with its verdict.

    Any integers are drawn. columns: about as many as rows unless given. ValueError for another
    shape or dtype, for no samples or too many, or for fewer than one column.
    """
    x = codecs.as_panels(x)
    n = len(x)
    if not 1 <= n <= MOST:
        raise ValueError(f"x must hold 1 to {MOST} samples for a picture, got {n}: take fewer")
    if columns is None:
        columns = min(4, math.ceil(math.sqrt(n)))
    if columns < 1:
        raise ValueError(f"columns must be 1 or more, got {columns}")
    columns = min(columns, n)
    top = MARGIN + (TITLE if title else 0)
    step_x, step_y = MATRIX + GUTTER, MATRIX + CAPTION + GUTTER / 2
    width = 2 * MARGIN + columns * step_x - GUTTER
    height = top + math.ceil(n / columns) * step_y - GUTTER / 2 + MARGIN / 2
    canvas = Canvas(width, height, title=title or f"{n} samples of three rows of three panels")
    if title:
        canvas.items.append(Text(MARGIN, MARGIN + 14, _short(title, 90), 19, INK, bold=True))
    for i, checks in enumerate(genraven.check(x)):
        left, y = MARGIN + i % columns * step_x, top + i // columns * step_y
        canvas.items += _sample(x[i], verdict(checks), left, y)
    return canvas


def svg(x: np.ndarray, columns: int | None = None, title: str = "") -> str:
    """The picture of `scene` as an SVG document."""
    return scene(x, columns, title).svg()


def png(x: np.ndarray, columns: int | None = None, title: str = "", scale: float = 2.0) -> bytes:
    """The picture of `scene` as PNG bytes, `scale` pixels to a unit."""
    return scene(x, columns, title).png(scale)


def save(
    path: str | os.PathLike[str], x: np.ndarray, columns: int | None = None, title: str = ""
) -> Path:
    """Write the picture of `scene` to a .png or .svg file, aside and then renamed.

    ValueError for another ending, where the file cannot be written, or as `scene` does.
    """
    ending(path)  # before the picture is made
    return scene(x, columns, title).save(path)
