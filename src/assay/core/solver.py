"""Solvers: from noise to data along falling sigma, one step at a time.

With x = x0 + sigma * noise and a denoiser D, the probability-flow ODE and the reverse SDE are

    dx/dsigma = (x - D(x, sigma)) / sigma           (euler, heun, dpmpp_2m, adams)
    dy = D dt + dB,  y = x / sigma^2,  t = sigma^-2  (sde)

The SDE is the reverse variance-exploding SDE dx = (x - D) / sigma^2 dv + dW, v = sigma^2 falling,
in the coordinates of stochastic localisation (Montanari 2023, arXiv 2305.10690). For an unguided
denoiser ODE and SDE share their marginals; for a guided one they do NOT (linear Gaussians with
variances 1 and 2 at w = 1: the ODE ends at 0.5, the SDE at 0.58333).

A step maps (denoiser, state, sigma_next, rng) to the next state and declares its ``order`` (global
error O(n^-order) at a fixed sigma_min > 0; weak order for sde) and how often it calls the
denoiser; :func:`solve` yields the states. A denoiser with ``evaluate(x, sigma, memory)`` has its
memory advanced by a step's first evaluation only; later evaluations of the step read the advanced
memory and what they would change is dropped.

References: Karras et al. 2022 (EDM, arXiv 2206.00364), algorithms 1 and 2; Lu et al. 2022
(DPM-Solver++, arXiv 2211.01095), algorithm 2; Hairer, Norsett, Wanner, Solving ODEs I, III.5;
Zhao et al. 2023 (UniPC, arXiv 2302.04867) for correcting without another evaluation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from assay.core import denoiser as denoisers
from assay.core import special

Array = special.Array
AnyDenoiser = denoisers.AnyDenoiser


class Memory(NamedTuple):
    """What a state carries: the guidance law's memory, and the multistep method's own."""

    law: Any = None
    owner: str = ""  # the step that wrote `method`; another step finds none
    method: Any = None


BLANK = Memory()


@dataclass(frozen=True)
class State:
    """A point of a trajectory.

    x: (batch, *shape) at noise level sigma >= 0; denoised: the first denoiser value of the step
    that led here, taken at the state before (None at the start); memory: see :class:`Memory`.
    """

    x: Array
    sigma: float
    denoised: Array | None = None
    memory: Memory = BLANK


Advance = Callable[[AnyDenoiser, State, float, Any], State]


@dataclass(frozen=True)
class Step:
    """A method: step(denoiser, state, sigma_next, rng) -> state.

    order: declared order; evaluations: denoiser calls of a step, evaluations_to_zero: of a step
    to sigma 0; stochastic: needs rng; multistep: remembers earlier steps.
    """

    name: str
    advance: Advance
    order: int
    evaluations: int = 1
    evaluations_to_zero: int = 1
    stochastic: bool = False
    multistep: bool = False

    def __call__(
        self, denoiser: AnyDenoiser, state: State, sigma_next: float, rng: special.Rng = None
    ) -> State:
        """The state at sigma_next in [0, state.sigma); ValueError otherwise or without an rng."""
        if not 0 <= sigma_next < state.sigma:
            raise ValueError(
                f"sigma_next is {sigma_next} at sigma {state.sigma}: give 0 <= sigma_next < sigma"
            )
        if self.stochastic and rng is None:
            raise ValueError(f"rng is None: the step {self.name} draws noise, pass a generator")
        return self.advance(denoiser, state, float(sigma_next), rng)


def solve(
    denoiser: AnyDenoiser,
    x: Array,
    sigmas: Sequence[float] | Array,
    step: Step | None = None,
    rng: special.Rng = None,
) -> Iterator[State]:
    """The n + 1 states at the n + 1 sigmas, the start first; step defaults to heun.

    x: (batch, *shape) at sigmas[0], e.g. sigmas[0] * noise, or
    :func:`assay.core.guidance.unbiased_start`; rng: where the step draws noise, a numpy or torch
    Generator (x's backend). ValueError unless the sigmas fall strictly and only the last is 0.
    """
    chosen = heun if step is None else step
    levels = check_sigmas(sigmas)
    if chosen.stochastic and rng is None:
        raise ValueError(f"rng is None: the step {chosen.name} draws noise, pass a generator")
    return _states(denoiser, State(x, levels[0]), levels[1:], chosen, rng)


def last(states: Iterable[State]) -> State:
    """The last of the states: ``last(solve(...)).x`` are the samples. Keeps no trajectory."""
    final = None
    for final in states:  # noqa: B007 - only the last one is wanted
        pass
    if final is None:
        raise ValueError("states is empty: a solve yields each state once, call solve again")
    return final


def nfe(step: Step, sigmas: Sequence[float] | Array) -> int:
    """Exact number of denoiser calls of solve(denoiser, x, sigmas, step)."""
    levels = check_sigmas(sigmas)
    to_zero = levels[-1] == 0
    return step.evaluations * (len(levels) - 1 - to_zero) + step.evaluations_to_zero * to_zero


def check_sigmas(sigmas: Sequence[float] | Array) -> list[float]:
    """The sigmas as Python floats; ValueError unless they are a falling grid."""
    levels = [float(s) for s in sigmas]
    if len(levels) < 2:
        raise ValueError(f"sigmas has {len(levels)} entries: give at least two, one step")
    falling = all(a > b for a, b in itertools.pairwise(levels))
    if not falling or not math.isfinite(levels[0]) or levels[-1] < 0:
        raise ValueError(
            f"sigmas runs {levels[0]} ... {levels[-1]}: give finite, strictly decreasing entries, "
            "all positive but the last, which may be 0"
        )
    return levels


def _states(
    denoiser: AnyDenoiser, state: State, levels: list[float], step: Step, rng: special.Rng
) -> Iterator[State]:
    yield state
    for sigma in levels:
        state = step(denoiser, state, sigma, rng)
        yield state


def _first(denoiser: AnyDenoiser, state: State) -> tuple[Array, Any]:
    """A step's first evaluation: (denoised, the law's memory, advanced)."""
    return denoisers.evaluate(denoiser, state.x, state.sigma, state.memory.law)


def _recall(state: State, owner: str) -> Any:
    """The method's memory, None where another step (or none) wrote it."""
    return state.memory.method if state.memory.owner == owner else None


