"""Early warning: does the first fifth of a training forecast its collapse?

``collapse`` says what collapse is and which signals there are. The warner is a logistic
regression on standardised signals, x' = (x - mean) / sd over the evidence (absent ones at the
mean, 0), with an L2 penalty fixed at C = 0.1 (Hastie, Tibshirani and Friedman 2009, section
4.4.4) and classes weighted to equal shares, so that a fold's share of collapses does not move its
scores; the log odds of the evidence are added where a probability is said.

Nobody's score comes from a fit that has seen its group, in three ways:

    cell     5 folds of cells (model, rule set, size), all seeds of one together; 5 times anew,
             each training's log odds averaged
    family   every family left out in turn
    size     every amount of data left out in turn

Beside the signals stand what is known beforehand: ln(samples per rule) alone, and with the
model's name. A signal that only reads off the amount of data is no news, so each AUROC is given
again within sizes (pairs of trainings of one size only) and within models. Intervals: `auroc`.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from assay.core import intervals
from assay.rules.scaling import auroc, collapse
from assay.rules.scaling.collapse import FIFTH, NAMES, SIGNALS, Row, Training

PENALTY = 0.1
MAIN = "collapse"
SCHEMES = ("cell", "family", "size")
SHARES = (0.05, 0.1, FIFTH, 0.5)  # of the steps, at which it is asked how early it is known
LEAST = 8  # trainings
_FOLDS, _REPEATS, _SEED = 5, 5, 0


class Warner:
    """The fit. table (n, signals), NaN where absent; events bool (n,), both kinds among them."""

    def __init__(self, table: np.ndarray, events: np.ndarray):
        with warnings.catch_warnings():  # columns that are absent throughout: mean 0, sd 1
            warnings.simplefilter("ignore", RuntimeWarning)
            mean, spread = np.nanmean(table, 0), np.nanstd(table, 0)
        self.mean = np.nan_to_num(mean)
        self.spread = np.where(np.nan_to_num(spread) > 1e-12, spread, 1.0)
        self.weights, self.offset = logistic(self._standard(table), events)
        self.prior = _log_odds(events)

    def log_odds(self, table: np.ndarray) -> np.ndarray:
        """(n,) at equal shares of both classes."""
        return self._standard(table) @ self.weights + self.offset

    def probability(self, table: np.ndarray) -> np.ndarray:
        """(n,) at the share of events in the evidence."""
        return special.expit(self.log_odds(table) + self.prior)

    def parts(self, values: np.ndarray) -> np.ndarray:
        """(signals,): what each adds to the log odds of one training."""
        return self._standard(values[None])[0] * self.weights

    def _standard(self, table: np.ndarray) -> np.ndarray:
        return np.nan_to_num((table - self.mean) / self.spread)


def _log_odds(events: np.ndarray) -> float:
    return float(special.logit(events.mean()))


def logistic(x: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, float]:
    """(weights, offset) of C sum_i c_i ln(1 + exp(-+ score_i)) + |weights|^2 / 2 at its least.

    c_i gives both classes the same share; the offset goes unpunished. Newton's method, halved
    where it goes too far; scikit-learn's LogisticRegression(C, class_weight="balanced").
    """
    n, hits = len(events), events.sum()
    share = PENALTY * np.where(events, n / (2 * hits), n / (2 * (n - hits)))
    wide = np.hstack([x, np.ones((n, 1))])
    ridge = np.append(np.ones(x.shape[1]), 0.0)
    sign = np.where(events, 1.0, -1.0)

    def loss(beta: np.ndarray) -> float:
        return float(share @ np.logaddexp(0, -sign * (wide @ beta)) + ridge @ beta**2 / 2)

    beta = np.zeros(x.shape[1] + 1)
    for _ in range(100):
        p = special.expit(wide @ beta)
        slope = wide.T @ (share * (p - events)) + ridge * beta
        if np.abs(slope).max() < 1e-10:
            break
        bend = (wide.T * (share * p * (1 - p))) @ wide + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        while loss(beta - step) > loss(beta) + 1e-12:
            step = step / 2
        beta = beta - step
    return beta[:-1], float(beta[-1])


@dataclass(frozen=True)
class Evidence:
    """Trainings whose outcome is known, with their signals (n, signals) up to a share."""

    definition: str
    trainings: list[Training]
    table: np.ndarray
    share: float = FIFTH

    @cached_property
    def events(self) -> np.ndarray:
        """bool (n,): what became of them."""
        return np.array([t.outcomes[self.definition] for t in self.trainings], dtype=bool)

    @cached_property
    def cells(self) -> list[Hashable]:
        """What each training is a seed of."""
        return [t.cell for t in self.trainings]

    def column(self, name: str) -> list[Any]:
        """A field of the study's rows."""
        return [t.row[name] for t in self.trainings]

    def groups(self, scheme: str) -> list[Hashable]:
        """What each training is left out together with."""
        if scheme == "cell":
            return self.cells
        return self.column({"family": "family", "size": "per_rule"}[scheme])


