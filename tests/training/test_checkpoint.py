"""Checkpoints: round trips, bit-for-bit resumption, kill -9, files that are refused."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from assay.training import checkpoint
from assay.training.fit import Diverged, begin, fit

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("toy", HERE / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


def trained(path, stops):
    """Train to the end, stopping after these steps and going on from the checkpoint each time."""
    losses = {}
    for stop in (*stops, toy.CONFIG.n_steps):
        state = begin(toy.Toy(seed=99 if path.exists() else 0), toy.CONFIG)
        if path.exists():
            checkpoint.read(path, state)
        steps = fit(state.model, toy.batches, toy.CONFIG, state)
        for step in checkpoint.kept(steps, path, 7, toy.CONFIG.n_steps):
            assert losses.setdefault(step.number, step.loss) == step.loss
            if step.number == stop:
                break
    return losses


def same(one, two):
    a, b = checkpoint._load(one)[1], checkpoint._load(two)[1]
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_stopped_runs_go_on_bit_for_bit(tmp_path):
    once = trained(tmp_path / "once", ())
    often = trained(tmp_path / "often", (8, 9, 20, 41, 59))
    assert once == often
    assert len(once) == 60
    assert same(tmp_path / "once", tmp_path / "often")


def test_checkpoint_comes_before_its_step_is_seen(tmp_path):
    path = tmp_path / "c"
    state = begin(toy.Toy(), toy.CONFIG)
    for step in checkpoint.kept(fit(state.model, toy.batches, toy.CONFIG, state), path, 4, 60):
        if step.number >= 4:
            due = 60 if step.number == 60 else step.number // 4 * 4
            assert checkpoint.weights(path)[1] == due


def test_round_trip_keeps_everything(tmp_path):
    state = begin(toy.Toy(), toy.CONFIG)
    steps = fit(state.model, toy.batches, toy.CONFIG, state)
    for _ in range(5):
        next(steps)
    checkpoint.write(tmp_path / "a", state, note="kept")
    other = begin(toy.Toy(seed=1), toy.CONFIG)
    assert checkpoint.read(tmp_path / "a", other) == {"note": "kept"}
    checkpoint.write(tmp_path / "b", other, note="kept")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    raw, averaged = (checkpoint.weights(tmp_path / "a", flag)[0] for flag in (False, True))
    assert torch.equal(raw["up"], state.model.up)
    assert torch.equal(averaged["up"], state.average.tensors["up"])
    assert not torch.equal(raw["up"], averaged["up"])


def test_divergence_names_the_last_good_checkpoint(tmp_path):
    def batches(step):
        batch = toy.batches(step)
        return {**batch, "y": batch["y"] * float("nan")} if step == 10 else batch

    state, path = begin(toy.Toy(), toy.CONFIG), tmp_path / "good.safetensors"
    steps = checkpoint.kept(fit(state.model, batches, toy.CONFIG, state), path, 4)
    with pytest.raises(Diverged, match=r"step 11.*good\.safetensors of step 8"):
        list(steps)
    assert checkpoint.weights(path)[1] == 8


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "x"
    state = begin(toy.Toy(), toy.CONFIG)
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.read(path, state)
    path.write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.read(path, state)
    save_file({"up": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not an assay checkpoint"):
        checkpoint.read(path, state)
    checkpoint.write(path, state)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.read(path, state)


def test_checkpoints_of_other_models_are_refused(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, begin(toy.Toy(), toy.CONFIG))
    other = toy.Toy()
    other.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="extra"):
        checkpoint.read(path, begin(other, toy.CONFIG))
    plain = toy.CONFIG.model_copy(update={"ema": None})
    with pytest.raises(ValueError, match="ema"):
        checkpoint.read(path, begin(toy.Toy(), plain))
    adam = toy.CONFIG.optim.model_copy(update={"kind": "adamw"})
    with pytest.raises(ValueError, match="optimiser"):
        checkpoint.read(path, begin(toy.Toy(), toy.CONFIG.model_copy(update={"optim": adam})))
    checkpoint.write(path, begin(toy.Toy(), plain))
    with pytest.raises(ValueError, match="averaged"):
        checkpoint.weights(path, averaged=True)


@pytest.mark.slow
def test_killed_runs_go_on_bit_for_bit(tmp_path):
    """kill -9 at random moments, start-up and writing included, until the run is through."""
    once, folder = tmp_path / "once", tmp_path / "killed"
    once.mkdir()
    folder.mkdir()
    toy.train(once, pause=0)
    rng, kills = random.Random(4), 0
    command = [sys.executable, str(HERE / "toy.py"), "train", str(folder)]
    path = folder / "checkpoint.safetensors"
    for _ in range(40):
        process = subprocess.Popen(command, env=os.environ)
        steps = checkpoint.weights(path)[1] if path.exists() else 0
        while process.poll() is None and kills < 5 and _progress(path) <= steps:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)
        if process.poll() is None and kills < 5:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills >= 3
    assert same(once / "checkpoint.safetensors", path)


def _progress(path):
    return checkpoint.weights(path)[1] if path.exists() else 0
