"""Learned digits by w: images, projected trajectories, measured quality, the rule's verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.report import axes, images, rows, text
from assay.report import blocks as b
from assay.report import figures as fig
from assay.report.blocks import Block, Cell, Figure, Finding, Gallery, Mark, Section, Table
from assay.report.rows import Row
from assay.report.sections import curves
from assay.runs import Run

CLAIM = "Learned digits: a monotone trajectory is no proof of a good w"
NEUTRAL = "Learned digits: monotone trajectories and the best w"
# measure: title, whether on a logarithmic axis
MEASURES = {
    "log_odds": ("Log-odds of the class (nats)", False),
    "knn": ("Distance to held-out over real", True),
    "far": ("Share beyond 95 % of real", False),
    "range_amount": ("Amount beyond the grey scale", True),
    "precision": ("Precision", False),
    "recall": ("Recall", False),
    "density": ("Density", False),
    "coverage": ("Coverage", False),
    "vendi": ("Vendi score", False),
    "frechet": ("Fréchet distance", True),
}
SCATTER = ("recall", "vendi")  # reward whatever scatters, on the data or off it
_OFTEN = 0.25  # of the pairs of digit and measure, where the rule as it is worded fails
_TOP, _BOTTOM = 2.5, -0.5  # of drawn trajectories; strong guidance goes far beyond
_LEAST = -25.0, 15.0  # of drawn log-odds, where strong guidance goes far below
_IMAGES = 30  # of a grid at most
_WIDE = 16  # pixels of an image, beyond which a grid shows fewer


def sections(run: Run) -> list[Section]:
    """Grids, trajectories, quality, verdicts and the rule's w digit by digit."""
    lead = (
        "A small denoiser learned from real handwritten digits, guided towards each digit from "
        "the same noise at every w. The paper's rule takes the largest w at which trajectories, "
        "projected on the class-mean direction, only rise; measured quality says whether that w "
        "is the best."
    )
    blocks = [*grids(run), *trajectories(run), *quality(run.rows), *verdicts(run.rows)]
    title = f"Learned digits {_size(run)}: where trajectories turn back, and the best w"
    told, how = b.said(findings(run)), text.command(run.config)
    return [Section(anchor(run), title, lead, told, blocks, method(run), how)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"imagestudy-{run.path.name}")


def _size(run: Run) -> str:
    return "28 × 28" if run.config.get("data") == "digits28" else "8 × 8"


def method(run: Run) -> str:
    """Samplers, evaluations, samples and what they are compared with."""
    told = []
    for (sampler,), found in rows.groups(_of(run.rows, "pooled"), "sampler").items():
        most = max((rows.value(r, "nfe") or 0 for r in found), default=0)
        told.append(f"{_name(sampler)}: {text.number(int(most))} network evaluations a sample")
    seen = _of(run.rows, "quality")
    n = {text.number(r.get("n")) for r in seen}
    seeds = {r.get("seed") for r in seen}
    data = {text.number(r.get("n_data")) for r in seen}
    return (
        f"{text.capital('; '.join(told))} at w above 0. {text.listed(sorted(n))} samples of a "
        f"digit from each of {text.plural(len(seeds), 'seed')}, compared with "
        f"{text.listed(sorted(data))} held-out images of that digit; nothing is clipped."
    )


def _name(sampler: Any) -> str:
    return {"ddpm": "DDPM", "heun": "Heun"}.get(str(sampler), str(sampler))


def _of(found: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in found if row.get("kind") == kind]


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """By sampler: the rule's w, and for how many digits it is as good as the best."""
    every = _of(run.rows, "claim")
    told = [
        _verdict(found, str(sampler))
        for (sampler, _), found in rows.groups(every, "sampler", "block_n").items()
    ]
    if not told:
        return []
    wrong = [row for row in every if not row.get("largest_holds") and _counts(row)]
    claim = CLAIM if len(wrong) > _OFTEN * len([r for r in every if _counts(r)]) else NEUTRAL
    return [Finding(claim, told, anchor(run))]


def _counts(row: Row) -> bool:
    return row.get("measure") not in SCATTER


def _verdict(claims: Sequence[Row], sampler: str) -> str:
    """One sentence on the claims of a sampler and a block."""
    usable = [row for row in claims if _counts(row)]
    digits = {row["digit"]: row for row in claims}
    held = _share(usable, "holds")
    literal = _share(usable, "largest_holds")
    n = next((r.get("n") for r in claims), None)
    return (
        f"{_name(sampler)}, {text.plural(len(digits), 'digit')}, {text.number(n)} samples of "
        f"each: trajectories only rise up to {_spread(list(digits.values()), 'w_rule')}, which "
        f"is as good as the best w by {held} of digits and measures; the largest w with a "
        f"monotone trajectory is {_spread(list(digits.values()), 'w_largest')}, as good as the "
        f"best by {literal}."
    )


