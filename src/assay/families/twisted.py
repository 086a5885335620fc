"""The Twisted Diffusion Sampler: conditional sampling by particles, exact as their number grows.

Wu, Trippe, Naesseth, Blei and Cunningham 2023, "Practical and asymptotically exact conditional
sampling in diffusion models" (arXiv 2306.17775), algorithm 1, for a known part y = M x0. The model
is the ancestral chain of a denoiser D along falling sigmas, in x = x0 + sigma * noise:

    p(x' | x) = N(D + k (x - D), s^2 I),   k = (sigma'/sigma)^2,  s^2 = sigma'^2 (1 - k),
    p(x0 | x) = N(D, r^2 I) at the last sigma > 0.

Each particle carries a twisting function p~(y | x) = N(y; M D(x), r^2 I), r^2(sigma) as in
`assay.families.reconstruction`, which with tau^2 = 0.12 is that of the paper's images. A step
heads for D + sigma^2 grad ln p~(y | x) in D's place and weighs the particle by

    p(x' | x) p~(y | x') / (p~(x' | x) p~(y | x)),

so that the weighted particles follow the model's law given y, whatever the twisting function: its
quality only says how many are needed. With r^2 in the model's last step the last weight is 1: the
known part is y, the unknown one the mean D, drawn from one particle by its weight. Weights are
logarithms in float64. Where the effective number of particles 1 / sum w^2 falls below ess times
their number, they are resampled systematically (one uniform number for an item).

``bound`` and ``clip`` cut what a step heads for (another proposal, the same target), not the last
D; the published figures are clipped so. Cost: one differentiated evaluation a step and particle.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch

from assay.core import special
from assay.families import reconstruction
from assay.families.config import CompletionConfig
from assay.families.streams import Streams


class Particles(NamedTuple):
    """P particles of each of n items: x, D and where to head (n P, *shape), ln p~ (n, P)."""

    x: torch.Tensor
    denoised: torch.Tensor
    goal: torch.Tensor
    twist: torch.Tensor

    def take(self, index: torch.Tensor) -> Particles:
        """Those of index (n, P), numbers within an item."""
        first = torch.arange(len(index), device=index.device)[:, None] * index.shape[1]
        lines = (first + index).flatten()
        x, denoised, goal = (part[lines] for part in (self.x, self.denoised, self.goal))
        return Particles(x, denoised, goal, self.twist.gather(1, index))


def complete(
    denoiser: reconstruction.Denoiser,
    levels: list[float],
    known: torch.Tensor,
    unknown: torch.Tensor,
    rng: Streams,
    config: CompletionConfig,
) -> torch.Tensor:
    """(n, *shape) draws given the known part (n, *shape), 0 where unknown, a bool mask like it."""
    n, n_particles = len(known), config.particles
    sampler = _Twisted(denoiser, known, unknown, config)
    at = sampler.twisted(levels[0] * sampler.noise(rng), levels[0])
    log_w = at.twist
    for sigma, after in itertools.pairwise(levels[:-1]):
        uniform = special.rand(rng, (n, 1), like=log_w)
        index, log_w = resampled(log_w, uniform, config.ess)
        at = at.take(index)
        x, ratio = sampler.moved(at, sigma, after, rng)
        before, at = at.twist, sampler.twisted(x, after)
        log_w = log_w + ratio + at.twist - before
    one = drawn(log_w, special.rand(rng, (n, 1), like=log_w))
    lines = torch.arange(n, device=known.device) * n_particles + one[:, 0]
    return at.denoised[lines]


class _Twisted:
    """The particles' moves, for one known part."""

    def __init__(self, denoiser, known, unknown, config: CompletionConfig):
        self.denoiser, self.config = denoiser, config
        y, hidden = (part.repeat_interleave(config.particles, 0) for part in (known, unknown))
        self.given = reconstruction.Given(y, hidden, config.piece)

    def noise(self, rng: Streams) -> torch.Tensor:
        """Normal numbers (n P, *shape), an item's particles from its own stream."""
        x, per = self.given.known, self.config.particles
        shape = (len(x) // per, per, *x.shape[1:])
        return special.randn(rng, shape, like=x).flatten(0, 1)

    def twisted(self, x: torch.Tensor, sigma: float) -> Particles:
        """Particles at x: one evaluation and its gradient."""
        found = reconstruction.pulled(self.denoiser, x, sigma, self.given)
        gain = 1 + (sigma / self.config.tau) ** 2  # sigma^2 / r^2
        goal = found.denoised + reconstruction.shift(found, gain, self.config.bound)
        if self.config.clip is not None:
            goal = goal.clamp(-self.config.clip, self.config.clip)
        r2 = reconstruction.spread(sigma, self.config.tau)
        count = self._each((~self.given.unknown).double())
        twist = -(self._each(found.missed.double().square()) / r2 + count * math.log(r2)) / 2
        return Particles(x, found.denoised, goal, twist)

    def moved(
        self, at: Particles, sigma: float, after: float, rng: Streams
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x at the next sigma, and ln p(x' | x) - ln p~(x' | x), (n, P)."""
        keep = (after / sigma) ** 2
        deviation, noise = after * math.sqrt(1 - keep), self.noise(rng)
        x = at.goal + keep * (at.x - at.goal) + deviation * noise
        shift = ((1 - keep) / deviation) * (at.goal - at.denoised).double()
        return x, -self._each(shift * (noise + shift / 2))

    def _each(self, x: torch.Tensor) -> torch.Tensor:
        """Sums over an item's entries, (n, P)."""
        return x.flatten(1).sum(1).view(-1, self.config.particles)


def resampled(
    log_w: torch.Tensor, uniform: torch.Tensor, ess: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Systematic resampling of the items that need it: particles (n, P), new log weights.

    log_w: (n, P) float64; uniform: (n, 1). A resampled item's weights are equal, their sum kept.
    """
    n_particles = log_w.shape[1]
    weights = log_w.softmax(1)
    poor = 1 / weights.square().sum(1, keepdim=True) < ess * n_particles
    at = (torch.arange(n_particles, device=log_w.device) + uniform) / n_particles
    chosen = _inverted(weights, at)
    equal = (log_w.logsumexp(1, keepdim=True) - math.log(n_particles)).expand_as(log_w)
    own = torch.arange(n_particles, device=log_w.device).expand_as(chosen)
    return torch.where(poor, chosen, own), torch.where(poor, equal, log_w)


def drawn(log_w: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """(n, 1): one particle of each item by its weight, from uniform numbers (n, 1)."""
    return _inverted(log_w.softmax(1), uniform)


def _inverted(weights: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Particles at places (n, m) in [0, 1) of the cumulative weights; none of weight 0."""
    total = weights.cumsum(1)
    aim = torch.minimum(at * total[:, -1:], total[:, -1:] * (1 - 2.0**-52))
    return torch.searchsorted(total, aim, right=True)
