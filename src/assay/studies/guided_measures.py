"""What guided draws are worth: the intended rule, novelty, diversity, support; and their pooling.

Of draws given a rule r, the checker's answer being exact:

    intended       r holds in all three rows                         (a sample)
    any_rule       some rule does, r or another: C3                  (a sample)
    row_intended   r holds                                           (a row)
    novel          no row is a copy of a row learned from; novel_intended: and r holds
    copied_*       copies at the level of samples, rows and panels: equal in every cell
    distinct_rows  different rows over rows
    hamming        mean share of the 81 cells in which two samples differ
    vendi          effective number of different samples (cosine), of n
    counts         exp(entropy) of the objects in a row's three panels: effective number of triples
    empty_panels   panels without an object, which obey nothing

Pixels of continuous families are known to be -1 or 1: a pixel is off the support where it lies
farther than `MARGIN` from both, beyond it or between them.

    off_support_denoised  samples with a pixel off the support
    off_support           the same before the solver's final denoise
    pixels_beyond, pixels_between   shares of pixels, after it

Shares have 95 % Wilson intervals, those of parts of a sample at the effective number of trials
(`rules.shares`). A change is a difference of two shares with Newcombe's interval (1998, eq. 10).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.core import intervals, stats
from assay.rules import genraven, memorisation, shares
from assay.rules.evaluate import flat
from assay.studies.guided_models import Draws

Row = dict[str, Any]
MARGIN = 0.5  # of pixel values, half the way from a data value to the middle
DIVERSITY = ("vendi", "hamming", "counts", "distinct_rows")
MEANS = (*DIVERSITY, "pixels_beyond", "pixels_between", "empty_panels")
SHARES = ("intended", "any_rule", "novel", "novel_intended", "copied_sample",
          "off_support", "off_support_denoised")  # fmt: skip
ROWS = ("row_intended", "copied_row")


def of_draws(draws: Draws, rule: int, index: memorisation.Index | None) -> Row:
    """Every measure of n >= 2 draws given a rule; index None leaves copies and novelty out."""
    x = draws.panels
    held = genraven.check(x)
    intended = held[:, :, rule]
    row: Row = {"n": len(x), "nfe": draws.nfe}
    row |= flat("intended", shares.share(np.all(intended, axis=1)))
    row |= flat("any_rule", shares.share(np.any(np.all(held, axis=1), axis=1)))
    row |= by_rows("row_intended", intended)
    row |= diversity(x) | support(draws)
    row["empty_panels"] = float((x[..., 0] < 0).all(-1).mean())
    return row if index is None else row | novelty(x, intended, index)


def by_rows(name: str, flags: np.ndarray) -> Row:
    """A share of rows from flags (n, 3), and how many samples have 0, 1, 2 and 3 of them."""
    tally = np.bincount(flags.sum(1), minlength=4).tolist()
    return {**flat(name, shares.share(flags)), f"{name}_tally": tally}


def novelty(x: np.ndarray, intended: np.ndarray, index: memorisation.Index) -> Row:
    """Copies of what was learned from; x as far as the model's codes tell."""
    found = index.query(x)
    novel = np.logical_not(np.any(found["row"], axis=1))
    return {
        **flat("novel", shares.share(novel)),
        **flat("novel_intended", shares.share(np.logical_and(novel, np.all(intended, axis=1)))),
        **flat("copied_sample", shares.share(found["sample"])),
        **by_rows("copied_row", found["row"]),
        "copied_panel": float(found["panel"].mean()),
    }


def diversity(x: np.ndarray) -> Row:
    """How much samples differ from one another, from their occupied cells."""
    cells = (x[..., 0] >= 0).reshape(len(x), -1)
    rows = cells.reshape(3 * len(x), -1)
    filled = cells.mean(0)
    pairs = len(x) / (len(x) - 1)
    triples = rows.reshape(len(rows), 3, 9).sum(2)
    counts = np.unique(triples, axis=0, return_counts=True)[1] / len(rows)
    return {
        "vendi": stats.vendi(2.0 * cells - 1.0),
        "hamming": float((2 * filled * (1 - filled)).mean() * pairs),
        "counts": math.exp(float(-(counts * np.log(counts)).sum())),
        "distinct_rows": len(np.unique(np.packbits(rows, axis=1), axis=0)) / len(rows),
    }


def support(draws: Draws) -> Row:
    """Where pixels lie, for continuous families; empty for others, whose cells cannot leave."""
    if draws.pixels is None or draws.before is None:
        return {}
    beyond, between = _off(draws.pixels)
    row: Row = {"pixels_beyond": float(beyond.mean()), "pixels_between": float(between.mean())}
    row |= flat("off_support_denoised", shares.share(np.any(beyond | between, axis=1)))
    before = np.logical_or(*_off(draws.before))
    return row | flat("off_support", shares.share(np.any(before, axis=1)))


def _off(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool (n, 81) twice: beyond the two data values, between them; NaN counts as beyond."""
    size = np.abs(pixels.reshape(len(pixels), -1))
    return ~(size <= 1 + MARGIN), size < 1 - MARGIN


# ---- pooling ------------------------------------------------------------------------------------


def pooled(rows: Sequence[Row]) -> Row:
    """The rows of several rules and seeds as one: shares of all samples, means of the rest."""
    total: Row = {"n": sum(row["n"] for row in rows), "nfe": rows[0]["nfe"]}
    for name in SHARES:
        if name in rows[0]:
            k = sum(round(row[name] * row[f"{name}_n"]) for row in rows)
            total |= _wilson(name, k, sum(row[f"{name}_n"] for row in rows))
    for name in ROWS:
        if name in rows[0]:
            tally = np.sum([row[f"{name}_tally"] for row in rows], axis=0)
            flags = np.arange(3) < np.arange(4).repeat(tally)[:, None]
            total |= by_rows(name, flags)
    for name in (*MEANS, "copied_panel"):
        if name in rows[0]:
            total[name] = float(np.mean([row[name] for row in rows]))
    return total


def _wilson(name: str, k: int, n: int) -> Row:
    low, high = intervals.wilson(k, n)
    return {name: k / n, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}


def kept(rows: Sequence[Row], base: Sequence[Row], suffix: str) -> Row:
    """Diversity over that of other rows of the same rules and seeds, in pairs: NAME_SUFFIX.

    The interval is of the mean ratio, 1.96 standard errors over the pairs.
    """
    there = {(row["rule"], row["seed"]): row for row in base}
    made: Row = {}
    for name in DIVERSITY:
        ratios = [row[name] / there[row["rule"], row["seed"]][name] for row in rows]
        mean = float(np.mean(ratios))
        half = 1.96 * float(intervals.mean_se(ratios)[1]) if len(ratios) > 1 else math.nan
        made |= {f"{name}_{suffix}": mean, f"{name}_{suffix}_low": mean - half,
                 f"{name}_{suffix}_high": mean + half}  # fmt: skip
    return made


def change(k: int, n: int, k0: int, n0: int) -> tuple[float, float, float]:
    """(k/n - k0/n0, low, high): Newcombe's interval of the difference of two shares."""
    p, p0 = k / n, k0 / n0
    (low, high), (low0, high0) = intervals.wilson(k, n), intervals.wilson(k0, n0)
    down = math.hypot(p - low, high0 - p0)
    up = math.hypot(high - p, p0 - low0)
    return p - p0, p - p0 - down, p - p0 + up
