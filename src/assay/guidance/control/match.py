"""One law on one target with a planted error: its samples at a w, and the w of given class odds.

Noise is scrambled Sobol, the same for every law; the start is that of guidance/simulate.py. A
law with a step of its own (CFG++, Euler's) gets twice the steps, for as many evaluations as Heun.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from assay.core import denoiser, solver
from assay.guidance import laws, simulate, targets
from assay.guidance.control.config import OURS, PEER, ControlConfig
from assay.guidance.control.targets import Ground, Place, Planted, PlantedError, noise

LARGEST_W = 256.0
_SMALLEST_W = 1 / 64
_TRIES = 12
_LENGTHS: dict[str, tuple[str, ...]] = {OURS: ("scale",), PEER: ("low", "high")}

Odds = Callable[[float], "Measured"]


class Measured(NamedTuple):
    """One law's samples at one w: class odds, W1, off the support without and with denoise."""

    w: float
    odds: float
    w1: float
    off: float
    off_denoised: float
    nfe: int


@dataclass(frozen=True, eq=False)
class Case:
    """A target with an error; what is planted is built once for each seed."""

    place: Place
    error: PlantedError
    ground: Ground
    asked: ControlConfig
    _planted: dict[int, Planted] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As rows and keys have it."""
        return f"{self.place.name}/{self.error.label}"

    def planted(self, seed: int) -> Planted:
        """The denoisers; the seed decides a random field."""
        if seed not in self._planted:
            self._planted[seed] = Planted(self.ground, self.error, seed)
        return self._planted[seed]

    def law(self, name: str, w: float, params: Mapping[str, float]) -> laws.Law:
        """The law at w, its lengths in units of the class's standard deviation."""
        given = dict(params)
        for length in _LENGTHS.get(name, ()):
            chosen = given.get(length) or laws.parameters(name)[length]
            given[length] = float(chosen) * self.ground.scale
        if name == "dynamic_thresholding":
            given["bound"] = float(np.quantile(np.abs(self.ground.reference), 0.999))
        if name == laws.CfgPlusPlus.name:
            w = laws.matched_w(w, self._method(laws.build(name, w))[1])
        return laws.build(name, w, **given)

    def measure(self, law: laws.Law, seed: int, w: float | None = None) -> Measured:
        """What samples of the law are like; w: what to call its weight."""
        step, sigmas = self._method(law)
        guided, ground = self.planted(seed).guided(law), self.ground
        start = noise(self.asked.n, ground.dim, seed)
        x = simulate.start(guided, start, float(sigmas[0]))
        last = solver.last(solver.solve(guided, x, sigmas, step))
        final, _ = denoiser.evaluate(guided, last.x, last.sigma, last.memory.law)
        return Measured(
            float(law.w) if w is None else w,
            ground.odds(final),
            ground.w1(final),
            float(np.mean(~ground.inside(last.x))),
            float(np.mean(~ground.inside(final))),
            simulate.network_calls(guided, step, sigmas),
        )

    def _method(self, law: laws.Law) -> tuple[solver.Step, np.ndarray]:
        simulation = self.asked.simulation(0)
        if law.own_step is not None:
            simulation = simulation.model_copy(update={"steps": 2 * simulation.steps})
        return simulate.method(simulation, law.own_step, law.breaks)


def cases(
    places: Sequence[Place], errors: Sequence[PlantedError], asked: ControlConfig
) -> Iterator[Case]:
    """Every target with every error; a target is built once."""
    for place in places:
        ground = Ground(targets.build(place.builder, **place.params))
        for error in errors:
            yield Case(place, error, ground, asked)


def matched(at: Odds, aim: float, tolerance: float, guess: float) -> tuple[Measured, bool]:
    """The samples at the w whose class odds are aim within tolerance, and whether there is one.

    at(w) measures; guess > 0 is tried first, then doubled or halved until aim lies between two
    weights, then the secant in ln w, halved where it stalls. Where none is found in 12 tries
    within [1/64, 256], the closest seen.
    """
    seen = [at(guess)]
    low = high = None
    while True:
        last = seen[-1]
        if abs(last.odds - aim) <= tolerance:
            return last, True
        low, high = (last, high) if last.odds < aim else (low, last)
        w = _next(low, high, aim, len(seen))
        if w is None or len(seen) >= _TRIES:
            break
        seen.append(at(w))
    return min(seen, key=lambda found: abs(found.odds - aim)), False


def _next(low: Measured | None, high: Measured | None, aim: float, tries: int) -> float | None:
    """The next weight to try; None where the search has left its range."""
    if low is None or high is None:
        end = low or high
        assert end is not None
        w = end.w * 2 if high is None else end.w / 2
        return w if _SMALLEST_W <= w <= LARGEST_W else None
    share = (aim - low.odds) / (high.odds - low.odds)
    share = 0.5 if tries % 3 == 0 else min(max(share, 0.05), 0.95)
    return math.exp(math.log(low.w) + share * (math.log(high.w) - math.log(low.w)))
