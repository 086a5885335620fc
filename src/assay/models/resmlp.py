"""A residual MLP over the pixels of a small noisy image, told noise and label by adaLN.

    c = silu(mlp(waves(level)) + table[label]),    a, b, g, ... = W c
    h = embed(x);   h = h + g * down relu(up (norm(h) * (1 + b) + a))^2      for each block
    F = head(norm(h) * (1 + b') + a') + gain(c) * x

told as a diffusion transformer is (Peebles and Xie 2023, arXiv 2212.09748). The gains, one a
pixel, let a trunk that is narrower than the image take noise away in every direction. Nearly all
the work is in products of matrices, so that an evaluation costs a small part of a convolution's or
an attention's time on a CPU; an image moved by a pixel is another image to it.

``waves`` are sines and cosines of the level, octave by octave, fit for ln(sigma) / 4 as EDM gives
it. Gates start at a constant, the last layer at 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import ResMlpConfig
from assay.models.dit import linear

OCTAVES = 6  # of the waves that show the level


def waves(level: torch.Tensor) -> torch.Tensor:
    """(n, 2 OCTAVES + 1) smooth features of the level (n,)."""
    at = level.float()[:, None]
    angles = at * (math.pi / 4 * 2.0 ** torch.arange(OCTAVES, device=level.device))
    return torch.cat([at, angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """Two layers around relu^2, their input shifted and scaled, their output gated."""

    def __init__(self, config: ResMlpConfig, rng: torch.Generator):
        super().__init__()
        hidden = round(config.mlp * config.width)
        self.up, self.down = linear(config.width, hidden, rng), linear(hidden, config.width, rng)

    def forward(self, h: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """h (n, width); told (n, 3, width): shift, scale and gate."""
        shift, scale, gate = told.unbind(1)
        return h + gate * self.down(F.relu(self.up(_told(h, shift, scale))).square())


class ResMlp(nn.Module):
    """The network of a configuration, its first weights drawn from the seed."""

    def __init__(self, config: ResMlpConfig, seed: int = 0):
        super().__init__()
        self.config, d, told = config, config.width, config.told
        rng, n = torch.Generator().manual_seed(seed), config.channels * config.size**2
        self.embed, self.head = linear(n, d, rng), linear(d, n, rng, 0.0)
        self.level_in, self.level_out = linear(2 * OCTAVES + 1, told, rng), linear(told, told, rng)
        self.table = None
        if config.n_labels:
            self.table = nn.Parameter(torch.randn(config.n_labels + 1, told, generator=rng) * 0.5)
        self.blocks = nn.ModuleList([Block(config, rng) for _ in range(config.layers)])
        self.tell = linear(told, (3 * config.layers + 2) * d, rng, 0.0)
        with torch.no_grad():
            self.tell.bias[: -2 * d].view(-1, 3, d)[:, 2] = config.gate
        self.gain = linear(told, n, rng, 0.0)

    def forward(
        self,
        x: torch.Tensor,
        level: torch.Tensor,
        label: torch.Tensor | None = None,
        extra: torch.Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """(n, C, H, W) float32 of x (n, C, H, W) at level (n,), ln(sigma) / 4.

        label: (n,) integers 0..n_labels, 0 for none. extra and rng are not used: the network has
        no amortised conditioning and no dropout.
        """
        assert extra is None, "the network has no amortised conditioning"
        condition = self._condition(level, label)
        told = self.tell(condition).view(len(x), -1, self.config.width)
        h = self.embed(x.flatten(1))
        for i, block in enumerate(self.blocks):
            h = block(h, told[:, 3 * i : 3 * i + 3])
        out = self.head(_told(h, told[:, -2], told[:, -1])).float()
        return (out + self.gain(condition) * x.flatten(1)).view(x.shape)

    def _condition(self, level: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        """c of the module's text, (n, told)."""
        told = self.level_out(F.silu(self.level_in(waves(level))))
        if self.table is not None:
            told = told + self.table[0 if label is None else label]
        return F.silu(told)


def _told(h: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift
