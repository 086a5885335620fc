"""Evaluations side by side: one row a model, one column a measure, as a table and as a picture.

Each cell is a share with its 95 % interval. In the picture a dot on the line from 0 to 1 is the
share, the bar behind it the interval; a grey stroke is the line to beat: of completions the
marginal fill on the same samples.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import runs, terminal
from assay.rules import modelfile, shipping
from assay.rules.tables import count, stacked, triple

if TYPE_CHECKING:
    from rich.table import Table

    from assay.rules.canvas import Canvas, Item

KIND = "rules.evaluate"
MEASURES = (  # part, name in the row, title, name of the line to beat
    ("unconditional", "c3", "C3", None),
    ("unconditional", "novel_c3", "novel-C3", None),
    ("unconditional", "any_valid", "AnyValid", None),
    ("completion", "trained", "trained completion", "marginal_trained"),
    ("completion", "held_out", "held-out completion", "marginal_held_out"),
)
ENDINGS = (".html", ".svg", ".png")
_LEFT, _WIDTH, _GAP, _TOP, _STEP, _MARGIN = 230.0, 150.0, 26.0, 74.0, 34.0, 24.0
_INK, _MUTED, _GRID, _DOT, _BAR = "#1c2026", "#6b7280", "#e5e7eb", "#1d5fbf", "#a9c5ee"


@dataclass(frozen=True)
class Result:
    """A model's evaluation: what it is called, and its rows of whole protocols by part."""

    name: str
    rows: dict[str, dict[str, Any]]

    def cell(self, part: str, measure: str) -> tuple[float, float, float] | None:
        """(share, low, high), None where it was not measured."""
        return triple(self.rows.get(part), measure)

    def costs(self) -> list[float | None]:
        """Parameters, samples seen, training FLOP, evaluations and speed of sampling."""
        first = next(iter(self.rows.values()))
        found = [first.get(name) for name in ("parameters", "samples_seen", "training_flop")]
        drawn = self.rows.get("unconditional", {})
        return [*found, drawn.get("nfe"), drawn.get("samples_per_s")]


def read(source: str | os.PathLike[str]) -> Result:
    """The evaluation of a shipped model, a .safetensors file, a training Run (the one of the
    most samples seen, then of the most samples drawn) or that in an evaluation's own folder.

    ValueError where there is none.
    """
    name, path = os.fspath(source), Path(source)
    if name in shipping.names():
        return _result(name, modelfile.about(shipping.FOLDER / name)["rows"])
    if path.suffix == ".safetensors":
        return _result(name, modelfile.about(path)["rows"])
    run = runs.Run.read(path)
    if run.config.get("kind") == KIND:
        return _result(name, run.rows)
    found = [runs.Run.read(p.parent) for p in sorted(path.glob("*/config.json"))]
    found = [r for r in found if r.config.get("kind") == KIND and _parts(r.rows)]
    if not found:
        raise ValueError(f"{path}: has no evaluation yet; run assay rules evaluate {path}")
    best = max(found, key=lambda r: (r.config["model"]["samples_seen"], r.config["n"]))
    return _result(name, best.rows)


def _result(name: str, rows: Sequence[dict[str, Any]]) -> Result:
    parts = _parts(rows)
    if not parts:
        raise ValueError(f"{name}: has no rows of an evaluation; evaluate it first")
    return Result(name, parts)


