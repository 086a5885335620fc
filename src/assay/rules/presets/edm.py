"""EDM: recipes."""

from __future__ import annotations

from assay.families.config import CompletionConfig, EdmConfig, SamplerConfig
from assay.models.config import UNetConfig
from assay.rules import genraven
from assay.rules.recipe import Data, Recipe, mini
from assay.training.config import FitConfig, OptimConfig, Schedule

_NETWORKS = {
    "x1": UNetConfig(width=64, blocks=1),
    "x2": UNetConfig(width=128, blocks=2),
    "x3": UNetConfig(width=192, blocks=3),
    "small": UNetConfig(width=64, blocks=1, dropout=0.0, amortised=True, lean=True),
    "tiny": UNetConfig(
        channels=1,
        width=32,
        blocks=1,
        attention=(3,),
        dropout=0.0,
        amortised=True,
        lean=True,
    ),
}


def edm(preset: str, conditional: bool = False) -> Recipe:
    """EDM over images by a U-Net of resolutions 9-3-1.

    x1, x2, x3: 64, 128 and 192 channels, 1, 2 and 3 blocks a level, as published: sigma_data 0.5
    although the data's deviation is 0.98, P_mean -1.2, P_std 1.2, one million steps of 256
    samples, Adam 2e-4 after a warm-up of 5,000 steps, EMA of a half-life of half a million
    samples; Heun in 18 steps, completion by replacement. Published, split 0, C3 by samples seen
    in training: x2 0.446 (0.16M), 0.532 (1.6M), 0.536 (16M); x3 0.410, 0.574, 0.572.
    small: 64 channels, sigma_data 1, amortised completion, for some hours on two cores. tiny:
    genraven-mini, occupancy alone, two minutes on one core; measured at 6,400 samples a rule:
    trained completion 0.39 (marginal fill 0.09), C3 0.008 at T = 1 (examples/scaling-mini.toml).
    """
    tiny = preset == "tiny"
    network = _NETWORKS[preset]
    if conditional:
        network = network.model_copy(update={"n_labels": len(genraven.RULES)})
    return Recipe(
        name="edm",
        preset=preset,
        family="edm",
        binding="occupancy" if tiny else "image",
        network=network.model_dump(mode="json"),
        options=_options(preset).model_dump(mode="json"),
        data=mini() if tiny else Data(),
        fit=_fit(preset),
    )


def _options(preset: str) -> EdmConfig:
    if preset in ("x1", "x2", "x3"):
        return EdmConfig(completion=CompletionConfig(kind="replacement", n_steps=50))
    if preset == "small":
        # the published noise in units of the data's deviation
        told = CompletionConfig(kind="amortised", n_steps=18)
        return EdmConfig(sigma_data=1.0, p_mean=-0.5, completion=told)
    return EdmConfig(
        sigma_data=1.0,
        p_mean=0.3,
        p_std=1.0,
        known=0.75,
        sampler=SamplerConfig(n_steps=18, sigma_min=0.05, sigma_max=40.0),
        completion=CompletionConfig(kind="amortised", n_steps=10),
    )


def _fit(preset: str) -> FitConfig:
    if preset in ("x1", "x2", "x3"):
        # gradients are clipped as everywhere here; the paper's were not
        warm = Schedule(warmup=5000, decay="none")
        optim = OptimConfig(lr=2e-4, betas=(0.9, 0.999), weight_decay=0.0, schedule=warm)
        half_life = 500_000 / 256
        return FitConfig(
            n_steps=1_000_000, batch=256, bf16=True, ema=0.5 ** (1 / half_life), optim=optim
        )
    steps, batch, warmup, ema = {
        "small": (20_000, 256, 200, 0.999),
        "tiny": (600, 128, 20, 0.98),
    }[preset]
    optim = OptimConfig(kind="muon", lr=2e-3, weight_decay=0.0, schedule=Schedule(warmup=warmup))
    return FitConfig(n_steps=steps, batch=batch, bf16=True, ema=ema, optim=optim)
