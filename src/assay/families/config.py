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
    sweeps: how often a drawn sample's rows are drawn anew, each given the other two.
    """

    orders: tuple[float, float, float] = (0.5, 0.25, 0.25)
    last_weight: float = Field(default=1.0, gt=0)
    early_weight: float = Field(default=0.5, ge=0)  # of a first answer, where the network has one
    sweeps: int = Field(default=0, ge=0)
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


class SamplerConfig(Config):
    """A solver of the probability flow or the reverse SDE, and its grid of sigmas, last one 0.

    kind: euler is DDIM, sde is DDPM's ancestral sampler (posterior variance), both in the
    coordinate x0 + sigma noise. grid: spacing of the sigmas (`assay.core.noise`); ddpm: those of
    its linear betas, which knows its own ends. churn: EDM's S_churn, for heun and euler, where
    sigma lies in churn_range.
    """

    kind: Literal["heun", "euler", "dpmpp_2m", "sde"] = "heun"
    grid: Literal["karras", "exponential", "ou", "flow", "ddpm"] = "karras"
    n_steps: int = Field(default=18, ge=1)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, gt=0)
    churn: float = Field(default=0.0, ge=0)
    churn_range: tuple[float, float] = (0.0, 1e6)
    churn_noise: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> SamplerConfig:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max")
        if self.churn and self.kind not in ("heun", "euler"):
            raise ValueError(f"churn {self.churn} needs kind heun or euler, not {self.kind}")
        return self


class ContinuousConfig(Config):
    """What the diffusion families share; see `assay.families.continuous`.

    known: the share of samples that a network with amortised conditioning is told panels of.
    """

    sampler: SamplerConfig = SamplerConfig()
    completion: CompletionConfig = CompletionConfig(kind="replacement")
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels
    known: float = Field(default=0.5, ge=0, le=1)


class HeadConfig(Config):
    """The law of one token given a hidden state; see `assay.families.heads` for the kinds.

    sizes: how many values each part of a token has, (8, 11, 11) for a cell's shape, size and
    colour with empty in front, (2,) for occupied cells. rank: features of a chain's conditionals.
    """

    kind: Literal["joint", "separate", "chain"] = "joint"
    sizes: tuple[int, ...] = (8, 11, 11)
    rank: int = Field(default=64, ge=1)

    @field_validator("sizes")
    @classmethod
    def _counts(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes {sizes} must be one or more numbers of values >= 1")
        return sizes
