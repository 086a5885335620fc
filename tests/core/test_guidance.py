"""The convention, the two free cases, laws with memory, the unbiased start."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from assay.core import guidance, noise, reference, solver


def gaussian(mean, variance):
    return lambda x, sigma: mean + variance / (variance + sigma**2) * (x - mean)


def mirrored(x, sigma):
    v = 1 + sigma**2
    m = np.tanh(x / v)
    return m + (x - m) / v


def never(x, sigma):
    raise AssertionError("this denoiser must not be called")


finite = st.floats(-20, 20)
arrays = st.lists(finite, min_size=1, max_size=6).map(lambda v: np.array(v)[:, None])


@hypothesis.given(arrays, st.floats(1e-3, 1e3), st.floats(-5, 50))
def test_convention_is_the_papers(x, sigma, w):
    cond, uncond = gaussian(1.0, 0.5), mirrored
    expected = (1 + w) * cond(x, sigma) - w * uncond(x, sigma)
    np.testing.assert_allclose(
        guidance.Guided(cond, uncond, w)(x, sigma), expected, rtol=1e-9, atol=1e-9
    )


@hypothesis.given(arrays, st.floats(1e-3, 1e3))
def test_w_zero_is_cond_and_never_calls_uncond(x, sigma):
    cond = gaussian(1.0, 0.5)
    for zero in (0, 0.0, np.float64(0)):
        guided = guidance.Guided(cond, never, zero)
        np.testing.assert_array_equal(guided(x, sigma), cond(x, sigma))
        assert guided.calls_per_evaluation == 1


@hypothesis.given(arrays, st.floats(1e-3, 1e3))
def test_w_minus_one_is_uncond_and_never_calls_cond(x, sigma):
    guided = guidance.Guided(never, mirrored, -1.0)
    np.testing.assert_array_equal(guided(x, sigma), mirrored(x, sigma))
    assert guided.calls_per_evaluation == 1


@hypothesis.given(arrays, st.floats(1e-2, 1e2), st.floats(0, 50), st.floats(0.1, 10))
def test_scaling_and_reflection(x, sigma, w, k):
    """Data times k, or mirrored, guide as x and sigma scaled, or mirrored."""
    here = guidance.Guided(gaussian(1.0, 0.5), gaussian(-0.5, 2.0), w)
    scaled = guidance.Guided(gaussian(k, 0.5 * k * k), gaussian(-0.5 * k, 2.0 * k * k), w)
    mirror = guidance.Guided(gaussian(-1.0, 0.5), gaussian(0.5, 2.0), w)
    value = here(x, sigma)
    size = 1e-9 * (1 + w) * (1 + np.abs(x).max())
    np.testing.assert_allclose(scaled(k * x, k * sigma) / k, value, rtol=1e-9, atol=size)
    np.testing.assert_allclose(-mirror(-x, sigma), value, rtol=1e-9, atol=size)


def test_guidance_scale_and_back():
    assert guidance.guidance_scale(3.0) == 4.0
    assert guidance.w_from_guidance_scale(7.5) == 6.5
    assert guidance.w_from_guidance_scale(guidance.guidance_scale(0.0)) == 0.0


def test_product_with_equal_marginals_leaves_them_alone():
    """Guidance acts on the discriminating coordinate only."""
    cond, uncond = gaussian(np.array([1.0, 2.0]), 1.0), gaussian(np.array([0.0, 2.0]), 1.0)
    u = np.random.default_rng(0).standard_normal((6, 2))
    guided = reference.reference(guidance.Guided(cond, uncond, 5.0), u, final="limit").x
    np.testing.assert_allclose(guided[:, 1], 2 + u[:, 1], atol=1e-7)
    assert np.abs(guided[:, 0] - 1 - u[:, 0]).min() > 1


def test_law_sees_both_and_its_memory_runs_through_solve():
    seen = []

    def law(x, sigma, d_cond, d_uncond, memory):
        seen.append((sigma, memory))
        average = d_cond - d_uncond if memory is None else 0.5 * (memory + d_cond - d_uncond)
        return d_cond + 2.0 * average, average

    cond, uncond = gaussian(0.0, 1.0), gaussian(0.0, 2.0)
    guided = guidance.Guided(cond, uncond, law)
    assert guided.calls_per_evaluation == 2
    x = np.array([[3.0]])
    states = list(solver.solve(guided, x, [4.0, 2.0, 1.0], solver.euler))
    first = cond(x, 4.0) - uncond(x, 4.0)
    after = states[1].x
    second = 0.5 * (first + cond(after, 2.0) - uncond(after, 2.0))
    np.testing.assert_allclose(states[2].memory.law, second, rtol=1e-14)
    np.testing.assert_allclose(states[2].denoised, cond(after, 2.0) + 2 * second, rtol=1e-14)
    assert [s for s, _ in seen] == [4.0, 2.0]
    np.testing.assert_array_equal(guided(x, 4.0), cond(x, 4.0) + 2 * first)


def test_constant_law_as_callable_equals_float():
    def law(x, sigma, d_cond, d_uncond, memory):
        return d_cond + 3.0 * (d_cond - d_uncond), memory

    cond, sigmas, x = gaussian(1.0, 1.0), noise.karras(12, 0.01, 20.0), np.array([[10.0], [-4.0]])
    for step in (solver.heun, solver.adams(5)):
        a, b = (
            solver.last(solver.solve(guidance.Guided(cond, mirrored, w), x, sigmas, step)).x
            for w in (law, 3.0)
        )
        np.testing.assert_array_equal(a, b)


def test_unbiased_start_removes_the_bias():
    """Mirrored Gaussians, w = 3, sigma_max = 80: bias 0.033 from 80 u, under 5e-5 from here."""
    cond, u = gaussian(1.0, 1.0), np.linspace(-3, 3, 13)[:, None]
    guided = guidance.Guided(cond, mirrored, 3.0)
    config = reference.Adaptive(rtol=1e-11, atol=1e-11)

    def end(x, sigma_max):
        return reference.reference(guided, x, sigma_max, 1e-3, "limit", config=config).x

    exact = end(u, math.inf)
    start = guidance.unbiased_start(cond, mirrored, 3.0, u, 80.0)
    naive = np.abs(end(80.0 * u, 80.0) - exact)
    assert 0.02 < naive.max() < 0.06
    assert np.abs(end(start, 80.0) - exact).max() < 5e-5
    means = 80.0 * u + 4.0 * 1.0 - 3.0 * 0.0  # the exact means alone
    assert np.abs(end(start, 80.0) - exact).max() <= np.abs(end(means, 80.0) - exact).max()


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_unbiased_start_error_falls_as_sigma_squared(w):
    """Against the reference's x at sigma_max on the trajectory from infinity."""
    cond, uncond, u = gaussian(1.0, 0.5), mirrored, np.array([[0.7]])
    guided = guidance.Guided(cond, uncond, w)
    config = reference.Adaptive(rtol=1e-12, atol=1e-13)
    errors = []
    for sigma_max in (20.0, 80.0):
        start = guidance.unbiased_start(cond, uncond, w, u, sigma_max)
        exact = reference.reference(guided, u, math.inf, sigma_max, config=config).x
        errors.append(float(np.abs(start - exact)[0, 0]))
    assert errors[1] < errors[0] / 10  # a factor of 16 in the limit


def test_torch_equals_numpy():
    x = np.random.default_rng(3).standard_normal((5, 2))
    guided = guidance.Guided(gaussian(1.0, 0.5), gaussian(0.0, 2.0), 3.0)
    out = guided(torch.from_numpy(x), 0.7)
    assert isinstance(out, torch.Tensor)
    np.testing.assert_array_equal(out.numpy(), guided(x, 0.7))
    start = guidance.unbiased_start(guided.cond, guided.uncond, 3.0, torch.from_numpy(x), 80.0)
    again = guidance.unbiased_start(guided.cond, guided.uncond, 3.0, x, 80.0)
    np.testing.assert_allclose(start.numpy(), again, rtol=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: guidance.Guided(mirrored, mirrored, math.nan), "law is w = nan"),
        (lambda: guidance.Guided(mirrored, mirrored, math.inf), "law is w = inf"),
        (lambda: guidance.Guided(mirrored, mirrored, "3"), "law is '3'"),
        (
            lambda: guidance.unbiased_start(mirrored, mirrored, 1.0, np.ones((1, 1)), math.inf),
            "sigma_max is inf",
        ),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
