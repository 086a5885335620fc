"""The distribution of guided samples against closed forms, frozen figures and limits."""

import functools

import numpy as np
import pytest
from scipy import integrate, special, stats

from assay.core.components import Gaussian, Points, Uniform
from assay.guidance import Pushforward, conditional, targets, tilted

# 30-digit values: median, mean, sd of the unit balanced pair; median, mean of U[1,2].
GAUSSIANS = {
    1: (1.5638298718, 1.6125424272, 0.7617541228),
    3: (2.2848225750, 2.3484823087, 0.5962602812),
    7: (3.2053667397, 3.2605313943, 0.5029786721),
    15: (4.4144969272, 4.4568219611, 0.4504474249),
}
UNIFORMS = {
    1: (1.7185124635, 1.6965236327),
    3: (1.9020694075, 1.8821253688),
    7: (1.9863760098, 1.9800403489),
    15: (1.9996809484, 1.9993201792),
}


@functools.cache
def pushed(name, w):
    return Pushforward(targets.build(name), w)


@pytest.mark.parametrize("w", GAUSSIANS)
def test_gaussians_have_their_frozen_figures(w):
    p = pushed("gaussians", w)
    figures = p.quantile(0.5), p.mean(), p.sd()
    np.testing.assert_allclose(figures, GAUSSIANS[w], rtol=0, atol=3e-10)


@pytest.mark.parametrize("w", UNIFORMS)
def test_uniforms_have_their_frozen_figures(w):
    p = pushed("uniforms", w)
    np.testing.assert_allclose((p.quantile(0.5), p.mean()), UNIFORMS[w], rtol=0, atol=3e-10)


@pytest.mark.parametrize(("prior", "mean"), [(0.1, 3.5810344062), (0.9, 1.3839018849)])
def test_prior_moves_the_mean(prior, mean):
    assert Pushforward(targets.gaussians(prior=prior), 3).mean() == pytest.approx(mean, abs=3e-10)


def test_without_guidance_the_sample_is_the_class():
    u = np.array([-6.0, -1.0, 0.0, 2.5, 7.0])
    np.testing.assert_allclose(pushed("gaussians", 0).map(u), u + 1, rtol=1e-13)
    np.testing.assert_allclose(pushed("uniforms", 0).map(u), 1 + special.ndtr(u), atol=1e-10)
    p = pushed("uniforms", 0)
    assert p.sd() == pytest.approx(12**-0.5, abs=1e-10)
    assert p.entropy() == pytest.approx(0, abs=1e-9)
    assert p.w1_to_cond() == pytest.approx(0, abs=1e-10)


def test_at_minus_one_the_sample_is_the_marginal():
    p = pushed("gaussians", -1)
    x = np.array([-3.0, -0.5, 0.0, 1.0])
    expected = (stats.norm.cdf(x, 1) + stats.norm.cdf(x, -1)) / 2
    np.testing.assert_allclose(p.cdf(x), expected, rtol=1e-9)
    np.testing.assert_allclose(
        p.pdf(x), (stats.norm.pdf(x, 1) + stats.norm.pdf(x, -1)) / 2, rtol=1e-9
    )
    assert (p.mean(), p.sd()) == pytest.approx((0, np.sqrt(2)), abs=1e-9)
    boxes = pushed("uniforms", -1)
    x = [-1.5, -1.0, 0.3, 1.0, 1.75]
    np.testing.assert_allclose(boxes.cdf(x), [0.25, 0.5, 0.5, 0.5, 0.875])
    assert boxes.support == (-2.0, 2.0)


@pytest.mark.parametrize("w", [-0.5, 1, 3, 7])
def test_linear_gaussians_have_their_power_law(w):
    t = targets.mixture([(1, Gaussian(0.0, 1.0))], [(1, Gaussian(0.0, 2.0))])
    p = Pushforward(t, w)
    assert p.sd() ** 2 == pytest.approx(0.5**w, rel=1e-9)
    u = np.array([-40.0, -1.0, 3.0])
    np.testing.assert_allclose(p.map(u), u * 0.5 ** (w / 2), rtol=1e-9)
    assert p.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 0.5**w), abs=1e-9)


def test_large_w_expansion_of_the_gaussians():
    u = np.array([-1.0, 0.0, 1.5])
    rest = {}
    for w in (1e3, 4e3, 1e4):
        expansion = 0.9332947510 * np.sqrt(w) + 1 + 0.3887159233 * u
        rest[w] = (pushed("gaussians", w).map(u) - expansion) * np.sqrt(w)
        assert np.abs(rest[w]).max() < 2
    # What is left is O(w^-1/2): times sqrt(w) it settles.
    np.testing.assert_allclose(rest[1e4], rest[4e3], atol=0.02)


