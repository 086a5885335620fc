"""A capacity rule put to the test: bits in the data against parameters x bits per parameter.

A network that can hold kappa bits a parameter can hold a training set of B bits where
B <= kappa P, P its parameters. The rule says: up to there training memorises, beyond it cannot,
so that copies fall to the natural overlap and novel-C3 rises at the N with

    B(N) = N |R| H - log2 (N |R|)! = kappa P                    (`databits`)

kappa = 2 is what language models hold of facts (Allen-Zhu and Li 2024, arXiv 2404.05405), 3.6
what they hold of random strings (Morris et al. 2025, arXiv 2505.24832), both after training
without end.

Against it stand two rules that know nothing of parameters: N alone, and passes over the data
(samples seen by samples there are). Measured of each model are

    copies  the sizes between which copied rows fall to nature (mean ends of the 95 % intervals)
    novel   the sizes between which novel-C3 passes half of what the model reaches (`collapse`)

each a bracket of two sizes, its middle in ln N. The rule "predicts" where, fitted to the other
models (the mean of ln kappa), it gives a model's middle within a factor of two (root mean square
of the logarithms, over three models or more) and closer than N alone does. Fixed beforehand.

Of families with a likelihood the bits held are measured too, in the sense of Morris et al. with
the true law as reference: n (H - h), h the bits of a training sample to the model at its last
probe (masked: the bound on them), 0 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from assay.core import intervals
from assay.rules import bindings, mini, recipes
from assay.rules.recipe import Recipe
from assay.rules.scaling import collapse, databits

Row = Mapping[str, Any]
KAPPAS = (2.0, 3.6)
_FACTOR = 2.0
_MODELS = 3
_LIKELIHOOD = ("autoregressive", "masked", "panelorder", "settoken")


def sample_bits(row: Row) -> float | None:
    """Bits of a sample that a study's row was trained on; None where they are not known."""
    recipe = _recipe(row)
    if recipe is None or not bindings.get(recipe.binding).occupancy_only:
        return None
    named = {"mini": mini.TRAINED, "own": recipe.data.rules}
    ids = row["rule_set"].split("+")
    rules = named.get(row["rule_set"], tuple(int(i) for i in ids if i.isdecimal()))
    if not rules or set(rules) - set(mini.RULES):
        return None
    return databits.sample_bits(rules)


def _recipe(row: Row) -> Recipe | None:
    try:
        return recipes.get(row["recipe"])
    except ValueError:
        return None


def rows(study_rows: Sequence[Row]) -> list[dict[str, Any]]:
    """JSON rows: part capacity_run (bits of each training), capacity (each model's thresholds
    beside the predictions), capacity_fit (the rules compared), or one row capacity_said where
    no training has bits that are known.
    """
    runs = [found for row in study_rows if (found := _run(row)) is not None]
    if not runs:
        said = "bits are known for rules 30 to 39 of models that see occupancy alone: none here"
        return [{"key": "capacity_said", "part": "capacity_said", "n": 0, "said": said}]
    models = [
        _model([run for run in runs if _name(run) == name])
        for name in dict.fromkeys(_name(run) for run in runs)
    ]
    return runs + models + _compared(runs, models)


def _name(row: Row) -> str:
    return f"{row['model']}.{row['rule_set']}"


# ---- one training ----------------------------------------------------------------------------


def _run(row: Row) -> dict[str, Any] | None:
    """The bits of a training; None where they are not known or it was streamed."""
    names = ("novel_c3", "copies_row", "parameters", "samples_seen")
    if row["per_rule"] is None or any(row.get(name) is None for name in names):
        return None
    each = sample_bits(row)
    if each is None:
        return None
    n = row["per_rule"] * row["n_rules"]
    total = databits.set_bits(n, each)
    held = _held(row, n, each)
    about = ("model", "family", "rule_set", "per_rule", "n_rules", "seed", "parameters")
    shares = [f"{name}{end}" for name in ("novel_c3", "copies_row", "natural_row")
              for end in ("", "_low", "_high", "_n")]  # fmt: skip
    return {
        "key": f"capacity_run/{row['key']}", "part": "capacity_run", "n": row["novel_c3_n"],
        **{name: row[name] for name in about}, **{name: row.get(name) for name in shares},
        "sample_bits": each, "data_bits": total, "passes": row["samples_seen"] / n,
        "bits_per_parameter": total / row["parameters"], "held_bits": held,
        "held_per_parameter": None if held is None else held / row["parameters"], "nfe": 0,
    }  # fmt: skip


