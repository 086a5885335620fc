"""DDPM: noise predicted on the way of linear betas, the steps' variance learned or not.

    x_t = sqrt(a_t) x = sqrt(a_t) (x0 + sigma_t noise),   a_t = prod_{k <= t} (1 - beta_k),
    sigma_t^2 = (1 - a_t) / a_t,   D(x, sigma_t) = x - sigma_t eps(x_t, t),   t = 0 ... 999,
    loss = (eps - noise)^2,   t uniform.

Instead of eps the network can answer v = sqrt(a_t) noise - sqrt(1 - a_t) x0, with its squared
error for the loss (Salimans and Ho 2022, arXiv 2202.00512, section 4): at large sigma the
error of eps tells nothing of x0, that of v is one of x0.

Between training steps t is interpolated in ln sigma, so that any grid of sigmas can be sampled on.
Euler's step is DDIM with eta = 0 (Song, Meng and Ermon 2021, arXiv 2010.02502, eq. 12). The
ancestral step from s to r < s is, in the coordinate of x,

    x_r = D + (r / s)^2 (x - D) + sqrt(v) noise,
    v = r^2 (1 - r^2 / s^2), the posterior's (small), or (s^2 - r^2) (1 + r^2) / (1 + s^2), that of
    beta (large) (Ho, Jain and Abbeel 2020, arXiv 2006.11239, section 3.2).

Learned: ln v lies a learned share of the way between the two (Nichol and Dhariwal 2021, arXiv
2102.09672, eq. 15), and the loss gains vlb * n_train * KL(posterior || step) in nats, in which D
is held fixed (eq. 16). The bound's last term, to sigma = 0, takes x0 blurred by the smallest
posterior variance for its target, which keeps it finite for any data. When sampling, the step to
sigma = 0 adds no noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from assay.core import denoiser as denoisers
from assay.core import guidance, solver, special
from assay.families.config import DdpmConfig
from assay.families.continuous import Continuous, Denoiser, hidden
from assay.families.streams import Streams


class Ddpm(Continuous):
    """The DDPM family over an image network, which is shown x_t and t."""

    config: DdpmConfig
    log_sigma: torch.Tensor
    steps: torch.Tensor

    def __init__(self, network: Any, config: DdpmConfig | None = None):
        super().__init__(network, config or DdpmConfig())
        sigmas = training_sigmas(self.config)
        self.learned: bool = getattr(network.config, "learned_sigma", False)
        for name, table in (("log_sigma", np.log(sigmas)), ("steps", divergence_table(sigmas))):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def _check(self) -> None:
        super()._check()
        learned = getattr(self.network.config, "learned_sigma", False)
        if self.config.variance == "learned" and not learned:
            raise ValueError(
                "variance 'learned' needs a network with learned_sigma=True; set it, or choose "
                "small or large"
            )

    def _clock(self, sigma: torch.Tensor) -> torch.Tensor:
        """float64 t in [0, n_train - 1] of sigma (n,), between training steps by ln sigma."""
        at, table = sigma.double().log(), self.log_sigma
        above = torch.searchsorted(table, at).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return above - 1 + ((at - low) / (high - low)).clamp(0, 1)

    def _answer(self, x, sigma, label=None, extra=None, rng=None) -> torch.Tensor:
        """The network's eps or v (n, C, H, W), and C channels more where it learns sigma."""
        scale = denoisers.per_sample((1 + sigma**2) ** -0.5, x)
        return self.network(scale * x, self._clock(sigma).to(x), label, extra, rng)

    def _denoise(self, x, sigma, label=None, extra=None, rng=None) -> torch.Tensor:
        answer = self._answer(x, sigma, label, extra, rng)[:, : self.shape[0]]
        return self._denoised(answer, x, sigma)

    def _denoised(self, answer, x, sigma) -> torch.Tensor:
        """D of the network's eps or v."""
        if self.config.prediction == "eps":
            return denoisers.from_eps(answer, x, sigma)
        variance = 1 + denoisers.per_sample(sigma, x) ** 2
        return x / variance - ((variance - 1) / variance) ** 0.5 * answer

    def _weight(self, sigma: torch.Tensor) -> torch.Tensor:
        return sigma**-2 if self.config.prediction == "eps" else 1 + sigma**-2

    def _levels(self, n: int, rng: Streams) -> torch.Tensor:
        return self.log_sigma.cpu()[(rng.rand(n) * self.config.n_train).long()].exp()

    def _errors(self, x0, sigma, eps, label, extra, rng) -> torch.Tensor:
        if not self.learned:
            return super()._errors(x0, sigma, eps, label, extra, rng)
        x = hidden(x0 + denoisers.per_sample(sigma, x0) * eps, extra)
        answer, said = self._answer(x, sigma, label, extra, rng).chunk(2, 1)
        error = (self._denoised(answer, x, sigma) - x0).square()
        t = self._clock(sigma).round().long()
        of_eps = error.detach() / denoisers.per_sample(sigma, x0) ** 2
        bound = divergence(self.steps[:, t].to(error), of_eps, said)
        weight = denoisers.per_sample(self._weight(sigma), x0)
        return weight * error + self.config.vlb * self.config.n_train * bound

    def sigmas(self, n_steps: int | None = None) -> np.ndarray:
        """The sampler's grid; "ddpm" is made of training steps by the configured spacing."""
        if self.config.sampler.grid != "ddpm":
            return super().sigmas(n_steps)
        n = n_steps or self.config.sampler.n_steps
        steps = spaced(n, self.config.n_train, self.config.spacing)
        return np.append(training_sigmas(self.config)[steps], 0.0)

    def _step(self, n_steps: int, kind: str | None = None) -> solver.Step:
        chosen = kind or self.config.sampler.kind
        if chosen == "sde" and self.config.variance == "large":
            return ancestral("large")
        return super()._step(n_steps, kind)

    def _sampled(self, n: int, rng: Streams) -> torch.Tensor:
        sampler = self.config.sampler
        if sampler.kind != "sde" or self.config.variance != "learned":
            return super()._sampled(n, rng)
        sigmas = self.sigmas()
        start = rng.randn(n, *self.shape).to(self.device, torch.float32) * float(sigmas[0])
        step = ancestral("learned", sampler.clip)
        return solver.last(solver.solve(self._spread(), start, sigmas, step, rng)).x

    def _spread(self) -> Denoiser:
        """(x, sigma) -> (n, 2 C, H, W): denoised, and what is said of the variance.

        Guided where `guided` has bound a label and w; the variance then is the condition's.
        """
        label, w = self.bound or (None, 0.0)

        def told(label: int | None) -> Denoiser:
            def answer(x: torch.Tensor, sigma: Any) -> torch.Tensor:
                level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
                nothing = x.new_zeros(len(x), self.shape[0] + 1, *self.shape[1:])
                extra = nothing if self.amortised else None
                answer = self._answer(x, level, self._labels(label, len(x)), extra)
                answer, said = answer.chunk(2, 1)
                return torch.cat([self._denoised(answer, x, level), said], 1)

            return answer

        def law(x, sigma, cond, uncond, memory):
            c = self.shape[0]
            pushed = cond[:, :c] + w * (cond[:, :c] - uncond[:, :c])
            return torch.cat([pushed, cond[:, c:]], 1), memory

        return told(label) if w == 0 else guidance.Guided(told(label), told(None), law)


