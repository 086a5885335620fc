"""A 1-D mixture as a distribution in closed form: tails by log-sum-exp, quantiles between those of
the components, found by bracketing (Chandrupatla) on the smaller log tail.
"""

from __future__ import annotations

import numpy as np
from scipy import special
from scipy.optimize import elementwise

from assay.core import mixture, truncated
from assay.core.special import logsumexp
from assay.guidance import stack1d
from assay.guidance.distribution import Distribution1D


class Mixture1D(Distribution1D):
    """The law of a 1-D mixture."""

    def __init__(self, law: mixture.Mixture) -> None:
        self._stack = stack1d.stack(law)

    @property
    def support(self) -> tuple[float, float]:
        intervals = self._stack.intervals
        return float(intervals[0, 0]), float(intervals[-1, 1])

    @property
    def atoms(self) -> np.ndarray:
        return self._stack.atoms

    @property
    def edges(self) -> np.ndarray:
        """Finite ends of components and atoms, sorted."""
        return self._stack.edges

    def marks(self, scores: np.ndarray) -> np.ndarray:
        """Points that many widths from the centre of each component, sorted."""
        return self._stack.marks(scores)

    def _logpdf(self, x: np.ndarray) -> np.ndarray:
        self._refuse_atoms("density")
        return logsumexp(self._stack.log_density(x[:, None]))

    def _log_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tails = [self._gaussian_tails(x[:, None]), self._cut_tails(x[:, None])]
        below, above = (np.hstack(side) for side in zip(*tails, strict=True))
        weights = self._stack.log_weights
        return logsumexp(weights + below), logsumexp(weights + above)

    def _gaussian_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = self._stack.gaussians.T
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(var > 0, (x - mean) / np.sqrt(var), np.where(x < mean, -np.inf, np.inf))
        return special.log_ndtr(z), special.log_ndtr(-z)

    def _cut_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high, lam, mean, _ = self._stack.cuts.T
        x = np.clip(x, low, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = np.log((x - low) / (high - low)), np.log((high - x) / (high - low))
            if not np.any(lam):
                return flat
            root = np.sqrt(np.where(lam > 0, lam, 1.0))
            a, z, b = ((v - mean) * root for v in (low, x, high))
            a, z, b = np.broadcast_arrays(a, z, b)
            whole = truncated.log_mass(a, b, (high - low + 0 * x) * root)
            below = truncated.log_mass(a, z, (x - low) * root) - whole
            above = truncated.log_mass(z, b, (high - x) * root) - whole
        return np.where(lam > 0, below, flat[0]), np.where(lam > 0, above, flat[1])

    def _breaks(self) -> np.ndarray:
        """Scores of the inner edges, and of both sides of each atom."""
        low, high = self.support
        x = np.concatenate([self.edges, np.nextafter(self.atoms, -np.inf)])
        return scores(*self._log_tails(x[(x >= low) & (x < high)]))

    def _map(self, u: np.ndarray) -> np.ndarray:
        if len(self.atoms) == len(self._stack.log_weights):
            return self._pick(u)
        low, high = self._brackets(u)
        first, last = self._excess(low, u), self._excess(high, u)
        out = np.where(first >= 0, low, high)
        open_ = np.flatnonzero((first < 0) & (last > 0))
        if len(open_):
            ends = low[open_], high[open_]
            out[open_] = elementwise.find_root(self._excess, ends, args=(u[open_],)).x
        return self._snap(out)

    def _pick(self, u: np.ndarray) -> np.ndarray:
        """Atoms alone: the first whose score is not below u."""
        below, above = self._log_tails(self.atoms[:-1])
        return self.atoms[np.searchsorted(scores(below, above), u)]

    def _excess(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        below, above = self._log_tails(x)
        gap = np.where(u < 0, below - special.log_ndtr(u), special.log_ndtr(-u) - above)
        return np.clip(gap, -1e6, 1e6)

    def _snap(self, x: np.ndarray) -> np.ndarray:
        """Onto an atom where rounding alone keeps x from it."""
        if not len(self.atoms):
            return x
        middles = (self.atoms[1:] + self.atoms[:-1]) / 2
        nearest = self.atoms[np.searchsorted(middles, x)]
        return np.where(np.abs(x - nearest) <= 1e-14 * np.abs(nearest), nearest, x)

    def _brackets(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Between which quantiles of the components the mixture's lies, (n,) each."""
        u = u[:, None]
        mean, var = self._stack.gaussians.T
        flat = self._stack.cuts[:, 2] == 0
        low, high = self._stack.cuts[flat, :2].T
        uniform = np.where(
            u < 0, low + (high - low) * special.ndtr(u), high - (high - low) * special.ndtr(-u)
        )
        cut, room = _cut_quantile(u, *self._stack.cuts[~flat, :4].T)
        exact = mean + np.sqrt(var) * u
        every = np.hstack([exact, uniform, cut - room]), np.hstack([exact, uniform, cut + room])
        lowest, highest = every[0].min(axis=1), every[1].max(axis=1)
        return np.clip(lowest, *self.support), np.clip(highest, *self.support)


def scores(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Standard normal scores of log tails, from the smaller one."""
    return np.where(below < above, special.ndtri_exp(below), -special.ndtri_exp(above))


def _cut_quantile(
    u: np.ndarray, low: np.ndarray, high: np.ndarray, lam: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles (n, K) of cut normals, and a bound on their rounding."""
    root = np.sqrt(lam)
    a, b = (low - mean) * root, (high - mean) * root
    mass = truncated.log_mass(a, b) if len(a) else a
    below = np.logaddexp(special.log_ndtr(a), special.log_ndtr(u) + mass)
    above = np.logaddexp(special.log_ndtr(-b), special.log_ndtr(-u) + mass)
    z = scores(below, above)
    return mean + z / root, 1e-5 * (1 + np.abs(z)) / root