def _share(found: Sequence[Row], name: str) -> str:
    k = sum(bool(row.get(name)) for row in found)
    return f"{k} of {len(found)} pairs"


def _spread(found: Sequence[Row], name: str) -> str:
    """The median w with its guidance_scale, and the ends over digits."""
    known = [v for row in found if (v := rows.value(row, name)) is not None]
    if not known:
        return "no w at all"
    middle, low, high = statistics.median_low(known), min(known), max(known)
    ends = "" if low == high else f" (from {text.number(low)} to {text.number(high)} by digit)"
    return f"{text.weight(middle)}{ends}"


# ---- images ------------------------------------------------------------------------------------


def grids(run: Run) -> list[Block]:
    """One grid for each w: some samples of every digit, after the final denoise."""
    block = (run.config.get("blocks") or [{}])[0]
    samplers = run.config.get("samplers") or []
    if not samplers or not block:
        return []
    drawn = []
    for w in sorted(run.config.get("w") or []):
        key = f"{samplers[0]}-n{block['n']}-w{w:g}-s{block['seeds'][0]}"
        found = rows.array(run, f"samples.{key}")
        if found is not None:
            drawn.append(_grid(found[-1], w))
    if not drawn:
        return []
    legend = (
        Mark("darker than any real pixel can be", images.ABOVE, "chip"),
        Mark("lighter than any", images.BELOW, "chip"),
    )
    caption = (
        f"{_name(samplers[0])}: the first samples of each digit at each w, from the same noise. "
        "Colour marks pixels that leave the grey scale of real images."
    )
    return [Gallery(drawn, caption, legend, b.beside(len(drawn)), "Guided digits")]


