"""From estimates of a squared error to rows that say what is known.

error = sqrt(squared), its interval from squared -+ q se. On held-out data se is twice the standard
error over data: each datum speaks once for itself and once through the reference of the others (a
U-statistic's projection, Hoeffding 1948), and no more than twice. On visited states it is the
jackknife's over groups, with q Student's, together with that over trajectories.

status: "known" (both ends of the interval positive and within a factor), "below resolution"
(consistent with no error; error_high bounds it), "unknown" (with a reason; nothing is claimed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from assay.guidance.monitoring import levels

KNOWN, BELOW, UNKNOWN = "known", "below resolution", "unknown"
HELD_OUT, VISITED, RATIO = "held-out", "visited", "ratio"
_COVERED = 0.5  # share of ln sigma that a total must stand on
_TWICE = 2.0

Row = dict[str, Any]


class Seen(NamedTuple):
    """What was found on the visited states of one level."""

    value: levels.Visited
    around: levels.Surrounding
    disagreement: float | None


class Found(NamedTuple):
    """What was found at one level: T of each datum (n,), disagreement there, visited states."""

    level: levels.Level
    held: np.ndarray
    disagreement: float | None
    seen: Seen | None


class Estimate(NamedTuple):
    """A squared error, its standard error, and the quantile that makes its interval."""

    squared: float
    se: float
    quantile: float


@dataclass(frozen=True)
class Report:
    """rows: one for each level and kind of states; total: by "held-out", "visited", "ratio".

    Columns: key, states, sigma, w, guidance_scale, error with error_low and error_high (the root
    mean square error of eps; None unless known; error_high also below the resolution), squared
    and squared_se (of the estimate itself, which may be negative), status, reason, n (data or
    states), neighbours (median of effective neighbours), on_data (share of states among the
    data), disagreement (of an ensemble), reference, nfe. Totals: covered, the share of ln sigma
    that they stand on, and levels, which of them.
    """

    rows: list[Row]
    total: dict[str, Row] = field(default_factory=dict)

    def __repr__(self) -> str:
        shown = [_line(row) for row in (*self.total.values(), *self.rows)]
        width = [max(len(line[i]) for line in [_HEADS, *shown]) for i in range(len(_HEADS))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip()
            for line in [_HEADS, *shown]
        ]
        return "\n".join(["score error: root mean square error of eps", *lines])

    def _repr_html_(self) -> str:
        shown = [_line(row) for row in (*self.total.values(), *self.rows)]
        head = "".join(f"<th>{escape(h)}</th>" for h in _HEADS)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>"
            for line in shown
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


_HEADS = ("states", "sigma", "error", "interval", "neighbours", "among data", "status")


def _line(row: Row) -> tuple[str, ...]:
    low, high = row.get("error_low"), row.get("error_high")
    interval = "" if high is None else f"{low or 0:.3g} to {high:.3g}"
    near, among = row.get("neighbours"), row.get("on_data")
    said = row["status"] + (f": {row['reason']}" if row.get("reason") else "")
    if row.get("covered", 1.0) < 1 - 1e-9 and not row.get("reason"):
        said += f", over {row['covered']:.0%} of ln sigma"
    return (
        str(row["states"]), "all" if row["sigma"] is None else f"{row['sigma']:.3g}",
        "-" if row["error"] is None else f"{row['error']:.3g}", interval,
        "" if near is None else f"{near:.3g}", "" if among is None else f"{among:.0%}", said,
    )  # fmt: skip


def disagreement(said: Sequence[np.ndarray], sigma: float) -> float | None:
    """Root mean square distance of denoisers from their mean, in eps; None for a single one."""
    if len(said) < 2:
        return None
    spread = np.var(np.stack(said), axis=0, ddof=1).sum(axis=1)
    return float(np.sqrt(spread.mean()) / sigma)


def build(
    found: Sequence[Found], config: Any, w: float | None, drawn: int, n_denoisers: int
) -> Report:
    """All rows from what was found; drawn: evaluations that the trajectories took."""
    weights = log_weights([f.level.sigma for f in found])
    rows = [_held_row(f, config, n_denoisers) for f in found]
    total = {HELD_OUT: _total_held(found, weights, config, sum(r["nfe"] for r in rows))}
    seen = [_visited_row(f, config, w, n_denoisers) for f in found if f.seen is not None]
    if seen:
        spent = drawn + sum(r["nfe"] for r in seen)
        usable = [f.seen is not None and not _why_not(f.seen, config) for f in found]
        total[VISITED] = _total_visited(found, weights, usable, config) | _guided(w)
        total[VISITED]["nfe"] = spent
        total[RATIO] = _ratio(found, weights, usable, config) | _guided(w)
    return Report(rows + seen, total)


def log_weights(sigmas: Sequence[float]) -> np.ndarray:
    """Weights (n,) of sum 1 of the trapezoidal rule in ln sigma."""
    s = np.log(np.asarray(sigmas))
    gap = np.abs(np.diff(s)) / 2
    both = np.append(gap, 0) + np.insert(gap, 0, 0)
    return both / both.sum()


def _held(values: np.ndarray, config: Any) -> Estimate:
    se = _TWICE * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(float(values.mean()), float(se), float(stats.norm.ppf(0.5 + config.level / 2)))


def _seen(values: np.ndarray, states: np.ndarray, allowance: float, config: Any) -> Estimate:
    variance = values.var(ddof=1) / len(values) + states.var(ddof=1) / len(states)
    variance += allowance**2
    q = float(stats.t.ppf(0.5 + config.level / 2, len(values) - 1))
    return Estimate(float(values.mean()), float(np.sqrt(variance)), q)


def judge(found: Estimate, config: Any, why: str = "") -> Row:
    """error, its interval, squared, se, status and reason of an estimate."""
    low2, high2 = (found.squared + k * found.quantile * found.se for k in (-1, 1))
    low, high = (float(np.sqrt(max(v, 0.0))) for v in (low2, high2))
    row: Row = {
        "error": None, "error_low": None, "error_high": None,
        "squared": found.squared, "squared_se": found.se, "status": UNKNOWN, "reason": why or None,
    }  # fmt: skip
    if why:
        return row
    if low2 <= 0:
        bound = {"error_high": high, "error_low": 0.0, "status": BELOW}
        return row | bound | {"reason": f"no error was told from none; it is under {high:.3g}"}
    if high > config.spread * low:
        wide = f"the interval {low:.3g} to {high:.3g} is wider than a factor {config.spread:g}"
        return row | {"reason": wide}
    error = float(np.sqrt(found.squared))
    return row | {"error": error, "error_low": low, "error_high": high, "status": KNOWN}


def _guided(w: float | None) -> Row:
    return {"w": w, "guidance_scale": None if w is None else 1 + w}


def _row(states: str, sigma: float | None, w: float | None) -> Row:
    where = "all" if sigma is None else f"sigma={sigma:.6g}"
    return {"key": f"{states}/{where}", "states": states, "sigma": sigma} | _guided(w)


def _held_row(found: Found, config: Any, n_denoisers: int) -> Row:
    at = found.level
    return (
        _row(HELD_OUT, at.sigma, None)
        | judge(_held(found.held, config), config)
        | {
            "n": len(found.held), "neighbours": at.neighbours, "on_data": 1.0,
            "disagreement": found.disagreement, "reference": at.name,
            "nfe": len(at.held_out.x) * n_denoisers,
        }
    )  # fmt: skip


def _visited_row(found: Found, config: Any, w: float | None, n_denoisers: int) -> Row:
    seen, at = found.seen, found.level
    assert seen is not None
    estimate = _seen(seen.value.values, seen.value.states, seen.value.allowance, config)
    return (
        _row(VISITED, at.sigma, w)
        | judge(estimate, config, _why_not(seen, config))
        | {
            "n": len(seen.around.on_data),
            "neighbours": float(np.median(seen.around.neighbours)),
            "on_data": float(seen.around.on_data.mean()),
            "disagreement": seen.disagreement,
            "reference": at.name,
            "nfe": len(seen.value.states) * n_denoisers,
        }
    )


def _why_not(seen: Seen, config: Any) -> str:
    """Why held-out data cannot answer for these states; empty where they can."""
    share = float(seen.around.on_data.mean())
    if share < config.on_data:
        return (
            f"{share:.0%} of the states lie among the held-out data, "
            f"{config.on_data:.0%} are needed"
        )
    if seen.value.needed is not None:
        near = float(np.median(seen.around.neighbours))
        return (
            f"the states have {near:.1f} effective neighbours among the held-out data, "
            f"{seen.value.needed:g} are needed"
        )
    return ""


def _total_held(found: Sequence[Found], weights: np.ndarray, config: Any, nfe: int) -> Row:
    values = weights @ np.stack([f.held for f in found])
    return (
        _row(HELD_OUT, None, None)
        | judge(_held(values, config), config)
        | {"n": len(values), "covered": 1.0, "nfe": nfe}
        | {"levels": [f.level.sigma for f in found]}
    )


def _parts(
    found: Sequence[Found], weights: np.ndarray, usable: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Over the usable levels: jackknife values (G,), states (n,), the allowance for a model, and
    T of each datum (n,)."""
    share = weights[list(usable)] / weights[list(usable)].sum()
    kept = [f for f, use in zip(found, usable, strict=True) if use]
    seen = [f.seen for f in kept if f.seen is not None]
    values = share @ np.stack([s.value.values for s in seen])
    least = min(len(s.value.states) for s in seen)
    states = share @ np.stack([s.value.states[:least] for s in seen])
    allowance = float(share @ [s.value.allowance for s in seen])
    return values, states, allowance, share @ np.stack([f.held for f in kept])


