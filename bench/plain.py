"""Plain loops of the published kind, written from their description: what the models are timed by.

GPT-2 as transformers has it, one token vocabulary, float32, AdamW; sampling by a whole forward
pass for every token. DiT block by block in float32, AdamW, an average of the weights updated
parameter by parameter (Peebles and Xie 2023, arXiv 2212.09748). EDM's loop is float32 with Adam
over the same U-Net as ours (Karras et al. 2022, arXiv 2206.00364).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

LENGTH, TOKENS = 81, 968


def gpt2(width: int, layers: int, heads: int) -> Any:
    """transformers' language model over cells and context tokens, as it comes."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": LENGTH + 1}
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=TOKENS + 41, **size))


@torch.no_grad()
def sample_gpt2(model: Any, n: int) -> torch.Tensor:
    """n samples, the whole sequence through the network for every token."""
    ids = torch.full((n, 1), TOKENS)
    for _ in range(LENGTH):
        logits = model(ids, use_cache=False).logits[:, -1, :TOKENS]
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], 1)
    return ids[:, 1:]


def train_gpt2(model: Any, batch: int) -> Callable[[], None]:
    """A step on a fixed batch of random cells (the time does not depend on them)."""
    ids = torch.randint(TOKENS, (batch, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    return _stepper(model, torch.optim.AdamW(model.parameters(), lr=1e-4),
                    lambda: model(ids, labels=ids).loss)  # fmt: skip


class Block(nn.Module):
    """A DiT block with adaptive layer norms."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(c)[:, None].chunk(6, -1)
        x = x + gate1 * self._attend(self.norm1(x) * (1 + scale1) + shift1)
        h = self.fc1(self.norm2(x) * (1 + scale2) + shift2)
        return x + gate2 * self.fc2(F.gelu(h, approximate="tanh"))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))


class DiT(nn.Module):
    """Patches of one cell, learned variance: (n, 3, 9, 9), steps (n,) -> (n, 6, 9, 9)."""

    def __init__(self, width: int = 384, layers: int = 12, heads: int = 6):
        super().__init__()
        self.enter = nn.Conv2d(3, width, 1)
        self.places = nn.Parameter(torch.zeros(1, LENGTH, width), requires_grad=False)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(41, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.leave = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rates = torch.exp(-math.log(10_000) * torch.arange(128) / 128)
        angles = t[:, None].float() * rates
        c = self.time(torch.cat([angles.cos(), angles.sin()], -1)) + self.label(
            torch.zeros_like(t)
        )
        h = self.enter(x).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.ada(c)[:, None].chunk(2, -1)
        return self.leave(self.norm(h) * (1 + scale) + shift).transpose(1, 2).unflatten(2, (9, 9))


def train_dit(model: DiT, batch: int) -> Callable[[], None]:
    """A step of the squared error of the noise (the bound's part left out), and the average."""
    noise_of = torch.Generator().manual_seed(0)
    x0 = torch.randn(batch, 3, 9, 9, generator=noise_of)
    kept = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    average = copy.deepcopy(model)

    def loss() -> torch.Tensor:
        t = torch.randint(1000, (batch,), generator=noise_of)
        noise, a = torch.randn(x0.shape, generator=noise_of), kept[t][:, None, None, None]
        return (model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t)[:, :3] - noise).square().mean()

    step = _stepper(model, torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0), loss)

    def whole() -> None:
        step()
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
                ours.mul_(0.9999).add_(theirs, alpha=0.0001)

    return whole


def train_edm(family: Any, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """A step of the same network and loss, float32."""
    average, rng = copy.deepcopy(family.network), family.streams(0)
    step = _stepper(family, torch.optim.Adam(family.parameters(), lr=2e-4),
                    lambda: family.loss(batch, rng).mean())  # fmt: skip

    def whole() -> None:
        step()
        with torch.no_grad():
            pairs = zip(average.parameters(), family.network.parameters(), strict=True)
            for ours, theirs in pairs:
                ours.copy_(theirs.lerp(ours, 0.9999))

    return whole


def _stepper(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
