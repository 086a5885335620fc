"""EDM: the network behind a preconditioning that keeps its input and its target at variance 1.

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)
    c_skip = d^2 / (sigma^2 + d^2),  c_out = sigma d / sqrt(sigma^2 + d^2),
    c_in = 1 / sqrt(sigma^2 + d^2),  c_noise = ln(sigma) / 4,    d = sigma_data,
    loss  = (sigma^2 + d^2) / (sigma d)^2 (D - x0)^2 = (F - (x0 - c_skip x) / c_out)^2,
    ln sigma ~ N(p_mean, p_std^2).

For data of standard deviation d, c_in x and the target (x0 - c_skip x) / c_out have variance 1 at
every sigma. Sampling: Heun's method over 18 steps of the rho = 7 grid from 80 to 0.002, and churn.

Source: Karras, Aittala, Aila and Laine, "Elucidating the design space of diffusion-based
generative models", 2022 (arXiv 2206.00364), table 1 and algorithms 1 and 2.
"""

from __future__ import annotations

from typing import Any

import torch

from assay.core import denoiser as denoisers
from assay.core import noise
from assay.families.config import EdmConfig
from assay.families.continuous import Continuous
from assay.families.streams import Streams


class Edm(Continuous):
    """The EDM family over an image network, which is shown c_in x and c_noise."""

    config: EdmConfig

    def __init__(self, network: Any, config: EdmConfig | None = None):
        super().__init__(network, config or EdmConfig())

    def _denoise(self, x, sigma, label=None, extra=None, rng=None) -> torch.Tensor:
        skip, out, scale = (
            denoisers.per_sample(c, x) for c in preconditioning(sigma, self.config.sigma_data)
        )
        return skip * x + out * self.network(scale * x, sigma.log() / 4, label, extra, rng)

    def _weight(self, sigma: torch.Tensor) -> torch.Tensor:
        return preconditioning(sigma, self.config.sigma_data)[1] ** -2

    def _levels(self, n: int, rng: Streams) -> torch.Tensor:
        return noise.lognormal(rng, n, self.config.p_mean, self.config.p_std)


def preconditioning(sigma, sigma_data: float):
    """(c_skip, c_out, c_in) at sigma > 0, a tensor or array."""
    variance = sigma**2 + sigma_data**2
    return sigma_data**2 / variance, sigma * sigma_data / variance**0.5, variance**-0.5
