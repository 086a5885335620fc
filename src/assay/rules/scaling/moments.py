"""When something first happens while a model learns: rules appear, copies appear, it got worse.

Probes look at a few moments, so that a first time is known between two of them:

    tau_rule  samples seen when a kind of rule first clears a level. Of a kind's rules the model
              draws the share C among all samples; of n trained rules k belong to the kind, whose
              share in the data is k/n; the level is half of that. C3 (some rule holds) and greedy
              completion have level 0.5.
    tau_mem   samples seen when rows are first copied beyond chance: the 95 % intervals of copies
              and of the natural overlap of fresh rows lie apart.

Between two probes the time is interpolated in its logarithm; before the first, or after the last
one, only that side is known. The growth of tau_mem with data is the slope b of

    ln tau = a + b ln N + s noise,

fitted to intervals (normal likelihood with censoring: Tobin 1958, Econometrica 26; limits by the
profile likelihood, F quantile for few trainings). Bonnaire, Urfin, Biroli and Mezard (2025,
arXiv 2505.17638) find b = 1 for diffusion models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from assay.rules.scaling.fitted import Row, Rows, about, groups

HALF = 0.5  # of a kind's share in the data; level of C3 and completion
_CONTENT = ("shape", "size", "color", "colour")
_LOGIC = ("XOR", "OR", "AND")
_LEAST_NOISE, _SLOPES = 0.1, (-4.0, 8.0)

Ends = tuple[float | None, float | None, float | None]  # low, value, high


def kind(name: str) -> str:
    """The kind of a rule by its name: "position AND" is "position logic"."""
    attribute, _, relation = name.partition(" ")
    first = relation.split(" ")[0]
    group = "attribute" if attribute in _CONTENT else attribute
    return f"{group} {'logic' if first in _LOGIC else first}"


def crossing(samples: Sequence[float], excess: Sequence[float]) -> Ends:
    """(low, value, high) of the samples seen at which ``excess`` first is 0 or more.

    None: below the first probe (low, value), or not by the last one (value, high).
    """
    first = next((i for i, e in enumerate(excess) if e >= 0), None)
    if first is None:
        return float(samples[-1]), None, None
    high = float(samples[first])
    if first == 0:
        return None, None, high
    low, below, above = float(samples[first - 1]), excess[first - 1], excess[first]
    way = -below / (above - below)
    return low, float(math.exp(math.log(low) + way * math.log(high / low))), high


def rows(study: Rows) -> list[Row]:
    """tau_rule and tau_mem by model and size, how tau_mem grows, what early stopping gives."""
    found: list[Row] = []
    for (model, rule_set), group in groups(study).items():
        probed = [row for row in group if row.get("probes")]
        sizes = sorted({row["per_rule"] for row in probed}, key=lambda n: n or math.inf)
        for size in sizes:
            here = [row for row in probed if row["per_rule"] == size]
            said = {**about(model, rule_set, here), "per_rule": size}
            said |= {"n_rules": here[0]["n_rules"], "n": here[0]["probes"][0]["n"]}
            stem = f"{model}.{rule_set}/n{size or 'stream'}"
            found += [{**row, **said} for row in _rule_rows(stem, here)]
            found.append({**_pooled(f"tau-mem/{stem}", here, _copied), **said, "part": "tau_mem"})
        found += [_stopping(row) for row in probed]
    return [*found, *_growth_rows([row for row in found if row["part"] == "tau_mem"])]


# ---- when rules and copies appear -------------------------------------------------------------


def _rule_rows(stem: str, here: Rows) -> Iterator[Row]:
    for name, level, excess in _watched(here[0]["probes"][0]):
        key = f"tau-rule/{stem}/{name.replace(' ', '-')}"
        yield {**_pooled(key, here, excess), "part": "tau_rule", "kind": name, "level": level}


def _watched(
    probe: Mapping[str, Any],
) -> Iterator[tuple[str, float, Callable[[Mapping[str, Any]], float]]]:
    """(name, level, excess over it in a probe): kinds of rules, C3, completion."""
    kinds: dict[str, list[str]] = {}
    for rule in probe["rules"]:
        kinds.setdefault(kind(rule), []).append(rule)
    for name, members in kinds.items():
        level = HALF * len(members) / len(probe["rules"])
        yield name, level, _excess(members, level)
    for name, column in (("any rule", "c3"), ("completion", "completion")):
        if probe.get(column) is not None:
            yield name, HALF, _column_excess(column)


def _excess(members: Sequence[str], level: float) -> Callable[[Mapping[str, Any]], float]:
    return lambda probe: sum(probe["rules"][rule] for rule in members) - level


def _column_excess(column: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda probe: probe[column] - HALF


def _copied(probe: Mapping[str, Any]) -> float:
    return probe["copies_row_low"] - probe["natural_row_high"]


def _pooled(key: str, here: Rows, excess: Callable[[Mapping[str, Any]], float]) -> Row:
    """The first times of all seeds: their geometric mean where all are known, and their span."""
    each, last = [], []
    for row in here:
        values = [excess(probe) for probe in row["probes"]]
        each.append(crossing([probe["samples"] for probe in row["probes"]], values))
        last.append(values[-1] >= 0)
    lows, values, highs = zip(*each, strict=True)
    known = [v for v in values if v is not None]
    reached = [h for h in highs if h is not None]
    return {
        "key": key, "tau": float(np.exp(np.mean(np.log(known)))) if len(known) == len(each)
        else None, "tau_low": min((v for v in lows if v), default=None) if all(lows) else None,
        "tau_high": max(reached) if len(reached) == len(each) else None,
        "lows": lows, "taus": values, "highs": highs, "n_reached": len(reached),
        "n_lasting": sum(a and h is not None for a, h in zip(last, highs, strict=True)),
        "samples_end": max(row["probes"][-1]["samples"] for row in here),
    }  # fmt: skip


# ---- early stopping ---------------------------------------------------------------------------


def _stopping(row: Mapping[str, Any]) -> Row:
    """The probe of least validation loss beside the last one."""
    probes = row["probes"]
    best, last = min(probes, key=lambda p: p["validation_loss"]), probes[-1]
    found: Row = {name: row.get(name) for name in ("model", "rule_set", "recipe", "family",
                                                   "per_rule", "seed", "n_rules")}  # fmt: skip
    found |= {"key": f"stopping/{row['key']}", "part": "stopping", "n": last["n"]}
    names = ("samples", "gap", "validation_loss", "train_loss", *_ended("c3"),
             *_ended("completion"), *_ended("copies_row"), "half_empty")  # fmt: skip
    for end, probe in (("stop", best), ("end", last)):
        found |= {f"{name}_{end}": probe.get(name) for name in names}
    for name in ("c3", "completion"):
        change, low, high = _change(best, last, name)
        found |= {f"{name}_gain": change, f"{name}_gain_low": low, f"{name}_gain_high": high}
    return found


def _ended(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _change(best: Mapping[str, Any], last: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """The share when stopped less that at the end, with Newcombe's interval (1998, eq. 10)."""
    (p, low, high), (q, low_q, high_q) = (
        [probe[column] for column in _ended(name)] for probe in (best, last)
    )
    change = p - q
    down, up = math.hypot(p - low, high_q - q), math.hypot(high - p, q - low_q)
    return change, change - down, change + up


