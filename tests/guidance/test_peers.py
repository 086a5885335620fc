"""The peers' table: against exact distributions, closed forms and its own promises."""

import functools
import itertools
import json

import numpy as np
import pytest

from assay.core import components, solver, special
from assay.guidance import laws, peers, product, tabulated, targets
from assay.guidance.config import Simulation

FEW = Simulation(n=1000, steps=48)
COORDINATEWISE = ("constant", "interval", "low_high_low", "beta", "cfg_plus_plus")
# guidance.md's exact values at w = 3: mean, sd, and what follows from them
GMM_MEAN, GMM_SD = 2.3484823087, 0.5962602812
U12_MEAN, U12_PEAK = 1.8821253688, 2.0767654


@functools.cache
def rows(name, d, w=3.0, simulation=FEW, matched=False):
    found = peers.peer_rows(name, d, w, simulation=simulation, matched=matched)
    return {row["law"]: row for row in found}


@functools.cache
def linear_pair():
    """cond N(0, 1) against uncond N(0, 2): every law has a closed form."""
    return targets.mixture(
        cond=[(1, components.Gaussian([0.0], 1.0))], uncond=[(1, components.Gaussian([0.0], 2.0))]
    )


# ---- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussians", "uniforms"])
def test_tabulated_denoiser_is_the_exact_one_to_1e_minus_7(name):
    rng = np.random.default_rng(0)
    for part in ("cond", "uncond"):
        denoise = getattr(targets.build(name), part).denoise
        table = tabulated.Tabulated(lambda x, s, d=denoise: d(x[:, None], s)[:, 0])
        for sigma in (80.0, 5.0, 0.6, 0.03, 0.002):
            scales = rng.choice([1.0, sigma, sigma**2], 2000)
            x = rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0], 2000) + scales * rng.standard_normal(2000)
            x[0] = 30 + 10 * sigma  # beyond the nodes
            exact = denoise(x[:, None], sigma)[:, 0]
            np.testing.assert_allclose(table(x, sigma), exact, rtol=0, atol=1e-7)


def test_tabulated_denoiser_refuses_a_jump():
    table = tabulated.Tabulated(lambda x, sigma: np.sign(x - 0.123))
    with pytest.raises(AssertionError, match="jumps"):
        table(np.zeros(1), 1.0)


