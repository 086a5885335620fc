"""The frozen figures of the laboratory: each is known to at least ten digits by other routes."""

import math

import numpy as np
import pytest

from assay.guidance import Pushforward, conditional, targets, tilted

W = (1.0, 3.0, 7.0, 15.0)
GMM = {
    "median": (1.5638298718, 2.2848225750, 3.2053667397, 4.4144969272),
    "mean": (1.6125424272, 2.3484823087, 3.2605313943, 4.4568219611),
    "sd": (0.7617541228, 0.5962602812, 0.5029786721, 0.4504474249),
}
U12 = {
    "median": (1.7185124635, 1.9020694075, 1.9863760098, 1.9996809484),
    "mean": (1.6965236327, 1.8821253688, 1.9800403489, 1.9993201792),
}
TILTED_MEANS = {1.0: 1.2899892717, 3.0: 1.5394758197, 7.0: 1.7701026954}


def _value(law, name):
    return law.quantile(0.5) if name == "median" else getattr(law, name)()


@pytest.fixture(scope="module")
def gaussians():
    return {w: Pushforward(targets.gaussians(), w) for w in W}


@pytest.fixture(scope="module")
def uniforms():
    return {w: Pushforward(targets.uniforms(), w) for w in W}


@pytest.mark.parametrize("name", GMM)
@pytest.mark.parametrize("index", range(4))
def test_gaussians_have_their_known_moments(gaussians, name, index):
    assert _value(gaussians[W[index]], name) == pytest.approx(GMM[name][index], abs=1e-9)


@pytest.mark.parametrize("name", U12)
@pytest.mark.parametrize("index", range(4))
def test_uniforms_have_their_known_moments(uniforms, name, index):
    assert _value(uniforms[W[index]], name) == pytest.approx(U12[name][index], abs=1e-9)


@pytest.mark.parametrize("w", TILTED_MEANS)
def test_tilted_gaussians_have_the_means_that_guidance_misses(gaussians, w):
    law = tilted(targets.gaussians(), w)
    assert law.mean() == pytest.approx(TILTED_MEANS[w], abs=1e-9)
    assert gaussians[w].mean() - law.mean() > 0.3
    assert gaussians[w].w1_to_tilted() == pytest.approx(gaussians[w].w1(law), abs=1e-12)


def test_tilted_uniforms_are_the_conditional():
    law = tilted(targets.uniforms(), 7.0)
    assert law.mean() == pytest.approx(1.5, abs=1e-12)
    assert law.w1_to_cond() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("prior", "mean"), [(0.1, 3.5810344062), (0.9, 1.3839018849)])
def test_unequal_priors_move_the_mean(prior, mean):
    law = Pushforward(targets.gaussians(prior=prior), 3.0)
    assert law.mean() == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize(("w", "variance"), [(1.0, 0.5), (3.0, 0.125), (7.0, 0.0078125)])
def test_linear_gaussians_have_their_closed_variance(w, variance):
    from assay.core.components import Gaussian

    t = targets.mixture(cond=[(1, Gaussian([0.0], 1.0))], uncond=[(1, Gaussian([0.0], 2.0))])
    law = Pushforward(t, w)
    assert law.sd() ** 2 == pytest.approx(variance, rel=1e-9)
    u = np.array([-40.0, -1.0, 0.5, 37.0])
    np.testing.assert_allclose(law.map(u), u * math.sqrt(variance), rtol=1e-9)


def test_distance_to_the_conditional_is_the_difference_of_means(gaussians, uniforms):
    for laws, mean in ((gaussians, 1.0), (uniforms, 1.5)):
        for law in laws.values():
            assert law.w1_to_cond() == pytest.approx(law.mean() - mean, abs=1e-9)


def test_w_zero_is_the_conditional_and_minus_one_the_marginal():
    u = np.linspace(-6, 6, 13)
    for t, plain in (
        (targets.gaussians(), u + 1),
        (targets.uniforms(), 1 + np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in u])),
    ):
        np.testing.assert_allclose(Pushforward(t, 0.0).map(u), plain, rtol=1e-10)
        np.testing.assert_allclose(conditional(t).map(u), plain, rtol=1e-10)
        marginal = Pushforward(t, -1.0)
        assert marginal.mean() == pytest.approx(0.0, abs=1e-9)
        assert marginal.cdf(0.0) == pytest.approx(0.5, abs=1e-9)


def test_lower_tail_at_w_100_has_a_logarithm():
    log_tail = Pushforward(targets.gaussians(), 100.0).logcdf(0.0)
    assert -21_000 < log_tail < -19_000
    # second route: dg/dalpha = 1 + w (1 - tanh(alpha g)) back from g(1) = 0, P = Phi(g(0))
    from scipy.integrate import solve_ivp
    from scipy.special import log_ndtr

    back = solve_ivp(
        lambda a, g: 1 + 100 * (1 - np.tanh(a * g)), (1.0, 0.0), [0.0], rtol=1e-12, atol=1e-12,
        method="DOP853",
    )  # fmt: skip
    assert log_tail == pytest.approx(float(log_ndtr(back.y[0, -1])), rel=1e-9)


