"""An evaluation's rows as a table of shares with intervals, and as figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assay.report import axes, blocks, rows, text
from assay.report import figures as fig
from assay.report.blocks import Block, Cell, Figure, Gallery, Mark, Table
from assay.report.rows import Row

C3, NOVEL, FIRST = "#0f8b8d", "#7d57a8", "#c9962b"  # one meaning each in these figures
_SCALE = [[0, "#f4f6f8"], [1, C3]]
DRAWN = {
    "c3": "C3: some rule in all three rows",
    "novel_c3": "novel-C3: and no row copies a training row",
    "novel_set_c3": "novel-C3 with rows compared as sets",
    "row1": "row 1 obeys some rule",
    "row2": "row 2 then shares one with it",
    "row3": "row 3 then shares it too",
    "any_valid": "AnyValid: rows that obey some rule",
    "c2": "C2: some rule in exactly two rows",
    "implied": "implied completion, C3 / (C3 + C2/3)",
}
FIRST_DRAWN = ("c3", "novel_c3", "row1", "row2", "row3")
LEVELS = {"sample": "whole samples", "row": "rows", "set_row": "rows, up to their fill",
          "panel": "panels", "attribute_row": "rows, one attribute",
          "attribute_panel": "panels, one attribute"}  # fmt: skip
_SHORT = {
    "constant": "=", "progression -2": "−2", "progression -1": "−1", "progression +1": "+1",
    "progression +2": "+2", "arithmetic +": "a+b", "arithmetic -": "a−b",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model: what it is (a row), what was measured here, what was shipped with its weights."""

    name: str
    about: Row
    here: list[Row]
    file: list[Row]

    def drawn(self, temperature: float) -> Row | None:
        """The row of the samples drawn here at a temperature."""
        found = part(self.here, "unconditional")
        return next((r for r in found if rows.value(r, "temperature") == temperature), None)

    def larger(self, name: str) -> list[Row]:
        """The rows of a part, from where more was measured."""
        here, stored = part(self.here, name), part(self.file, name)
        tries = [max((rows.value(r, "correct_n") or 0 for r in g), default=0)
                 for g in (here, stored)]  # fmt: skip
        return stored if tries[1] > tries[0] else here


def part(found: Sequence[Row], name: str) -> list[Row]:
    """The rows of a part."""
    return [r for r in found if r.get("part") == name]


def signed(name: Any) -> str:
    """A rule's name with a true minus."""
    return str(name).replace(" -", " −") if name is not None else text.UNKNOWN


def panels(mask: Any) -> str:
    """ "r3c3" in words; "r1c2,r3c3" with spaces."""
    one = re.fullmatch(r"r(\d)c(\d)", str(mask))
    return f"row {one[1]}, panel {one[2]}" if one else str(mask).replace(",", ", ")


