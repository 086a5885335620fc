"""From estimates of a squared error to rows that say what is known.

error = sqrt(squared), its interval from squared -+ q se. On held-out data se is twice the standard
error over data: each datum speaks once for itself and once through the reference of the others (a
U-statistic's projection, Hoeffding 1948), and no more than twice. On visited states it is the
jackknife's over groups, with q Student's, together with those over data, trajectories and
held-out states. What a reference may share of the error widens both.

A total is the sum over levels; its lower end is no less than the sum of the levels' own lower
ends, so that levels at which a small error drowns do not hide what the others know. The ratio's
interval is that of the logarithm, with what both errors have in common counted once.

status: "known" (both ends of the interval positive and within a factor), "below resolution"
(consistent with no error, error_high bounds it; a total whose levels know of an error lies
between error_low and error_high, more than that factor apart), "unknown" (with a reason; nothing
is claimed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from assay.guidance.monitoring import estimates, levels
from assay.guidance.monitoring.estimates import KNOWN, UNKNOWN

HELD_OUT, VISITED, RATIO = "held-out", "visited", "ratio"
_COVERED = 0.5  # share of ln sigma that a total must stand on

Row = dict[str, Any]


class Seen(NamedTuple):
    """What was found on the visited states of one level."""

    value: levels.Visited
    around: levels.Surrounding
    disagreement: float | None


class Found(NamedTuple):
    """What was found at one level: T and L of each datum, disagreement there, visited states."""

    level: levels.Level
    held: levels.Held
    disagreement: float | None
    seen: Seen | None


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
        usable = _usable(found, weights, config)
        total[VISITED] = _total_visited(usable, config) | _guided(w)
        total[VISITED]["nfe"] = spent
        total[RATIO] = _ratio(usable, config) | _guided(w)
    return Report(rows + seen, total)


def log_weights(sigmas: Sequence[float]) -> np.ndarray:
    """Weights (n,) of sum 1 of the trapezoidal rule in ln sigma."""
    s = np.log(np.asarray(sigmas))
    gap = np.abs(np.diff(s)) / 2
    both = np.append(gap, 0) + np.insert(gap, 0, 0)
    return both / both.sum()


def _guided(w: float | None) -> Row:
    return {"w": w, "guidance_scale": None if w is None else 1 + w}


def _row(states: str, sigma: float | None, w: float | None) -> Row:
    where = "all" if sigma is None else f"sigma={sigma:.6g}"
    return {"key": f"{states}/{where}", "states": states, "sigma": sigma} | _guided(w)


def _held_row(found: Found, config: Any, n_denoisers: int) -> Row:
    at = found.level
    return (
        _row(HELD_OUT, at.sigma, None)
        | estimates.judge(estimates.held([1.0], [found.held], config), config)
        | {
            "n": len(found.held), "neighbours": at.neighbours, "on_data": 1.0,
            "disagreement": found.disagreement, "reference": at.name,
            "nfe": len(at.held_out.x) * n_denoisers,
        }
    )  # fmt: skip


def _visited_row(found: Found, config: Any, w: float | None, n_denoisers: int) -> Row:
    seen, at = found.seen, found.level
    assert seen is not None
    estimate = estimates.visited([1.0], [seen.value], config)
    return (
        _row(VISITED, at.sigma, w)
        | estimates.judge(estimate, config, _why_not(seen, config))
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
    total = estimates.held(weights, [f.held for f in found], config)
    return (
        _row(HELD_OUT, None, None)
        | estimates.judge(total, config)
        | {"n": len(found[0].held.product), "covered": 1.0, "nfe": nfe}
        | {"levels": [f.level.sigma for f in found]}
    )


class _Usable(NamedTuple):
    """Levels that held-out data answer for, their weights of sum 1, the share they cover."""

    weights: np.ndarray
    held: list[levels.Held]
    seen: list[levels.Visited]
    sigmas: list[float]
    covered: float


def _usable(found: Sequence[Found], weights: np.ndarray, config: Any) -> _Usable:
    kept = [
        (a, f, f.seen.value)
        for a, f in zip(weights, found, strict=True)
        if f.seen is not None and not _why_not(f.seen, config)
    ]
    share = np.array([a for a, _, _ in kept])
    return _Usable(
        share / share.sum() if kept else share, [f.held for _, f, _ in kept],
        [v for _, _, v in kept], [f.level.sigma for _, f, _ in kept], float(share.sum()),
    )  # fmt: skip


def _total_visited(usable: _Usable, config: Any) -> Row:
    row = _row(VISITED, None, None) | {"covered": usable.covered, "n": None}
    row["levels"] = usable.sigmas
    why = _too_little(usable.covered)
    if not usable.seen:
        return row | estimates.judge(estimates.NONE, config, why)
    row["n"] = min(len(v.states) for v in usable.seen)
    total = estimates.visited(usable.weights, usable.seen, config)
    return row | estimates.judge(total, config, why)


def _too_little(covered: float) -> str:
    if covered >= _COVERED:
        return ""
    return f"{covered:.0%} of ln sigma is covered by held-out data, {_COVERED:.0%} are needed"


def _ratio(usable: _Usable, config: Any) -> Row:
    """Visited over held-out on the same levels."""
    row = _row(RATIO, None, None) | {"covered": usable.covered}
    row |= dict.fromkeys(("error", "error_low", "error_high"))
    why = _too_little(usable.covered)
    if why:
        return row | {"status": UNKNOWN, "reason": why}
    below = estimates.held(usable.weights, usable.held, config)
    top = estimates.visited(usable.weights, usable.seen, config)
    for name, one in ((VISITED, top), (HELD_OUT, below)):
        if one.low <= 0 or one.squared <= 0:
            return row | {"status": UNKNOWN, "reason": f"the error on {name} states is not known"}
    centre, half = estimates.ratio(usable.weights, usable.held, usable.seen, config)
    ends = np.exp([centre, centre - half, centre + half])
    row |= dict(zip(("error", "error_low", "error_high"), map(float, ends), strict=True))
    wide = ends[2] > config.spread**2 * ends[1]
    reason = "its interval is too wide" if wide else None
    return row | {"status": UNKNOWN if wide else KNOWN, "reason": reason}