def evidence(rows: Sequence[Row], share: float = FIFTH, definition: str = MAIN) -> Evidence:
    """What the rows of studies say about an outcome (`collapse.DEFINITIONS`).

    ValueError where fewer than eight trainings have both an outcome and early probes, or fewer
    than two cells a collapse, or a training without.
    """
    known = [t for t in collapse.trainings(rows) if t.outcomes[definition] is not None]
    with_signals = [
        (t, found)
        for t in known
        if (found := collapse.signals(t.row["probes"], t.row["n_steps"], share)) is not None
    ]
    if len(with_signals) < LEAST:
        raise ValueError(
            f"{definition}: only {len(with_signals)} of {len(rows)} trainings have a known "
            f"outcome and two probes or more in the first {share:g} of their steps ({LEAST} are "
            "needed): give a study of three sizes or more with probes, run to its end"
        )
    table = np.array([values for _, values in with_signals])
    made = Evidence(definition, [t for t, _ in with_signals], table, share)
    _check_both(made)
    return made


def _check_both(made: Evidence) -> None:
    for kind, flags in ((made.definition, made.events), (f"no {made.definition}", ~made.events)):
        n = len({cell for cell, flag in zip(made.cells, flags, strict=True) if flag})
        if n < 2:
            raise ValueError(
                f"{n} of {len(set(made.cells))} configurations show {kind} (2 are needed): give "
                "studies in which some trainings collapse and others do not"
            )


# ---- cross-validation ------------------------------------------------------------------------


def folds(made: Evidence, scheme: str) -> list[np.ndarray]:
    """Fold numbers (n,), once or several times; no group lies in two folds of one."""
    groups = made.groups(scheme)
    names = list(dict.fromkeys(groups))
    if scheme != "cell":
        return [np.array([names.index(group) for group in groups])]
    some = {group for group, event in zip(groups, made.events, strict=True) if event}
    rng, found = np.random.default_rng(_SEED), []
    for _ in range(_REPEATS):
        dealt = {}
        for kind in (True, False):  # both kinds dealt out evenly
            own = [name for name in names if (name in some) == kind]
            for i in rng.permutation(len(own)):
                dealt[own[i]] = len(dealt) % _FOLDS
        found.append(np.array([dealt[group] for group in groups]))
    return found


