"""Continuous diffusion of images: one denoiser behind every family, sampler and completion.

In the coordinate x = x0 + sigma * noise a family is a denoiser D(x, sigma) ~ E[x0 | x], and its
loss is a weighted squared error,

    loss = mean over unknown entries of lambda(sigma) (D(x, sigma) - x0)^2,   sigma ~ p(sigma),

which covers predictions of x0, noise and velocity alike: lambda is 1, 1 / sigma^2 and
((1 + sigma) / sigma)^2 (`assay.core.denoiser`). A subclass says what lambda, p(sigma) and D are.

Amortised conditioning: a network with ``config.amortised`` reads beside x what is known, in C + 1
further channels: the known values (0 elsewhere) and a last channel that is 1 where known. x itself
is shown as 0 there, and D answers the known values. In training a share of the samples has a
random set of known panels; all channels 0 is the unconditional model, so that one network does
both. A panel is a third by a third of the image, rows downwards, panels to the right.

A network is any module called as network(x (n, C, H, W), level (n,), label (n,) or None, extra
(n, C + 1, H, W) or None, rng) -> (n, C, H, W), rng a generator for dropout or None, with
``config.channels``, ``config.size`` (H = W), ``config.n_labels`` and ``config.amortised``.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from assay.core import denoiser as denoisers
from assay.core import guidance, noise, solver
from assay.families import base, inpaint
from assay.families.config import CompletionConfig, ContinuousConfig, SamplerConfig
from assay.families.streams import Streams

N_PANELS = 9
N_UNIFORMS = 4 + N_PANELS
Denoiser = Callable[[torch.Tensor, Any], torch.Tensor]
clipped = inpaint.clipped

_STEPS = {
    "heun": solver.heun,
    "euler": solver.euler,
    "dpmpp_2m": solver.dpmpp_2m,
    "sde": solver.sde,
}


class Continuous(base.Family):
    """The family of a denoiser over images; codes are float (n, C, H, W)."""

    def __init__(self, network: Any, config: ContinuousConfig):
        super().__init__()
        self.network, self.config = network, config
        net = network.config
        self.shape = (net.channels, net.size, net.size)
        self.amortised: bool = getattr(net, "amortised", False)
        self._check()

    def _check(self) -> None:
        if self.config.completion.kind == "amortised" and not self.amortised:
            raise ValueError(
                "completion kind 'amortised' needs a network with amortised=True; set it, or "
                "choose another kind"
            )

    # ---- what a subclass says ----------------------------------------------------------------

    @abc.abstractmethod
    def _denoise(self, x, sigma, label=None, extra=None, rng=None) -> torch.Tensor:
        """E[x0 | x] of x (n, C, H, W) at sigma (n,), both float32; label (n,) or None."""

    @abc.abstractmethod
    def _weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """lambda(sigma), (n,)."""

    @abc.abstractmethod
    def _levels(self, n: int, rng: Streams) -> torch.Tensor:
        """n training sigmas, each from its sample's own stream."""

    # ---- learning ----------------------------------------------------------------------------

    def loss(self, batch: base.Batch, rng: Streams) -> torch.Tensor:
        """(n,) weighted squared errors, means over the entries that are not shown as known."""
        x0 = batch["x"].to(self.device).float()
        n = len(x0)
        label = self._label(batch, rng)
        unknown = self._unknown(n, rng)
        sigma = self._levels(n, rng).to(x0)
        eps = rng.randn(*x0.shape).to(x0)
        dropout = rng.generator(self.device) if self.training else None
        if unknown is None:
            return self._errors(x0, sigma, eps, label, None, dropout).flatten(1).mean(1)
        extra = given(x0, unknown)
        errors = self._errors(x0, sigma, eps, label, extra, dropout)
        return (errors * unknown).flatten(1).sum(1) / unknown.expand_as(x0).flatten(1).sum(1)

    def _errors(self, x0, sigma, eps, label, extra, rng) -> torch.Tensor:
        """(n, C, H, W): each entry's loss at x0 + sigma eps; those of known entries count not."""
        level = denoisers.per_sample(sigma, x0)
        x = hidden(x0 + level * eps, extra)
        off = self._denoise(x, sigma, label, extra, rng) - x0
        return denoisers.per_sample(self._weight(sigma), x0) * off.square()

    def _unknown(self, n: int, rng: Streams) -> torch.Tensor | None:
        """bool (n, 1, H, W), True where unknown in training; None for a network not told."""
        if not self.amortised:
            return None
        panels = draw_unknown(self.config.known, rng.rand(n, N_UNIFORMS))
        return panel_image(panels, self.shape[-1]).to(self.device)

    # ---- the denoiser ------------------------------------------------------------------------

    def denoiser(
        self,
        label: int | torch.Tensor | None = None,
        known: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> Denoiser:
        """(x, sigma) -> denoised with conditions bound; sigma a float or (n,).

        label: 1..n_labels, an int or (n,), None for none. known (n, C, H, W), mask bool (n, 1 or
        C, H, W), True where unknown, for a network with amortised conditioning only (ValueError
        otherwise): what lies under the mask is never read, and known entries are answered as they
        are. Without a label of its own it is guided where `guided` has bound a label and w.
        """
        if label is None and self.bound is not None:
            cond = self.denoiser(self.bound[0], known, mask)
            return guidance.Guided(cond, self._told(None, known, mask), self.bound[1])
        return self._told(label, known, mask)

    def _told(self, label, known, mask) -> Denoiser:
        """The network's own denoiser under a label (None for none) and known entries."""
        if mask is not None and not self.amortised:
            raise ValueError(
                "known and mask need a network with amortised=True; this one has no such input"
            )

        extra = unknown = None
        if self.amortised and mask is not None:
            assert known is not None, "a mask needs the known values"
            unknown = mask.to(self.device)
            known = known.to(self.device).float().masked_fill(unknown, 0)
            extra = given(known, unknown.any(1, keepdim=True))

        def denoise(x: torch.Tensor, sigma: Any) -> torch.Tensor:
            n = len(x)
            level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(n)
            told, seen = self._labels(label, n), extra
            if self.amortised and seen is None:
                seen = x.new_zeros(n, self.shape[0] + 1, *self.shape[1:])
            denoised = self._denoise(hidden(x, seen), level, told, seen)
            return denoised if unknown is None else torch.where(unknown, denoised, known)

        return denoise

    def _labels(self, label: int | torch.Tensor | None, n: int) -> torch.Tensor | None:
        """Labels (n,) for a network that has any, 0 for none."""
        if not self.n_labels:
            assert label is None, "the network has no labels"
            return None
        if isinstance(label, torch.Tensor):
            return label.to(self.device)
        return torch.full((n,), label or 0, device=self.device)

    # ---- drawing -----------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, rng: Streams, temperature: float = 1.0) -> torch.Tensor:
        """(n, C, H, W) draws by the configured sampler; ValueError for another temperature than 1.

        A diffusion model has no law at other temperatures that its denoiser would give.
        """
        if temperature != 1:
            raise ValueError(
                f"temperature is {temperature!r}: a diffusion model samples at temperature 1 only"
            )
        return self._sampled(n, rng)

    def _sampled(self, n: int, rng: Streams) -> torch.Tensor:
        denoiser = clipped(self.denoiser(), self.config.sampler.clip)
        return self._solve(denoiser, n, rng, self.sigmas())

    def complete(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        rng: Streams,
        temperature: float = 0.0,
    ) -> torch.Tensor:
        """(n, C, H, W): draws of the unknown entries by the configured completion.

        mask: bool (n, 1 or C, H, W), True where unknown. The temperature is 0 or 1, which here
        mean the same draw: a diffusion model has no mode to take. ValueError where known entries
        are not finite, and as `base.Family` says. Known entries come back bit for bit.
        """
        base.check_context(context, mask, self.shape)
        if temperature not in (0, 1):
            raise ValueError(
                f"temperature is {temperature!r}: a diffusion model completes at 0 or 1, which "
                "are the same draw"
            )
        unknown = mask.to(self.device).expand(-1, *self.shape)
        known = context.to(self.device).float().masked_fill(unknown, 0)
        if not known.isfinite().all():
            raise ValueError("context holds known entries that are not finite; mask or mend them")
        drawn = self._completed(known, unknown, rng)
        return torch.where(unknown, drawn, known)

    def _completed(self, known, unknown, rng) -> torch.Tensor:
        config = self.config.completion
        sigmas = self.sigmas(config.n_steps)
        if config.kind != "amortised":
            return inpaint.complete(self.denoiser(), sigmas, known, unknown, rng, config)
        told = self.denoiser(known=known, mask=unknown)
        with torch.no_grad():
            return self._solve(clipped(told, config.clip), len(known), rng, sigmas, config.solver)

    def _solve(self, denoiser, n: int, rng: Streams, sigmas, kind=None) -> torch.Tensor:
        """From noise at the first sigma to the last; every draw from the samples' streams."""
        start = rng.randn(n, *self.shape).to(self.device, torch.float32) * float(sigmas[0])
        step = self._step(len(sigmas) - 1, kind)
        return solver.last(solver.solve(denoiser, start, sigmas, step, rng)).x

    def _step(self, n_steps: int, kind: str | None = None) -> solver.Step:
        return solver_step(self.config.sampler, n_steps, kind)

    def sigmas(self, n_steps: int | None = None) -> np.ndarray:
        """The sampler's falling grid of sigmas, the last one 0; n_steps None: its own number."""
        return grid(self.config.sampler, n_steps)

    def evaluations(self, n_unknown: int | None = None) -> int:
        """Network evaluations for a sample, or for a completion of so many unknown panels."""
        both = 1 if self.bound is None or self.bound[1] in (0, -1) else 2
        config = self.config.completion
        if n_unknown == 0:
            return 0
        if n_unknown is None or config.kind == "amortised":
            kind, n = (None, None) if n_unknown is None else (config.solver, config.n_steps)
            sigmas = self.sigmas(n)
            step = self._step(len(sigmas) - 1, kind)
            return both * solver.nfe(step, sigmas)
        return both * inpaint.evaluations(self.sigmas(config.n_steps), config)

    def using(
        self, sampler: SamplerConfig | None = None, completion: CompletionConfig | None = None
    ) -> Continuous:
        """The same parameters with another sampler or way of completing; None keeps its own."""
        new = {"sampler": sampler, "completion": completion}
        other = copy.copy(self)
        other.config = self.config.model_copy(update={k: v for k, v in new.items() if v})
        other._check()
        return other


def grid(config: SamplerConfig, n_steps: int | None = None) -> np.ndarray:
    """n_steps + 1 falling sigmas of a sampler's configuration, the last one 0."""
    n = n_steps or config.n_steps
    if config.grid == "karras":
        return noise.karras(n, config.sigma_min, config.sigma_max, config.rho)
    if config.grid == "ddpm":
        return noise.ddpm(n)
    return getattr(noise, config.grid)(n, config.sigma_min, config.sigma_max)


def solver_step(config: SamplerConfig, n_steps: int, kind: str | None = None) -> solver.Step:
    """The step of a sampler's configuration, churn around it where above 0; or a plain kind."""
    step = _STEPS[kind or config.kind]
    if config.churn == 0 or kind is not None:
        return step
    low, high = config.churn_range
    return solver.churn(n_steps, config.churn, step, low, high, config.churn_noise)


def given(x0: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
    """(n, C + 1, H, W): known values, 0 where unknown (n, 1, H, W), and 1 where known."""
    return torch.cat([x0.masked_fill(unknown, 0), (~unknown).to(x0)], 1)


def draw_unknown(share: float, uniform: torch.Tensor) -> torch.Tensor:
    """bool (n, 9) panels unknown in training, from uniform numbers (n, N_UNIFORMS).

    All of them but for a share of the samples; of that share one half has a single unknown panel,
    uniform, the other a uniform number 1..8 of them, uniform among the subsets of that number.
    """
    one = (uniform[:, 2, None] * N_PANELS).long() == torch.arange(N_PANELS)
    number = 1 + (uniform[:, 3, None] * (N_PANELS - 1)).long()
    some = uniform[:, 4:].argsort(1).argsort(1) < number
    return torch.where(uniform[:, 1, None] < 0.5, one, some) | (uniform[:, :1] >= share)


def panel_image(panels: torch.Tensor, size: int) -> torch.Tensor:
    """(n, 9) panels -> (n, 1, size, size): each a third by a third of the image, row-major."""
    side = size // 3
    square = panels.view(-1, 1, 3, 3)
    return square.repeat_interleave(side, 2).repeat_interleave(side, 3)


def hidden(x: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
    """x with 0 where the last channel of extra says that x0 is known."""
    return x if extra is None else x.masked_fill(extra[:, -1:] > 0, 0)
