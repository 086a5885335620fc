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
    set_weights: how much each of a panel's sets counts, one number a set; () for all alike.
    sweeps: how often a drawn sample's rows are drawn anew, each given the other two.
    """

    orders: tuple[float, float, float] = (0.5, 0.25, 0.25)
    last_weight: float = Field(default=1.0, gt=0)
    set_weights: tuple[float, ...] = ()
    sweeps: int = Field(default=0, ge=0)
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels

    @field_validator("orders")
    @classmethod
    def _shares(cls, orders: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(orders) < 0 or sum(orders) <= 0:
            raise ValueError(f"orders {orders} must be shares >= 0, one of them above 0")
        return orders

    @field_validator("set_weights")
    @classmethod
    def _weights(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < weight < float("inf") for weight in weights):
            raise ValueError(f"set_weights {weights} must be positive numbers")
        return weights


class CompletionConfig(Config):
    """How a continuous diffusion fills unknown parts in; see `assay.families.inpaint`.

    kind: amortised (a denoiser that is itself conditional on the known part), replacement,
    repaint, dps, pgdm or tds, which need nothing but the unconditional denoiser. n_steps: steps
    of the noise grid. solver: of amortised, replacement and pgdm, None for the kind's own choice;
    the other kinds are ancestral (sde) by construction. resample, jump: RePaint goes through each
    stretch of ``jump`` steps ``resample`` times. particles, ess: TDS resamples its particles
    where their effective number is below ess * particles; 1 is at every step. scale: multiplies
    the guidance of dps (its zeta) and pgdm (1 follows the mathematics). tau: of pgdm and tds, who
    take Var[x0 | x] = sigma^2 tau^2 / (sigma^2 + tau^2): the PGDM paper has 1, the TDS paper the
    default, and 1 is far too weak where the known entries follow from one another. bound: of the
    shift of x0 by their guidance, in norms of what x0 misses of the known part, None for none.
    clip: denoised values are cut to [-clip, clip]; None, the default, leaves them. piece: samples
    times particles that dps, pgdm and tds differentiate at once, as memory allows.
    """

    kind: Literal["amortised", "replacement", "repaint", "dps", "pgdm", "tds"] = "amortised"
    n_steps: int = Field(default=25, ge=1)
    solver: Literal["euler", "heun", "dpmpp_2m", "sde"] | None = None
    resample: int = Field(default=10, ge=1)
    jump: int = Field(default=1, ge=1)
    particles: int = Field(default=25, ge=1)
    ess: float = Field(default=1.0, gt=0, le=1)
    scale: float = Field(default=1.0, ge=0)
    tau: float = Field(default=0.12**0.5, gt=0)
    bound: float | None = Field(default=10.0, gt=0)
    clip: float | None = Field(default=None, gt=0)
    piece: int = Field(default=128, ge=1)

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
    sigma lies in churn_range. clip: denoised values are cut to [-clip, clip] in sampling; None,
    the default, leaves them.
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
    clip: float | None = Field(default=None, gt=0)

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


class EdmConfig(ContinuousConfig):
    """EDM's preconditioning and training noise, ln sigma ~ N(p_mean, p_std^2); as published."""

    sigma_data: float = Field(default=0.5, gt=0)  # the data's standard deviation
    p_mean: float = -1.2
    p_std: float = Field(default=1.2, ge=0)


class DdpmConfig(ContinuousConfig):
    """DDPM: linear betas, noise or velocity predicted; see `assay.families.ddpm`.

    spacing: which training steps the sampler's grid "ddpm" takes, as diffusers names them.
    variance: of an ancestral (sde) step, the posterior's (small), beta (large) or learned, for a
    network with learned_sigma. vlb: weight of the variational bound beside the squared error,
    where the variance is learned.
    """

    sampler: SamplerConfig = SamplerConfig(kind="euler", grid="ddpm", n_steps=100)
    n_train: int = Field(default=1000, ge=2)
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    spacing: Literal["trailing", "leading", "linspace"] = "trailing"
    variance: Literal["small", "large", "learned"] = "small"
    vlb: float = Field(default=0.001, ge=0)
    prediction: Literal["eps", "v"] = "eps"

    @model_validator(mode="after")
    def _rising(self) -> DdpmConfig:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start {self.beta_start} is above beta_end {self.beta_end}")
        n_steps = max(self.sampler.n_steps, self.completion.n_steps)
        if self.sampler.grid == "ddpm" and n_steps > self.n_train:
            raise ValueError(f"n_steps {n_steps} is more than the {self.n_train} trained on")
        return self


