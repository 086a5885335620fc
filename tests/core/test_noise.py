"""Sigma grids, clocks and training distributions against their formulas."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from assay.core import noise

GRIDS = {
    "karras": noise.karras,
    "exponential": noise.exponential,
    "ou": noise.ou,
    "flow": noise.flow,
}


@hypothesis.given(st.sampled_from(sorted(GRIDS)), st.integers(2, 60), st.booleans())
def test_grid_falls_between_its_ends(name, n, zero):
    sigmas = GRIDS[name](n, 0.002, 80.0, zero=zero)
    assert sigmas.shape == (n + 1,)
    assert sigmas.dtype == np.float64
    assert (np.diff(sigmas) < 0).all()
    assert sigmas[0] == 80.0
    assert sigmas[-1] == (0.0 if zero else 0.002)
    assert not zero or sigmas[-2] == 0.002


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_grid_of_one_step(name):
    assert GRIDS[name](1, 0.002, 80.0).tolist() == [80.0, 0.0]
    assert GRIDS[name](1, 0.002, 80.0, zero=False).tolist() == [80.0, 0.002]


def test_karras_matches_edm_equation_5():
    n, low, high, rho = 18, 0.002, 80.0, 7
    edm = [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(n)
    ]
    np.testing.assert_allclose(noise.karras(n, low, high), [*edm, 0.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("exponential", np.log),
        ("ou", noise.ou_from_sigma),
        ("flow", noise.flow_from_sigma),
    ],
)
def test_grid_is_uniform_in_its_clock(name, clock):
    steps = np.diff(clock(GRIDS[name](40, 0.01, 50.0, zero=False)))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


def test_ddpm_sigmas_at_training_steps():
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - betas)
    expected = np.sqrt((1 - alpha_bar) / alpha_bar)[::-1]
    sigmas = noise.ddpm(1000)
    np.testing.assert_allclose(sigmas[:-1], expected, rtol=1e-10)
    assert sigmas[-1] == 0
    assert sigmas[0] == pytest.approx(157.4, abs=0.1)
    assert sigmas[-2] == pytest.approx(0.01, rel=1e-3)
    short = noise.ddpm(25, zero=False)
    assert short.shape == (26,)
    assert (np.diff(short) < 0).all()
    np.testing.assert_allclose(short[[0, -1]], expected[[0, -1]], rtol=1e-10)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("low", [0.0, 1e-6, 0.05])
def test_chebyshev_points_of_alpha(scale, low):
    sigmas = noise.chebyshev(30, low, 1e4, scale)
    assert sigmas.shape == (31,)
    assert (np.diff(sigmas) < 0).all()
    assert (sigmas[0], sigmas[-1]) == (1e4, low)
    alpha = scale / np.hypot(scale, sigmas)
    part = (1 - np.cos(np.pi * np.arange(31) / 30)) / 2
    np.testing.assert_allclose(alpha, alpha[0] + (alpha[-1] - alpha[0]) * part, atol=1e-12)


def test_chebyshev_last_positive_sigma():
    assert noise.chebyshev(100, 0.0, 1e6, 0.5)[-2] == pytest.approx(
        np.pi * 0.5 / (2**0.5 * 100), rel=1e-3
    )


@hypothesis.given(st.floats(1e-6, 1e6))
def test_clocks_round_trip(sigma):
    for there, back in [
        (noise.ou_from_sigma, noise.sigma_from_ou),
        (noise.alpha_bar_from_sigma, noise.sigma_from_alpha_bar),
        (noise.flow_from_sigma, noise.sigma_from_flow),
    ]:
        again = back(there(sigma))
        assert isinstance(again, float)
        # flow and VP clocks lose digits where they saturate: t and 1 - alpha_bar near their ends
        assert again == pytest.approx(sigma, rel=1e-15 * max(sigma, sigma**-2) + 1e-12)


def test_clocks_name_the_same_corruption():
    """Each clock's signal and noise coefficients, divided, are sigma; its scale takes x there."""
    t = np.array([0.1, 0.7, 2.0])
    sigma = noise.sigma_from_ou(t)
    np.testing.assert_allclose(sigma, np.sqrt(1 - np.exp(-2 * t)) / np.exp(-t), rtol=1e-12)
    np.testing.assert_allclose(noise.ou_scale(sigma), np.exp(-t), rtol=1e-12)
    np.testing.assert_allclose(noise.alpha_bar_from_sigma(sigma), np.exp(-2 * t), rtol=1e-12)
    flow_t = noise.flow_from_sigma(sigma)
    np.testing.assert_allclose(flow_t / (1 - flow_t), sigma, rtol=1e-12)


def test_clocks_in_torch_equal_numpy():
    sigma = np.array([0.01, 1.0, 30.0])
    for clock in (noise.ou_from_sigma, noise.ou_scale, noise.alpha_bar_from_sigma):
        out = clock(torch.from_numpy(sigma))
        assert isinstance(out, torch.Tensor)
        np.testing.assert_allclose(out.numpy(), clock(sigma), rtol=1e-14)
    t = torch.tensor([0.2, 1.5], dtype=torch.float64)
    np.testing.assert_allclose(noise.sigma_from_ou(t).numpy(), noise.sigma_from_ou(t.numpy()))


@pytest.mark.parametrize(
    "rng", [np.random.default_rng(5), torch.Generator().manual_seed(5)], ids=["numpy", "torch"]
)
def test_training_sigmas_have_their_moments(rng):
    """ln sigma ~ N(mean, sd^2): mean and sd within 5 standard errors (error < 2e-6 in all)."""
    n = 40_000
    for draws, mean, sd in [
        (noise.lognormal(rng, n), -1.2, 1.2),
        (noise.logit_normal(rng, n, 0.3, 0.8), 0.3, 0.8),
    ]:
        logs = np.log(np.asarray(draws))
        assert logs.shape == (n,)
        assert abs(logs.mean() - mean) < 5 * sd / n**0.5
        assert abs(logs.std() - sd) < 5 * sd / (2 * n) ** 0.5


def test_logit_normal_is_logit_normal_in_flow_time():
    """Same generator: logit of the flow time equals mean + sd * draw."""
    sigma = noise.logit_normal(np.random.default_rng(1), 50, -0.5, 2.0)
    t = noise.flow_from_sigma(sigma)
    draws = np.random.default_rng(1).standard_normal(50)
    np.testing.assert_allclose(np.log(t / (1 - t)), -0.5 + 2.0 * draws, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise.karras(0, 0.1, 1), "n is 0"),
        (lambda: noise.karras(5, 1.0, 1.0), "0 < sigma_min < sigma_max"),
        (lambda: noise.karras(5, 0.1, 1.0, rho=0), "rho is 0"),
        (lambda: noise.ou(5, 0.0, 1.0), "0 < sigma_min"),
        (lambda: noise.exponential(5, 0.1, float("inf")), "sigma_max < inf"),
        (lambda: noise.flow(5, float("nan"), 1.0), "sigma_min nan"),
        (lambda: noise.ddpm(5, beta_start=0.0), "beta_start 0.0"),
        (lambda: noise.ddpm(5, train_steps=1), "train_steps is 1"),
        (lambda: noise.chebyshev(5, -0.1, 1.0), "0 <= sigma_min"),
        (lambda: noise.chebyshev(5, 0.0, 1.0, scale=0.0), "scale is 0.0"),
        (lambda: noise.lognormal(np.random.default_rng(0), 3, sd=-1), "sd is -1"),
    ],
)
def test_bad_intervals_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
