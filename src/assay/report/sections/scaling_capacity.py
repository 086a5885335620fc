"""Bits in the data against parameters: when does a network stop copying and begin to learn?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import TWO, Block, Cell, Figure, Gallery, Mark, Table, Words
from assay.report.rows import Row
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import Study

_KAPPAS = (2.0, 3.6)
_THRESHOLDS = {"copies": "copies fall to nature", "novel": "novel-C3 passes half"}


def capacity(study: Study) -> list[Block]:
    """Copies and novel-C3 against bits a parameter; where each model turns; the rules compared."""
    refused = study.of("capacity_said")
    if refused:
        return [Words(f"Nothing can be said: {text.capital(str(refused[0].get('said')))}.")]
    measures = (
        ("Rows copied above the natural overlap", _above),
        ("novel-C3", lambda row: rows.value(row, "novel_c3")),
    )
    panels = [p for p in (_against_bits(study, *measure) for measure in measures) if p is not None]
    if not panels:
        return []
    kappas = text.listed(text.number(k) for k in _KAPPAS)
    caption = (
        "Each training by the bits of its training set over its parameters. The rule says: to the "
        f"left of what a parameter holds ({kappas} bits, dashed) training copies, to the right "
        "it learns. Lines: means over seeds."
    )
    legend = [*study.legend(), Mark(f"{kappas} bits a parameter", fig.INK, "dash")]
    return [Gallery(panels, caption, legend, TWO), *_models(study), *_rules(study)]


def _above(row: Row) -> float | None:
    copies, natural = (rows.value(row, f"{name}_row") for name in ("copies", "natural"))
    return None if copies is None or natural is None else copies - natural


def _against_bits(study: Study, title: str, of: Callable[[Row], float | None]) -> Figure | None:
    traces: list[Any] = []
    for group, (color, dash) in study.looks().items():
        own = [r for r in rows.known(study.of("capacity_run", group), "bits_per_parameter")
               if of(r) is not None]  # fmt: skip
        own.sort(key=lambda r: r["per_rule"])
        name = text.safe(study.label(group))
        seen = [f"{name}<br>{read.amount(r['per_rule'])} per rule, seed {r.get('seed')}<br>"
                f"{text.number(r['bits_per_parameter'], 3)} bits a parameter: {of(r):.3f}"
                for r in own]  # fmt: skip
        x = [float(r["bits_per_parameter"]) for r in own]
        dots = fig.points(x, [of(r) for r in own], study.label(group), color, mode="markers",
                          text=seen, hovertemplate="%{text}<extra></extra>")  # fmt: skip
        dots["marker"]["size"] = 6.5
        line = fig.line(*_means(x, [of(r) for r in own]), study.label(group), color, dash=dash,
                        hoverinfo="skip")  # fmt: skip
        traces += [line, dots] if own else []
    every = [x for t in traces for x in t["x"]]
    if not every:
        return None
    marks = [fig.upright(kappa, "", fig.INK) for kappa in _KAPPAS]
    axis = read.powers("bits in the data by parameters", min(every) / 2, max(every) * 2)
    return fig.figure([*traces, *marks], axis, axes.shares(""), title, height=300)


def _means(x: list[float], y: list[Any]) -> tuple[list[float], list[float]]:
    found: dict[float, list[float]] = {}
    for at, value in zip(x, y, strict=True):
        found.setdefault(at, []).append(value)
    return list(found), [sum(values) / len(values) for values in found.values()]


def _models(study: Study) -> list[Block]:
    """Between which sizes each model turns, in bits a parameter, beside the rule's predictions."""
    found = study.of("capacity")
    if not found:
        return []
    lines = []
    for row in found:
        cells: list[Any] = [str(row.get("model")), row.get("parameters")]
        for name in _THRESHOLDS:
            cells += [Cell(_between(row, name)), Cell(_between(row, f"kappa_{name}"))]
        for kappa in _KAPPAS:
            held = " / ".join(str(row.get(f"{name}_at_{kappa:g}")) for name in _THRESHOLDS)
            n = rows.value(row, f"predicted_{kappa:g}")
            cells.append(Cell(text.number(n, 3), detail=held))
        cells.append(Cell(text.number(rows.value(row, "held_per_parameter"), 3)))
        lines.append(cells)
    heads = [Cell(t, detail=d) for t in _THRESHOLDS.values()
             for d in ("samples per rule", "bits a parameter")]  # fmt: skip
    heads += [Cell(f"rule, {text.number(k)} bits", detail="samples per rule") for k in _KAPPAS]
    caption = (
        "Measured: the sizes between which a model turns. The rule: where it would, at so many "
        "bits a parameter; below, whether that lies within those sizes, or is too few or too many "
        "samples, for copies / for novel-C3. Held: bits of the training set that a model with a "
        "likelihood was measured to hold."
    )
    columns = ["model", "parameters", *heads, Cell("held", detail="bits a parameter")]
    return [Table(columns, lines, caption, "Where models turn, and where the rule says")]


def _between(row: Row, name: str) -> str:
    low, high = (rows.value(row, f"{name}_{end}") for end in ("low", "high"))
    if low is None and high is None:
        return text.UNKNOWN
    if low is None:
        return f"< {text.number(high, 3)}"
    return f"> {text.number(low, 3)}" if high is None else (
        f"{text.number(low, 3)} to {text.number(high, 3)}")  # fmt: skip


def _rules(study: Study) -> list[Block]:
    """What the rule and its rivals tell."""
    lines = [
        [_THRESHOLDS.get(str(r.get("threshold")), str(r.get("threshold"))), str(r.get("rule")),
         Cell(text.number(rows.value(r, "spearman"), 3), detail=_interval(r)),
         Cell(text.number(rows.value(r, "factor"), 3)), str(r.get("said") or ""), r.get("n")]
        for r in study.of("capacity_fit")
    ]  # fmt: skip
    columns = ("when", "told by", "rank correlation", "off by a factor of", "verdict",
               "configurations")  # fmt: skip
    caption = (
        "Off by: root mean square over models left out, the rule fitted to the others. A rule "
        "that knows nothing of parameters must be beaten."
    )
    return [Table(columns, lines, caption, "Does it predict?")] if lines else []


def _interval(row: Row) -> str:
    low, high = (rows.value(row, f"spearman_{end}") for end in ("low", "high"))
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
