"""The thrifty law: its limits, symmetries, a closed form, and what it leaves alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from assay.core import components, noise, solver
from assay.core import mixture as core
from assay.core.guidance import Guided
from assay.guidance import laws, targets
from assay.guidance.config import Simulation
from assay.guidance.control import thrifty as control
from assay.guidance.simulate import simulate


def draws(seed, dim=3, n=5):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, dim)) for _ in range(3)]


def thrifty(w=3.0, **params):
    return laws.build("thrifty", w, **params)


WEIGHTS = st.floats(0, 50)
SIGMAS = st.floats(1e-3, 1e3)


@settings(deadline=None)
@given(WEIGHTS, SIGMAS, st.integers(0, 99))
def test_without_threshold_and_limit_it_is_the_constant_law(w, sigma, seed):
    args = (draws(seed)[0], sigma, *draws(seed)[1:])
    ours, _ = thrifty(w, threshold=0.0, limit=math.inf)(*args)
    plain, _ = laws.build("constant", w)(*args)
    np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=1e-12 * (1 + w))


@settings(deadline=None)
@given(SIGMAS, st.integers(0, 99))
def test_w_0_is_the_conditional_exactly(sigma, seed):
    x, cond, uncond = draws(seed)
    np.testing.assert_array_equal(thrifty(0.0)(x, sigma, cond, uncond)[0], cond)


@settings(deadline=None)
@given(WEIGHTS, SIGMAS, st.integers(0, 99), st.floats(0, 9), st.floats(0.01, 99))
def test_push_is_forward_bounded_and_at_most_the_constant_laws(w, sigma, seed, k, limit):
    x, cond, uncond = draws(seed)
    moved = thrifty(w, threshold=k, limit=limit, scale=0.7)(x, sigma, cond, uncond)[0] - cond
    diff = cond - uncond
    size = np.linalg.norm(diff, axis=1)
    along = np.sum(moved * diff, axis=1) / size
    unit = sigma**2 / 0.7
    expected = np.minimum(np.maximum(w * size - k * unit, 0), limit * unit)
    np.testing.assert_allclose(along, expected, rtol=1e-10, atol=1e-12 * (1 + w))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), along, rtol=1e-10, atol=1e-10)
    assert np.all(along <= w * size * (1 + 1e-12) + 1e-14)  # rounding of the sum with cond


@settings(deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 99))
def test_scaled_and_shifted_data_give_scaled_and_shifted_estimates(factor, shift, seed):
    x, cond, uncond = draws(seed)
    own, _ = thrifty(4.0, threshold=1.0)(x, 0.8, cond, uncond)
    moved = [factor * a + shift for a in (x, cond, uncond)]
    law = thrifty(4.0, threshold=1.0, scale=factor)
    other, _ = law(moved[0], 0.8 * factor, *moved[1:])
    np.testing.assert_allclose(other, factor * own + shift, rtol=1e-9, atol=1e-9)


def test_numpy_torch_and_one_sigma_each_agree():
    torch = pytest.importorskip("torch")
    x, cond, uncond = draws(3)
    sigma = np.array([0.1, 0.5, 1.0, 3.0, 9.0])
    ours, _ = thrifty()(x, sigma, cond, uncond)
    tensors = [torch.asarray(a) for a in (x, sigma, cond, uncond)]
    theirs, _ = thrifty()(*tensors)
    assert theirs.dtype == torch.float64
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-13)
    for i in range(len(x)):
        alone, _ = thrifty()(x[i : i + 1], float(sigma[i]), cond[i : i + 1], uncond[i : i + 1])
        np.testing.assert_allclose(alone[0], ours[i], rtol=1e-13)


def test_images_are_pushed_by_their_whole_norm():
    rng = np.random.default_rng(0)
    x, cond, uncond = (rng.standard_normal((4, 3, 2, 2)) for _ in range(3))
    rows = [a.reshape(4, 12) for a in (x, cond, uncond)]
    flat, _ = thrifty()(rows[0], 0.7, *rows[1:])
    shaped, _ = thrifty()(x, 0.7, cond, uncond)
    np.testing.assert_allclose(shaped.reshape(4, 12), flat, rtol=1e-13)


@pytest.mark.parametrize("size", [1e-4, 20.0])
def test_half_precision_neither_overflows_nor_loses_small_differences(size):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    x, cond, step = (torch.randn(2, 4, 32, 32, generator=generator) for _ in range(3))
    half = [a.to(torch.float16) for a in (x, 0 * cond, size * step)]
    law = thrifty(4.0, threshold=size, limit=1e4)
    ours, _ = law(half[0], 1.0, half[1], half[2])  # sums of squares: 4e-5 and 1.6e6
    exact = [a.double() for a in half]
    whole, _ = law(exact[0], 1.0, exact[1], exact[2])
    assert ours.dtype == torch.float16
    np.testing.assert_allclose(ours.numpy(), whole.numpy(), rtol=5e-3, atol=1e-3 * size)


def test_equal_denoisers_are_left_alone():
    x, cond, _ = draws(1)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(thrifty()(x, 0.5, cond, cond.copy())[0], cond)


def test_memory_passes_through_and_every_solver_may_call_it():
    x, cond, uncond = draws(2)
    token = object()
    assert thrifty()(x, 0.5, cond, uncond, token)[1] is token


# ---- closed form -------------------------------------------------------------------------------


def shift_of_equal_gaussians(w, m, v, law):
    """Shift of every sample for N(m, v) against N(-m, v), |D_c - D_u| = 2 m sigma^2/(v+sigma^2).

    With u = v + sigma^2 and x - m = sqrt(u) z the flow is dz/dsigma = -p/(sigma sqrt(u)).
    """
    k, limit = law.threshold / law.scale, law.limit / law.scale
    end = 2 * m * w / k  # where the slope falls below the threshold
    cut = 2 * m * w / (k + limit)  # above it the slope is below the limit
    moved = 0.0
    if cut > v:
        moved += limit * (math.sqrt(cut) - math.sqrt(v))
    low = max(v, cut)
    if end > low:
        moved += 2 * m * w * (low**-0.5 - end**-0.5) - k * (math.sqrt(end) - math.sqrt(low))
    return math.sqrt(v) * moved


@pytest.mark.parametrize("w", [0.5, 2.0, 6.0, 20.0])
@pytest.mark.parametrize("dim", [1, 3])
def test_equal_gaussians_are_shifted_by_the_closed_form(w, dim):
    mean, v = np.zeros(dim), 0.5
    mean[-1] = 0.8
    pair = [core.Mixture([1.0], [components.Gaussian(s * mean, v)]) for s in (1, -1)]
    law = thrifty(w, threshold=1.5, limit=3.0, scale=0.9)
    guided = Guided(pair[0].denoise, pair[1].denoise, law)
    u = np.random.default_rng(0).standard_normal((4, dim))
    sigmas = noise.karras(400, 1e-3, 300.0, zero=False)
    x = solver.last(solver.solve(guided, sigmas[0] * u + mean, sigmas, solver.heun)).x
    plain = mean + math.sqrt(v) * u  # of the conditional, to 1/sigma_max^2
    expected = shift_of_equal_gaussians(w, 0.8, v, law)
    np.testing.assert_allclose((x - plain)[:, -1], expected, atol=2e-3 * (1 + expected))
    np.testing.assert_allclose((x - plain)[:, :-1], 0, atol=1e-2)
    assert (expected == 0) == (w * 2 * 0.8 / v <= 1.5 / 0.9)


def test_a_constant_error_of_uncond_is_let_through_only_where_it_looks_like_a_slope():
    """N(0, 1) and D_u = D_c - eta: the shift is the integral of p/(sigma sqrt(1 + sigma^2))."""
    flat = core.Mixture([1.0], [components.Gaussian([0.0], 1.0)])
    sigmas = noise.karras(400, 1e-3, 80.0, zero=False)
    law = thrifty(4.0)
    guided = Guided(flat.denoise, lambda x, s: flat.denoise(x, s) - 0.1, law)
    x = solver.last(solver.solve(guided, np.zeros((1, 1)), sigmas)).x

    def push(sigma):
        p = min(max(0.4 - 2 * sigma**2, 0), 4 * sigma**2)
        return p / (sigma * math.hypot(1, sigma))

    expected = integrate.quad(push, 1e-3, 1.0, limit=200)[0]
    assert abs(x.item() - expected) < 2e-3
    assert expected < 0.1 * 0.4 * math.asinh(1e3)  # a tenth of the constant law's


def test_a_constant_error_of_uncond_leaves_no_sample_off_the_support():
    """D_u - eta sends constant guidance to b + w eta, denoised or not; ours stays inside."""
    target = targets.uniforms(1.0, 2.0)
    reach = {}
    for law in (laws.build("constant", 4.0), thrifty(8.0, scale=12**-0.5)):
        guided = Guided(target.cond.denoise, lambda x, s: target.uncond.denoise(x, s) - 0.1, law)
        drawn = simulate(guided, (1,), Simulation(n=256, steps=48))
        reach[law.name] = [float(x.max()) for x in (drawn.x, drawn.denoised)]
    np.testing.assert_allclose(reach["constant"], 2 + 4 * 0.1, atol=0.02)
    assert reach["thrifty"][0] < 2 + 10 * 0.002  # noise of sigma_min that is still there
    assert 1.95 < reach["thrifty"][1] < 2


# ---- input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"w": -0.5}, "w = -0.5 must be >= 0"),
        ({"w": math.nan}, "must be a finite number"),
        ({"w": 1.0, "threshold": -1.0}, "threshold = -1.0 must be >= 0"),
        ({"w": 1.0, "limit": 0.0}, "limit = 0.0 must be > 0"),
        ({"w": 1.0, "scale": math.inf}, "scale = inf must be a number > 0"),
    ],
)
def test_values_that_make_no_law_are_refused(params, said):
    with pytest.raises(ValueError, match=said):
        laws.build("thrifty", **params)


def test_data_scale_is_the_root_mean_variance():
    data = np.random.default_rng(0).standard_normal((4000, 2, 2)) * np.array([1.0, 3.0])
    assert abs(control.data_scale(data) - math.sqrt(5)) < 0.1  # se 0.04
    for bad, said in ((np.ones((5, 2)), "no spread"), (np.ones(5), "must be finite")):
        with pytest.raises(ValueError, match=said):
            control.data_scale(bad)
