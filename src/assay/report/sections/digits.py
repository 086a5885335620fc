"""Real digits by w: the images, their drift from held-out ones, their loss of diversity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from assay.report import axes, images, rows, text, verdict
from assay.report import blocks as b
from assay.report import figures as fig
from assay.report.blocks import Block, Figure, Finding, Mark, Picture, Section
from assay.report.rows import Row
from assay.report.sections import curves, pictures, sentences, sweep
from assay.runs import Run

CLAIM = "Real digits: strong guidance leaves the images and loses their diversity"
NEUTRAL = "Real digits"
EXACT_FOR = (
    "The denoisers are exact for the mixture of Gaussians fitted to the training images, not for "
    "handwriting itself: no network and no score error is in these figures."
)
COLUMNS = {
    "law": "law", "solver": "solver", "seed": "seed", "w": "w", "guidance_scale": "guidance_scale",
    "knn_distance": "distance to real", "knn_train": "… of training images",
    "vendi": "Vendi score", "precision": "precision", "recall": "recall", "density": "density",
    "coverage": "coverage", "class_odds": "class odds (nats)", "off_support": "off the class",
    "off_support_denoised": "… after final denoise", "w1_to_cond": "sliced W1 to conditional",
    "w1_to_tilted": "sliced W1 to tilt", "n": "n", "nfe": "evaluations",
}  # fmt: skip
_SHOWN, _ACROSS = 24, 4


def sections(run: Run) -> list[Section]:
    """Grids of digits, drift and diversity by w, trajectories, the table."""
    main = curves.main(run.rows)
    title = f"{text.target(run.config)}: real images, guided"
    lead = (
        "Handwritten digits, 8 × 8 pixels. Guided samples of one class by w, compared with images "
        "of that class that were held out of the fit."
    )
    blocks = [
        *grids(run), *measures(main), *pictures.trajectories(run), sweep.table(run.rows, COLUMNS)
    ]  # fmt: skip
    how = f"{sweep.method(run)} {_counts(main)}".strip()
    told = b.said(findings(run))
    return [Section(anchor(run), title, lead, told, blocks, how, text.command(run.config))]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"digits-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """Which w is inside, how far from the tilt; drift and diversity from w = 0 to the end."""
    main, name = curves.main(run.rows), text.target(run.config)
    told = (
        (sentences.INSIDE, [sentences.inside(name, main)]),
        (sentences.MISSES, [sentences.misses(name, main)]),
        (CLAIM if _worse(main) else NEUTRAL, [drift(main), diversity(main)]),
    )
    found = [(claim, [w for w in words if w]) for claim, words in told]
    return [
        Finding(claim, [*words, EXACT_FOR] if claim.startswith(NEUTRAL) else words, anchor(run))
        for claim, words in found
        if words
    ]


def _worse(main: Sequence[Row]) -> bool:
    """Whether samples of the largest w are farther from real images and cover fewer of them."""
    away, covered = _ends(main, "knn_distance"), _ends(main, "coverage")
    if away is None or covered is None:
        return False
    farther = away[1]["knn_distance"] > away[0]["knn_distance"]
    return farther and covered[1]["coverage"] < covered[0]["coverage"]


def drift(main: Sequence[Row]) -> str:
    """The distance to held-out images at the largest w, beside w = 0 and the training images."""
    ends = _ends(main, "knn_distance")
    if ends is None:
        return ""
    first, last = ends
    train = rows.value(last, "knn_train")
    yardstick = f" and {text.number(train, 3)} for training images" if train is not None else ""
    return (
        f"Median distance to the nearest held-out image: {text.number(last['knn_distance'], 3)} "
        f"at {text.weight(last['w'])}, against {text.number(first['knn_distance'], 3)} at "
        f"{text.weight(first['w'])}{yardstick} (n = {text.number(last.get('n'))} samples, "
        f"{text.number(last.get('n_data'))} images)."
    )


def diversity(main: Sequence[Row]) -> str:
    """Coverage and Vendi score at both ends."""
    ends = _ends(main, "coverage")
    if ends is None:
        return ""
    first, last = ends
    words = (
        f"Samples cover {text.percent(last['coverage'])} of the held-out images at "
        f"{text.weight(last['w'])}, {text.percent(first['coverage'])} at {text.weight(first['w'])}"
    )
    scores = [rows.value(r, "vendi") for r in ends]
    if None not in scores:
        words += (
            f"; the Vendi score, an effective number of different images, goes from "
            f"{text.number(scores[0], 3)} to {text.number(scores[1], 3)}"
        )
    return f"{words} (n = {text.number(last.get('n'))})."


def _ends(main: Sequence[Row], column: str) -> tuple[Row, Row] | None:
    """The rows of w = 0 (or the least w beyond it) and of the largest w."""
    usable = [r for r in rows.by_w(rows.known(main, column)) if r["w"] >= 0]
    return (usable[0], usable[-1]) if len(usable) > 1 else None


def grids(run: Run) -> list[Block]:
    """One grid of samples for each w, with its measures below."""
    items = [_grid(row, samples) for row, samples in pictures.of(run, "samples")]
    drawn = [i for i in items if i is not None]
    if not drawn:
        return []
    legend = (
        Mark("darker than any real pixel can be", images.ABOVE, "chip"),
        Mark("lighter than any", images.BELOW, "chip"),
    )
    caption = (
        f"The first {_SHOWN} guided digits at each w, from the same noise. Colour marks pixels "
        "that leave the grey scale of real images; below: the median distance to the nearest "
        "held-out image, and the share of held-out images that have a sample near."
    )
    return [b.Gallery(drawn, caption, legend, b.beside(len(drawn)))]


def _grid(row: Row, samples: np.ndarray) -> Picture | None:
    flat = np.nan_to_num(samples[:_SHOWN].reshape(min(len(samples), _SHOWN), -1))
    side = math.isqrt(flat.shape[1])
    if side * side != flat.shape[1] or not len(flat):
        return None
    note = (
        f"distance {text.number(rows.value(row, 'knn_distance'), 3)}, covers "
        f"{text.percent(rows.value(row, 'coverage'))}"
    )
    source = images.grid(flat.reshape(-1, side, side), _ACROSS)
    alt = f"{len(flat)} guided digits at {curves.title(row['w'])}"
    return Picture(source, alt, **curves.heading(row["w"]), note=note)


def measures(main: Sequence[Row]) -> list[Block]:
    """Distance to held-out images, diversity, agreement, shares off the class."""
    group = {"guided": rows.by_w(main)}
    score = axes.axis("Vendi score", rangemode="tozero")
    panels = [
        _distance(group),
        curves.curve(group, "vendi", score, "Diversity"),
        curves.curve(group, "coverage", axes.shares("share of images"), "Coverage"),
        curves.curve(group, "precision", axes.shares(), "Precision"),
        curves.off_support(group),
    ]
    drawn = [p for p in panels if p is not None]
    legend = (
        Mark("guided samples", fig.GUIDED, "point"),
        Mark("training images", fig.DATA, "dash"),
        Mark("w = 0, guidance_scale 1", fig.CONDITIONAL, "dot"),
    )
    caption = (
        "By w. Drift: median distance to the nearest held-out image; that of training images is "
        "the yardstick. Diversity: Vendi score, an effective number of different images. "
        "Coverage: held-out images with a sample near. Precision: samples near a held-out image. "
        f"Off the class: outside {sentences.region(main)} of the fitted class, limit "
        f"{text.percent(verdict.LIMIT)}; open circles without the final denoise."
    )
    return [b.Gallery(drawn, caption, legend, b.beside(len(drawn)))] if drawn else []


def _distance(group: curves.Groups) -> Figure | None:
    main = group["guided"]
    train = next((v for r in main if (v := rows.value(r, "knn_train")) is not None), None)
    plain = rows.value(rows.at(main, 0.0) or {}, "knn_distance")
    extra = [] if train is None else [fig.across(train, "", fig.DATA)]
    extra += [] if plain is None else [fig.across(plain, "", fig.CONDITIONAL, "dot")]
    axis = axes.axis("distance", rangemode="tozero")
    return curves.curve(group, "knn_distance", axis, "Drift", extra=extra)


def _counts(main: Sequence[Row]) -> str:
    row = next((r for r in main if r.get("n_data")), None)
    return f"{text.number(row['n_data'])} held-out images." if row else ""
