"""A diffusers pipeline as something that can be guided: what it is, how it is asked, its scale.

Pipelines take the guidance strength in one of three places: the argument ``guidance_scale``, the
argument ``true_cfg_scale`` (where guidance_scale means a distilled embedding), or, in modular
pipelines, the attribute ``guidance_scale`` of a guider. Most mean 1 + w by it, the original
formulation of some guiders means w. :func:`how_it_guides` measures which: it runs the pipeline
to its first guided step at a known setting and solves for the weight that was applied.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from assay.adapters import levels
from assay.adapters.calls import Parts
from assay.adapters.recording import Recorder
from assay.adapters.trajectory import Errors, Halves, Trajectory

_DENOISERS = ("unet", "transformer")


@dataclass(frozen=True)
class Subject:
    """A pipeline that can be audited; see :func:`subject`.

    pipe: the pipeline; knob: where it takes the guidance strength, "guidance_scale",
    "true_cfg_scale" or "guider"; labels: whether it is asked for classes, not prompts;
    options: further arguments of every call (num_inference_steps, height, ...).
    """

    pipe: Any
    parts: Parts
    knob: str
    labels: bool
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pipeline's class."""
        return type(self.pipe).__name__

    @property
    def scheduler(self) -> str:
        """The scheduler's class."""
        return type(self.parts.scheduler).__name__

    def ask(self, prompt: str, setting: float, seeds: Sequence[int]) -> Any:
        """The pipeline's output for one prompt and seeds, at a setting of its own scale."""
        n = len(seeds)
        # generators of the CPU: the same noise on every device
        draws = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        asked: dict[str, Any] = {"generator": draws, **self.options}
        if self.labels:
            asked["class_labels"] = [label_of(self.pipe, prompt)] * n
        else:
            asked["prompt"] = [prompt] * n
        known = accepted(self.pipe)
        if "output_type" in known:
            asked["output_type"] = "pt"
        if self.knob == "guider":
            with _setting(self.pipe.guider, setting):
                return self.pipe(**asked)
        if self.knob == "true_cfg_scale":
            asked.setdefault("negative_prompt", [" "] * n)
        return self.pipe(**asked, **{self.knob: setting})

    def record(
        self,
        prompt: str,
        setting: float,
        seeds: Sequence[int],
        halves: Halves,
        errors: Errors | None = None,
    ) -> Trajectory:
        """One recorded run of the pipeline at a setting of its own scale."""
        with quiet(self.pipe), Recorder(self.parts, len(seeds), halves, errors) as seen:
            seen.output = self.ask(prompt, setting, seeds)
        flags = getattr(seen.output, "nsfw_content_detected", None) or [False] * len(seeds)
        seen.flagged = np.array([bool(flag) for flag in flags])
        return seen


def accepted(pipe: Any) -> set[str]:
    """Names of the arguments a pipeline takes."""
    blocks = getattr(pipe, "blocks", None)
    if blocks is not None:
        return {name for name in blocks.input_names if name}
    return set(inspect.signature(type(pipe).__call__).parameters)


# ---- what a pipeline is ------------------------------------------------------------------------


def subject(pipe: Any, options: Mapping[str, Any] | None = None) -> Subject:
    """The pipeline with its parts and its place for the guidance strength.

    options: further arguments of every call; None entries are left out. ValueError for a
    pipeline without a hookable denoiser, without guidance, with a distilled guidance embedding,
    or with a scheduler whose noise levels cannot be read.
    """
    name = type(pipe).__name__
    denoiser = _denoiser(pipe)
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None or not hasattr(scheduler, "step"):
        raise ValueError(f"pipeline {name} has no scheduler with steps: nothing can be recorded")
    knob = _knob(pipe, denoiser)
    levels.check(scheduler)
    known = accepted(pipe)
    given = {k: v for k, v in (options or {}).items() if v is not None}
    strange = sorted(set(given) - known)
    if strange:
        raise ValueError(f"pipeline {name} does not take {', '.join(strange)}: leave it out")
    if not {"prompt", "class_labels"} & known:
        raise ValueError(f"pipeline {name} takes neither prompts nor class labels")
    parts = Parts(denoiser, scheduler, getattr(pipe, "vae", None))
    return Subject(pipe, parts, knob, "prompt" not in known, given)


def _denoiser(pipe: Any) -> torch.nn.Module:
    for name in _DENOISERS:
        found = getattr(pipe, name, None)
        if isinstance(found, torch.nn.Module):
            return found
    raise ValueError(
        f"pipeline {type(pipe).__name__} has no denoiser that can be hooked: it needs a torch "
        f"module called {' or '.join(_DENOISERS)}"
    )


def _knob(pipe: Any, denoiser: Any) -> str:
    """Where the guidance strength goes in; ValueError where it goes nowhere or is distilled."""
    name, known = type(pipe).__name__, accepted(pipe)
    config = getattr(denoiser, "config", {})
    distilled = config.get("guidance_embeds") or config.get("time_cond_proj_dim") is not None
    if distilled:
        raise ValueError(
            f"pipeline {name} has a distilled guidance embedding: its network takes the scale as "
            "an input and makes no unconditional prediction, so there is no w to audit"
        )
    guider = getattr(pipe, "guider", None)
    if guider is not None:
        if not hasattr(guider, "guidance_scale"):
            raise ValueError(f"guider {type(guider).__name__} has no guidance_scale to vary")
        return "guider"
    for knob in ("true_cfg_scale", "guidance_scale"):
        if knob in known:
            return knob
    raise ValueError(
        f"pipeline {name} has no guidance: it takes no guidance_scale and has no guider"
    )


# ---- prompts and labels ------------------------------------------------------------------------


def label_of(pipe: Any, prompt: str) -> int:
    """The class of a prompt: its number, or its name in the pipeline's list.

    ValueError for a name that the pipeline does not know or a number without a class.
    """
    names = getattr(pipe, "labels", None) or {}
    if prompt in names:
        return int(names[prompt])
    known = f", or one of its {len(names)} names" if names else ""
    most = int(getattr(pipe.transformer.config, "num_embeds_ada_norm", 0) or 0)
    if not prompt.strip().isdecimal() or not 0 <= int(prompt) < most:
        raise ValueError(
            f"class {prompt!r} is unknown to {type(pipe).__name__}: give a number from 0 to "
            f"{most - 1}{known}, one a line"
        )
    return int(prompt)


# ---- for a while ------------------------------------------------------------------------------


@contextmanager
def _setting(guider: Any, setting: float) -> Any:
    """The guider at a setting, for a while."""
    before = guider.guidance_scale
    guider.guidance_scale = setting
    try:
        yield
    finally:
        guider.guidance_scale = before


@contextmanager
def quiet(pipe: Any) -> Any:
    """The pipeline without bars of its own, for a while."""
    holders = [pipe, *_loops(getattr(pipe, "_blocks", None))]
    before = [dict(getattr(h, "_progress_bar_config", None) or {}) for h in holders]
    for holder, config in zip(holders, before, strict=True):
        holder._progress_bar_config = {**config, "disable": True}
    try:
        yield
    finally:
        for holder, config in zip(holders, before, strict=True):
            holder._progress_bar_config = config


def _loops(blocks: Any) -> list[Any]:
    """The blocks of a modular pipeline that draw bars, at any depth."""
    inner = getattr(blocks, "sub_blocks", None) or {}
    return [
        loop
        for block in inner.values()
        for loop in ([block] if hasattr(block, "progress_bar") else []) + _loops(block)
    ]
