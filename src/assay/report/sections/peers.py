"""How the guidance laws differ: one table, one map of push against spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text, verdict
from assay.report import figures as fig
from assay.report.blocks import (
    TWO,
    Cell,
    Figure,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    bars,
    percent,
    said,
)
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "The guidance laws differ in how much spread they leave for the same push"
BASELINE, CONSTANT = "conditional", "constant"
COLORS = {BASELINE: fig.CONDITIONAL, CONSTANT: fig.TILTED}
LEGEND = (
    Mark("conditional: no guidance", fig.CONDITIONAL, "point"),
    Mark("constant: plain guidance", fig.TILTED, "point"),
    Mark("other laws", fig.GUIDED, "point"),
    Mark(f"open: more than {text.percent(verdict.LIMIT)} off the class", fig.GUIDED, "hollow"),
)
MEASURES = {
    "class_odds": "class odds", "mean": "mean", "sd": "sd", "w1_to_cond": "W1",
    "overshoot": "overshoot", "off_support_denoised": "off the class (before denoise)",
}  # fmt: skip
_BARRED = ("class_odds", "mean", "sd", "w1_to_cond")
_PLACE = ("target", "d", "matched")
_LABEL_ROOM = 0.36  # of the width, for names on the right
_GAP = 0.066  # of the height, between names


def sections(run: Run) -> list[Section]:
    """Maps of push and spread, one table for each number of coordinates, what each law is."""
    panels = [scatter(found) for found in rows.groups(run.rows, *_PLACE).values()]
    drawn = [p for p in panels if p is not None]
    caption = (
        "Each law on the same exact target. To the right: a stronger push along the class. "
        "Upwards: more of the spread is left; the dashed line is the class's own. Up and to the "
        "right is more push at less cost."
    )
    blocks = [Gallery(drawn, caption, LEGEND, TWO)] if drawn else []
    lead = (
        "Laws of the literature on targets whose answer is known exactly: the class coordinate "
        "times independent unit nuisance coordinates, which no guidance should touch."
    )
    shown = [*blocks, *tables(run.rows), laws(run.rows)]
    told, how = said(findings(run)), text.command(run.config)
    return [
        Section(anchor(run), "How do guidance laws differ?", lead, told, shown, method(run), how)
    ]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"peers-{run.path.name}")


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """Where the laws push at least half as far: which leaves the most spread.

    The largest number of coordinates speaks for all; the others stand in the section alone.
    """
    most = max((_d(r) for r in run.rows), default=0.0)
    found = rows.groups(run.rows, *_PLACE).values()
    told = [(_d(group[0]) == most, _compared(group)) for group in found]
    first = [words for main, words in told if words and main]
    more = [words for main, words in told if words and not main]
    return [Finding(CLAIM, first, anchor(run), more)] if first else []


def _d(row: Row) -> float:
    return rows.value(row, "d") or 1.0


def _compared(found: Sequence[Row]) -> str:
    law = {str(r.get("law")): r for r in rows.known(found, "mean", "sd", "w")}
    base, plain = law.pop(BASELINE, None), law.pop(CONSTANT, None)
    if base is None or plain is None or plain["mean"] == base["mean"]:
        return ""
    push = plain["mean"] - base["mean"]
    near = [r for r in law.values() if (r["mean"] - base["mean"]) / push >= 0.5]
    if not near:
        return ""
    best, least = max(near, key=lambda r: r["sd"]), min(near, key=lambda r: r["sd"])
    moved = text.number(best["mean"] - base["mean"], 3)
    return (
        f"{_place(plain)}: constant guidance at {text.weight(plain['w'])} moves the mean by "
        f"{text.number(push, 3)} and leaves sd {_sd(plain)} of {_sd(base)}; of the laws that push "
        f"at least half as far, {best['law']} leaves most ({_sd(best)}, moved by {moved}), "
        f"{least['law']} least ({_sd(least)}); n = {text.number(plain.get('n'))} a law."
    )


def _sd(row: Row) -> str:
    return text.number(row["sd"], 3)


def _place(row: Row) -> str:
    matched = ", matched class odds" if row.get("matched") else ""
    return f"{text.capital(str(row.get('target')))}, {_d(row):.0f}-D{matched}"


# ---- push against spread -----------------------------------------------------------------------


def scatter(found: Sequence[Row]) -> Figure | None:
    """One dot a law, its name on the right joined to it by a thin line."""
    usable = rows.known(found, "mean", "sd")
    if not usable:
        return None
    odds = len(rows.known(usable, "class_odds")) == len(usable)
    column = "class_odds" if odds else "mean"
    base = next((r for r in usable if r.get("law") == BASELINE), None)
    level = [fig.across(base["sd"], "", fig.CONDITIONAL)] if base else []
    top = 1.12 * max(r["sd"] for r in usable) or 1.0
    names, leaders = _names(usable, column, top)
    x = axes.axis(
        "class odds (nats)" if odds else "mean of the class coordinate",
        domain=[0, 1 - _LABEL_ROOM],
    )
    y = axes.axis("standard deviation that is left", range=[0, top])
    above = sorted(usable, key=lambda r: str(r.get("law")) in COLORS)  # never hidden by others
    traces = [*leaders, *(_dot(r, column) for r in above), *level]
    return fig.figure(traces, x, y, _place(usable[0]), height=330, annotations=names)


def _dot(row: Row, column: str) -> dict[str, Any]:
    law, off = str(row.get("law")), rows.value(row, "off_support_denoised")
    hollow = off is not None and off > verdict.LIMIT
    color = COLORS.get(law, fig.GUIDED)
    dot = fig.points([row[column]], [row["sd"]], law, color, mode="markers", hollow=hollow)
    seen = (
        f"{text.safe(law)}<br>mean {text.number(row['mean'])}, sd {text.number(row['sd'])}"
        f"<br>off the class {text.percent(off)}"
    )
    return dot | {"text": [seen], "hovertemplate": "%{text}<extra></extra>"}


def _names(
    usable: Sequence[Row], column: str, top: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Names in a column on the right, in the order of their dots, none on another; and leaders."""
    order = sorted(usable, key=lambda r: (r["sd"], -r[column]))
    at = spaced([r["sd"] / top for r in order], min(_GAP, 0.96 / len(order)))
    low, high = (end(r[column] for r in usable) for end in (min, max))
    edge = high + 0.1 * (high - low or 1.0)
    names, leaders = [], []
    for row, place in zip(order, at, strict=True):
        law, y = str(row.get("law")), place * top
        side = {"xref": "paper", "xanchor": "left", "yanchor": "middle"}
        names.append(fig.note(1 - _LABEL_ROOM + 0.02, y, law, **side))
        ends = [row[column], edge], [row["sd"], y]
        leaders.append(fig.line(*ends, law, "#b9c0c8", width=0.8, hoverinfo="skip"))
    return names, leaders


