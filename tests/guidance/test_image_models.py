"""Shipped denoisers: better than every affine one, the same in numpy and torch, files checked."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from assay.core import solver
from assay.core.guidance import Guided
from assay.guidance.config import Simulation
from assay.guidance.images import data as image_data
from assay.guidance.images import models as image_models
from assay.guidance.pairs import measure


@pytest.fixture(scope="module")
def model():
    return image_models.load("digits8")


def test_shipped_denoiser_beats_the_best_affine_one_on_heldout_images(model):
    rows = {row["sigma"]: row for row in image_models.losses(model, "heldout")}
    for sigma in (0.2, 0.5, 1.0):
        row = rows[sigma]
        assert row["uncond"] < row["linear_uncond"]
        assert row["cond"] < row["linear_cond"]
        assert row["cond"] < row["uncond"]
    assert rows[0.5]["uncond_high"] < rows[0.5]["linear_uncond_low"]  # by far
    shipped = [row for row in model.about["rows"] if row["part"] == "heldout"]
    for row in shipped:  # the figures in the .json are those of this very file
        assert row["cond"] == pytest.approx(rows[row["sigma"]]["cond"], rel=1e-4)


def test_a_constant_is_worse_than_the_shipped_denoiser_at_any_noise(model):
    part = image_data.load("digits8").heldout
    constant = np.mean((part.x - image_data.load("digits8").train.x.mean(axis=0)) ** 2)
    assert all(row["uncond"] < constant for row in image_models.losses(model, "heldout"))


def test_numpy_torch_and_shapes_agree(model):
    x = np.random.default_rng(0).standard_normal((6, 64)) * 2
    cond = model.cond(3)
    flat = cond(x, 2.0)
    assert isinstance(flat, np.ndarray)
    assert flat.dtype == x.dtype
    image = cond(torch.from_numpy(x).reshape(6, 1, 8, 8), torch.full((6,), 2.0))
    assert image.shape == (6, 1, 8, 8)
    np.testing.assert_allclose(image.reshape(6, 64).numpy(), flat, atol=1e-5)
    each = model.cond(np.array([3, 3, 3, 1, 1, 1]))(x, 2.0)
    np.testing.assert_allclose(each[:3], flat[:3], atol=1e-5)
    np.testing.assert_allclose(each[3:], model.cond(1)(x, 2.0)[3:], atol=1e-5)
    assert cond.dim == 64


def test_denoisers_go_into_solver_and_guidance(model):
    guided = Guided(model.cond(7), model.uncond(), 1.0)
    x = 10 * np.random.default_rng(1).standard_normal((4, 64))
    last = solver.last(solver.solve(guided, x, np.geomspace(10, 0.05, 8)))
    assert last.x.shape == (4, 64)
    assert np.abs(last.x).max() < 3


@pytest.mark.parametrize("digit", [10, -1, 1.5])
def test_another_digit_is_refused(model, digit):
    with pytest.raises(ValueError, match="must be 0 to 9"):
        model.cond(digit)


def test_unknown_and_damaged_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'digits9' is unknown; choose from .*digits8"):
        image_models.load("digits9")
    for end in ("json", "safetensors"):
        shutil.copy(image_models.FOLDER / f"digits8.{end}", tmp_path / f"other.{end}")
    file = tmp_path / "other.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"not the file that its .json describes"):
        image_models.load(file)
    (tmp_path / "other.json").unlink()
    with pytest.raises(ValueError, match="cannot be read with its"):
        image_models.load(tmp_path / "other.safetensors")


def test_training_repeats_itself_averages_and_round_trips(tmp_path):
    recipe = image_models.digits8()
    fit = recipe.fit.model_copy(update={"n_steps": 3, "batch": 16})
    recipe = recipe.model_copy(update={"fit": fit})
    files = []
    for name in ("a", "b"):
        family = image_models.build(recipe)
        assert [step.number for step in image_models.train(family, recipe)] == [1, 2, 3]
        files.append(image_models.save(tmp_path / f"{name}.safetensors", family, recipe, []))
    assert files[0].read_bytes() == files[1].read_bytes()
    loaded = image_models.load(files[0])
    assert loaded.recipe == recipe
    assert loaded.about["samples_seen"] == 48
    weight = family.state_dict()["network.embed.weight"]
    torch.testing.assert_close(
        loaded.family.state_dict()["network.embed.weight"], weight.bfloat16().float()
    )


def test_moved_images_stay_whole():
    recipe = image_models.digits8().model_copy(update={"shift": 1})
    batch = image_models.batches(recipe)(0)
    assert batch["x"].shape == (256, 1, 8, 8)
    assert set(batch["label"].tolist()) <= set(range(1, 11))
    train = image_data.load("digits8").train.x
    padded = np.pad(train, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    one = batch["x"][0, 0].numpy()
    places = [(a, b) for a in range(3) for b in range(3)]
    assert any((padded[:, a : a + 8, b : b + 8] == one).all((1, 2)).any() for a, b in places)


def test_shipped_models_load_without_extras():
    code = (
        "import sys; sys.modules['mlxtend'] = sys.modules['diffusers'] = None; "
        "sys.modules['transformers'] = None; import numpy as np; "
        "from assay.guidance.images import models as m; "
        "assert 'torch' not in sys.modules and 'digits8' in m.names(); "
        "[m.load(n).uncond()(np.zeros((1, *m.load(n).shape)), 1.0) for n in m.names()]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_measure_takes_the_pair_as_it_is(model):
    three = image_data.load("digits8").heldout.of(3).reshape(-1, 64)
    simulation = Simulation(n=48, steps=12, sigma_min=0.02)
    row = measure(model.cond(3), model.uncond(), 1.0, data=three, simulation=simulation)
    far = measure(model.cond(3), model.uncond(), 12.0, data=three, simulation=simulation)
    assert row["guidance_scale"] == 2
    assert row["coverage"] > 0.5
    assert far["coverage"] < row["coverage"]
    assert far["knn_distance"] > row["knn_distance"]
