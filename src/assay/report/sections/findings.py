"""What was published of these models, tested: a verdict and a picture for each claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import blocks as b
from assay.report import figures as fig
from assay.report.blocks import Block, Cell, Figure, Finding, Gallery, Mark, Section, Table
from assay.report.rows import Row
from assay.runs import Run

UNTOLD = "cannot be told here"
COLORS = (*fig.SERIES, fig.TILTED, fig.CONDITIONAL, fig.DATA)
NATURE = fig.INK
_MOST_CURVES = 6
_OTHER_COLORS = ("stopping", "clip", "samplers")  # a figure a model: colours mean other things
_LEVELS = ("sample", "row", "set_row", "panel")


def sections(run: Run) -> list[Section]:
    """The verdicts in a table, a gallery for each claim, the figures in a table."""
    found = current(run)
    drawn = [gallery(own) for own in _by_claim(found).values()]
    lead = (
        "Claims of the paper on abstract rules (Wang, Shang and Sompolinsky 2024, arXiv "
        "2411.07873), each tested on trainings of one's own. Two shares differ where their 95 % "
        "intervals lie apart; seeds are pooled with their dispersion."
    )
    blocks: list[Block] = [verdicts(found), *filter(None, drawn), by_model(found), figures(found)]
    title, command = "Does what was published hold?", text.command(run.config)
    return [Section(anchor(run), title, lead, [], blocks, method(run), command)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"findings-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """Each claim that could be tested with its verdict; model by model in the section alone."""
    told = []
    for own in _by_claim(current(run)).values():
        whole = [r for r in own if r["part"] == "verdict" and r.get("model") is None]
        if whole:
            claim = f"{own[0]['title']}: {_all(whole)}"
            sentences = [text.capital(r["said"]) + "." for r in whole]
            told.append(Finding(claim, sentences, anchor(run)))
    return told


def _all(whole: Sequence[Row]) -> str:
    """One verdict where the rows agree, else each."""
    return "; ".join(dict.fromkeys(r["verdict"] for r in whole))


def current(run: Run) -> list[Row]:
    """Of each claim the rows of its last whole finding."""
    found = []
    for own in _by_claim(r for r in run.rows if r.get("part") != "drawn").values():
        ends = [_group(r) for r in own if r.get("last")]
        found += [r for r in own if ends and _group(r) == ends[-1]]
    return found


def _group(row: Row) -> str:
    return str(row["key"]).rpartition("/")[0]


def _by_claim(found: Any) -> dict[str, list[Row]]:
    return {str(claim): own for (claim,), own in rows.groups(found, "claim").items()}


# ---- tables ------------------------------------------------------------------------------------


def verdicts(found: Sequence[Row]) -> Table:
    """The verdict on every claim, why, and what was published."""
    cells = []
    for own in _by_claim(found).values():
        whole = [r for r in own if r["part"] != "evidence" and r.get("model") is None]
        for i, row in enumerate(whole):
            told = (row["title"], row.get("published")) if i == 0 else ("", "")
            words = (told[0], row["verdict"], row["said"], told[1])
            cells.append([Cell(str(w or ""), state="words") for w in words])
    columns = ("claim", "verdict", "why", "published (forty rules)")
    return Table(columns, cells, "", "Verdicts")


def by_model(found: Sequence[Row]) -> Table:
    """The verdict on every model."""
    own = [r for r in found if r["part"] == "verdict" and r.get("model") is not None]
    columns = ("claim", "model", "verdict", "why")
    cells = [[r["title"], _name(r), r["verdict"], r["said"]] for r in own]
    return Table(columns, cells, "", "Verdicts, model by model", folded=True)


COLUMNS = {
    "model": "model", "rule_set": "rules", "per_rule": "per rule", "measure": "measure",
    "way": "drawn", "kind": "completion", "clip": "clip", "sampler": "sampler", "steps": "steps",
    "value": "value", "value_low": "from", "value_high": "to", "n": "n", "seeds": "seeds",
    "weights": "weights", "nfe": "evaluations",
}  # fmt: skip


def figures(found: Sequence[Row]) -> Table:
    """The figures that verdicts rest on."""
    used = [r for r in found if r["part"] == "evidence"]
    kept = {c: t for c, t in COLUMNS.items() if any(r.get(c) is not None for r in used)}
    cells = [[r["claim"], *(r.get(c) for c in kept)] for r in used]
    return Table(("claim", *kept.values()), cells, "", "All figures", folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    config = run.config
    names = text.listed(str(name) for name in config.get("studies") or ())
    drawn = (
        f" From checkpoints {text.number(config.get('n'))} samples and "
        f"{text.number(config.get('n_complete'))} completions each."
        if config.get("draw")
        else " Nothing was drawn from checkpoints."
    )
    return f"Studies: {names}.{drawn}"


# ---- pictures ----------------------------------------------------------------------------------


def gallery(own: Sequence[Row]) -> Gallery | None:
    """The pictures of a claim under its verdict; None where there is nothing to draw."""
    evidence = [r for r in own if r["part"] == "evidence"]
    verdicts = [r for r in own if r["part"] == "verdict"]
    if not evidence:
        return None
    colors = _colors(evidence)
    drawn, marks = _DRAWN.get(str(own[0]["claim"]), _amounts)(evidence, verdicts, colors)
    whole = [r for r in verdicts if r.get("model") is None]
    caption = " ".join(f"{text.capital(r['verdict'])}: {r['said']}." for r in whole)
    own_colors = {} if own[0]["claim"] in _OTHER_COLORS else colors
    legend = [Mark(name, color, "point") for name, color in own_colors.items()] + marks
    return Gallery(drawn, caption, legend, b.TWO, own[0]["title"]) if drawn else None


def _colors(evidence: Sequence[Row]) -> dict[str, str]:
    names = dict.fromkeys(_name(r) for r in evidence)
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def _name(row: Row) -> str:
    rule_set = row.get("rule_set")
    return str(row["model"]) if rule_set == "mini" else f"{row['model']} ({rule_set})"


Drawn = tuple[list[Figure], list[Mark]]
Colors = dict[str, str]


def _amounts(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """Shares by samples per rule, a figure for each measure."""
    measures = rows.groups(evidence, "measure")
    return [_by_data(own, str(m), colors) for (m,), own in measures.items()], []


def _by_data(
    own: Sequence[Row], title: str, colors: Colors, split: str = "", dashes: Sequence[str] = ()
) -> Figure:
    """A line a model (and a value of the column `split`, dashed in turn), with intervals."""
    traces = []
    kinds = list(dict.fromkeys(r.get(split) for r in own))
    for name, group in _lines(own).items():
        for kind in kinds:
            line = [r for r in group if r.get(split) == kind]
            place = kinds.index(kind)
            dash = {"dash": dashes[place % len(dashes)]} if dashes and place else {}
            label = f"{name}, {kind}" if split else name
            look = {"hollow": bool(place), "places": _places(own), **dash}
            traces.append(_points(line, label, colors[name], **look))
    across = _data_axis(own)
    return fig.figure(traces, across, axes.shares(title), text.capital(title), height=300)


def _lines(own: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows.known(own, "value"):
        found.setdefault(_name(row), []).append(row)
    return found


def _points(line: Sequence[Row], label: str, color: str, column: str = "value", **options: Any):
    """Points over samples per rule; streamed data stand at four times the most."""
    known = sorted(rows.known(line, column), key=lambda r: r.get("per_rule") or float("inf"))
    places = options.pop("places", None) or _places(line)
    x = [places(r.get("per_rule")) for r in known]
    ends = {
        end: [r.get(f"{column}_{end}", r[column]) for r in known] for end in ("low", "high")
    }  # fmt: skip
    return fig.points(x, [r[column] for r in known], label, color, **ends, **options)


def _places(own: Sequence[Row]) -> Callable[[int | None], int]:
    """Where samples per rule stand; streamed ones at four times the most."""
    most = max((r["per_rule"] for r in own if r.get("per_rule") is not None), default=1)
    return lambda size: 4 * most if size is None else size


def _data_axis(own: Sequence[Row]) -> dict[str, Any]:
    sizes = sorted({r.get("per_rule") for r in own}, key=lambda n: n or float("inf"))
    labels = ["streamed" if n is None else text.number(n) for n in sizes]
    at = list(map(_places(own), sizes))
    return axes.axis("training samples per rule", type="log", tickvals=at, ticktext=labels)


def _stopping(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """C3 and losses while training goes on, for the models that collapse."""
    drawn = []
    for row in [r for r in verdicts if r.get("curve")][:_MOST_CURVES]:
        curve = row["curve"]
        x = [p["samples"] for p in curve]
        best = min(curve, key=lambda p: p["validation_loss"])["samples"]
        top = max(p["validation_loss"] for p in curve) or 1.0
        traces = [
            fig.points(x, [p["c3"] for p in curve], "C3", fig.GUIDED, dash="dash", hollow=True),
            fig.points(x, [p["novel_c3"] for p in curve], "novel-C3", fig.GUIDED),
            fig.points(x, [p["validation_loss"] / top for p in curve], "validation loss",
                       fig.TILTED, dash="dot", hollow=True),
            fig.points(x, [p["train_loss"] / top for p in curve], "training loss",
                       fig.CONDITIONAL, dash="dot", hollow=True),
            fig.upright(best, "least validation loss"),
        ]  # fmt: skip
        title = f"{_name(row)}, {text.number(row['per_rule'])} a rule"
        across = axes.logarithmic("samples seen in training")
        drawn.append(fig.figure(traces, across, axes.shares("C3; losses as shares"), title))
    marks = [
        Mark("novel-C3", fig.GUIDED, "point"),
        Mark("C3, with copies", fig.GUIDED, "hollow"),
        Mark("validation loss over its largest", fig.TILTED, "hollow"),
        Mark("training loss over the same", fig.CONDITIONAL, "hollow"),
    ]
    return drawn, marks


def _half_empty(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """C3 and half-empty cells by data; dashed: the same weights drawn otherwise."""
    drawn = []
    for (measure,), own in rows.groups(evidence, "measure").items():
        drawn.append(_by_data(own, str(measure), colors, "way", ("solid", "dash", "dot")))
    ways = dict.fromkeys(str(r.get("way")) for r in evidence)
    looks = ("point", "hollow", "hollow")
    marks = [Mark(w, fig.INK, look) for w, look in zip(ways, looks, strict=False)]
    return drawn, marks


def _correlation(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """A point a rule and model: completion against the share of samples that obey it."""
    judged = {(_name(r), r.get("per_rule")) for r in verdicts if r.get("model") is not None}
    drawn = [r for r in evidence if r.get("rules") and (_name(r), r.get("per_rule")) in judged]
    last = {_name(r): r for r in drawn or evidence if r.get("rules")}
    traces = []
    for name, row in last.items():
        rules = row["rules"]
        x, y = ([p[c] for p in rules.values()] for c in ("completion", "c3"))
        dots = fig.points(x, y, name, colors[name], mode="markers")
        seen = [f"{text.safe(name)}: {text.safe(rule)}" for rule in rules]
        traces.append(dots | {"text": seen, "hovertemplate": "%{text}<extra></extra>"})
    x = axes.shares("completion of the rule")
    y = axes.shares("samples that obey it (C3)", whole=False)
    return [fig.figure(traces, x, y, "Rule by rule", height=330)], []


def _memorisation(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """Copies by data at each level, the natural overlap dashed."""
    drawn = []
    for (level,), own in rows.groups(evidence, "level").items():
        if level not in _LEVELS:
            continue
        figure = _by_data(own, f"copies: {level}", colors)
        first = next(iter(_lines(own).values()), [])
        look = {"dash": "dash", "hollow": True, "places": _places(own)}
        nature = _points(first, "nature", NATURE, "natural", **look)
        drawn.append(Figure([*figure.data, nature], figure.layout, f"Level: {level}"))
    return drawn, [Mark("natural overlap", NATURE, "hollow")]


def _held_out(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """Completion of held-out rules by data, the chance line dashed."""
    figure = _by_data(evidence, "completion of held-out rules", colors)
    first = next(iter(_lines(evidence).values()), [])
    look = {"dash": "dash", "hollow": True, "places": _places(evidence)}
    line = _points(first, "chance", NATURE, "chance", **look)
    drawn = Figure([*figure.data, line], figure.layout, figure.title, height=330)
    return [drawn], [Mark("chance: marginal fill", NATURE, "hollow")]


def _weights(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """Each measure by data, raw weights dashed."""
    measures = rows.groups(evidence, "measure")
    drawn = [
        _by_data(own, str(m), colors, "weights", ("solid", "dash"))
        for (m,), own in measures.items()
    ]
    return drawn, [Mark("EMA", fig.INK, "point"), Mark("raw", fig.INK, "hollow")]


def _clip(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """Completion clipped and not, of all samples and of those within the clip's reach."""
    drawn = []
    for name, group in _lines(evidence).items():
        traces = []
        for i, (column, label) in enumerate(
            (("value", "all"), ("within", "within reach"), ("beyond", "beyond reach"))
        ):
            known = rows.known(group, column)
            x = [f"{r['kind']}, {_cut(r)}" for r in known]
            ends = {e: [r.get(f"{column}_{e}") for r in known] for e in ("low", "high")}
            y = [r[column] for r in known]
            traces.append(fig.points(x, y, label, COLORS[i], mode="markers", **ends))
        ceiling = next((r["ceiling"] for r in group if rows.value(r, "ceiling") is not None), None)
        level = [] if ceiling is None else [fig.across(ceiling, "ceiling of clipped panels")]
        x = axes.axis("", type="category")
        y = axes.shares("completed")
        drawn.append(fig.figure([*traces, *level], x, y, name, height=330))
    labels = ("all samples", "answer within the clip's reach", "answer beyond it")
    marks = [Mark(label, COLORS[i], "point") for i, label in enumerate(labels)]
    return drawn, marks


