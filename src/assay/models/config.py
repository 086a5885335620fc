"""What networks are asked to be: typed, frozen, unknown names refused; read without torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """A frozen configuration that refuses unknown names and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TransformerConfig(Config):
    """A pre-norm transformer trunk: ``layers`` blocks of a width, split into heads."""

    width: int = Field(default=384, ge=1)
    layers: int = Field(default=12, ge=0)
    heads: int = Field(default=6, ge=1)
    mlp: float = Field(default=4.0, gt=0)  # hidden width of the MLPs in widths
    causal: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _splits(self) -> TransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self


class SetNetConfig(Config):
    """A network over the sets of nine panels; see `assay.models.setnet` for the two kinds.

    widths: bits of each set of a panel, the first the occupied positions (its popcount bounds
    the sizes of the others). trunk: the transformer; links: MLPs a set after it (kind chain). The
    law of a set is a mixture of ``components`` softmaxes whose logits are linear in the set's
    bits, its size and ``rank`` learned features.
    """

    kind: Literal["trunk", "chain"] = "chain"
    widths: tuple[int, ...] = (9, 7, 10, 10)
    trunk: TransformerConfig = TransformerConfig()
    links: int = Field(default=2, ge=0)
    components: int = Field(default=4, ge=1)
    rank: int = Field(default=48, ge=0)
    n_labels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> SetNetConfig:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > 12:
            raise ValueError(f"widths {self.widths} must be one or more numbers of bits, 1 to 12")
        if not self.trunk.causal:
            raise ValueError("trunk must be causal: the model draws in an order")
        return self


class UNetConfig(Config):
    """A U-Net over square images whose size each level divides by three; `assay.models.unet`.

    channels, size: of the image. width: channels of the first level, multipliers: those of each
    level in widths, blocks: residual blocks of a level going in. attention: sizes with attention,
    in heads of about ``head`` channels. amortised: with inputs for what is known, channels + 1.
    lean: less work for as much width, with other numbers of parameters than the published ones.
    """

    channels: int = Field(default=3, ge=1)
    size: int = Field(default=9, ge=1)
    width: int = Field(default=128, ge=2, multiple_of=2)
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = Field(default=2, ge=1)
    attention: tuple[int, ...] = (9, 3)
    head: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.13, ge=0, lt=1)
    n_labels: int = Field(default=0, ge=0)
    amortised: bool = False
    lean: bool = False

    @model_validator(mode="after")
    def _divides(self) -> UNetConfig:
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"multipliers {self.multipliers} must be one or more, each 1 or more")
        if self.size % 3 ** (len(self.multipliers) - 1):
            raise ValueError(
                f"size {self.size} is not divisible by 3 as often as {len(self.multipliers)} "
                "levels ask; give fewer multipliers"
            )
        return self


class DiTConfig(Config):
    """A diffusion transformer over images (channels, size, size); see `assay.models.dit`.

    learned_sigma: as many channels again for a learned variance. amortised: it is shown what is
    known (`assay.families.continuous`). gate: where the gates of all branches start, 0 as
    published. pairs: attention learns a bias for each pair of patches, which is not published.
    """

    channels: int = Field(default=3, ge=1)
    size: int = Field(default=9, ge=1)
    patch: int = Field(default=1, ge=1)
    width: int = Field(default=384, ge=4)
    layers: int = Field(default=12, ge=1)
    heads: int = Field(default=6, ge=1)
    mlp: float = Field(default=4.0, gt=0)  # hidden width of the MLPs in widths
    n_labels: int = Field(default=0, ge=0)
    learned_sigma: bool = False
    amortised: bool = False
    gate: float = 0.0
    pairs: bool = False

    @model_validator(mode="after")
    def _divides(self) -> DiTConfig:
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by 4 and by heads {self.heads}"
            )
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not divisible by patch {self.patch}")
        return self


