"""The recipes there are: NAME-PRESET, such as "settoken-small".

Each has presets of the published or otherwise full size, of a size for one machine (``small``) and
for a test of a minute or two (``tiny``, on genraven-mini). A new one adds a line to ``RECIPES``:
its function from `rules.presets` and the presets that this knows. A function takes the preset and
whether the model is conditional on the rule (40 labels, dropped 10 % of the time in training).
"""

from __future__ import annotations

from collections.abc import Callable

from assay.rules.presets.dit import dit
from assay.rules.presets.edm import edm
from assay.rules.presets.gpt2 import gpt2, gpt2_chain, gpt2_separate
from assay.rules.presets.mamba import mamba, mamba_separate
from assay.rules.presets.masked import masked
from assay.rules.presets.panelorder import panelorder
from assay.rules.presets.relations import relations
from assay.rules.presets.settoken import settoken
from assay.rules.presets.sit import sit
from assay.rules.recipe import Recipe

RECIPES: dict[str, tuple[Callable[[str, bool], Recipe], tuple[str, ...]]] = {
    "settoken": (settoken, ("paper", "small", "tiny")),
    "relations": (relations, ("small", "tiny")),
    "dit": (dit, ("s", "b", "small", "tiny")),
    "sit": (sit, ("s", "b", "small", "tiny")),
    "gpt2": (gpt2, ("s", "b", "m", "small", "tiny")),
    "gpt2-separate": (gpt2_separate, ("s", "b", "m", "small")),
    "gpt2-chain": (gpt2_chain, ("s", "b", "m", "small")),
    "mamba": (mamba, ("medium", "small", "tiny")),
    "mamba-separate": (mamba_separate, ("base", "medium", "big", "huge")),
    "edm": (edm, ("x1", "x2", "x3", "small", "tiny")),
    "masked": (masked, ("paper", "small", "tiny")),
    "panelorder": (panelorder, ("paper", "small", "tiny")),
}
NAMES = tuple(f"{name}-{preset}" for name, (_, presets) in RECIPES.items() for preset in presets)


def get(name: str, conditional: bool = False) -> Recipe:
    """The recipe of a name such as "settoken-small"; ValueError with the names there are."""
    if name not in NAMES:
        raise ValueError(f"recipe {name!r} is unknown; choose from {', '.join(NAMES)}")
    family, _, preset = name.rpartition("-")
    return RECIPES[family][0](preset, conditional)
