"""A textbook target beside nuisance coordinates, and the samples any guidance law draws from it.

The target is a 1-D class coordinate times d - 1 independent N(0, 1) coordinates, which tell
nothing of the class. Every law starts from the same noise u, a Latin hypercube in the class
coordinate (the n mid-quantiles of N(0, 1)) with independent nuisances, and runs down one Karras
grid, to which its own jumps are added so that no step crosses one. The start is
sigma_max u + D(2 sigma_max u, 2 sigma_max): in r = 1/sigma, c = x/sigma the flow dc/dr = D starts
at c = u, r = 0, and this is its midpoint step, good to O(1/sigma_max^2) for every law (a network
may not be asked above sigma_max: guidance.simulate has the start for those).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from assay.core import solver
from assay.core.guidance import Guided
from assay.guidance import laws, simulate, targets, tilt
from assay.guidance.config import Simulation
from assay.guidance.tabulated import Line, Tabulated, WithNuisance

STEPS = {"heun": solver.heun, "euler": solver.euler}
_ENDS = 1000  # mid-quantiles, of which the outermost are 0.05 % and 99.95 %


@dataclass(frozen=True, eq=False)
class Product:
    """A 1-D target, the class coordinate, and the number of coordinates in all."""

    target: targets.Target
    dim: int

    def guided(self, law: laws.Law, exact: bool = False) -> Guided:
        """The law's denoiser of (batch, d), from tables or from the exact denoisers."""
        lines = _line if exact else _table
        weak, cond = law.weak_variance, WithNuisance(lines(self.target, "cond"))
        if weak is None:
            return Guided(cond, WithNuisance(lines(self.target, "uncond")), law)
        return Guided(cond, WithNuisance(lines(self.target, weak), weak), law)

    def class_sample(self, n: int) -> np.ndarray:
        """The n mid-quantiles (n,) of the class coordinate given the class."""
        return _quantiles(self.target, n)

    @property
    def side(self) -> float:
        """1 where the class lies above the marginal (E[x|z] >= E[x]), else -1."""
        far = np.zeros((1, 1)), 1e8  # there a denoiser is the mean
        above = self.target.cond.denoise(*far) >= self.target.uncond.denoise(*far)
        return 1.0 if bool(above[0, 0]) else -1.0

    @property
    def edge(self) -> float | None:
        """Distance to the class's far edge, towards its side; None where it is unbounded."""
        low, high = (float(end[0]) for end in self.target.support)
        bounded = math.isfinite(low) and math.isfinite(high)
        return (high if self.side > 0 else -low) if bounded else None

    @property
    def bound(self) -> float:
        """Largest |x| in the middle 99.9 % of every coordinate."""
        own = float(np.abs(_quantiles(self.target, _ENDS)).max())
        return own if self.dim == 1 else max(own, float(ndtri(1 - 0.5 / _ENDS)))


@dataclass(frozen=True)
class Drawn:
    """Samples (n, d) without and with the final denoise; peak: max over sigma of the mean of
    x/sqrt(1+sigma^2), towards the class's side."""

    x: np.ndarray
    denoised: np.ndarray
    peak: float


def product(target: str | targets.Target, dim: int) -> Product:
    """A 1-D target, or the one of that name, in ``dim`` >= 1 coordinates; else ValueError."""
    if dim < 1:
        raise ValueError(f"d = {dim} must be a number of coordinates >= 1")
    built = _named(target) if isinstance(target, str) else target
    if built.dim != 1:
        raise ValueError(
            f"target {built.name!r} has {built.dim} coordinates; its class coordinate must be 1-D"
        )
    return Product(built, dim)


def draw(place: Product, law: laws.Law, simulation: Simulation) -> Drawn:
    """Samples of a law, by its own step where it has one."""
    if simulation.solver not in STEPS:
        raise ValueError(
            f"solver {simulation.solver!r} steps across a law's jumps; take {', '.join(STEPS)}"
        )
    step, sigmas = simulate.method(simulation, law.own_step, law.breaks)
    guided = place.guided(law)
    x = sigmas[0] * noise_in(simulation.n, place.dim, simulation.seed)
    x = x + guided(2 * x, 2 * float(sigmas[0]))
    peak, side, last = -math.inf, place.side, solver.State(x, float(sigmas[0]))
    for last in solver.solve(guided, x, sigmas, step):
        peak = max(peak, side * float(last.x[:, 0].mean()) / math.hypot(1, last.sigma))
    exact = place.guided(law, exact=True)  # a table's error could put samples off the support
    final, _ = exact.evaluate(last.x, last.sigma, last.memory.law)
    return Drawn(last.x, final, peak)


def noise_in(n: int, d: int, seed: int) -> np.ndarray:
    """(n, d): the mid-quantiles of N(0, 1) in the first coordinate, independent draws beside."""
    u = np.random.default_rng(seed).standard_normal((n, d))
    u[:, 0] = ndtri((np.arange(n) + 0.5) / n)
    return u


def levels(law: laws.Law, simulation: Simulation) -> np.ndarray:
    """The grid (steps+1,) with two nodes at each of the law's jumps, above and below it."""
    return simulate.method(simulation, law.own_step, law.breaks)[1]


def evaluations(place: Product, law: laws.Law, simulation: Simulation) -> int:
    """Network evaluations a sample: start, steps, final denoise; without those not needed."""
    step, sigmas = simulate.method(simulation, law.own_step, law.breaks)
    return simulate.network_calls(place.guided(law), step, sigmas)


_named = functools.lru_cache(maxsize=4)(targets.build)  # one object a name: tables are kept


def _line(target: targets.Target, part: str | float) -> Line:
    """Exact denoiser of the class coordinate: "cond", "uncond", or cond at a wider variance."""
    if isinstance(part, str):
        denoise = getattr(target, part).denoise
    else:
        denoise = laws.Dilated(target.cond.denoise, part)
    return lambda x, sigma: denoise(x[:, None], sigma)[:, 0]


@functools.lru_cache(maxsize=8)
def _quantiles(target: targets.Target, n: int) -> np.ndarray:
    return np.asarray(tilt.conditional(target).quantile((np.arange(n) + 0.5) / n))


@functools.lru_cache(maxsize=12)
def _table(target: targets.Target, part: str | float) -> Tabulated:
    return Tabulated(_line(target, part))
