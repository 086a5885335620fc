"""The study: exact Gaussians in the network's place, the rule, resumption, bad input."""

import json

import numpy as np
import pytest
import torch

from assay.cli import main
from assay.guidance.images import claim as image_claim
from assay.guidance.images import data as image_data
from assay.guidance.images import paths as image_paths
from assay.guidance.images import study as image_study
from assay.guidance.images.study import Block, StudyConfig
from assay.runs import Run


class Gaussians:
    """cond N(mean, v), uncond N(0, u), of 64 independent coordinates; exact denoisers."""

    shape = (8, 8)

    def __init__(self, mean=0.5, v=1.0, u=2.0):
        self.about = {"sha256": "exact"}
        self.mean, self.v, self.u = mean, v, u

    def cond(self, digits):
        return lambda x, sigma: self.mean + (x - self.mean) * (self.v / (self.v + sigma**2))

    def uncond(self):
        return lambda x, sigma: x * (self.u / (self.u + sigma**2))


def _drawn(sampler, w, mean=0.0):
    config = StudyConfig(blocks=(Block(digits=(3,), n=600, seeds=(5,)),))
    group = image_study.Group(sampler, config.blocks[0], w, 5)
    return image_study.draw(Gaussians(mean), config, group)


def test_ddpm_with_an_exact_gaussian_denoiser_has_its_mean_and_covariance():
    drawn = _drawn("ddpm", 0.0, mean=0.5)
    x = drawn.x[0]
    # 600 samples: a mean's error is 0.041, a variance's 0.058; the largest of 64 within 4.5 of it
    np.testing.assert_allclose(x.mean(axis=0), 0.5, atol=4.5 * 0.041)
    assert x.mean() == pytest.approx(0.5, abs=4.5 * 0.0052)
    np.testing.assert_allclose(x.var(axis=0), 1, atol=4.5 * 0.058)
    assert x.var() == pytest.approx(1, abs=4.5 * 0.0073)
    cov = np.cov(x.T)
    off = cov[~np.eye(64, dtype=bool)]
    assert np.abs(off).max() < 5.2 * 0.041
    assert drawn.nfe == 400


@pytest.mark.parametrize(("sampler", "variance"), [("ddpm", 7 / 12), ("heun", 1 / 2)])
def test_guided_gaussians_end_at_the_closed_form_of_their_sampler(sampler, variance):
    # the ODE and the SDE of w = 1 with variances 1 and 2 (see core/solver.py)
    drawn = _drawn(sampler, 1.0)
    assert drawn.x.var() == pytest.approx(variance, rel=0.035)  # 38,400 numbers: 0.7 % each
    assert drawn.nfe == {"ddpm": 2 * 400, "heun": 2 * 63}[sampler]


def test_projection_runs_from_the_mean_of_all_to_the_mean_of_the_class():
    train = image_data.load("digits8").train
    along = image_paths.axis(train, 4)
    assert np.linalg.norm(along.v) == pytest.approx(1)
    own, rest = (train.x[train.y == 4], train.x[train.y != 4])
    flat = [part.reshape(len(part), -1) for part in (own, rest, train.x)]
    at = [image_paths.project(part, 0.0, along).mean() for part in flat]
    assert at[0] == pytest.approx(1)
    assert at[2] == pytest.approx(0, abs=1e-12)
    assert at[1] < 0
    one = image_paths.project(flat[0][:1], 3.0, along) * np.sqrt(10)
    assert one == pytest.approx(image_paths.project(flat[0][:1], 0.0, along))


def test_levels_lie_in_the_window_of_both_samplers():
    config = StudyConfig()
    for sampler in image_study.SAMPLERS:
        _, sigmas = image_study.method(config, sampler)
        seen = sigmas[image_paths.levels(sigmas)]
        assert len(seen) >= 16
        assert 0.04 <= seen[-1] < 0.07
        assert 15 < seen[0] <= 25


def _paths(rise, noise, n=64):
    steps = np.random.default_rng(0).standard_normal((len(rise), n))
    return np.asarray(rise)[:, None] + noise * steps


