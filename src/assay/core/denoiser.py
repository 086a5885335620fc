"""A denoiser is a function (x, sigma) -> E[x0 | x], and every other prediction is one of it.

One coordinate for everything: x = x0 + sigma * noise, noise ~ N(0, I), sigma > 0. Then

    score    = grad_x log p_sigma(x) = (denoised - x) / sigma^2    (Tweedie; Efron 2011, eq. 1.4)
    eps      = E[noise | x]          = (x - denoised) / sigma
    velocity = E[noise - x0 | x]     = eps - denoised

The velocity is the linear flow's, in the flow's own time t in (0, 1): x_t = (1 - t) x0 + t noise,
so that t = sigma / (1 + sigma), x_t = x / (1 + sigma) and dx_t/dt = velocity (Lipman et al. 2023,
arXiv 2210.02747, with t = 0 at the data). A network of x_t is called with x / (1 + sigma).

A denoiser that remembers (a guidance law with momentum) also has
``evaluate(x, sigma, memory) -> (denoised, memory)``; whoever solves with it carries the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from assay.core import special

Array = special.Array
Sigma = float | Array


@runtime_checkable
class Denoiser(Protocol):
    """Anything callable as (x, sigma) -> denoised.

    x: (batch, *shape); sigma: float or array broadcastable to (batch,), > 0;
    denoised: E[x0 | x] in the shape, backend and dtype of x.
    """

    def __call__(self, x: Array, sigma: Sigma, /) -> Array: ...


AnyDenoiser = Denoiser | Callable[[Array, Any], Array]


def evaluate(denoiser: AnyDenoiser, x: Array, sigma: Sigma, memory: Any) -> tuple[Array, Any]:
    """(denoised, memory): through the denoiser's own ``evaluate`` where it has one."""
    own = getattr(denoiser, "evaluate", None)
    if own is None:
        return denoiser(x, sigma), memory
    return own(x, sigma, memory)


def per_sample(sigma: Sigma, x: Array) -> Sigma:
    """sigma shaped (batch, 1, ..., 1) against x; a Python number stays one."""
    if isinstance(sigma, (int, float)) or sigma.ndim == 0:
        return sigma
    return sigma.reshape((-1,) + (1,) * (x.ndim - 1))


def to_score(denoised: Array, x: Array, sigma: Sigma) -> Array:
    """grad log p_sigma(x) = (denoised - x) / sigma^2."""
    return (denoised - x) / per_sample(sigma, x) ** 2


def from_score(score: Array, x: Array, sigma: Sigma) -> Array:
    """denoised = x + sigma^2 score (Tweedie)."""
    return x + per_sample(sigma, x) ** 2 * score


def to_eps(denoised: Array, x: Array, sigma: Sigma) -> Array:
    """E[noise | x] = (x - denoised) / sigma."""
    return (x - denoised) / per_sample(sigma, x)


def from_eps(eps: Array, x: Array, sigma: Sigma) -> Array:
    """denoised = x - sigma eps."""
    return x - per_sample(sigma, x) * eps


def to_velocity(denoised: Array, x: Array, sigma: Sigma) -> Array:
    """E[noise - x0 | x], the linear flow's dx_t/dt at x_t = x / (1 + sigma)."""
    return to_eps(denoised, x, sigma) - denoised


def from_velocity(velocity: Array, x: Array, sigma: Sigma) -> Array:
    """denoised = (x - sigma velocity) / (1 + sigma), with x = (1 + sigma) x_t."""
    sigma = per_sample(sigma, x)
    return (x - sigma * velocity) / (1 + sigma)


@dataclass(frozen=True)
class Clamped:
    """A denoiser that answers ``known`` where ``mask`` is true; see :func:`clamp`."""

    denoiser: AnyDenoiser
    known: Array
    mask: Array

    def __call__(self, x: Array, sigma: Sigma) -> Array:
        return self.evaluate(x, sigma, None)[0]

    def evaluate(self, x: Array, sigma: Sigma, memory: Any) -> tuple[Array, Any]:
        """(denoised, memory), the inner denoiser's memory handed through."""
        denoised, memory = evaluate(self.denoiser, x, sigma, memory)
        return special.namespace(x).where(self.mask, self.known, denoised), memory


def clamp(denoiser: AnyDenoiser, known: Array, mask: Array) -> Clamped:
    """The denoiser with x0 = known where mask is true.

    known, mask: broadcastable to x, (batch, *shape); mask boolean, true where x0 is known.
    On the known entries the probability flow then is the straight line x = known + sigma * noise
    exactly, so that a start sigma_max * noise (+ known) shows the inner denoiser known entries at
    the right noise. This is conditioning by replacement (Song et al. 2021, arXiv 2011.13456,
    section 5): the unknown entries see noised known values, not the exact conditional law.
    """
    kind = str(mask.dtype)
    if "bool" not in kind:
        raise ValueError(f"mask has dtype {kind}: give a boolean array, true where x0 is known")
    return Clamped(denoiser, known, mask)