@pytest.mark.parametrize(("w", "share"), [(13.46, 0.9198), (1000, 0.0025)])
def test_share_beyond_sqrt_w_rises_and_falls(w, share):
    assert pushed("gaussians", w).sf(np.sqrt(w)) == pytest.approx(share, abs=5e-5)


def test_median_gap_of_the_uniforms_closes_at_its_rate():
    w = np.array([100.0, 200.0, 300.0])
    level = [pushed("uniforms", v).log_edge_gap(0.0) + np.log(v) / 2 for v in w]
    slopes = -np.diff(level) / np.diff(w)
    np.testing.assert_allclose(slopes, 0.4355195, atol=2e-4)
    assert abs(slopes[1] - 0.4355195) < abs(slopes[0] - 0.4355195)


def test_edge_gap_agrees_with_a_tighter_tolerance():
    w, t, u = 300, targets.uniforms(), np.array([-1.0, 2.0])
    best = Pushforward(t, w, tol=1e-12)
    np.testing.assert_allclose(pushed("uniforms", w).edge_gap(u), best.edge_gap(u), rtol=1e-8)


def test_edge_gap_is_the_distance_to_the_edge():
    p, u = pushed("uniforms", 3), np.array([-1.0, 2.0])
    np.testing.assert_allclose(p.edge_gap(u), 2 - p.map(u), rtol=1e-12)


def test_very_strong_guidance_still_has_a_gap():
    p = pushed("uniforms", 10_000)
    assert p.map(0.0) == 2.0
    assert p.edge_gap(0.0) == 0.0  # e^-4360 is no float64
    assert p.log_edge_gap(0.0) == pytest.approx(-0.4355195e4 - np.log(1e4) / 2, abs=0.3)


def test_left_class_mirrors_the_right_one():
    left = Pushforward(
        targets.mixture(
            [(1, Uniform(-2.0, -1.0))], [(1, Uniform(-2.0, -1.0)), (1, Uniform(1.0, 2.0))]
        ),
        15,
    )
    assert left.far_edge == -2.0
    assert left.edge_gap(-1.0) == pytest.approx(pushed("uniforms", 15).edge_gap(1.0), rel=1e-8)


def test_box_from_zero_keeps_relative_precision_at_both_ends():
    p = Pushforward(targets.uniforms(0.0, 1.0), 0)
    assert p.logcdf(1e-60) == pytest.approx(-60 * np.log(10), rel=1e-11)
    assert p.map(-12.0) == pytest.approx(special.ndtr(-12.0), rel=1e-8)
    assert p.edge_gap(12.0) == pytest.approx(special.ndtr(-12.0), rel=1e-8)


@pytest.mark.parametrize(("name", "w"), [("gaussians", 3), ("gaussians", 15), ("uniforms", 3)])
def test_quantile_inverts_cdf_and_density_integrates_to_it(name, w):
    p = pushed(name, w)
    q = np.array([1e-8, 1e-3, 0.2, 0.9])
    x = p.quantile(q)
    np.testing.assert_allclose(p.cdf(x), q, rtol=1e-6 if name == "uniforms" else 1e-8)
    np.testing.assert_allclose(p.sf(x), 1 - q, rtol=1e-8)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    low, high = x[1:-1], x[2:]
    grid = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * nodes
    masses = p.pdf(grid) @ weights * (high - low) / 2
    np.testing.assert_allclose(masses, np.diff(q)[1:], rtol=1e-7)


def test_ends_and_outside_of_a_guided_box():
    p = pushed("uniforms", 3)
    assert p.support == (1.0, 2.0)
    assert p.quantile([0.0, 1.0]).tolist() == [1.0, 2.0]
    assert p.cdf([0.0, 1.0, 2.0, 3.0]).tolist() == [0, 0, 1, 1]
    assert p.logcdf(1.0) == -np.inf
    assert p.pdf([0.5, 2.5]).tolist() == [0, 0]
    assert pushed("gaussians", 3).support == (-np.inf, np.inf)


def test_entropy_of_a_guided_law_against_its_density():
    p = pushed("gaussians", 3)
    x = np.linspace(p.quantile(1e-13), p.quantile(1 - 1e-13), 1501)
    density = p.pdf(x)
    expected = -integrate.simpson(density * np.log(density), x=x)
    assert p.entropy() == pytest.approx(expected, abs=1e-8)
    box = pushed("uniforms", 3)
    nodes, weights = special.roots_hermitenorm(30)
    expected = -weights @ box.logpdf(box.map(nodes)) / weights.sum()
    assert box.entropy() == pytest.approx(expected, abs=1e-3)  # far nodes lie on the edges


