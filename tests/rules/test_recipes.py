"""Recipes: whole, light, built; batches are functions of the step."""

import json
import subprocess
import sys

import numpy as np
import pytest

from assay import runs
from assay.rules import genraven, recipes, settokens
from assay.rules.recipe import VALIDATION_SEED, Data, batches, build_family, load_config


@pytest.mark.parametrize("name", recipes.NAMES)
def test_recipes_survive_json_and_say_what_they_are(name):
    recipe = recipes.get(name)
    assert f"{recipe.name}-{recipe.preset}" == name
    assert load_config(json.loads(runs.dumps(recipe))) == recipe
    assert not set(recipe.data.rules) & set(recipe.data.held_out)


@pytest.mark.parametrize("name", [n for n in recipes.NAMES if n.endswith(("-small", "-tiny"))])
def test_recipes_are_built_and_learn_from_their_batches(name):
    recipe = recipes.get(name)
    recipe = recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"batch": 4})})
    family = build_family(recipe)
    batch = batches(recipe)(0)
    assert tuple(batch["x"].shape) == (4, *family.shape)
    loss = family.loss(batch, family.streams(0))
    assert loss.shape == (4,)
    assert loss.isfinite().all()
    if recipe.preset == "small":  # a model of at most 25 MB in two bytes a number
        assert sum(p.numel() for p in family.parameters()) < 12_500_000


def test_streamed_batches_are_the_samples_of_the_seed_in_turn():
    recipe = recipes.get("settoken-small")
    made = batches(recipe)
    x, y = genraven.generate(recipe.fit.batch, recipe.data.rules, recipe.data.seed,
                             first=7 * recipe.fit.batch)  # fmt: skip
    np.testing.assert_array_equal(made(7)["x"].numpy(), settokens.encode(x))
    np.testing.assert_array_equal(made(7)["label"].numpy(), y + 1)


def test_fixed_batches_go_through_all_samples_each_epoch():
    data = Data(per_rule=4)
    recipe = recipes.get("settoken-small").model_copy(update={"data": data})
    recipe = recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"batch": 20})})
    assert data.n_samples == 140
    x, _ = genraven.generate(140, data.rules, data.seed)
    wanted = sorted(map(bytes, settokens.encode(x).astype(np.int64)))
    made = batches(recipe)
    epochs = [
        np.concatenate([made(step)["x"].numpy() for step in range(7 * e, 7 * e + 7)])
        for e in range(2)
    ]
    for epoch in epochs:
        assert sorted(map(bytes, epoch)) == wanted
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(made(9)["x"].numpy(), epochs[1][40:60])


def test_recipes_and_evaluation_never_import_torch():
    code = (
        "import sys, assay.rules.recipes as r, assay.rules.evaluate, assay.rules.train; "
        "[r.get(n) for n in r.NAMES]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_is_unknown_is_refused():
    with pytest.raises(ValueError, match="settoken-tiny"):
        recipes.get("settoken")
    with pytest.raises(ValueError, match="settoken-huge"):
        recipes.get("settoken-huge")
    with pytest.raises(ValueError, match="validation"):
        Data(seed=VALIDATION_SEED)
    values = recipes.get("settoken-tiny").model_dump()
    with pytest.raises(ValueError, match="colour"):
        load_config({**values, "colour": 1})
    with pytest.raises(ValueError, match=r"fit\.batch"):
        load_config({**values, "fit": {"batch": 0}})
    with pytest.raises(ValueError, match="family 'gan'"):
        build_family(load_config({**values, "family": "gan"}))
