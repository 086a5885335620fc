"""The noise level of a diffusers scheduler's step, and its prediction types as denoisers.

A scheduler keeps its latents in one of three coordinates of x = x0 + sigma noise:

    VE    x                                              Euler, Heun, LMS, ...
    VP    x / sqrt(1 + sigma^2)                          DDIM, DDPM, PNDM, DPM-Solver, UniPC, ...
    flow  x / (1 + sigma) = (1 - t) x0 + t noise         flow matching, sigma = t / (1 - t)

but shows its network u = x / sqrt(1 + sigma^2) in the first two and u = x / (1 + sigma) in the
third. So the network's own input says x, whatever the scheduler: u = a x0 + b noise, with

    VE, VP:  a = 1 / sqrt(1 + sigma^2),  b = sigma a;       flow:  a = 1 - t,  b = t.

Predictions of the network, with the denoised value D = E[x0 | x]:

    epsilon        (u - a D) / b            D = (u - b eps) / a     (core.denoiser.from_eps)
    v_prediction   a eps - b D              D = a u - b v           (a^2 + b^2 = 1)
    sample         D
    flow           eps - D                  D = u - b v             (core.denoiser.from_velocity)

and an error e of the prediction is an error of eps of size e, a e, (a/b) e and a e.
Salimans and Ho 2022 (arXiv 2202.00512), section 4, for v; Lipman et al. 2023 (arXiv 2210.02747).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from assay.core import denoiser as denoisers
from assay.core.special import Array

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow")
_NEAR = 0.02  # of the network's input, by which a scheduler may be off its table


@dataclass(frozen=True)
class Level:
    """Noise level of one network evaluation, and what its prediction means.

    sigma in (0, inf], inf where a flow starts from pure noise; signal, noise: a and b of the
    network's input a x0 + b noise; prediction: one of :data:`PREDICTIONS`.
    """

    sigma: float
    signal: float
    noise: float
    prediction: str

    def denoised(self, seen: Array, prediction: Array) -> Array:
        """E[x0 | x] from the network's input and its prediction, both (batch, *shape)."""
        if self.prediction == "sample":
            return prediction
        if self.prediction == "v_prediction":
            return self.signal * seen - self.noise * prediction
        if self.signal == 0:  # pure noise: only a flow says anything, x_t = noise
            return seen - self.noise * prediction
        x = seen / self.signal
        if self.prediction == "flow":
            return denoisers.from_velocity(prediction, x, self.sigma)
        return denoisers.from_eps(prediction, x, self.sigma)

    def predicted(self, seen: Array, denoised: Array) -> Array:
        """The network's prediction whose denoised value this is; inverse of :meth:`denoised`."""
        if self.prediction == "sample":
            return denoised
        if self.prediction == "v_prediction":
            return (self.signal * seen - denoised) / self.noise
        if self.prediction == "flow":
            return (seen - denoised) / self.noise
        return (seen - self.signal * denoised) / self.noise

    def x(self, seen: Array) -> Array:
        """x = x0 + sigma noise of the network's input; ValueError at pure noise."""
        if self.signal == 0:
            raise ValueError("sigma is infinite at pure noise: start the scheduler just below it")
        return seen / self.signal

    def ou(self, seen: Array) -> Array:
        """x / sqrt(1 + sigma^2), finite at pure noise too."""
        return seen / math.hypot(self.signal, self.noise)

    @property
    def eps_per_prediction(self) -> float:
        """Size of the error of eps that an error of size 1 of the prediction makes."""
        if self.prediction == "epsilon":
            return 1.0
        return self.signal / self.noise if self.prediction == "sample" else self.signal


def prediction_type(scheduler: Any) -> str:
    """Which of :data:`PREDICTIONS` the scheduler expects. ValueError for another one."""
    if is_flow(scheduler):
        return "flow"
    found = scheduler.config.get("prediction_type") or "epsilon"
    if found not in PREDICTIONS:
        raise ValueError(
            f"scheduler {type(scheduler).__name__} has prediction_type {found!r}; "
            f"known are {', '.join(PREDICTIONS)}"
        )
    return found


def is_flow(scheduler: Any) -> bool:
    """Whether its latents are (1 - t) x0 + t noise."""
    config = scheduler.config
    named = "FlowMatch" in type(scheduler).__name__
    flow = config.get("prediction_type") in ("flow_prediction", "flow")
    return named or flow or bool(config.get("use_flow_sigmas"))


def check(scheduler: Any) -> None:
    """ValueError unless the noise levels of this scheduler can be read from its own tables."""
    name = type(scheduler).__name__
    if hasattr(scheduler, "precondition_inputs"):
        raise ValueError(
            f"scheduler {name} scales its network in a way of its own (EDM): "
            "give the pipeline a DDIM, Euler, DPM-Solver or flow scheduler"
        )
    if not hasattr(scheduler, "sigmas") and not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"scheduler {name} has no table of noise levels (sigmas or alphas_cumprod): "
            "give the pipeline a DDIM, Euler, DPM-Solver or flow scheduler"
        )
    prediction_type(scheduler)


def level(scheduler: Any, timestep: Any, index: int | None) -> Level:
    """The level at which the network was evaluated, from the scheduler's own tables.

    timestep: as the scheduler was given it; index: of the step in its sigmas, where it has any.
    """
    kind = prediction_type(scheduler)
    if hasattr(scheduler, "sigmas") and index is not None:
        entry = float(scheduler.sigmas[index])
    else:
        kept = float(scheduler.alphas_cumprod[int(timestep)])
        entry = math.sqrt((1 - kept) / kept)
    if is_flow(scheduler):
        sigma = entry / (1 - entry) if entry < 1 else math.inf
        return Level(sigma, 1 - entry, entry, kind)
    signal = 1 / math.hypot(1, entry)
    return Level(entry, signal, entry * signal, kind)


def agrees(found: Level, seen: Array, sample: Array) -> bool:
    """Whether the network's input is the scheduler's sample as VE, VP or flow would show it.

    A scheduler that evaluates between its table's levels, or scales otherwise, does not agree.
    """
    ratio = float((seen * sample).sum() / (sample * sample).sum())
    ve = found.signal if found.prediction != "flow" else 1.0
    return min(abs(ratio - 1), abs(ratio / ve - 1)) < _NEAR
