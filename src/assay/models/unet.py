"""A U-Net for small images, resolutions 9-3-1: residual blocks, attention, skips by channel.

    block    h = up(silu(norm(x)));  h = down(dropout(silu(norm(h + e W))));
             out = (h + skip(x)) / sqrt(2),      e the embedding of noise level and label
    attend   out = (x + mix(attention(norm(x)))) / sqrt(2)

as in DDPM++ (Song et al. 2021, arXiv 2011.13456, appendix H; with the numbers of blocks and the
rescaling of Karras et al. 2022, arXiv 2206.00364, table 7). Each level divides the size by three;
where those use pooling and doubled pixels, here the first kernel of a block that changes the size
is a 3x3 kernel of stride three, so that at 9 -> 3 each kernel reads (or writes) exactly one panel
and no cell's place is lost: as many parameters, at 9 a ninth of the work going up. The encoder's
outputs are concatenated to the decoder's inputs of the same size.

A table of places is added after the first kernel. At size 1 a 3x3 kernel's eight outer entries
only ever meet padding: the work is that of the middle entry alone. A ``lean`` network has them
not as parameters either, and its blocks that change the size change the width as well. Group
norm has at most 32 groups of 4 channels or more. The output of each branch starts at 0. Kernels
are held as matrices (out, 9 * in), tap by tap.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import UNetConfig
from assay.models.transformer import initial

_FACTOR = 3  # by which each level divides the size
# (81, 9): 1 where tap t of place p of a 3x3 image, line 9 p + t, reads that place
_TAPS = F.unfold(torch.eye(9).view(9, 1, 3, 3), 3, padding=1).permute(2, 1, 0).reshape(81, 9)


class Norm(nn.Module):
    """Group norm with a gain and a bias, then SiLU where asked."""

    def __init__(self, width: int):
        super().__init__()
        self.groups = max(1, min(32, width // 4))
        while width % self.groups:
            self.groups -= 1
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, self.groups, self.gain.to(x.dtype), self.bias.to(x.dtype))


def convolve(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """x (n, in, H, W) with a kernel (out, 9 * in) or (out, in), zeros beyond the edge."""
    c = x.shape[1]
    if kernel.shape[1] == c:
        return pointwise(x, kernel)
    if x.shape[-1] == 1:
        return pointwise(x, kernel[:, 4 * c : 5 * c])
    if x.shape[-1] == 3 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return _gathered(x, kernel)
    return F.conv2d(x, _image(kernel, c), padding=1)


def _image(kernel: torch.Tensor, c: int) -> torch.Tensor:
    """A kernel (out, 9 * c) as torch has them, (out, c, 3, 3)."""
    return kernel.view(-1, 3, 3, c).permute(0, 3, 1, 2).contiguous()


def _gathered(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """`convolve` at size 3 as one product: in bfloat16 twice as fast as a CPU's convolution."""
    n, c = x.shape[:2]
    taps = _TAPS.to(x.device) @ x.flatten(2).transpose(1, 2)  # (n, 9 places times 9 taps, c)
    return F.linear(taps.view(n, 9, 9 * c), kernel).transpose(1, 2).reshape(n, -1, 3, 3)


