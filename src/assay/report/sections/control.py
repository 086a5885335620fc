"""What guidance laws pay in distance for the same class odds: fronts, one table, all laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    THREE,
    Cell,
    Figure,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    bar,
    percent,
    said,
)
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "The same class odds can cost half the distance"
NO_GAIN = "A guidance law of our own does not halve the distance"
OURS, BASELINE, PLAIN, PEER = "thrifty", "constant", "conditional", "interval"
COLORS = {OURS: fig.GUIDED, BASELINE: fig.TILTED, PEER: fig.DATA}
_FAINT = "#b9c0c8"
LEGEND = (
    Mark("thrifty: ours", fig.GUIDED),
    Mark("constant: plain guidance", fig.TILTED),
    Mark("interval, its levels tuned like ours", fig.DATA),
    Mark("other laws of the literature", _FAINT),
    Mark("p(x|z) itself: no guidance", fig.CONDITIONAL, "point"),
)


def sections(run: Run) -> list[Section]:
    """Fronts of odds against distance, laws at equal odds, what was tuned and chosen."""
    plain = {(r.get("target"), r.get("error")): r for r in run.rows if _is(r, "law", PLAIN)}
    drawn = [
        figure(group, plain.get((group[0].get("target"), group[0].get("error"))))
        for group in _stage(run, "front", "target", "error")
    ]
    found = [one for one in drawn if one is not None]
    caption = (
        "Each line is one law at rising w on the same noise. To the right: higher class odds. "
        "Upwards: farther from p(x|z). Lower is cheaper."
    )
    blocks: list[Any] = [Gallery(found, caption, LEGEND, THREE)] if found else []
    blocks += [overall(run), matched(run), *([tuning(run)] if _rows(run, "tune") else [])]
    lead = (
        "Exact targets whose classes overlap, with planted score errors. Every law gets the w at "
        "which its samples' class odds equal those of constant guidance at the w that `choose` "
        "returns; what differs is how far they moved for it."
    )
    told = said(findings(run))
    title = "What does guidance pay for class odds?"
    how = text.command(run.config)
    return [Section(anchor(run), title, lead, told, blocks, method(run), how)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"control-{run.path.name}")


def _rows(run: Run, stage: str) -> list[Row]:
    return [row for row in run.rows if row.get("stage") == stage]


def _stage(run: Run, stage: str, *columns: str) -> list[list[Row]]:
    return list(rows.groups(_rows(run, stage), *columns).values())


def _is(row: Row, stage: str, law: str) -> bool:
    return row.get("stage") == stage and row.get("law") == law


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """Our law over all cases, beside the best of the others; where it loses."""
    law = {str(row.get("law")): row for row in rows.known(_rows(run, "summary"), "ratio")}
    ours = law.pop(OURS, None)
    if ours is None:
        return []
    claim = CLAIM if ours["ratio"] <= 0.5 else NO_GAIN
    first = [_overall(ours), *([_overall(law[PEER])] if PEER in law else [])]
    return [Finding(claim, first, anchor(run), _losses(run))]


def _overall(row: Row) -> str:
    worse = int(rows.value(row, "worse_off_support_denoised") or 0)
    more = "none" if not worse else str(worse)
    return (
        f"{text.capital(str(row.get('law')))}: at the constant law's class odds W1 to p(x|z) is "
        f"{text.number(row['ratio'], 3)} of the constant law's (geometric mean of "
        f"{text.number(row.get('matched'))} cases, {text.number(row.get('ratio_least'), 3)} to "
        f"{text.number(row.get('ratio_most'), 3)}), at most half in "
        f"{text.number(row.get('halved'))}; more samples off the class after the final denoise "
        f"in {more}."
    )


def _losses(run: Run) -> list[str]:
    """Cases in which another law pays clearly less than ours, by disjoint intervals."""
    lost = []
    for group in _stage(run, "law", "target", "error"):
        of_law = {str(row.get("law")): row for row in rows.known(group, "ratio", "ratio_low")}
        ours = of_law.pop(OURS, None)
        if ours is None or not ours.get("matched"):
            continue
        better = [
            name
            for name, row in of_law.items()
            if name not in (PLAIN, BASELINE)
            and row.get("matched")
            and row["ratio_high"] < ours["ratio_low"]
        ]
        if better:
            lost.append(f"{_place(ours)} to {text.listed(better)}")
    return [f"Ours loses on {text.listed(lost)}."] if lost else []


def _place(row: Row) -> str:
    return f"{row.get('target')} ({row.get('error')})"


# ---- fronts ------------------------------------------------------------------------------------


def figure(group: Sequence[Row], plain: Row | None = None) -> Figure | None:
    """The fronts of one target; ours is drawn last, over the others. plain: the row of w = 0."""
    usable = [row for row in group if _points(row)]
    if not usable:
        return None
    order = sorted(usable, key=lambda row: str(row.get("law")) in COLORS)
    main = [p for row in usable if row.get("law") in (BASELINE, OURS) for p in _points(row)]
    x = axes.axis("class odds (nats)", **_span([p[0] for p in main]))
    y = axes.axis("W1 to p(x|z)", **_span([0.0, *(p[1] for p in main)]))
    traces = [_trace(row) for row in order]
    if plain and rows.known([plain], "class_odds", "w1"):
        at = [plain["class_odds"]], [plain["w1"]]
        traces.append(fig.points(*at, PLAIN, fig.CONDITIONAL, mode="markers"))
    title, sub = text.capital(str(usable[0].get("target"))), f"error: {usable[0].get('error')}"
    return fig.figure(traces, x, y, title, sub=sub, height=270)


def _span(values: Sequence[float]) -> dict[str, Any]:
    """A range with some room: laws that leave the drawing do not squeeze the others."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    room = 0.08 * (high - low)
    return {"range": [low - room, high + room]} if room else {}