def _parts(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The row of each whole protocol: of several temperatures 1, or else the first."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        part = row.get("part")
        whole = part in ("unconditional", "completion")
        if whole and (part not in found or row["key"] == "unconditional/T=1"):
            found[part] = row
    return found


def tables(results: Sequence[Result]) -> list[Table]:
    """What the models do, their shares above their intervals, and what they cost."""
    shares = terminal.table(
        "models side by side: shares, 95 % intervals; completion: trained, held-out",
        "model", "C3", "novel-C3", "AnyValid", "trained", "held-out",
    )  # fmt: skip
    costs = terminal.table(
        "what they cost: training in samples and FLOP; sampling",
        "model", "parameters", "samples", "FLOP", "nfe", "samples/s",
    )  # fmt: skip
    for result in results:
        name = terminal.escape(result.name)
        shares.add_row(name, *(stacked(result.cell(part, m)) for part, m, _, _ in MEASURES))
        costs.add_row(name, *(count(value) for value in result.costs()))
    return [shares, costs]


def scene(results: Sequence[Result]) -> Canvas:
    """The picture; see the module."""
    from assay.rules.canvas import Canvas, Text

    width = _LEFT + len(MEASURES) * (_WIDTH + _GAP) + _MARGIN
    height = _TOP + len(results) * _STEP + _MARGIN + 14
    canvas = Canvas(width, height, title="Models side by side: shares with 95 % intervals")
    title = Text(_MARGIN, _MARGIN + 8, canvas.title, 17, _INK, bold=True)
    canvas.items.append(title)
    for i, result in enumerate(results):
        name = result.name if len(result.name) <= 30 else "…" + result.name[-29:]
        canvas.items.append(Text(_MARGIN, _TOP + (i + 0.62) * _STEP, name, 13, _INK))
    for k, measure in enumerate(MEASURES):
        canvas.items += _column(results, measure, _LEFT + k * (_WIDTH + _GAP))
    return canvas


def _column(results: Sequence[Result], measure: tuple, left: float) -> list[Item]:
    """The items of one measure: its title, an axis from 0 to 1, a dot a model."""
    from assay.rules.canvas import Box, Polygon, Style, Text

    part, name, title, beaten = measure
    bottom = _TOP + len(results) * _STEP
    items: list[Item] = [Text(left, _TOP - 12, title, 13, _INK, bold=True)]
    for tick in (0.0, 0.5, 1.0):
        x = left + tick * _WIDTH
        items.append(Polygon(((x, _TOP), (x, bottom)), Style(None, _GRID, 1), closed=False))
        items.append(Text(x, bottom + 14, f"{tick:g}", 10.5, _MUTED, "middle"))
    for i, result in enumerate(results):
        y = _TOP + (i + 0.5) * _STEP
        line = result.rows.get(part, {}).get(beaten) if beaten else None
        if line is not None:
            items.append(Box(left + line * _WIDTH - 1, y - 10, 2, 20, 0, Style(_MUTED)))
        items += _dot(result.cell(part, name), left, y)
    return items


def _dot(cell: tuple[float, float, float] | None, left: float, y: float) -> list[Item]:
    from assay.rules.canvas import Box, Disc, Style, Text

    if cell is None:
        return [Text(left, y + 4, "not measured", 10.5, _MUTED)]
    share, low, high = cell
    start = left + low * _WIDTH
    bar = Box(start, y - 3, max((high - low) * _WIDTH, 1), 6, 2, Style(_BAR))
    x = left + share * _WIDTH
    side = "end" if share > 0.75 else "start"
    words = Text(x + (-8 if side == "end" else 8), y - 6, f"{share:.3f}", 10.5, _INK, side)
    return [bar, Disc(x, y, 4, Style(_DOT)), words]


def html(results: Sequence[Result]) -> str:
    """A page that needs nothing else: the picture and the table."""
    titles = [title for _, _, title, _ in MEASURES]
    titles = ["model", *titles, "parameters", "samples seen", "FLOP", "nfe", "samples/s"]
    lines = []
    for result in results:
        cells = [result.name, *(stacked(result.cell(part, name)) for part, name, _, _ in MEASURES)]
        cells += [count(value) for value in result.costs()]
        lines.append(
            "".join(f"<td>{escape(cell).replace(chr(10), '<br>')}</td>" for cell in cells)
        )
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    style = (
        "body{font:14px system-ui,sans-serif;color:#1c2026;margin:2rem}svg{max-width:100%;"
        "height:auto}table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:right;"
        "border-bottom:1px solid #e5e7eb}td:first-child,th:first-child{text-align:left}"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Models side by side</title><style>{style}</style></head>\n<body>\n"
        f"{scene(results).svg()}\n<table>\n<tr>{head}</tr>\n{body}\n</table>\n"
        "<p>Grey strokes: the marginal fill of the same samples.</p>\n</body></html>\n"
    )


def save(path: str | os.PathLike[str], results: Sequence[Result]) -> Path:
    """Write the picture: .html with the table, .svg or .png. ValueError where it cannot be."""
    file = Path(path)
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{file}: a comparison ends in {', '.join(ENDINGS)}")
    if ending != ".html":
        return scene(results).save(file)
    from assay.rules.canvas import write

    return write(file, html(results).encode())
