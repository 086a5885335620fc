"""Identities between predictions, clamping, memory handed through."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from assay.core import denoiser, solver

SD, MEAN = 0.7, 1.3


def gaussian(x, sigma):
    """E[x0 | x] of N(MEAN, SD^2)."""
    return MEAN + SD**2 / (SD**2 + sigma**2) * (x - MEAN)


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 1.0, 80.0])
def test_score_is_gradient_of_log_density(sigma):
    x = np.linspace(-4, 4, 9)[:, None]
    exact = (MEAN - x) / (SD**2 + sigma**2)
    given = denoiser.to_score(gaussian(x, sigma), x, sigma)
    np.testing.assert_allclose(given, exact, rtol=1e-9, atol=1e-12 / sigma**2)


@hypothesis.given(st.floats(1e-3, 1e3), st.floats(-50, 50), st.floats(-50, 50))
def test_predictions_round_trip(sigma, x, value):
    x, value = np.array([[x]]), np.array([[value]])
    for there, back in [
        (denoiser.to_score, denoiser.from_score),
        (denoiser.to_eps, denoiser.from_eps),
        (denoiser.to_velocity, denoiser.from_velocity),
    ]:
        again = back(there(value, x, sigma), x, sigma)
        np.testing.assert_allclose(again, value, rtol=1e-9, atol=1e-10)


def test_predictions_of_the_true_noise_agree():
    rng = np.random.default_rng(0)
    x0, noise = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    sigma = np.array([0.1, 0.5, 1.0, 3.0, 40.0])
    x = x0 + sigma[:, None] * noise
    np.testing.assert_allclose(denoiser.to_eps(x0, x, sigma), noise, rtol=1e-9)
    np.testing.assert_allclose(denoiser.to_score(x0, x, sigma), -noise / sigma[:, None], rtol=1e-9)
    np.testing.assert_allclose(denoiser.to_velocity(x0, x, sigma), noise - x0, rtol=1e-9)


def test_velocity_drives_the_linear_flow():
    """dx_t/dt along the probability flow equals the velocity, x_t = x / (1 + sigma)."""
    x, h = np.array([[0.4], [2.0]]), 1e-5

    def flow_position(t):
        sigma = t / (1 - t)
        spread = np.sqrt((SD**2 + sigma**2) / (SD**2 + 1.5**2))
        return (1 - t) * (MEAN + (x - MEAN) * spread)  # closed probability flow through x at 1.5

    t = 1.5 / 2.5
    slope = (flow_position(t + h) - flow_position(t - h)) / (2 * h)
    velocity = denoiser.to_velocity(gaussian(x, 1.5), x, 1.5)
    np.testing.assert_allclose(velocity, slope, rtol=1e-8)


def test_sigma_per_sample_broadcasts_over_images():
    rng = np.random.default_rng(1)
    x, denoised = rng.normal(size=(2, 4, 3, 3, 3))
    sigma = np.array([0.5, 1.0, 2.0, 4.0])
    each = [denoiser.to_eps(denoised[k], x[k], float(s)) for k, s in enumerate(sigma)]
    np.testing.assert_array_equal(denoiser.to_eps(denoised, x, sigma), np.stack(each))


def test_clamp_known_entries_run_straight_to_known():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(6, 2))
    known, mask = np.array([5.0, 0.0]), np.array([True, False])
    clamped = denoiser.clamp(gaussian, known, mask)
    sigmas = [10.0, 3.0, 1.0, 0.2, 0.0]
    for state in solver.solve(clamped, known * mask + 10.0 * noise, sigmas):
        straight = 5.0 + state.sigma * noise[:, 0]
        np.testing.assert_allclose(state.x[:, 0], straight, rtol=1e-12)
    free = solver.last(solver.solve(gaussian, 10.0 * noise, sigmas)).x
    np.testing.assert_allclose(state.x[:, 1], free[:, 1], rtol=1e-12)


def test_clamp_hands_memory_through():
    class Remembers:
        def __call__(self, x, sigma):
            return self.evaluate(x, sigma, None)[0]

        def evaluate(self, x, sigma, memory):
            return gaussian(x, sigma), (memory or 0) + 1

    clamped = denoiser.clamp(Remembers(), np.zeros(1), np.array([True]))
    final = solver.last(solver.solve(clamped, np.ones((3, 1)), [4.0, 2.0, 1.0, 0.0]))
    assert final.memory.law == 3


def test_clamp_refuses_a_mask_of_numbers():
    with pytest.raises(ValueError, match="mask has dtype float64"):
        denoiser.clamp(gaussian, np.zeros(2), np.ones(2))


def test_functions_and_wrappers_are_denoisers():
    assert isinstance(gaussian, denoiser.Denoiser)
    assert isinstance(denoiser.clamp(gaussian, np.zeros(1), np.array([True])), denoiser.Denoiser)