def training_sigmas(config: DdpmConfig) -> np.ndarray:
    """float64 (n_train,), rising: sigma_t of the linear betas."""
    betas = np.linspace(config.beta_start, config.beta_end, config.n_train)
    return np.sqrt(np.expm1(-np.cumsum(np.log1p(-betas))))


def spaced(n: int, n_train: int, spacing: str) -> np.ndarray:
    """n falling training steps out of 0..n_train-1, as diffusers' schedulers take them.

    trailing: evenly from the last one; leading: multiples of n_train // n, from 0; linspace: from
    the last one to 0 (Lin et al. 2024, arXiv 2305.08891, table 2). ValueError for more than there
    are.
    """
    if not 1 <= n <= n_train:
        raise ValueError(f"n_steps is {n}: give 1 to {n_train}, the steps trained on")
    if spacing == "trailing":
        return np.round(n_train - np.arange(n) * (n_train / n)).astype(np.int64) - 1
    if spacing == "leading":
        return np.arange(n)[::-1] * (n_train // n)
    return np.linspace(0, n_train - 1, n).round()[::-1].astype(np.int64)


def variances(s: Any, r: Any) -> tuple[Any, Any]:
    """(small, large) variances of an ancestral step from s to r < s, in the coordinate of x."""
    gap = s**2 - r**2
    return r**2 * gap / s**2, gap * (1 + r**2) / (1 + s**2)


def divergence_table(sigmas: np.ndarray) -> np.ndarray:
    """float64 (2, n_train): ln(large / small) of the step down from each sigma, and what eps's
    squared error is multiplied by to be that of the step's mean in units of small."""
    s, r = sigmas, np.append(0.0, sigmas[:-1])
    small, large = variances(s, r)
    small[0] = small[1] / (1 + sigmas[0] ** 2)  # the blur of x0, see above
    shift = (1 - r**2 / s**2) * s
    return np.stack([np.log(large / small), shift**2 / small])


def divergence(table: torch.Tensor, error: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """KL(posterior || learned step) in nats, entry by entry.

    table (2, n) from `divergence_table`; error: eps's squared, said: -1 for the small variance
    and 1 for the large one, both (n, C, H, W).
    """
    span, weight = (denoisers.per_sample(column, error) for column in table)
    above = (said + 1) / 2 * span  # ln of the step's variance over the posterior's
    return (above + (1 + weight * error) * torch.exp(-above) - 1) / 2


def ancestral(variance: str, clip: float | None = None) -> solver.Step:
    """DDPM's step with the variance small, large or learned.

    With learned the denoiser gives (n, 2 C, H, W): denoised, which is cut to [-clip, clip], and
    what is said of the variance, as by `divergence`.
    """

    def advance(denoiser: Any, state: solver.State, r: float, rng: Any) -> solver.State:
        s, x = state.sigma, state.x
        denoised, law = denoisers.evaluate(denoiser, x, s, state.memory.law)
        share = {"small": 0.0, "large": 1.0}.get(variance)
        if share is None:
            denoised, said = denoised.chunk(2, 1)
            share = (said + 1) / 2
            denoised = denoised if clip is None else denoised.clamp(-clip, clip)
        ahead = denoised + (r / s) ** 2 * (x - denoised)
        if r > 0:
            small, large = variances(s, r)
            spread = small**0.5 * (large / small) ** (share / 2)
            ahead = ahead + spread * special.randn(rng, tuple(x.shape), like=x)
        return solver.State(ahead, r, denoised, solver.Memory(law))

    return solver.Step(f"ancestral({variance})", advance, order=1, stochastic=True)