@pytest.mark.parametrize(("name", "w"), [("gaussians", 1), ("gaussians", 15), ("uniforms", 7)])
def test_w1_of_mirrored_classes_is_the_difference_of_means(name, w):
    p = pushed(name, w)
    assert p.w1_to_cond() == pytest.approx(p.mean() - conditional(p.target).mean(), abs=1e-9)


def test_w1_to_tilted_is_the_area_between_the_quantiles():
    p = pushed("gaussians", 3)
    u = np.linspace(-8, 8, 1601)
    q = tilted(p.target, 3)
    expected = integrate.simpson(np.abs(p.map(u) - q.map(u)) * stats.norm.pdf(u), x=u)
    assert p.w1_to_tilted() == pytest.approx(expected, abs=1e-7)


def test_density_ratio_tends_to_the_prior_s_power_at_the_far_edge():
    # P(z)^-w = 8 for w = 3, approached slowly: from above or below it keeps moving towards it.
    p = pushed("uniforms", 3)
    ratio = p.pdf(2 - 10.0 ** -np.array([3.0, 6.0, 9.0, 12.0, 15.0]))
    gaps = np.abs(np.log(ratio / 8))
    assert np.all(np.diff(gaps) < 0)
    assert gaps[-1] < 0.2


def test_tails_reach_past_every_float():
    p = pushed("gaussians", 3)
    # Each far side is a normal of its own: the left one of mean 1 + 2w, the right one of 1.
    x = np.array([-190.0, 210.0])
    z = np.array([-197.0, 209.0])
    assert p.logcdf(x[0]) == pytest.approx(special.log_ndtr(z[0]), abs=60)
    assert p.logsf(x[1]) == pytest.approx(special.log_ndtr(-z[1]), abs=60)
    assert p.logcdf(p.map(-200.0)) == pytest.approx(special.log_ndtr(-200.0), rel=1e-9)
    assert p.logcdf(-190.0) < -8700 * np.log(10) * 0.96


def test_samples_follow_the_guided_law():
    p = pushed("uniforms", 3)
    x = p.sample(20_000, np.random.default_rng(2))
    # Kolmogorov-Smirnov with an error probability of 1e-6, on a grid of the cdf.
    grid = np.linspace(1, 2, 201)
    empirical = np.searchsorted(np.sort(x), grid, side="right") / len(x)
    assert np.abs(empirical - p.cdf(grid)).max() < np.sqrt(np.log(2e6) / 2 / len(x))
    assert x.min() >= 1
    assert x.max() <= 2


def test_points_are_reached_exactly_and_have_no_density():
    dots = (1, Points([[0.0], [1.0]]))
    p = Pushforward(targets.mixture([dots], [dots, (1, Gaussian(0.0, 1.0))]), 2.0)
    assert set(p.map(np.linspace(-3, 3, 9)).tolist()) == {0.0, 1.0}
    share = p.sf(0.5)
    assert p.mean() == pytest.approx(share, abs=1e-10)
    assert p.sd() == pytest.approx(np.sqrt(share * (1 - share)), abs=1e-10)
    assert p.w1_to_cond() == pytest.approx(abs(share - 0.5), abs=1e-9)
    for refused in (lambda: p.pdf(0.0), lambda: p.logpdf([0.0]), p.entropy):
        with pytest.raises(ValueError, match="atoms"):
            refused()


PLAIN = targets.gaussians()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Pushforward(PLAIN, -1.5), "w = -1.5 is below -1"),
        (lambda: Pushforward(PLAIN, np.nan), "w nan"),
        (lambda: Pushforward(PLAIN, np.inf), "w inf"),
        (lambda: Pushforward(PLAIN, "three"), "w three"),
        (lambda: Pushforward(targets.uniforms(), -0.5), "between -1 and 0"),
        (lambda: Pushforward(targets.gaussians([1.0, 0.0]), 3), "dim 2"),
        (lambda: Pushforward(PLAIN, 3, tol=0.0), "tol"),
        (
            lambda: Pushforward(
                targets.mixture([(1, Uniform(1.0, 2.0))], [(1, Uniform(0.0, 1.5))]), 1
            ),
            "let uncond include the class",
        ),
        (lambda: pushed("gaussians", 3).edge_gap(0.0), "no far edge"),
        (lambda: pushed("gaussians", 3).quantile(1.5), "no probability"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_exactness_costs_little():
    p = Pushforward(PLAIN, 3, tol=1e-4)
    assert p.quantile(0.5) == pytest.approx(GAUSSIANS[3][0], abs=1e-4)
    assert p.nfe <= 50
    p = Pushforward(PLAIN, 10_000)
    p.map(0.0)
    assert p.nfe <= 770
