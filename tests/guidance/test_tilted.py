"""The tilted density against quadrature, closed forms and rejection."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from assay.core.components import Gaussian, Points, TruncatedGaussian, Uniform
from assay.guidance import conditional, targets, tilted

PAIR = targets.gaussians()


@pytest.mark.parametrize(("w", "mean"), [(1, 1.2899892717), (3, 1.5394758197), (7, 1.7701026954)])
def test_gaussians_have_their_frozen_means(w, mean):
    assert tilted(PAIR, w).mean() == pytest.approx(mean, abs=3e-10)


@settings(max_examples=15, deadline=None)
@given(w=st.floats(-1, 30), prior=st.floats(0.05, 0.95), mean=st.floats(0.1, 3))
def test_tilt_of_gaussians_against_quadrature(w, prior, mean):
    t = targets.gaussians(mean, 0.7, prior)
    q = tilted(t, w)

    def log_weight(x):
        ours = -0.5 * ((x - mean) / 0.7) ** 2
        odds = np.log(prior / (1 - prior)) + 2 * mean * x / 0.49
        return ours - w * np.logaddexp(0, -odds)

    x = np.linspace(-9, 14, 20_001)
    density = np.exp(log_weight(x) - log_weight(x).max())
    total = integrate.simpson(density, x=x)
    mean_, second = (integrate.simpson(density * x**k, x=x) / total for k in (1, 2))
    assert q.mean() == pytest.approx(mean_, abs=1e-8)
    assert q.sd() == pytest.approx(np.sqrt(second - mean_**2), abs=1e-8)
    some = slice(8000, 9000, 100)
    np.testing.assert_allclose(q.pdf(x[some]), density[some] / total, rtol=1e-9)
    below = integrate.simpson(density[:8001], x=x[:8001]) / total
    assert q.cdf(x[8000]) == pytest.approx(below, rel=1e-7)


def test_tilt_by_zero_and_minus_one_are_class_and_marginal():
    for t in (PAIR, targets.uniforms()):
        assert tilted(t, 0).w1(conditional(t)) == 0
        x = np.array([-1.7, -0.2, 0.4, 1.2])
        np.testing.assert_allclose(
            tilted(t, -1).logpdf(x), t.uncond.log_prob(x[:, None], 0.0), rtol=1e-13
        )


def test_tilt_is_continuous_at_the_class():
    assert tilted(PAIR, 1e-7).mean() == pytest.approx(1, abs=1e-6)
    assert tilted(PAIR, -1 + 1e-7).mean() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("w", [1.0, 7.0, 1000.0])
def test_tilt_of_disjoint_boxes_is_the_class(w):
    q = tilted(targets.uniforms(), w)
    assert (q.mean(), q.sd()) == pytest.approx((1.5, 12**-0.5), abs=1e-12)
    assert q.entropy() == pytest.approx(0, abs=1e-12)
    assert q.support == (1.0, 2.0)
    np.testing.assert_allclose(q.edge_gap([0.0, 9.0]), special.ndtr([0.0, -9.0]), rtol=1e-9)


@pytest.mark.parametrize("w", [1, 3])
def test_linear_gaussians_have_their_tilted_variance(w):
    t = targets.mixture([(1, Gaussian(0.0, 1.0))], [(1, Gaussian(0.0, 2.0))])
    variance = 1 / ((1 + w) - w / 2)
    q = tilted(t, w)
    assert q.sd() ** 2 == pytest.approx(variance, rel=1e-9)
    assert q.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * variance), abs=1e-9)
    np.testing.assert_allclose(
        q.logsf([1.0, 40.0, 400.0]),
        special.log_ndtr(-np.array([1.0, 40.0, 400.0]) / np.sqrt(variance)),
        rtol=1e-11,
    )
    assert q.map(-60.0) == pytest.approx(-60 * np.sqrt(variance), rel=1e-10)


def test_tilt_may_lie_far_from_the_class():
    # Two normals of one width: the tilt is a normal of mean (1+w) m_c - w m_u.
    t = targets.mixture([(1, Gaussian(1.0, 1.0))], [(1, Gaussian(-9.0, 1.0))])
    q = tilted(t, 100)
    assert (q.mean(), q.sd()) == pytest.approx((1001.0, 1.0), abs=1e-6)


def test_tilt_with_holes_and_kinks_against_quadrature():
    ours = [(1, Uniform(0.0, 1.0)), (1, Uniform(2.0, 3.0))]
    rest = [(1, Uniform(0.5, 2.5)), (1, TruncatedGaussian(0.0, 1.0, -np.inf, 2.8))]
    t = targets.mixture(cond=ours, uncond=ours + rest)
    q = tilted(t, 4.0)

    def weight(x):
        column = np.array([[x]])
        return np.exp(5 * t.cond.log_prob(column, 0.0) - 4 * t.uncond.log_prob(column, 0.0))[0]

    breaks = [0.0, 0.5, 1.0, 2.0, 2.5, 2.8, 3.0]
    masses = np.array(
        [
            0.0 if a == 1.0 else integrate.quad(weight, a, b, epsabs=1e-13)[0]
            for a, b in itertools.pairwise(breaks)
        ]
    )
    np.testing.assert_allclose(q.cdf(breaks), np.append(0, masses.cumsum()) / masses.sum())
    levels = np.array([0.01, 0.3, 0.6, 0.99])
    np.testing.assert_allclose(q.cdf(q.quantile(levels)), levels, rtol=1e-12)
    assert q.pdf(1.5) == 0


def test_tails_of_the_tilt_have_logarithms():
    q = tilted(PAIR, 3)
    x = np.linspace(-60, -50, 40_001)
    values = -0.5 * (x - 1) ** 2 - 3 * np.logaddexp(0, -2 * x)
    tail = special.logsumexp(values) + np.log(x[1] - x[0])
    grid = np.linspace(-15, 15, 40_001)
    whole = special.logsumexp(-0.5 * (grid - 1) ** 2 - 3 * np.logaddexp(0, -2 * grid))
    expected = tail - whole - np.log(grid[1] - grid[0])
    assert q.logcdf(-50.0) == pytest.approx(expected, abs=0.02)  # the sum's end cells
    u = np.array([-40.0, -12.0, 12.0])
    np.testing.assert_allclose(q.logcdf(q.map(u))[:2], special.log_ndtr(u[:2]), rtol=1e-12)
    assert q.logsf(q.map(12.0)) == pytest.approx(special.log_ndtr(-12.0), rel=1e-12)


def test_strong_tilt_keeps_its_accuracy():
    q = tilted(PAIR, 10_000)
    # ln weight = -(x-1)^2/2 - w ln(1 + e^-2x), peaked where (x - 1)(1 + e^2x) = 2w.
    x = np.linspace(1, 9, 400_001)
    values = -0.5 * (x - 1) ** 2 - 1e4 * np.log1p(np.exp(-2 * x))
    density = np.exp(values - values.max())
    assert q.mean() == pytest.approx((density @ x) / density.sum(), abs=1e-8)


def test_tilted_points_are_reweighted():
    ours, rest = Points([[0.0], [1.0]]), Points([[1.0], [2.0]])
    t = targets.mixture([(1, ours)], [(1, ours), (1, rest)])
    q = tilted(t, 2.0)
    # p(z|0) = 1, p(z|1) = 1/2.
    np.testing.assert_allclose(q.cdf([0.0, 1.0]), [0.8, 1.0])
    with pytest.raises(ValueError, match="atoms"):
        q.entropy()


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_rejection_in_two_dimensions_has_the_line_s_law(w):
    t = targets.gaussians(mean=[1.0, 0.0])
    q = tilted(t, w)
    x = q.sample(20_000, np.random.default_rng(0))
    assert x.shape == (20_000, 2)
    # Kolmogorov-Smirnov with an error probability of 1e-6 each.
    assert stats.kstest(x[:, 0], tilted(PAIR, w).cdf).pvalue > 1e-6
    assert stats.kstest(x[:, 1], stats.norm.cdf).pvalue > 1e-6
    np.testing.assert_array_equal(x[:50], q.sample(50, 0))


def test_sample_on_the_line():
    x = tilted(PAIR, 7).sample(5000, np.random.default_rng(1))
    assert stats.kstest(x, tilted(PAIR, 7).cdf).pvalue > 1e-6


WIDE = targets.mixture([(1, Gaussian(0.0, 4.0))], [(1, Gaussian(0.0, 1.0))])
PLANE = targets.gaussians(mean=[1.0, 0.0])
APART = targets.mixture([(1, Gaussian([0.0, 0.0], 1.0))], [(1, Gaussian([0.0, 0.0], 2.0))])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tilted(WIDE, 1.0), "cannot be normalised"),
        (
            lambda: tilted(targets.mixture([(1, Uniform(0, 2))], [(1, Uniform(0, 1))]), 1.0),
            "cannot be normalised",
        ),
        (
            lambda: tilted(targets.mixture([(1, Gaussian(-1, 2))], [(1, Gaussian(1, 1))]), 1.0),
            "cannot be normalised",
        ),
        (lambda: tilted(PAIR, -1.5), "below -1"),
        (lambda: tilted(PAIR, np.nan), "w nan"),
        (lambda: tilted(PLANE, 3.0).mean(), "samples only"),
        (lambda: tilted(PLANE, 3.0).pdf(0.0), "samples only"),
        (lambda: tilted(PLANE, 3.0).support, "samples only"),
        (lambda: tilted(PLANE, 3.0).w1_to_cond(), "samples only|dimensions"),
        (lambda: tilted(PLANE, -0.5).sample(3, 0), "needs w >= 0"),
        (lambda: tilted(APART, 1.0).sample(3, 0), "contains the class"),
        (lambda: tilted(PLANE, 3.0).sample(-3, 0), "whole number"),
        (
            lambda: tilted(
                targets.mixture(
                    [(1, Points([[0.0]])), (1, Uniform(0, 1))], [(1, Gaussian(0.0, 1.0))]
                ),
                1.0,
            ),
            "atoms beside a density",
        ),
        (
            lambda: tilted(targets.mixture([(1, Points([[0]]))], [(1, Gaussian(0, 1))]), 1.0),
            "lacks a point",
        ),
    ],
)
def test_what_has_no_tilt_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_normalisable_border_case_is_taken():
    # Equal tails, leaning inwards on the one side that is unbounded.
    t = targets.mixture([(1, TruncatedGaussian(0.0, 1.0, 0.0, np.inf))], [(1, Gaussian(1.0, 2.0))])
    # ln weight = -x^2 + (x-1)^2/4 for w = 1: a cut normal of variance 2/3 and mean -1/3.
    q = tilted(t, 1.0)
    a = (0 + 1 / 3) / np.sqrt(2 / 3)
    expected = stats.truncnorm(a, np.inf, -1 / 3, np.sqrt(2 / 3))
    assert (q.mean(), q.sd()) == pytest.approx((expected.mean(), expected.std()), abs=1e-9)
    assert q.logsf(12.0) == pytest.approx(expected.logsf(12.0), rel=1e-10)
