"""A transformer trunk: pre-norm blocks x + attention(norm(x)), x + mlp(norm(x)), on embeddings.

Attention with normalised queries and keys (Henry et al. 2020, arXiv 2010.04245) as one masked
product, since fused attention is slower on sequences as short as these; MLPs with squared ReLUs
(So et al. 2021, arXiv 2109.08668), several times cheaper than GELUs on a CPU. No biases. The
output of each block's two branches starts at 0, so that the trunk starts as the identity.

Drawing uses a static cache: keys and values of all positions in two tensors made once. Causal
logits with and without it agree to rounding. Dropout is drawn from the generator handed in;
without one there is none.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import TransformerConfig


class Cache:
    """Keys and values (layers, n, heads, positions, width/heads) of the positions seen so far."""

    def __init__(self, config: TransformerConfig, n: int, positions: int, like: torch.Tensor):
        size = (config.layers, n, config.heads, positions, config.width // config.heads)
        self.keys, self.values = like.new_zeros(size), like.new_zeros(size)
        self.length = 0


class Norm(nn.Module):
    """Layer norm with a learned gain and no bias."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], (self.gain * scale).to(x.dtype))


def dropout(x: torch.Tensor, p: float, rng: torch.Generator | None) -> torch.Tensor:
    """x with a share p of its entries dropped and the rest scaled up; x itself without rng."""
    if rng is None or p == 0:
        return x
    kept = torch.rand(x.shape, generator=rng, device=x.device) >= p
    return x * kept / (1 - p)


def initial(shape: tuple[int, ...], std: float, rng: torch.Generator) -> nn.Parameter:
    """A parameter of normal entries; std 0 gives zeros."""
    return nn.Parameter(torch.randn(shape, generator=rng) * std)


class Block(nn.Module):
    """One attention and one MLP branch."""

    fast: Any = None

    def translate(self) -> None:
        """Compile for training, where shapes stay the same; parameters stay where they are."""
        self.fast = torch.compile(self._forward, dynamic=False)

    def __init__(self, config: TransformerConfig, rng: torch.Generator):
        super().__init__()
        d, hidden = config.width, round(config.mlp * config.width)
        self.config = config
        self.norm_attention, self.norm_mlp = Norm(d), Norm(d)
        self.norm_query, self.norm_key = Norm(d // config.heads), Norm(d // config.heads)
        self.qkv = initial((3 * d, d), d**-0.5, rng)
        self.mix = initial((d, d), 0.0, rng)
        self.up = initial((hidden, d), d**-0.5, rng)
        self.down = initial((d, hidden), 0.0, rng)

    def forward(self, x, bias=None, cache=None, layer=0, rng=None):
        """x (n, t, width); bias is added to the attention logits (t, positions)."""
        call = self.fast if self.training and self.fast is not None else self._forward
        return call(x, bias, cache, layer, rng)

    def _forward(self, x, bias, cache, layer, rng):
        p = self.config.dropout
        x = x + dropout(self._attend(self.norm_attention(x), bias, cache, layer), p, rng)
        hidden = F.relu(F.linear(self.norm_mlp(x), self.up)).square()
        return x + dropout(F.linear(hidden, self.down), p, rng)

    def _attend(self, x, bias, cache, layer):
        n, t, d = x.shape
        heads = self.config.heads
        qkv = F.linear(x, self.qkv).view(n, t, 3, heads, d // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind()  # one copy, here and backwards
        q, k = self.norm_query(q, (d // heads) ** -0.5), self.norm_key(k)
        if cache is not None:
            start, stop = cache.length, cache.length + t
            cache.keys[layer, :, :, start:stop] = k
            cache.values[layer, :, :, start:stop] = v
            k, v = cache.keys[layer, :, :, :stop], cache.values[layer, :, :, :stop]
        logits = q @ k.transpose(-1, -2)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = torch.softmax(logits if bias is None else logits + bias, -1)
        mixed = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(n, t, d)
        return F.linear(mixed, self.mix)


class Transformer(nn.Module):
    """The blocks of a configuration and a last norm: (n, t, width) -> (n, t, width)."""

    def __init__(self, config: TransformerConfig, rng: torch.Generator):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList([Block(config, rng) for _ in range(config.layers)])
        self.norm = Norm(config.width)

    def cache(self, n: int, positions: int) -> Cache:
        """An empty cache for n sequences of up to so many positions; causal trunks only."""
        assert self.config.causal, "a trunk that looks both ways has nothing to keep"
        return Cache(self.config, n, positions, self.norm.gain.detach())

    def forward(
        self,
        x: torch.Tensor,
        cache: Cache | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """x (n, t, width). With a cache, x are the t positions after those seen so far."""
        seen = cache.length if cache is not None else 0
        bias = self._bias(seen, x.shape[1], x.device)
        for layer, block in enumerate(self.blocks):
            x = block(x, bias, cache, layer, rng)
        if cache is not None:
            cache.length = seen + x.shape[1]
        return self.norm(x)

    def _bias(self, seen: int, t: int, device: torch.device) -> torch.Tensor | None:
        if not self.config.causal or t == 1:
            return None
        future = torch.ones(t, seen + t, dtype=torch.bool, device=device).triu(seen + 1)
        return torch.zeros(t, seen + t, device=device).masked_fill(future, float("-inf"))
