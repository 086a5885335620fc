"""Trainings that start from another model's weights."""

import numpy as np
import pytest
import torch

from assay import cli, runs
from assay.rules import shipping, starting
from assay.rules import train as training
from assay.rules.recipe import batches, load_config
from assay.rules.recipes import get


def _recipe(n_steps=4, **options):
    values = get("settoken-tiny").model_dump(mode="json")
    values["fit"] |= {"n_steps": n_steps, "batch": 8}
    values["options"] |= options
    return load_config(values)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first"
    training.train(_recipe(), path)
    return path


def test_started_run_has_the_weights_and_goes_on_with_the_stream(first, tmp_path):
    model = shipping.load(first)
    recipe = starting.started(_recipe(3, set_weights=[2.0]), model)
    assert recipe.data.first == 32
    seen = [batches(_recipe())(step)["x"].numpy() for step in range(5)]
    assert (batches(recipe)(0)["x"].numpy() == seen[4]).all()
    made = training.train(recipe, tmp_path / "second", start=model)
    assert made.about["samples_seen"] == 32 + 24
    again = training.load(tmp_path / "second")
    assert again.about["samples_seen"] == 56
    assert again.about["start"] == starting.digest(shipping.load(first).family)


def test_started_run_resumes_without_the_model(first, tmp_path):
    model = shipping.load(first)
    recipe = starting.started(_recipe(6), model)
    whole = training.train(recipe, tmp_path / "whole", start=model)

    class Stopped(Exception):
        pass

    def stop(step):
        if step.number == 4:
            raise Stopped

    with pytest.raises(Stopped):
        training.train(recipe, tmp_path / "part", every=3, on_step=stop, start=model)
    rest = training.train(recipe, tmp_path / "part", every=3)
    assert starting.digest(rest.family) == starting.digest(whole.family)


def test_command_starts_and_refuses(first, tmp_path, capsys):
    runs.write_aside(tmp_path / "second.json", runs.dumps(_recipe(2)).encode())
    asked = ["rules", "train", str(tmp_path / "second.json"), "--out", str(tmp_path / "run")]
    assert cli.main([*asked, "--start", str(first)]) == 0
    assert cli.main([*asked, "--start", "settoken"]) == 2
    assert "another binding" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"seed": 1}, {"rules": [30, 31], "held_out": [34]}])
def test_other_data_are_refused(first, change):
    recipe = _recipe()
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=change)})
    with pytest.raises(ValueError, match="other data"):
        starting.started(recipe, shipping.load(first))


def test_other_weights_are_refused(first, tmp_path):
    recipe = starting.started(_recipe(), shipping.load(first))
    with pytest.raises(ValueError, match="other weights"):
        training.train(recipe, tmp_path / "run")


def test_set_weights_weigh_each_set():
    from assay.families.streams import Streams
    from assay.rules import genraven
    from assay.rules.recipe import build_family

    x, _ = genraven.generate(6, [0, 1], 3)
    values = get("settoken-small").model_dump(mode="json")
    losses = []
    for weights in ([], [1, 1, 1, 1], [1e9, 1, 1, 1]):
        values["options"]["set_weights"] = weights
        recipe = load_config(values)
        family = build_family(recipe).eval()
        batch = {"x": torch.from_numpy(_codes(recipe, x)), "label": None}
        losses.append(family.loss(batch, Streams(0)).detach().numpy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    assert not np.allclose(losses[0], losses[2])


def _codes(recipe, x):
    from assay.rules import bindings

    return bindings.get(recipe.binding).encode(x)