# ---- how the first copies move with data ------------------------------------------------------


def _growth_rows(found: Sequence[Row]) -> Iterator[Row]:
    """The slope of ln tau_mem on ln N: each model, and all with one slope and own heights."""
    for (model, rule_set), group in groups(found).items():
        said = {name: group[0][name] for name in ("recipe", "family", "seeds")}
        yield {"key": f"tau-mem-growth/{model}.{rule_set}", "part": "tau_mem_growth",
               "model": model, "rule_set": rule_set, **said, **growth(group)}  # fmt: skip
    for rule_set in dict.fromkeys(row["rule_set"] for row in found):
        group = [row for row in found if row["rule_set"] == rule_set]
        if len({row["model"] for row in group}) > 1:
            yield {"key": f"tau-mem-growth/all.{rule_set}", "part": "tau_mem_growth",
                   "model": "all", "rule_set": rule_set, **growth(group)}  # fmt: skip


def growth(found: Rows) -> Row:
    """slope, low, high of ln tau on ln N over rows of tau_mem; said: why there is none."""
    fixed = [row for row in found if row["per_rule"]]
    none: Row = {"slope": None, "low": None, "high": None, "intercepts": None, "noise": None}
    seen = {row["per_rule"] for row in fixed if row["n_reached"]}
    none |= {"sizes_with_copies": sorted(seen), "n": sum(len(row["taus"]) for row in fixed)}
    if len(seen) < 2:
        said = "no copies at any size" if not seen else f"copies at {min(seen):g} per rule alone"
        return {**none, "said": said}
    return {**none, **_Censored(fixed).row()}