def _euler(denoiser: AnyDenoiser, state: State, sigma_next: float, rng: Any) -> State:
    denoised, law = _first(denoiser, state)
    x = denoised + (sigma_next / state.sigma) * (state.x - denoised)
    return State(x, sigma_next, denoised, Memory(law))


def _heun(denoiser: AnyDenoiser, state: State, sigma_next: float, rng: Any) -> State:
    ahead = _euler(denoiser, state, sigma_next, rng)
    if sigma_next == 0:
        return ahead
    sigma, denoised = state.sigma, ahead.denoised
    second, _ = denoisers.evaluate(denoiser, ahead.x, sigma_next, ahead.memory.law)
    slope = (state.x - denoised) / sigma + (ahead.x - second) / sigma_next
    x = state.x + ((sigma_next - sigma) / 2) * slope
    return State(x, sigma_next, denoised, ahead.memory)


def _dpmpp_2m(denoiser: AnyDenoiser, state: State, sigma_next: float, rng: Any) -> State:
    denoised, law = _first(denoiser, state)
    sigma, earlier = state.sigma, _recall(state, "dpmpp_2m")
    blend = denoised
    if earlier is not None and sigma_next > 0:
        sigma_before, before = earlier
        ratio = math.log(sigma / sigma_next) / math.log(sigma_before / sigma)
        blend = denoised + (ratio / 2) * (denoised - before)
    x = blend + (sigma_next / sigma) * (state.x - blend)
    return State(x, sigma_next, denoised, Memory(law, "dpmpp_2m", (sigma, denoised)))


def _sde(denoiser: AnyDenoiser, state: State, sigma_next: float, rng: Any) -> State:
    denoised, law = _first(denoiser, state)
    keep = (sigma_next / state.sigma) ** 2
    x = denoised + keep * (state.x - denoised)
    if sigma_next > 0:
        noise = special.randn(rng, tuple(state.x.shape), like=state.x)
        x = x + (sigma_next * math.sqrt(1 - keep)) * noise
    return State(x, sigma_next, denoised, Memory(law))


euler = Step("euler", _euler, order=1)
heun = Step("heun", _heun, order=2, evaluations=2)
dpmpp_2m = Step("dpmpp_2m", _dpmpp_2m, order=2, multistep=True)
# Euler-Maruyama of the reverse VE SDE in stochastic-localisation coordinates (weak order 1):
# with D frozen over the step it is exact, and the last step to sigma 0 adds no noise.
sde = Step("sde", _sde, order=1, stochastic=True)


