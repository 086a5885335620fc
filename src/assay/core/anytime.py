"""Confidence sequences: intervals for a mean that hold at every moment at once, by betting.

Let x_1, x_2, ... lie in [0, 1] with E[x_t | past] = mean, whatever their distribution. A player
who doubts "mean <= m" bets a fixed share theta of the most that may be bet, on every draw:

    K_t(m, theta) = prod_{i <= t} (1 + theta (x_i - m)/m),            0 < theta < 1,

and one who doubts "mean >= m" has prod (1 + theta (m - x_i)/(1 - m)). Where the doubted statement
is true the capital is a non-negative supermartingale that starts at 1, and so is its average over
thetas, K_t(m) = sum_j p_j K_t(m, theta_j), p_j >= 0, sum p_j = 1. Ville's inequality gives

    P(there is a t with K_t(m) >= 1/alpha) <= alpha :

one may look after every draw, stop when one likes, and go on later. Both capitals are monotone
in m, so the means not yet ruled out form an interval; between two looks nothing has to be spent.
The average over J = 12 shares pays at most ln(1/p_j) for knowing none of them beforehand and
grows like the best of them, for rare events near an end of the range and for smooth scores alike.

A change is watched for by bets that start at every draw: with gamma_j > 0 of sum 1,

    M_t = sum_{j <= t} gamma_j prod_{j <= i <= t} (1 + theta (x_i - m)/m)
        = (M_{t-1} + gamma_t) (1 + theta (x_t - m)/m),

is below such a supermartingale, so P(M_t >= 1/alpha for any t) <= alpha while the mean stays
within its limit, however long the watch. gamma_j = 1/log2(j + 1) - 1/log2(j + 2): after a change
at draw v the bets have to earn ln(1/alpha) + ln v + 2 ln ln v or so.

References: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
2024, arXiv 2010.09686; Ville 1939; Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532
(bets restarted at every draw; there with gamma_j = 1 and a bound on the run length instead).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from assay.core.intervals import as_array

BLOCK = 1 << 18  # entries of the largest temporary array
_LOGITS = np.linspace(math.log(0.004), math.log(30.0), 12)
THETAS = 1 / (1 + np.exp(-_LOGITS))  # shares of the largest bet, 0.004 to 0.97
LOG_PRIOR = 0.5 * np.log(THETAS) - np.log(np.sqrt(THETAS).sum())  # p_j ~ sqrt(theta_j)
SEGMENT = 16  # draws whose factors are multiplied before their logarithm is taken

Side = Literal["above", "below"]
State = dict[str, Any]


class MeanSequence:
    """Confidence sequence for the mean of draws in [low, high]; fed draw by draw or in batches.

    alpha: the probability, over the whole future, that the mean is ever outside the interval:
    half of it for each end, or a pair (of the lower end, of the upper end), each in (0, 1).
    means: values of the mean that are tested, strictly between low and high, increasing; ends of
    the interval are among them, rounded outwards [default: 317, every 0.005 of the range and
    finer below 0.01 of it at either end]. A single one makes a test of one limit. shape: streams
    side by side, all fed at once.

    The interval at a moment uses all draws so far. Intersecting all intervals so far is as valid
    (:func:`confidence_sequence`). Source: see the module.
    """

    def __init__(
        self,
        alpha: float | tuple[float, float] = 0.05,
        low: float = 0.0,
        high: float = 1.0,
        *,
        means: Sequence[float] | np.ndarray | None = None,
        shape: tuple[int, ...] = (),
    ):
        self.alphas = _alphas(alpha)
        self.low, self.high = _range(low, high)
        self.means = _means(means, self.low, self.high)
        self.shape = tuple(shape)
        self.n = 0
        self._sum = np.zeros(self.shape)
        size = (*self.shape, 2, len(self.means), len(THETAS))
        # side 0 doubts mean <= m; ln capital up to the last whole segment, factors since then
        self._log, self._product = np.broadcast_to(LOG_PRIOR, size).copy(), np.ones(size)

    def update(self, x: Any) -> MeanSequence:
        """Take draws x: one of the stream's shape, or (n, *shape). Returns itself.

        ValueError, and nothing taken, where one is not finite or outside [low, high].
        """
        for _ in self._feed(x):
            pass
        return self

    def evidence(self, x: Any) -> np.ndarray:
        """Take draws x, (n, *shape), and return ln K after each: (n, *shape, 2, n_means).

        [..., 0, :] is evidence that the mean lies above, [..., 1, :] that it lies below; a value
        of ln(1/alpha) or more settles it at level alpha.
        """
        size = (0, *self.shape, 2, len(self.means))
        return np.concatenate([np.zeros(size), *(_total(self._log, k) for k in self._feed(x))])

    def interval(self) -> tuple[Any, Any]:
        """(lower, upper): floats for one stream, arrays of the streams' shape otherwise."""
        return self._interval(self.log_evidence())

    def log_evidence(self) -> np.ndarray:
        """ln K now, (*shape, 2, n_means): that the mean is above (0) or below (1) each value."""
        return _total(self._log, self._product)

    @property
    def mean(self) -> Any:
        """The mean of the draws so far; None before the first."""
        if not self.n:
            return None
        found = self._sum / self.n
        return found if self.shape else float(found)

    def keep(self, which: np.ndarray) -> None:
        """Go on with some of the streams only: a mask or indices of the first axis."""
        self._log, self._product = self._log[which], self._product[which]
        self._sum = self._sum[which]
        self.shape = self._sum.shape

    def state(self) -> State:
        """All there is to know, for JSON; :meth:`restore` goes on from it exactly."""
        return {
            "alpha": list(self.alphas), "low": self.low, "high": self.high, "n": self.n,
            "means": self.means.tolist(), "shape": list(self.shape), "sum": self._sum.tolist(),
            "log_capital": self._log.tolist(), "factors": self._product.tolist(),
        }  # fmt: skip

    @classmethod
    def restore(cls, state: State) -> MeanSequence:
        """The sequence of a :meth:`state`. ValueError where entries are missing or misshapen."""
        try:
            made = cls(
                (state["alpha"][0], state["alpha"][1]), state["low"], state["high"],
                means=state["means"], shape=tuple(state["shape"]),
            )  # fmt: skip
            made.n = int(state["n"])
            made._sum = np.asarray(state["sum"], np.float64).reshape(made.shape)
            size = made._log.shape
            made._log = np.asarray(state["log_capital"], np.float64).reshape(size)
            made._product = np.asarray(state["factors"], np.float64).reshape(size)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"this is no state of a MeanSequence: {error}") from None
        return made

    def _feed(self, x: Any) -> Iterator[np.ndarray]:
        """Factors of every theta since the last whole segment, (k, *shape, 2, n_means, J), after
        each of k draws; ends of segments fall on multiples of SEGMENT draws, so that batches
        give what single draws give. All draws are checked before any is taken."""
        z = _scaled(x, self.shape, self.low, self.high)[..., None, None]
        m = ((self.means - self.low) / (self.high - self.low))[:, None]
        most = max(1, BLOCK // self._log.size)
        while len(z):
            k = min(SEGMENT - self.n % SEGMENT, most, len(z))
            part, z = z[:k], z[k:]
            steps = np.empty((k, *self._log.shape))
            steps[..., 0, :, :] = 1 - THETAS + (THETAS / m) * part
            steps[..., 1, :, :] = 1 - THETAS + (THETAS / (1 - m)) * (1 - part)
            steps[0] *= self._product
            np.multiply.accumulate(steps, axis=0, out=steps)
            yield steps
            drawn = self.low + (self.high - self.low) * part[..., 0, 0]
            self._sum = np.add.accumulate(np.concatenate([self._sum[None], drawn]))[-1]
            self.n, self._product = self.n + k, steps[-1].copy()
            if self.n % SEGMENT == 0:
                self._log = self._log + np.log(self._product)
                self._product = np.ones_like(self._log)

    def _interval(self, evidence: np.ndarray) -> tuple[Any, Any]:
        """The interval that evidence (..., 2, n_means) leaves."""
        above, below = evidence[..., 0, :], evidence[..., 1, :]
        out_low = above >= math.log(1 / self.alphas[0])
        out_high = below >= math.log(1 / self.alphas[1])
        lower = np.where(out_low, self.means, self.low).max(-1)
        upper = np.where(out_high, self.means, self.high).min(-1)
        return (lower, upper) if np.ndim(lower) else (float(lower), float(upper))


class Watch:
    """Watches draws in [low, high] for a mean that leaves its limit, from any draw on.

    side "above": alarm where the mean has risen above the limit; "below": fallen below it. While
    it stays within, P(:meth:`update` ever returns ln(1/alpha) or more) <= alpha, at any alpha
    and for a watch of any length. shape: streams side by side. Source: see the module.
    """

    def __init__(
        self,
        limit: float,
        side: Side,
        low: float = 0.0,
        high: float = 1.0,
        *,
        shape: tuple[int, ...] = (),
    ):
        if side not in ("above", "below"):
            raise ValueError(f'side must be "above" or "below", got {side!r}')
        self.low, self.high = _range(low, high)
        self.limit = float(_means([limit], self.low, self.high)[0])
        self.side, self.shape, self.n = side, tuple(shape), 0
        self._capital = np.zeros((*self.shape, len(THETAS)))  # over exp(scale)
        self._scale = np.zeros(self.shape)

    def update(self, x: Any) -> np.ndarray:
        """Take draws x, (n, *shape), and return ln M after each, (n, *shape).

        ValueError, and nothing taken, where one is not finite or outside [low, high].
        """
        z = _scaled(x, self.shape, self.low, self.high)
        m = (self.limit - self.low) / (self.high - self.low)
        z, best = (z, THETAS / m) if self.side == "above" else (1 - z, THETAS / (1 - m))
        path = np.empty(z.shape)
        for t, row in enumerate(z[..., None]):
            self.n += 1
            begun = np.exp(LOG_PRIOR + _log_gamma(self.n) - self._scale[..., None])
            self._capital = (self._capital + begun) * (1 - THETAS + best * row)
            path[t] = self.log_evidence()
            if self.n % SEGMENT == 0:
                top = self._capital.max(-1)
                self._capital, self._scale = (
                    self._capital / top[..., None],
                    self._scale + np.log(top),
                )
        return path

    def log_evidence(self) -> Any:
        """ln M now: a float for one stream, -inf before the first draw."""
        if not self.n:
            return np.full(self.shape, -np.inf) if self.shape else -math.inf
        found = np.log(self._capital.sum(-1)) + self._scale
        return found if self.shape else float(found)

    def keep(self, which: np.ndarray) -> None:
        """Go on with some of the streams only: a mask or indices of the first axis."""
        self._capital, self._scale = self._capital[which], self._scale[which]
        self.shape = self._scale.shape

    def state(self) -> State:
        """All there is to know, for JSON; :meth:`restore` goes on from it exactly."""
        return {
            "limit": self.limit, "side": self.side, "low": self.low, "high": self.high,
            "shape": list(self.shape), "n": self.n, "capital": self._capital.tolist(),
            "log_scale": self._scale.tolist(),
        }  # fmt: skip

    @classmethod
    def restore(cls, state: State) -> Watch:
        """The watch of a :meth:`state`. ValueError where entries are missing or misshapen."""
        try:
            made = cls(state["limit"], state["side"], state["low"], state["high"],
                       shape=tuple(state["shape"]))  # fmt: skip
            made.n = int(state["n"])
            made._scale = np.asarray(state["log_scale"], np.float64).reshape(made.shape)
            size = made._capital.shape
            made._capital = np.asarray(state["capital"], np.float64).reshape(size)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no state of a Watch: {error}") from None
        return made


def confidence_sequence(
    x: Any,
    alpha: float | tuple[float, float] = 0.05,
    low: float = 0.0,
    high: float = 1.0,
    means: Sequence[float] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) after each draw, of x's shape (n,) or (n, *streams); never widening.

    With probability 1 - alpha all n intervals hold the mean. alpha, low, high, means as
    :class:`MeanSequence`. ValueError for draws outside [low, high].
    """
    x = as_array("x", x)
    sequence = MeanSequence(alpha, low, high, means=means, shape=x.shape[1:])
    parts = [sequence._interval(_total(sequence._log, k)) for k in sequence._feed(x)]
    if not parts:
        return np.empty(x.shape), np.empty(x.shape)
    lower = np.maximum.accumulate(np.concatenate([np.atleast_1d(p[0]) for p in parts]))
    return lower, np.minimum.accumulate(np.concatenate([np.atleast_1d(p[1]) for p in parts]))


def _total(log: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """ln sum of exp(log) * factors over the last axis."""
    top = log.max(-1, keepdims=True)
    return np.log((np.exp(log - top) * factors).sum(-1)) + top[..., 0]


def _log_gamma(j: int) -> float:
    """ln(1/log2(j + 1) - 1/log2(j + 2)), without cancelling."""
    one, two = math.log(j + 1), math.log(j + 2)
    return math.log(math.log1p(1 / (j + 1)) * math.log(2) / (one * two))


def _scaled(x: Any, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Draws (n, *shape) on [0, 1]."""
    x = as_array("x", x)
    x = x[None] if x.shape == shape else x
    if x.shape[1:] != shape or x.ndim != len(shape) + 1:
        raise ValueError(f"x must be of shape {shape} or (n, *{shape}), got {x.shape}")
    if x.size and (x.min() < low or x.max() > high):
        worst = x.min() if x.min() < low else x.max()
        raise ValueError(f"x holds {worst:g}, outside its range {low:g} to {high:g}: widen it")
    return np.clip((x - low) / (high - low), 0.0, 1.0)


def _alphas(alpha: float | tuple[float, float]) -> tuple[float, float]:
    pair = (alpha / 2, alpha / 2) if isinstance(alpha, (int, float)) else tuple(alpha)
    if len(pair) != 2 or not all(0 < a < 1 for a in pair):
        raise ValueError(f"alpha {alpha!r} must lie strictly between 0 and 1: try 0.05")
    return float(pair[0]), float(pair[1])


def _range(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low {low!r} and high {high!r} must be finite, low below high")
    return float(low), float(high)


def _means(means: Any, low: float, high: float) -> np.ndarray:
    if means is None:
        fine = np.geomspace(1e-4, 0.01, 61)[:-1]
        share = np.concatenate([fine, np.linspace(0.01, 0.99, 197), 1 - fine[::-1]])
        return low + (high - low) * share
    means = np.atleast_1d(as_array("means", means))
    inside = means.size and means[0] > low and means[-1] < high
    if means.ndim != 1 or not inside or (np.diff(means) <= 0).any():
        raise ValueError(
            f"means {np.array2string(means, threshold=5)} must increase, strictly between "
            f"{low:g} and {high:g}"
        )
    return means