def scores(table: np.ndarray, events: np.ndarray, many: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) log odds by fits that have not seen the fold, averaged; NaN where none can be made."""
    found = np.full((len(many), len(table)), np.nan)
    for line, fold in zip(found, many, strict=True):
        for number in np.unique(fold):
            out = fold == number
            if 0 < events[~out].sum() < (~out).sum():
                line[out] = Warner(table[~out], events[~out]).log_odds(table[out])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(found, 0)


def predictors(made: Evidence) -> dict[str, np.ndarray]:
    """Tables (n, columns): signals, and what is known beforehand."""
    size = np.log(np.array(made.column("per_rule"), dtype=np.float64))[:, None]
    models = list(dict.fromkeys(made.column("model")))
    which = np.array([[name == m for m in models] for name in made.column("model")], dtype=float)
    return {
        "signals": made.table,
        "per_rule": size,
        "known_before": np.hstack([size, which]),
        "signals+per_rule": np.hstack([made.table, size]),
    }


# ---- rows ------------------------------------------------------------------------------------


def rows(study_rows: Sequence[Row]) -> list[dict[str, Any]]:
    """JSON rows: part warning (AUROC by definition, predictor, way of leaving out, share of the
    steps), warning_signal (each signal unfitted), warning_run (each training's out-of-fold log
    odds and probability); warning_said where there is too little evidence, warning_lacking where
    there is too little for a neighbouring definition.
    """
    found: list[dict[str, Any]] = []
    for definition in collapse.DEFINITIONS:
        try:
            made = evidence(study_rows, definition=definition)
        except ValueError as error:
            found.append(_too_little(study_rows, definition, str(error)))
            continue
        for name, table in predictors(made).items():
            found += [_warning(made, name, table, scheme) for scheme in SCHEMES]
        found += _single(made)
        found += _earlier(study_rows, definition)
    return found + _runs(study_rows)


def _too_little(study_rows: Sequence[Row], definition: str, said: str) -> dict[str, Any]:
    known = [t for t in collapse.trainings(study_rows) if t.outcomes[definition] is not None]
    part = "warning_said" if definition == MAIN else "warning_lacking"
    return {
        "key": f"{part}/{definition}", "part": part, "definition": definition,
        "n": len(known), "said": said,
    }  # fmt: skip


def _warning(made: Evidence, name: str, table: np.ndarray, scheme: str) -> dict[str, Any]:
    """The row of one cross-validated predictor."""
    judged = _judged(made, scores(table, made.events, folds(made, scheme)))
    if name == "per_rule":  # one score for each size, but for the folds' own fits
        judged |= auroc.Area(None, None, None, 0).row("within_size")
    return {
        "key": f"warning/{made.definition}/{name}/{scheme}/share={made.share:g}",
        "part": "warning", "definition": made.definition, "predictor": name, "scheme": scheme,
        "share": made.share, "seed": _SEED, **judged,
    }  # fmt: skip


def _single(made: Evidence) -> list[dict[str, Any]]:
    """The rows of every signal as it is, in the direction said beforehand; and of ln N."""
    columns = [(s.name, s.sign, s.said, c) for s, c in zip(SIGNALS, made.table.T, strict=True)]
    sizes = np.array(made.column("per_rule"), dtype=np.float64)
    columns.append(("per_rule", -1, "samples per rule, known beforehand", sizes))
    return [
        {
            "key": f"warning_signal/{made.definition}/{name}", "part": "warning_signal",
            "definition": made.definition, "signal": name, "sign": sign, "said": said,
            "share": made.share, **_judged(made, sign * column),
        }
        for name, sign, said, column in columns
    ]  # fmt: skip


def _judged(made: Evidence, values: np.ndarray) -> dict[str, Any]:
    """n, base rate and AUROCs of scores, those that are NaN left out."""
    known = np.isfinite(values)

    def kept(column: Sequence[Any]) -> list[Any]:
        return [value for value, there in zip(column, known, strict=True) if there]

    cells, hits = kept(made.cells), made.events[known]
    n_cells, n = len(set(cells)), int(known.sum())
    rate = float(hits.mean()) if n else None
    low, high = intervals.wilson((rate or 0.0) * n_cells, n_cells)
    row: dict[str, Any] = {
        "n": n, "n_cells": n_cells, "n_events": int(hits.sum()), "base_rate": rate,
        "base_rate_low": low, "base_rate_high": high, "nfe": 0,
    }  # fmt: skip
    for name, strata in (("auroc", None), ("within_size", "per_rule"), ("within_model", "model")):
        layers = None if strata is None else kept(made.column(strata))
        row |= auroc.area(values[known], hits, cells, layers).row(name)
    return row


def _earlier(study_rows: Sequence[Row], definition: str) -> list[dict[str, Any]]:
    """The signals' row at other shares of the steps, where there are probes by then."""
    found = []
    for share in SHARES:
        try:
            made = evidence(study_rows, share, definition)
        except ValueError:
            continue
        if share != FIFTH:
            found.append(_warning(made, "signals", made.table, "cell"))
    return found


def _runs(study_rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The row of every training: what became of it, what was said out of its fold."""
    told = {definition: _told(study_rows, definition) for definition in collapse.DEFINITIONS}
    found, seen = [], {}
    for training in collapse.trainings(study_rows):
        row = training.row
        seen[row["key"]] = seen.get(row["key"], 0) + 1
        again = "" if seen[row["key"]] == 1 else f"/{seen[row['key']]}"
        about = {name: row[name] for name in ("model", "family", "rule_set", "per_rule", "seed")}
        values = collapse.signals(row["probes"], row["n_steps"])
        line = {"key": f"warning_run/{row['key']}{again}", "part": "warning_run", "n": 1, **about}
        for definition, by_row in told.items():
            log_odds, probability = by_row.get(id(row), (None, None))
            end = "" if definition == MAIN else f"_{definition}"
            line |= {definition: training.outcomes[definition]}
            line |= {f"log_odds{end}": log_odds, f"probability{end}": probability}
        found.append({
            **line, "novel_c3": row.get("novel_c3"), "reach": training.reach, "share": FIFTH,
            "signals": None if values is None else {
                k: float(v) if np.isfinite(v) else None for k, v in zip(NAMES, values, strict=True)
            },
        })  # fmt: skip
    return found


def _told(study_rows: Sequence[Row], definition: str) -> dict[int, tuple[float, float]]:
    """Out-of-fold log odds and probability by the identity of a row; {} without evidence."""
    try:
        made = evidence(study_rows, definition=definition)
    except ValueError:
        return {}
    values = scores(made.table, made.events, folds(made, "cell"))
    sure = special.expit(values + _log_odds(made.events))
    return {
        id(training.row): (float(value), float(p))
        for training, value, p in zip(made.trainings, values, sure, strict=True)
        if np.isfinite(value)
    }
