"""How the guidance laws differ: one table, one map of push against spread."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import axes
from assay.report import figures as fig
from assay.report import rows, text, verdict
from assay.report.blocks import TWO, Cell, Figure, Finding, Gallery, Mark, Section, Table, bars
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "The guidance laws differ in how much spread they leave for the same push"
BASELINE, CONSTANT = "conditional", "constant"
LEGEND = (
    Mark("conditional: no guidance", fig.CONDITIONAL, "point"),
    Mark("constant: plain guidance", fig.TILTED, "point"),
    Mark("other laws", fig.GUIDED, "point"),
    Mark(f"open: more than {text.percent(verdict.LIMIT)} off the class", fig.GUIDED, "hollow"),
)
_LABEL_ROOM = 0.36  # of the width, for names on the right


def sections(run: Run) -> list[Section]:
    """Maps of push and spread, one table for each number of coordinates, what each law is."""
    by_place = rows.groups(run.rows, "target", "d", "matched")
    panels = [scatter(found) for found in by_place.values()]
    caption = (
        "Each law on the same exact target. To the right: a stronger push along the class. "
        "Upwards: more of the spread is left, up to the dashed line, the class's own. "
        "Laws up and to the right give more for less."
    )
    drawn = [p for p in panels if p is not None]
    blocks = [Gallery(drawn, caption, LEGEND, TWO)] if drawn else []
    tables = rows.groups(run.rows, "d", "matched")
    most = max(tables, key=lambda k: (len(tables[k]), str(k)), default=None)
    order = sorted(tables, key=lambda k: k != most)
    listed = [table(tables[k], folded=k != most) for k in order]
    lead = (
        "Laws of the literature on targets whose answer is known exactly: the class coordinate "
        "times independent unit nuisance coordinates, which no guidance should touch."
    )
    told = said(findings(run))
    return [
        Section(anchor(run), "How do guidance laws differ?", lead, told,
                [*blocks, *listed, laws(run.rows)], method(run), text.command(run.config))
    ]  # fmt: skip


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"peers-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """Where the laws push at least half as far: which leaves the most spread."""
    every = rows.groups(run.rows, "target", "d", "matched").values()
    told = [s for s in map(_compared, every) if s]
    return [Finding(CLAIM, told, anchor(run))] if told else []


def _compared(found: Sequence[Row]) -> str:
    usable = rows.known(found, "mean", "sd")
    law = {str(r.get("law")): r for r in usable}
    if BASELINE not in law or CONSTANT not in law:
        return ""
    base, plain = law[BASELINE], law[CONSTANT]
    push = plain["mean"] - base["mean"]
    near = [
        r for r in usable
        if (r["mean"] - base["mean"]) / push >= 0.5 and str(r["law"]) not in (BASELINE, CONSTANT)
    ] if push else []  # fmt: skip
    if not near:
        return ""
    best, least = max(near, key=lambda r: r["sd"]), min(near, key=lambda r: r["sd"])
    where = f"{text.capital(str(plain.get('target')))}, {text.number(plain.get('d'))}-D"
    return (
        f"{where}, at {text.weight(plain['w'])}: constant guidance moves the mean by "
        f"{text.number(push, 3)} and leaves sd {text.number(plain['sd'], 3)} of "
        f"{text.number(base['sd'], 3)}; of the laws that push at least half as far, {best['law']} "
        f"leaves most ({text.number(best['sd'], 3)}, moved by "
        f"{text.number(best['mean'] - base['mean'], 3)}) and {least['law']} least "
        f"({text.number(least['sd'], 3)}) (n = {text.number(plain.get('n'))})."
    )


# ---- push against spread -----------------------------------------------------------------------


def scatter(found: Sequence[Row]) -> Figure | None:
    """One dot a law, its name on the right joined to it by a thin line."""
    usable = rows.known(found, "mean", "sd")
    if not usable:
        return None
    odds = len(rows.known(usable, "class_odds")) == len(usable)
    column = "class_odds" if odds else "mean"
    base = next((r for r in usable if r.get("law") == BASELINE), None)
    traces = [_dot(r, column) for r in usable]
    if base is not None:
        traces.append(fig.across(base["sd"], "", fig.CONDITIONAL))
    top = 1.12 * max(r["sd"] for r in usable)
    names, leaders = _names(usable, column, top)
    first = usable[0]
    x = axes.axis("class odds (nats)" if odds else "mean of the class coordinate",
                 domain=[0, 1 - _LABEL_ROOM])  # fmt: skip
    y = axes.axis("standard deviation that is left", range=[0, top])
    matched = ", matched class odds" if first.get("matched") else ""
    title = f"{text.capital(str(first.get('target')))}, {text.number(first.get('d'))}-D{matched}"
    return fig.figure([*leaders, *traces], x, y, title, height=330, annotations=names)


def _dot(row: Row, column: str) -> dict:
    law = str(row.get("law"))
    color = {BASELINE: fig.CONDITIONAL, CONSTANT: fig.TILTED}.get(law, fig.GUIDED)
    off = rows.value(row, "off_support_denoised")
    dot = fig.points([row[column]], [row["sd"]], law, color, mode="markers",
                     hollow=off is not None and off > verdict.LIMIT)  # fmt: skip
    dot["text"] = [f"{text.safe(law)}<br>mean {text.number(row['mean'])}, "
                   f"sd {text.number(row['sd'])}<br>off the class {text.percent(off)}"]  # fmt: skip
    return dot | {"hovertemplate": "%{text}<extra></extra>"}


def _names(usable: Sequence[Row], column: str, top: float) -> tuple[list[dict], list[dict]]:
    """Names in a column on the right, in the order of their dots, none on another; and leaders."""
    order = sorted(usable, key=lambda r: r["sd"])
    places = spaced([r["sd"] / top for r in order], 0.066)
    edge = max(r[column] for r in usable)
    room = edge - min(r[column] for r in usable) or 1.0
    names, leaders = [], []
    for row, place in zip(order, places, strict=True):
        law = str(row.get("law"))
        names.append(
            fig.note(1 - _LABEL_ROOM + 0.03, place * top, law, xref="paper", xanchor="left")
        )
        leaders.append(
            fig.line([row[column], edge + 0.1 * room], [row["sd"], place * top], law, "#b9c0c8",
                     width=0.8, hoverinfo="skip")
        )  # fmt: skip
    return names, leaders


def spaced(places: Sequence[float], gap: float) -> list[float]:
    """Rising places moved as little as their order and a least distance between them allow."""
    blocks: list[list[float]] = []  # each: sum of (place - rank * gap), how many
    for rank, place in enumerate(places):
        blocks.append([place - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, n = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + n]
    flat = [total / n for total, n in blocks for _ in range(int(n))]
    return [place + rank * gap for rank, place in enumerate(flat)]


# ---- tables ------------------------------------------------------------------------------------

_MEASURES = {
    "class_odds": "class odds", "mean": "mean", "sd": "sd", "w1_to_cond": "W1 to conditional",
    "overshoot": "overshoot", "off_support": "off the class",
    "off_support_denoised": "… after denoise",
}  # fmt: skip
_BARRED = ("class_odds", "mean", "sd", "w1_to_cond")


def table(found: Sequence[Row], folded: bool) -> Table:
    """All laws at one number of coordinates: a line a law, the measures of each target."""
    by_target = rows.groups(found, "target")
    laws_ = list(dict.fromkeys(str(r.get("law")) for r in found))
    columns, cells = ["law", "w", "guidance_scale"], [_head(found, law) for law in laws_]
    for (name,), group in by_target.items():
        row = {str(r.get("law")): r for r in group}
        for column, title in _MEASURES.items():
            if not rows.known(group, column):
                continue
            columns.append(f"{text.capital(str(name))}: {title}")
            for line, cell in zip(cells, _column(row, laws_, column), strict=True):
                line.append(cell)
    columns += ["nuisance sd", "evaluations"]
    for line, law in zip(cells, laws_, strict=True):
        row = next(r for r in found if str(r.get("law")) == law)
        line += [text.number(rows.value(row, "nuisance_sd"), 3), row.get("nfe")]
    first = found[0]
    matched = ", each law at the w of equal class odds" if first.get("matched") else ""
    title = f"All laws in {text.number(first.get('d'))} dimensions{matched}"
    caption = (
        "Bars compare within a column. Nuisance coordinates have sd 1 in the data: a law that "
        "changes it disturbs what it should leave alone. CFG++ has its own scale of w."
    )
    return Table(columns, cells, caption, title, folded=folded)


def _head(found: Sequence[Row], law: str) -> list:
    row = next(r for r in found if str(r.get("law")) == law)
    return [law, row.get("w"), row.get("guidance_scale")]


def _column(row: dict[str, Row], laws_: Sequence[str], column: str) -> list[Cell | str]:
    """The cells of one measure, in the order of the laws."""
    values = [rows.value(row.get(law, {}), column) for law in laws_]
    if column in _BARRED:
        return list(bars(values, 3))
    shown = text.percent if column.startswith("off") else text.number
    return [
        shown(v) if v is None or column.startswith("off") else text.number(v, 3) for v in values
    ]


def laws(found: Sequence[Row]) -> Table:
    """What each law is: prediction, parameters, notes, where it is undefined."""
    first = {str(r.get("law")): r for r in reversed(found)}
    names = list(dict.fromkeys(str(r.get("law")) for r in found))
    cells = [
        [name, first[name].get("prediction"), text.number(first[name].get("params") or {}, 3),
         first[name].get("undefined") or first[name].get("note") or text.UNKNOWN]
        for name in names
    ]  # fmt: skip
    columns = ("law", "acts on", "parameters", "note")
    return Table(columns, cells, "", "Table: what each law is", folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    row = run.rows[0]
    return (
        f"n = {text.number(row.get('n'))} samples a law, {text.number(row.get('steps'))} steps, the "
        "same noise and grid for every law; class coordinate from mid-quantiles, so that it has no "
        "sampling noise of its own. Off the class: outside "
        f"{row.get('off_support_name') or 'its support'}. W1 is of the class coordinate."
    )