def _grid(samples: np.ndarray, w: float) -> b.Picture:
    n_digits, n, d = samples.shape
    side = math.isqrt(d)
    each = 1 if side > _WIDE else max(1, min(n, _IMAGES // n_digits))
    shown = np.clip(np.nan_to_num(samples[:, :each]), -9, 9).reshape(-1, side, side)
    source = images.grid(shown, 5 if n_digits == 10 and each == 1 else each * _across(n_digits))
    alt = f"{len(shown)} guided digits at {curves.title(w)}"
    return b.Picture(source, alt, **curves.heading(w))


def _across(n_digits: int) -> int:
    """Digits side by side."""
    return 2 if n_digits % 2 == 0 else 1


# ---- trajectories ------------------------------------------------------------------------------


def trajectories(run: Run) -> list[Block]:
    """The mean projection by noise level, a line for each w, a panel for each digit."""
    found = []
    for sampler in run.config.get("samplers") or []:
        for block in (run.config.get("blocks") or [])[:1]:
            panels = [
                panel
                for place, digit in enumerate(block["digits"])
                if (panel := _panel(run, (sampler, block), (place, digit)))
            ]
            if panels:
                found.append(_gallery(run, sampler, panels))
    return found


def _gallery(run: Run, sampler: str, panels: Sequence[Figure]) -> Gallery:
    grid = sorted(run.config["w"])
    marks = [
        Mark(f"w = {text.number(float(w))} (guidance_scale {text.number(1 + float(w))})", color)
        for w, color in zip(grid, fig.ramp(len(grid)), strict=True)
    ]
    caption = (
        "Mean projection from noise (left) to sample (right) in the coordinate x/√(1 + σ²): 0 is "
        "the mean of all digits, 1 the mean of the class. A line that falls has turned back; "
        "lines that leave the drawing go on outside."
    )
    title = f"Trajectories, {_name(sampler)}"
    return Gallery(panels, caption, marks, b.beside(len(panels)), title)


def _panel(run: Run, how: tuple[str, Row], at: tuple[int, int]) -> Figure | None:
    (sampler, block), (place, digit) = how, at
    traces, grid = [], sorted(run.config["w"])
    span: list[float] = []
    for w, color in zip(grid, fig.ramp(len(grid)), strict=True):
        keys = [f"{sampler}-n{block['n']}-w{w:g}-s{seed}" for seed in block["seeds"]]
        paths = [a for k in keys if (a := rows.array(run, f"q.{k}")) is not None]
        if not paths:
            continue
        sigmas = np.asarray(run.array(f"sigmas.{keys[0]}"))
        mean = np.mean([p[place].mean(axis=1) for p in paths], axis=0)
        traces.append(fig.line(sigmas, np.clip(mean, -99, 99), curves.title(w), color))
        span = [float(sigmas[-1]), float(sigmas[0])]
    if not traces:
        return None
    up = axes.axis("projection", range=[_BOTTOM, _TOP])
    return fig.figure(traces, axes.of_noise(*span), up, f"Digit {digit}", height=215)


# ---- quality -----------------------------------------------------------------------------------


def quality(found: Sequence[Row]) -> list[Block]:
    """Each measure by w: the median over digits, with the middle half of them."""
    pooled = _of(found, "pooled")
    real = _of(found, "real")
    panels = [p for m in MEASURES if (p := _measure(pooled, real, m))]
    if not panels:
        return []
    samplers = list(rows.groups(pooled, "sampler"))
    marks = [Mark(_name(sampler), fig.SERIES[i], "point") for i, (sampler,) in enumerate(samplers)]
    marks.append(Mark("real images", fig.DATA, "dash"))
    caption = (
        "By w, median over digits; bars reach over the middle half of the digits. Recall and the "
        "Vendi score reward whatever scatters, on the data or off it: alone they choose no w."
    )
    return [Gallery(panels, caption, marks, b.THREE, "Measured quality")]


def _measure(pooled: Sequence[Row], real: Sequence[Row], measure: str) -> Figure | None:
    name, logarithmic = MEASURES[measure]
    usable = rows.known(pooled, "w", measure)
    if not usable:
        return None
    grid = sorted({row["w"] for row in usable})
    traces: list[Any] = []
    for i, (_, own) in enumerate(rows.groups(usable, "sampler").items()):
        by_w = [np.array([r[measure] for r in own if r["w"] == w]) for w in grid]
        low, middle, high = (
            [float(np.quantile(v, q)) if len(v) else math.nan for v in by_w]
            for q in (0.25, 0.5, 0.75)
        )
        at = axes.places(grid, grid)
        label = _name(own[0].get("sampler"))
        traces.append(fig.points(at, middle, label, fig.SERIES[i], low=low, high=high))
    known = [r[measure] for r in rows.known(real, measure)]
    if known and (not logarithmic or statistics.median(known) > 0):
        traces.append(fig.across(statistics.median(known), "", fig.DATA))
    least = min(row[measure] for row in usable)
    usual = axes.axis("") if least >= _LEAST[0] else axes.axis("", range=list(_LEAST))
    axis = axes.logarithmic("") | {"dtick": 2} if logarithmic else usual
    return fig.figure(traces, axes.of_w(grid), axis, name)


# ---- the verdict -------------------------------------------------------------------------------


def verdicts(found: Sequence[Row]) -> list[Block]:
    """Of how many digits the rule's w is as good as the best, then w digit by digit."""
    blocks: list[Block] = []
    every = _of(found, "verdict")
    if every:
        columns = ["sampler", "samples a digit", "measure", "rule's w as good as the best",
                   "95 % interval", "… largest monotone w", "… w = 3, as in the paper",
                   "on or beside the best w", "w as good, of the grid"]  # fmt: skip
        lines = [_verdict_line(row) for row in every]
        caption = (
            "The rule's w: the largest up to which the mean trajectory of every w only rises "
            "(within 2 % of the way between the means; a fall counts where its simultaneous 95 % "
            "bound shows it). As good: its 95 % interval meets that of the best w."
        )
        blocks.append(Table(columns, lines, caption, "Does the monotone rule find the best w?"))
    claims = _of(found, "claim")
    if claims:
        blocks.append(by_digit(claims))
    return blocks


def _verdict_line(row: Row) -> list[Any]:
    n = int(row["n"])
    names = ("holds", "largest_holds", "paper_holds", "close")
    counts = {name: f"{round(row[name] * n)} of {n}" for name in names}
    between = f"{text.percent(row['holds_low'])} to {text.percent(row['holds_high'])}"
    return [
        _name(row["sampler"]), int(row["block_n"]) * len(row["seeds"]), str(row["measure"]),
        b.bar(row["holds"], counts["holds"]), Cell(between), counts["largest_holds"],
        counts["paper_holds"], counts["close"], rows.value(row, "n_as_good"),
    ]  # fmt: skip


def by_digit(claims: Sequence[Row]) -> Table:
    """The rule's w and the best w of every measure, a line for each sampler and digit."""
    lines = []
    for (sampler, n, digit), own in rows.groups(claims, "sampler", "n", "digit").items():
        first = own[0]
        best = {row["measure"]: row for row in own}
        told = [_w(first.get("w_rule"), first.get("w_rules")), _w(first.get("w_largest"), None)]
        told += [_w(best[m].get("w_best"), best[m].get("as_good")) for m in MEASURES if m in best]
        lines.append([_name(sampler), n, digit, *told])
    used = [m for m in MEASURES if any(row["measure"] == m for row in claims)]
    columns = ["sampler", "n", "digit", "rule's w", "largest monotone w", *used]
    caption = (
        "w (guidance_scale = 1 + w). Below the rule's w: from each seed by itself, least to "
        "largest; below the best w of a measure: the w as good, least to largest."
    )
    return Table(columns, lines, caption, "w digit by digit", folded=True)


def _w(value: Any, others: Any) -> Cell:
    """A w, and the ends of a list of w below it."""
    known = sorted(v for v in others or [] if v is not None)
    detail = f"{text.number(known[0])} to {text.number(known[-1])}" if known else ""
    return Cell(text.number(value), detail=detail)
