"""Guided samples for choosing w: one batch at a time, each weight on the noise it is told.

A sampler answers ``draw(w, n, key, coarse) -> Drawn`` and ``nfe(w, coarse)``. The same key means
the same noise, so that samples of w and of w = 0 can be compared pair by pair. ``coarse`` asks
for the cheap solver that may look for a weight but never vouches for one.

Off-support is tested against an exact support where one is known. Else a point counts as off
where its distance to the nearest held-out sample exceeds the (1 - false_rate) quantile of those
samples' own nearest-neighbour distances; the share of REAL samples that this calls off is
measured fold by fold and stated beside every result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from assay.core import denoiser, intervals, neighbours, solver, special
from assay.core.guidance import Guided
from assay.guidance import columns, dynamics, pairs, simulate
from assay.guidance.config import Simulation

_FOLDS = 5
_EDGE = 0.999  # quantile of held-out projections that stands for a far edge
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Support:
    """inside: x (n, d) -> bool (n,); edge: direction (d,) -> far edge, or None where there is
    none; name: what is tested; false_rate: share of real samples called off, with interval."""

    inside: Callable[[np.ndarray], np.ndarray] | None
    edge: Callable[[np.ndarray], float | None]
    name: str
    false_rate: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Drawn:
    """n samples: x (n, d) after the final denoise; off and off_plain (n,), with and without it;
    late (k, n): projections less the far edge at the noise levels from s down; odds (n,)."""

    x: np.ndarray
    off: np.ndarray | None = None
    off_plain: np.ndarray | None = None
    late: np.ndarray | None = None
    odds: np.ndarray | None = None

    def __add__(self, other: Drawn) -> Drawn:
        def both(one: Any, two: Any, axis: int = 0) -> Any:
            return None if one is None or two is None else np.concatenate([one, two], axis=axis)

        return Drawn(
            np.concatenate([self.x, other.x]),
            both(self.off, other.off),
            both(self.off_plain, other.off_plain),
            both(self.late, other.late, 1),
            both(self.odds, other.odds),
        )


class Sampler(Protocol):
    """What a choice draws from."""

    @property
    def support(self) -> Support: ...

    @property
    def has_coarse(self) -> bool: ...

    def draw(self, w: float, n: int, key: tuple[int, ...], coarse: bool = False) -> Drawn: ...

    def nfe(self, w: float, coarse: bool = False) -> int: ...


@dataclass(eq=False)
class PairSampler:
    """Samples of two denoisers by a solver. late: the noise level s of :class:`Drawn`."""

    cond: Any
    uncond: Any
    shape: tuple[int, ...]
    simulation: Simulation
    support: Support
    coarse_steps: int | None = None
    late: float | None = None
    odds: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self) -> None:
        self._generators = pairs._generators(self.cond, self.uncond, self.shape)
        self._direction: np.ndarray | None = None

    @property
    def has_coarse(self) -> bool:
        return self.coarse_steps is not None and self.coarse_steps < self.simulation.steps

    def draw(self, w: float, n: int, key: tuple[int, ...], coarse: bool = False) -> Drawn:
        """n samples under w from the noise of this key."""
        sizes = [min(_BATCH, n - start) for start in range(0, n, _BATCH)]
        parts = [self._batch(w, size, (*key, i), coarse) for i, size in enumerate(sizes)]
        drawn = parts[0]
        for part in parts[1:]:
            drawn = drawn + part
        return drawn

    def nfe(self, w: float, coarse: bool = False) -> int:
        """Network evaluations of one sample."""
        step, sigmas = self._method(coarse)
        return simulate.network_calls(self._guided(w), step, sigmas)

    def _guided(self, w: float) -> Guided:
        return Guided(self.cond, self.uncond, float(w))

    def _method(self, coarse: bool) -> tuple[solver.Step, np.ndarray]:
        steps = self.coarse_steps if coarse and self.has_coarse else self.simulation.steps
        return simulate.method(self.simulation.model_copy(update={"steps": steps}))

    def _batch(self, w: float, n: int, key: tuple[int, ...], coarse: bool) -> Drawn:
        guided, (step, sigmas) = self._guided(w), self._method(coarse)
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        rng = self._generators(seed)
        noise = special.randn(rng, (n, *self.shape))
        along = self._towards(noise, float(sigmas[0])) if self.late is not None else None
        edge = None if along is None else self._edge(along)
        late, last, x = [], None, simulate.start(guided, noise, sigmas[0])
        until = (self.late or 0.0) * (1 + 1e-9)
        for last in solver.solve(guided, x, sigmas, step, rng):
            if along is not None and edge is not None and last.sigma <= until:
                seen = columns.flat(special.as_float64(last.x)) @ along
                late.append(seen / np.hypot(1, last.sigma) - edge)
        assert last is not None
        final, _ = denoiser.evaluate(guided, last.x, last.sigma, last.memory.law)
        x, plain = (columns.flat(special.as_float64(a)) for a in (final, last.x))
        off, off_plain = (self._off(a) for a in (x, plain))
        odds = None if self.odds is None else np.asarray(self.odds(x), dtype=np.float64)
        return Drawn(x, off, off_plain, np.asarray(late) if late else None, odds)

    def _off(self, x: np.ndarray) -> np.ndarray | None:
        inside = self.support.inside
        finite = np.all(np.isfinite(x), axis=1)
        if inside is None:
            return None
        off = ~finite  # a trajectory that left the numbers is off any support
        if finite.any():
            off[finite] = ~np.asarray(inside(x[finite]), dtype=bool)
        return off

    def _towards(self, noise: Any, sigma: float) -> np.ndarray:
        if self._direction is None:
            self._direction = simulate.class_direction(self._guided(1.0), sigma * noise, sigma)
        return self._direction

    def _edge(self, along: np.ndarray) -> float:
        edge = self.support.edge(along)
        if edge is None:
            raise ValueError(
                "returned: no far edge is known; give support=(low, high) or held-out data"
            )
        return edge


def support_of(support: Any, data: np.ndarray | None, false_rate: float) -> Support:
    """The support to test against: a Support, (low, high), a callable, or that of the data."""
    if isinstance(support, Support):
        return support
    kept = None if data is None else columns.flat(data)

    def from_data(along: np.ndarray) -> float | None:
        return None if kept is None else float(np.quantile(kept @ along, _EDGE))

    inside, _ = pairs._inside(support, None)
    if inside is not None:
        box = None if callable(support) else support

        def edge(along: np.ndarray) -> float | None:
            return from_data(along) if box is None else columns.far_edge(box, along)

        return Support(inside, edge, "the support that was given")
    if kept is None:
        return Support(None, from_data, "none: neither support nor data were given")
    return _from_data(kept, from_data, false_rate)


def _from_data(kept: np.ndarray, edge: Any, false_rate: float) -> Support:
    if len(kept) < 4 * _FOLDS:
        raise ValueError(
            f"data has {len(kept)} samples; a support estimate needs {4 * _FOLDS} or more"
        )
    limit = float(np.quantile(neighbours.knn_distance(kept), 1 - false_rate))
    called, n = false_alarms(kept, false_rate)
    low, high = intervals.wilson(called, n)
    share = called / n
    name = (
        f"within {limit:.4g} of one of {n} held-out samples, which calls {100 * share:.2g} % of "
        f"held-out samples themselves off (95 %: {100 * low:.2g} to {100 * high:.2g} %)"
    )
    return Support(
        lambda x: neighbours.knn_distance(x, kept) <= limit, edge, name, (share, low, high)
    )


def false_alarms(kept: np.ndarray, false_rate: float) -> tuple[int, int]:
    """(called off, of n): held-out samples against a support made of the other folds' alone."""
    fold = np.random.default_rng(0).permutation(len(kept)) % _FOLDS
    called = 0
    for one in range(_FOLDS):
        rest, own = kept[fold != one], kept[fold == one]
        limit = np.quantile(neighbours.knn_distance(rest), 1 - false_rate)
        called += int(np.count_nonzero(neighbours.knn_distance(own, rest) > limit))
    return called, len(kept)


def of_target(target: Any) -> Support:
    """The exact support of a target's class (HDR99.9 where it is unbounded) and its far edge."""

    def edge(along: np.ndarray) -> float | None:
        return dynamics.far_edge(target)

    return Support(lambda x: ~target.off_support(x), edge, target.off_support_name)
