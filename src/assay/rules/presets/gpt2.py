"""GPT-2 on 81 tokens: recipes, one a head."""

from __future__ import annotations

from typing import Literal

from assay.families.config import AutoregressiveConfig, HeadConfig
from assay.models.config import TokenNetConfig
from assay.rules import genraven
from assay.rules.recipe import Data, Recipe, mini
from assay.training.config import FitConfig, OptimConfig, Schedule

# rate, warm-up and decay as published; what the paper leaves open is AdamW's own
PUBLISHED = OptimConfig(
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=0.01,
    schedule=Schedule(warmup=100, hold=0.0, floor=0.0),
)
PLACES = (3, 3, 9)  # rows, panels, cells
SIZES = {
    "s": TokenNetConfig(width=384, layers=12, heads=6, dropout=0.1),
    "b": TokenNetConfig(width=768, layers=12, heads=12, dropout=0.1),
    "m": TokenNetConfig(width=768, layers=24, heads=12, dropout=0.1),
    "small": TokenNetConfig(width=320, layers=8, heads=5, places=PLACES, std=0.2),
    "tiny": TokenNetConfig(width=64, layers=3, heads=2, places=PLACES, std=0.2),
}
Kind = Literal["joint", "separate", "chain"]


def gpt2(preset: str, conditional: bool = False) -> Recipe:
    """GPT-2 with one softmax over the 968 tokens of a cell.

    s, b, m: as published, 12 layers of width 384, 12 of 768 and 24 of 768, one million steps of 64
    samples, AdamW 1e-4, dropout 0.1. The authors' later figures with this head, split 0, S and M:
    completion over 40 rules 0.760 and 0.876, C3 0.963 and 0.980 from 16M samples; 0.800 and 0.876,
    0.953 and 0.966 from 1.6M. small: 8 layers of width 320, told rows, panels and cells, Muon, for
    some hours on two cores. tiny: genraven-mini, occupancy alone; measured at 6,400 samples a
    rule, two seeds far apart: trained completion 0.35 and 0.64 (marginal fill 0.09), C3 0.04 and
    0.09 at T = 1 (examples/scaling-mini.toml).
    """
    return autoregressive("gpt2", SIZES[preset], "joint", preset, conditional)


def gpt2_separate(preset: str, conditional: bool = False) -> Recipe:
    """GPT-2 with a softmax each for shape, size and colour, independent: the paper's own.

    s, b, m, small: as `gpt2`. Published, split 0, S and M: completion over 40 rules 0.773 and
    0.790, but C3 0.040 and 0.035 from 16M samples; 0.733 and 0.826, 0.087 and 0.121 from 1.6M.
    """
    return autoregressive("gpt2-separate", SIZES[preset], "separate", preset, conditional)


def gpt2_chain(preset: str, conditional: bool = False) -> Recipe:
    """GPT-2 with shape, then size given shape, then colour given both; presets as `gpt2`."""
    return autoregressive("gpt2-chain", SIZES[preset], "chain", preset, conditional)


def autoregressive(
    name: str, network: TokenNetConfig, kind: Kind, preset: str, conditional: bool
) -> Recipe:
    """The recipe of a network over tokens and a head, which GPT-2 and Mamba share."""
    sizes = (2,) if preset == "tiny" else (8, 11, 11)
    labels = len(genraven.RULES) if conditional else 0
    network = network.model_copy(update={"n_labels": labels, "sizes": sizes})
    head = HeadConfig(kind=kind, sizes=sizes)
    return Recipe(
        name=name,
        preset=preset,
        family="autoregressive",
        binding="cells" if preset == "tiny" else "joint",
        network=network.model_dump(mode="json"),
        options=AutoregressiveConfig(head=head).model_dump(mode="json"),
        data=mini() if preset == "tiny" else Data(),
        fit=fit(preset),
    )


def fit(preset: str) -> FitConfig:
    """The loop of a preset; published but for "small" and "tiny"."""
    if preset not in ("small", "tiny"):
        return FitConfig(n_steps=1_000_000, batch=64, bf16=True, optim=PUBLISHED)
    steps, batch, warmup = {"small": (4_000, 256, 200), "tiny": (300, 128, 30)}[preset]
    optim = OptimConfig(kind="muon", lr=3e-3, schedule=Schedule(warmup=warmup))
    return FitConfig(n_steps=steps, batch=batch, bf16=True, optim=optim)
