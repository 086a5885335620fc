"""The loop: against a plain loop, split and shared alike, resumed bit for bit, stopped by NaN."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.training import optim
from assay.training.config import FitConfig, OptimConfig, Schedule
from assay.training.fit import Diverged, begin, fit, seconds_per_step

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("toy", HERE / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


def changed(**options):
    return toy.CONFIG.model_copy(update=options)


def test_fit_against_a_plain_loop():
    schedule = Schedule(warmup=3, hold=0.5)
    config = FitConfig(n_steps=20, batch=8, seed=2, optim=OptimConfig(lr=0.01, schedule=schedule))
    ours, plain = toy.Toy(noisy=False), toy.Toy(noisy=False)
    steps = list(fit(ours, toy.batches, config))
    groups = [{"params": [plain.up]}, {"params": [plain.gain], "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)
    for i, step in enumerate(steps):
        loss = plain.loss(toy.batches(i), plain.streams(2).child(i)).mean()
        adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = 0.01 * optim.factor(i, 20, schedule)
        adam.step()
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        assert step.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert (step.number, step.samples) == (i + 1, 8 * (i + 1))
    torch.testing.assert_close(ours.up, plain.up)


def test_fit_learns():
    steps = list(fit(toy.Toy(), toy.batches, changed(n_steps=300)))
    assert np.mean([s.loss for s in steps[-20:]]) < 0.1 * steps[0].loss


def test_split_steps_are_whole_steps():
    whole = [s.loss for s in fit(toy.Toy(noisy=False), toy.batches, toy.CONFIG)]
    split = [s.loss for s in fit(toy.Toy(noisy=False), toy.batches, changed(split=4))]
    np.testing.assert_allclose(split, whole, rtol=1e-4)


def test_torchs_own_state_is_given_back_and_sets_nothing_outside():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = [s.loss for s in fit(toy.Toy(), toy.batches, toy.CONFIG)]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert [s.loss for s in fit(toy.Toy(), toy.batches, toy.CONFIG)] == one


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_losses_not_finite_stop_before_the_weights_change(poison):
    model = toy.Toy()

    def batches(step):
        batch = toy.batches(step)
        return {**batch, "y": batch["y"] * poison} if step == 4 else batch

    steps = fit(model, batches, toy.CONFIG)
    assert [next(steps).number for _ in range(4)] == [1, 2, 3, 4]
    kept = model.up.detach().clone()
    with pytest.raises(Diverged, match=r"step 5.*learning rate") as caught:
        next(steps)
    assert caught.value.step == 5
    assert torch.equal(model.up, kept)


def test_bf16_losses_are_near():
    plain = next(fit(toy.Toy(noisy=False), toy.batches, toy.CONFIG)).loss
    rough = next(fit(toy.Toy(noisy=False), toy.batches, changed(bf16=True))).loss
    assert rough != plain
    assert rough == pytest.approx(plain, rel=0.05)


def test_model_mode_is_left_as_it_was():
    model = toy.Toy().eval()
    steps = fit(model, toy.batches, toy.CONFIG)
    next(steps)
    assert not model.training


def test_wrong_batches_are_refused():
    with pytest.raises(ValueError, match="batch = 16"):
        next(fit(toy.Toy(), toy.batches, changed(batch=16)))
    with pytest.raises(ValueError, match="split"):
        FitConfig(batch=10, split=4)


def test_step_times_are_positive_medians():
    assert 0 < seconds_per_step(toy.Toy(), toy.batches, toy.CONFIG, n=5) < 10


def test_begin_has_an_average_where_asked():
    assert begin(toy.Toy(), toy.CONFIG).average is not None
    assert begin(toy.Toy(), changed(ema=None)).average is None


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    def start(name, rank, world):
        command = [sys.executable, HERE / "toy.py", "share", tmp_path / name, rank, world]
        return subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, text=True, env=os.environ
        )

    alone = start("one", 0, 1)
    pair = [start("two", rank, 2) for rank in range(2)]
    losses = []
    for process in (alone, *pair):
        text, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        losses.append([float(value) for value in text.split()])
    assert len(losses[0]) == 60
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