def spaced(places: Sequence[float], gap: float) -> list[float]:
    """Rising places in [0, 1], moved as little as their order and a least distance allow."""
    blocks: list[list[float]] = []  # each: sum of (place - rank * gap), how many
    for rank, place in enumerate(places):
        blocks.append([place - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, n = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + n]
    flat = [total / n for total, n in blocks for _ in range(int(n))]
    room = 0.98 - (len(flat) - 1) * gap
    return [min(max(place, 0.02), room) + rank * gap for rank, place in enumerate(flat)]


# ---- tables ------------------------------------------------------------------------------------


def tables(found: Sequence[Row]) -> list[Table]:
    """One for each number of coordinates, the largest open."""
    by_d = rows.groups(found, "d", "matched")
    order = sorted(by_d.values(), key=lambda g: (bool(g[0].get("matched")), -_d(g[0])))
    return [table(group, folded=i > 0) for i, group in enumerate(order)]


def table(found: Sequence[Row], folded: bool) -> Table:
    """All laws at one number of coordinates: a line a law, the measures of each target."""
    names = list(dict.fromkeys(str(r.get("law")) for r in found))
    first = {str(r.get("law")): r for r in reversed(found)}
    columns: list[str | Cell] = ["law", "w", "guidance_scale"]
    cells = [[name, first[name].get("w"), first[name].get("guidance_scale")] for name in names]
    for (target,), group in rows.groups(found, "target").items():
        of_law = {str(r.get("law")): r for r in group}
        for measure in measures(group):
            columns.append(Cell(MEASURES[measure], detail=text.capital(str(target))))
            for line, cell in zip(cells, _column(of_law, names, measure), strict=True):
                line.append(cell)
    columns += ["nuisance sd", "evaluations"]
    for line, name in zip(cells, names, strict=True):
        nuisance = Cell(text.number(rows.value(first[name], "nuisance_sd"), 3))
        line += [nuisance, first[name].get("nfe")]
    caption = (
        "Bars compare within a column. W1: distance to the conditional. Nuisance coordinates have "
        "sd 1 in the data: a law that changes it disturbs what it should leave alone. CFG++ has a "
        "scale of its own for w."
    )
    matched = ", each law at the w of equal class odds" if found[0].get("matched") else ""
    title = f"All laws in {_d(found[0]):.0f} dimensions{matched}"
    return Table(columns, cells, caption, title, folded=folded)


def measures(group: Sequence[Row]) -> list[str]:
    """The measures of a target's columns: class odds where they are finite, else the mean."""
    odds = bool(rows.known(group, "class_odds"))
    return [m for m in MEASURES if rows.known(group, m) and not (m == "mean" and odds)]


def _column(of_law: dict[str, Row], names: Sequence[str], measure: str) -> list[Cell]:
    """The cells of one measure, in the order of the laws."""
    values = [rows.value(of_law.get(name, {}), measure) for name in names]
    if measure in _BARRED:
        return bars(values, 3)
    if measure != "off_support_denoised":
        return [Cell(text.number(v, 3)) for v in values]
    before = [rows.value(of_law.get(name, {}), "off_support") for name in names]
    return [
        percent(v) if b in (None, v) else Cell(f"{text.percent(v)} ({text.percent(b)})")
        for v, b in zip(values, before, strict=True)
    ]


def laws(found: Sequence[Row]) -> Table:
    """What each law is: prediction, parameters, notes, where it is undefined."""
    first = {str(r.get("law")): r for r in reversed(found)}
    cells = [
        [name, row.get("prediction"), text.number(row.get("params") or {}, 3),
         row.get("undefined") or row.get("note") or text.UNKNOWN]
        for name, row in reversed(first.items())
    ]  # fmt: skip
    columns = ("law", "acts on", "parameters", "note")
    return Table(columns, cells, "", "Table: what each law is", folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    row = run.rows[0]
    return (
        f"n = {text.number(row.get('n'))} samples a law, {text.number(row.get('steps'))} steps; "
        "the same noise and grid for every law; the class coordinate starts from mid-quantiles, "
        "so that it has no sampling noise of its own. Off the class: outside "
        f"{row.get('off_support_name') or 'its support'}. W1 is of the class coordinate."
    )