class FlowConfig(ContinuousConfig):
    """The linear flow, velocity predicted; see `assay.families.flow`.

    The sampler's grid "flow" is uniform in t from 1 to 0, whatever its ends; heun is the flow's
    own. tolerance: relative and absolute error that an adaptive solver allows a step of a sample,
    in place of the sampler's steps; None for those. time: law of t in training, uniform or
    logit t ~ N(time_mean, time_std^2). skip: the network learns what the best linear guess, for
    data of variance 1, leaves of the velocity.
    """

    sampler: SamplerConfig = SamplerConfig(grid="flow", n_steps=25)
    tolerance: float | None = Field(default=None, gt=0)
    time: Literal["uniform", "logit-normal"] = "uniform"
    time_mean: float = 0.0
    time_std: float = Field(default=1.0, gt=0)
    skip: bool = False

    @model_validator(mode="after")
    def _no_churn(self) -> FlowConfig:
        if self.sampler.churn:
            raise ValueError(f"churn {self.sampler.churn} is not for flows; choose kind sde")
        return self


class AutoregressiveConfig(Config):
    """Tokens drawn in their order; see `assay.families.autoregressive`.

    rows: into how many exchangeable parts a sequence falls: completions may relabel them.
    """

    head: HeadConfig = HeadConfig()
    rows: int = Field(default=3, ge=1)
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels


class CellTokensConfig(Config):
    """What the families over cell tokens share."""

    head: HeadConfig = HeadConfig()
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels


class MaskedConfig(CellTokensConfig):
    """Masked diffusion; see `assay.families.masked`.

    masks: shares of the training masks cells, panels and some. few: of these, P(n panels) is
    proportional to few^n. weight: of a token's loss, 1 / k with a uniform number k of blanks
    (count), 1 / t with blanks at rate t (rate) or the same for each (even). rest, hard: how much
    blank panels not yet begun count, and the power of (1 - p) that weighs a token.
    Drawing: order: any cell next, or panel after panel; choice: which of those comes first;
    at_once: cells revealed in each evaluation, so that L cells take about L / at_once.
    """

    masks: tuple[float, float, float] = (0.4, 0.3, 0.3)
    few: float = Field(default=1.0, gt=0, le=1)
    weight: Literal["count", "rate", "even"] = "count"
    rest: float = Field(default=0.0, ge=0)
    hard: float = Field(default=0.0, ge=0)
    order: Literal["cells", "panels"] = "panels"
    choice: Literal["random", "confidence", "margin"] = "random"
    at_once: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _trained(self) -> MaskedConfig:
        if min(self.masks) < 0 or sum(self.masks) <= 0:
            raise ValueError(f"masks {self.masks} must be shares >= 0, one of them above 0")
        if self.order == "cells" and not self.any_cells:
            raise ValueError("order cells needs a share of masks 'cells' or 'some' in training")
        return self

    @property
    def any_cells(self) -> bool:
        """Whether blanks in several panels at once are learned from."""
        return self.masks[0] + self.masks[2] > 0


class PanelOrderConfig(CellTokensConfig):
    """How cell tokens are learned panel by panel; orders and last_weight as for set tokens."""

    orders: tuple[float, float, float] = (0.5, 0.25, 0.25)
    last_weight: float = Field(default=1.0, gt=0)

    @field_validator("orders")
    @classmethod
    def _shares(cls, orders: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(orders) < 0 or sum(orders) <= 0:
            raise ValueError(f"orders {orders} must be shares >= 0, one of them above 0")
        return orders


class RelationsConfig(Config):
    """How a mixture of relations completes and draws; see `assay.families.relations`.

    floor: in completing, the share of the prior that lets any relation govern any unit, as often
    as each is met; the rest is the prior learned of both together.
    """

    floor: float = Field(default=0.1, ge=0, le=1)
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels
