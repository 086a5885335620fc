"""Score-error monitor: against exact denoisers, closed forms and its own promises."""

from __future__ import annotations

import numpy as np
import pytest

from assay import guidance
from assay.core import components, mixture
from assay.core.guidance import Guided
from assay.guidance import targets
from assay.guidance.monitoring import levels, monitor
from assay.guidance.monitoring.mixture import Gaussians
from assay.guidance.monitoring.posterior import Posterior

GMM = targets.gaussians(1.0, 1.0)
FEW = monitor.MonitorConfig(pairs=1, paths=64, substeps=2)
SIGMAS = (20.0, 2.0, 0.5, 0.1, 0.02)
DATA = GMM.cond.sample(600, np.random.default_rng(0))


def exact(x, sigma):
    return GMM.cond.denoise(x, sigma)


def biased(x, sigma):
    return exact(x, sigma) + 0.05


# ---- the posterior -----------------------------------------------------------------------------


def _groups(x, k):
    return [x[i::k] for i in range(k)]


def test_posterior_is_the_exact_denoiser_of_points():
    x = np.random.default_rng(1).standard_normal((30, 2))
    at = np.random.default_rng(2).standard_normal((7, 2))
    points = mixture.Mixture(np.ones(30), [components.Points(p[None]) for p in x])
    look = Posterior(_groups(x, 5)).look(at, 0.4)
    np.testing.assert_allclose(look.whole, points.denoise(at, 0.4), rtol=1e-5, atol=1e-6)
    alone = Posterior(_groups(x, 5)[1:]).look(at, 0.4).whole
    np.testing.assert_allclose(look.without[0], alone, rtol=1e-5, atol=1e-6)
    unseen = Posterior(_groups(x, 5)).unseen(at, 0.4, np.zeros(7, dtype=int))
    np.testing.assert_allclose(unseen, look.without[0], rtol=1e-6)


def test_posterior_without_its_only_neighbours_stays_finite():
    x = np.array([[0.0], [0.001], [500.0], [500.1]])
    unseen = Posterior([x[:2], x[2:]]).unseen(np.zeros((1, 1)), 0.01, np.array([0]))
    assert unseen[0, 0] == pytest.approx(500.0, abs=1e-3)


def test_smoothed_posterior_denoises_the_widened_law():
    x = np.random.default_rng(1).standard_normal((40, 1))
    at = np.linspace(-2, 2, 9)[:, None]
    wide = mixture.Mixture(np.ones(40), [components.Gaussian(p, 0.09) for p in x])
    look = Posterior(_groups(x, 4), 0.3).look(at, 0.2)
    np.testing.assert_allclose(look.whole, wide.denoise(at, 0.2), rtol=1e-5, atol=1e-6)


def test_effective_neighbours_are_all_data_at_large_noise_and_one_far_away():
    x = np.random.default_rng(1).standard_normal((50, 3))
    post = Posterior(_groups(x, 5))
    assert post.crowd(x, 1e4).neighbours == pytest.approx(np.full(50, 50.0), rel=1e-4)
    assert post.crowd(x + 90, 0.1).neighbours == pytest.approx(np.ones(50), rel=1e-3)


def test_gaussian_reference_denoises_like_its_own_fit():
    x = np.random.default_rng(3).standard_normal((400, 3)) * [1.0, 2.0, 0.5] + 1.0
    law = components.Gaussian(x.mean(axis=0), np.cov(x.T))
    at = x[:20] + 0.3
    look = Gaussians(_groups(x, 4)).look(at, 0.7)
    np.testing.assert_allclose(look.whole, law.denoise(at, 0.7), rtol=1e-4)


def test_gaussians_of_a_covariance_each_follow_the_data_of_each_centre():
    # Two clouds of different spread: one covariance fits neither, one each fits both.
    rng = np.random.default_rng(5)
    narrow, wide = rng.normal(-8, 0.2, (600, 3)), rng.normal(8, 2.0, (600, 3))
    x = rng.permutation(np.concatenate([narrow, wide]))
    at = np.full((1, 3), -7.5)
    want = -8 + 0.5 * 0.2**2 / (0.2**2 + 0.3**2)
    apart = Gaussians(_groups(x, 4), 2, 0.0, apart=True).look(at, 0.3).whole
    common = Gaussians(_groups(x, 4), 2).look(at, 0.3).whole
    np.testing.assert_allclose(apart, want, atol=0.08)
    assert np.abs(common - want).min() > 0.2


# ---- the error ---------------------------------------------------------------------------------


def test_exact_denoiser_is_consistent_with_no_error():
    # Each of 24 intervals of 95 % may miss; under 5 % each, more than 5 misses has P < 1e-3.
    missed = 0
    for seed in range(4):
        data = GMM.cond.sample(400, np.random.default_rng(10 + seed))
        report = guidance.score_error(exact, data, SIGMAS, config=FEW)
        rows = [*report.rows, report.total["held-out"]]
        missed += sum(row["squared"] > 1.96 * row["squared_se"] for row in rows)
        assert all(row["error"] is None or row["error"] < 0.2 for row in rows)
    assert missed <= 5


def test_constant_bias_is_recovered_within_its_interval():
    report = guidance.score_error(biased, DATA, SIGMAS, config=FEW)
    assert report.rows[-1]["status"] == "known"
    for row in report.rows:
        true = 0.05 / row["sigma"]
        if row["status"] == "known":
            assert row["error_low"] <= true <= row["error_high"]
            assert row["error"] == pytest.approx(true, rel=0.3)
        else:
            assert true <= row["error_high"]
    total = report.total["held-out"]
    assert total["error"] == pytest.approx(_size(lambda s: 0.05 / s), rel=0.1)


def _size(error):
    weights = monitor.report.log_weights(SIGMAS)
    return float(np.sqrt(weights @ [error(s) ** 2 for s in SIGMAS]))


def test_visited_error_of_a_bias_is_the_same_and_the_ratio_one():
    law = Guided(biased, GMM.uncond.denoise, 1.0)
    report = guidance.score_error(biased, DATA, SIGMAS, guided=law, config=FEW)
    seen = {r["sigma"]: r for r in report.rows if r["states"] == "visited"}
    assert seen[0.1]["error"] == pytest.approx(0.5, rel=0.25)
    assert seen[0.1]["w"] == 1.0
    assert seen[0.1]["guidance_scale"] == 2.0
    ratio = report.total["ratio"]
    assert ratio["error_low"] <= 1.0 <= ratio["error_high"]


def test_states_far_from_the_data_are_unknown():
    far = [(s, np.full((20, 1), 40.0) + np.linspace(0, 1, 20)[:, None]) for s in SIGMAS[2:]]
    report = guidance.score_error(biased, DATA, SIGMAS, states=far, config=FEW)
    rows = [r for r in report.rows if r["states"] == "visited"]
    assert [r["status"] for r in rows] == ["unknown"] * 3
    assert all(r["error"] is None and "0% of the states" in r["reason"] for r in rows)
    assert report.total["visited"]["status"] == report.total["ratio"]["status"] == "unknown"


def test_a_single_state_among_the_data_is_no_answer():
    far = np.append(np.zeros((1, 1)), np.full((19, 1), 40.0), axis=0)
    report = guidance.score_error(biased, DATA, SIGMAS, states=[(0.5, far)], config=FEW)
    row = report.rows[-1]
    assert row["status"] == "unknown"
    assert row["on_data"] == pytest.approx(0.05)
    assert np.isfinite(row["squared_se"])


def test_too_few_neighbours_are_unknown():
    plane = np.random.default_rng(5).standard_normal((200, 2))
    states = [(0.004, plane[:50] + 0.004)]
    report = guidance.score_error(
        lambda x, s: x / (1 + s**2), plane, (1.0, 0.004), states=states, config=FEW
    )
    (row,) = [r for r in report.rows if r["states"] == "visited"]
    assert row["status"] == "unknown"
    assert "effective neighbours" in row["reason"]


def test_rows_do_not_depend_on_the_order_of_sigmas():
    one = guidance.score_error(biased, DATA, SIGMAS, config=FEW)
    other = guidance.score_error(biased, DATA, SIGMAS[::-1], config=FEW)
    assert one.rows == other.rows


