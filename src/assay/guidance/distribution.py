"""Distributions on the line by their scores: x = F(u), u ~ N(0, 1), F increasing.

Conditional, guided and tilted samples are each one such map with its inverse in log space, and all
else is written once here:

    cdf(x) = Phi(u(x)),    quantile(q) = F(Phi^-1(q)),    mean = E F(u),
    entropy = E[ln F'(u)] + ln(2 pi e)/2,    W1(F, G) = E|F(u) - G(u)|.

Conventions: numbers in, Python floats out; arrays keep their shape; nats; ValueError for NaN, for
a probability outside [0, 1], and for a density where there are atoms. At an end of the support
the density is that of the nearest float inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from assay.guidance import panels

_LOG_2PI = float(np.log(2 * np.pi))
_EXACT = 1000  # draws up to which samples are mapped one by one
_TOL = 1e-10  # of the table, in units of the distribution's spread
_CLOSE = 1e-6  # gap, in units of the support, below which it is taken from the tail mass


class Distribution1D(ABC):
    """A law on the line. A kind supplies the map, log tails and log density, on flat arrays."""

    _rounding: float = 2e-14  # of F, relative

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Smallest closed interval that holds the law."""

    @abstractmethod
    def _map(self, u: np.ndarray) -> np.ndarray:
        """F(u), u finite."""

    @abstractmethod
    def _log_tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln P(X <= x) and ln P(X > x), low <= x < high."""

    @abstractmethod
    def _logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density, low < x < high. ValueError where there are atoms."""

    @property
    @abstractmethod
    def atoms(self) -> np.ndarray:
        """Points of positive probability; empty where there is a density."""

    def _map_slope(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """F(u) and ln F'(u)."""
        x = self._map(u)
        return x, -0.5 * (u * u + _LOG_2PI) - self._logpdf(self._inside(x))

    def _breaks(self) -> np.ndarray:
        """Scores at which F is not smooth."""
        return np.empty(0)

    def map(self, u: Any) -> Any:
        """F(u): the sample of the standard normal score u; -inf and inf give the ends."""
        return _each("u", u, self._map_all)

    def quantile(self, q: Any) -> Any:
        """Smallest x with P(X <= x) >= q; 0 and 1 give the ends. ValueError unless 0 <= q <= 1."""
        return _each("q", q, lambda p: self._map_all(special.ndtri(_probability(p))))

    def cdf(self, x: Any) -> Any:
        """P(X <= x)."""
        return _each("x", x, lambda v: np.exp(self._tails(v)[0]))

    def sf(self, x: Any) -> Any:
        """P(X > x)."""
        return _each("x", x, lambda v: np.exp(self._tails(v)[1]))

    def logcdf(self, x: Any) -> Any:
        """ln P(X <= x), finite far beyond what the probability itself could express."""
        return _each("x", x, lambda v: self._tails(v)[0])

    def logsf(self, x: Any) -> Any:
        """ln P(X > x)."""
        return _each("x", x, lambda v: self._tails(v)[1])

    def pdf(self, x: Any) -> Any:
        """Density. ValueError where there are atoms."""
        return _each("x", x, lambda v: np.exp(self._density(v)))

    def logpdf(self, x: Any) -> Any:
        """Log density, -inf outside the support. ValueError where there are atoms."""
        return _each("x", x, self._density)

    def mean(self) -> float:
        """E X."""
        return float(np.clip(self._table.expect(lambda x: x), *self.support))

    def sd(self) -> float:
        """Standard deviation."""
        mean = self.mean()
        return float(np.sqrt(self._table.expect(lambda x: (x - mean) ** 2)))

    def entropy(self) -> float:
        """Differential entropy -E ln p(X), nats. ValueError where there are atoms."""
        self._refuse_atoms("entropy")
        return self._slopes.expect(lambda slope: slope) + 0.5 * (_LOG_2PI + 1)

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """n draws, (n,); rng: numpy Generator or seed.

        Up to 1,000 draws are mapped one by one, more by the table, to 1e-10 of the spread.
        """
        u = np.random.default_rng(rng).standard_normal(whole("n", n))
        near = (np.abs(u) < panels.REACH) & (len(u) > _EXACT)
        x = np.empty(len(u))
        x[near] = np.clip(self._table(u[near]), *self.support)
        x[~near] = self._map_all(u[~near])
        return x

    def w1(self, other: Distribution1D) -> float:
        """Wasserstein-1 distance to another distribution on the line."""
        if not isinstance(other, Distribution1D):
            raise ValueError(f"other is a {type(other).__name__}; give a Distribution1D")
        return panels.distance(self._table, other._table)

    @property
    def far_edge(self) -> float:
        """The end of the support from which :meth:`edge_gap` measures: the upper one."""
        return self.support[1]

    def edge_gap(self, u: Any) -> Any:
        """|far edge - F(u)| to relative 1e-8 even where F(u) has rounded to the edge.

        0 below 1e-308 (see log_edge_gap). ValueError where the support has no far edge.
        """
        return _each("u", u, lambda v: np.exp(self._log_gap_all(v)))

    def log_edge_gap(self, u: Any) -> Any:
        """ln |far edge - F(u)|."""
        return _each("u", u, self._log_gap_all)

    def _log_gap_all(self, u: np.ndarray) -> np.ndarray:
        low, high = self.support
        if not np.isfinite(self.far_edge):
            raise ValueError(
                f"edge_gap: the support ({low}, {high}) has no far edge; take a bounded class"
            )
        toward = u if self.far_edge == high else -u
        out = np.where(toward > 0, -np.inf, np.log(high - low))
        finite = np.isfinite(u)
        out[finite] = self._log_gap(u[finite])
        return out

    def _log_gap(self, u: np.ndarray) -> np.ndarray:
        """From the map, and close to the edge from tail mass over density."""
        low, high = self.support
        with np.errstate(divide="ignore"):
            gap = np.log(np.abs(self.far_edge - self._map(u)))
        close = gap < np.log(_CLOSE * (high - low))
        if np.any(close):
            sign = 1.0 if self.far_edge == high else -1.0
            tail = special.log_ndtr(-sign * u[close])
            at = self.far_edge - sign * _CLOSE * (high - low) * np.array([0.0, 1.0])
            edge, inner = self._logpdf(self._inside(at))
            first = tail - edge  # then the density half way into the gap
            share = np.exp(first) / (2 * _CLOSE * (high - low))
            gap[close] = tail - (edge + share * (inner - edge))
        return gap

    def _map_all(self, u: np.ndarray) -> np.ndarray:
        low, high = self.support
        x = np.where(u < 0, low, high)
        finite = np.isfinite(u)
        x[finite] = np.clip(self._map(u[finite]), low, high)
        return x

    def _tails(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.support
        left = (x < low) | (x == -np.inf)
        below, above = np.where(left, -np.inf, 0.0), np.where(left, 0.0, -np.inf)
        inside = (x >= low) & (x < high) & np.isfinite(x)
        if inside.any():
            below[inside], above[inside] = self._log_tails(x[inside])
        return below, above

    def _density(self, x: np.ndarray) -> np.ndarray:
        self._refuse_atoms("density")
        low, high = self.support
        out = np.full(x.shape, -np.inf)
        inside = (x >= low) & (x <= high) & np.isfinite(x)
        if inside.any():
            out[inside] = self._logpdf(self._inside(x[inside]))
        return out

    def _inside(self, x: np.ndarray) -> np.ndarray:
        low, high = self.support
        return np.clip(x, np.nextafter(low, np.inf), np.nextafter(high, -np.inf))

    def _refuse_atoms(self, what: str) -> None:
        if len(self.atoms):
            raise ValueError(
                f"{what}: the law has atoms, such as {self.atoms[0]:g}; use cdf and quantile"
            )

    @cached_property
    def _table(self) -> panels.Table:
        """F over u."""
        low, high = self._map(np.array([-3.0, 3.0])).tolist()
        tol = max(_TOL * (high - low), self._rounding * max(abs(low), abs(high)))
        return panels.build(self._map, self._breaks(), tol)

    @cached_property
    def _slopes(self) -> panels.Table:
        """ln F' over u."""
        tol = 10 * max(_TOL, self._rounding)
        return panels.build(lambda u: self._map_slope(u)[1], self._breaks(), tol)

    def _repr_html_(self) -> str:
        from assay.guidance import drawing

        return drawing.card(self)


def _each(name: str, value: Any, f: Callable[[np.ndarray], np.ndarray]) -> Any:
    """f on the flat float64 array of ``value``, in its shape; a number gives a Python float."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is a {type(value).__name__}; give real numbers") from None
    if np.isnan(array).any():
        raise ValueError(f"{name} holds NaN; give real numbers")
    out = f(array.ravel())
    return float(out[0]) if array.ndim == 0 else out.reshape(array.shape)


def _probability(q: np.ndarray) -> np.ndarray:
    wrong = (q < 0) | (q > 1)
    if wrong.any():
        raise ValueError(f"q = {q[wrong][0]:g} is no probability; give 0 <= q <= 1")
    return q


def whole(name: str, n: Any) -> int:
    """n as an int. ValueError unless it is a whole number >= 0."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"{name} = {n!r} must be a whole number >= 0")
    return int(n)
