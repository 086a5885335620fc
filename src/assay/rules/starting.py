"""Going on from another model's weights under another recipe: other options, another schedule.

The recipe that results names the weights it starts from by their SHA-256, and how many streamed
samples they have learned: its own stream goes on after those, so that no sample is seen twice and
everything learned can still be made again from (seed, samples seen).
"""

from __future__ import annotations

import hashlib
from typing import Any

from assay.rules import recipe as recipes
from assay.rules.generator import Generator
from assay.rules.recipe import Data, Recipe


def started(recipe: Recipe, model: Generator) -> Recipe:
    """The recipe, started from a model's weights.

    ValueError where the model has another network, other codes or other data: then what was
    learned in all could not be told.
    """
    about, own = model.about, recipes.resolved(recipe)
    for name in ("family", "binding", "network"):
        if about.get(name) != getattr(own, name):
            raise ValueError(f"start: the model has another {name}; take its own recipe")
    learned = Data.model_validate(about["data"])
    plain = learned.model_copy(update={"first": 0})
    if plain != own.data.model_copy(update={"first": 0}):
        raise ValueError("start: the model has learned from other data (rules, seed or number)")
    first = int(about["samples_seen"]) if own.data.n_samples is None else 0
    data = own.data.model_copy(update={"first": first})
    return own.model_copy(update={"data": data, "start": digest(model.family)})


def digest(family: Any) -> str:
    """SHA-256 of a family's weights, in the order of their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(family.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def begin(family: Any, recipe: Recipe, model: Generator | None) -> None:
    """Put the weights that the recipe starts from into its family, before the first step.

    ValueError where they are not at hand, or others.
    """
    if recipe.start is None:
        if model is not None:
            raise ValueError("start: the recipe starts from its own first weights")
        return
    if model is None or digest(model.family) != recipe.start:
        raise ValueError("start: the recipe starts from other weights; name the model it did")
    family.load_state_dict(model.family.state_dict())
