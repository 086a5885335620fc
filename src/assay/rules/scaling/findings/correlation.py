"""Rule by rule: does a model that completes a rule better also draw more samples of it?

For a model and an amount of data each rule gives a point: its share of correct completions and of
drawn samples that obey it (C3), means over seeds. Pearson's and Spearman's correlation over the
rules, with the 95 % percentile interval of 2,000 bootstraps that redraw rules. Held-out rules are
left out: a model that neither draws nor completes them would be given a correlation for free.

Judged is the amount of data at which rules differ most in completion, among those with C3 of 0.1
or more and no rows copied beyond nature: copies say nothing of how well a rule is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from assay.rules.scaling.findings import amounts
from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.evidence import Row, Subject

_FEWEST = 5  # rules with which a correlation is asked for
_LEAST = 0.1  # of C3, below which the rules' shares of it are noise
_RESAMPLES = 2000


def correlation(subjects: Sequence[Subject]) -> list[Row]:
    """Pearson and Spearman for every model and amount of data."""
    rows, answers = [], {}
    for subject in subjects:
        telling = {}
        for size in dict.fromkeys((*subject.sizes, subject.most)):
            points = by_rule(subject, size)
            if len(points) < _FEWEST:
                continue
            rows.append(_evidence(subject, size, points))
            if _drawn(subject, size):
                telling[size] = float(np.std([x for x, _ in points.values()])), rows[-1]
        if rows and rows[-1]["model"] == subject.model:
            best = max(telling.values(), key=lambda pair: pair[0], default=(0.0, None))[1]
            rows.append(_judged(subject, best))
            answers[subject.said] = rows[-1]["verdict"] == e.HOLDS
    if answers:
        shown = [name for name, answer in answers.items() if answer]
        said = (
            f"a positive correlation over rules is shown for {len(shown)} of {len(answers)} models"
            f"{': ' if shown else ''}{', '.join(shown)}"
        )
        rows.append(e.found(True if len(shown) == len(answers) else None, said))
    return rows


def _drawn(subject: Subject, size: int | None) -> bool:
    """Whether enough samples with a rule are drawn, and not copied."""
    share = subject.share(size, "c3")
    return share is not None and share.low >= _LEAST and not amounts.copied(subject, size)


def _evidence(subject: Subject, size: int | None, points: dict[str, tuple[float, float]]) -> Row:
    """Both correlations over the rules, and the points themselves."""
    x, y = (np.array([p[i] for p in points.values()]) for i in (0, 1))
    columns = {
        k: v
        for name in ("pearson", "spearman")
        for k, v in _columns(name, _with_interval(name, x, y)).items()
    }
    return {
        "part": "evidence", **subject.facts(), "per_rule": size, "n": len(points),
        "seeds": len(subject.at(size)), "measure": "correlation over rules", **columns,
        "rules": {k: {"completion": a, "c3": b} for k, (a, b) in points.items()},
        "nfe": subject.at(size)[0].get("unconditional_nfe"),
    }  # fmt: skip


def _judged(subject: Subject, row: Row | None) -> Row:
    """The verdict on one model: whether both intervals lie above 0; None: too little C3."""
    if row is None:
        said = f"{subject.said}: too few samples with a rule, or copied ones, at every size"
        return e.found(None, said, subject)
    size = row["per_rule"]
    if row["pearson"] is None or row["spearman"] is None:
        said = f"{subject.said}, {e.size_said(size)}: a rule is as good as another, no correlation"
        return e.found(None, said, subject, per_rule=size)
    names = ("pearson", "spearman")
    low, high = (min(row[f"{name}_{end}"] for name in names) for end in ("low", "high"))
    shown = "; ".join(
        f"{name.capitalize()} {row[name]:.2f} ({row[f'{name}_low']:.2f} to "
        f"{row[f'{name}_high']:.2f})"
        for name in names
    )
    said = f"{subject.said}, {e.size_said(size)}: {shown} over {row['n']} trained rules"
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