def test_monotone_by_estimate_and_by_bound():
    clear = image_paths.monotone(_paths([0, 0.5, 1.2, 1.0], 0.01))
    assert not clear["monotone"]
    assert clear["drop"] == pytest.approx(0.2, abs=0.02)
    assert clear["overshoot"] == pytest.approx(0.2, abs=0.02)
    rising = image_paths.monotone(_paths([0, 0.5, 0.9, 1.0], 0.01))
    assert rising["monotone"]
    assert rising["monotone_drop"]
    assert rising["monotone_share"] == 1
    loud = image_paths.monotone(_paths([0, 0.5, 1.02, 1.0], 1.0))
    assert loud["monotone"]  # a drop that noise explains is none
    assert loud["drop_low"] <= loud["drop"]
    assert loud["monotone_share"] < 0.5


def test_two_readings_of_the_rule():
    rows = [{"w": w, "monotone": ok} for w, ok in ((8, True), (0, True), (2, False), (1, True))]
    assert image_claim.ruled(rows) == 1
    assert image_claim.largest(rows) == 8
    assert image_claim.ruled([{"w": 0, "monotone": False}]) is None


def test_as_good_are_the_w_that_cannot_be_told_from_the_best():
    values = {0: (5, 4, 6), 1: (7, 6.5, 7.5), 2: (6, 5.6, 6.6), 3: (1, 0, 2)}
    rows = [
        {"w": w, "log_odds": v, "log_odds_low": a, "log_odds_high": b}
        for w, (v, a, b) in values.items()
    ]
    assert image_claim.best(rows, "log_odds")["w"] == 1
    assert image_claim.as_good(rows, "log_odds") == [1, 2]


SMALL = StudyConfig(
    model="exact", w=(0.0, 2.0), blocks=(Block(digits=(0, 3), n=8, seeds=(0, 1)),),
    ddpm_steps=60, heun_steps=20,
)  # fmt: skip


def test_a_study_that_was_killed_goes_on_to_the_same_rows(tmp_path):
    model = Gaussians()
    with Run.open(tmp_path / "whole", SMALL) as run:
        whole = [group.key for group in image_study.fill(run, SMALL, model)]
        rows = run.rows
    assert len(whole) == 8
    with Run.open(tmp_path / "part", SMALL) as run:
        for number, _ in enumerate(image_study.fill(run, SMALL, model)):
            if number == 2:
                break
    path = tmp_path / "part" / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-40])  # killed within a line
    with Run.open(tmp_path / "part", SMALL) as run:
        list(image_study.fill(run, SMALL, model))
        again = run.rows
    assert again == rows
    kinds = [row["kind"] for row in rows]
    assert kinds.count("quality") == 16
    assert kinds.count("pooled") == 8
    assert kinds.count("claim") == 40
    for row in rows:
        if row["kind"] in ("quality", "pooled"):
            assert row["guidance_scale"] == 1 + row["w"]
            assert row["nfe"] == {"ddpm": 60, "heun": 39}[row["sampler"]] * (2 if row["w"] else 1)


def test_a_run_of_other_weights_is_refused(tmp_path):
    config = SMALL.model_copy(update={"model": "other"})
    with (
        Run.open(tmp_path, config) as run,
        pytest.raises(ValueError, match="not the one that the Run was begun with"),
    ):
        list(image_study.fill(run, config, Gaussians()))


BAD = {
    ("--digit", "11"): "digits",
    ("--digit", "a"): "not a list of whole numbers",
    ("--n", "3"): "n: ",
    ("--w", "0,,1"): "empty",
    ("--sampler", "euler"): "samplers",
    ("--data", "9x9"): "9x9",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words, tmp_path, capsys):
    code = main(["guidance", "digits", "--out", str(tmp_path / "run"), *words])
    said = capsys.readouterr().err
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    assert BAD[words] in said
    assert not (tmp_path / "run").exists()


def test_a_model_file_of_another_ending_is_refused(tmp_path, capsys):
    assert main(["guidance", "digits", "train", "8x8", "--out", str(tmp_path / "m.pt")]) == 2
    assert "ends in .safetensors" in capsys.readouterr().err


def test_the_command_runs_resumes_and_writes_json(tmp_path, capsys):
    torch.set_num_threads(1)
    words = ["guidance", "digits", "--out", str(tmp_path), "--digit", "3", "--n", "8", "--seed",
             "0", "--w", "0,2", "--sampler", "heun"]  # fmt: skip
    assert main(words) == 0
    assert "guided" not in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["kind"] for row in rows} == {"quality", "real", "pooled", "claim", "verdict"}
    assert Run.read(tmp_path).config["command"].startswith("assay guidance digits --data 8x8 --w")
