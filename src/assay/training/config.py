"""How a model is trained: typed, frozen, unknown names refused; read without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from assay.models.config import Config


class Schedule(Config):
    """A learning rate's factor by step alone: linear warm-up, constant, then decay to a floor.

    warmup: steps; hold: the share of all steps after which the decay begins; floor: the last
    factor; ends: lengths planned earlier, from whose last step the training went on: until then
    the schedule was the one of that length.
    """

    warmup: int = Field(default=200, ge=0)
    hold: float = Field(default=0.6, ge=0, le=1)
    decay: Literal["linear", "cosine", "none"] = "linear"
    floor: float = Field(default=0.02, ge=0, le=1)
    ends: tuple[int, ...] = ()


class OptimConfig(Config):
    """AdamW, or Muon on the matrices inside and AdamW on the rest."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    muon_lr: float = Field(default=0.02, gt=0)
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)  # of the gradient's norm
    schedule: Schedule = Schedule()


class FitConfig(Config):
    """The loop. batch: samples a step over all processes; split: parts a step is computed in.

    ema: decay of the average of the weights, None for none. bf16: autocast to bfloat16. compile:
    translate the parts of the network that can be (those with ``translate``), for training alone;
    it takes a minute or two and needs a C++ compiler where there is no GPU.
    """

    n_steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=256, ge=1)
    split: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    bf16: bool = False
    compile: bool = False
    ema: float | None = Field(default=None, gt=0, lt=1)
    optim: OptimConfig = OptimConfig()

    @model_validator(mode="after")
    def _divides(self) -> FitConfig:
        if self.batch % self.split:
            raise ValueError(f"batch {self.batch} is not divisible by split {self.split}")
        return self