def pointwise(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """x (n, in, H, W) by a matrix (out, in) at every place."""
    if x.shape[-1] == 1:
        return F.linear(x.flatten(1), matrix)[..., None, None]
    return F.conv2d(x, matrix[..., None, None])


def shrink(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(n, in, H, W) -> (n, out, H/3, W/3): a kernel (out, 9 * in) of stride three."""
    return F.conv2d(x, _image(kernel, x.shape[1]), stride=_FACTOR)


def grow(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(n, in, H, W) -> (n, out, 3H, 3W): a kernel (out, 9 * in), transposed, of stride three."""
    return F.pixel_shuffle(pointwise(x, kernel.view(-1, x.shape[1])), _FACTOR)


_WAYS = {"same": convolve, "shrink": shrink, "grow": grow}


class Spec(NamedTuple):
    """A block's place in the network. size: of the image after it; joins: reads a skip as well."""

    way: str  # same, shrink or grow
    c_in: int
    c_out: int
    size: int
    attends: bool = False
    joins: bool = False


class Block(nn.Module):
    """A residual block, perhaps one that changes the size, and attention after it."""

    def __init__(self, spec: Spec, config: UNetConfig, rng: torch.Generator):
        super().__init__()
        _, c_in, c_out, *_ = self.spec = spec
        changes = spec.way != "same"
        taps = 1 if config.lean and spec.size == 1 else 9
        first = c_in * (9 if changes else taps)
        self.p = config.dropout
        self.norm_in, self.norm_out = Norm(c_in), Norm(c_out)
        self.up = initial((c_out, first), c_in**-0.5 / 3, rng)
        self.down = initial((c_out, c_out * taps), 0.0, rng)
        self.bias_up, self.bias_down = (nn.Parameter(torch.zeros(c_out)) for _ in range(2))
        new = changes or c_in != c_out
        self.skip = initial((c_out, c_in), c_in**-0.5, rng) if new else None
        self.attend = Attend(c_out, config.head, rng) if spec.attends else None

    def forward(self, x: torch.Tensor, told: torch.Tensor, rng=None) -> torch.Tensor:
        """x (n, in, H, W); told (n, out), the embedding's part in this block."""
        h = F.silu(self.norm_in(x))
        h = _WAYS[self.spec.way](h, self.up)
        h = h + (told + self.bias_up)[..., None, None].to(h.dtype)
        h = dropout(F.silu(self.norm_out(h)), self.p, rng)
        h = convolve(h, self.down) + self.bias_down[:, None, None].to(h.dtype)
        x = (self._skipped(x) + h) * 0.5**0.5
        return x if self.attend is None else self.attend(x)

    def _skipped(self, x):
        if self.spec.way == "shrink":
            x = F.avg_pool2d(x, _FACTOR)
        if self.skip is not None:
            x = pointwise(x, self.skip)
        if self.spec.way == "grow":
            x = x.repeat_interleave(_FACTOR, 2).repeat_interleave(_FACTOR, 3)
        return x


class Attend(nn.Module):
    """Attention among the places of an image."""

    def __init__(self, width: int, head: int, rng: torch.Generator):
        super().__init__()
        self.heads = max(1, width // head)
        self.norm = Norm(width)
        self.qkv, self.mix = (
            initial((3 * width, width), width**-0.5, rng),
            initial((width, width), 0.0, rng),
        )
        self.bias_qkv, self.bias_mix = (nn.Parameter(torch.zeros(k * width)) for k in (3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = F.linear(tokens, self.qkv, self.bias_qkv).view(n, h * w, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind()
        logits = (q @ k.transpose(-1, -2)).float() * (c // self.heads) ** -0.5
        mixed = (torch.softmax(logits, -1).to(v.dtype) @ v).transpose(1, 2).reshape(n, h * w, c)
        mixed = F.linear(mixed, self.mix, self.bias_mix)
        return (x + mixed.transpose(1, 2).reshape(x.shape)) * 0.5**0.5


def dropout(x: torch.Tensor, p: float, rng: torch.Generator | None) -> torch.Tensor:
    """x with a share p of its entries dropped and the rest scaled up; x itself without rng."""
    if rng is None or p == 0:
        return x
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=rng).div_(1 - p)


class UNet(nn.Module):
    """The network of a `UNetConfig`, initialised from a seed."""

    def __init__(self, config: UNetConfig, seed: int = 0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.config = config
        encoder, decoder = plan(config)
        c_in = config.channels + (config.channels + 1 if config.amortised else 0)
        self.enter = initial((config.width, 9 * c_in), (9 * c_in) ** -0.5, rng)
        self.places = initial((config.width, config.size, config.size), 0.1, rng)
        self.encoder: Any = nn.ModuleList([Block(spec, config, rng) for spec in encoder])
        self.decoder: Any = nn.ModuleList([Block(spec, config, rng) for spec in decoder])
        last = decoder[-1].c_out
        self.norm = Norm(last)
        self.leave = initial((config.channels, 9 * last), 0.0, rng)
        self.bias = nn.Parameter(torch.zeros(config.channels))
        self._embedding(rng)

    def _embedding(self, rng: torch.Generator) -> None:
        d, e = self.config.width, 4 * self.config.width
        self.labels = initial((self.config.n_labels + 1, d), 1.0, rng)
        self.embed_up, self.embed_down = (
            initial((e, k), k**-0.5, rng) for k in (d, e)
        )  # fmt: skip
        self.bias_up, self.bias_down = (nn.Parameter(torch.zeros(e)) for _ in range(2))
        self.widths = [block.spec.c_out for block in (*self.encoder, *self.decoder)]
        self.tell = initial((sum(self.widths), e), e**-0.5, rng)  # one product for every block

    def forward(
        self,
        x: torch.Tensor,
        level: torch.Tensor,
        label: torch.Tensor | None = None,
        extra: torch.Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """(n, channels, size, size).

        x (n, channels, size, size); level (n,): the noise level, of order 1 (EDM's c_noise);
        label (n,), 0 for none; extra (n, channels + 1, size, size) for an amortised network;
        rng: a generator for dropout, in training.
        """
        told = self._told(level, label)
        x = x if extra is None else torch.cat([x, extra.to(x)], 1)
        x = convolve(x, self.enter)
        x = x + self.places.to(x.dtype)
        kept = [x]
        for block in self.encoder:
            x = block(x, told.pop(0), rng)
            kept.append(x)
        for block in self.decoder:
            if block.spec.joins:
                x = torch.cat([x, kept.pop()], 1)
            x = block(x, told.pop(0), rng)
        out = convolve(F.silu(self.norm(x)), self.leave)
        return out.float() + self.bias[:, None, None]

    def _told(self, level: torch.Tensor, label: torch.Tensor | None) -> list[torch.Tensor]:
        """Each block's (n, channels) from the noise level and the label."""
        half = self.config.width // 2
        rates = 0.5 * 64 ** torch.linspace(0, 1, half, device=level.device)
        angles = level.float()[:, None] * rates
        wave = torch.cat([angles.cos(), angles.sin()], 1) * math.sqrt(2)
        index = torch.zeros_like(level, dtype=torch.long) if label is None else label
        e = F.silu(F.linear(wave + self.labels[index], self.embed_up, self.bias_up))
        e = F.silu(F.linear(e, self.embed_down, self.bias_down))
        return list(F.linear(e, self.tell).split(self.widths, 1))


def plan(config: UNetConfig) -> tuple[list[Spec], list[Spec]]:
    """The blocks of the encoder and of the decoder.

    Going in, each level but the first begins with a block that shrinks; all others of its blocks
    attend at the sizes in config.attention. Two blocks in the middle. Going out, a level has one
    block more, each of which reads one of the encoder's outputs, and only the last one attends.
    """
    widths = [config.width * m for m in config.multipliers]
    sizes = [config.size // _FACTOR**level for level in range(len(widths))]
    encoder, kept, c = [], [config.width], config.width
    for level, (width, size) in enumerate(zip(widths, sizes, strict=True)):
        if level:
            wide = width if config.lean else c
            encoder.append(Spec("shrink", c, wide, size))
            kept.append(wide)
            c = wide
        for _ in range(config.blocks):
            encoder.append(Spec("same", c, width, size, size in config.attention))
            kept.append(width)
            c = width
    decoder = [Spec("same", c, c, sizes[-1], sizes[-1] in config.attention)]
    for level in reversed(range(len(widths))):
        width, size = widths[level], sizes[level]
        way = "same" if level == len(widths) - 1 else "grow"
        wide = width if config.lean else c
        decoder.append(Spec(way, c, wide, size))
        c = wide
        for i in range(config.blocks + 1):
            attends = i == config.blocks and size in config.attention
            decoder.append(Spec("same", c + kept.pop(), width, size, attends, joins=True))
            c = width
    return encoder, decoder
