"""GenRAVEN: every relation in an example, a sample taken apart, what the checker says.

SVG of a Run may have been edited by a stranger: it stands in the page as the source of an image,
in which no script runs and nothing is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.report import blocks, rows, text
from assay.report.blocks import Block, Cell, Finding, Gallery, Picture, Section, Table
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "GenRAVEN's data are what they claim: every row obeys its rule and no other"
LINES = "Completing the third panel: the rules give all of it, guessing next to nothing"
COPIES = "Rows do not repeat by chance, panels do"
KINDS = {
    "attribute": "Ten relations on shape, size or colour",
    "number": "Seven relations on the number of objects",
    "position": "Three relations on the occupied cells",
}
MEASURES = {
    "c3": "C3: some rule in all three rows",
    "c2": "C2: some rule in exactly two rows",
    "any_valid": "AnyValid: rows that obey some rule",
    "one_rule": "rows that obey exactly one rule",
    "own_rule": "rows that obey the rule they were drawn for",
}
FILLS = {
    "symbolic": "symbolic solver: reads the rule off the known panels",
    "marginal": "marginal fill: a panel of another sample",
    "uniform": "uniform fill: all cells at random",
}
LEVELS = {
    "sample": "whole samples",
    "row": "rows",
    "set_row": "rows, up to their fill",
    "panel": "panels",
    "attribute_row": "rows, one attribute",
    "attribute_panel": "panels, one attribute",
}
FORMS = {"canonical": "in any order of cells", "plain": "cell by cell"}

LEAD = (
    "Abstract reasoning in the manner of Raven's matrices: a sample has three rows of three "
    "panels, a panel up to nine objects with shape, size and colour. One of forty rules holds in "
    "all three rows: a relation by which the third panel (tinted) follows from the first two."
)
SAMPLE_LEAD = (
    "A rule governs one quantity. The other four are decoys: their third panel completes no "
    "relation. What is left is the fill: which object stands in which cell, and how often each "
    "value occurs."
)
CHECK_LEAD = (
    "The checker reads panels alone, whoever made them, and names every rule that holds in each "
    "row. The same definitions generate the data and judge what a model draws."
)


def sections(run: Run) -> list[Section]:
    """The relations, a sample taken apart, the checker's verdicts; each where it has rows."""
    name, command = anchor(run), text.command(run.config)
    told = [s for f in findings(run) for s in f.sentences]
    found = [
        Section(name, "GenRAVEN: which rules there are to learn", LEAD, (), relations(run.rows),
                method(run.rows), command),
        Section(f"{name}-sample", "How rule, decoys and fill make up a sample", SAMPLE_LEAD, (),
                sample(run.rows), "", command),
        Section(f"{name}-checks", "What the checker says", CHECK_LEAD, told, checks(run), "",
                command),
    ]  # fmt: skip
    return [section for section in found if section.blocks]