def _cut(row: Row) -> str:
    return "unclipped" if row.get("clip") is None else f"clipped to {text.number(row['clip'])}"


def _samplers(evidence: Sequence[Row], verdicts: Sequence[Row], colors: Colors) -> Drawn:
    """C3 against the number of network evaluations, a figure a model, a line a sampler."""
    drawn = []
    kinds = list(dict.fromkeys(str(r["sampler"]) for r in evidence))
    for name, group in _lines(evidence).items():
        traces = []
        for i, kind in enumerate(kinds):
            line = sorted((r for r in group if r["sampler"] == kind), key=lambda r: r["nfe"])
            ends = {e: [r[f"value_{e}"] for r in line] for e in ("low", "high")}
            x, y = [r["nfe"] for r in line], [r["value"] for r in line]
            traces.append(fig.points(x, y, kind, COLORS[i], **ends))
        x = axes.logarithmic("network evaluations a sample")
        y = axes.shares(str(group[0]["measure"]), whole=False)
        drawn.append(fig.figure(traces, x, y, name, height=300))
    return drawn, [Mark(kind, COLORS[i], "point") for i, kind in enumerate(kinds)]


_DRAWN: dict[str, Callable[[Sequence[Row], Sequence[Row], Colors], Drawn]] = {
    "stopping": _stopping,
    "half-empty": _half_empty,
    "correlation": _correlation,
    "memorisation": _memorisation,
    "held-out": _held_out,
    "weights": _weights,
    "clip": _clip,
    "samplers": _samplers,
}
