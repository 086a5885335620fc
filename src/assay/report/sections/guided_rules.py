"""Guided rules: consistency, diversity, support and samples of every family by w."""

from __future__ import annotations

import numpy as np

from assay.report import axes, images, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    THREE,
    TWO,
    Block,
    Cell,
    Gallery,
    Mark,
    Picture,
    Section,
    Table,
    Terms,
    bar,
    beside,
    percent,
    said,
)
from assay.report.rows import Row
from assay.report.sections import curves, guided_said
from assay.report.sections.guided_said import anchor, families, findings, part
from assay.runs import Run

__all__ = ["findings", "sections"]

_ACROSS, _LARGER, _PICTURES = 4, 2, 5
TERMS = (
    ("intended rule", "The rule whose label the model was given holds in all three rows; in "
     "one row or two it does not count. Some rule: that one or another (C3)."),
    ("diversity", "Vendi score, an effective number of different samples of a rule, as a share of "
     "that at w = 0, or of as many fresh samples of the data."),
    ("off the two values", "Cells are −1 or 1 in the data: the support is known exactly. A sample "
     "counts as off it where any pixel lies more than 0.5 from both. Families of tokens cannot "
     "leave it: they go wrong in which cells they fill."),
    ("exact", "A law that draws each row from a fixed set of rows of its rule, whose conditional "
     "and unconditional denoisers are known in closed form: guidance without any score error."),
    ("twin", "A network trained on that law: the difference of its denoisers from the exact ones "
     "is its score error."),
    ("novel", "No row of the sample equals a row of the training samples; beside it the natural "
     "overlap, how often rows of fresh data do."),
)  # fmt: skip


def sections(run: Run) -> list[Section]:
    """Measures by w, the front of consistency and diversity, the best w, samples, tables."""
    found = families(run)
    if not found:
        return []
    blocks: list[Block] = [*measures(found), *front(found), *best(run), *errors(run)]
    blocks += pictures(run, found)
    blocks += [*models(run), *table(found), Terms("The words of this section, explained", TERMS)]
    lead = (
        "Small models of genraven-mini (eight rules on which of 81 cells are occupied) are told a "
        "rule and guided towards it. The checker knows exactly whether a sample keeps the rule."
    )
    told, how = said(findings(run)), text.command(run.config)
    title = "What guidance buys and costs models of rules"
    return [Section(anchor(run), title, lead, told, blocks, method(run), how)]


def method(run: Run) -> str:
    """How the rows were made."""
    rules = run.config.get("rules")
    n_rules = len(rules) if isinstance(rules, list) else 0
    sampler = run.config.get("sampler")
    steps = sampler.get("n_steps") if isinstance(sampler, dict) else None
    return (
        f"Pooled over {text.plural(n_rules, 'rule')} and seeds "
        f"{text.number(run.config.get('seeds'))}; the best w is chosen on the first seed and "
        "measured on the others; Wilson intervals, 95 %, changes by Newcombe's. Continuous "
        f"families: DPM-Solver++ 2M, {text.number(steps)} steps. "
        f"{guided_said.trained(part(run, 'model'))}"
    )


def measures(found: dict[str, list[Row]]) -> list[Block]:
    """One panel a measure, one line a family."""
    shares, kept = axes.shares(), axes.axis("of that at w = 0", rangemode="tozero")
    made = [
        curves.curve(found, "intended", shares, "The intended rule holds"),
        curves.curve(found, "any_rule", shares, "Some rule holds (C3)"),
        curves.curve(found, "row_intended", axes.shares("share of rows"), "Rows that keep it"),
        curves.curve(found, "vendi_kept", kept, "Diversity that is left"),
        curves.curve(found, "novel_intended", shares, "Intended, and no row copied"),
        curves.curve(found, "off_support_denoised", shares, "Off the two values",
                     hollow="off_support"),
    ]  # fmt: skip
    drawn = [panel for panel in made if panel is not None]
    caption = (
        "By w, a line for each family, with 95 % intervals. Off the two values: samples with a "
        "pixel that is neither of the data's, continuous families only; open circles without the "
        "final denoise."
    )
    return [Gallery(drawn, caption, curves.legend(found), THREE)] if drawn else []


