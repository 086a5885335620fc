"""Completion by continuous diffusion: the unknown part drawn given the known one, by any denoiser.

With x = x0 + sigma * noise, a denoiser D and falling sigmas, `complete` has six methods. Exact in
the limit of small steps are `amortised` (D is itself E[x0 | x, known]) and, as particles grow,
`tds` (`assay.families.twisted`). The others need only the unconditional D, and are biased:

    replacement  the known part is set to known + sigma * noise, drawn anew after every step (Song
                 et al. 2021, arXiv 2011.13456, appendix I.2): the unknown part is steered by D
                 alone, which sees the known part noised, never what it ends at
    repaint      replacement with the ancestral step, going back up to the noise of ``jump`` steps
                 ago and down again, ``resample`` times in all (Lugmayr et al. 2022, arXiv
                 2201.09865, algorithm 1 and appendix B): more passes, less bias
    dps, pgdm    guided by the gradient through D (`assay.families.reconstruction`)

Every method returns the known part bit for bit, takes a mask of its own for each sample and draws
from the samples' own streams. ``clip`` cuts what a step heads for to [-clip, clip]: it cannot
reach data beyond, so it is off unless asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from assay.core import solver, special
from assay.core.denoiser import clamp
from assay.families import reconstruction, twisted
from assay.families.config import CompletionConfig
from assay.families.streams import Streams

Denoiser = Callable[[torch.Tensor, Any], torch.Tensor]
Levels = list[float]

_STEPS = {s.name: s for s in (solver.euler, solver.heun, solver.dpmpp_2m, solver.sde)}
_OWN = {"amortised": "heun"}  # the others: sde


def complete(
    denoiser: Denoiser,
    sigmas: Sequence[float] | special.Array,
    context: torch.Tensor,
    mask: torch.Tensor,
    rng: Streams,
    config: CompletionConfig | None = None,
) -> torch.Tensor:
    """(n, *shape): context with the masked entries drawn given the others, which stay as they are.

    denoiser: (x, sigma) -> E[x0 | x], differentiable for dps, pgdm and tds, and for those called
    outside `torch.inference_mode`; for ``amortised`` it is conditional on the known part already.
    sigmas: n_steps + 1 falling noise levels, the last one 0. context: (n, *shape) floats. mask:
    bool, broadcastable to it, True where unknown. ValueError for other sigmas or masks.
    """
    config = config or CompletionConfig()
    levels = solver.check_sigmas(sigmas)
    if levels[-1] != 0:
        raise ValueError(f"sigmas end at {levels[-1]}: the last one must be 0, that of the data")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask.dtype}: give bool, True where unknown")
    try:
        unknown = mask.to(context.device).expand(context.shape)
    except RuntimeError:
        raise ValueError(
            f"mask {tuple(mask.shape)} does not broadcast to the context, {tuple(context.shape)}"
        ) from None
    known = context.masked_fill(unknown, 0)
    with torch.no_grad():
        x = _METHODS[config.kind](denoiser, levels, known, unknown, rng, config)
    return torch.where(unknown, x, known)


def evaluations(sigmas: Sequence[float] | special.Array, config: CompletionConfig) -> int:
    """Denoiser evaluations for an item. Those of dps, pgdm and tds are differentiated, each
    about three times the work of one that is not."""
    n = len(sigmas) - 1
    if config.kind == "tds":
        return n * config.particles
    if config.kind == "repaint":
        return sum(after < before for before, after in itertools.pairwise(visits(n, config)))
    return solver.nfe(_step(config), sigmas)


def clipped(denoiser: Denoiser, clip: float | None) -> Denoiser:
    """The denoiser with its values cut to [-clip, clip]; itself for None."""
    if clip is None:
        return denoiser
    return lambda x, sigma: denoiser(x, sigma).clamp(-clip, clip)


def visits(n_steps: int, config: CompletionConfig) -> Iterator[int]:
    """RePaint's path in steps that remain to sigma 0: n_steps, ..., 0, with its jumps back up.

    From 1, 1 + jump, 1 + 2 jump, ... the path jumps up by ``jump`` steps, where there are as many
    above, and does so ``resample`` - 1 times; sigma 0 is reached once.
    """
    left = dict.fromkeys(range(1, n_steps - config.jump + 1, config.jump), config.resample - 1)
    t = n_steps
    yield t
    while t:
        t -= 1
        yield t
        if left.get(t, 0):
            left[t] -= 1
            t += config.jump
            yield t


# ---- methods: (denoiser, levels, known, unknown, rng, config) -> x ------------------------------


def _amortised(denoiser, levels, known, unknown, rng, config) -> torch.Tensor:
    """The plain solver; known entries run along known + sigma * noise, which is exact for them."""
    told = clamp(clipped(denoiser, config.clip), known, ~unknown)
    start = _noised(known, levels[0], rng)
    return solver.last(solver.solve(told, start, levels, _step(config), rng)).x


def _replacement(denoiser, levels, known, unknown, rng, config) -> torch.Tensor:
    """A step, the known part along its own straight line within it, then known + fresh noise."""
    told = clamp(clipped(denoiser, config.clip), known, ~unknown)
    step = _step(config)
    state = solver.State(_noised(known, levels[0], rng), levels[0])
    for sigma in levels[1:]:
        state = step(told, state, sigma, rng)
        x = torch.where(unknown, state.x, _noised(known, sigma, rng))
        state = dataclasses.replace(state, x=x)
    return state.x


def _repaint(denoiser, levels, known, unknown, rng, config) -> torch.Tensor:
    """Ancestral steps down with fresh known parts; up by noise of the variance that is missing."""
    told, n = clipped(denoiser, config.clip), len(levels) - 1
    x = _noised(known, levels[0], rng)
    for before, after in itertools.pairwise(levels[n - t] for t in visits(n, config)):
        if after > before:
            x = _noised(x, math.sqrt(after**2 - before**2), rng)
            continue
        x = solver.sde(told, solver.State(x, before), after, rng).x
        x = torch.where(unknown, x, _noised(known, after, rng))
    return x


def _pgdm(denoiser, levels, known, unknown, rng, config) -> torch.Tensor:
    """A solver of its own choice on the guided denoiser."""
    given = reconstruction.Given(known, unknown, config.piece)
    variance = functools.partial(reconstruction.spread, tau=config.tau)
    guided = reconstruction.PseudoinverseGuided(
        denoiser, given, variance, config.scale, config.bound
    )
    start, told = _noised(known, levels[0], rng), clipped(guided, config.clip)
    return solver.last(solver.solve(told, start, levels, _step(config), rng)).x


def _dps(denoiser, levels, known, unknown, rng, config) -> torch.Tensor:
    told, x = clipped(denoiser, config.clip), _noised(known, levels[0], rng)
    given = reconstruction.Given(known, unknown, config.piece)
    return reconstruction.dps(told, levels, x, given, rng, config.scale)


_METHODS = {
    "amortised": _amortised,
    "replacement": _replacement,
    "repaint": _repaint,
    "dps": _dps,
    "pgdm": _pgdm,
    "tds": twisted.complete,
}


def _step(config: CompletionConfig) -> solver.Step:
    return _STEPS[config.solver or _OWN.get(config.kind, "sde")]


def _noised(x: torch.Tensor, sigma: float, rng: Streams) -> torch.Tensor:
    """x + sigma * noise; nothing is drawn at sigma 0."""
    return x if sigma == 0 else x + sigma * special.randn(rng, tuple(x.shape), like=x)
