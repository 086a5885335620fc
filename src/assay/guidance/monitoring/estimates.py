"""Squared errors with intervals: of one noise level, of all together, and their ratio.

Levels share data, groups, trajectories and held-out states, so that a sum over levels is taken
inside each of these before its variance is. With weights a over levels and parts P (groups G,
data n, states m, held-out states r) of :class:`assay.guidance.monitoring.levels.Visited`

    squared = sum a (mean of P_groups + mean of P_data),
    se^2    = var(a P_groups)/G + 4 var(a P_data)/n + var(a P_states)/m + var(a P_own)/r
              + shared^2,

and d ln(visited / held-out) = d visited / visited - d held-out / held-out, part by part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from assay.guidance.monitoring import levels

KNOWN, BELOW, UNKNOWN = "known", "below resolution", "unknown"


class Estimate(NamedTuple):
    """A squared error, its standard error, the quantile that makes its interval, what the levels
    it sums vouch for."""

    squared: float
    se: float
    quantile: float
    least: float = 0.0

    @property
    def low(self) -> float:
        """Lower end."""
        return max(self.squared - self.quantile * self.se, self.least)

    @property
    def high(self) -> float:
        """Upper end."""
        return max(self.squared + self.quantile * self.se, self.least)


NONE = Estimate(np.nan, np.nan, 1.0)


def held(weights: Sequence[float] | np.ndarray, every: Sequence[levels.Held], config: Any) -> Any:
    """Squared error on held-out data: of one level, or of several by their weights."""
    settled = levels.settle(_sum(weights, every))
    se = np.hypot(_se(settled.values) * levels.TWICE, settled.shared)
    quantile = float(stats.norm.ppf(0.5 + config.level / 2))
    found = Estimate(float(settled.values.mean()), float(se), quantile)
    if len(every) == 1:
        return found
    return _vouched(found, weights, [held([1.0], [one], config) for one in every])


def visited(
    weights: Sequence[float] | np.ndarray, every: Sequence[levels.Visited], config: Any
) -> Estimate:
    """Squared error on visited states: of one level, or of several by their weights."""
    parts = _parts(weights, every)
    squared = float(parts.values.mean() + parts.base.mean())
    found = Estimate(squared, _noise(parts, parts.base), _student(parts, config))
    if len(every) == 1:
        return found
    return _vouched(found, weights, [visited([1.0], [one], config) for one in every])


def ratio(
    weights: np.ndarray,
    held_out: Sequence[levels.Held],
    seen: Sequence[levels.Visited],
    config: Any,
) -> tuple[float, float]:
    """ln of visited over held-out error, and half of its interval."""
    parts, settled = _parts(weights, seen), levels.settle(_sum(weights, held_out))
    bottom = held(weights, held_out, config)
    top = visited(weights, seen, config)
    above, below = max(top.squared, top.least), max(bottom.squared, bottom.least)
    scaled = parts._replace(
        values=parts.values / above, states=parts.states / above, own=parts.own / above,
        allowance=float(np.hypot(parts.allowance / above, settled.shared / below)),
    )  # fmt: skip
    se = _noise(scaled, parts.base / above - settled.values / below)
    return float(np.log(above / below)) / 2, _student(parts, config) * se / 2


def _sum(weights: Sequence[float] | np.ndarray, every: Sequence[levels.Held]) -> levels.Held:
    share = np.asarray(weights, dtype=np.float64)
    return levels.Held(share @ [h.product for h in every], share @ [h.loss for h in every])


def _parts(
    weights: Sequence[float] | np.ndarray, every: Sequence[levels.Visited]
) -> levels.Visited:
    """Weighted sums over levels, as if of one level."""
    share = np.asarray(weights, dtype=np.float64)
    few, fewer = min(len(v.states) for v in every), min(len(v.own) for v in every)
    return levels.Visited(
        share @ [v.values for v in every], share @ [v.base for v in every],
        share @ [v.states[:few] for v in every], share @ [v.own[:fewer] for v in every],
        float(share @ [v.allowance for v in every]), None,
    )  # fmt: skip


def _noise(parts: levels.Visited, base: np.ndarray) -> float:
    noise = [_se(parts.values), levels.TWICE * _se(base), _se(parts.states), _se(parts.own)]
    return float(np.sqrt(np.sum(np.square([*noise, parts.allowance]))))


def _se(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / np.sqrt(len(values))


def _student(parts: levels.Visited, config: Any) -> float:
    return float(stats.t.ppf(0.5 + config.level / 2, len(parts.values) - 1))


def _vouched(
    found: Estimate, weights: Sequence[float] | np.ndarray, every: Sequence[Estimate]
) -> Estimate:
    """The sum, no less than what its levels' lower ends add up to."""
    least = float(sum(a * max(e.low, 0.0) for a, e in zip(weights, every, strict=True)))
    return found._replace(least=least)


def judge(found: Estimate, config: Any, why: str = "") -> dict[str, Any]:
    """error, its interval, squared, se, status and reason of an estimate."""
    row: dict[str, Any] = {
        "error": None, "error_low": None, "error_high": None,
        "squared": found.squared, "squared_se": found.se, "status": UNKNOWN, "reason": why or None,
    }  # fmt: skip
    if why:
        return row
    low, high = (float(np.sqrt(max(v, 0.0))) for v in (found.low, found.high))
    if 0 < high <= config.spread * low:
        error = float(np.sqrt(max(found.squared, found.low)))
        return row | {"error": error, "error_low": low, "error_high": high, "status": KNOWN}
    if found.squared - found.quantile * found.se <= 0:
        bound = {"error_high": high, "error_low": low, "status": BELOW}
        told = f"no error was told from none; it is under {high:.3g}"
        if low > 0:
            told = f"some levels know of an error; it is between {low:.3g} and {high:.3g}"
        return row | bound | {"reason": told}
    wide = f"the interval {low:.3g} to {high:.3g} is wider than a factor {config.spread:g}"
    return row | {"reason": wide}
