"""Is the largest w with a monotone projection the best w? The rule against measured quality.

The rule has two readings, which differ where very strong guidance drives samples so far out that
their projection only rises again: ``w_rule``, the largest w up to which every mean trajectory of
the grid is monotone (`image_paths`), and ``w_largest``, the largest w with a monotone one, as it
is worded. The seeds of a block are pooled; ``w_rule_strict`` goes by the estimate alone,
``w_rules`` are those of each seed by itself. For each measure of `image_quality`

    w_best   the w of the best value, the seeds pooled; w_bests: of each seed by itself
    as_good  the w whose 95 % interval meets that of the best: no worse as far as was measured
    holds    w_rule is one of these (largest_holds: w_largest is; paper_holds: PAPER is)
    close    w_rule is w_best or its neighbour on the grid

Many w may be as good as each other where little changes with w or few samples are drawn: then
the claim holds without saying much, and ``n_as_good`` tells so. recall and vendi reward whatever
scatters, on the data or off it: alone they choose no w.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from assay.core import intervals
from assay.guidance.images import paths as image_paths
from assay.guidance.images import quality as image_quality
from assay.guidance.images.group import Group

PAPER = 3.0  # the w that the paper's rule chose on MNIST


def rows(run: Any, config: Any, sampler: str, block: Any) -> list[dict[str, Any]]:
    """Rows "pooled" (digit, w), "claim" (digit, measure) and "verdict" (measure) of a block."""
    pooled, claims = [], []
    for digit in block.digits:
        by_w = [_pooled(run, config, (sampler, block), (digit, w)) for w in config.w]
        pooled += by_w
        claims += _claims(run, config, (sampler, block), by_w)
    return pooled + claims + _verdicts(claims, sampler, block)


def _group(sampler: str, block: Any, w: float, seed: int) -> str:
    return Group(sampler, block, w, seed).key


def _pooled(run: Any, config: Any, how: tuple[str, Any], at: tuple[int, float]) -> dict[str, Any]:
    """The same measures of all seeds' samples together."""
    (sampler, block), (digit, w) = how, at
    place = block.digits.index(digit)
    keys = [_group(sampler, block, w, seed) for seed in block.seeds]
    q = np.concatenate([run.array(f"q.{key}")[place] for key in keys], axis=1)
    samples = [run.array(f"samples.{key}")[:, place] for key in keys]
    x, denoised = np.concatenate(samples, axis=1).astype(np.float64)
    ref = image_quality.reference(config.data, digit)
    seeded = _seeded(run, how, digit)
    return {
        "key": f"pooled-{sampler}-d{digit}-n{block.n}-w{w:g}", "kind": "pooled",
        "data": config.data, "sampler": sampler, "digit": digit, "w": w,
        "guidance_scale": 1 + w, "seed": None, "seeds": block.seeds, "block_n": block.n,
        "nfe": next(r["nfe"] for r in seeded if r["w"] == w),
        **image_paths.monotone(q.astype(np.float64)),
        "q_final": float(q[-1].mean()),
        **image_quality.quality(x, denoised, ref),
    }  # fmt: skip


def _seeded(run: Any, how: tuple[str, Any], digit: int) -> list[dict[str, Any]]:
    """The rows of every seed and w of a digit."""
    sampler, block = how
    return [
        row
        for row in run.rows
        if row.get("kind") == "quality"
        and (row["sampler"], row["digit"], row["n"]) == (sampler, digit, block.n)
        and row["seed"] in block.seeds
    ]


def largest(found: list[dict[str, Any]], name: str = "monotone") -> float | None:
    """The largest w of the rows whose trajectory is monotone; None where none is."""
    return max((row["w"] for row in found if row[name]), default=None)


def ruled(found: list[dict[str, Any]], name: str = "monotone") -> float | None:
    """The largest w up to which every trajectory is monotone; None where the first is not."""
    by_w = sorted(found, key=lambda row: row["w"])
    return largest(list(itertools.takewhile(lambda row: row[name], by_w)), name)


def best(found: list[dict[str, Any]], measure: str) -> dict[str, Any]:
    """The row of the best value; of equal ones that of the least w."""
    sign = -1 if image_quality.BETTER[measure] else 1
    return min(found, key=lambda row: (sign * row[measure], row["w"]))


def as_good(found: list[dict[str, Any]], measure: str) -> list[float]:
    """The w whose interval meets that of the best."""
    top = best(found, measure)
    low, high = f"{measure}_low", f"{measure}_high"
    return [r["w"] for r in found if r[high] >= top[low] and r[low] <= top[high]]


def _claims(
    run: Any, config: Any, how: tuple[str, Any], by_w: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    (sampler, block), digit = how, by_w[0]["digit"]
    each = _seeded(run, how, digit)
    seeds = [[row for row in each if row["seed"] == seed] for seed in block.seeds]
    rule, literal, grid = ruled(by_w), largest(by_w), sorted(config.w)
    shared = {
        "kind": "claim", "data": config.data, "sampler": sampler, "digit": digit,
        "n": by_w[0]["n"], "seed": None, "seeds": block.seeds, "block_n": block.n,
        "nfe": max(row["nfe"] for row in by_w), "w_rule": rule, "w_largest": literal,
        "w_rule_strict": ruled(by_w, "monotone_drop"),
        "w_rules": [ruled(part) for part in seeds],
    }  # fmt: skip
    claims = []
    for measure in image_quality.BETTER:
        top, good = best(by_w, measure), as_good(by_w, measure)
        at_rule = next((row[measure] for row in by_w if row["w"] == rule), None)
        near = rule is not None and abs(grid.index(rule) - grid.index(top["w"])) <= 1
        claims.append({
            "key": f"claim-{sampler}-d{digit}-n{block.n}-{measure}", **shared,
            "measure": measure, "w_best": top["w"],
            "w_bests": [best(part, measure)["w"] for part in seeds],
            "as_good": good, "n_as_good": len(good), "value_best": top[measure],
            "value_best_low": top[f"{measure}_low"], "value_best_high": top[f"{measure}_high"],
            "value_rule": at_rule, "holds": rule in good, "close": near,
            "largest_holds": literal in good, "paper_holds": PAPER in good,
        })  # fmt: skip
    return claims


def _verdicts(claims: list[dict[str, Any]], sampler: str, block: Any) -> list[dict[str, Any]]:
    """Of how many digits the claim holds, measure by measure."""
    said = []
    for measure in image_quality.BETTER:
        own = [row for row in claims if row["measure"] == measure]
        row = {
            "key": f"verdict-{sampler}-n{block.n}-{measure}", "kind": "verdict",
            "data": own[0]["data"], "sampler": sampler, "measure": measure,
            "block_n": block.n, "n": len(own), "seed": None, "seeds": block.seeds,
            "n_as_good": float(np.mean([r["n_as_good"] for r in own])),
        }  # fmt: skip
        for name in ("holds", "close", "largest_holds", "paper_holds"):
            k = sum(r[name] for r in own)
            low, high = intervals.wilson(k, len(own))
            row |= {name: k / len(own), f"{name}_low": low, f"{name}_high": high}
        said.append(row)
    return said
