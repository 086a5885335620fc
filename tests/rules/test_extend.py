"""Going on with a finished training: the recipe it leaves repeats the whole."""

import pytest
from safetensors.torch import load_file

from assay import cli, runs
from assay.rules import train as training
from assay.rules.recipe import load_config
from assay.rules.recipes import get


def _recipe(n_steps):
    values = get("settoken-tiny").model_dump(mode="json")
    values["fit"] |= {"n_steps": n_steps, "batch": 8}
    return load_config(values)


def _weights(run):
    return load_file(run / training.CHECKPOINT)


def test_extended_run_is_repeated_by_its_own_recipe(tmp_path, capsys):
    once, again = tmp_path / "once", tmp_path / "again"
    training.train(_recipe(4), once, log_every=1)
    first = runs.Run.read(once).rows
    for _ in range(2):  # asked for twice it changes nothing more
        assert cli.main(["rules", "train", "--extend", "9", "--out", str(once)]) == 0
    assert runs.Run.read(once).rows[:4] == first
    config = runs.Run.read(once).config
    assert config["fit"]["n_steps"] == 9
    assert config["fit"]["optim"]["schedule"]["ends"] == [4]
    training.train(load_config(config), again)
    found, expected = _weights(once), _weights(again)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--extend", "3"], "has 4 steps already"),
        (["--extend", "0"], "must be 1 or more"),
        (["--extend", "9", "--steps", "9"], "drop --steps"),
        (["settoken-tiny", "--extend", "9"], "leave 'settoken-tiny' out"),
    ],
)
def test_extend_refuses_in_one_line(tmp_path, capsys, arguments, said):
    training.train(_recipe(4), tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert cli.main(["rules", "train", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_extend_wants_a_finished_run(tmp_path):
    run = tmp_path / "run"
    training.train(_recipe(4), run)
    runs.reconfigure(run, _recipe(6))
    with pytest.raises(ValueError, match="stands at step 4 of 6"):
        training.extend(run, 9)
