"""Drawing given a rule: plain at w = 0, exact where the law is exact, the last state seen."""

import numpy as np
import pytest
import torch

from assay.families.config import SamplerConfig
from assay.rules import bindings, genraven, mini
from assay.rules.generator import Generator
from assay.rules.recipe import build_family
from assay.studies import guided_exact, guided_models

SAMPLER = SamplerConfig(kind="dpmpp_2m", n_steps=20, sigma_min=0.05, sigma_max=40.0)
RULES = (30, 38)


def _family(name):
    """A family of the study with random weights, none of them 0, so that labels matter."""
    family = build_family(guided_models.recipe(name)).eval()
    rng = torch.Generator().manual_seed(0)
    for parameter in family.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
    return family


@pytest.mark.parametrize("name", ["sit", "settoken", "panelorder"])
def test_plain_draws_are_those_of_the_conditional_model_byte_for_byte(name):
    generator = guided_models._model(name, Generator(_family(name), _binding(name), {}), SAMPLER)
    drawn = generator.draw(38, 0.0, 128, seed=3)
    plain = Generator(generator.family, generator.binding).sample(128, seed=3, rule=38)
    assert drawn.panels.tobytes() == plain.tobytes()
    assert drawn.nfe == generator.family.evaluations()
    assert generator.draw(38, 2.0, 128, seed=3).panels.tobytes() != plain.tobytes()


def _binding(name):
    return bindings.get(guided_models.recipe(name).binding)


def test_guidance_of_minus_one_is_the_model_without_a_label():
    family = _family("sit").using(sampler=SAMPLER)
    model = guided_models.Model("sit", family, bindings.get("occupancy"), {})
    plain = family.sample(8, family.streams(0))
    assert np.array_equal(model.draw(38, -1.0, 8).pixels, plain.numpy())


def test_labels_are_rule_ids_plus_one():
    recipe = guided_models.recipe("settoken")
    assert recipe.network["n_labels"] == 40
    assert recipe.data.rules == mini.TRAINED
    from assay.rules.recipe import batches

    label = batches(recipe)(0)["label"]
    _, y = genraven.generate(recipe.fit.batch, mini.TRAINED, 0)
    assert np.array_equal(label.numpy(), y + 1)


def test_the_exact_denoisers_against_the_mean_over_the_whole_law():
    family = guided_exact.family(SAMPLER, 3)
    rows = family.network.rows.numpy()  # (8 rules, 3 rows, 27)
    x = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    every = [
        (rule, np.concatenate([table[i], table[j], table[k]]))
        for rule, table in enumerate(rows)
        for i in range(3)
        for j in range(3)
        for k in range(3)
    ]
    for sigma in (0.7, 2.0):
        for label in (None, mini.TRAINED[5] + 1):
            told = [s for rule, s in every if label is None or rule == 5]
            data = np.stack(told)
            log_w = -((x.numpy().reshape(2, 1, 81) - data) ** 2).sum(-1) / (2 * sigma**2)
            w = np.exp(log_w - log_w.max(1, keepdims=True))
            mean = (w / w.sum(1, keepdims=True)) @ data
            given = family.denoiser(label)(x, sigma).numpy().reshape(2, 81)
            assert given == pytest.approx(mean, abs=1e-10)


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_an_exact_law_in_the_networks_place_always_obeys_its_rule(w):
    model = guided_models.exact(SAMPLER, 60)
    for rule in RULES:
        drawn = model.draw(rule, w, 32)
        assert genraven.check(drawn.panels)[:, :, rule].all()
        assert model.index().query(drawn.panels)["row"].all()  # and is made of the law's rows
        assert np.abs(np.abs(drawn.pixels) - 1).max() < 1e-3
        assert np.abs(np.abs(drawn.before) - 1).max() > 0.02  # noise left at sigma_min
        assert drawn.nfe == (20 if w == 0 else 40)


def test_what_was_learned_is_made_again_for_the_index():
    recipe = guided_models.recipe("settoken")
    about = {**recipe.model_dump(mode="json"), "samples_seen": 50}
    model = guided_models.Model("settoken", None, bindings.get("positions"), about)
    x, _ = genraven.generate(60, mini.TRAINED, 0)
    copied = model.index().query(model.binding.project(x))["sample"]
    assert copied[:50].all()
    assert not copied[50:].any()


def test_unknown_families_and_labels_are_refused_by_name():
    with pytest.raises(ValueError, match="'exact' is not learned here; choose from edm"):
        guided_models.recipe("exact")
    with pytest.raises(ValueError, match="'gpt2' is not shipped"):
        guided_models.shipped("gpt2", SAMPLER)
    with pytest.raises(ValueError, match="n_rows is 4"):
        guided_models.exact(SAMPLER, 4)
    model = guided_models.exact(SAMPLER, 3)
    with pytest.raises(ValueError, match="label 41 is unknown"):
        model.draw(40, 0.0, 4)
    with pytest.raises(ValueError, match="w must be finite"):
        model.draw(30, float("nan"), 4)


def test_shipped_families_are_small_and_draw_what_their_rows_say():
    from assay.rules import modelfile, shipping
    from assay.studies import guided_config, guided_measures

    names = guided_models.shipped_names()
    assert set(names) >= {"sit", "settoken"}
    assert not set(names) & {"gpt2"}  # needs an extra
    for name in names:
        assert (guided_models.FOLDER / f"{name}.safetensors").stat().st_size < 1_000_000
    assert set(guided_config.demo().shipped) == set(names)
    rows = modelfile.about(guided_models.FOLDER / "settoken.json")["rows"]
    told = next(r for r in rows if r["part"] == "pooled" and r["w"] == 0)
    model = guided_models.shipped("settoken", SAMPLER)
    drawn = [
        guided_measures.of_draws(model.draw(rule, 0.0, 32, seed=9), rule, None)
        for rule in mini.TRAINED
    ]
    found = guided_measures.pooled(drawn)
    se = (told["intended"] * (1 - told["intended"]) * (1 / 256 + 1 / told["n"])) ** 0.5
    assert abs(found["intended"] - told["intended"]) < 4 * se  # wrong once in 16,000 seeds
    assert len(set(shipping.names())) == len(shipping.names())
    assert "sit" not in shipping.names()  # models of forty rules stay among themselves