def anchor(run: Run) -> str:
    """The anchor of the first section."""
    return text.slug(f"rules-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """Whether the data obey their rules; the lines that any model must be compared with."""
    name = f"{anchor(run)}-checks"
    told = {CLAIM: _truth(run.rows), LINES: _lines(run.rows), COPIES: _copies(run.rows)}
    return [Finding(claim, sentences, name) for claim, sentences in told.items() if sentences]


def _truth(found: Sequence[Row]) -> list[str]:
    row = next(iter(rows.known(_part(found, "verdict"), "c3", "c2", "any_valid", "n")), None)
    if row is None or row["c3"] < 1 or row["c2"] > 0 or row["any_valid"] < 1:
        return []
    return [
        f"Of {text.number(int(row['n']))} fresh samples over all "
        f"{text.number(row.get('n_rules'))} rules, every one has a rule common to its three rows "
        f"(C3 = 1) and none has one in exactly two (C2 = 0); every row obeys some rule "
        f"(AnyValid = 1). 95 % intervals: C3 {_limits(row, 'c3')}, C2 {_limits(row, 'c2')}."
    ]


def _lines(found: Sequence[Row]) -> list[str]:
    by_fill = {r.get("fill"): r for r in _part(found, "completion") if r.get("unknown") == 1}
    if any(rows.value(by_fill.get(name, {}), "all") is None for name in FILLS):
        return []
    shown = [f"{word} {_interval(by_fill[name], 'all')}" for name, word in (
        ("symbolic", "the symbolic solver completes"), ("marginal", "panels of other samples"),
        ("uniform", "uniformly random panels"))]  # fmt: skip
    n = text.number(by_fill["symbolic"].get("n"))
    return [f"Of {n} samples {text.listed(shown)}: what a model adds must be measured from there."]


def _copies(found: Sequence[Row]) -> list[str]:
    by_level = {r.get("level"): r for r in _part(found, "overlap") if r.get("form") == "canonical"}
    row, panel = by_level.get("row", {}), by_level.get("panel", {})
    if rows.value(row, "overlap") is None or rows.value(panel, "overlap") is None:
        return []
    return [
        f"With {text.number(row.get('samples_per_rule'))} training samples a rule, "
        f"{_interval(panel, 'overlap')} of the panels of fresh data occur in training by chance, "
        f"but {_interval(row, 'overlap')} of rows do: a generated row that occurs in training was "
        "copied."
    ]


def relations(found: Sequence[Row]) -> list[Block]:
    """One picture for each rule shown: on attributes, on number, on position."""
    made: list[Block] = []
    for kind, title in KINDS.items():
        own = [
            r
            for r in _part(found, "example")
            if kind == (r["attribute"] if r.get("attribute") in tuple(KINDS) else "attribute")
        ]
        made += [Gallery([_example(r) for r in own], "", (), blocks.FOUR, title)] if own else []
    return made


def _example(row: Row) -> Picture:
    lines = [f"Row {i}: {s}" for i, s in enumerate(_texts(row, "rows"), 1)]
    said = str(row.get("explanation") or "")
    return _drawn(row, _signed(row.get("name")), said, *lines, _checker(row))


def method(found: Sequence[Row]) -> str:
    """How values are written and examples chosen."""
    n = rows.constant(_part(found, "example"), "candidates")
    if not n:
        return ""
    return (
        "Shapes count from triangle = 0 to octagon = 5 and circle = 6; sizes and colours from 0 "
        "to 9 (white to black); cells from 1 to 9 in reading order. Each example is the one of "
        f"{text.number(n)} samples of its rule that shows it best: third panels that differ, few "
        "objects, small sets. The usual sample is fuller. "
    )


def sample(found: Sequence[Row]) -> list[Block]:
    """The sample, its quantities by row, its fills, and changes that no rule notices."""
    shown = [_drawn(r, "The sample", _checker(r)) for r in _part(found, "sample")]
    shown += [
        _drawn(r, str(r.get("title")), str(r.get("note") or ""), _checker(r))
        for r in _part(found, "view")
    ]
    caption = (
        "The sample, and changes of it under which every rule holds as before (after the swap, "
        "size rules as colour rules)."
    )
    pictures = [Gallery(shown, caption, (), blocks.FOUR)] if shown else []
    return [*pictures, *_quantities(_part(found, "anatomy")), *_fills(_part(found, "fill"))]


def _quantities(found: Sequence[Row]) -> list[Block]:
    columns = _words("row", "quantity", "panels 1 → 2 → 3", "checker",
                     "third panels that would obey a rule")  # fmt: skip
    cells = [
        [f"row {r.get('row')}", str(r.get("quantity")), " → ".join(_texts(r, "panels")), _obeys(r),
         _signed("; ".join(_texts(r, "thirds")) or "none")]
        for r in found
    ]  # fmt: skip
    caption = (
        "Every row obeys one rule, its own. The last column lists all third panels that would "
        "obey a rule, tried one by one on the checker: the decoys avoid every one."
    )
    title = "The sample, quantity by quantity"
    return [Table(columns, cells, caption, title)] if cells else []


def _obeys(row: Row) -> Cell:
    obeyed = row.get("obeys")
    return Cell(_signed(obeyed), state="inside") if obeyed else Cell("decoy", state="middle")


def _fills(found: Sequence[Row]) -> list[Block]:
    columns = ("panel", "objects", *_words("cells", "shapes", "sizes", "colours"))
    cells = [
        [f"row {r.get('row')}, panel {r.get('panel')}", r.get("objects"),
         *(str(r.get(c) or "") for c in ("cells", "shape", "size", "colour"))]
        for r in found
    ]  # fmt: skip
    caption = (
        "Each value of a panel's set occurs at least once; the other objects take values of the "
        "set at random, shuffled over the cells, each attribute by itself."
    )
    title = "Table: the fill, panel by panel"
    return [Table(columns, cells, caption, title, folded=True)] if cells else []


def checks(run: Run) -> list[Block]:
    """Broken samples, then shares as tables with bars, then genraven-mini."""
    found = run.rows
    spoilt = [
        _drawn(r, str(r.get("title")), str(r.get("note") or "")) for r in _part(found, "broken")
    ]
    caption = "Rows at fault are marked; below each sample stands what the checker finds."
    shown = [Gallery(spoilt, caption, (), blocks.THREE, "Samples, intact and spoilt")]
    return [*(shown if spoilt else []), *truths(_part(found, "verdict")),
            *completions(_part(found, "completion")), *overlaps(_part(found, "overlap")),
            *mini(run)]  # fmt: skip


def truths(found: Sequence[Row]) -> list[Block]:
    """C3, C2, AnyValid of fresh samples."""
    cells = [
        [
            label,
            blocks.bar(rows.value(r, name)),
            _limits(r, name),
            r.get(f"{name}_n") or r.get("n"),
        ]
        for r in found
        for name, label in MEASURES.items()
    ]
    columns = ("measure", "share", *_words("95 % interval"), "n")
    caption = (
        "Wilson intervals; that of AnyValid is a bootstrap over samples, which has no width where "
        "all samples agree."
    )
    return [Table(columns, cells, caption, "Fresh samples, all forty rules")] if cells else []


def completions(found: Sequence[Row]) -> list[Block]:
    """The reference lines of completion, trained and held-out rules apart."""
    measures = ("trained", "held_out", "any_valid")
    cells = [
        [FILLS.get(str(r.get("fill")), str(r.get("fill"))),
         "third panel of row 3" if r.get("unknown") == 1 else f"all {r.get('unknown')} panels",
         *(_lined(r, column) for column in measures), r.get("n")]
        for r in found
    ]  # fmt: skip
    columns = ("fill", *_words("unknown"), "trained rules", "held-out rules", "AnyValid", "n")
    published = [
        f"{text.percent(v)} {word}"
        for r in found
        for column, word in (("all", "of third panels"), ("any_valid", "AnyValid of all panels"))
        if (v := rows.value(r, f"{column}_published")) is not None
    ]
    caption = (
        "Share of samples in which some rule then holds in all three rows; AnyValid: share of "
        "completed rows that obey some rule. Held out are rules "
        f"{text.number(next((r.get('held_out_rules') for r in found), None))}; the solver knows "
        "all forty, the marginal fill draws from samples of the others. Published for the uniform "
        f"fill: {text.listed(published) or text.UNKNOWN}."
    )
    title = "Completion: the lines that a model is compared with"
    return [Table(columns, cells, caption, title)] if cells else []


def overlaps(found: Sequence[Row]) -> list[Block]:
    """Natural overlap of fresh data with training data, by level and form."""
    cells = []
    for (level,), group in rows.groups(found, "level").items():
        forms = {str(r.get("form")): r for r in group}
        shares = [_lined(forms[f], "overlap") if f in forms else None for f in FORMS]
        published = blocks.percent(rows.value(forms.get("plain", {}), "published"))
        cells.append([LEVELS.get(str(level), str(level)), *shares, published,
                      group[0].get("overlap_n")])  # fmt: skip
    columns = ("what agrees", *FORMS.values(), "published", "n")
    per_rule, n_train = (rows.constant(found, c) for c in ("samples_per_rule", "n_train"))
    caption = (
        f"Fresh samples of all rules against {text.number(n_train)} training samples "
        f"({text.number(per_rule)} a rule, held-out rules left out). Published figures compare "
        "cell by cell, which is blind to a copy whose cells were permuted. Agreement up to these "
        "shares says nothing about copying."
    )
    title = "Natural overlap: what agrees by chance"
    return [Table(columns, cells, caption, title)] if cells else []


def mini(run: Run) -> list[Block]:
    """Occupancy images of the ten rules of genraven-mini."""
    drawn = rows.array(run, "images.mini")
    if drawn is None or drawn.ndim != 4 or drawn.shape[2:] != (9, 9):
        return []
    items = [
        _occupancy(r, drawn[int(i)])
        for r in _part(run.rows, "mini")
        if (i := rows.value(r, "index")) is not None and 0 <= i < len(drawn)
    ]
    caption = (
        "The ten rules on number and position alone, each sample one binary image of 9 × 9 cells, "
        "black where a cell is occupied. The space between panels is not part of the image."
    )
    title = "genraven-mini: number and position alone"
    return [Gallery(items, caption, (), blocks.FIVE, title)] if items else []


def _occupancy(row: Row, images: np.ndarray) -> Picture:
    name, note = _signed(row.get("name")), "Held out of training." if row.get("held_out") else ""
    source = blocks.svg_source(occupancy_svg(np.asarray(images[:4]) > 0))
    alt = f"Occupied cells of samples of rule {row.get('rule')}, {name}. {note}"
    return Picture(source, alt, str(row.get("rule")), name, note)


def occupancy_svg(images: np.ndarray, columns: int = 2) -> str:
    """Images bool (n, 9, 9) in rows of ``columns`` as SVG: black cells, panels a little apart."""
    step, lines = 12.0, -(-len(images) // columns)
    panels = [divmod(k, 3) for k in range(9)]
    frames, cells = [], []
    for i, image in enumerate(images):
        left, top = i % columns * step, i // columns * step
        frames += [f"M{left + 3.4 * q:g} {top + 3.4 * r:g}h3v3h-3z" for r, q in panels]
        cells += [
            f"M{left + x + 0.4 * (x // 3):g} {top + y + 0.4 * (y // 3):g}h1v1h-1z"
            for y, x in np.argwhere(image).tolist()
        ]
    box = f"-0.2 -0.2 {columns * step - 1.8:g} {lines * step - 1.8:g}"
    style = "fill='#fff' stroke='#9aa3ae' stroke-width='0.12'"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='{box}'>"
        f"<path {style} d='{''.join(frames)}'/><path d='{''.join(cells)}'/></svg>"
    )


def _part(found: Sequence[Row], name: str) -> list[Row]:
    return [r for r in found if r.get("part") == name]


def _texts(row: Row, column: str) -> list[str]:
    held = row.get(column)
    return [str(v) for v in held] if isinstance(held, list) else []


def _words(*titles: str) -> list[Cell]:
    """Titles of columns of words."""
    return [Cell(title, state="words") for title in titles]


def _signed(name: Any) -> str:
    """A rule's name with a true minus."""
    return str(name).replace(" -", " −")


def _checker(row: Row) -> str:
    return f"Checker: {_signed(row.get('verdict') or 'nothing')}"


def _drawn(row: Row, title: str, *lines: str) -> Picture:
    """The row's SVG as an image; lines of words below it."""
    number = f"rule {row['rule']}" if row.get("rule") is not None else ""
    alt = f"{title}. {' '.join(lines)}"
    source = blocks.svg_source(str(row.get("svg") or ""))
    return Picture(source, alt, text.capital(title), number, "\n".join(filter(None, lines)))


def _lined(row: Row, column: str) -> Cell:
    """A share as a bar with its interval below."""
    shown = blocks.bar(rows.value(row, column))
    return Cell(shown.text, shown.bar, detail=_limits(row, column))


def _interval(row: Row, column: str) -> str:
    shown, limits = text.percent(rows.value(row, column)), _limits(row, column)
    return shown if limits == text.UNKNOWN else f"{shown} ({limits})"


def _limits(row: Row, column: str) -> str:
    """The interval of a share in words."""
    low, high = (rows.value(row, f"{column}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return text.UNKNOWN
    if high >= 1 > low:
        return f"at least {_fine(low)}"
    return f"at most {_fine(high)}" if low <= 0 else f"{_fine(low)} to {_fine(high)}"


def _fine(share: float) -> str:
    """A share in per cent, near 1 with the digits that tell it from 1."""
    if not 0.9995 < share < 1:
        return text.percent(share)
    return f"{100 * share:.{math.ceil(-math.log10(100 * (1 - share)))}f} %"
