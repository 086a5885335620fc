"""Rule by rule: does a model that completes a rule better also draw more samples of it?

For a model and an amount of data each rule gives a point: its share of correct completions and of
drawn samples that obey it (C3), means over seeds. Pearson's and Spearman's correlation over the
rules, with the 95 % percentile interval of 2,000 bootstraps that redraw rules. Held-out rules are
left out: a model that neither draws nor completes them would be given a correlation for free.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.evidence import Row, Subject

_FEWEST = 5  # rules with which a correlation is asked for
_LEAST = 0.1  # of C3, below which the rules' shares of it are noise
_RESAMPLES = 2000


def correlation(subjects: Sequence[Subject]) -> list[Row]:
    """Pearson and Spearman for every model and amount of data."""
    rows, answers = [], {}
    for subject in subjects:
        drawn = subject.share(subject.most, "c3")
        for size in dict.fromkeys((*subject.sizes, subject.most)):
            points = by_rule(subject, size)
            if len(points) < _FEWEST:
                continue
            x, y = (np.array([p[i] for p in points.values()]) for i in (0, 1))
            found = {name: _with_interval(name, x, y) for name in ("pearson", "spearman")}
            columns = {k: v for name, f in found.items() for k, v in _columns(name, f).items()}
            rows.append({
                "part": "evidence", **subject.facts(), "per_rule": size, "n": len(points),
                "seeds": len(subject.at(size)), "measure": "correlation over rules", **columns,
                "rules": {k: {"completion": a, "c3": b} for k, (a, b) in points.items()},
                "nfe": subject.at(size)[0].get("unconditional_nfe"),
            })  # fmt: skip
            if size == subject.most:
                enough = drawn is not None and drawn.low >= _LEAST
                rows.append(_judged(subject, size, len(points), found if enough else None))
                answers[subject.said] = rows[-1]["verdict"] == e.HOLDS
    if answers:
        shown = [name for name, answer in answers.items() if answer]
        said = (
            f"a positive correlation over rules is shown for {len(shown)} of {len(answers)} models"
            f"{': ' if shown else ''}{', '.join(shown)}"
        )
        rows.append(e.found(True if len(shown) == len(answers) else None, said))
    return rows


def _judged(subject: Subject, size: int | None, n: int, found: dict | None) -> Row:
    """The verdict on one model: whether both intervals lie above 0; None: too little C3."""
    if found is None:
        said = f"{subject.said}, {e.size_said(size)}: C3 is too low to tell rules apart"
        return e.found(None, said, subject, per_rule=size)
    if found["pearson"] is None or found["spearman"] is None:
        said = f"{subject.said}, {e.size_said(size)}: a rule is as good as another, no correlation"
        return e.found(None, said, subject, per_rule=size)
    low = min(found[name][1] for name in found)
    high = min(found[name][2] for name in found)
    shown = "; ".join(
        f"{k.capitalize()} {v:.2f} ({a:.2f} to {b:.2f})" for k, (v, a, b) in found.items()
    )
    said = f"{subject.said}, {e.size_said(size)}: {shown} over {n} trained rules"
    answer = True if low > 0 else False if high < 0 else None
    return e.found(answer, said, subject, per_rule=size)


def by_rule(subject: Subject, size: int | None) -> dict[str, tuple[float, float]]:
    """{trained rule: (completion, C3)}, means over the seeds whose evaluation is there."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in subject.at(size):
        measured = subject.study.measured(row)
        first = next((r["temperature"] for r in measured if r.get("part") == "rule"), None)
        drawn = {
            r["rule"]: r["share"]
            for r in measured
            if r.get("part") == "rule" and r["trained"] and r["temperature"] == first
        }
        filled = {r["rule"]: r["correct"] for r in measured if r.get("part") == "completion_rule"}
        for rule in drawn.keys() & filled.keys():
            found.setdefault(rule, []).append((filled[rule], drawn[rule]))
    return {
        rule: (float(np.mean([p[0] for p in ps])), float(np.mean([p[1] for p in ps])))
        for rule, ps in sorted(found.items())
    }


def _with_interval(name: str, x: np.ndarray, y: np.ndarray) -> tuple[float, float, float] | None:
    """(correlation, low, high); None where one of the two is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    if name == "spearman":
        x, y = stats.rankdata(x), stats.rankdata(y)
    picked = np.random.default_rng(0).integers(len(x), size=(_RESAMPLES, len(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a redrawn set of rules may be constant: it is left out
        low, high = np.nanquantile(_pearson(x[picked], y[picked]), [0.025, 0.975])
    return float(_pearson(x[None], y[None])[0]), float(low), float(high)


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(m,) correlations of the rows of x and y (m, k); NaN where one is constant."""
    x, y = (v - v.mean(1, keepdims=True) for v in (x, y))
    power = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.where(power > 1e-12, (x * y).sum(1) / np.maximum(power, 1e-300), np.nan)


def _columns(name: str, found: tuple[float, float, float] | None) -> Row:
    value, low, high = found or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
