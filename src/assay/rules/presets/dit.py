"""DiT: recipes, and what SiT's share with them."""

from __future__ import annotations

from assay.families.config import CompletionConfig, ContinuousConfig, DdpmConfig, SamplerConfig
from assay.models.config import DiTConfig
from assay.rules import genraven
from assay.rules.recipe import Data, Recipe, mini
from assay.training.config import FitConfig, OptimConfig, Schedule

NETWORKS = {
    "s": DiTConfig(width=384, layers=12, heads=6),
    "b": DiTConfig(width=768, layers=12, heads=12),
    "small": DiTConfig(width=256, layers=8, heads=4, amortised=True),
    "tiny": DiTConfig(
        channels=1, patch=3, width=64, layers=3, heads=4, amortised=True, gate=1.0, pairs=True
    ),
}


def dit(preset: str, conditional: bool = False) -> Recipe:
    """DDPM over images by a diffusion transformer, a token a cell.

    s, b: S/1 (32.5M parameters) and B/1 (129.5M) as published: linear betas, noise predicted,
    learned variance; a million steps of 256 samples, AdamW 1e-4 without decay, EMA 0.9999
    (gradients are clipped at norm 1, the paper's were not). DDIM in 100 steps, completion by
    replacement. Published, split 0: C3 0.602 (S) and 0.638 (B) from 1.6M samples, 0.620 and 0.627
    from 16M, raw weights. small: 8 layers of width 256, v predicted, amortised completion. tiny:
    genraven-mini, occupancy alone, a token a panel; measured on new samples without end: trained
    completion 0.37 (marginal fill 0.10), C3 0.004 at T = 1 (examples/tiny.toml).
    """
    if preset in ("s", "b"):
        options = DdpmConfig(
            spacing="linspace",
            variance="learned",
            completion=CompletionConfig(kind="replacement", n_steps=100),
        )
        return diffusion("dit", "ddpm", preset, options, {"learned_sigma": True}, conditional)
    options = DdpmConfig(
        prediction="v",
        known=0.8 if preset == "tiny" else 0.5,
        sampler=SamplerConfig(
            kind="heun", grid="exponential", n_steps=20, sigma_min=0.02, sigma_max=20.0
        ),
        completion=CompletionConfig(kind="amortised", n_steps=10, solver="heun"),
    )
    return diffusion("dit", "ddpm", preset, options, {}, conditional)


def diffusion(
    name: str,
    family: str,
    preset: str,
    options: ContinuousConfig,
    network: dict[str, bool],
    conditional: bool,
) -> Recipe:
    """The recipe of a family over this transformer, changed as ``network`` says."""
    n_labels = len(genraven.RULES) if conditional else 0
    chosen = NETWORKS[preset].model_copy(update={**network, "n_labels": n_labels})
    tiny = preset == "tiny"
    return Recipe(
        name=name,
        preset=preset,
        family=family,
        binding="occupancy" if tiny else "image",
        network=chosen.model_dump(mode="json"),
        options=options.model_dump(mode="json"),
        data=mini() if tiny else Data(),
        fit=_fit(preset),
    )


def _fit(preset: str) -> FitConfig:
    if preset in ("s", "b"):
        constant = Schedule(warmup=0, decay="none")
        optim = OptimConfig(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, schedule=constant)
        return FitConfig(n_steps=1_000_000, batch=256, bf16=True, ema=0.9999, optim=optim)
    steps, rate, matrices, warmup = {
        "small": (20_000, 2e-3, 0.02, 200),
        "tiny": (1200, 1e-2, 0.04, 20),
    }[preset]
    optim = OptimConfig(
        kind="muon", lr=rate, muon_lr=matrices, weight_decay=0.0, schedule=Schedule(warmup=warmup)
    )
    small = preset == "small"
    return FitConfig(
        n_steps=steps, batch=256, bf16=small, ema=0.999 if small else None, optim=optim
    )