def limits(row: Row, column: str) -> str:
    """The interval of a share in words."""
    low, high = (rows.value(row, f"{column}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return text.UNKNOWN
    if high >= 1 > low:
        return f"at least {text.percent(low)}"
    if low <= 0:
        return f"at most {text.percent(high)}"
    return f"{text.percent(low)} to {text.percent(high)}"


def interval(row: Row, column: str) -> str:
    """A share with its interval, in words."""
    shown, ends = text.percent(rows.value(row, column)), limits(row, column)
    return shown if ends == text.UNKNOWN else f"{shown} ({ends})"


def blocks_of(model: Model) -> list[Block]:
    """The table, figures of temperatures and masks, rules one by one."""
    every = [line for line in _lines(model) if _measured(line)]
    first = [line for line in every if line.first]
    made: list[Block] = [*_table(first, "Measured, with the lines to beat", CAPTION)]
    curves, nine = temperatures(model), masks(model)
    drawn = [f for f in (curves, nine) if f is not None]
    if drawn:
        made.append(Gallery(drawn, "", _LEGEND if curves else (), blocks.TWO))
    others = [line for line in every if not line.first]
    title = f"Table: {text.plural(len(others), 'further measure')}"
    return [*made, *rules(model), *_table(others, title, folded=True), *rule_table(model)]


# ---- the table ---------------------------------------------------------------------------------


CAPTION = (
    "95 % intervals (Wilson) below each share. Beside completions: the marginal fill on the same "
    "questions; beside copies: the natural overlap of fresh data with the training samples."
)


@dataclass(frozen=True)
class Line:
    """A line of the table: its words, its row here and in the file, column, the line to beat;
    first: whether it stands in the table that is seen first."""

    label: str
    here: Row
    stored: Row
    column: str
    first: bool
    beside: str = ""
    word: str = ""


def _table(found: Sequence[Line], title: str, caption: str = "", folded: bool = False) -> list:
    """Shares with intervals, the lines to beat, and the larger evaluation of the file."""
    stored = any(rows.value(line.stored, line.column) is not None for line in found)
    columns: list[Any] = ["measure", "on the spot" if stored else "share", "n", "beside"]
    columns += [Cell("on file", detail="shipped with the weights"), "n"] if stored else []
    cells = [_cells(line)[: len(columns)] for line in found]
    return [Table(columns, cells, caption, title, folded=folded)] if cells else []


def _measured(line: Line) -> bool:
    return any(rows.value(row, line.column) is not None for row in (line.here, line.stored))


def _cells(line: Line) -> list[Any]:
    here, stored = line.here, line.stored
    beaten = Cell(text.UNKNOWN)
    if line.beside and rows.value(here, line.beside) is not None:
        beaten = _share(here, line.beside, line.word)
    return [
        line.label, _share(here, line.column), _count(here, line.column), beaten,
        _share(stored, line.column), _count(stored, line.column),
    ]  # fmt: skip


def _share(row: Row, column: str, word: str = "") -> Cell:
    """A share as a bar with its interval below, and what it is where it needs a word."""
    value = rows.value(row, column)
    if value is None:
        return Cell(text.UNKNOWN)
    shown = blocks.bar(value)
    return Cell(shown.text, shown.bar, detail=f"{word}{limits(row, column)}")


def _count(row: Row, column: str) -> Cell:
    n = rows.value(row, f"{column}_n")
    return Cell(text.UNKNOWN if n is None else text.number(int(n)))


def _lines(model: Model) -> list[Line]:
    """Samples; completions; copies. Of several temperatures 1 comes first, or else the lowest."""
    drawn = rows.known(part(model.here, "unconditional"), "temperature")
    grid = sorted({r["temperature"] for r in drawn}, key=lambda t: (t != 1, t))
    made = []
    for row in drawn:
        stored, at = _same(model.file, row), _at(row)
        for name, label in DRAWN.items():
            first = name in FIRST_DRAWN and row["temperature"] == grid[0]
            made.append(Line(label + at, row, stored, name, first))
    filled = [(r, True) for r in part(model.here, "completion")]
    filled += [(r, False) for r in part(model.here, "any_mask")]
    for row, task in filled:
        stored, where = _same(model.file, row), panels(row.get("mask"))
        for name, word in (("trained", "trained rules"), ("held_out", "held-out rules")):
            label = f"completion, {where}: {word}"
            beside = (f"marginal_{name}", "fill: ")
            made.append(Line(label, row, stored, name, task or name == "trained", *beside))
    for row in part(model.here, "copies"):
        level = str(row.get("level"))
        label = f"{LEVELS.get(level, level)} found in training{_at(row)}"
        first = level in ("row", "panel") and row.get("temperature") in grid[:1]
        beside = ("natural", "natural: ")
        made.append(Line(label, row, _same(model.file, row), "copies", first, *beside))
    return made


def _at(row: Row) -> str:
    t = rows.value(row, "temperature")
    return "" if t in (1, None) else f", T = {text.number(t)}"


def _same(stored: Sequence[Row], row: Row) -> Row:
    """The file's row of the same part, temperature, mask and level."""
    names = ("part", "temperature", "mask", "level")
    return next((r for r in stored if all(r.get(n) == row.get(n) for n in names)), {})


# ---- figures -----------------------------------------------------------------------------------

_LEGEND = (
    Mark("C3", C3, "point"), Mark("novel-C3", NOVEL, "point"),
    Mark("row 1 obeys some rule", FIRST, "point"),
    Mark("measured on the spot, where both are", fig.SOFT, "hollow"),
)  # fmt: skip
_CURVES = {"row1": (FIRST, 2.0), "novel_c3": (NOVEL, 7.0), "c3": (C3, 2.0)}  # mostly alike


def masks(model: Model) -> Figure | None:
    """Where each of the nine panels was unknown: completions of trained rules."""
    found = rows.known(part(model.here, "any_panel"), "trained")
    share: list[list[float | None]] = [[None] * 3 for _ in range(3)]
    for row in found:
        mask = str(row.get("mask"))
        if len(mask) == 4 and mask[1] in "123" and mask[3] in "123":
            share[int(mask[1]) - 1][int(mask[3]) - 1] = row["trained"]
    shown = [v for line in share for v in line if v is not None]
    if not shown:
        return None
    words = [["" if v is None else f"{100 * v:.0f} %" for v in line] for line in share]
    trace = {
        "type": "heatmap", "z": fig.compact(share), "zmin": 0, "zmax": 1, "colorscale": _SCALE,
        "showscale": False, "xgap": 4, "ygap": 4, "text": words, "texttemplate": "%{text}",
        "textfont": {"size": 15}, "x": ["panel 1", "panel 2", "panel 3"],
        "y": ["row 1", "row 2", "row 3"],
        "hovertemplate": "%{y}, %{x} unknown<br>%{z:.1%} right<extra></extra>",
    }  # fmt: skip
    plain = {"type": "category", "showline": False, "ticks": "", "showgrid": False}
    down = axes.axis("", **plain, autorange="reversed")
    n = rows.constant(found, "trained_n")
    fills = [v for r in found if (v := rows.value(r, "marginal_trained")) is not None]
    fill = f" Marginal fill: {_range(fills)}." if fills else ""
    note = f"Each panel unknown in turn, {text.number(n)} questions each, trained rules.{fill}"
    title = "Which panel is unknown"
    return fig.figure([trace], axes.axis("", **plain), down, title, note=note, height=250)


def _range(shares: Sequence[float]) -> str:
    return f"{text.percent(min(shares))} to {text.percent(max(shares))}"


def temperatures(model: Model) -> Figure | None:
    """Shares over the temperature: the file's rows joined, those measured here as open dots."""
    traces = []
    for name in _CURVES:
        traces += _curve(model.file, name, hollow=False)
        traces += _curve(model.here, name, hollow=bool(model.file))
    if len({x for t in traces for x in t["x"]}) < 2:
        return None
    note = "Below 1, likelier choices become likelier still. Bars: 95 % intervals."
    across = axes.axis("temperature T")
    return fig.figure(traces, across, axes.shares(), "Over the temperature", note=note, height=250)


def _curve(found: Sequence[Row], name: str, hollow: bool) -> list[dict[str, Any]]:
    columns = ("temperature", name, f"{name}_low", f"{name}_high")
    held = rows.known(part(found, "unconditional"), *columns)
    held.sort(key=lambda r: r["temperature"])
    if not held:
        return []
    (color, width), label = _CURVES[name], DRAWN[name].split(":")[0]
    x, y, low, high = ([r[c] for r in held] for c in columns)
    hover = f"T = %{{x}}<br>%{{y:.2%}}<extra>{text.safe(label)}</extra>"
    more = {"mode": "markers" if hollow else "lines+markers", "hollow": hollow, "width": width}
    trace = fig.points(x, y, label, color, low=low, high=high, hovertemplate=hover, **more)
    return [trace | ({"opacity": 0.5} if width > 2 else {})]


# ---- rules one by one --------------------------------------------------------------------------

_GROUPS = {"shape": "Shape", "size": "Size", "colour": "Colour", "number": "Number",
           "position": "Position"}  # fmt: skip


def rules(model: Model) -> list[Block]:
    """Completions rule by rule, one figure a quantity; held-out rules as open dots."""
    found = rows.known(model.larger("completion_rule"), "correct", "correct_low", "correct_high")
    unseen = _held_out(model)
    by_unit = rows.groups([{**r, "unit": str(r.get("rule")).split(" ")[0]} for r in found], "unit")
    drawn = [_unit(name, by_unit[(u,)], unseen) for u, name in _GROUPS.items() if (u,) in by_unit]
    if not drawn:
        return []
    n = [int(rows.value(r, "correct_n") or 0) for r in found]
    caption = (
        f"Third panel of row 3; {min(n)} to {max(n)} questions a rule, so that single rules are "
        "known roughly (95 % intervals)."
    )
    legend = (Mark("trained rule", C3, "point"), Mark("held-out rule", fig.GUIDED, "hollow"))
    title = "Completions, rule by rule"
    return [Gallery(drawn, caption, legend, blocks.THREE, title)]


def _held_out(model: Model) -> set[str]:
    """Names of the rules never trained on, as far as the rows tell."""
    every = (*part(model.here, "rule"), *part(model.file, "rule"))
    return {str(r.get("rule")) for r in every if r.get("trained") is False}


def _unit(name: str, found: Sequence[Row], unseen: set[str]) -> Figure:
    traces = []
    order = [_relation(r) for r in found]
    for color, hollow in ((C3, False), (fig.GUIDED, True)):
        held = [r for r in found if (str(r.get("rule")) in unseen) == hollow]
        if held:
            x, y = [_relation(r) for r in held], [r["correct"] for r in held]
            low, high = ([r[f"correct_{end}"] for r in held] for end in ("low", "high"))
            label = "held-out rule" if hollow else "trained rule"
            hover = f"%{{x}}: %{{y:.1%}}<extra>{label}</extra>"
            more = {"hovertemplate": hover, "low": low, "high": high, "hollow": hollow}
            traces.append(fig.points(x, y, label, color, mode="markers", **more))
    small = {"tickfont": {"size": 10}, "tickangle": 0, "showgrid": False, "dtick": 1}
    across = axes.axis("", type="category", **small, categoryorder="array", categoryarray=order)
    return fig.figure(traces, across, axes.shares("right"), name, height=205)


def _relation(row: Row) -> str:
    relation = str(row.get("rule")).partition(" ")[2]
    return text.safe(_SHORT.get(relation, relation))


def rule_table(model: Model) -> list[Table]:
    """Each rule's share of the samples and of the C3 samples, and its completions."""
    first = next(iter(part(model.here, "unconditional")), {})
    drawn = [r for r in part(model.here, "rule")
             if r.get("temperature") == first.get("temperature")]  # fmt: skip
    filled = {str(r.get("rule")): r for r in part(model.here, "completion_rule")}
    cells = [
        [signed(r.get("rule")), "trained" if r.get("trained") else "held out",
         _share(r, "share"), _share(r, "share_of_c3"), blocks.percent(rows.value(r, "nominal")),
         _share(filled.get(str(r.get("rule")), {}), "correct"),
         _count(filled.get(str(r.get("rule")), {}), "correct")]
        for r in drawn
    ]  # fmt: skip
    columns = ("rule", "", "share of samples", "share of C3 samples", "nominal", "completion", "n")
    title = f"Table: all {text.plural(len(cells), 'rule')}, samples and completions"
    return [Table(columns, cells, "", title, folded=True)] if cells else []