def test_order_of_the_data_changes_nothing_beyond_its_interval():
    # The groups and the noise fall otherwise: two estimates of one number.
    one = guidance.score_error(biased, DATA, SIGMAS, config=FEW).total["held-out"]
    other = guidance.score_error(biased, DATA[::-1].copy(), SIGMAS, config=FEW).total["held-out"]
    assert one["error"] == pytest.approx(other["error"], rel=0.05)
    # A permutation inside the groups, with the same noise for each datum, changes rounding only.
    refs = monitor.prepare(DATA, SIGMAS, FEW).references
    at = levels.level(refs, 0.5, 1, np.random.default_rng(0))
    posteriors = [r for r in refs.every if isinstance(r, Posterior)]
    turned = [Posterior([g[::-1] for g in p.groups], p.width) for p in posteriors]
    for a, b in zip(posteriors, turned, strict=True):
        np.testing.assert_allclose(
            a.look(at.held_out.x, 0.5).whole, b.look(at.held_out.x, 0.5).whole, rtol=1e-6
        )


def test_torch_denoisers_and_images_are_taken():
    import torch

    def network(x, sigma):
        return torch.mul(x, 1 / (1 + sigma**2)) + 0.1

    data = np.random.default_rng(0).standard_normal((300, 1, 1, 2))
    few = guidance.score_error(network, torch.as_tensor(data), (1.0, 0.1), config=FEW)
    same = guidance.score_error(lambda x, s: x / (1 + s**2) + 0.1, data, (1.0, 0.1), config=FEW)
    for a, b in zip(few.rows, same.rows, strict=True):
        assert a["squared"] == pytest.approx(b["squared"], rel=1e-3, abs=1e-4)
    assert few.rows[-1]["error"] == pytest.approx(0.1 * np.sqrt(2) / 0.1, rel=0.1)


def test_disagreement_of_an_ensemble_is_the_distance_between_its_members():
    other = [lambda x, s: exact(x, s) - 0.05]
    report = guidance.score_error(biased, DATA, SIGMAS, ensemble=other, config=FEW)
    for row in report.rows:
        assert row["disagreement"] == pytest.approx(0.1 / np.sqrt(2) / row["sigma"], rel=1e-6)


