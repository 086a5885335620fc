"""What the cells of the monitor's trial amount to: rank correlation, ratio, shares by status.

Over the cells said to be known, est the monitor's error and true the truth: Spearman's rank
correlation with Bonett and Wright's interval, the median of est / true with a bootstrap interval
over planted errors (all cells of one go together), the typical factor exp(median |ln est / true|),
and how often the stated interval holds the truth. Cells without any error have no ratio and count
as known ones that are wrong: there should be none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from assay.core import intervals

RANK, FACTOR = 0.95, 1.5
ALL = "all"
_STATUSES = ("known", "below resolution", "unknown")
_SMALL = 1e-9  # errors below this are none

Row = dict[str, Any]


def summaries(rows: Iterable[Row]) -> list[Row]:
    """One row for each target (and all), n, kind of states and scope: levels, totals, ratios.

    Where there are several n also scope "common": levels of the planted errors that all n met.
    """
    cells = [r for r in rows if r.get("kind") == "cell"]
    every = {n: [r for r in cells if r["n"] == n] for n in dict.fromkeys(r["n"] for r in cells)}
    kinds = [{_planted(r) for r in own} for own in every.values()]
    shared = set.intersection(*kinds) if kinds else set()
    found = []
    for n, own in every.items():
        for target in (*dict.fromkeys(r["target"] for r in own), ALL):
            here = own if target == ALL else [r for r in own if r["target"] == target]
            for states in ("held-out", "visited"):
                there = [r for r in here if r["states"] == states]
                scopes = (
                    ("levels", "totals", "ratios") if states == "visited" else ("levels", "totals")
                )
                found += [_summary(target, n, states, s, there) for s in scopes if there]
                common = [r for r in there if _planted(r) in shared]
                if len(every) > 1 and common:
                    found.append(_summary(target, n, states, "common", common))
    return found


def _planted(row: Row) -> str:
    return f"{row['target']}/{row['error_kind']}/{row['size']}"


def flat(rows: Sequence[Row], scope: str) -> list[tuple[str, float, float | None, Any, Any, str]]:
    """(planted error, true, est, low, high, status) of each cell of a scope."""
    found = []
    for r in rows:
        planted = _planted(r)
        if scope == "totals":
            cell = (r["true"], r["error"], r["error_low"], r["error_high"], r["status"])
            found.append((planted, *cell))
        elif scope == "ratios":
            cell = (
                r["true_ratio"],
                r["ratio"],
                r["ratio_low"],
                r["ratio_high"],
                r["ratio_status"],
            )
            found.append((planted, *cell))
        else:
            at = r["levels"]
            columns = (at["true"], at["error"], at["error_low"], at["error_high"], at["status"])
            found += [(planted, *cell) for cell in zip(*columns, strict=True)]
    return found


def _summary(target: str, n: int, states: str, scope: str, rows: Sequence[Row]) -> Row:
    cells = flat(rows, scope)
    known = [c for c in cells if c[-1] == "known"]
    row: Row = {
        "key": f"summary/{target}/n={n}/{states}/{scope}", "kind": "summary", "target": target,
        "n": n, "seed": rows[0]["seed"], "states": states, "scope": scope,
        "cells": len(cells), "known": len(known), "errors": len({c[0] for c in cells}),
    }  # fmt: skip
    for status in _STATUSES:
        row[f"share_{status.split()[0]}"] = sum(c[-1] == status for c in cells) / len(cells)
    return row | _compare(known)


def _compare(known: Sequence[Any]) -> Row:
    """Rank correlation, ratios and coverage of known cells; None where there are too few."""
    row: Row = dict.fromkeys(
        ("rank", "rank_low", "rank_high", "ratio", "ratio_low", "ratio_high", "factor",
         "within", "holds", "false_alarms", "met")
    )  # fmt: skip
    true = np.array([c[1] or 0.0 for c in known], dtype=float)
    real = true > _SMALL
    row["false_alarms"] = int((~real).sum())
    if len(known) < 4 or len(set(true)) < 2 or not real.any():
        return row
    est = np.array([c[2] for c in known], dtype=float)
    names = ("rank", "rank_low", "rank_high")
    row |= dict(zip(names, intervals.spearman(true, est), strict=True))
    log = np.log(est[real] / true[real])
    groups = np.array([c[0] for c in known])[real]
    low, high = _resampled(log, groups)
    row |= {"ratio": float(np.exp(np.median(log))), "ratio_low": low, "ratio_high": high}
    row["factor"] = float(np.exp(np.median(np.abs(log))))
    row["within"] = float(np.mean(np.abs(log) <= np.log(FACTOR)))
    row["holds"] = float(np.mean([c[3] <= c[1] <= c[4] for c in known]))
    row["met"] = bool(row["rank"] >= RANK and 1 / FACTOR <= row["ratio"] <= FACTOR)
    return row


def _resampled(log: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """95 % interval of the median ratio by redrawing planted errors whole."""
    rng = np.random.default_rng(0)
    parts = [log[groups == g] for g in np.unique(groups)]
    draws = [
        np.median(np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))]))
        for _ in range(400)
    ]
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    return float(low), float(high)