def front(found: dict[str, list[Row]]) -> list[Block]:
    """Diversity against consistency, a path along w for each family."""
    colors = curves.colors(found)
    traces = []
    for name, held in found.items():
        usable = rows.known(held, "vendi_of_data", "intended")
        if not usable:
            continue
        x, y = ([float(row[c]) for row in usable] for c in ("intended", "vendi_of_data"))
        trace = fig.points(x, y, name, colors[name])
        seen = [f"{text.safe(name)}<br>{curves.title(row['w'])}" for row in usable]
        start = ["circle-open", *["circle"] * (len(usable) - 1)]
        trace["marker"] = {**trace["marker"], "symbol": start}
        traces.append(trace | {"text": seen, "hovertemplate": "%{text}<extra></extra>"})
    if not traces:
        return []
    x = axes.shares("intended rule holds")
    y = axes.axis("Vendi score over that of the data", rangemode="tozero")
    panel = fig.figure([*traces, fig.across(1.0, "", fig.DATA)], x, y, "", height=330)
    caption = (
        "Each path starts at its open circle, w = 0, and follows w upwards. To the right: the "
        "rule is kept more often; up: samples differ more. The dashed line is the data's own "
        "diversity; above it samples differ because they are wrong."
    )
    title = "What is paid in diversity"
    return [Gallery([panel], caption, curves.legend(found), TWO, title)]


def best(run: Run) -> list[Block]:
    """The best w of each family: what it buys, what it costs."""
    found = rows.known(part(run, "best"), "w", "intended", "change")
    if not found:
        return []
    columns = ("family", "best w", "guidance_scale", "intended at w = 0", "intended", "change",
               "diversity left", "off the two values", "novel", "evaluations", "n")  # fmt: skip
    cells = [
        [str(r.get("family")), r["w"], r.get("guidance_scale"), bar(r.get("intended_at_0")),
         bar(r["intended"]), _change(r), Cell(text.ratio(rows.value(r, "vendi_kept"))),
         percent(rows.value(r, "off_support_denoised")), percent(rows.value(r, "novel")),
         r.get("nfe"), r.get("n")]
        for r in found
    ]  # fmt: skip
    alone = any(r.get("same_samples") for r in found)
    how = "the same samples" if alone else "samples of other seeds"
    caption = f"The w of most intended consistency on the first seed, measured on {how}."
    return [Table(columns, cells, caption, "Best w for the intended rule")]


def _change(row: Row) -> Cell:
    low, high = (guided_said.points(rows.value(row, f"change_{e}")) for e in ("low", "high"))
    return Cell(guided_said.points(rows.value(row, "change")), detail=f"{low} to {high}")


def errors(run: Run) -> list[Block]:
    """The score error of the twin by w: under the data, and on guided states."""
    found = rows.known(part(run, "error"), "w", "size_cond", "size_guided")
    held = {
        str(where): rows.by_w(group) for (where,), group in rows.groups(found, "where").items()
    }
    named = {guided_said.WHERE[w]: held[w] for w in guided_said.WHERE if w in held}
    axis = axes.logarithmic("size of the error")
    panels = [
        curves.curve(named, "size_cond", axis, "Of the denoiser given the rule"),
        curves.curve(named, "size_uncond", axis, "Of the one without it"),
        curves.curve(named, "size_guided", axis, "Of both, guided"),
    ]
    drawn = [panel for panel in panels if panel is not None]
    if not drawn:
        return []
    caption = (
        "The twin is a network trained on the exact law, so that its error is known at every "
        "state: root mean square of the predicted noise's error over all 81 cells and the "
        "solver's noise levels, with 95 % intervals. On guided states: where its own samples pass."
    )
    title = "The score error of a learned model, measured"
    return [Gallery(drawn, caption, curves.legend(named), THREE, title)]


