"""A solver's map in one or two dimensions, tabulated: samples at the price of an interpolation.

The sample that noise u ~ N(0, I) becomes under one solver is a function x_w(u). It is solved for
at nodes of u once for each weight and interpolated after that (on the line in straight pieces, in
the plane by cubic splines), so that hundreds of choices can be made, and so that what they
estimate is known: the constraints' true values are quadratures over u of the very map that is
drawn from. Network evaluations are counted as if each sample had been solved for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import RectBivariateSpline

from assay.core import solver
from assay.core.guidance import Guided
from assay.guidance import simulate
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.draw import Drawn, Support
from assay.guidance.config import Simulation
from assay.guidance.paths import Pair, guided

REACH = 6.0
_NODES = {1: np.linspace(-REACH, REACH, 289), 2: np.linspace(-REACH, REACH, 49)}
_FINE = {1: np.linspace(-REACH, REACH, 24_001), 2: np.linspace(-REACH, REACH, 301)}
_TOGETHER = 7_000  # points solved for at once


@dataclass(frozen=True, eq=False)
class Map:
    """At the nodes of u: x (N, d) with and without the final denoise; y (T, N), the projection on
    the class direction at every noise level, in the Ornstein-Uhlenbeck coordinate."""

    x: np.ndarray
    plain: np.ndarray
    y: np.ndarray


@dataclass(eq=False)
class TableSampler:
    """Samples of a pair of denoisers in d = 1 or 2; see :class:`choosing_draw.Sampler`.

    direction (d,): of the class; late: a noise level where the mean's return is asked for.
    """

    pair: Pair
    support: Support
    simulation: Simulation
    direction: np.ndarray
    coarse_steps: int | None = None
    late: float | None = None

    def __post_init__(self) -> None:
        self._maps: dict[tuple[float, bool], Map] = {}
        self.dim = len(self.direction)
        if self.dim not in _NODES:
            raise ValueError(f"a table needs d = 1 or 2, not {self.dim}")
        self._nodes = _mesh(_NODES[self.dim], self.dim)

    @property
    def has_coarse(self) -> bool:
        return self.coarse_steps is not None and self.coarse_steps < self.simulation.steps

    def method(self, coarse: bool = False) -> tuple[solver.Step, np.ndarray]:
        """The step and its noise levels."""
        steps = self.coarse_steps if coarse and self.has_coarse else self.simulation.steps
        return simulate.method(self.simulation.model_copy(update={"steps": steps}))

    def nfe(self, w: float, coarse: bool = False) -> int:
        """Network evaluations that one sample would take."""
        step, sigmas = self.method(coarse)
        return simulate.network_calls(Guided(_nothing, _nothing, float(w)), step, sigmas)

    def draw(self, w: float, n: int, key: tuple[int, ...], coarse: bool = False) -> Drawn:
        """n samples under w from the noise of this key."""
        u = np.random.default_rng(key).standard_normal((n, self.dim))
        x, plain, late = self._at(self.map(w, coarse), u, coarse)
        return Drawn(x, self._off(x), self._off(plain), late)

    def _at(
        self, found: Map, u: np.ndarray, coarse: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """x, x without the final denoise, late projections at noise u (n, d)."""
        x, plain = (
            np.stack([_interpolated(column, u) for column in a.T], axis=1)
            for a in (found.x, found.plain)
        )
        if self.late is None:
            return x, plain, None
        return x, plain, np.array([_interpolated(y, u) for y in self._late(found, coarse)])

    def map(self, w: float, coarse: bool = False) -> Map:
        """The map of one weight, solved for where it is new."""
        if (w, coarse) not in self._maps:
            self.prepare([w], coarse)
        return self._maps[w, coarse]

    def prepare(self, weights: Sequence[float], coarse: bool = False) -> None:
        """Solve for many weights at once."""
        new = [w for w in dict.fromkeys(weights) if (w, coarse) not in self._maps]
        step = max(1, _TOGETHER // len(self._nodes))
        for start in range(0, len(new), step):
            part = new[start : start + step]
            for w, found in zip(part, self._solve(part, coarse), strict=True):
                self._maps[w, coarse] = found

    def _solve(self, weights: list[float], coarse: bool) -> list[Map]:
        step, sigmas = self.method(coarse)
        denoise = guided(self.pair, np.repeat(weights, len(self._nodes))[:, None])
        x = simulate.start(denoise, np.tile(self._nodes, (len(weights), 1)), sigmas[0])
        seen, last = [], None
        for last in solver.solve(denoise, x, sigmas, step):
            seen.append(last.x @ self.direction / np.hypot(1, last.sigma))
        assert last is not None
        shape = (len(weights), -1, self.dim)
        final, plain = denoise(last.x, last.sigma).reshape(shape), last.x.reshape(shape)
        y = np.asarray(seen).reshape(len(seen), len(weights), -1)
        return [Map(final[i], plain[i], y[:, i]) for i in range(len(weights))]

    def _off(self, x: np.ndarray) -> np.ndarray:
        assert self.support.inside is not None
        off = ~np.all(np.isfinite(x), axis=1)
        off[~off] = ~self.support.inside(x[~off])
        return off

    def _late(self, found: Map, coarse: bool) -> np.ndarray:
        """Projections less the far edge, (k, N), from the noise level ``late`` down."""
        edge = self.support.edge(self.direction)
        if edge is None:
            raise ValueError("returned: this class has no far edge")
        _, sigmas = self.method(coarse)
        return found.y[sigmas <= (self.late or 0.0) * (1 + 1e-9)] - edge

    # ---- the truth -----------------------------------------------------------------------------

    def truth(self, criterion: Criterion, w: float) -> dict[str, float]:
        """The true value of each constraint at w, a quadrature over u."""
        u, weights = _quadrature(self.dim)
        x, _, late = self._at(self.map(w), u, False)
        values = {}
        if criterion.off_support is not None:
            values["off_support"] = float(weights @ self._off(x))
        if criterion.diversity is not None:
            plain, _, _ = self._at(self.map(0.0), u, False)
            values["diversity"] = _spread(x, weights) / _spread(plain, weights)
        if criterion.returned is not None:
            assert late is not None
            values["returned"] = float((late @ weights).max())
        return values

    def projection(self, w: float) -> tuple[np.ndarray, np.ndarray]:
        """Noise levels (T,) and the true mean projection (T,) on the class direction."""
        weights = np.exp(-np.sum(self._nodes**2, axis=1) / 2)
        return self.method()[1], self.map(w).y @ weights / weights.sum()


def keeps(criterion: Criterion, values: dict[str, float]) -> bool:
    """Whether true values satisfy every constraint."""
    checks = {
        "off_support": lambda v: v < (criterion.off_support or 0.0),
        "diversity": lambda v: v >= (criterion.diversity or 0.0),
        "returned": lambda v: v <= 0,
        "odds_gain": lambda v: v >= (criterion.odds_gain or 0.0),
    }
    return all(bool(checks[name](values[name])) for name in criterion.names)


def _spread(x: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(weights @ np.sum((x - weights @ x) ** 2, axis=1)))


def _mesh(line: np.ndarray, dim: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[line] * dim, indexing="ij"), axis=-1).reshape(-1, dim)


@functools.lru_cache(maxsize=2)
def _quadrature(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """u (m, d) and weights (m,) of sum 1."""
    u = _mesh(_FINE[dim], dim)
    weights = np.exp(-np.sum(u**2, axis=1) / 2)
    return u, weights / weights.sum()


def _interpolated(values: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Values (N,) at the nodes, at u (n, d)."""
    nodes = _NODES[u.shape[1]]
    if u.shape[1] == 1:
        return np.interp(u[:, 0], nodes, values)
    table = RectBivariateSpline(nodes, nodes, values.reshape(len(nodes), -1))
    return table.ev(u[:, 0], u[:, 1])


def _nothing(x: Any, sigma: Any) -> Any:
    raise AssertionError("only counted, never called")
