"""The twin: trained on the exact law, its score error measured against closed denoisers."""

import numpy as np
import pytest
import torch

from assay.families.config import SamplerConfig
from assay.runs import Run
from assay.studies import guided_error, guided_exact, guided_models, guided_rules, guided_twin

SAMPLER = SamplerConfig(kind="dpmpp_2m", n_steps=6, sigma_min=0.05, sigma_max=40.0)
N_ROWS = 6


class _Shifted(guided_exact.Exact):
    """The exact law with a known error: told denoisers are 0.3 too high in every pixel."""

    def _denoise(self, x, sigma, label=None, extra=None, rng=None):
        exact = super()._denoise(x, sigma, label, extra, rng)
        return exact if label is None or not label.any() else exact + 0.3


@pytest.fixture(scope="module")
def exact():
    return guided_models.exact(SAMPLER, N_ROWS)


def test_a_planted_error_is_found_at_its_size(exact):
    family = _Shifted(exact.family.network, exact.family.config)
    twin = guided_models.Model("twin", family, exact.binding, {"n_rows": N_ROWS})
    levels = guided_error.continuous.grid(SAMPLER)[:-1]
    weight = np.gradient(np.log(levels))
    size = np.sqrt(np.sum(weight / weight.sum() * 81 * 0.09 / levels**2))
    errors = guided_error.Errors(twin, exact, SAMPLER, 8, 0)
    for w in (0.0, 2.0):
        for row in errors.rows(w):
            assert row["size_cond"] == pytest.approx(size, rel=1e-4)
            assert row["size_cond_low"] == pytest.approx(size, rel=1e-4)
            assert row["size_uncond"] == pytest.approx(0, abs=1e-6)
            assert row["size_guided"] == pytest.approx((1 + w) * size, rel=1e-4)


def test_the_exact_law_in_the_twins_place_has_no_error(exact):
    rows = list(guided_error.Errors(exact, exact, SAMPLER, 8, 0).rows(3.0))
    assert [row["where"] for row in rows] == ["data", "guided"]
    assert all(row["size_guided"] == 0 for row in rows)


def test_twin_batches_are_samples_of_the_exact_law():
    recipe = guided_models.recipe("twin", 1)
    batch = guided_twin.batches(recipe, N_ROWS)
    first, again, other = batch(0), batch(0), batch(1)
    assert torch.equal(first["x"], again["x"])
    assert not torch.equal(first["x"], other["x"])
    tables = guided_exact.TableConfig(n_rows=N_ROWS)
    for x, label in zip(first["x"][:20], first["label"][:20], strict=True):
        rows = guided_exact.rule_rows(int(label) - 1, N_ROWS, tables.seed)
        for row in x.reshape(3, 27).numpy():
            assert (rows == row).all(1).any()
    assert set((first["label"] - 1).tolist()) == set(tables.rules)


def test_a_twin_goes_on_training_and_ends_as_if_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(guided_twin, "_EVERY", 1)
    guided_twin.train(tmp_path / "whole", N_ROWS, 3)
    wanted = guided_twin.load(tmp_path / "whole", SAMPLER)
    kept = guided_twin.checkpoint.kept

    def stopped(steps, path, every, n_steps):
        for step in kept(steps, path, every, n_steps):
            if step.number == 2:
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(guided_twin.checkpoint, "kept", stopped)
        with pytest.raises(KeyboardInterrupt):
            guided_twin.train(tmp_path / "cut", N_ROWS, 3)
    guided_twin.train(tmp_path / "cut", N_ROWS, 3)
    made = guided_twin.load(tmp_path / "cut", SAMPLER)
    for name, value in wanted.family.state_dict().items():
        assert torch.equal(value, made.family.state_dict()[name]), name
    assert made.about == {"n_rows": N_ROWS, "samples_seen": 3 * 256}
    assert Run.read(tmp_path / "cut").rows[-1]["step"] == 3


def test_a_folder_that_is_no_twin_is_refused(tmp_path):
    Run.open(tmp_path / "other", {"kind": "x"}).close()
    with pytest.raises(ValueError, match="is no training of the twin"):
        guided_twin.load(tmp_path / "other", SAMPLER)


def test_the_study_measures_its_twin(tmp_path):
    from assay.studies import guided_config

    config = guided_config.build({"families": ("twin",), "w": (0.0, 2.0), "rules": (30,), "n": 8,
                                  "n_rows": N_ROWS, "n_steps": 1,
                                  "sampler": SAMPLER.model_dump(mode="json")})  # fmt: skip
    with Run.open(tmp_path / "run", config) as run:
        guided_rules.train(config, tmp_path / "run")
        guided_rules.fill(run, config.model_dump(mode="json"))
    errors = [row for row in Run.read(tmp_path / "run").rows if row["part"] == "error"]
    assert [(row["w"], row["where"]) for row in errors] == [
        (w, where) for w in (0.0, 2.0) for where in ("data", "guided")
    ]
    assert errors[0]["size_cond"] == errors[2]["size_cond"] > 1  # the data's do not depend on w
