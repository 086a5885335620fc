"""Functions of a standard normal score u, known to near machine precision on panels.

A table holds Chebyshev coefficients of order 15 on panels of [-8.5, 8.5], bisected until the last
three no longer matter (weighted by the panel's width, so that jumps and integrable singularities
end too); beyond, the normal law has 2e-17. Expectations are Gauss-Legendre sums over the panels,
and the distance E|F(u) - G(u)| of two increasing maps, which is W1 of their laws, is split where
they cross.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REACH = 8.5
_ORDER = 16
_WIDEST = 2.0
_ROUNDS = 60
_ANGLES = (np.arange(_ORDER) + 0.5) * np.pi / _ORDER
_NODES = np.cos(_ANGLES)
_TO_COEFS = np.cos(np.outer(np.arange(_ORDER), _ANGLES)) * 2 / _ORDER
_TO_COEFS[0] /= 2
_GAUSS, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(24)


@dataclass(frozen=True, eq=False)
class Table:
    """breaks (m + 1,) ascending from -REACH to REACH; coefs (m, order)."""

    breaks: np.ndarray
    coefs: np.ndarray

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Values at u (n,), |u| <= REACH."""
        index = np.clip(np.searchsorted(self.breaks, u, side="right") - 1, 0, len(self.coefs) - 1)
        low, high = self.breaks[index], self.breaks[index + 1]
        return _clenshaw(self.coefs, index, (2 * u - low - high) / (high - low))

    def expect(self, f: Callable[[np.ndarray], np.ndarray]) -> float:
        """E f(value) over u ~ N(0, 1)."""
        u, weights = normal_nodes(self.breaks)
        return float(weights @ f(self(u)) / weights.sum())


def build(f: Callable[[np.ndarray], np.ndarray], breaks: np.ndarray, tol: float) -> Table:
    """Table of f: u (n,) -> (n,), smooth between ``breaks``; tol: absolute error."""
    inner = np.clip(breaks, -REACH, REACH)
    edges = np.unique(np.concatenate([[-REACH, REACH], inner]))
    left = np.concatenate([_even(a, b) for a, b in itertools.pairwise(edges)])
    right = np.append(left[1:], REACH)
    done: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_ROUNDS):
        middle, half = (left + right)[:, None] / 2, (right - left)[:, None] / 2
        values = f((middle + half * _NODES).ravel())
        coefs = values.reshape(len(left), _ORDER) @ _TO_COEFS.T
        rest = np.abs(coefs[:, -3:]).max(axis=1) * np.minimum(1.0, right - left)
        good = (rest <= tol) | (right - left < 1e-13)
        done.append((left[good], coefs[good]))
        left, right = left[~good], right[~good]
        if not len(left):
            break
        halves = (left + right) / 2
        left, right = np.append(left, halves), np.append(halves, right)
    else:
        raise RuntimeError(f"{len(left)} panels have not settled after {_ROUNDS} bisections")
    starts, coefs = (np.concatenate(part) for part in zip(*done, strict=True))
    order = np.argsort(starts)
    return Table(np.append(starts[order], REACH), coefs[order])


def steps(breaks: np.ndarray, values: np.ndarray) -> Table:
    """Table of a step function: values (m + 1,) between the breaks (m,)."""
    edges = np.concatenate([[-REACH], np.clip(breaks, -REACH, REACH), [REACH]])
    wide = np.diff(edges) > 0
    kept = np.concatenate([edges[:-1][wide], [REACH]])
    return Table(kept, values[wide][:, None])


def distance(one: Table, other: Table) -> float:
    """E|F(u) - G(u)| over u ~ N(0, 1)."""
    breaks = np.union1d(one.breaks, other.breaks)
    u, _ = normal_nodes(breaks)
    apart = one(u) - other(u)
    turn = np.flatnonzero(np.sign(apart[1:]) * np.sign(apart[:-1]) < 0)
    low, high, positive = u[turn], u[turn + 1], apart[turn] > 0
    for _ in range(60):
        middle = (low + high) / 2
        same = (one(middle) - other(middle) > 0) == positive
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    u, weights = normal_nodes(np.union1d(breaks, low))
    return float(weights @ np.abs(one(u) - other(u)) / weights.sum())


def normal_nodes(breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points u and weights of integrals against the normal density, panel by panel."""
    middle, half = (breaks[1:] + breaks[:-1])[:, None] / 2, np.diff(breaks)[:, None] / 2
    u = middle + half * _GAUSS
    density = np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)
    return u.ravel(), (half * _GAUSS_WEIGHTS * density).ravel()


def _even(low: float, high: float) -> np.ndarray:
    """Left ends of equal panels no wider than allowed."""
    return np.linspace(low, high, max(1, int(np.ceil((high - low) / _WIDEST))) + 1)[:-1]


def _clenshaw(coefs: np.ndarray, index: np.ndarray, z: np.ndarray) -> np.ndarray:
    """sum_k coefs[index, k] T_k(z)."""
    first = second = np.zeros_like(z)
    for k in range(coefs.shape[1] - 1, 0, -1):
        first, second = 2 * z * first - second + coefs[index, k], first
    return z * first - second + coefs[index, 0]
