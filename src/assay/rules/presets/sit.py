"""SiT: recipes."""

from __future__ import annotations

from assay.families.config import CompletionConfig, FlowConfig, SamplerConfig
from assay.rules.presets.dit import diffusion
from assay.rules.recipe import Recipe


def sit(preset: str, conditional: bool = False) -> Recipe:
    """The linear flow over images by DiT's transformer, a token a cell.

    s, b: S/1 (32.5M parameters) and B/1 (129.4M) as published: velocity predicted, t uniform,
    trained as DiT's; Euler in 50 steps, completion by replacement. Published, split 0: C3 0.766
    (S) and 0.771 (B) from 1.6M samples, 0.754 and 0.785 from 16M, by an adaptive solver
    (``tolerance``) on raw weights. small: 8 layers of width 256, amortised completion. tiny:
    genraven-mini, occupancy alone, a token a panel; measured at 6,400 samples a rule: trained
    completion 0.48 (marginal fill 0.09), C3 0.003 at T = 1 (examples/scaling-mini.toml).
    """
    if preset in ("s", "b"):
        options = FlowConfig(
            sampler=SamplerConfig(kind="euler", grid="flow", n_steps=50),
            completion=CompletionConfig(kind="replacement", n_steps=50),
        )
        return diffusion("sit", "flow", preset, options, {}, conditional)
    options = FlowConfig(
        skip=True,
        time="logit-normal",
        time_mean=0.8,
        time_std=1.2,
        known=0.8 if preset == "tiny" else 0.5,
        sampler=SamplerConfig(kind="heun", grid="flow", n_steps=20),
        completion=CompletionConfig(kind="amortised", n_steps=10, solver="heun"),
    )
    return diffusion("sit", "flow", preset, options, {}, conditional)