class _Censored:
    """The censored regression; parameters: slope, heights of the models, ln of the noise."""

    def __init__(self, found: Rows):
        names = sorted({row["model"] for row in found})
        lines = [
            (math.log(row["per_rule"]), names.index(row["model"]), low, high)
            for row in found
            for low, high in zip(row["lows"], row["highs"], strict=True)
        ]
        self.names = names
        self.log_n = np.array([line[0] for line in lines])
        self.model = np.array([line[1] for line in lines])
        self.low = np.array([-np.inf if line[2] is None else math.log(line[2]) for line in lines])
        self.high = np.array([np.inf if line[3] is None else math.log(line[3]) for line in lines])

    def row(self) -> Row:
        """The best slope and the limits of its profile."""
        best, loss = self._fit(None)
        freedom = max(1, len(self.log_n) - len(best))
        allowed = float(stats.f.ppf(0.95, 1, freedom)) / 2

        def edge(limit: float) -> float | None:
            def excess(slope: float) -> float:
                return self._fit(slope, best)[1] - loss - allowed

            if excess(limit) <= 0:
                return None
            found: Any = optimize.brentq(excess, best[0], limit, xtol=1e-3)
            return float(found)

        heights = dict(zip(self.names, best[1:-1].tolist(), strict=True))
        low, high = (edge(limit) for limit in _SLOPES)
        return {"slope": float(best[0]), "low": low, "high": high, "intercepts": heights,
                "noise": math.exp(best[-1]), "said": ""}  # fmt: skip

    def _fit(
        self, slope: float | None, start: np.ndarray | None = None
    ) -> tuple[np.ndarray, float]:
        """Parameters and loss, with the slope free or held."""
        held = (slope, slope) if slope is not None else _SLOPES
        bounds = [held, *[(None, None)] * len(self.names), (math.log(_LEAST_NOISE), 3.0)]
        if start is None:
            start = np.array([1.0, *[self._height()] * len(self.names), 0.0])
        start = np.concatenate([[slope if slope is not None else start[0]], start[1:]])
        found = optimize.minimize(self._loss, start, method="L-BFGS-B", bounds=bounds)
        return found.x, float(found.fun)

    def _height(self) -> float:
        ends = np.concatenate([self.low[np.isfinite(self.low)], self.high[np.isfinite(self.high)]])
        return float(ends.mean() - self.log_n.mean())

    def _loss(self, params: np.ndarray) -> float:
        mean = params[0] * self.log_n + params[1:-1][self.model]
        low, high = ((end - mean) / math.exp(params[-1]) for end in (self.low, self.high))
        return -float(_log_between(low, high).sum())


def _log_between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """ln(Phi(high) - Phi(low)) for low < high, from the side where it keeps its digits."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    top, bottom = special.log_ndtr(b), special.log_ndtr(a)
    with np.errstate(divide="ignore"):
        return top + np.log1p(-np.exp(np.minimum(bottom - top, -1e-12)))
