"""Set tokens: recipes."""

from __future__ import annotations

from assay.families.config import SetTokenConfig
from assay.models.config import SetNetConfig, TransformerConfig
from assay.rules import genraven
from assay.rules.recipe import Data, Recipe, mini
from assay.training.config import FitConfig, OptimConfig, Schedule


def settoken(preset: str, conditional: bool = False) -> Recipe:
    """Set tokens, autoregressive over 36 sets (a structural prior), drawn panel by panel.

    paper: 12 layers of width 384, the size of the published GPT-2 S. small: 8 layers of width 256,
    for an hour or two on two cores; after 1.97 M samples (--extend) C3 0.720 at T = 1 and trained
    completion 0.906. tiny: genraven-mini, occupancy alone, about a minute on one
    core; measured there: trained completion 0.98 (marginal fill 0.10), C3 0.68 at T = 1.
    """
    sizes = {
        "paper": TransformerConfig(width=384, layers=12, heads=6),
        "small": TransformerConfig(width=256, layers=8, heads=4),
        "tiny": TransformerConfig(width=64, layers=2, heads=2),
    }
    size = sizes[preset]
    network = SetNetConfig(kind="chain", trunk=size)
    options, fit, data = SetTokenConfig(), _settoken_fit(preset), Data()
    if preset == "tiny":
        network = SetNetConfig(kind="trunk", trunk=size, widths=(9,), rank=32)
        options, data = SetTokenConfig(orders=(0.5, 0.5, 0.0)), mini()
    if conditional:
        network = network.model_copy(update={"n_labels": len(genraven.RULES)})
    return Recipe(
        name="settoken",
        preset=preset,
        family="settoken",
        binding="positions" if preset == "tiny" else "sets",
        network=network.model_dump(mode="json"),
        options=options.model_dump(mode="json"),
        data=data,
        fit=fit,
    )


def _settoken_fit(preset: str) -> FitConfig:
    steps, batch, rate, muon = {
        "paper": (20_000, 256, 1e-3, 0.02),
        "small": (4_700, 256, 2e-3, 0.04),
        "tiny": (600, 128, 4e-3, 0.02),
    }[preset]
    schedule = Schedule(warmup=50 if preset == "tiny" else 200)
    optim = OptimConfig(kind="muon", lr=rate, muon_lr=muon, schedule=schedule)
    return FitConfig(n_steps=steps, batch=batch, bf16=preset != "tiny", optim=optim)