def test_nuisance_denoiser_is_that_of_the_product():
    t = targets.build("uniforms")
    whole = components.Product([t.uncond, components.Gaussian(np.zeros(2), 1.25)])
    x = np.random.default_rng(1).standard_normal((50, 3)) * 2
    line = product.product(t, 3)
    exact = line.guided(laws.build("constant", -1.0), exact=True)
    alone = tabulated.WithNuisance(lambda c, s: t.uncond.denoise(c[:, None], s)[:, 0], 1.25)
    np.testing.assert_allclose(alone(x, 0.8), whole.denoise(x, 0.8), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(exact(x, 0.8)[:, 0], whole.denoise(x, 0.8)[:, 0], rtol=1e-12)


# ---- against exact distributions ----------------------------------------------------------------


def test_constant_law_agrees_with_the_exact_gaussian_pushforward():
    row = rows("gaussians", 2)["constant"]
    assert row["mean"] == pytest.approx(GMM_MEAN, abs=5e-3)
    assert row["sd"] == pytest.approx(GMM_SD, abs=6e-3)
    assert row["w1_to_cond"] == pytest.approx(GMM_MEAN - 1, abs=5e-3)  # mirrored classes
    assert row["class_odds"] == pytest.approx(2 * GMM_MEAN, abs=1e-2)  # log odds are 2x
    assert row["overshoot"] is None
    assert row["overshoot_reason"] == "the class is unbounded"


def test_constant_law_agrees_with_the_exact_uniform_pushforward():
    row = rows("uniforms", 2)["constant"]
    assert row["mean"] == pytest.approx(U12_MEAN, abs=2e-3)
    assert row["w1_to_cond"] == pytest.approx(U12_MEAN - 1.5, abs=2e-3)
    assert row["overshoot"] == pytest.approx(U12_PEAK - 2, abs=0.015)
    assert row["off_support"] == pytest.approx(0.0056, abs=0.002)
    assert row["off_support_denoised"] == 0
    assert row["class_odds"] is None
    assert row["class_odds_reason"] == "separable"


def test_constant_law_reaches_the_exact_values_as_steps_shrink():
    place, law = product.product("uniforms", 1), laws.build("constant", 3.0)
    errors, peaks = [], []
    for steps in (32, 96):
        drawn = product.draw(place, law, Simulation(n=400, steps=steps))
        errors.append(abs(drawn.denoised.mean() - U12_MEAN))
        peaks.append(abs(drawn.peak - U12_PEAK))
    assert errors[1] < 5e-4
    assert errors[1] < errors[0] / 7  # second order: 9
    assert peaks[1] < peaks[0] / 5
    assert peaks[1] < 5e-3


def test_conditional_row_is_the_conditional():
    for name, mean, sd in (("gaussians", 1.0, 1.0), ("uniforms", 1.5, 12**-0.5)):
        row = rows(name, 2)[peers.BASELINE]
        assert row["mean"] == pytest.approx(mean, abs=2e-3)
        assert row["sd"] == pytest.approx(sd, abs=8e-3)
        assert row["w1_to_cond"] < 6e-3
        assert row["w"] == 0


# ---- against closed forms -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "w", "params", "variance"),
    [
        ("constant", 3.0, {}, 0.125),
        ("interval", 3.0, {"low": 0.3, "high": 3.0}, 0.1888072605),
        ("autoguidance", 2.0, {}, 0.64),
    ],
)
def test_drawn_variance_is_the_closed_one(name, w, params, variance):
    place = product.product(linear_pair(), 2)
    simulation = Simulation(n=400, steps=200)
    drawn = product.draw(place, laws.build(name, w, **params), simulation)
    noise = product.noise_in(400, 2, 0)
    slope = drawn.x[:, 0] / noise[:, 0]  # linear: every sample is the same multiple of its noise
    np.testing.assert_allclose(slope, slope.mean(), rtol=1e-4)
    assert slope.mean() ** 2 == pytest.approx(variance, rel=2e-3)
    beside = 0.64 if name == "autoguidance" else 1.0
    assert np.mean((drawn.x[:, 1] / noise[:, 1]) ** 2) == pytest.approx(beside, rel=2e-3)


def test_overshoot_looks_to_the_side_on_which_the_class_lies():
    mirrored = targets.mixture(
        cond=[(1, components.Uniform([-2.0], [-1.0]))],
        uncond=[(1, components.Uniform([-2.0], [-1.0])), (1, components.Uniform([1.0], [2.0]))],
    )
    one, other = (
        peers.peer_rows(t, 1, 3.0, ("constant",), None, FEW)[1] for t in ("uniforms", mirrored)
    )
    assert other["overshoot"] == pytest.approx(one["overshoot"], abs=1e-6)
    assert other["mean"] == pytest.approx(-one["mean"], abs=1e-6)


def test_odds_are_null_where_the_marginal_lacks_the_class():
    row = peers.peer_rows(linear_pair(), 2, names=("constant",), simulation=FEW)[-1]
    assert row["class_odds"] is None
    assert row["class_odds_reason"] == "the marginal does not contain the class"


def test_rescale_in_v_is_the_constant_law_of_a_smaller_weight_beside_unit_nuisances():
    # Unit Gaussians have v = 0, so the spread is that of the class coordinate alone; in the
    # mirrored Gaussians c and g have one sign, so that g std(c)/std(g) = c.
    for d in (2, 5):
        place = product.product("gaussians", d)
        rescaled, constant = (
            product.draw(place, law, FEW).denoised
            for law in (laws.build("rescale", 10.0, phi=0.7), laws.build("constant", 3.0))
        )
        np.testing.assert_allclose(rescaled, constant, rtol=1e-7, atol=1e-7)


