"""What networks are asked to be: typed, frozen, unknown names refused; read without torch."""

from __future__ import annotations

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
    """A network over the sets of nine panels; see `assay.models.setnet` for the three kinds.

    widths: bits of each set of a panel, the first the occupied positions (its popcount bounds
    the sizes of the others). panels: the trunk over nine panel tokens (kinds drawing and chain);
    tokens: the trunk over set tokens (kinds trunk and drawing). The law of a set is a mixture of
    ``components`` softmaxes whose logits are linear in the set's bits, its size and ``rank``
    learned features.
    """

    kind: Literal["trunk", "drawing", "chain"] = "trunk"
    widths: tuple[int, ...] = (9, 7, 10, 10)
    panels: TransformerConfig = TransformerConfig()
    tokens: TransformerConfig = TransformerConfig()
    components: int = Field(default=4, ge=1)
    rank: int = Field(default=48, ge=0)
    n_labels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> SetNetConfig:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > 12:
            raise ValueError(f"widths {self.widths} must be one or more numbers of bits, 1 to 12")
        if not (self.panels.causal and self.tokens.causal):
            raise ValueError("panels and tokens must be causal: the model draws in an order")
        return self