def _total_visited(
    found: Sequence[Found], weights: np.ndarray, usable: Sequence[bool], config: Any
) -> Row:
    covered = float(weights[list(usable)].sum())
    row = _row(VISITED, None, None) | {"covered": covered, "n": None}
    row["levels"] = [f.level.sigma for f, use in zip(found, usable, strict=True) if use]
    why = _too_little(covered)
    if not any(usable):
        return row | judge(Estimate(np.nan, np.nan, 1.0), config, why)
    values, states, allowance, _ = _parts(found, weights, usable)
    row["n"] = len(states)
    return row | judge(_seen(values, states, allowance, config), config, why)


def _too_little(covered: float) -> str:
    if covered >= _COVERED:
        return ""
    return f"{covered:.0%} of ln sigma is covered by held-out data, {_COVERED:.0%} are needed"


def _ratio(
    found: Sequence[Found], weights: np.ndarray, usable: Sequence[bool], config: Any
) -> Row:
    """Visited over held-out on the same levels; interval from both, as if independent."""
    covered = float(weights[list(usable)].sum())
    row = _row(RATIO, None, None) | {"covered": covered}
    row |= dict.fromkeys(("error", "error_low", "error_high"))
    if _too_little(covered):
        return row | {"status": UNKNOWN, "reason": _too_little(covered)}
    values, states, allowance, held = _parts(found, weights, usable)
    top, below = _seen(values, states, allowance, config), _held(held, config)
    for name, one in ((VISITED, top), (HELD_OUT, below)):
        if one.squared - one.quantile * one.se <= 0:
            return row | {"status": UNKNOWN, "reason": f"the error on {name} states is not known"}
    centre = np.log(top.squared / below.squared) / 2
    parts = [e.quantile * e.se / e.squared / 2 for e in (top, below)]
    half = float(np.hypot(parts[0], parts[1]))
    ends = np.exp([centre, centre - half, centre + half])
    row |= dict(zip(("error", "error_low", "error_high"), map(float, ends), strict=True))
    wide = ends[2] > config.spread**2 * ends[1]
    reason = "its interval is too wide" if wide else None
    return row | {"status": UNKNOWN if wide else KNOWN, "reason": reason}
