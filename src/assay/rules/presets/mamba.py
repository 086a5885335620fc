"""Mamba on 81 tokens: recipes."""

from __future__ import annotations

from assay.models.config import TokenNetConfig
from assay.rules.presets.gpt2 import PLACES, autoregressive
from assay.rules.recipe import Recipe

SIZES = {
    "medium": TokenNetConfig(backbone="mamba2", width=768, layers=24, heads=24, state=32),
    "small": TokenNetConfig(
        backbone="mamba2", width=320, layers=10, heads=10, state=32, places=PLACES, std=0.2
    ),
    "tiny": TokenNetConfig(
        backbone="mamba2", width=64, layers=2, heads=2, state=32, places=PLACES, std=0.2
    ),
}
PUBLISHED = {"base": (768, 12), "medium": (768, 24), "big": (1152, 36), "huge": (1536, 48)}


def mamba(preset: str, conditional: bool = False) -> Recipe:
    """Mamba-2 with one softmax over the 968 tokens of a cell.

    medium: 24 layers of width 768, states of 32 numbers a channel, trained as in the paper.
    small: 10 layers of width 320, told rows, panels and cells, Muon, for some hours on two cores.
    tiny: genraven-mini, occupancy alone; measured on new samples without end: trained completion
    0.43 (marginal fill 0.10), C3 0.023 at T = 1 (examples/tiny.toml).
    """
    return autoregressive("mamba", SIZES[preset], "joint", preset, conditional)


def mamba_separate(preset: str, conditional: bool = False) -> Recipe:
    """Mamba with a softmax each for shape, size and colour, independent: the paper's own.

    base, medium, big, huge: as published, 16 numbers a channel, trained as GPT-2 there.
    Published, split 0, medium: completion over 40 rules 0.851 and C3 0.351 from 1.6M samples,
    0.794 and 0.036 from 16M. There is no tiny one: on a CPU a step of the scan takes several times
    as long as Mamba-2's.
    """
    width, layers = PUBLISHED[preset]
    network = TokenNetConfig(backbone="mamba", width=width, layers=layers, state=16)
    return autoregressive("mamba-separate", network, "separate", preset, conditional)
