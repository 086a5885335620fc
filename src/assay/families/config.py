"""What families are asked to be: typed, frozen, unknown names refused; read without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from assay.models.config import Config


class SetTokenConfig(Config):
    """How set tokens are learned.

    orders: shares of the orders natural, column and any (see `assay.families.orders`), which say
    which masks can be completed. last_weight: how much more a token of a row's last panel counts
    in the loss than one of the others (whose conditional law stays the best answer either way).
    """

    orders: tuple[float, float, float] = (0.5, 0.25, 0.25)
    last_weight: float = Field(default=1.0, gt=0)
    early_weight: float = Field(default=0.5, ge=0)  # of a first answer, where the network has one
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels

    @field_validator("orders")
    @classmethod
    def _shares(cls, orders: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(orders) < 0 or sum(orders) <= 0:
            raise ValueError(f"orders {orders} must be shares >= 0, one of them above 0")
        return orders


class CompletionConfig(Config):
    """How a continuous diffusion fills unknown parts in; see `assay.families.inpaint`.

    kind: amortised (a denoiser that is itself conditional on the known part), replacement,
    repaint, dps, pgdm or tds, which need nothing but the unconditional denoiser. n_steps: steps
    of the noise grid. solver: of amortised, replacement and pgdm, None for the kind's own choice;
    the other kinds are ancestral (sde) by construction. resample, jump: RePaint goes through each
    stretch of ``jump`` steps ``resample`` times. particles, ess: TDS resamples its particles
    where their effective number is below ess * particles; 1 is at every step. scale: multiplies
    the guidance of dps (its zeta) and pgdm (1 is theirs). tau: the data's standard deviation as
    pgdm and tds take it, Var[x0 | x] = sigma^2 tau^2 / (sigma^2 + tau^2) (tau^2 = 0.12 in the
    TDS paper). clip: denoised values are cut to [-clip, clip]; None, the default, leaves them.
    """

    kind: Literal["amortised", "replacement", "repaint", "dps", "pgdm", "tds"] = "amortised"
    n_steps: int = Field(default=25, ge=1)
    solver: Literal["euler", "heun", "dpmpp_2m", "sde"] | None = None
    resample: int = Field(default=10, ge=1)
    jump: int = Field(default=1, ge=1)
    particles: int = Field(default=25, ge=1)
    ess: float = Field(default=1.0, gt=0, le=1)
    scale: float = Field(default=1.0, ge=0)
    tau: float = Field(default=1.0, gt=0)
    clip: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> CompletionConfig:
        if self.kind in ("repaint", "dps", "tds") and self.solver not in (None, "sde"):
            raise ValueError(f"solver {self.solver}: completion by {self.kind} is ancestral, sde")
        if self.kind == "repaint" and self.resample > 1 and self.jump >= self.n_steps:
            raise ValueError(f"jump {self.jump} must be below n_steps {self.n_steps}")
        return self
