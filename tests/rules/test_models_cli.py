"""The commands on models: what they write, print, resume and refuse."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from assay import cli, runs
from assay.rules import (
    datasets,
    genraven,
    modelfile,
    models_cli,
    recipes,
    shipping,
    train,
    train_cli,
)

TINY = next(name for name in recipes.NAMES if name.endswith("-tiny"))
QUICK = ("--n", 20, "--n-any-panel", 4)


def call(*tokens):
    return cli.main(["rules", *map(str, tokens)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Run of three steps."""
    folder = tmp_path_factory.mktemp("models") / "run"
    assert call("train", TINY, "--steps", 3, "--save-every", 2, "--out", folder) == 0
    return folder


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run(*tokens) -> (exit code, stdout, stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def runs_it(*tokens):
        capsys.readouterr()
        code = call(*tokens)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return runs_it


def losses(folder):
    return [row["loss"] for row in runs.Run.read(folder).rows]


def test_training_writes_a_run_that_says_all(trained):
    config = runs.Run.read(trained).config
    wanted = recipes.get(TINY).model_dump(mode="json")
    wanted["fit"]["n_steps"] = 3
    assert config == runs.plain(wanted)
    assert [row["step"] for row in runs.Run.read(trained).rows] == [1, 3]


def test_the_same_command_and_resume_go_on_with_the_saved_steps(run, tmp_path, trained):
    assert run("train", TINY, "--steps", 4, "--out", "run")[0] == 0
    before = (tmp_path / "run" / train.CHECKPOINT).read_bytes()
    for tokens in ([TINY], [TINY, "--steps", 4], ["--resume"], [TINY, "--minutes", 5]):
        code, out, err = run("train", *tokens, "--out", "run")
        assert (code, err) == (0, "")
        assert "4 steps, " in out
    assert (tmp_path / "run" / train.CHECKPOINT).read_bytes() == before
    code, _, err = run("train", "run/config.json", "--out", "copy")
    assert code == 0
    assert losses(tmp_path / "copy") == losses(tmp_path / "run")


def test_minutes_fix_the_steps_and_save_them(run, tmp_path, monkeypatch):
    def timed(recipe, minutes):
        assert minutes == 0.5
        fit = recipe.fit.model_copy(update={"n_steps": 2})
        return recipe.model_copy(update={"fit": fit})

    monkeypatch.setattr(train, "timed", timed)
    assert run("train", TINY, "--minutes", 0.5, "--seed", 5, "--out", "run")[0] == 0
    config = runs.Run.read(tmp_path / "run").config
    assert config["fit"]["n_steps"] == 2
    assert config["seed"] == config["fit"]["seed"] == config["data"]["seed"] == 5


def test_data_sets_are_learned_and_memorised(run, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "VALIDATION", 3)
    made = datasets.write(tmp_path / "set", 5, split=2, seed=9)
    assert run("train", TINY, "--data", "set", "--steps", 2, "--out", "run")[0] == 0
    data = runs.Run.read(tmp_path / "run").config["data"]
    assert data["fingerprint"] == made.fingerprint
    assert data["held_out"] == list(genraven.SPLITS[2])
    loaded = train.load(tmp_path / "run")
    recipe = train.load_config(runs.Run.read(tmp_path / "run").config)
    assert loaded.about["data"]["per_rule"] == 5
    again = list(recipe.data.samples(recipe.data.n_samples))
    x, y = made.part("train")
    np.testing.assert_array_equal(np.concatenate([part for part, _ in again]), x)
    np.testing.assert_array_equal(np.concatenate([part for _, part in again]), y)
    code, out, _ = run("evaluate", "run", *QUICK, "--json")
    assert code == 0
    rows = {row["key"]: row for row in map(json.loads, out.splitlines())}
    assert rows["unconditional/T=1"]["n_trained"] == len(x)
    (tmp_path / "set" / "train.npy").unlink()
    assert run("train", TINY, "--data", "set", "--out", "run")[0] == 2
    assert run("train", "--out", "run")[0] == 0  # made again from the seed
    other = recipe.data.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(ValueError, match="cannot be made again"):
        list(other.samples(1))


def test_evaluations_are_runs_of_their_own_and_resume(run, trained):
    code, out, err = run("evaluate", trained, *QUICK, "--temperature", "0.5,1")
    assert (code, err) == (0, "")
    for words in ("C3", "novel-C3", "C2", "AnyValid", "row 1 valid", "implied completion",
                  "natural overlap", "held-out rules", "r1c1", "network evaluations"):  # fmt: skip
        assert words in out, words
    kept = (trained / "evaluation" / "rows.jsonl").read_bytes()
    code, out, _ = run("evaluate", trained, *QUICK, "--temperature", "0.5,1", "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert (trained / "evaluation" / "rows.jsonl").read_bytes() == kept
    assert [row["key"] for row in rows] == [
        row["key"] for row in runs.Run.read(trained / "evaluation").rows
    ]
    first = next(row for row in rows if row["key"] == "unconditional/T=1")
    for name in ("parameters", "samples_seen", "training_flop", "nfe", "seconds", "temperature"):
        assert first[name] is not None
    assert first["c3_low"] <= first["c3"] <= first["c3_high"]
    assert run("evaluate", trained, *QUICK, "--seed", 2)[0] == 0
    assert runs.Run.read(trained / "evaluation-2").config["seed"] == 2
    assert run("evaluate", trained, *QUICK, "--out", "mine")[0] == 0
    code, _, err = run("evaluate", trained, *QUICK, "--seed", 3, "--out", "mine")
    assert code == 2
    assert "another configuration" in err


def test_masks_that_a_family_cannot_complete_are_rows_too(trained, run, monkeypatch):
    family = type(train.load(trained).family)
    complete = family.complete

    def last_only(self, context, mask, rng, temperature=0.0):
        if not mask.reshape(len(mask), -1)[:, -1].all():
            raise ValueError("mask: can complete r3c3")
        return complete(self, context, mask, rng, temperature)

    monkeypatch.setattr(family, "complete", last_only)
    monkeypatch.setattr(family, "sample", lambda self, n, rng, t: complete(
        self, *full(self, n), rng, t))  # fmt: skip
    code, out, _ = run("evaluate", trained, *QUICK, "--out", "mine")
    assert code == 0
    assert "not completed: mask: can complete r3c3" in out
    rows = {row["key"]: row for row in runs.Run.read("mine").rows}
    assert rows["any_panel/r1c1"]["refused"] == "mask: can complete r3c3"
    assert "refused" not in rows["any_panel/r3c3"]


def full(family, n):
    import torch

    return torch.zeros(n, *family.shape, dtype=torch.int64), torch.ones(n, 9, dtype=torch.bool)


def test_samples_and_completions_are_files_and_pictures(run, trained, tmp_path):
    code, out, err = run("sample", trained, "--n", 5, "--out", "x.npy", "--png", "x.svg")
    assert (code, err) == (0, "")
    assert "AnyValid" in out
    x = np.load(tmp_path / "x.npy")
    np.testing.assert_array_equal(x, train.load(trained).sample(5))
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    panels, _ = genraven.generate(6, seed=4)
    np.save(tmp_path / "panels.npy", panels)
    tokens = ("complete", trained, "panels.npy", "--mask", "r3c3", "--out", "y.npy", "--seed", 2)
    assert run(*tokens)[0] == 0
    mask = models_cli.parse_mask("r3c3")
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y, train.load(trained).complete(panels, mask, seed=2))
    np.testing.assert_array_equal(y[:, ~mask], panels[:, ~mask])


def test_masks_read_as_they_are_written():
    mask = models_cli.parse_mask("r3c3, R1C2")
    assert np.argwhere(mask).tolist() == [[0, 1], [2, 2]]
    assert models_cli.parse_mask("all").all()


def test_recipes_and_models_are_listed(run, trained, tmp_path, monkeypatch):
    code, out, _ = run("recipes")
    assert code == 0
    code, names, _ = run("recipes", "--names")
    assert names.splitlines() == list(recipes.NAMES)
    assert all(name in out for name in recipes.NAMES)
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    assert run("models", "--names") == (0, "", "")
    assert "no model" in run("models")[1]
    shipping.export(trained, "small", tmp_path)
    code, out, _ = run("evaluate", "small", *QUICK, "--json")
    assert code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.json", "small.safetensors"]
    modelfile.add_rows(tmp_path / "small.json", [json.loads(line) for line in out.splitlines()])
    assert run("models", "--names") == (0, "small\n", "")
    code, out, _ = run("models")
    (line,) = (cells for cells in map(str.split, out.splitlines()) if cells[:1] == ["small"])
    row = modelfile.about(tmp_path / "small")["rows"][0]
    assert line[4] == f"{row['c3']:.3f}"
    assert f".000–{row['c3_high']:.3f}".replace("–0", "–") in out
    code, out, _ = run("compare", "small", tmp_path / "small.safetensors", "--out", "c.html")
    assert code == 0
    assert (tmp_path / "c.html").read_text().count("<tr>") == 3


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["train", "none-tiny", "--out", "new"], "recipe 'none-tiny' is unknown"),
        (["train", "--out", "new"], "holds no Run to go on with"),
        (["train", "absent.json", "--out", "new"], "absent.json: cannot be read"),
        (["train", TINY, "--steps", "0", "--out", "new"], "--steps must be 1 or more"),
        (["train", TINY, "--minutes", "-1", "--out", "new"], "--minutes must be a positive"),
        (["train", TINY, "--minutes", "1", "--steps", "1", "--out", "new"], "one of them"),
        (["train", TINY, "--save-every", "0", "--out", "new"], "--save-every must be 1"),
        (["train", TINY, "--seed", "-1", "--out", "new"], "seed"),
        (["train", TINY, "--seed", "1000003", "--out", "new"], "take another"),
        (["train", TINY, "--data", "absent", "--out", "new"], "cannot be read"),
        (["train", TINY, "--out", "x.npy"], "holds other files"),
        (["train", TINY, "--out", "."], "holds other files and no Run"),
        (["train", TINY, "--steps", "9", "--out", "RUN"], "has 3, which its schedule"),
        (["train", TINY, "--seed", "7", "--out", "RUN"], "another configuration"),
        (["train", "--conditional", "--out", "RUN"], "name the recipe too"),
        (["train", TINY], "--out"),
        (["evaluate", "absent"], "'absent' is no shipped model"),
        (["evaluate", "."], "not a Run"),
        (["evaluate", "RUN", "--n", "0"], "--n 0"),
        (["evaluate", "RUN", "--n", "many"], "many"),
        (["evaluate", "RUN", "--temperature", "0,-1"], "--temperature must be 0 or more"),
        (["evaluate", "RUN", "--temperature", "hot"], "--temperature must be numbers"),
        (["evaluate", "RUN", "--completion-temperature", "nan"], "--completion-temperature"),
        (["sample", "RUN"], "nothing to write"),
        (["sample", "RUN", "--n", "0", "--out", "new.npy"], "--n must be 1 or more"),
        (["sample", "RUN", "--out", "new.csv"], "arrays end in .npy"),
        (["sample", "RUN", "--png", "new.jpg"], "ends in .png or .svg"),
        (["sample", "RUN", "--rule", "4", "--out", "new.npy"], "without rule labels"),
        (["sample", "RUN", "--w", "-1", "--out", "new.npy"], "name the rule"),
        (["sample", "RUN", "--out", "x.npy/new.npy"], "cannot be written"),
        (["complete", "RUN", "x.npy", "--mask", "r4c1", "--out", "new.npy"], "'r4c1' is no panel"),
        (["complete", "RUN", "x.npy", "--mask", "", "--out", "new.npy"], "is no panel"),
        (["complete", "RUN", "absent.npy", "--mask", "r3c3", "--out", "new.npy"], "No such"),
        (["complete", "RUN", "x.npy", "--mask", "r3c3", "--out", "new.npy"], "known cell"),
        (["compare", "absent", "RUN"], "no such folder"),
        (["compare", "RUN", "--out", "new.pdf"], "ends in .html, .svg, .png"),
        (["compare"], "FIRST"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(run, trained, tmp_path, tokens, words):
    np.save(tmp_path / "x.npy", np.full((1, 3, 3, 9, 3), 50, np.int8))
    kept = sorted(p.name for p in trained.iterdir())
    given = [str(trained) if token == "RUN" else token for token in tokens]
    code, out, err = run(*given)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("assay: ")
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    assert sorted(p.name for p in trained.iterdir()) == kept


def test_divergence_is_one_line_and_keeps_the_last_good_checkpoint(run, tmp_path):
    config = recipes.get(TINY).model_dump(mode="json")
    config["fit"] |= {"n_steps": 30, "batch": 8}
    config["fit"]["optim"] |= {"kind": "adamw", "lr": 1e30, "clip": 1e30}
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, out, err = run("train", "config.json", "--save-every", 1, "--out", "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "not finite" in err
    assert "last good checkpoint" in err
    assert (tmp_path / "run" / train.CHECKPOINT).exists()


def test_tensorboard_is_optional(run, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, err = run("train", TINY, "--steps", 1, "--out", "run", "--tensorboard")
    assert code == 2
    assert "assay[tensorboard]" in err


@pytest.mark.slow
def test_tensorboard_curves_are_written(run, tmp_path):
    pytest.importorskip("tensorboard")
    assert run("train", TINY, "--steps", 2, "--out", "run", "--tensorboard")[0] == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_every_command_says_what_it_takes(run):
    for name in ("train", "evaluate", "sample", "complete", "compare", "recipes", "models"):
        code, out, _ = run(name, "--help")
        assert code == 0
        assert f"Example: assay rules {name}" in out


def test_flags_ask_for_the_recipe_they_name(tmp_path):
    flags = train_cli.Flags(seed=3, conditional=True, steps=7)
    made = train_cli.asked(TINY, flags, None, None, tmp_path)
    plain = recipes.get(TINY, conditional=True)
    assert made.fit.n_steps == 7
    assert made.network == plain.network != recipes.get(TINY).network


def command(*tokens, world=1):
    """A process of `assay rules`, alone or shared."""
    shared = [
        "-m", "torch.distributed.run", "--nproc-per-node", str(world), "--master-port", "29517"
    ] if world > 1 else []  # fmt: skip
    parts = [sys.executable, *shared, "-m", "assay", "rules", *map(str, tokens)]
    return subprocess.Popen(parts, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    for world in (1, 2):
        tokens = ("train", TINY, "--steps", 60, "--out", tmp_path / str(world))
        assert command(*tokens, world=world).wait(300) == 0
    one, two = (losses(tmp_path / str(world)) for world in (1, 2))
    assert len(one) == 3
    np.testing.assert_allclose(two, one, rtol=1e-5)
    assert command("train", TINY, "--out", tmp_path / "2", world=2).wait(300) == 0
    assert command("train", "none", "--out", tmp_path / "3", world=2).wait(300) != 0


@pytest.mark.slow
def test_training_killed_at_any_moment_goes_on_bit_for_bit(tmp_path):
    def tokens(name):
        return "train", TINY, "--steps", 60, "--save-every", 3, "--out", tmp_path / name

    start = time.monotonic()
    assert command(*tokens("once")).wait(300) == 0
    whole = time.monotonic() - start
    rng = np.random.default_rng()
    for _ in range(4):
        process = command(*tokens("often"))
        time.sleep(rng.uniform(0.2, 0.9) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert command(*tokens("often")).wait(300) == 0
    once, often = ((tmp_path / name / train.CHECKPOINT).read_bytes() for name in ("once", "often"))
    assert once == often
    assert losses(tmp_path / "once") == losses(tmp_path / "often")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in recipes.NAMES if n.endswith("-tiny")])
@pytest.mark.parametrize("conditional", [False, True])
def test_every_recipe_goes_through_the_same_commands(name, conditional, run, tmp_path):
    more = ("--conditional",) if conditional else ()
    code, _, err = run("train", name, "--steps", 2, "--out", "run", *more)
    assert code == 0, err
    given = ("--rule", "37", "--w", "1") if conditional else ()
    assert run("sample", "run", "--n", 3, "--out", "x.npy", *given)[0] == 0
    panels, _ = genraven.generate(3, range(30, 40), seed=4)
    np.save(tmp_path / "p.npy", panels)
    tokens = ("complete", "run", "p.npy", "--mask", "r3c3", "--out", "y.npy", *given)
    assert run(*tokens)[0] == 0
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y.reshape(3, 9, 9, 3)[:, :8], panels.reshape(3, 9, 9, 3)[:, :8])
    code, _, err = run("evaluate", "run", *QUICK)
    assert code == 0, err
    assert run("compare", "run", "--out", "c.svg")[0] == 0
    shipping.export(tmp_path / "run", "some", tmp_path)
    np.testing.assert_array_equal(
        shipping.load(tmp_path / "some.safetensors").sample(2).shape, (2, 3, 3, 9, 3)
    )