def test_report_can_be_read_and_shows_no_markup():
    report = guidance.score_error(biased, DATA, SIGMAS, config=FEW)
    assert "held-out  all" in repr(report)
    assert "known" in repr(report)
    report.rows[0]["reason"] = "<script>alert(1)</script>"
    assert "<script>" not in report._repr_html_()
    assert report.total["held-out"]["nfe"] == 600 * 2 * len(SIGMAS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DATA[:20]}, "n >= 40"),
        ({"data": DATA[:, 0]}, r"must be \(n, \*shape\)"),
        ({"data": np.zeros((100, 1))}, "all equal"),
        ({"data": np.full((100, 1), np.nan)}, "NaN"),
        ({"sigmas": (1.0,)}, "two or more"),
        ({"sigmas": (1.0, 1.0)}, "two or more"),
        ({"sigmas": (1.0, 0.0)}, "> 0"),
        ({"sigmas": (1.0, np.inf)}, "finite"),
        ({"denoiser": lambda x, s: x[:1]}, "answers"),
        ({"denoiser": lambda x, s: x * np.nan}, "NaN"),
        ({"states": [(3.0, DATA[:9])]}, "no such level"),
        ({"states": [(2.0, DATA[:3])]}, "m >= 8"),
        ({"states": []}, "states is empty"),
        ({"states": [], "guided": Guided(exact, exact, 1.0)}, "both given"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    given = {"denoiser": exact, "data": DATA, "sigmas": SIGMAS, "config": FEW} | change
    with pytest.raises(ValueError, match=message) as caught:
        guidance.score_error(given.pop("denoiser"), given.pop("data"), **given)
    assert "\n" not in str(caught.value)


# ---- errors that the reference shares, and many dimensions -------------------------------------

SPREAD = np.geomspace(0.1, 1.0, 12)
MANY = components.Gaussian(np.zeros(12), SPREAD**2)
WIDE = components.Gaussian(np.zeros(12), SPREAD**2 + 0.05)
LEVELS = (1.0, 0.3, 0.1, 0.03)
TEN = monitor.MonitorConfig(pairs=1, paths=64, substeps=2, groups=8)


def smoothed(x, sigma):
    return x + sigma**2 * WIDE.score(x, sigma)


def _true(x, sigma):
    apart = smoothed(x, sigma) - MANY.denoise(x, sigma)
    return float(np.mean(np.sum(apart**2, axis=1))) / sigma**2


def test_settled_error_lies_at_the_second_estimate_where_that_is_above_beyond_noise():
    noise = np.random.default_rng(0).standard_normal(1000)
    same = levels.settle(levels.Held(1 + noise, 1 + noise + 0.1 * noise[::-1]))
    assert same.values.mean() == pytest.approx((1 + noise).mean(), abs=0.02)
    above = levels.settle(levels.Held(1 + 0.01 * noise, 2 + 0.01 * noise[::-1]))
    assert above.values.mean() == pytest.approx(2.0, abs=0.01)
    assert above.shared == pytest.approx(0.5, abs=0.01)
    below = levels.settle(levels.Held(2 + 0.01 * noise, 1 + 0.01 * noise[::-1]))
    assert below.values.mean() == pytest.approx(1.5, abs=0.01)


def test_second_estimate_does_not_exceed_the_error_beyond_noise():
    # Four levels of two errors, two seeds: each bound holds with P > 0.99 where L is right.
    for seed in range(2):
        data = MANY.sample(500, np.random.default_rng(seed))
        prepared = monitor.prepare(data, LEVELS, TEN)
        for at in prepared.levels():
            for denoise, true in ((MANY.denoise, 0.0), (smoothed, _true(at.held_out.x, at.sigma))):
                held = levels.held_out_error(at, data, denoise(at.held_out.x, at.sigma))
                se = 2 * held.loss.std(ddof=1) / np.sqrt(len(data))
                assert held.loss.mean() < true + 2.5 * se


def test_smoothed_denoiser_in_many_dimensions_is_within_its_intervals():
    # Every one of some ten intervals of 95 % holds: P(two or more miss) < 0.1 if independent,
    # and these are made to be too wide rather than too narrow.
    data = MANY.sample(800, np.random.default_rng(3))
    near = [(s, MANY.sample(96, np.random.default_rng(9), s) * 1.15) for s in LEVELS]
    report = guidance.score_error(smoothed, data, LEVELS, states=near, config=TEN)
    places = dict(near)
    missed = 0
    for row in report.rows:
        if row["status"] != "unknown":
            held = MANY.sample(4000, np.random.default_rng(1), row["sigma"])
            x = places[row["sigma"]] if row["states"] == "visited" else held
            true = np.sqrt(_true(x, row["sigma"]))
            missed += not 0.97 * row["error_low"] <= true <= 1.03 * row["error_high"]
    assert missed <= 1
    assert report.total["held-out"]["status"] == "known"


def test_total_is_no_less_than_what_its_levels_vouch_for():
    report = guidance.score_error(biased, DATA, SIGMAS, config=FEW)
    weights = dict(zip(SIGMAS, monitor.report.log_weights(SIGMAS), strict=True))
    rows = [r for r in report.rows if r["states"] == "held-out"]
    least = sum(
        weights[r["sigma"]] * max(0.0, r["squared"] - 1.9600 * r["squared_se"]) for r in rows
    )
    total = report.total["held-out"]
    assert total["error_low"] >= np.sqrt(least) * (1 - 1e-3)


def test_ratio_of_an_error_that_is_the_same_everywhere_is_known_to_be_one():
    def pushed(x, sigma):
        return MANY.denoise(x, sigma) + 0.5 * sigma

    data = MANY.sample(400, np.random.default_rng(4))
    near = [(s, MANY.sample(96, np.random.default_rng(9), s)) for s in LEVELS]
    ratio = guidance.score_error(pushed, data, LEVELS, states=near, config=TEN).total["ratio"]
    assert ratio["status"] == "known"
    assert ratio["error_low"] <= 1.0 <= ratio["error_high"]
    assert ratio["error_high"] / ratio["error_low"] < 1.3