def churn(
    n: int,
    s_churn: float,
    step: Step = heun,
    s_min: float = 0.0,
    s_max: float = math.inf,
    s_noise: float = 1.0,
) -> Step:
    """EDM's stochastic sampler (algorithm 2) around a one-step method.

    Where s_min <= sigma <= s_max, noise of standard deviation
    s_noise sqrt((1 + gamma)^2 - 1) sigma is added first, gamma = min(s_churn / n, sqrt(2) - 1),
    and the step then starts from (1 + gamma) sigma. n: number of steps of the grid; s_churn >= 0.
    The declared order is that of the step: it is the order at s_churn = 0; with churn the law of
    the samples tends to the SDE-like one of its noise, and no order is claimed.
    """
    if step.multistep or step.stochastic:
        raise ValueError(f"step is {step.name}: churn needs a one-step ODE method, euler or heun")
    if n < 1 or not s_churn >= 0 or not s_noise >= 0:
        raise ValueError(
            f"n {n}, s_churn {s_churn}, s_noise {s_noise}: give n >= 1 and the others >= 0"
        )
    gamma = min(s_churn / n, math.sqrt(2) - 1)

    def advance(denoiser: AnyDenoiser, state: State, sigma_next: float, rng: Any) -> State:
        if gamma > 0 and s_min <= state.sigma <= s_max:
            spread = s_noise * math.sqrt(gamma * (2 + gamma)) * state.sigma
            noise = special.randn(rng, tuple(state.x.shape), like=state.x)
            raised = state.sigma * (1 + gamma)
            state = State(state.x + spread * noise, raised, state.denoised, state.memory)
        return step.advance(denoiser, state, sigma_next, rng)

    name = f"churn({step.name})"
    return Step(
        name, advance, step.order, step.evaluations, step.evaluations_to_zero, stochastic=True
    )


def adams(order: int = 6, scale: float = 1.0) -> Step:
    """Adams predictor-corrector in alpha = 1 / sqrt(1 + sigma^2 / scale^2), one call a step.

    In g = alpha x / scale the ODE reads

        dg/dalpha = D / scale + scale (D - x) / sigma^2,   alpha from 0 to 1,

    regular at both ends for smooth data and constant for N(m, scale^2). Each step evaluates at
    its predicted x, first corrects that x with the new slope (Adams-Moulton, ``order``), then
    predicts the next one (Adams-Bashforth, order - 1), both for variable steps. The first steps
    have fewer slopes and lower order; :func:`assay.core.noise.chebyshev` (same ``scale``) begins
    with steps so short that order 6 survives, and no more is declared for orders 7 and 8, whose
    errors are smaller still. On a grid uniform in alpha the order falls to 3. The last step may
    go to sigma 0 and keeps its order for smooth data.

    order: 2..8; scale > 0: a standard deviation of the data, between its smallest and its
    typical one. Data with edges or atoms are not smooth at sigma 0: choose a small scale.
    """
    if not 2 <= order <= 8:
        raise ValueError(f"order is {order}: give 2..8")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}: give the data's standard deviation, > 0")
    owner = f"adams({order}, {scale})"

    def advance(denoiser: AnyDenoiser, state: State, sigma_next: float, rng: Any) -> State:
        denoised, law = _first(denoiser, state)
        sigma, x = state.sigma, state.x
        slope = denoised / scale + (scale / sigma**2) * (denoised - x)
        nodes, slopes = _recall(state, owner) or ((), ())
        here, ahead = _alpha(sigma, scale), _alpha(sigma_next, scale)
        new_nodes, new_slopes = (*nodes, here), (*slopes, slope)
        change = _adams_change(nodes, here, ahead, order)
        x = combine(x, here / ahead, new_slopes, [scale / ahead * c for c in change])
        method = (new_nodes[-order + 1 :], new_slopes[-order + 1 :])
        return State(x, sigma_next, denoised, Memory(law, owner, method))

    return Step(owner, advance, order=min(order, 6), multistep=True)


def _alpha(sigma: float, scale: float) -> float:
    return scale / math.hypot(sigma, scale)


def _adams_change(nodes: tuple[float, ...], here: float, ahead: float, order: int) -> list[float]:
    """Weights of the slopes at (*nodes, here): correction of the last step plus the next one."""
    every = [*nodes, here]
    change = np.zeros(len(every))
    used = every[-order + 1 :]
    change[len(every) - len(used) :] += lagrange_weights(used, here, ahead)
    if nodes:
        change += lagrange_weights(every, nodes[-1], here)
        change[:-1] -= lagrange_weights(list(nodes), nodes[-1], here)
    return change.tolist()


def lagrange_weights(nodes: list[float], start: float, end: float) -> np.ndarray:
    """Integrals over [start, end] of the nodes' Lagrange polynomials, exact by Gauss.

    No node may lie inside (start, end).
    """
    points, weights = _gauss((len(nodes) + 1) // 2)
    at = (start + end) / 2 + (end - start) / 2 * points
    gaps = np.subtract.outer(nodes, nodes)
    np.fill_diagonal(gaps, 1.0)
    away = np.subtract.outer(nodes, at)
    quotients = (np.prod(away, axis=0) / away) @ weights
    signs = (-1.0) ** (len(nodes) - 1)
    return (end - start) / 2 * signs * quotients / np.prod(gaps, axis=1)


@lru_cache
def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(n)


def combine(x: Array, factor: float, slopes: Sequence[Array], weights: Sequence[float]) -> Array:
    """factor * x + sum of weight * slope in a fresh array of x's dtype."""
    total = factor * x
    for slope, weight in zip(slopes, weights, strict=True):
        if weight != 0:
            total += weight * slope
    return total