def pictures(run: Run, found: dict[str, list[Row]]) -> list[Block]:
    """The first samples of every family at a few w, from the same noise."""
    made: list[Block] = []
    seeds = run.config.get("seeds")
    first = seeds[0] if isinstance(seeds, list) and seeds else 0
    legend = (
        Mark("beyond the darker value", images.ABOVE, "chip"),
        Mark("beyond the lighter value", images.BELOW, "chip"),
    )
    for name, held in found.items():
        drawn = []
        for i in fig.thinned(len(held), _PICTURES):
            pixels = rows.array(run, f"shown.{name}-w{held[i]['w']:g}-s{first}")
            if pixels is not None and (picture := _picture(name, held[i], pixels)):
                drawn.append(picture)
        if drawn:
            made.append(Gallery(drawn, "", (), beside(len(drawn)), f"Samples: {name}"))
    if made:
        last = made[-1]
        assert isinstance(last, Gallery)
        shown = run.config.get("shown")
        caption = (
            f"The first samples given rules {text.number(shown)}, from the same noise at every w. "
            "Dark: occupied cells. Colour: pixels beyond the data's values."
        )
        made[-1] = Gallery(last.items, caption, legend, last.width, last.title)
    return made


def _picture(name: str, row: Row, pixels: np.ndarray) -> Picture | None:
    if pixels.ndim != 3 or not pixels.size:
        return None
    note = (
        f"intended {text.percent(row['intended'])}, diversity "
        f"{text.ratio(rows.value(row, 'vendi_kept'))}"
    )
    alt = f"{len(pixels)} samples of {name} at {curves.title(row['w'])}"
    source = images.grid(framed(pixels), _ACROSS)
    return Picture(source, alt, **curves.heading(row["w"]), note=note)


def framed(pixels: np.ndarray) -> np.ndarray:
    """Images (n, 9, 9) drawn larger, a grey line around each panel."""
    clean = np.nan_to_num(pixels, nan=9.0, posinf=9.0, neginf=-9.0)
    larger = clean.repeat(_LARGER, axis=1).repeat(_LARGER, axis=2)
    for axis in (1, 2):
        edges = [0, 3 * _LARGER, 6 * _LARGER, 9 * _LARGER]
        larger = np.insert(larger, edges, 0.0, axis=axis)
    return larger


def models(run: Run) -> list[Block]:
    """What the families are: size, samples seen, what the label is worth on held-out samples."""
    found = part(run, "model")
    if not found:
        return []
    columns = ("family", "kind", "parameters", "samples seen", "held-out loss, rule told",
               "… untold", "gain", "natural overlap of rows", "n")  # fmt: skip
    cells = [
        [str(r.get("family")), str(r.get("family_kind")), r.get("parameters"),
         r.get("samples_seen"), _loss(r, "loss_told"), _loss(r, "loss_untold"),
         _loss(r, "label_gain"), percent(rows.value(r, "natural_row")), r.get("n")]
        for r in found
    ]  # fmt: skip
    caption = (
        "Held-out loss is each family's own, a mean over noise levels or a mean of nats a token: "
        "compare within a line. Natural overlap: fresh rows that occur among those learned from."
    )
    return [Table(columns, cells, caption, "Table: the families", folded=True)]


def _loss(row: Row, column: str) -> Cell:
    se = rows.value(row, f"{column}_se")
    detail = "" if se is None else f"± {text.number(1.96 * se, 2)}"
    return Cell(text.number(rows.value(row, column), 3), detail=detail)


def table(found: dict[str, list[Row]]) -> list[Block]:
    """Every pooled row."""
    columns = ("family", "w", "guidance_scale", "intended", "some rule", "rows intended",
               "diversity of w = 0", "of data", "distinct rows", "novel and intended",
               "copied rows", "off before denoise", "off", "empty panels", "evaluations",
               "n")  # fmt: skip
    cells = [
        [name, r["w"], r.get("guidance_scale"), _with_interval(r, "intended"),
         percent(rows.value(r, "any_rule")), percent(rows.value(r, "row_intended")),
         *(Cell(text.ratio(rows.value(r, c))) for c in ("vendi_kept", "vendi_of_data")),
         *(percent(rows.value(r, c)) for c in (
             "distinct_rows", "novel_intended", "copied_row", "off_support",
             "off_support_denoised", "empty_panels")),
         r.get("nfe"), r.get("n")]
        for name, held in found.items() for r in held
    ]  # fmt: skip
    return [Table(columns, cells, "", "Table: every family and w", folded=True)]


def _with_interval(row: Row, column: str) -> Cell:
    low, high = (text.percent(rows.value(row, f"{column}_{end}")) for end in ("low", "high"))
    return Cell(text.percent(rows.value(row, column)), detail=f"{low} to {high}")