class ResMlpConfig(Config):
    """A residual MLP over images (channels, size, size); see `assay.models.resmlp`.

    mlp: hidden width in widths; told: width of what the blocks are told of noise and label; gate:
    where the gates of all blocks start.
    """

    channels: int = Field(default=1, ge=1)
    size: int = Field(default=8, ge=1)
    width: int = Field(default=192, ge=1)
    layers: int = Field(default=3, ge=1)
    mlp: float = Field(default=2.0, gt=0)
    told: int = Field(default=64, ge=1)
    n_labels: int = Field(default=0, ge=0)
    gate: float = 0.5


class TokenNetConfig(Config):
    """A causal network over ``length`` tokens on a backbone of transformers; `assay.models.hf`.

    heads: of GPT-2's attention, or of Mamba-2's states, which are 2 width/heads by ``state``
    numbers; Mamba has none. chunk: positions that Mamba-2 takes at a time in training. dropout:
    GPT-2's alone. sizes: how many values each part of a token has. places: how many each part of
    its place has, (3, 3, 9) for row, panel and cell, where the network is told these; () for none.
    std: of the first embeddings.
    """

    backbone: Literal["gpt2", "mamba2", "mamba"] = "gpt2"
    width: int = Field(default=384, ge=1)
    layers: int = Field(default=12, ge=1)
    heads: int = Field(default=6, ge=1)
    state: int = Field(default=16, ge=1)
    chunk: int = Field(default=27, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    sizes: tuple[int, ...] = (8, 11, 11)
    length: int = Field(default=81, ge=1)
    places: tuple[int, ...] = ()
    std: float = Field(default=0.02, gt=0)
    n_labels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _splits(self) -> TokenNetConfig:
        if self.places and math.prod(self.places) != self.length:
            raise ValueError(f"places {self.places} do not number {self.length} tokens")
        split = {"gpt2": self.width, "mamba2": 2 * self.width, "mamba": 0}[self.backbone]
        if split % self.heads:
            raise ValueError(f"{self.backbone} of width {self.width} has no {self.heads} heads")
        if self.dropout and self.backbone != "gpt2":
            raise ValueError(f"dropout {self.dropout}: {self.backbone} has none")
        return self


class CellNetConfig(Config):
    """A network over the cells of panels; see `assay.models.cellnet`.

    grid: rows, panels of a row, cells of a panel. sizes: how many values each part of a token
    has, (8, 11, 11) for a cell's shape, size and colour with empty in front, (2,) for occupied
    cells. trunk: causal to run ahead in an order, else to fill in.
    """

    grid: tuple[int, int, int] = (3, 3, 9)
    sizes: tuple[int, ...] = (8, 11, 11)
    trunk: TransformerConfig = TransformerConfig()
    n_labels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _counts(self) -> CellNetConfig:
        if not self.sizes or min(*self.grid, *self.sizes) < 1:
            raise ValueError(f"grid {self.grid} and sizes {self.sizes} must be numbers >= 1")
        return self


class RelationNetConfig(Config):
    """A mixture of relations between the sets of a row; see `assay.models.relationnet`.

    widths: bits of each set of a panel, the first the occupied positions. relations: how many
    there may be. own: how far a unit's own form of a relation may differ from the one that all
    units share, as a factor on its parameters; 0: it is the same for all. shared: without it,
    every unit has relations of its own and learns nothing from the others. apart: how far
    relations begin from each other in what first two sets they expect (standard deviation of its
    logits); sparse: where the logits of a third set's bits begin. n_labels: labels that say
    something of what governs a sample.
    """

    widths: tuple[int, ...] = (9, 7, 10, 10)
    relations: int = Field(default=32, ge=1)
    own: float = Field(default=0.1, ge=0)
    shared: bool = True
    apart: float = Field(default=2.0, ge=0)
    sparse: float = -2.0
    n_labels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> RelationNetConfig:
        if not self.widths or min(self.widths) < 1 or self.widths[0] > 9:
            raise ValueError(f"widths {self.widths} must be numbers of bits, the first 1 to 9")
        if max(self.widths) > self.widths[0] + 1:
            raise ValueError(
                f"widths {self.widths}: a set may have one bit more than there are positions"
            )
        return self
