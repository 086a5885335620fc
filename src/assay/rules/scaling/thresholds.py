"""How much data a rule needs: success as a function of samples per rule, with its thresholds.

Of k successes in n trials at N samples per rule the mean is

    p(N) = ceiling / (1 + exp(-slope (ln N - middle))),        0 < ceiling <= 1, slope >= 0,

so that more data never does worse. Trainings differ beyond binomial noise: the variance of k is
phi n p (1 - p), phi the Pearson statistic by its degrees of freedom, 1 at least (McCullagh and
Nelder 1989, section 4.5). Thresholds N50 and N90, where p is 0.5 and 0.9, have intervals from the
profile of the quasi-likelihood (ibid., 7.2.4): all N for which

    2 (L_max - L(N)) / phi <= F quantile(0.95; 1, degrees of freedom).

A threshold is said only where the fit reaches that share within a factor of two of the data's
sizes; otherwise it is None, with the side on which it lies. Held-out sizes are predicted by fits
to the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special, stats

REACH = 2.0  # how far beyond the sizes measured, as a factor, anything is said
_TINY = 1e-9
_SLOPES = (0.7, 3.0)


@dataclass(frozen=True)
class Counts:
    """One training: samples per rule, successes, trials."""

    per_rule: float
    successes: float
    trials: int


@dataclass(frozen=True)
class Threshold:
    """Samples per rule at which a share is reached; ``said`` where it is not known."""

    share: float
    value: float | None
    low: float | None = None
    high: float | None = None
    said: str = ""


class Curve:
    """The fit of p(N) to trainings at several sizes.

    ValueError with fewer than three sizes, or counts that are none.
    """

    def __init__(self, counts: Sequence[Counts]):
        _check(counts)
        self.log_n = np.log([c.per_rule for c in counts])
        self.k = np.array([c.successes for c in counts], dtype=np.float64)
        self.n = np.array([c.trials for c in counts], dtype=np.float64)
        self.sizes = np.unique([c.per_rule for c in counts])
        self.params, self.loss = self._fit(None)
        self.freedom = max(1, len(counts) - 3)
        self.phi = max(1.0, self._pearson() / self.freedom)

    # ---- the curve ---------------------------------------------------------------------------

    def __call__(self, per_rule: float | np.ndarray) -> np.ndarray:
        """p at samples per rule. ValueError beyond what the sizes measured support."""
        asked = np.atleast_1d(np.asarray(per_rule, dtype=np.float64))
        low, high = self.range
        outside = asked[(asked < low) | (asked > high)]
        if len(outside):
            raise ValueError(
                f"{outside[0]:g} samples per rule lie outside what was measured, "
                f"{self.sizes[0]:g} to {self.sizes[-1]:g} (answers reach from {low:g} to "
                f"{high:g}); add trainings there"
            )
        return _share(self.params, np.log(asked))

    @property
    def range(self) -> tuple[float, float]:
        """The samples per rule for which the curve answers."""
        return float(self.sizes[0] / REACH), float(self.sizes[-1] * REACH)

    def threshold(self, share: float) -> Threshold:
        """Samples per rule at which p is ``share``, in (0, 1), with a 95 % interval."""
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share!r}")
        low, high = self.range
        ends = _share(self.params, np.log([low, high]))
        if share > ends[1]:
            return Threshold(share, None, said=f"above {high:g}, or never")
        if share < ends[0]:
            return Threshold(share, None, said=f"below {low:g}")
        best = float(np.exp(_inverse(self.params, share)))
        edges = [self._edge(share, best, limit) for limit in (low, high)]
        return Threshold(share, best, edges[0], edges[1])

    def interval(self, per_rule: float, n_draws: int = 400, seed: int = 0) -> tuple[float, float]:
        """95 % interval of p at samples per rule: quantiles over `draws`."""
        self(per_rule)
        values = _share_many(self.draws(n_draws, seed), math.log(per_rule))
        low, high = np.quantile(values, [0.025, 0.975])
        return float(low), float(high)

    def draws(self, n: int, seed: int = 0) -> np.ndarray:
        """(n, 3) parameters refitted to counts drawn again with the dispersion found.

        Parametric bootstrap: beta-binomial counts with variance phi n p (1 - p).
        """
        rng = np.random.default_rng(seed)
        p = np.clip(_share(self.params, self.log_n), 1e-6, 1 - 1e-6)
        spread = np.clip((self.phi - 1) / np.maximum(self.n - 1, 1), 0, 0.5)
        found = []
        for _ in range(n):
            again = p
            if (spread > 0).any():
                weight = np.where(spread > 0, (1 - spread) / np.maximum(spread, _TINY), 1e9)
                again = rng.beta(p * weight, (1 - p) * weight)
            k = rng.binomial(self.n.astype(int), again).astype(np.float64)
            found.append(_minimise(self.log_n, k, self.n, [self.params])[0])
        return np.array(found)

    # ---- the likelihood ----------------------------------------------------------------------

    def _fit(self, held: tuple[float, float] | None) -> tuple[np.ndarray, float]:
        """Parameters and loss; held: (share, ln N) that the curve must pass through."""
        if held is not None:
            starts = [self.params, np.array([0.97, 1.0, 0.0])]
            return _minimise_held(self.log_n, self.k, self.n, held, starts)
        starts = [
            np.array([ceiling, slope, middle])
            for ceiling in (0.97, 0.6)
            for slope in _SLOPES
            for middle in np.quantile(self.log_n, [0.3, 0.7])
        ]
        return _minimise(self.log_n, self.k, self.n, starts)

    def _pearson(self) -> float:
        p = np.clip(_share(self.params, self.log_n), 1e-6, 1 - 1e-6)
        return float(((self.k - self.n * p) ** 2 / (self.n * p * (1 - p))).sum())

    def _edge(self, share: float, best: float, limit: float) -> float | None:
        """Where the profile leaves the interval on the way to a limit; None where it does not."""
        allowed = float(stats.f.ppf(0.95, 1, self.freedom)) * self.phi / 2

        def excess(log_n: float) -> float:
            return self._fit((share, log_n))[1] - self.loss - allowed

        start, end = math.log(best), math.log(limit)
        if excess(end) <= 0:
            return None
        found: Any = optimize.brentq(excess, start, end, xtol=1e-3)
        return math.exp(found)


def held_out(counts: Sequence[Counts]) -> list[dict[str, float]]:
    """For each inner size: what is measured there and what a fit to the other sizes predicts.

    Rows with per_rule, predicted, observed, error = predicted - observed.
    """
    rows = []
    sizes = np.unique([c.per_rule for c in counts])
    for size in sizes[1:-1]:
        others = [c for c in counts if c.per_rule != size]
        here = [c for c in counts if c.per_rule == size]
        if len({c.per_rule for c in others}) < 3:
            continue
        observed = sum(c.successes for c in here) / sum(c.trials for c in here)
        predicted = float(Curve(others)(size)[0])
        rows.append({
            "per_rule": float(size),
            "predicted": predicted,
            "observed": observed,
            "error": predicted - observed,
        })  # fmt: skip
    return rows


def _check(counts: Sequence[Counts]) -> None:
    sizes = {c.per_rule for c in counts}
    if len(sizes) < 3:
        raise ValueError(f"a curve needs three sizes of data or more, got {sorted(sizes)}")
    for c in counts:
        if not (c.per_rule > 0 and 0 <= c.successes <= c.trials and c.trials > 0):
            raise ValueError(f"{c} is no count: it needs per_rule > 0, 0 <= successes <= trials")


def _share(params: np.ndarray, log_n: np.ndarray) -> np.ndarray:
    ceiling, slope, middle = params
    return ceiling * special.expit(slope * (np.asarray(log_n) - middle))


def _share_many(params: np.ndarray, log_n: float) -> np.ndarray:
    return params[:, 0] * special.expit(params[:, 1] * (log_n - params[:, 2]))


def _inverse(params: np.ndarray, share: float) -> float:
    """ln N at which p is share < ceiling."""
    ceiling, slope, middle = params
    return middle + special.logit(share / ceiling) / slope


def _loss(p: np.ndarray, k: np.ndarray, n: np.ndarray) -> float:
    """Minus the log likelihood, less its constant."""
    p = np.clip(p, _TINY, 1 - _TINY)
    return float(-(special.xlogy(k, p) + special.xlogy(n - k, 1 - p)).sum())


_BOUNDS = ((0.01, 1.0), (0.02, 30.0), (-5.0, 25.0))


def _slope_of_loss(
    params: np.ndarray, log_n: np.ndarray, k: np.ndarray, n: np.ndarray
) -> tuple[float, np.ndarray]:
    """The loss and its gradient in (ceiling, slope, middle)."""
    ceiling, slope, middle = params
    s = special.expit(slope * (log_n - middle))
    p = np.clip(ceiling * s, _TINY, 1 - _TINY)
    by_p = (n - k) / (1 - p) - k / p
    by_logit = by_p * p * (1 - s)
    gradient = (by_p @ s, by_logit @ (log_n - middle), -slope * by_logit.sum())
    return _loss(p, k, n), np.array(gradient)


def _minimise(
    log_n: np.ndarray, k: np.ndarray, n: np.ndarray, starts: Sequence[np.ndarray]
) -> tuple[np.ndarray, float]:
    """The likeliest parameters from several starts, and their loss."""
    best = None
    for start in starts:
        found = optimize.minimize(
            _slope_of_loss, start, (log_n, k, n), "L-BFGS-B", jac=True, bounds=_BOUNDS
        )
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    return best.x, float(best.fun)


def _minimise_held(
    log_n: np.ndarray,
    k: np.ndarray,
    n: np.ndarray,
    held: tuple[float, float],
    starts: Sequence[np.ndarray],
) -> tuple[np.ndarray, float]:
    """The same over curves through one point: ceiling and slope are free, the middle follows."""
    share, at = held

    def whole(v: np.ndarray) -> np.ndarray:
        ceiling, slope = v
        return np.array([ceiling, slope, at - special.logit(share / ceiling) / slope])

    best = None
    least = share + 1e-4 * (1 - share)
    for start in starts:
        found = optimize.minimize(
            lambda v: _loss(_share(whole(v), log_n), k, n),
            np.array([min(max(start[0], least), 0.999), start[1]]),
            method="L-BFGS-B",
            bounds=((least, 1.0), _BOUNDS[1]),
        )
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    return whole(best.x), float(best.fun)