def _held(row: Row, n: int, each: float) -> float | None:
    """Bits of the training set that the model holds; None without a likelihood."""
    recipe = _recipe(row)
    last = [p for p in row["probes"] if p["step"] == row["n_steps"]]
    if recipe is None or row["family"] not in _LIKELIHOOD or row["model"] != row["recipe"]:
        return None
    options = recipe.options
    weighted = options.get("hard") or options.get("set_weights")
    if not last or weighted or options.get("last_weight", 1.0) != 1.0:
        return None
    tokens = math.prod(bindings.get(recipe.binding).shape)
    return n * max(0.0, each - last[0]["train_loss"] * tokens / math.log(2))


# ---- one model -------------------------------------------------------------------------------


def _model(runs: Sequence[Row]) -> dict[str, Any]:
    """A model's brackets and where the rule puts them."""
    first = runs[0]
    n_rules, parameters = first["n_rules"], first["parameters"]
    sizes = sorted({run["per_rule"] for run in runs})
    row: dict[str, Any] = {
        "key": f"capacity/{_name(first)}", "part": "capacity", "n": len(runs),
        "rule_set": first["rule_set"], "sizes": sizes,
        "seeds": sorted({run["seed"] for run in runs}), "nfe": 0,
        **{k: first[k] for k in ("model", "family", "parameters", "n_rules", "sample_bits")},
    }  # fmt: skip
    for name, found in (("copies", _copies(runs, sizes)), ("novel", _novel(runs, sizes))):
        low, high = found
        middle = math.sqrt(low * high) if low and high else None
        row |= {name: middle, f"{name}_low": low, f"{name}_high": high}
        for end, size in (("", middle), ("_low", low), ("_high", high)):
            bits = None if size is None else databits.set_bits(size * n_rules, row["sample_bits"])
            row[f"kappa_{name}{end}"] = None if bits is None else bits / parameters
    for kappa in KAPPAS:
        n = databits.samples_for(kappa * parameters, row["sample_bits"])
        where = None if n is None else n / n_rules
        row[f"predicted_{kappa:g}"] = where
        for name in ("copies", "novel"):
            row[f"{name}_at_{kappa:g}"] = _verdict(where, row[f"{name}_low"], row[f"{name}_high"])
    held = [run["held_per_parameter"] for run in runs if run["held_per_parameter"] is not None]
    return row | {"held_per_parameter": max(held, default=None)}


def _mean(runs: Sequence[Row], size: int, name: str) -> float:
    return float(np.mean([run[name] for run in runs if run["per_rule"] == size]))


def _copies(runs: Sequence[Row], sizes: Sequence[int]) -> tuple[int | None, int | None]:
    """The last size with copies above nature and the next one; None for an end not measured."""
    above = [
        size for size in sizes
        if _mean(runs, size, "copies_row_low") > _mean(runs, size, "natural_row_high")
    ]  # fmt: skip
    if not above:
        return None, sizes[0]
    later = [size for size in sizes if size > above[-1]]
    return above[-1], later[0] if later else None


def _novel(runs: Sequence[Row], sizes: Sequence[int]) -> tuple[int | None, int | None]:
    """The sizes around the first novel-C3 of half the model's reach; None where it has none."""
    reach = _mean(runs, sizes[-1], "novel_c3")
    if reach < collapse.LEAST_REACH:
        return None, None  # nothing has risen
    first = next(s for s in sizes if _mean(runs, s, "novel_c3") >= collapse.POOR * reach)
    before = [size for size in sizes if size < first]
    return before[-1] if before else None, first


def _verdict(predicted: float | None, low: float | None, high: float | None) -> str:
    """Where a prediction lies beside what was measured."""
    if low is None and high is None:
        return "not told"
    if predicted is None or (high is not None and predicted > high):
        return "too many"
    return "too few" if low is not None and predicted < low else "within"


# ---- the rules compared ----------------------------------------------------------------------

RULES: dict[str, Callable[[Row], float]] = {
    "bits per parameter": lambda r: math.log(max(r["bits_per_parameter"], 1e-12)),
    "samples per rule": lambda r: math.log(r["per_rule"]),
    "passes": lambda r: -math.log(r["passes"]),
}


