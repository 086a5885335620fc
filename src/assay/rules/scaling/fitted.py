"""Rows of a finished study's curves: thresholds, fits on a grid with bands, held-out sizes.

For every model, rule set and measure the trainings are counts of successes at samples per rule;
their curve is `thresholds.Curve`. Bands are 95 % of its refits to counts drawn again. Each inner
size is predicted from the others; the aim is an error within 0.07.

Curves rise with data. Where a share falls (C3 does where little data are copied), by more than a
tenth from one size to a larger one, with Wilson intervals and all trainings of the two apart, no
threshold is said, and ``rises`` is false in every row of it. ``moves``: the fit spans 0.2 or more
over the sizes measured; where it does not, a prediction is easy. Where many rows of fresh data
occur among the training rows by chance, no model can be all new: ``fresh`` says how new data are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay import progress
from assay.core.intervals import wilson
from assay.rules.scaling.thresholds import Counts, Curve, held_out

METRICS = ("c3", "novel_c3", "completion_trained", "completion_held_out")
SHARES = (0.5, 0.9)
AIM = 0.07
_DRAWS, _GRID, _SIZES = 100, 41, 3
_FALL, _MOVES = 0.1, 0.2

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


def groups(rows: Rows) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Trainings by model and rule set, in the order in which they first appear."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["rule_set"]), []).append(row)
    return found


def about(model: str, rule_set: str, rows: Rows) -> Row:
    """What a row says of the trainings it comes from."""
    return {
        "model": model, "rule_set": rule_set, "recipe": rows[0].get("recipe"),
        "family": rows[0].get("family"), "n_trainings": len(rows),
        "seeds": sorted({row["seed"] for row in rows}),
    }  # fmt: skip


def rows(study: Rows, advance: progress.Advance) -> list[Row]:
    """Thresholds, curves and held-out sizes of a study's finished jobs; moves on by 1 in all."""
    found: list[Row] = []
    by_model = groups(study)
    for (model, rule_set), group in by_model.items():
        for metric in METRICS:
            usable = [r for r in group if r.get("per_rule") and r.get(metric) is not None]
            if usable:
                found += _of_metric(model, rule_set, metric, usable)
            advance(1 / (len(by_model) * len(METRICS)))
    return [*found, *_summaries(found), *_fresh(study)]


def _of_metric(model: str, rule_set: str, metric: str, usable: Rows) -> Iterator[Row]:
    said = {**about(model, rule_set, usable), "metric": metric}
    stem = f"{model}.{rule_set}/{metric}"
    counts = [_counts(row, metric) for row in usable]
    sizes = sorted({c.per_rule for c in counts})
    said |= {"sizes": sizes, "n": sum(c.trials for c in counts)}
    if len(sizes) < _SIZES:
        why = f"{len(sizes)} of the {_SIZES} sizes of data that a curve needs"
        for share in SHARES:
            yield {**_named("threshold", stem, share), **said, "share": share,
                   "per_rule": None, "low": None, "high": None, "said": why}  # fmt: skip
        return
    curve, fall = Curve(counts), _fall(counts)
    said |= {"rises": not fall, "moves": np.ptp(curve(np.array(sizes))) >= _MOVES}
    ends = dict(zip(("range_low", "range_high"), curve.range, strict=True))
    for share in SHARES:
        found = curve.threshold(share)
        yield {**_named("threshold", stem, share), **said, **ends, "share": share,
               "per_rule": None if fall else found.value, "low": None if fall else found.low,
               "high": None if fall else found.high, "said": fall or found.said,
               "phi": curve.phi}  # fmt: skip
    yield {"key": f"curve/{stem}", "part": "curve", **said, **ends, **_drawn(curve)}
    for row in held_out(counts):
        yield {**_predicted(stem, row, counts), **said}


def _named(part: str, stem: str, share: float) -> Row:
    return {"key": f"{part}/{stem}/N{round(100 * share)}", "part": part}


def _counts(row: Mapping[str, Any], metric: str) -> Counts:
    n = int(row[f"{metric}_n"])
    return Counts(float(row["per_rule"]), row[metric] * n, n)