def test_zero_init_is_a_start_at_the_lower_noise_level():
    # Velocity 0 from sigma_max to 24 keeps x/(1+sigma), so that x = 25 u starts there.
    place, law = product.product("uniforms", 2), laws.build("cfg_zero_star", 3.0)
    drawn = product.draw(place, law, FEW)
    grid = [s for s in product.levels(law, FEW).tolist() if s <= 24.0 + 1e-12]
    guided = place.guided(law)
    start = 25 * product.noise_in(FEW.n, 2, FEW.seed)
    end = solver.last(solver.solve(guided, start, grid, solver.heun)).x
    np.testing.assert_allclose(drawn.x, end, rtol=0, atol=2e-3)  # u/(2 sigma_max) at the start


# ---- what the table promises --------------------------------------------------------------------


def test_laws_that_act_on_each_coordinate_do_not_see_the_dimension():
    few, many = rows("gaussians", 2), rows("gaussians", 4)
    for name in COORDINATEWISE:
        for key in ("mean", "sd", "w1_to_cond", "class_odds", "off_support"):
            assert few[name][key] == pytest.approx(many[name][key], rel=1e-12)
        if name != "cfg_plus_plus":  # Euler's error shows there
            plain = few[peers.BASELINE]["nuisance_sd"]
            assert few[name]["nuisance_sd"] == pytest.approx(plain, rel=2e-4)


def test_laws_of_direction_see_the_dimension_and_move_the_nuisance():
    few, many = rows("gaussians", 2), rows("gaussians", 4)
    for name in ("apg", "cfg_zero_star", "tangential"):
        assert abs(few[name]["mean"] - many[name]["mean"]) > 0.02
        assert abs(few[name]["nuisance_sd"] - few["constant"]["nuisance_sd"]) > 0.01
    assert few["autoguidance"]["nuisance_sd"] == pytest.approx(
        few["constant"]["nuisance_sd"] * 1.25**-1.5, rel=2e-3
    )


@pytest.mark.parametrize("name", ["gaussians", "uniforms"])
def test_one_coordinate_says_undefined_or_what_is_left(name):
    table = rows(name, 1)
    for law in ("rescale", "tangential", "mimic"):
        assert table[law]["undefined"]
        assert all(table[law][key] is None for key in ("mean", "w1_to_cond", "class_odds", "nfe"))
    assert "does nothing" in table["apg"]["note"]
    for key in ("mean", "sd", "off_support"):
        assert table["apg"][key] == table[peers.BASELINE][key]
    assert "does nothing" in table["cfg_zero_star"]["note"]
    assert table["constant"]["sliced_w1"] is None


def test_one_coordinate_leaves_cfg_zero_star_its_zeroed_start_only():
    row = peers.peer_rows(
        "gaussians", 1, 3.0, ("cfg_zero_star",), {"cfg_zero_star": {"zero_init": 0}}, FEW
    )
    assert row[1]["mean"] == pytest.approx(row[0]["mean"], rel=1e-9)
    assert row[1]["params"] == {"zero_init": 0}


def test_evaluations_are_those_the_law_needs():
    table = rows("gaussians", 2)
    full = 2 * 2 * (FEW.steps + 1)  # two networks, two evaluations a step, start and end
    assert table["constant"]["nfe"] == full
    assert table[peers.BASELINE]["nfe"] == full // 2
    assert table["cfg_plus_plus"]["nfe"] == 2 * (FEW.steps + 2)
    law = laws.build("interval", 3.0)
    grid = product.levels(law, FEW)
    steps = [(s, t) for s, t in itertools.pairwise(grid) if t / s < 1 - 1e-6]
    inside = sum(0.3 < s <= 3 for step in steps for s in step)
    assert table["interval"]["nfe"] == 2 * len(steps) + 2 + inside
    assert table["cfg_zero_star"]["nfe"] < full