def test_gaussians_at_large_w_follow_their_expansion():
    w, u = 10_000.0, np.array([-2.0, 0.0, 1.0])
    law = Pushforward(targets.gaussians(), w)
    leading = 0.9332947510 * math.sqrt(w) + 1 + 0.3887159233 * u
    np.testing.assert_allclose(law.map(u), leading, atol=2 / math.sqrt(w))


def test_edge_gap_has_digits_where_x_has_rounded_to_the_edge():
    t = targets.uniforms()
    small = Pushforward(t, 15.0)
    assert small.edge_gap(0.0) == pytest.approx(2 - 1.9996809484, abs=1e-9)
    gaps = [math.log(Pushforward(t, w).edge_gap(0.0)) + math.log(w) / 2 for w in (200.0, 300.0)]
    assert (gaps[0] - gaps[1]) / 100 == pytest.approx(0.43552, abs=2e-4)
    assert Pushforward(t, 300.0).map(0.0) == 2.0


def test_tail_ratio_tends_to_the_inverse_prior_to_the_w():
    # slowly, from below: density ratio guided / conditional tends to P(z)^-w = 8 at w = 3
    t, law = targets.gaussians(), Pushforward(targets.gaussians(), 3.0)
    x = np.array([6.0, 12.0, 40.0])
    ratio = np.exp(law.logpdf(x) - conditional(t).logpdf(x))
    assert np.all(np.diff(ratio) > 0)
    assert 7.0 < ratio[-1] < 8.0


@pytest.mark.parametrize("name", ["gaussians", "uniforms"])
def test_face_keeps_shapes_and_ends(name):
    t = targets.build(name)
    law = Pushforward(t, 3.0)
    low, high = law.support
    for method in ("map", "quantile", "cdf", "sf", "logcdf", "logsf", "pdf", "logpdf"):
        scalar = getattr(law, method)(0.5)
        assert type(scalar) is float
        assert getattr(law, method)(np.full((2, 3), 0.5)).shape == (2, 3)
    assert law.quantile(0.0) == low
    assert law.quantile(1.0) == high
    q = np.array([1e-6, 0.1, 0.5, 0.99])
    np.testing.assert_allclose(law.cdf(law.quantile(q)), q, rtol=1e-8)
    if np.isfinite(low):
        assert law.pdf(low - 1) == 0
        assert law.cdf(high + 1) == 1
        assert law.logcdf(low - 1) == -math.inf
        assert law.logsf(low - 1) == 0
    drawn = law.sample(2000, np.random.default_rng(0))
    # five standard errors: error probability below 1e-6
    assert abs(drawn.mean() - law.mean()) < 5 * law.sd() / math.sqrt(2000)
    assert "<" in law._repr_html_()


def test_face_refuses_in_words():
    t = targets.gaussians()
    law = Pushforward(t, 1.0)
    for call, message in (
        (lambda: law.quantile(1.5), "q = 1.5"),
        (lambda: law.cdf(float("nan")), "NaN"),
        (lambda: law.edge_gap(0.0), "far edge"),
        (lambda: Pushforward(t, float("inf")), "w"),
        (lambda: Pushforward(targets.uniforms(), -0.5), "-0.5"),
        (lambda: Pushforward(targets.gaussians(mean=[1.0, 2.0]), 1.0), "1-D"),
        (lambda: targets.gaussians(prior=1.0), "prior 1.0"),
        (lambda: targets.gaussians(sd=-2), "sd -2"),
        (lambda: targets.uniforms(low=3, high=2), "low 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    from assay.core.components import Gaussian

    wide = targets.mixture(cond=[(1, Gaussian([0.0], 4.0))], uncond=[(1, Gaussian([0.0], 1.0))])
    with pytest.raises(ValueError, match="normalis"):
        tilted(wide, 3.0).mean()


def test_tilted_in_more_dimensions_is_sampled_exactly():
    law = tilted(targets.gaussians(mean=[1.0, 0.0, 0.0]), 3.0)
    x = law.sample(20_000, np.random.default_rng(0))
    exact = tilted(targets.gaussians(), 3.0)
    # five standard errors: error probability below 1e-6
    assert abs(x[:, 0].mean() - exact.mean()) < 5 * exact.sd() / math.sqrt(len(x))
    assert x[:, 0].std() == pytest.approx(exact.sd(), rel=5 / math.sqrt(2 * len(x)))
    with pytest.raises(ValueError, match="sample"):
        law.mean()
