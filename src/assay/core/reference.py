"""The adaptive reference: a guided trajectory to given tolerance, from r = 1/sigma = 0 itself.

In c = x / sigma and r = 1 / sigma the probability-flow ODE is dc/dr = D(c / r, 1 / r), regular at
r = 0, where c is the noise u ~ N(0, I). Both ends become finite and the linear part of
N(m, scale^2) disappears in

    angle = arctan(sigma / scale), from pi/2 (noise) to 0 (data),    g = cos(angle) x / scale,
    dg/dangle = -(D / scale - cos(angle) g) / sin(angle),            x = scale g / cos(angle).

The method is Dormand and Prince's pair of order 8 with estimates of orders 5 and 3 (Hairer,
Norsett, Wanner, Solving ODEs I, II.10), coefficients as published by scipy, in the backend of x.
Every particle is controlled: the error norm is the largest over the batch. Each step takes 12
evaluations, and 3 more where a requested sigma lies inside it (dense output of order 7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.integrate import DOP853

from assay.core import denoiser as denoisers
from assay.core import solver, special

Array = special.Array

FINALS = ("none", "denoise", "limit")
FAR = 1e6  # sigma / scale standing for infinity: the start below is exact to O((scale/sigma)^3)
A = [row[:k].tolist() for k, row in enumerate(DOP853.A)]
A_EXTRA = [row[: 13 + k].tolist() for k, row in enumerate(DOP853.A_EXTRA)]
NODES, NODES_EXTRA = DOP853.C.tolist(), DOP853.C_EXTRA.tolist()
WEIGHTS, ERROR5, ERROR3 = DOP853.B.tolist(), DOP853.E5.tolist(), DOP853.E3.tolist()
DENSE = DOP853.D.tolist()


@dataclass(frozen=True)
class Adaptive:
    """How the reference runs.

    rtol, atol: error allowed per step in g (x relative to hypot(scale, sigma)), rms over a
    particle's entries; scale: a standard deviation of the data (cost only, not accuracy);
    breaks: sigmas where the denoiser jumps (interval laws): steps end there, and neither side
    sees the other; max_steps: accepted and rejected steps before giving up.
    """

    rtol: float = 1e-9
    atol: float = 1e-9
    scale: float = 1.0
    breaks: tuple[float, ...] = ()
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}: give a positive number")
        if self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}: give at least 1")


@dataclass(frozen=True)
class Solution:
    """x: (batch, *shape) at sigma; evaluations: denoiser calls; states: those asked for."""

    x: Array
    sigma: float
    evaluations: int
    states: tuple[solver.State, ...] = ()


def reference(
    denoiser: denoisers.AnyDenoiser,
    x: Array,
    sigma_max: float = math.inf,
    sigma_min: float = 1e-4,
    final: str = "none",
    at: Sequence[float] = (),
    config: Adaptive | None = None,
) -> Solution:
    """Solve the probability-flow ODE from sigma_max down to sigma_min.

    x: (batch, *shape), the state at sigma_max; with sigma_max = inf it is the noise u ~ N(0, I)
    itself and the start is exact (the denoiser is then called up to 1e6 scale: float64 wanted).
    final: "none" returns x at sigma_min; "denoise" returns D(x, sigma_min); "limit" returns
    (alpha x + D) / (1 + alpha), alpha = 1 / sqrt(1 + (sigma_min/scale)^2), which is x(0) exactly
    for N(m, scale^2) and to O(sigma_min^4) for any smooth density (to O(sigma_min) at an edge).
    at: sigmas in [sigma_min, sigma_max], any order, whose states come back in that order.
    The denoiser's memory is not used: a law that remembers has no ODE.
    ValueError on a bad interval, an unknown final, a NaN, or when max_steps do not suffice.
    """
    config = config or Adaptive()
    _check(sigma_max, sigma_min, final, at)
    path = _Path(denoiser, x, config)
    start = path.far() if math.isinf(sigma_max) else sigma_max
    if not sigma_min < start:
        raise ValueError(f"sigma_min is {sigma_min}: give less than {start:.3g}")
    wanted = [min(float(s), start) for s in at]
    levels = sorted({s for s in config.breaks if sigma_min < s < start}, reverse=True)
    g = path.to_g(path.x, start)
    found: dict[float, Array] = {start: g}
    for high, low in zip([start, *levels], [*levels, sigma_min], strict=True):
        g = path.piece(g, high, low, [s for s in wanted if low <= s < high], found)
    x = path.to_x(g, sigma_min)
    if final != "none":
        denoised = path.denoise(x, sigma_min)
        alpha = math.cos(path.angle(sigma_min)) if final == "limit" else 0.0
        x = (alpha * x + denoised) / (1 + alpha)
    states = tuple(solver.State(path.to_x(found[s], s), s) for s in wanted)
    return Solution(x, sigma_min if final == "none" else 0.0, path.evaluations, states)


def _check(sigma_max: float, sigma_min: float, final: str, at: Sequence[float]) -> None:
    if not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min {sigma_min}, sigma_max {sigma_max}: give 0 < sigma_min < sigma_max"
        )
    if final not in FINALS:
        raise ValueError(f"final is {final!r}: give one of {', '.join(FINALS)}")
    for sigma in at:
        if not sigma_min <= sigma <= sigma_max:
            raise ValueError(f"at holds {sigma}: give sigmas in [{sigma_min}, {sigma_max}]")


class _Path:
    """One solve: the ODE in the angle, its evaluations counted, and its adaptive steps."""

    def __init__(self, denoiser: denoisers.AnyDenoiser, x: Array, config: Adaptive) -> None:
        self.denoiser, self.x, self.config, self.scale = denoiser, x, config, config.scale
        self.xp = special.namespace(x)
        self.evaluations = 0
        self.steps = 0
        self.limits = (0.0, math.inf)  # the piece's sigmas, open where the denoiser jumps

    def denoise(self, x: Array, sigma: float) -> Array:
        self.evaluations += 1
        return self.denoiser(x, sigma)

    def angle(self, sigma: float) -> float:
        return math.atan(sigma / self.scale)

    def to_g(self, x: Array, sigma: float) -> Array:
        return x * (math.cos(self.angle(sigma)) / self.scale)

    def to_x(self, g: Array, sigma: float) -> Array:
        return g * (self.scale / math.cos(self.angle(sigma)))

    def far(self) -> float:
        """Replace the noise by x at the sigma that stands for infinity, to O(1/sigma^2)."""
        sigma = FAR * self.scale
        at_far = sigma * self.x
        self.x = at_far + self.denoise(at_far / 2, sigma)  # see guidance.unbiased_start
        return sigma

    def slope(self, angle: float, g: Array) -> Array:
        low, high = self.limits
        sigma = min(max(self.scale * math.tan(angle), low), high)
        cosine = math.cos(angle)
        denoised = self.denoise(g * (self.scale / cosine), sigma)
        return (cosine * g - denoised / self.scale) / math.sin(angle)

    def norm(self, value: Array, size: Array) -> float:
        """Largest over the batch of the rms over entries of value / tolerance."""
        scaled = value / (self.config.atol + self.config.rtol * size)
        flat = self.xp.reshape(scaled, (scaled.shape[0], -1))
        return float(self.xp.max(self.xp.mean(flat * flat, axis=-1))) ** 0.5

    def piece(
        self, g: Array, high: float, low: float, wanted: list[float], found: dict[float, Array]
    ) -> Array:
        """Integrate from sigma high to low; the wanted sigmas' g go into found."""
        self.limits = (low * (1 + 1e-14), high * (1 - 1e-14))
        here, end = self.angle(high), self.angle(low)
        slope = self.slope(here, g)
        width = min(self.first_width(here, g, slope), here - end)
        rejected = False
        while here > end:
            self.count_step(here)
            closing = width >= (here - end) * (1 - 1e-12)
            target = end if closing else here - width
            g_new, slopes, error = self.attempt(here, g, slope, target - here)
            if error >= 1:
                width = (here - target) * max(0.2, 0.9 * error**-0.125)
                rejected = True
                continue
            inside = [s for s in wanted if target <= self.angle(s) < here]
            self.record(here, target, (g, g_new), slopes, inside, found)
            growth = 10.0 if error == 0 else min(10.0, 0.9 * error**-0.125)
            width = (here - target) * (min(1.0, growth) if rejected else max(0.2, growth))
            here, g, slope, rejected = target, g_new, slopes[-1], False
        return g

    def count_step(self, angle: float) -> None:
        self.steps += 1
        if self.steps > self.config.max_steps:
            raise ValueError(
                f"max_steps {self.config.max_steps} did not reach sigma_min, only "
                f"sigma {self.scale * math.tan(angle):.3g}: loosen rtol and atol or allow more"
            )

    def attempt(
        self, angle: float, g: Array, slope: Array, h: float
    ) -> tuple[Array, list[Array], float]:
        """One step of width h: (g at its end, 13 slopes, error over tolerance)."""
        slopes = [slope]
        for weights, node in zip(A[1:], NODES[1:], strict=True):
            stage = solver.combine(g, 1.0, slopes, [h * a for a in weights])
            slopes.append(self.slope(angle + node * h, stage))
        g_new = solver.combine(g, 1.0, slopes, [h * b for b in WEIGHTS])
        slopes.append(self.slope(angle + h, g_new))
        size = self.xp.maximum(self.xp.abs(g), self.xp.abs(g_new))
        fifth = self.norm(solver.combine(g, 0.0, slopes, [h * e for e in ERROR5]), size)
        third = self.norm(solver.combine(g, 0.0, slopes, [h * e for e in ERROR3]), size)
        if not math.isfinite(fifth + third):
            raise ValueError(
                "the denoiser's values are not finite between sigma "
                f"{self.scale * math.tan(angle):.6g} and {self.scale * math.tan(angle + h):.6g}: "
                "check it there, or start at a smaller sigma_max"
            )
        scale = math.sqrt(fifth**2 + 0.01 * third**2)
        return g_new, slopes, 0.0 if scale == 0 else fifth**2 / scale

    def first_width(self, angle: float, g: Array, slope: Array) -> float:
        """Hairer's starting step (II.4): one Euler step probes the second derivative."""
        size = self.xp.abs(g)
        level, rate = self.norm(g, size), self.norm(slope, size)
        probe = 1e-6 if level < 1e-5 or rate < 1e-5 else 0.01 * level / rate
        probe = min(probe, angle / 2)
        ahead = self.slope(angle - probe, g - probe * slope)
        bend = self.norm(ahead - slope, size) / probe
        steepest = max(rate, bend)
        if steepest <= 1e-15:
            return max(1e-6, probe * 1e-3)
        return min(100 * probe, (0.01 / steepest) ** 0.125)

    def record(
        self,
        here: float,
        target: float,
        ends: tuple[Array, Array],
        slopes: list[Array],
        inside: list[float],
        found: dict[float, Array],
    ) -> None:
        """Dense output (II.6) at the sigmas inside this step."""
        h = target - here
        if not inside:
            return
        slopes = list(slopes)
        for weights, node in zip(A_EXTRA, NODES_EXTRA, strict=True):
            stage = solver.combine(ends[0], 1.0, slopes, [h * a for a in weights])
            slopes.append(self.slope(here + node * h, stage))
        rise = ends[1] - ends[0]
        terms = [rise, h * slopes[0] - rise, 2 * rise - h * (slopes[12] + slopes[0])]
        zero = 0.0 * rise
        terms += [solver.combine(zero, 1.0, slopes, [h * d for d in row]) for row in DENSE]
        for sigma in inside:
            part = (self.angle(sigma) - here) / h
            value = zero
            for k, term in enumerate(reversed(terms)):
                value = (value + term) * (part if k % 2 == 0 else 1 - part)
            found[sigma] = ends[0] + value
