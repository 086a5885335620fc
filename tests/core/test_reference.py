"""The adaptive reference against closed forms, frozen figures and scipy's integrator."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import log_ndtr

from assay.core import guidance, noise, reference, solver

TIGHT = reference.Adaptive(rtol=1e-11, atol=1e-11)


def gaussian(mean, variance):
    return lambda x, sigma: mean + variance / (variance + sigma**2) * (x - mean)


def mirrored(x, sigma):
    """E[x0 | x] of 1/2 N(1, 1) + 1/2 N(-1, 1)."""
    v = 1 + sigma**2
    m = np.tanh(x / v) if isinstance(x, np.ndarray) else torch.tanh(x / v)
    return m + (x - m) / v


def uniform(x, sigma, low, high):
    """(log mass, E[x0 | x]) of U[low, high], measured from the nearer end's side."""
    a, b = (low - x) / sigma, (high - x) / sigma
    a, b = np.where(a + b > 0, -b, a), np.where(a + b > 0, -a, b)
    log_mass = log_ndtr(b) + np.log(-np.expm1(log_ndtr(a) - log_ndtr(b)))
    mean = (np.exp(-a * a / 2 - log_mass) - np.exp(-b * b / 2 - log_mass)) / math.sqrt(2 * np.pi)
    return log_mass, x + sigma * np.where(low + high - 2 * x > 0, -mean, mean)


def u12(x, sigma):
    return uniform(x, sigma, 1.0, 2.0)[1]


def u12_marginal(x, sigma):
    (up, d_up), (down, d_down) = (uniform(x, sigma, a, a + 1.0) for a in (1.0, -2.0))
    return d_down + (d_up - d_down) / (1 + np.exp(np.clip(down - up, -700, 700)))


def gmm(w):
    return guidance.Guided(gaussian(1.0, 1.0), mirrored, w)


def gauss_hermite(n):
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes[:, None], weights / weights.sum()


GMM = {
    1.0: (1.5638298718, 1.6125424272, 0.7617541228),
    3.0: (2.2848225750, 2.3484823087, 0.5962602812),
    7.0: (3.2053667397, 3.2605313943, 0.5029786721),
    15.0: (4.4144969272, 4.4568219611, 0.4504474249),
}


@pytest.mark.parametrize("w", GMM)
def test_mirrored_gaussians_frozen_figures(w):
    """Median, mean, sd of the guided samples to 1e-8, by Gauss-Hermite over the noise."""
    u, weights = gauss_hermite(61)
    x = reference.reference(gmm(w), u, sigma_min=1e-3, final="limit", config=TIGHT).x[:, 0]
    mean = weights @ x
    sd = math.sqrt(weights @ (x - mean) ** 2)
    np.testing.assert_allclose([x[30], mean, sd], GMM[w], atol=1e-8)


def test_mirrored_gaussians_without_guidance_shift_the_noise():
    u = np.linspace(-6, 6, 13)[:, None]
    x = reference.reference(gmm(0.0), u, sigma_min=1e-3, final="limit", config=TIGHT).x
    np.testing.assert_allclose(x, u + 1, atol=1e-9)


def test_mirrored_gaussians_strong_guidance_limit():
    """x = 0.9332947510 sqrt(w) + 1 + 0.3887159233 u + O(w^-1/2)."""
    u = np.array([[-1.0], [0.0], [1.0]])
    x = reference.reference(gmm(1e4), u, sigma_min=1e-3, final="limit", config=TIGHT).x
    np.testing.assert_allclose(x, 93.3294751 + 1 + 0.3887159233 * u, atol=0.02)
    assert float(x[2, 0] - x[0, 0]) / 2 == pytest.approx(0.3887159233, abs=2e-3)


@pytest.mark.parametrize(("w", "median"), [(1.0, 1.7185124635), (3.0, 1.9020694075)])
def test_uniform_classes_frozen_median(w, median):
    denoiser = guidance.Guided(u12, u12_marginal, w)
    out = reference.reference(
        denoiser, np.zeros((1, 1)), sigma_min=1e-5, config=reference.Adaptive(scale=0.3)
    )
    assert float(out.x[0, 0]) == pytest.approx(median, abs=1e-7)


