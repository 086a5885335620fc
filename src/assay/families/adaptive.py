"""Dormand and Prince's pair of orders 5 and 4, each sample with steps of its own.

A sample is integrated as if alone: its step goes on where the error estimate, the rms over its
entries of error / (tolerance (1 + |x|)), is at most 1, and the next one is 0.9 err^(-1/5) times as
long, within 0.2 to 10. So what comes out does not depend on the batch around it. Samples that have
arrived are evaluated on until all have.

Source: Hairer, Norsett and Wanner, Solving ODEs I, II.4 and II.5; coefficients as scipy has them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.integrate import RK45

from assay.core import denoiser as denoisers

A = [row[:k].tolist() for k, row in enumerate(RK45.A)]
WEIGHTS, ERROR, NODES = RK45.B.tolist(), RK45.E.tolist(), RK45.C.tolist()

Slope = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def integrate(
    slope: Slope,
    x: torch.Tensor,
    span: tuple[float, float],
    tolerance: float,
    max_steps: int = 1000,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x at the span's end, evaluations (n,) that each sample needed) of dx/dt = slope(x, t).

    x: (n, *shape) at the span's start; slope: of x and t (n,). ValueError where max_steps,
    accepted and rejected, do not suffice, or the slope is not finite.
    """
    start, end = span
    t = torch.full((len(x),), start, dtype=torch.float64, device=x.device)
    step = torch.full_like(t, (end - start) / 20)
    first, spent = slope(x, t.to(x)), torch.ones_like(t)
    for _ in range(max_steps):
        left = end - t
        if (left == 0).all():
            return x, spent.long()
        step = torch.where(step.abs() < left.abs(), step, left)
        ahead, last, error = _try(slope, x, t, step, first)
        size = tolerance * (1 + torch.maximum(x.abs(), ahead.abs()))
        err = (error / size).flatten(1).double().square().mean(1).sqrt()
        if not err.isfinite().all():
            raise ValueError("the flow is not finite: the network's answers are not")
        moves = (err <= 1) & (left != 0)
        spent = torch.where(left != 0, spent + len(WEIGHTS), spent)
        t = torch.where(moves, torch.where(step == left, end, t + step), t)
        x, first = (
            torch.where(_like(moves, x), new, old) for new, old in ((ahead, x), (last, first))
        )
        step = step * (0.9 * err.clamp_min(1e-10) ** -0.2).clamp(0.2, 10)
    raise ValueError(f"{max_steps} steps do not reach tolerance {tolerance}: give a larger one")


def _try(slope: Slope, x, t, step, first) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x a step on, the slope there, the error estimated)."""
    slopes = [first]
    for row, node in zip(A[1:], NODES[1:], strict=True):
        slopes.append(slope(x + _like(step, x) * _sum(slopes, row), (t + node * step).to(x)))
    ahead = x + _like(step, x) * _sum(slopes, WEIGHTS)
    last = slope(ahead, (t + step).to(x))
    return ahead, last, _like(step, x) * _sum([*slopes, last], ERROR)


def _sum(slopes: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
    return sum((w * k for w, k in zip(weights, slopes, strict=True)), torch.zeros_like(slopes[0]))


def _like(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(n,) values shaped to multiply x; in its dtype unless they are bool."""
    return denoisers.per_sample(value if value.dtype == torch.bool else value.to(x), x)  # type: ignore
