"""Training in a Run: stopped and gone on with, loaded, evaluated; tiny recipes learn (slow)."""

import json

import numpy as np
import pytest

from assay import runs
from assay.rules import evaluate, genraven, recipes, train
from assay.training import checkpoint


def quick(n_steps=9, **options):
    recipe = recipes.get("settoken-tiny")
    network = {**recipe.network, "rank": 4, "components": 2}
    network["trunk"] = {**network["trunk"], "width": 16, "layers": 1, "heads": 2}
    fit = recipe.fit.model_copy(update={"n_steps": n_steps, "batch": 16, **options})
    return recipe.model_copy(update={"network": network, "fit": fit})


def rows_of(path):
    return [
        {k: v for k, v in row.items() if k != "samples_per_s"} for row in runs.Run.read(path).rows
    ]


class Stop(Exception):
    pass


def stop_at(number):
    def on_step(step):
        if step.number == number:
            raise Stop

    return on_step


def test_stopped_training_goes_on_bit_for_bit(tmp_path):
    train.train(quick(), tmp_path / "once", every=2, log_every=3)
    for number in (1, 4, 5, 8):
        with pytest.raises(Stop):
            train.train(quick(), tmp_path / "often", 2, 3, stop_at(number))
    train.train(quick(), tmp_path / "often", every=2, log_every=3)
    assert rows_of(tmp_path / "once") == rows_of(tmp_path / "often")
    assert [row["step"] for row in rows_of(tmp_path / "once")] == [1, 3, 6, 9]
    files = [(tmp_path / name / train.CHECKPOINT).read_bytes() for name in ("once", "often")]
    assert files[0] == files[1]
    train.train(quick(), tmp_path / "once", every=2, log_every=3)  # nothing left to do
    assert (tmp_path / "once" / train.CHECKPOINT).read_bytes() == files[0]


def test_loaded_models_draw_what_the_trained_one_draws(tmp_path):
    made = train.train(quick(ema=0.5), tmp_path / "run")
    raw, average = (train.load(tmp_path / "run", averaged=flag) for flag in (False, True))
    expected = made.sample(20, 3)
    np.testing.assert_array_equal(raw.sample(20, 3), expected)
    assert average.about["averaged"]
    assert train.load(tmp_path / "run").about["averaged"]
    assert (average.sample(20, 3) != expected).any()
    assert raw.about["samples_seen"] == 9 * 16
    rows = evaluate.evaluate(raw, evaluate.EvaluateConfig(n=20, n_any_panel=5))
    assert rows[0]["n_trained"] == 9 * 16
    assert rows[0]["nfe"] == 9
    json.dumps(runs.plain(rows), allow_nan=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_compiled_blocks_learn_the_same(tmp_path):
    """Float32: losses of 12 steps agree to rounding; what was compiled draws as before."""
    runs_of = []
    for flag in (False, True):
        recipe = quick(12)
        fit = recipe.fit.model_copy(update={"compile": flag, "bf16": False})
        folder = tmp_path / str(flag)
        model = train.train(recipe.model_copy(update={"fit": fit}), folder, log_every=1)
        runs_of.append([r["loss"] for r in runs.Run.read(folder).rows])
    assert model.sample(10).shape == (10, 3, 3, 9, 3)
    assert len(runs_of[0]) == 12
    assert runs_of[1] == pytest.approx(runs_of[0], rel=1e-4)


def test_minutes_fix_the_steps_once():
    recipe = train.timed(quick(), minutes=0.1)
    assert recipe.fit.n_steps > 1
    assert recipe.model_copy(update={"fit": quick().fit}) == quick()
    with pytest.raises(ValueError, match="minutes"):
        train.timed(quick(), 0)


def test_another_recipe_or_folder_is_refused(tmp_path):
    train.train(quick(2), tmp_path / "run")
    with pytest.raises(ValueError, match="another configuration"):
        train.train(quick(3), tmp_path / "run")
    with pytest.raises(ValueError, match="no such folder"):
        train.load(tmp_path / "none")
    with runs.Run.open(tmp_path / "other", {"kind": "rules.data"}):
        pass
    with pytest.raises(ValueError, match="no training Run"):
        train.load(tmp_path / "other")
    (tmp_path / "run" / train.CHECKPOINT).unlink()
    with pytest.raises(ValueError, match="first checkpoint"):
        train.load(tmp_path / "run")


def test_divergence_leaves_the_last_good_checkpoint(tmp_path):
    optim = quick().fit.optim.model_copy(update={"lr": 1e30, "clip": 1e30})
    with pytest.raises(ValueError, match=r"learning rate.*last good checkpoint"):
        train.train(quick(50, optim=optim), tmp_path / "run", every=1)
    assert checkpoint.weights(tmp_path / "run" / train.CHECKPOINT)[1] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in recipes.NAMES if n.endswith("-tiny")])
def test_tiny_presets_learn_mini(name, tmp_path):
    """Trained completion at least 3 times the marginal fill's; rows beyond shuffled panels'."""
    model = train.train(recipes.get(name), tmp_path)
    model = train.load(tmp_path)
    config = evaluate.EvaluateConfig(n=1000, protocols=("unconditional", "completion"))
    rows = {row["key"]: row for row in evaluate.evaluate(model, config)}
    done, drawn = rows["completion/r3c3"], rows["unconditional/T=1"]
    assert done["trained_low"] >= 3 * done["marginal_trained"]
    x = model.sample(1000, seed=1).reshape(1000, 9, 9, 3)
    rng = np.random.default_rng(0)
    for place in range(9):
        x[:, place] = x[rng.permutation(1000), place]
    shuffled = evaluate.measures(genraven.check(x.reshape(-1, 3, 3, 9, 3)))
    assert drawn["any_valid_low"] > shuffled["any_valid_high"]
