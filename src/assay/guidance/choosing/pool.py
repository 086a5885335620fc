"""A pool of guided samples for studies in many dimensions: solved for once, drawn from for ever.

POOL noises are solved for at knots of L = log(1 + w), KNOT apart; since the flow is smooth in w, a
sample at a weight between two knots is the straight line between its two neighbours of the same
noise. A draw takes members of the pool with replacement, so that the law that is drawn from is the
pool's, and every constraint's true value is a plain mean over it. Network evaluations are counted
as if each sample drawn had been solved for.

The digits here: the exact mixture of :mod:`assay.guidance.digits` (64 dimensions, class support
HDR99.9), and the learned 8x8 denoiser of :mod:`assay.guidance.images.models`, whose support is
estimated from held-out images of the digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import denoiser, solver, special
from assay.core.guidance import Guided
from assay.guidance import columns, pairs, simulate
from assay.guidance.choosing import bounds as choosing_bounds
from assay.guidance.choosing import draw as choosing_draw
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.draw import Drawn, Support
from assay.guidance.config import Simulation

POOL, KNOT = 2048, 0.15
STEPS, COARSE = 20, 8
_SEED = 77  # of the pool's noise
_BATCH = 512


@dataclass(frozen=True, eq=False)
class Knot:
    """x (POOL, d) with and without the final denoise; y (T,): mean projection by noise level."""

    x: np.ndarray
    plain: np.ndarray
    y: np.ndarray


@dataclass(eq=False)
class PoolSampler:
    """Draws from a pool of samples of two denoisers; see :class:`choosing_draw.Sampler`."""

    cond: Any
    uncond: Any
    shape: tuple[int, ...]
    support: Support
    simulation: Simulation
    coarse_steps: int | None = COARSE

    def __post_init__(self) -> None:
        generator = pairs._generators(self.cond, self.uncond, self.shape)(_SEED)
        self._noise = special.randn(generator, (POOL, *self.shape))
        top = self.simulation.sigma_max
        some = top * self._noise[:_BATCH]
        self._along = simulate.class_direction(Guided(self.cond, self.uncond, 1.0), some, top)
        self._knots: dict[tuple[int, bool], Knot] = {}
        self._weights: dict[tuple[float, bool], Drawn] = {}  # the whole pool, judged

    @property
    def has_coarse(self) -> bool:
        return self.coarse_steps is not None and self.coarse_steps < self.simulation.steps

    def _method(self, coarse: bool) -> tuple[solver.Step, np.ndarray]:
        steps = self.coarse_steps if coarse and self.has_coarse else self.simulation.steps
        return simulate.method(self.simulation.model_copy(update={"steps": steps}))

    def nfe(self, w: float, coarse: bool = False) -> int:
        """Network evaluations that one sample would take."""
        step, sigmas = self._method(coarse)
        return simulate.network_calls(Guided(self.cond, self.uncond, float(w)), step, sigmas)

    def draw(self, w: float, n: int, key: tuple[int, ...], coarse: bool = False) -> Drawn:
        """n members of the pool under w, chosen by this key."""
        index = np.random.default_rng(key).integers(POOL, size=n)
        return self._members(w, index, coarse)

    def _members(self, w: float, index: np.ndarray, coarse: bool = False) -> Drawn:
        if (w, coarse) not in self._weights:
            x, plain = self._pool(w, coarse)
            self._weights[w, coarse] = Drawn(x, self._off(x), self._off(plain))
        every = self._weights[w, coarse]
        assert every.off is not None
        assert every.off_plain is not None
        return Drawn(every.x[index], every.off[index], every.off_plain[index])

    def _pool(self, w: float, coarse: bool) -> tuple[np.ndarray, np.ndarray]:
        low, share = self._between(w)
        one, two = (self._knot(k, coarse) for k in (low, low + (share > 0)))
        return tuple(
            (1 - share) * a + share * b for a, b in ((one.x, two.x), (one.plain, two.plain))
        )  # pyright: ignore[reportReturnType]

    @staticmethod
    def _between(w: float) -> tuple[int, float]:
        place = math.log1p(w) / KNOT
        low = math.floor(place + 1e-9)
        return low, max(0.0, place - low)

    def prepare(self, weights: Sequence[float], coarse: bool = False) -> None:
        """Solve for the knots of these weights."""
        for w in weights:
            self._pool(w, coarse)

    def _knot(self, k: int, coarse: bool) -> Knot:
        if (k, coarse) not in self._knots:
            w = math.expm1(KNOT * k)
            parts = [
                self._solve(w, self._noise[at : at + _BATCH], coarse)
                for at in range(0, POOL, _BATCH)
            ]
            x, plain = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
            y = np.mean([p[2] for p in parts], axis=0)
            self._knots[k, coarse] = Knot(x, plain, y)
        return self._knots[k, coarse]

    def _solve(self, w: float, noise: Any, coarse: bool) -> tuple[np.ndarray, ...]:
        guided, (step, sigmas) = Guided(self.cond, self.uncond, w), self._method(coarse)
        seen, last = [], None
        for last in solver.solve(guided, simulate.start(guided, noise, sigmas[0]), sigmas, step):
            flat = columns.flat(special.as_float64(last.x))
            seen.append(float((flat @ self._along).mean()) / math.hypot(1, last.sigma))
        assert last is not None
        final, _ = denoiser.evaluate(guided, last.x, last.sigma, last.memory.law)
        x, plain = (columns.flat(special.as_float64(a)) for a in (final, last.x))
        return x, plain, np.asarray(seen)

    def _off(self, x: np.ndarray) -> np.ndarray:
        assert self.support.inside is not None
        return ~np.asarray(self.support.inside(x), dtype=bool)

    # ---- the truth -----------------------------------------------------------------------------

    def truth(self, criterion: Criterion, w: float) -> dict[str, float]:
        """The pool's own value of each constraint at w."""
        every = np.arange(POOL)
        drawn = self._members(w, every)
        values: dict[str, float] = {}
        if criterion.off_support is not None and drawn.off is not None:
            values["off_support"] = float(drawn.off.mean())
        if criterion.diversity is not None:
            ratio, _ = choosing_bounds.log_ratio(drawn.x, self._members(0.0, every).x)
            values["diversity"] = math.exp(ratio)
        return values

    def projection(self, w: float) -> tuple[np.ndarray, np.ndarray]:
        """Noise levels (T,) and the pool's mean projection (T,) on the class direction."""
        low, share = self._between(w)
        one, two = (self._knot(k, False) for k in (low, low + (share > 0)))
        return self._method(False)[1], (1 - share) * one.y + share * two.y


def mixture(label: int = 3) -> PoolSampler:
    """The exact mixture on the 8x8 digits."""
    from assay.guidance import digits

    target = digits.target(label)
    return PoolSampler(
        target.cond.denoise, target.uncond.denoise, (target.dim,),
        choosing_draw.of_target(target), _simulation(),
    )  # fmt: skip


def learned(label: int = 3) -> PoolSampler:
    """The shipped 8x8 denoiser, its support from held-out images of the digit."""
    from assay.guidance.images import data as image_data
    from assay.guidance.images import models as image_models

    model = image_models.load("digits8")
    kept = columns.flat(image_data.load("digits8").heldout.of(label))
    return PoolSampler(
        model.cond(label), model.uncond(), (64,),
        choosing_draw.support_of(None, kept, 0.02), _simulation(),
    )  # fmt: skip


def _simulation() -> Simulation:
    return Simulation(steps=STEPS, solver="dpmpp_2m")


POOLS = {"digits-mixture": mixture, "digits-learned": learned}
