"""What a page is made of: sections of galleries, tables, findings and words.

Blocks hold data only; :mod:`assay.report.page` turns them into HTML.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from assay.report import text

# Least widths in pixels at which so many stand side by side on a full page.
TWO, THREE, FOUR, FIVE = 430, 300, 226, 176


@dataclass(frozen=True)
class Figure:
    """Plotly traces and layout, drawn ``height`` pixels high under its title."""

    data: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    title: str = ""
    sub: str = ""
    note: str = ""
    height: int = 250
    kind: ClassVar[str] = "figure"

    @property
    def json(self) -> str:
        """The figure as JSON that can stand inside a script element."""
        return script_json({"data": self.data, "layout": self.layout})


@dataclass(frozen=True)
class Picture:
    """An image: a data URI, what it shows in words, its titles, a note below."""

    source: str
    alt: str
    title: str = ""
    sub: str = ""
    note: str = ""
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Mark:
    """An entry of a legend; look: line, dash, dot, area, chip, point or hollow."""

    label: str
    color: str
    look: str = "line"


@dataclass(frozen=True)
class Gallery:
    """Figures and pictures side by side, each at least ``width`` pixels wide, one legend."""

    items: Sequence[Figure | Picture]
    caption: str = ""
    legend: Sequence[Mark] = ()
    width: int = FIVE
    title: str = ""
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, a bar behind it (0 to 1), a state that styles it, a detail
    below. States: those of :mod:`assay.report.verdict`, "words" (to the left), "middle"."""

    text: str
    bar: float | None = None
    state: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """Column titles (text or :class:`Cell`) and rows of cells: text, numbers, None or Cell."""

    columns: Sequence[str | Cell]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    title: str = ""
    legend: Sequence[Mark] = ()
    folded: bool = False
    kind: ClassVar[str] = "table"

    @property
    def heads(self) -> list[Cell]:
        """Titles as cells; to the left over columns of words."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        return [
            title if isinstance(title, Cell) else Cell(title, state=_side(column))
            for title, column in zip(self.columns, columns, strict=True)
        ]

    @staticmethod
    def cell(value: Any) -> Cell:
        """How a value is shown: four figures, a dash for what is unknown, text to the left."""
        if isinstance(value, Cell):
            return value
        return Cell(text.number(value), state="words" if isinstance(value, str) else "")


def _side(column: Sequence[Any]) -> str:
    states = {Table.cell(value).state for value in column}
    return "words" if states == {"words"} else ""


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Finding:
    """What to conclude: one short claim, the sentences that carry its numbers, where they come
    from; more: sentences that only the section itself says."""

    claim: str
    sentences: Sequence[str]
    anchor: str = ""
    more: Sequence[str] = ()


@dataclass(frozen=True)
class Findings:
    """Findings side by side."""

    items: Sequence[Finding]
    kind: ClassVar[str] = "findings"


@dataclass(frozen=True)
class Terms:
    """Words of the page explained, folded away."""

    title: str
    entries: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "terms"


Block = Gallery | Table | Words | Findings | Terms


@dataclass(frozen=True)
class Section:
    """A part of the page: what was asked, what to conclude, what shows it, how it was made."""

    id: str
    title: str
    lead: str = ""
    conclusions: Sequence[str] = ()
    blocks: Sequence[Block] = field(default_factory=tuple)
    method: str = ""
    command: str = ""


def beside(n: int) -> int:
    """The least width of each of n figures, so that rows come out full or nearly so."""
    usual = FIVE if n % 5 == 0 else FOUR
    return {1: TWO, 2: TWO, 3: THREE, 6: THREE, 9: THREE}.get(n, usual)


def percent(share: float | None) -> Cell:
    """A cell with a share in per cent."""
    return Cell(text.percent(share))


def bar(share: float | None, shown: str | None = None) -> Cell:
    """A cell with a bar as long as a share, which it also writes."""
    length = None if share is None else min(max(share, 0.0), 1.0)
    return Cell(text.percent(share) if shown is None else shown, length)


def bars(values: Sequence[float | None], digits: int = 4) -> list[Cell]:
    """Cells of a column with bars against its largest value."""
    top = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    shares = [None if v is None or not top else abs(v) / top for v in values]
    return [bar(s, text.number(v, digits)) for s, v in zip(shares, values, strict=True)]


def said(findings: Sequence[Finding]) -> list[str]:
    """All sentences of findings, as a section's conclusions."""
    return [s for f in findings for s in (*f.sentences, *f.more)]


def svg_source(svg: str) -> str:
    """An SVG document as the source of an image, in which scripts do not run."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element."""
    shown = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return shown.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