def _fall(counts: Sequence[Counts]) -> str:
    """Between which sizes the share falls most, if it clearly does."""
    sizes = sorted({c.per_rule for c in counts})
    pooled = [_pooled([c for c in counts if c.per_rule == size]) for size in sizes]
    falls = [
        (small.share - large.share, small.size, large.size)
        for i, small in enumerate(pooled)
        for large in pooled[i + 1 :]
        if small.share - large.share > _FALL and large.high < small.low
    ]
    if not falls:
        return ""
    _, first, later = max(falls)
    small, large = (next(p for p in pooled if p.size == size) for size in (first, later))
    return f"falls from {small.share:.2f} at {first:g} to {large.share:.2f} at {later:g} per rule"


class _Pooled(NamedTuple):
    """All trainings of a size: their share; ends of its interval, of the trainings' if wider."""

    size: float
    share: float
    low: float
    high: float


def _pooled(here: Sequence[Counts]) -> _Pooled:
    k, n = sum(c.successes for c in here), sum(c.trials for c in here)
    low, high = wilson(round(k), n)
    each = [c.successes / c.trials for c in here]
    return _Pooled(here[0].per_rule, k / n, min(low, *each), max(high, *each))


def _drawn(curve: Curve) -> Row:
    """The curve on a grid of sizes, with its band."""
    grid = np.geomspace(*curve.range, _GRID)
    grid[[0, -1]] = curve.range  # rounding would leave the range
    ceiling, slope, middle = (column[:, None] for column in curve.draws(_DRAWS).T)
    each = ceiling / (1 + np.exp(-slope * (np.log(grid) - middle)))
    low, high = np.quantile(each, [0.025, 0.975], axis=0)
    names = dict(zip(("ceiling", "slope", "middle"), curve.params.tolist(), strict=True))
    return {**names, "phi": curve.phi, "grid": grid, "p": curve(grid), "p_low": low,
            "p_high": high, "n_draws": _DRAWS}  # fmt: skip


def _predicted(stem: str, row: Mapping[str, float], counts: Sequence[Counts]) -> Row:
    """A held-out size: the prediction, and the interval of what was observed."""
    here = [c for c in counts if c.per_rule == row["per_rule"]]
    trials = sum(c.trials for c in here)
    low, high = wilson(round(sum(c.successes for c in here)), trials)
    return {
        "key": f"held-out/{stem}/n{row['per_rule']:g}", "part": "held_out", **row,
        "observed_low": low, "observed_high": high, "observed_n": trials, "aim": AIM,
        "within": abs(row["error"]) <= AIM,
    }  # fmt: skip


def _fresh(study: Rows) -> Iterator[Row]:
    """The novel-C3 of fresh data: its three rows are independent, each new or not."""
    usable = [r for r in study if r.get("per_rule") and r.get("natural_row_n")]
    for rule_set in dict.fromkeys(r["rule_set"] for r in usable):
        for size in sorted({r["per_rule"] for r in usable if r["rule_set"] == rule_set}):
            here = [r for r in usable if (r["rule_set"], r["per_rule"]) == (rule_set, size)]
            once = {r["seed"]: r for r in here}.values()  # models of a seed meet the same data
            n = sum(r["natural_row_n"] for r in once)
            k = round(sum(r["natural_row"] * r["natural_row_n"] for r in once))
            low, high = wilson(k, n)
            yield {
                "key": f"fresh/{rule_set}/n{size}", "part": "fresh", "rule_set": rule_set,
                "per_rule": size, "seeds": sorted(r["seed"] for r in once), "n": n,
                "novel_c3": (1 - k / n) ** 3, "novel_c3_low": (1 - high) ** 3,
                "novel_c3_high": (1 - low) ** 3,
            }  # fmt: skip


def _summaries(found: Sequence[Row]) -> Iterator[Row]:
    """How far predictions were off: by measure, of all, of all that rise, of all that move."""
    made = [row for row in found if row["part"] == "held_out"]
    for metric in (*METRICS, "all", "rising", "moving"):
        own = [row for row in made if metric in (row["metric"], "all")]
        own += [row for row in made if metric == "rising" and row["rises"]]
        own += [row for row in made if metric == "moving" and row["rises"] and row["moves"]]
        errors = [abs(row["error"]) for row in own]
        if errors:
            within = sum(error <= AIM for error in errors)
            low, high = wilson(within, len(errors))
            yield {
                "key": f"held-out-summary/{metric}", "part": "held_out_summary",
                "metric": metric, "n": len(errors), "mean_error": float(np.mean(errors)),
                "largest_error": max(errors), "n_within": within, "aim": AIM,
                "within": within / len(errors), "within_low": low, "within_high": high,
            }  # fmt: skip
