"""Recipes: functions that return a whole configuration of a model, its data and its training.

A recipe is saved whole in its Run and is enough to repeat it. ``NAMES`` lists them all; each has
presets of the published or otherwise full size (``paper``), of a size for one machine (``small``)
and for a test of a minute (``tiny``, on genraven-mini).

A new family adds a line to ``_FAMILIES`` (how it is built, imported only then) and a recipe.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator

from assay.families.config import SetTokenConfig
from assay.models.config import Config, SetNetConfig, TransformerConfig
from assay.rules import bindings, genraven
from assay.training.config import FitConfig, OptimConfig, Schedule

VALIDATION_SEED = 1_000_003  # of samples never trained on, whatever the training seed


class Data(Config):
    """Samples to train on. ``per_rule`` None: streamed, every sample new."""

    rules: tuple[int, ...] = genraven.trained(0)
    held_out: tuple[int, ...] = genraven.SPLITS[0]
    per_rule: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("seed")
    @classmethod
    def _apart(cls, seed: int) -> int:
        if seed == VALIDATION_SEED:
            raise ValueError(f"seed {seed} is the validation samples'; take another")
        return seed

    @property
    def n_samples(self) -> int | None:
        """How many different samples there are; None where they are streamed."""
        return None if self.per_rule is None else self.per_rule * len(self.rules)


class Recipe(Config):
    """A family over a network, the codes it learns, the data, the loop."""

    kind: Literal["rules.train"] = "rules.train"
    name: str
    preset: str
    family: str
    binding: str
    network: dict[str, Any]  # the family's own network configuration, resolved
    options: dict[str, Any]  # the family's own, resolved
    data: Data = Data()
    fit: FitConfig = FitConfig()
    seed: int = Field(default=0, ge=0)  # of the first weights

    @field_validator("binding")
    @classmethod
    def _bound(cls, name: str) -> str:
        return bindings.get(name).name


# family -> (where its class is, its config, where its network's class is, that one's config);
# built as Family(Network(config, seed), config)
_FAMILIES = {
    "settoken": (
        ("assay.families.settoken", "SetTokens"),
        SetTokenConfig,
        ("assay.models.setnet", "SetNet"),
        SetNetConfig,
    ),
}


def build_family(recipe: Recipe) -> Any:
    """The family of a recipe with its first weights. ValueError for a configuration refused."""
    if recipe.family not in _FAMILIES:
        raise ValueError(
            f"family {recipe.family!r} is unknown; choose from {', '.join(_FAMILIES)}"
        )
    family, family_config, network, network_config = _FAMILIES[recipe.family]
    net = _named(network)(network_config.model_validate(recipe.network), recipe.seed)
    return _named(family)(net, family_config.model_validate(recipe.options))


def _named(where: tuple[str, str]) -> Any:
    return getattr(importlib.import_module(where[0]), where[1])


def batches(recipe: Recipe) -> Callable[[int], dict[str, Any]]:
    """batches(step): the step's samples as tensors "x" (codes) and "label" (rule id + 1).

    Streamed data are samples step * batch onwards of the seed; fixed data go through all samples
    in an order drawn anew for each epoch.
    """
    data, size = recipe.data, recipe.fit.batch
    encode = bindings.get(recipe.binding).encode

    def made(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        import torch

        return {"x": torch.from_numpy(encode(x)), "label": torch.from_numpy(y + 1)}

    if data.n_samples is None:
        return lambda step: made(
            *genraven.generate(size, data.rules, data.seed, first=step * size)
        )
    x, y = genraven.generate(data.n_samples, data.rules, data.seed)

    def fixed(step: int) -> dict[str, Any]:
        lines = _epoch_lines(len(x), data.seed, step * size, size)
        return made(x[lines], y[lines])

    return fixed


def _epoch_lines(n: int, seed: int, start: int, size: int) -> np.ndarray:
    """Lines start..start+size-1 of epoch after epoch, each a permutation of n lines."""
    at = np.arange(start, start + size)
    orders = {e: np.random.default_rng((seed, int(e))).permutation(n) for e in np.unique(at // n)}
    return np.array([orders[i // n][i % n] for i in at])


def load_config(values: dict[str, Any]) -> Recipe:
    """The recipe from plain values, as a Run keeps it. ValueError in one line where refused."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


# ---- set tokens ---------------------------------------------------------------------------------


def settoken(preset: str = "small") -> Recipe:
    """Set tokens, autoregressive over 36 sets (a structural prior), drawn panel by panel.

    paper: 12 layers of width 384, the size of the published GPT-2 S. small: 8 layers of width 256,
    for an hour or two on two cores. tiny: genraven-mini, occupancy alone, about a minute on one
    core; measured there: trained completion 0.98 (marginal fill 0.09), C3 0.66 at T = 1.
    """
    sizes = {
        "paper": TransformerConfig(width=384, layers=12, heads=6),
        "small": TransformerConfig(width=256, layers=8, heads=4),
        "tiny": TransformerConfig(width=64, layers=2, heads=2),
    }
    size = sizes[_preset(preset, sizes)]
    network = SetNetConfig(kind="trunk", tokens=size)
    options, fit, data = SetTokenConfig(), _settoken_fit(preset), Data()
    if preset == "tiny":
        network = SetNetConfig(kind="trunk", tokens=size, widths=(9,), rank=32)
        options, data = SetTokenConfig(orders=(0.5, 0.5, 0.0)), _mini()
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
    steps, batch, rate = {
        "paper": (20_000, 256, 1e-3),
        "small": (5_000, 256, 2e-3),
        "tiny": (600, 128, 4e-3),
    }[preset]
    schedule = Schedule(warmup=50 if preset == "tiny" else 200)
    optim = OptimConfig(kind="muon", lr=rate, schedule=schedule)
    return FitConfig(n_steps=steps, batch=batch, bf16=preset != "tiny", optim=optim)


def _mini() -> Data:
    mini = genraven.MINI
    rules = tuple(r for r in mini.rules if r not in mini.held_out)
    return Data(rules=rules, held_out=mini.held_out)


def _preset(preset: str, known: dict[str, Any]) -> str:
    if preset not in known:
        raise ValueError(f"preset {preset!r} is unknown; choose from {', '.join(known)}")
    return preset


RECIPES: dict[str, Callable[[str], Recipe]] = {"settoken": settoken}
PRESETS = ("paper", "small", "tiny")
NAMES = tuple(f"{name}-{preset}" for name in RECIPES for preset in PRESETS)


def get(name: str) -> Recipe:
    """The recipe of a name such as "settoken-small"; ValueError with the names there are."""
    if name not in NAMES:
        raise ValueError(f"recipe {name!r} is unknown; choose from {', '.join(NAMES)}")
    family, _, preset = name.rpartition("-")
    return RECIPES[family](preset)
