"""DiT: a transformer over patches of a noisy image, told the noise level by adaLN-Zero.

    c     = mlp(sincos(level)) + table[label]
    a, b, g, a', b', g' = W silu(c)                    for each block
    x     = x + g  * attention(norm(x) * (1 + b) + a)
    x     = x + g' * mlp(norm(x) * (1 + b') + a')

with norms that have no gains of their own, and a last norm told in the same way (Peebles and Xie
2023, arXiv 2212.09748, section 3.2 and figure 3). W starts at 0, so that every block starts as the
identity, and so does the last layer: the network starts as 0. Gates may start at another constant,
for short trainings. Positions are sines and cosines of a patch's column and row; the frequencies
of the level are those of Ho et al. 2020.

With ``pairs`` every head also learns a bias for each pair of patches: a short training finds rows
and columns sooner than through positions and products. What is known is shown in the noisy
values' own places and channels, with one channel more that says where: so what is learned of one
serves the other.

The modulations of all blocks are one product with silu(c). SiT (Ma et al. 2024, arXiv 2401.08740)
is the same network with another target.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import DiTConfig

FREQUENCIES = 256  # numbers that a level is shown as


def sincos(at: torch.Tensor, dim: int, shift: int = 0) -> torch.Tensor:
    """(n, dim) sines of dim // 2 frequencies 1 ... 1/10,000 times at (n,), then cosines.

    shift: 1 has the last frequency at 1/10,000 itself (Ho et al. 2020), 0 one short of it
    (Vaswani et al. 2017).
    """
    half = dim // 2
    rates = torch.arange(half, dtype=at.dtype, device=at.device) / (half - shift)
    angles = at[:, None] * torch.exp(-math.log(10_000) * rates)
    return torch.cat([angles.sin(), angles.cos()], -1)


def grid_positions(side: int, width: int) -> torch.Tensor:
    """(side * side, width) of a grid in raster order: half for the column, half for the row."""
    at = torch.arange(side, dtype=torch.float64)
    one = sincos(at, width // 2)
    column, row = one.repeat(side, 1), one.repeat_interleave(side, 0)
    return torch.cat([column, row], 1).float()


def linear(n_in: int, n_out: int, rng: torch.Generator, std: float | None = None) -> nn.Linear:
    """A layer of zero bias and normal weights; without std, uniform ones (Glorot and Bengio)."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")  # draws nothing
    nn.init.zeros_(layer.bias)
    if std is None:
        nn.init.xavier_uniform_(layer.weight, generator=rng)
    else:
        nn.init.normal_(layer.weight, std=std, generator=rng)
    return layer


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of (n, heads, t, d), all seen; bias (heads, t, t).

    Fused, but where gradients of bfloat16 are wanted on a CPU, where two products are four times
    faster on 81 tokens, and where there is a bias to learn.
    """
    slow = q.device.type == "cpu" and q.dtype == torch.bfloat16
    if (slow and q.requires_grad) or bias is not None:
        logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()
        weights = torch.softmax(logits if bias is None else logits + bias, -1)
        return weights.to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


def modulated(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """norm(x) * (1 + scale) + shift, of x (n, t, width) and (n, 1, width)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Block(nn.Module):
    """Attention and an MLP, each shifted, scaled and gated by what it is told."""

    def __init__(self, config: DiTConfig, rng: torch.Generator):
        super().__init__()
        d, hidden = config.width, round(config.mlp * config.width)
        self.heads = config.heads
        self.qkv, self.mix = linear(d, 3 * d, rng), linear(d, d, rng)
        self.up, self.down = linear(d, hidden, rng), linear(hidden, d, rng)
        self.pairs, t = None, (config.size // config.patch) ** 2
        if config.pairs:
            self.pairs = nn.Parameter(torch.zeros(config.heads, t, t))

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """x (n, t, width); told (n, 6, 1, width): shift, scale and gate of either branch."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = told.unbind(1)
        x = x + gate * self.mix(self._mixed(modulated(x, shift, scale)))
        hidden = F.gelu(self.up(modulated(x, shift_mlp, scale_mlp)), approximate="tanh")
        return x + gate_mlp * self.down(hidden)

    def _mixed(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        qkv = self.qkv(x).view(n, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind()  # one copy, here and backwards
        bias = None if self.pairs is None else self.pairs * d**0.5  # at the pace of the logits
        return attend(q, k, v, bias).transpose(1, 2).reshape(n, t, d)


class DiT(nn.Module):
    """The network of a configuration, its first weights drawn from the seed."""

    def __init__(self, config: DiTConfig, seed: int = 0):
        super().__init__()
        self.config, d = config, config.width
        rng = torch.Generator().manual_seed(seed)
        n_in = config.channels + config.amortised
        n_out = config.channels * (2 if config.learned_sigma else 1)
        self.side = config.size // config.patch
        self.embed = linear(n_in * config.patch**2, d, rng)
        self.level_in = linear(FREQUENCIES, d, rng, 0.02)
        self.level_out = linear(d, d, rng, 0.02)
        self.table = None
        if config.n_labels:
            self.table = nn.Parameter(torch.randn(config.n_labels + 1, d, generator=rng) * 0.02)
        self.blocks = nn.ModuleList([Block(config, rng) for _ in range(config.layers)])
        self.tell = linear(d, (6 * config.layers + 2) * d, rng, 0.0)
        with torch.no_grad():
            self.tell.bias[: -2 * d].view(-1, 3, d)[:, 2] = config.gate
        self.head = linear(d, n_out * config.patch**2, rng, 0.0)
        self.positions: torch.Tensor
        self.register_buffer("positions", grid_positions(self.side, d), persistent=False)

    def forward(
        self,
        x: torch.Tensor,
        level: torch.Tensor,
        label: torch.Tensor | None = None,
        extra: torch.Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """(n, C or 2 C, H, W) float32 of x (n, C, H, W) at level (n,), 0 ... 1,000 by custom.

        label: (n,) integers 0..n_labels, 0 for none. extra: (n, C + 1, H, W), for a network with
        amortised conditioning. rng is not used: there is no dropout.
        """
        assert (extra is not None) == self.config.amortised, "extra is for amortised networks"
        tokens = self.embed(self._patches(_merged(x, extra))) + self.positions
        told = self.tell(F.silu(self._condition(level, label)))
        told = told.view(len(x), -1, 1, self.config.width)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, told[:, 6 * i : 6 * i + 6])
        tokens = self.head(modulated(tokens, told[:, -2], told[:, -1]))
        return self._image(tokens.float())

    def _condition(self, level: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        """c of the module's text, (n, width)."""
        waves = sincos(level.float(), FREQUENCIES, shift=1)
        told = self.level_out(F.silu(self.level_in(waves)))
        if self.table is None:
            return told
        chosen = 0 if label is None else label
        return told + self.table[chosen]

    def _patches(self, image: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) -> (n, t, C * patch * patch), patches in raster order."""
        n, c, p = *image.shape[:2], self.config.patch
        cut = image.view(n, c, self.side, p, self.side, p).permute(0, 2, 4, 1, 3, 5)
        return cut.reshape(n, self.side**2, c * p * p)

    def _image(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, t, patch * patch * C) -> (n, C, H, W)."""
        n, p, size = len(tokens), self.config.patch, self.config.size
        cut = tokens.view(n, self.side, self.side, p, p, -1)
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, size, size)


def _merged(x: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
    """x with the known values in their places, and a channel that says where those are."""
    if extra is None:
        return x
    known = extra[:, -1:] > 0
    return torch.cat([torch.where(known, extra[:, :-1], x), extra[:, -1:]], 1)
