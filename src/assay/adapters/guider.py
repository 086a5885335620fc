"""A guidance law of ours inside a modular diffusers pipeline.

    from assay.adapters.guider import LawGuidance
    from assay.guidance import laws

    law = laws.build("interval", 3.0, low=0.3, high=3.0)
    pipe.update_components(guider=LawGuidance(law, pipe.scheduler))

A law is a float w or any callable (x, sigma, d_cond, d_uncond, memory) -> (denoised, memory), in
the coordinate x = x0 + sigma noise; guided = (1+w) cond - w uncond. The guider reads x from what
the network is shown and sigma from the scheduler's tables (:mod:`assay.adapters.levels`), turns
both predictions into denoised values, and what the law answers back into a prediction. Importing
this module imports diffusers, which takes seconds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

from assay.adapters import calls, levels
from assay.core.guidance import Law

_LEAST = 1e-6  # signal at which a flow's start from pure noise is handed to the law


class LawGuidance(BaseGuidance):
    """Guider that lets a law combine the two predictions of every step.

    law: a float w, or a callable as above; its memory starts anew with every image. scheduler:
    the pipeline's own, for the noise levels. ValueError for a scheduler without them.
    """

    _input_predictions: ClassVar[list[str]] = ["pred_cond", "pred_uncond"]

    def __init__(self, law: Law, scheduler: Any, enabled: bool = True):
        super().__init__(enabled=enabled)
        levels.check(scheduler)
        self.register_to_config(enabled=enabled)
        self.law, self.scheduler = law, scheduler
        self._memory: Any = None
        self._seen: torch.Tensor | None = None
        self._hook: Any = None

    def new(self, **kwargs: Any) -> LawGuidance:
        """A guider of the same law and scheduler, with those given in their place."""
        same = {"law": self.law, "scheduler": self.scheduler, "enabled": self._enabled}
        return type(self)(**{**same, **kwargs})

    # ---- what a pipeline calls -----------------------------------------------------------------

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Begin a step; the first one forgets the law's memory."""
        super().set_state(step, num_inference_steps, timestep)
        if step == 0:
            self._memory = None

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Watch what the network is shown in the call that comes."""
        super().prepare_models(denoiser)
        self.cleanup_models(denoiser)
        self._hook = denoiser.register_forward_pre_hook(self._watch, with_kwargs=True)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        """Watch no longer."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _watch(self, module: Any, args: Any, kwargs: Any) -> None:
        self._seen = next(iter(calls.bound(module, args, kwargs).values()))

    def prepare_inputs(self, data: Any) -> list[Any]:
        """Inputs of the conditional and of the unconditional call."""
        return [self._prepare_batch(data, i, name) for i, name in self._asked()]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        """The same from a block's state."""
        return [
            self._prepare_batch_from_block_state(input_fields, data, i, name)
            for i, name in self._asked()
        ]

    def _asked(self) -> list[tuple[int, str]]:
        return list(enumerate(self._input_predictions[: self.num_conditions]))

    def forward(self, pred_cond: torch.Tensor, pred_uncond: torch.Tensor | None = None) -> Any:
        """The prediction of the law's denoised value."""
        if pred_uncond is None:
            return GuiderOutput(pred=pred_cond, pred_cond=pred_cond, pred_uncond=None)
        assert self._seen is not None, "prepare_models was not called"
        level = self._level()
        exact = pred_cond.dtype if pred_cond.dtype == torch.float64 else torch.float32
        seen, cond, uncond = (v.to(exact) for v in (self._seen, pred_cond, pred_uncond))
        both = level.denoised(seen, cond), level.denoised(seen, uncond)
        if callable(self.law):
            near = level if level.signal >= _LEAST else _just_below(level)
            guided, self._memory = self.law(near.x(seen), near.sigma, *both, self._memory)
        else:
            guided = both[0] + self.law * (both[0] - both[1])
        pred = level.predicted(seen, guided).to(pred_cond.dtype)
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _level(self) -> levels.Level:
        index = getattr(self.scheduler, "step_index", None)
        if index is None and hasattr(self.scheduler, "index_for_timestep"):
            index = self.scheduler.index_for_timestep(self._timestep)
        return levels.level(self.scheduler, self._timestep, index)

    @property
    def is_conditional(self) -> bool:
        """Whether the call that comes is the conditional one."""
        return self._count_prepared == 1

    @property
    def num_conditions(self) -> int:
        """Calls of the network a step."""
        return 2 if self._enabled else 1


def _just_below(level: levels.Level) -> levels.Level:
    """Pure noise as the largest finite noise level that a law is asked at."""
    signal = _LEAST
    return dataclasses.replace(level, sigma=(1 - signal) / signal, signal=signal, noise=1 - signal)