def test_uniform_class_without_guidance_is_its_quantile():
    """U12 at w = 0: F(u) = 1 + Phi(u)."""
    u = np.array([[-2.0], [0.3], [2.5]])
    out = reference.reference(u12, u, sigma_min=1e-6, config=reference.Adaptive(scale=0.3))
    np.testing.assert_allclose(out.x, 1 + np.exp(log_ndtr(u)), atol=1e-6)


@pytest.mark.parametrize("w", [-1.0, 0.0, 1.0, 3.0, 7.0])
def test_linear_gaussians_law(w):
    """x(sigma) ~ (A + sigma^2)^((1+w)/2) (B + sigma^2)^(-w/2) from r = 0, A = 1, B = 2."""
    denoiser = guidance.Guided(gaussian(0.0, 1.0), gaussian(0.0, 2.0), w)
    u = np.array([[1.0, -2.0]])
    levels = [1e3, 30.0, 2.0, 0.5, 0.01]
    out = reference.reference(denoiser, u, sigma_min=1e-4, at=levels, config=TIGHT)
    for state, sigma in zip(out.states, levels, strict=True):
        closed = u * (1 + sigma**2) ** ((1 + w) / 2) * (2 + sigma**2) ** (-w / 2)
        np.testing.assert_allclose(state.x, closed, rtol=1e-8)
        assert state.sigma == sigma
    end = reference.reference(denoiser, u, sigma_min=1e-4, final="limit", config=TIGHT)
    np.testing.assert_allclose(end.x**2, u**2 * 0.5**w, rtol=1e-8)
    assert end.sigma == 0.0


def test_interval_law_with_breaks():
    """cond / uncond variances 1 / 2, w = 3 on (0.3, 3]: variance 0.1888072605."""

    def law(x, sigma, d_cond, d_uncond, memory):
        w = 3.0 if 0.3 < sigma <= 3 else 0.0
        return d_cond + w * (d_cond - d_uncond), memory

    denoiser = guidance.Guided(gaussian(0.0, 1.0), gaussian(0.0, 2.0), law)
    config = reference.Adaptive(breaks=(0.3, 3.0))
    out = reference.reference(denoiser, np.ones((1, 1)), final="limit", config=config)
    assert float(out.x[0, 0]) ** 2 == pytest.approx(0.1888072605, abs=1e-9)
    blind = reference.reference(denoiser, np.ones((1, 1)), final="limit")
    assert out.evaluations < blind.evaluations / 2


