"""SiT: the linear flow, its velocity predicted.

    x_t = (1 - t) x0 + t noise = x / (1 + sigma),   sigma = t / (1 - t),   t from 0 (data) to 1,
    v(x_t, t) ~ E[noise - x0 | x_t],   D = x_t - t v,   loss = (v - (noise - x0))^2,

the square of D - x0 over t. The network is shown x_t and 1,000 t and answers v or, with ``skip``,
sqrt(c) (v - (2 t - 1) x_t / c), c = t^2 + (1 - t)^2: what the best linear guess leaves, which for
data of variance 1 has variance 1 at every t (as EDM's preconditioning does in its coordinate).

Sampling solves dx_t/dt = v from t = 1 to 0: Euler's method, which is that in sigma too, Heun's in
t, or an adaptive pair (`assay.families.adaptive`); the reverse SDE (sde) is the house's. All
start at t = 1 - 1e-6.

Source: Ma et al., "SiT: exploring flow and diffusion-based generative models with scalable
interpolant transformers", 2024 (arXiv 2401.08740), with their t; logit-normal t: Esser et al. 2024
(arXiv 2403.03206), section 3.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from assay.core import denoiser as denoisers
from assay.core import noise, solver
from assay.families import adaptive
from assay.families.config import FlowConfig
from assay.families.continuous import Continuous, clipped
from assay.families.streams import Streams

CLOCK = 1000.0  # what the network is shown t in
FIRST, LAST = 1 - 1e-6, 1e-3  # where solvers start; where the adaptive one takes D for x0
_PROBES = 16  # samples of which the adaptive solver's evaluations are the mean


class Flow(Continuous):
    """The linear flow's family over an image network, which is shown x_t and 1,000 t."""

    config: FlowConfig

    def __init__(self, network: Any, config: FlowConfig | None = None):
        super().__init__(network, config or FlowConfig())

    def _denoise(self, x, sigma, label=None, extra=None, rng=None) -> torch.Tensor:
        shown = x / (1 + denoisers.per_sample(sigma, x))
        t = noise.flow_from_sigma(sigma)
        velocity = self.network(shown, CLOCK * t, label, extra, rng)
        t = denoisers.per_sample(t, x)
        if self.config.skip:
            variance = t**2 + (1 - t) ** 2
            velocity = (2 * t - 1) / variance * shown + velocity / variance**0.5
        return shown - t * velocity

    def _weight(self, sigma: torch.Tensor) -> torch.Tensor:
        return ((1 + sigma) / sigma) ** 2

    def _levels(self, n: int, rng: Streams) -> torch.Tensor:
        if self.config.time == "logit-normal":
            return noise.logit_normal(rng, n, self.config.time_mean, self.config.time_std)
        return noise.sigma_from_flow(rng.rand(n).clamp(1e-4, FIRST))

    def sigmas(self, n_steps: int | None = None) -> np.ndarray:
        """The sampler's grid; "flow" is uniform in t from 1 to 0."""
        if self.config.sampler.grid != "flow":
            return super().sigmas(n_steps)
        t = np.linspace(1, 0, (n_steps or self.config.sampler.n_steps) + 1)
        return noise.sigma_from_flow(np.minimum(t, FIRST))

    def _step(self, n_steps: int, kind: str | None = None) -> solver.Step:
        chosen = kind or self.config.sampler.kind
        return heun if chosen == "heun" else super()._step(n_steps, kind)

    def _sampled(self, n: int, rng: Streams) -> torch.Tensor:
        if self.config.tolerance is None:
            return super()._sampled(n, rng)
        return self._adaptive(n, rng)[0]

    def _adaptive(self, n: int, rng: Streams) -> tuple[torch.Tensor, torch.Tensor]:
        """(samples, evaluations (n,)) by steps of each sample's own."""
        assert self.config.tolerance is not None
        denoise = clipped(self.denoiser(), self.config.sampler.clip)

        def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            t = t.clamp_max(FIRST)
            at = denoisers.per_sample(t, x)
            return (x - denoise(x / (1 - at), noise.sigma_from_flow(t))) / at

        start = rng.randn(n, *self.shape).to(self.device, torch.float32)
        x, spent = adaptive.integrate(velocity, start, (FIRST, LAST), self.config.tolerance)
        return denoise(x / (1 - LAST), noise.sigma_from_flow(LAST)), spent + 1

    def evaluations(self, n_unknown: int | None = None) -> int:
        """As `Continuous` says; of adaptive samples the mean of 16, which are drawn for it."""
        if n_unknown is not None or self.config.tolerance is None:
            return super().evaluations(n_unknown)
        with torch.no_grad():
            spent = self._adaptive(_PROBES, self.streams(0))[1]
        both = 1 if self.bound is None or self.bound[1] in (0, -1) else 2
        return both * round(spent.double().mean().item())


def _heun(denoiser: Any, state: solver.State, sigma_next: float, rng: Any) -> solver.State:
    ahead = solver.euler.advance(denoiser, state, sigma_next, rng)
    if sigma_next == 0:
        return ahead
    t, t_next = noise.flow_from_sigma(state.sigma), noise.flow_from_sigma(sigma_next)
    x, tried = state.x / (1 + state.sigma), ahead.x / (1 + sigma_next)
    second, _ = denoisers.evaluate(denoiser, ahead.x, sigma_next, ahead.memory.law)
    slope = (x - ahead.denoised) / t + (tried - second) / t_next
    x = (x + (t_next - t) / 2 * slope) * (1 + sigma_next)
    return solver.State(x, sigma_next, ahead.denoised, ahead.memory)


heun = solver.Step("heun of the linear flow", _heun, order=2, evaluations=2)