def test_grid_has_a_node_on_each_side_of_a_jump():
    grid = product.levels(laws.build("interval", 3.0), FEW)
    weights = laws.build("interval", 3.0).weight(grid)
    change = np.flatnonzero(np.diff(weights))
    assert len(change) == 2
    np.testing.assert_allclose(grid[change] / grid[change + 1], 1, atol=2e-9)
    np.testing.assert_allclose(grid[change + 1], [3.0, 0.3], rtol=1e-12)


def test_rows_are_json_with_one_set_of_keys_and_distinct_names():
    table = [*rows("gaussians", 1).values(), *rows("uniforms", 2).values()]
    json.dumps(table, allow_nan=False)
    assert len({tuple(row) for row in table}) == 1
    assert len({row["key"] for row in table}) == len(table) == 2 * (1 + len(laws.NAMES))
    for row in table:
        assert row["guidance_scale"] == 1 + row["w"]


def test_thresholding_takes_the_bound_of_the_data():
    assert product.product("gaussians", 1).bound == pytest.approx(1 + 3.2905, abs=1e-3)
    assert product.product("uniforms", 1).bound == pytest.approx(1.9995, abs=1e-9)
    assert product.product("uniforms", 2).bound == pytest.approx(3.2905, abs=1e-3)
    row = rows("uniforms", 2)["dynamic_thresholding"]
    assert row["params"]["bound"] == pytest.approx(3.2905, abs=1e-3)
    assert row["mean"] < rows("uniforms", 2)["constant"]["mean"] - 0.05


def test_matched_rows_have_the_constant_law_s_odds():
    table = {
        row["law"]: row
        for row in peers.peer_rows(
            "gaussians", 2, 1.0, ("constant", "interval", "rescale", "cfg_plus_plus",
                                  "autoguidance"), None, FEW, True,
        )
    }  # fmt: skip
    aim = table["constant"]["class_odds"]
    for name in ("interval", "rescale", "cfg_plus_plus"):
        assert table[name]["class_odds"] == pytest.approx(aim, rel=2e-3)
        assert table[name]["unmatched"] is None
        assert table[name]["w"] != 1.0
    assert table["constant"]["w"] == pytest.approx(1.0, abs=1e-3)
    assert table["rescale"]["w"] == pytest.approx(1 / 0.3, rel=2e-3)
    assert "no w" in table["autoguidance"]["unmatched"]


def test_rows_repeat_exactly_and_seeds_differ():
    one, again, other = (
        peers.peer_rows("gaussians", 2, 3.0, ("apg",), None, Simulation(n=200, steps=16, seed=s))
        for s in (0, 0, 1)
    )
    assert one == again
    assert one[1]["mean"] != other[1]["mean"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"d": 0}, "coordinates >= 1"),
        ({"target": "gauss"}, "choose from"),
        ({"target": targets.gaussians(mean=[1.0, 1.0])}, "1-D"),
        ({"names": ("cfg",)}, "choose from constant"),
        ({"w": np.inf}, "finite"),
        ({"simulation": Simulation(n=10, solver="dpmpp_2m")}, "take heun, euler"),
        ({"target": "uniforms", "matched": True, "simulation": FEW}, "take gaussians"),
        ({"params": {"constant": {"low": 1}}}, "does not take low"),
        ({"params": {"interval": {"low": 1}}}, "names does not ask for"),
    ],
)
def test_peer_rows_refuses_in_one_line(change, says):
    given = {"target": "gaussians", "d": 2, "names": ("constant",), "simulation": FEW} | change
    with pytest.raises(ValueError, match=says) as error:
        peers.peer_rows(**given)
    assert "\n" not in str(error.value)


def test_peers_table_needs_no_torch():
    assert isinstance(rows("gaussians", 1)["constant"]["mean"], float)
    assert special.namespace(np.zeros(1)).__name__.endswith("numpy")