def _points(row: Row) -> list[tuple[float, float, Any, Any]]:
    """(odds, distance, off, w) where both are numbers."""
    lists = [row.get(k) or [] for k in ("class_odds", "w1", "off_support_denoised", "weights")]
    return [
        point
        for point in zip(*lists, strict=False)
        if all(isinstance(v, (int, float)) for v in point[:2])
    ]


def _trace(row: Row) -> dict[str, Any]:
    law, seen = str(row.get("law")), _points(row)
    color = COLORS.get(law, _FAINT)
    words = [
        f"{text.safe(law)}, w {text.number(w, 3)} (scale {text.number(1 + w, 3)})"
        f"<br>off the class {text.percent(off)}"
        for _, _, off, w in seen
    ]
    width = 2 if law in COLORS else 1
    line = fig.points([p[0] for p in seen], [p[1] for p in seen], law, color, width=width)
    line["marker"] |= {"size": 5}
    return line | {"text": words, "hovertemplate": "%{text}<extra></extra>"}


# ---- tables ------------------------------------------------------------------------------------


def overall(run: Run) -> Table:
    """All laws over all their cases, the cheapest first."""
    found = sorted(_rows(run, "summary"), key=lambda r: (r.get("ratio") is None, r.get("ratio")))
    columns = ["law", "W1 over the constant law's", "least", "most", "cases matched", "of",
               "halved", "more off the class, denoised", "without denoise"]  # fmt: skip
    cells = [
        [
            str(row.get("law")),
            bar(row.get("ratio"), text.number(row.get("ratio"), 3)),
            Cell(text.number(row.get("ratio_least"), 3)),
            Cell(text.number(row.get("ratio_most"), 3)),
            row.get("matched"), row.get("cases"), row.get("halved"),
            row.get("worse_off_support_denoised"), row.get("worse_off_support"),
        ]
        for row in found
    ]  # fmt: skip
    caption = (
        "Geometric means over the cases in which some w gives the constant law's class odds on "
        "every seed. Halved: cases with at most half its W1. More off: cases with over 0.2 % of "
        "samples more off the class than under the constant law. Laws beside constant, interval "
        "and thrifty run under one planted error only, so that their means are of fewer cases."
    )
    return Table(columns, cells, caption, "All laws at equal class odds")


def matched(run: Run) -> Table:
    """Every case: what the constant law's w buys and costs, what the others pay for it."""
    columns = ["target", "error", "w", "guidance_scale", "odds gained", "W1 constant",
               "W1 interval", "W1 thrifty", "thrifty over constant", "off: constant",
               "off: thrifty"]  # fmt: skip
    cells = []
    for group in _stage(run, "law", "target", "error"):
        of_law = {str(row.get("law")): row for row in group}
        base, ours = of_law.get(BASELINE, {}), of_law.get(OURS, {})
        cells.append(
            [
                str(group[0].get("target")), str(group[0].get("error")), base.get("w"),
                base.get("guidance_scale"), Cell(text.number(base.get("gain"), 3)),
                _ranged(base, "w1"), _ranged(of_law.get(PEER, {}), "w1"), _ranged(ours, "w1"),
                _ranged(ours, "ratio") if ours.get("matched") else Cell(text.UNKNOWN),
                *(_off(row) for row in (base, ours)),
            ]
        )  # fmt: skip
    caption = (
        "Means over seeds with 95 % intervals. Off: share of samples off the class after the "
        "final denoise, without it in brackets. A dash: no comparison; rows.jsonl has the reason."
    )
    return Table(columns, cells, caption, "Every target and error", folded=True)


def _ranged(row: Row, column: str) -> Cell:
    low, high = (text.number(rows.value(row, f"{column}_{end}"), 3) for end in ("low", "high"))
    value = rows.value(row, column)
    if value is None:
        return Cell(text.UNKNOWN)
    unmatched = "" if row.get("matched", True) else "odds not reached; "
    return Cell(text.number(value, 3), detail=f"{unmatched}{low} to {high}")


def _off(row: Row) -> Cell:
    after, before = (rows.value(row, c) for c in ("off_support_denoised", "off_support"))
    if after is None:
        return Cell(text.UNKNOWN)
    return Cell(f"{text.percent(after)} ({text.percent(before)})")


def tuning(run: Run) -> Table:
    """What was tried on the tuning targets."""
    columns = ["law", "parameters", "W1 over the constant law's", "most more off the class",
               "odds not reached"]  # fmt: skip
    cells = [
        [
            str(row.get("law")), text.number(row.get("params") or {}, 3),
            Cell(text.number(row.get("ratio"), 3)), percent(max(row.get("off_excess") or 0, 0)),
            row.get("unmatched"),
        ]
        for row in _rows(run, "tune")
    ]  # fmt: skip
    names = text.listed(str(place.get("name")) for place in run.config.get("tuning") or [])
    caption = f"Chosen on {names} alone; lengths in standard deviations of the class."
    return Table(columns, cells, caption, "What was tuned", folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    config = run.config
    n, seeds = text.number(config.get("n")), len(config.get("seeds") or [])
    return (
        f"{n} samples on each of {seeds} seeds of noise and planted field; Heun's method, "
        f"{text.number(config.get('steps'))} steps, the same noise and grid for every law. "
        f"Criterion of the constant law's w: {config.get('criterion')}. Class odds matched "
        f"within {text.ratio(rows.value(config, 'tolerance'))} of the gain. W1 is sliced in more "
        "than one dimension. Off the class: outside its support, or the region that holds 99.9 % "
        "of it."
    )
