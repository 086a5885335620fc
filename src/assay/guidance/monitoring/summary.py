"""What the cells of the monitor's trial amount to: rank correlation, ratio, shares by status.

Over the cells said to be known, est the monitor's error and true the truth: Spearman's rank
correlation and the median of est / true, both with 95 % bootstrap intervals over planted errors
(all cells of one go together), the span max / min of the truth (where it is small there is little
to rank), the typical factor exp(median |ln est / true|), and how often the stated interval holds
the truth. Cells without any error have no ratio and count as known ones that are wrong: there
should be none. Of the cells below the resolution: how often the truth is under the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

RANK, FACTOR = 0.95, 1.5
ALL = "all"
_STATUSES = ("known", "below resolution", "unknown")
_SMALL = 1e-9  # errors below this are none
_REDRAWN = 200

Row = dict[str, Any]


def summaries(rows: Iterable[Row], sizes: Sequence[float] = ()) -> list[Row]:
    """One row for each target (and all), n, kind of states and scope: levels, totals, ratios.

    sizes: those that every target met; where a target met others too, a row over these alone
    ("common" in ``sizes``) and one over all. Where there are several n also scope "common":
    levels of the planted errors that all n met.
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
                for name, some in _by_size(there, sizes):
                    found += [_summary((target, n, states, s, name), some) for s in _scopes(some)]
                common = [r for r in there if _planted(r) in shared]
                if len(every) > 1 and common:
                    found.append(_summary((target, n, states, "common", ALL), common))
    return found


def _by_size(rows: list[Row], sizes: Sequence[float]) -> list[tuple[str, list[Row]]]:
    some = [r for r in rows if r["size"] in sizes]
    parts = [("common", some)] if some and len(some) < len(rows) else []
    return [*parts, (ALL, rows)]


def _scopes(rows: Sequence[Row]) -> tuple[str, ...]:
    if not rows:
        return ()
    visited = rows[0]["states"] == "visited"
    return ("levels", "totals", "ratios") if visited else ("levels", "totals")


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


def _summary(of: tuple[str, int, str, str, str], rows: Sequence[Row]) -> Row:
    target, n, states, scope, sizes = of
    cells = flat(rows, scope)
    known = [c for c in cells if c[-1] == "known"]
    under = [c for c in cells if c[-1] == "below resolution" and c[4] is not None]
    row: Row = {
        "key": f"summary/{target}/n={n}/{states}/{scope}/{sizes}", "kind": "summary",
        "target": target, "n": n, "seed": rows[0]["seed"], "states": states, "scope": scope,
        "sizes": sizes, "cells": len(cells), "known": len(known),
        "errors": len({c[0] for c in known}),
        "bounds": len(under),
        "bounds_hold": float(np.mean([c[1] <= c[4] for c in under])) if under else None,
    }  # fmt: skip
    for status in _STATUSES:
        row[f"share_{status.split()[0]}"] = sum(c[-1] == status for c in cells) / len(cells)
    return row | _compare(known)


def _compare(known: Sequence[Any]) -> Row:
    """Rank correlation, ratios and coverage of known cells; None where there are too few."""
    row: Row = dict.fromkeys(
        ("rank", "rank_low", "rank_high", "ratio", "ratio_low", "ratio_high", "factor",
         "within", "holds", "span", "false_alarms", "met")
    )  # fmt: skip
    true = np.array([c[1] or 0.0 for c in known], dtype=float)
    real = true > _SMALL
    row["false_alarms"] = int((~real).sum())
    if len(known) < 4 or len(set(true)) < 2 or not real.any():
        return row
    est = np.array([c[2] for c in known], dtype=float)
    log = np.where(real, np.log(est / np.where(real, true, 1.0)), np.nan)
    row["rank"] = _rank(true, est)
    row["ratio"] = float(np.exp(np.nanmedian(log)))
    row |= _resampled(true, est, log, np.array([c[0] for c in known]))
    row["span"] = float(true[real].max() / true[real].min())
    row["factor"] = float(np.exp(np.nanmedian(np.abs(log))))
    row["within"] = float(np.mean(np.abs(log[real]) <= np.log(FACTOR)))
    row["holds"] = float(np.mean([c[3] <= c[1] <= c[4] for c in known]))
    row["met"] = bool(row["rank"] >= RANK and 1 / FACTOR <= row["ratio"] <= FACTOR)
    return row


def _rank(true: np.ndarray, est: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where either is constant."""
    if len(set(true)) < 2 or len(set(est)) < 2:
        return 0.0
    return float(np.corrcoef(stats.rankdata(true), stats.rankdata(est))[0, 1])


def _resampled(true: np.ndarray, est: np.ndarray, log: np.ndarray, groups: np.ndarray) -> Row:
    """95 % intervals of rank correlation and median ratio by redrawing planted errors whole."""
    rng = np.random.default_rng(0)
    parts = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    draws = []
    for _ in range(_REDRAWN):
        drawn = np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))])
        ratio = float(np.nanmedian(log[drawn])) if np.isfinite(log[drawn]).any() else np.nan
        draws.append((_rank(true[drawn], est[drawn]), ratio))
    low, high = np.nanquantile(np.array(draws), [0.025, 0.975], axis=0)
    return {
        "rank_low": float(low[0]), "rank_high": float(high[0]),
        "ratio_low": float(np.exp(low[1])), "ratio_high": float(np.exp(high[1])),
    }  # fmt: skip
