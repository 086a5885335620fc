"""A recipe: the whole configuration of a model, its data and its training; enough to repeat it.

It is saved whole in its Run. `rules.recipes` lists those there are, `rules.presets` has the
functions that make them. A new family adds a line to ``_FAMILIES``: how it is built, imported
only then.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from assay import refusal
from assay.families.config import (
    AutoregressiveConfig,
    DdpmConfig,
    EdmConfig,
    FlowConfig,
    MaskedConfig,
    PanelOrderConfig,
    RelationsConfig,
    SetTokenConfig,
)
from assay.models.config import (
    CellNetConfig,
    Config,
    DiTConfig,
    RelationNetConfig,
    SetNetConfig,
    TokenNetConfig,
    UNetConfig,
)
from assay.rules import bindings, genraven
from assay.training.config import FitConfig

VALIDATION_SEED = 1_000_003  # of samples never trained on, whatever the training seed
_BLOCK = 1 << 15  # training samples made again at a time


class Data(Config):
    """Samples to train on. ``per_rule`` None: streamed, every sample new.

    fingerprint: of the data set (`datasets`) whose train part is learned, instead of the first
    samples of the seed. first: how many streamed samples have been learned before, by the model
    that this training starts from.
    """

    rules: tuple[int, ...] = genraven.trained(0)
    held_out: tuple[int, ...] = genraven.SPLITS[0]
    per_rule: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    fingerprint: str | None = None
    first: int = Field(default=0, ge=0)

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

    def samples(self, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The first n samples to train on, made again in blocks (x, y).

        ValueError where they are a data set's that cannot be made again.
        """
        if self.fingerprint is None:
            for first in range(0, n, _BLOCK):
                size = min(_BLOCK, n - first)
                yield genraven.generate(size, self.rules, self.seed, first=first)
            return
        from assay.rules import datasets

        assert self.per_rule is not None
        split = genraven.SPLITS.index(self.held_out)
        yield from datasets.again(self.per_rule, split, self.seed, self.fingerprint)


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
    start: str | None = None  # SHA-256 of the weights that the training starts from instead

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
    "ddpm": (
        ("assay.families.ddpm", "Ddpm"),
        DdpmConfig,
        ("assay.models.dit", "DiT"),
        DiTConfig,
    ),
    "flow": (
        ("assay.families.flow", "Flow"),
        FlowConfig,
        ("assay.models.dit", "DiT"),
        DiTConfig,
    ),
    "autoregressive": (
        ("assay.families.autoregressive", "Autoregressive"),
        AutoregressiveConfig,
        ("assay.models.hf", "TokenNet"),
        TokenNetConfig,
    ),
    "masked": (
        ("assay.families.masked", "Masked"),
        MaskedConfig,
        ("assay.models.cellnet", "CellNet"),
        CellNetConfig,
    ),
    "panelorder": (
        ("assay.families.panelorder", "PanelOrder"),
        PanelOrderConfig,
        ("assay.models.cellnet", "CellNet"),
        CellNetConfig,
    ),
    "relations": (
        ("assay.families.relations", "Relations"),
        RelationsConfig,
        ("assay.models.relationnet", "RelationNet"),
        RelationNetConfig,
    ),
    "edm": (
        ("assay.families.edm", "Edm"),
        EdmConfig,
        ("assay.models.unet", "UNet"),
        UNetConfig,
    ),
}


def build_family(recipe: Recipe) -> Any:
    """The family of a recipe with its first weights. ValueError for a configuration refused."""
    recipe = resolved(recipe)
    family, family_config, network, network_config = _FAMILIES[recipe.family]
    net = _named(network)(network_config.model_validate(recipe.network), recipe.seed)
    return _named(family)(net, family_config.model_validate(recipe.options))


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with every default of its network and family filled in; ValueError as above."""
    if recipe.family not in _FAMILIES:
        raise ValueError(
            f"family {recipe.family!r} is unknown; choose from {', '.join(_FAMILIES)}"
        )
    _, family_config, _, network_config = _FAMILIES[recipe.family]
    network = network_config.model_validate(recipe.network).model_dump(mode="json")
    options = family_config.model_validate(recipe.options).model_dump(mode="json")
    return recipe.model_copy(update={"network": network, "options": options})


def _named(where: tuple[str, str]) -> Any:
    return getattr(importlib.import_module(where[0]), where[1])


def batches(
    recipe: Recipe, samples: tuple[np.ndarray, np.ndarray] | None = None
) -> Callable[[int], dict[str, Any]]:
    """batches(step): the step's samples as tensors "x" (codes) and "label" (rule id + 1).

    Streamed data are samples step * batch onwards of the seed; fixed data go through all samples
    in an order drawn anew for each epoch. samples: panels and rules of fixed data, where they are
    at hand (memory-mapped, say); else they are made again.
    """
    data, size = recipe.data, recipe.fit.batch
    encode = bindings.get(recipe.binding).encode

    def made(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        import torch

        return {"x": torch.from_numpy(encode(x)), "label": torch.from_numpy(y + 1)}

    if data.n_samples is None:
        return lambda step: made(
            *genraven.generate(size, data.rules, data.seed, first=data.first + step * size)
        )
    if samples is None:
        blocks = list(data.samples(data.n_samples))
        samples = np.concatenate([x for x, _ in blocks]), np.concatenate([y for _, y in blocks])
    x, y = samples

    def fixed(step: int) -> dict[str, Any]:
        lines = _epoch_lines(len(x), data.seed, step * size, size)
        return made(x[lines], y[lines])

    return fixed


def _epoch_lines(n: int, seed: int, start: int, size: int) -> np.ndarray:
    """Lines start..start+size-1 of epoch after epoch, each a permutation of n lines."""
    at = np.arange(start, start + size)
    return np.array([_order(n, seed, int(i // n))[i % n] for i in at])


@functools.lru_cache(2)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


def load_config(values: dict[str, Any]) -> Recipe:
    """The recipe from plain values, as a Run keeps it. ValueError in one line where refused."""
    return refusal.checked(Recipe, values)


def mini() -> Data:
    """genraven-mini, streamed: rules 30 to 39, of them 34 and 37 held out, occupancy alone."""
    held_out = genraven.MINI.held_out
    rules = tuple(r for r in genraven.MINI.rules if r not in held_out)
    return Data(rules=rules, held_out=held_out)