def _compared(runs: Sequence[Row], models: Sequence[Row]) -> list[dict[str, Any]]:
    """For each rule and threshold: rank correlation over cells, errors on models left out."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        cells.setdefault((run["model"], run["rule_set"], run["per_rule"]), []).append(run)
    found = []
    for name in ("copies", "novel"):
        errors = {rule: _left_out(rule, name, runs, models) for rule in RULES}
        n_models = sum(model[name] is not None for model in models)
        for rule, value in RULES.items():
            x = [float(np.mean([value(r) for r in own])) for own in cells.values()]
            y = [float(np.mean([_outcome(r, name) for r in own])) for own in cells.values()]
            found.append({
                "key": f"capacity_fit/{name}/{rule.replace(' ', '_')}", "part": "capacity_fit",
                "threshold": name, "rule": rule, "n": len(cells), "nfe": 0, **_ranks(x, y),
                "n_models": n_models, **_factors(errors[rule]),
                "said": _said(rule, errors, n_models),
            })  # fmt: skip
    return found


def _outcome(run: Row, name: str) -> float:
    """novel-C3, or copies above nature: what lacks of it would be a reading of N."""
    if name == "novel":
        return run["novel_c3"]
    return max(0.0, run["copies_row"] - run["natural_row"])


def _ranks(x: Sequence[float], y: Sequence[float]) -> dict[str, float | None]:
    """Rank correlation with its interval; None where it has none."""
    try:
        r, low, high = intervals.spearman(x, y)
    except ValueError:
        return {"spearman": None, "spearman_low": None, "spearman_high": None}
    return {"spearman": r, "spearman_low": low, "spearman_high": high}


def _left_out(rule: str, name: str, runs: Sequence[Row], models: Sequence[Row]) -> list[float]:
    """ln(predicted N / measured N) of each model with a bracket, fitted to the others."""
    known = [model for model in models if model[name] is not None]
    if len(known) < 2:
        return []
    levels = {_name(m): _level(rule, m, m[name], runs) for m in known}
    errors = []
    for model in known:
        others = [level for other, level in levels.items() if other != _name(model)]
        errors.append(_solved(rule, model, float(np.mean(others)), runs) - math.log(model[name]))
    return errors


def _level(rule: str, model: Row, size: float, runs: Sequence[Row]) -> float:
    """The rule's value of a model at so many samples per rule."""
    n = size * model["n_rules"]
    bits = databits.set_bits(n, model["sample_bits"]) / model["parameters"]
    seen = np.mean([r["passes"] * r["per_rule"] for r in runs if _name(r) == _name(model)])
    return RULES[rule]({"bits_per_parameter": bits, "per_rule": size, "passes": seen / size})


def _solved(rule: str, model: Row, level: float, runs: Sequence[Row]) -> float:
    """ln of the samples per rule at which a model has this value, which grows with them."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        below = _level(rule, model, math.exp(middle), runs) < level
        low, high = (middle, high) if below else (low, middle)
    return high


def _factor(errors: Sequence[float]) -> float | None:
    """exp of the root mean square; None without errors."""
    return math.exp(math.sqrt(float(np.mean(np.square(errors))))) if errors else None


def _factors(errors: Sequence[float]) -> dict[str, float | None]:
    """The factor with its 95 % interval: n rms^2 / variance follows chi-square of n."""
    factor, n = _factor(errors), len(errors)
    if factor is None:
        return {"factor": None, "factor_low": None, "factor_high": None}
    low, high = (math.sqrt(n / stats.chi2.ppf(q, n)) for q in (0.975, 0.025))
    return {"factor": factor, "factor_low": factor**low, "factor_high": factor**high}


def _said(rule: str, errors: Mapping[str, Sequence[float]], n_models: int) -> str:
    own, plain = _factor(errors[rule]), _factor(errors["samples per rule"])
    if own is None or plain is None or n_models < _MODELS:
        return f"cannot be tested: {n_models} of {_MODELS} models needed cross between two sizes"
    ends = _factors(errors[rule])
    factor = f"a factor of {own:.2f} ({ends['factor_low']:.2f} to {ends['factor_high']:.2f})"
    if own <= _FACTOR and (rule == "samples per rule" or own < plain):
        return f"predicts models left out within {factor}"
    better = "" if rule == "samples per rule" else f"; samples per rule alone: {plain:.2f}"
    return f"does not predict: off by {factor}{better}"
