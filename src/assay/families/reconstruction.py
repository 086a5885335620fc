"""Guidance by reconstruction: the known part y pulls on x through the denoiser's own gradient.

With x = x0 + sigma * noise, a denoiser D with Jacobian J = dD/dx and M the known entries, the
score of y given x is approximated from D's own answer for the known part,

    grad_x ln p(y | x) ~ J^T M (y - D(x)) / r^2,   r^2 = sigma^2 tau^2 / (sigma^2 + tau^2),

r^2 the variance of x0 given x for data of standard deviation tau; J^T v is one backward pass. It
is exact where the known entries of x0 given x are Gaussian with covariance r^2 I. At high noise
J should fall as 1/sigma^2, and a network's falls as 1/sigma with the network's own error in front:
there the shift of x0 is bounded by a multiple of |M (y - D)|, as no law of x0 is far off.
`PseudoinverseGuided` takes it as it is (Song, Vahdat, Mardani and Kautz 2023, "Pseudoinverse-
guided diffusion models for inverse problems", ICLR, eq. 7 and 8); `dps` makes a step along
J^T M (y - D) of a length of its own (Chung et al. 2023, arXiv 2209.14687, algorithm 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from assay.core import solver
from assay.core.denoiser import per_sample
from assay.families.streams import Streams

Denoiser = Callable[[torch.Tensor, Any], torch.Tensor]


class Given(NamedTuple):
    """The known part y (n, *shape), 0 where unknown, a bool mask, and how many at a time."""

    known: torch.Tensor
    unknown: torch.Tensor
    piece: int


class Pulled(NamedTuple):
    """D(x), what it misses of the known part, M (y - D), and J^T of that; all (n, *shape)."""

    denoised: torch.Tensor
    missed: torch.Tensor
    pull: torch.Tensor


def pulled(denoiser: Denoiser, x: torch.Tensor, sigma: Any, given: Given) -> Pulled:
    """The denoiser at x (n, *shape) and the pull of the known part through it.

    One evaluation and one vector-Jacobian product, ``given.piece`` lines at a time: what is kept
    for the gradient must fit in memory.
    """
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
    lines = [part.split(given.piece) for part in (x, level, given.known, given.unknown)]
    parts = [_piece(denoiser, *piece) for piece in zip(*lines, strict=True)]
    return Pulled(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


@torch.enable_grad()
def _piece(denoiser, x, sigma, known, unknown) -> Pulled:
    x = x.detach().requires_grad_()
    denoised = denoiser(x, sigma)
    missed = (known - denoised.detach()).masked_fill(unknown, 0)
    (pull,) = torch.autograd.grad(denoised, x, missed)
    return Pulled(denoised.detach(), missed, pull)


def spread(sigma: Any, tau: float) -> Any:
    """r^2 = Var[x0 | x] = sigma^2 tau^2 / (sigma^2 + tau^2) for data N(m, tau^2)."""
    return sigma**2 * tau**2 / (sigma**2 + tau**2)


def shift(found: Pulled, gain: Any, bound: float | None) -> torch.Tensor:
    """gain * pull, cut to a norm of at most bound |M (y - D)|; gain = sigma^2 / r^2."""
    shifted = gain * found.pull
    if bound is None:
        return shifted
    length = shifted.flatten(1).norm(dim=1).clamp_min(1e-30)
    most = bound * found.missed.flatten(1).norm(dim=1)
    return shifted * per_sample((most / length).clamp_max(1), shifted)


@dataclass(frozen=True)
class PseudoinverseGuided:
    """PGDM as a denoiser, for any solver: D + scale * (sigma^2 / r^2) J^T M (y - D).

    variance: r^2 of sigma > 0, such as `spread` at a tau. scale: 1 follows the approximate score
    above, where the paper's algorithm 1 weakens it by r^2, for a solver of its own. bound: see
    `shift`; None for none.
    """

    denoiser: Denoiser
    given: Given
    variance: Callable[[Any], Any]
    scale: float = 1.0
    bound: float | None = None

    def __call__(self, x: torch.Tensor, sigma: Any) -> torch.Tensor:
        found = pulled(self.denoiser, x, sigma, self.given)
        level = per_sample(sigma, x)
        gain = self.scale * level**2 / self.variance(level)
        return found.denoised + shift(found, gain, self.bound)


def dps(
    denoiser: Denoiser,
    levels: list[float],
    x: torch.Tensor,
    given: Given,
    rng: Streams,
    scale: float,
) -> torch.Tensor:
    """Diffusion posterior sampling from x at levels[0] to the last.

    Each ancestral step is followed by one of length scale along -grad |M (y - D(x))|^2, divided
    by |M (y - D(x))|. The paper's variance-preserving coordinate is x / sqrt(1 + sigma^2), so
    that in ours the gradient at sigma counts sqrt((1 + sigma^2) (1 + sigma_next^2)) times.
    """
    for sigma, after in itertools.pairwise(levels):
        denoised, missed, pull = pulled(denoiser, x, sigma, given)
        ahead = solver.sde(lambda _x, _s, d=denoised: d, solver.State(x, sigma), after, rng).x
        length = missed.flatten(1).norm(dim=1).clamp_min(1e-30)
        both = math.sqrt((1 + sigma**2) * (1 + after**2))
        x = ahead + (2 * scale * both) * pull / per_sample(length, x)
    return x