def test_against_scipy_in_another_variable():
    """Ten-dimensional guided mixture from a finite start: dc/d ln r by scipy's DOP853."""
    rng = np.random.default_rng(0)
    means, sds = rng.normal(size=(3, 10)), np.array([0.4, 0.7, 1.1])

    def marginal(x, sigma):
        v = sds**2 + sigma**2
        gaps = x[:, None, :] - means
        log_p = -0.5 * (gaps**2).sum(-1) / v - 5 * np.log(v)
        p = np.exp(log_p - log_p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        each = means + (sds**2 / v)[:, None] * gaps
        return (p[..., None] * each).sum(1)

    denoiser = guidance.Guided(gaussian(means[0], sds[0] ** 2), marginal, 3.0)
    x = 8.0 * rng.normal(size=(20, 10))
    ours = reference.reference(denoiser, x, 8.0, 0.01, config=TIGHT)

    def slope(log_r, c):
        r = math.exp(log_r)
        return (r * denoiser(c.reshape(x.shape) / r, 1 / r)).ravel()

    span = (-math.log(8.0), -math.log(0.01))
    c = solve_ivp(slope, span, x.ravel() / 8.0, method="DOP853", rtol=1e-11, atol=1e-10).y[:, -1]
    np.testing.assert_allclose(ours.x, 0.01 * c.reshape(x.shape), atol=1e-8)


def test_dense_states_match_separate_solves():
    u = np.array([[-1.5], [0.2], [3.0]])
    levels = (40.0, 5.0, 1.3, 0.31, 1e-3)
    out = reference.reference(gmm(3.0), u, sigma_min=1e-3, at=levels, config=TIGHT)
    for state in out.states:
        alone = reference.reference(gmm(3.0), u, sigma_min=state.sigma, config=TIGHT)
        np.testing.assert_allclose(state.x, alone.x, rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(out.states[-1].x, out.x)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_scale_changes_cost_not_result(scale):
    u = np.array([[-1.0], [1.0]])
    config = reference.Adaptive(rtol=1e-10, atol=1e-10, scale=scale)
    x = reference.reference(gmm(3.0), u, sigma_min=1e-3, final="limit", config=config).x
    base = reference.reference(gmm(3.0), u, sigma_min=1e-3, final="limit", config=TIGHT).x
    np.testing.assert_allclose(x, base, atol=3e-8)


def test_torch_equals_numpy():
    u = np.random.default_rng(1).standard_normal((5, 2))
    ours = reference.reference(gmm(3.0), u, sigma_min=0.01, at=[1.0])
    theirs = reference.reference(gmm(3.0), torch.from_numpy(u), sigma_min=0.01, at=[1.0])
    assert isinstance(theirs.x, torch.Tensor)
    assert theirs.evaluations == ours.evaluations
    np.testing.assert_allclose(theirs.x.numpy(), ours.x, rtol=1e-12)
    np.testing.assert_allclose(theirs.states[0].x.numpy(), ours.states[0].x, rtol=1e-12)


def test_evaluations_are_those_made():
    calls = []

    def counted(x, sigma):
        calls.append(sigma)
        return mirrored(x, sigma)

    out = reference.reference(counted, np.ones((2, 1)), final="denoise", at=[3.0, 0.5])
    assert out.evaluations == len(calls)
    assert all(type(sigma) is float and sigma > 0 for sigma in calls)


def test_final_denoise_is_the_denoised_end():
    u = np.array([[0.4]])
    plain = reference.reference(gmm(1.0), u, sigma_min=0.2)
    denoised = reference.reference(gmm(1.0), u, sigma_min=0.2, final="denoise")
    np.testing.assert_array_equal(denoised.x, gmm(1.0)(plain.x, 0.2))
    assert (plain.sigma, denoised.sigma) == (0.2, 0.0)


def test_every_particle_is_controlled():
    """One particle near the divide between two tight modes keeps its accuracy in a large batch."""

    def tight(x, sigma):
        v = 0.01 + sigma**2
        m = np.tanh(x / v)
        return m + 0.01 / v * (x - m)

    u = np.full((2000, 1), 2.0)
    u[7] = 0.01
    together = reference.reference(tight, u, sigma_min=0.01).x[7]
    alone = reference.reference(tight, u[7:8], sigma_min=0.01, config=TIGHT).x[0]
    np.testing.assert_allclose(together, alone, atol=1e-7)


@pytest.mark.parametrize("order", [6, 8])
def test_adams_meets_the_reference_cheaply(order):
    """The fixed-step multistep method at w = 3 on the reference's own endpoints."""
    u = np.random.default_rng(2).standard_normal((200, 2))
    exact = reference.reference(gmm(3.0), u, sigma_min=1e-3, final="limit", config=TIGHT)
    errors = {}
    for n in (16, 40):
        sigmas = noise.chebyshev(n, 0.0, 1e4)
        start = guidance.unbiased_start(gaussian(1.0, 1.0), mirrored, 3.0, u, 1e4)
        end = solver.last(solver.solve(gmm(3.0), start, sigmas, solver.adams(order))).x
        errors[n] = float(np.sqrt(((end - exact.x) ** 2).mean()))
    assert errors[16] < 1e-3
    assert errors[40] < (3e-6 if order == 6 else 1e-6)
    assert exact.evaluations > 4 * 41


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: reference.reference(mirrored, u, 1.0, 2.0), "0 < sigma_min < sigma_max"),
        (lambda u: reference.reference(mirrored, u, sigma_min=0.0), "sigma_min 0.0"),
        (lambda u: reference.reference(mirrored, u, sigma_min=1e7), "give less than"),
        (lambda u: reference.reference(mirrored, u, final="both"), "final is 'both'"),
        (lambda u: reference.reference(mirrored, u, 5.0, 1.0, at=[6.0]), "at holds 6.0"),
        (lambda u: reference.reference(lambda x, s: x * math.nan, u), "not finite between"),
        (lambda u: reference.Adaptive(rtol=0.0), "rtol is 0.0"),
        (lambda u: reference.Adaptive(max_steps=0), "max_steps is 0"),
        (
            lambda u: reference.reference(mirrored, u, config=reference.Adaptive(max_steps=3)),
            "max_steps 3 did not reach",
        ),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((1, 1)))
