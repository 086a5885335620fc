"""Steps against closed forms: linear Gaussians, declared orders, memory, cost, both backends."""

import itertools
import math

import numpy as np
import pytest
import torch

from assay.core import guidance, noise, solver

COND, UNCOND = 1.0, 2.0  # variances of the zero-mean classes


def cond(x, sigma):
    return COND / (COND + sigma**2) * x


def uncond(x, sigma):
    return UNCOND / (UNCOND + sigma**2) * x


def growth(sigma, w):
    """x(sigma) is proportional to this on the guided ODE of the linear Gaussians."""
    return (COND + sigma**2) ** ((1 + w) / 2) * (UNCOND + sigma**2) ** (-w / 2)


def bimodal(x, sigma):
    """E[x0 | x] of 1/2 N(1, 0.6^2) + 1/2 N(-1, 0.6^2)."""
    v = 0.36 + sigma**2
    m = np.tanh(x / v) if isinstance(x, np.ndarray) else torch.tanh(x / v)
    return m + 0.36 / v * (x - m)


STEPS = {
    "euler": (solver.euler, noise.karras),
    "heun": (solver.heun, noise.karras),
    "dpmpp_2m": (solver.dpmpp_2m, noise.karras),
    "churn(0)": (solver.churn(10, 0.0), noise.karras),
    "adams(3)": (solver.adams(3), noise.chebyshev),
    "adams(4)": (solver.adams(4), noise.chebyshev),
    "adams(6)": (solver.adams(6), noise.chebyshev),
    "adams(8)": (solver.adams(8), noise.chebyshev),
}


def grid_of(name, n, low, high):
    grid = STEPS[name][1]
    return grid(n, low, high) if grid is noise.chebyshev else grid(n, low, high, zero=False)


@pytest.mark.parametrize("w", [-1.0, 0.0, 1.0, 3.0, 7.0])
@pytest.mark.parametrize("name", STEPS)
def test_linear_gaussians_law(name, w):
    """The closed x(sigma) at every state, from a start that is not the whole line's."""
    step = STEPS[name][0]
    guided = guidance.Guided(cond, uncond, w)
    x = np.array([[5.0, -3.0], [0.5, 20.0]])
    sigmas = grid_of(name, 240, 0.02, 15.0)
    rng = np.random.default_rng(0)
    tolerance = {1: 0.12, 2: 2e-3, 3: 1e-3}.get(step.order, 1e-5)
    for state in solver.solve(guided, x, sigmas, step, rng):
        exact = x * growth(state.sigma, w) / growth(15.0, w)
        np.testing.assert_allclose(state.x, exact, rtol=tolerance)
    assert state.sigma == 0.02


@pytest.mark.parametrize("w", [1.0, 3.0, 7.0])
def test_linear_gaussians_variance_at_zero(w):
    """Endpoint variance A (A/B)^w from sigma_max = 1e4, at which u's own spread is exact."""
    sigmas = noise.chebyshev(96, 0.0, 1e4)
    u = np.array([[1.0]])
    x = solver.last(
        solver.solve(guidance.Guided(cond, uncond, w), 1e4 * u, sigmas, solver.adams(6))
    ).x
    assert float(x[0, 0]) ** 2 == pytest.approx(COND * (COND / UNCOND) ** w, rel=3e-6)


def slope_of(errors, counts):
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("euler", (80, 160, 320)),
        ("heun", (80, 160, 320)),
        ("dpmpp_2m", (80, 160, 320)),
        ("adams(3)", (80, 160, 320)),
        ("adams(4)", (80, 160, 320)),
        ("adams(6)", (64, 96, 128)),
        ("adams(8)", (64, 96, 128)),
    ],
)
def test_declared_order_is_measured(name, counts):
    """Log-log slope of the end error down to sigma_min = 0.05, guided nonlinear problem w = 1."""
    step = STEPS[name][0]
    x = np.array([[4.0], [-11.0], [25.0]])
    guided = guidance.Guided(lambda x, s: 1 + 0.36 / (0.36 + s**2) * (x - 1), bimodal, 1.0)
    fine = noise.chebyshev(600, 0.05, 15.0)
    truth = solver.last(solver.solve(guided, x, fine, solver.adams(8))).x
    errors = []
    for n in counts:
        end = solver.last(solver.solve(guided, x, grid_of(name, n, 0.05, 15.0), step)).x
        errors.append(np.abs(end - truth).max())
    slope = slope_of(errors, counts)
    assert step.order - 0.25 < slope < step.order + 1.3, (slope, errors)


def test_adams_on_a_uniform_grid_falls_to_order_3():
    """The first step's trapezoid limits it where the grid does not begin finely."""
    errors, counts = [], (160, 320, 640)
    for n in counts:
        alpha = np.linspace(1 / np.hypot(1, 15.0), 1 / np.hypot(1, 0.5), n + 1)
        sigmas = [15.0, *np.sqrt(1 / alpha[1:-1] ** 2 - 1), 0.5]
        x = np.array([[4.0], [-11.0]])
        exact = solver.solve(bimodal, x, noise.chebyshev(400, 0.5, 15.0), solver.adams(8))
        end = solver.last(solver.solve(bimodal, x, sigmas, solver.adams(6))).x
        errors.append(np.abs(end - solver.last(exact).x).max())
    assert 2.7 < slope_of(errors, counts) < 3.3


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_lagrange_weights_integrate_polynomials(size):
    """Against numpy's exact antiderivatives, at random nodes outside the interval."""
    rng = np.random.default_rng(size)
    nodes = [*np.sort(rng.uniform(-3, 0.2, size - 1)), 0.3]
    weights = solver.lagrange_weights(nodes, 0.3, 0.9)
    for degree in range(size):
        exact = (0.9 ** (degree + 1) - 0.3 ** (degree + 1)) / (degree + 1)
        assert weights @ np.power(nodes, degree) == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_solve_starts_anywhere():
    """From the middle of a trajectory the end is the same: no step assumes sigma_max."""
    for step in (solver.heun, solver.adams(6)):
        x = np.array([[30.0], [-7.0]])
        whole = list(solver.solve(bimodal, x, noise.chebyshev(120, 0.01, 40.0), step))
        middle = whole[60]
        low = noise.chebyshev(120, 0.01, middle.sigma)
        again = solver.last(solver.solve(bimodal, middle.x, low, step)).x
        np.testing.assert_allclose(again, whole[-1].x, atol=2e-3 if step.order == 2 else 1e-6)


def sde_factors(x_factor, sigmas):
    """(m, s) with x' = m x + s z of each step of the guided linear Gaussians, w = 1."""
    guided = guidance.Guided(cond, uncond, 1.0)
    for high, low in itertools.pairwise(sigmas):
        ends = [
            solver.sde(
                guided, solver.State(np.array([[start]]), high), low, np.random.default_rng(3)
            ).x[0, 0]
            for start in (0.0, x_factor)
        ]
        z = np.random.default_rng(3).standard_normal((1, 1))[0, 0]
        yield (ends[1] - ends[0]) / x_factor, ends[0] / z


def sde_variance(n):
    """End variance of the scheme itself, exactly, by propagating its own two factors."""
    sigmas = noise.exponential(n, 1e-3, 1e3)
    variance = sigmas[0] ** 2
    for m, s in sde_factors(2.0, sigmas.tolist()):
        variance = m**2 * variance + s**2
    return variance


def test_sde_weak_order_and_closed_variance():
    """Error of the variance falls as 1/n towards 7/12 (the ODE's is 1/2)."""
    counts = (250, 500, 1000)
    errors = [abs(sde_variance(n) - 7 / 12) for n in counts]
    assert 0.85 < slope_of(errors, counts) < 1.15
    assert errors[-1] < 0.01
    extrapolated = 2 * sde_variance(1000) - sde_variance(500)
    assert extrapolated == pytest.approx(0.5833333333, abs=2e-4)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_sde_samples_have_the_closed_variance(backend):
    """20,000 samples within 5 standard errors of the scheme's variance (error < 6e-7)."""
    n, sigmas = 20_000, noise.exponential(60, 1e-3, 1e3)
    if backend == "numpy":
        rng = np.random.default_rng(11)
        x = 1e3 * rng.standard_normal((n, 1))
    else:
        rng = torch.Generator().manual_seed(11)
        x = 1e3 * torch.randn((n, 1), generator=rng, dtype=torch.float64)
    guided = guidance.Guided(cond, uncond, 1.0)
    variance = float((solver.last(solver.solve(guided, x, sigmas, solver.sde, rng)).x ** 2).mean())
    expected = sde_variance(60)
    assert abs(variance - expected) < 5 * expected * math.sqrt(2 / n)
    assert abs(variance - 0.5) > 5 * expected * math.sqrt(2 / n)


def test_churn_is_edm_algorithm_2():
    """Against the algorithm written out, from the same draws."""
    n, s_churn, s_min, s_max, s_noise = 20, 8.0, 0.05, 10.0, 1.007
    sigmas = noise.karras(n, 0.01, 40.0)
    x = 40.0 * np.random.default_rng(0).standard_normal((7, 2))
    rng, expected = np.random.default_rng(1), x
    for t, t_next in itertools.pairwise(sigmas):
        gamma = min(s_churn / n, 2**0.5 - 1) if s_min <= t <= s_max else 0.0
        t_hat = t + gamma * t
        if gamma > 0:
            eps = s_noise * rng.standard_normal(x.shape)
            expected = expected + (t_hat**2 - t**2) ** 0.5 * eps
        d = (expected - bimodal(expected, t_hat)) / t_hat
        ahead = expected + (t_next - t_hat) * d
        if t_next != 0:
            d_next = (ahead - bimodal(ahead, t_next)) / t_next
            ahead = expected + (t_next - t_hat) * (d / 2 + d_next / 2)
        expected = ahead
    step = solver.churn(n, s_churn, s_min=s_min, s_max=s_max, s_noise=s_noise)
    final = solver.last(solver.solve(bimodal, x, sigmas, step, np.random.default_rng(1)))
    np.testing.assert_allclose(final.x, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_torch_equals_numpy(name, dtype):
    x = np.random.default_rng(4).standard_normal((9, 3)).astype(str(dtype)[6:]) * 20
    sigmas, step = grid_of(name, 30, 0.01, 20.0), STEPS[name][0]
    ours = list(solver.solve(bimodal, x, sigmas, step, np.random.default_rng(0)))
    rng = torch.Generator().manual_seed(0)
    theirs = list(solver.solve(bimodal, torch.from_numpy(x), sigmas, step, rng))
    for a, b in zip(ours, theirs, strict=True):
        assert b.x.dtype == dtype
        assert a.x.dtype == x.dtype
        tolerance = 1e-11 if dtype == torch.float64 else 2e-3
        np.testing.assert_allclose(b.x.numpy(), a.x, rtol=tolerance, atol=tolerance)


class Counting:
    """A guided denoiser whose law counts its advances and whose calls are counted outside."""

    def __init__(self):
        self.calls, self.advances = 0, []

    def __call__(self, x, sigma):
        return self.evaluate(x, sigma, None)[0]

    def evaluate(self, x, sigma, memory):
        self.calls += 1
        self.advances.append(memory)
        return bimodal(x, sigma), (memory or 0) + 1


@pytest.mark.parametrize("name", [*STEPS, "sde"])
@pytest.mark.parametrize("zero", [True, False])
def test_memory_advances_once_a_step_and_nfe_is_exact(name, zero):
    step = STEPS[name][0] if name in STEPS else solver.sde
    sigmas = noise.karras(12, 0.01, 20.0, zero=zero)
    counting, x = Counting(), np.ones((4, 1))
    states = list(solver.solve(counting, x, sigmas, step, np.random.default_rng(0)))
    assert [s.memory.law for s in states] == [None, *range(1, 13)]
    assert counting.calls == solver.nfe(step, sigmas)
    assert counting.calls == (12 if step.evaluations == 1 else 24 - zero)
    first = [m for k, m in enumerate(counting.advances) if k % step.evaluations == 0]
    assert first == [None, *range(1, 12)]


def test_switching_methods_forgets_only_the_methods_memory():
    """A heun step between dpmpp_2m steps restarts dpmpp_2m; the law's memory runs on."""
    counting = Counting()
    state = solver.State(np.ones((2, 1)), 8.0)
    for step, sigma in [(solver.dpmpp_2m, 4.0), (solver.heun, 2.0)]:
        state = step(counting, state, sigma)
    after = solver.dpmpp_2m(counting, state, 1.0)
    np.testing.assert_array_equal(after.x, solver.euler(counting, state, 1.0).x)
    assert after.memory.law == 3


def test_adams_is_exact_for_a_gaussian_of_its_scale():
    """g is linear in alpha for N(m, scale^2): two steps, no error."""

    def one(x, sigma):
        return 2 + 0.25 / (0.25 + sigma**2) * (x - 2)

    x = np.array([[7.0], [-40.0]])
    end = solver.last(solver.solve(one, x, [30.0, 0.7, 0.0], solver.adams(4, scale=0.5))).x
    exact = 2 + (x - 2) * 0.5 / np.hypot(30.0, 0.5)
    np.testing.assert_allclose(end, exact, rtol=1e-12)


def test_states_carry_the_first_denoised_and_the_start():
    x = np.full((2, 1), 3.0)
    states = list(solver.solve(bimodal, x, [5.0, 1.0, 0.0]))
    assert states[0].x is x
    assert states[0].denoised is None
    np.testing.assert_array_equal(states[1].denoised, bimodal(x, 5.0))
    np.testing.assert_array_equal(states[2].denoised, bimodal(states[1].x, 1.0))
    np.testing.assert_array_equal(states[2].x, states[2].denoised)
    np.testing.assert_array_equal(x, 3.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solver.solve(bimodal, np.ones((1, 1)), [1.0]), "at least two"),
        (lambda: solver.solve(bimodal, np.ones((1, 1)), [1.0, 2.0]), "strictly decreasing"),
        (lambda: solver.solve(bimodal, np.ones((1, 1)), [1.0, 0.0, -1.0]), "last, which may be 0"),
        (lambda: solver.solve(bimodal, np.ones((1, 1)), [math.inf, 1.0]), "finite"),
        (lambda: solver.solve(bimodal, np.ones((1, 1)), [math.nan, 1.0]), "finite"),
        (lambda: solver.solve(bimodal, np.ones((1, 1)), [2, 1], solver.sde), "rng is None"),
        (lambda: solver.sde(bimodal, solver.State(np.ones((1, 1)), 1.0), 0.5), "rng is None"),
        (lambda: solver.euler(bimodal, solver.State(np.ones((1, 1)), 1.0), 1.0), "sigma_next is"),
        (lambda: solver.nfe(solver.heun, [2.0, 2.0]), "strictly decreasing"),
        (lambda: solver.churn(10, 1.0, solver.dpmpp_2m), "step is dpmpp_2m"),
        (lambda: solver.churn(10, -1.0), "s_churn -1.0"),
        (lambda: solver.adams(9), "order is 9"),
        (lambda: solver.adams(4, scale=0.0), "scale is 0.0"),
        (lambda: solver.last(iter([])), "states is empty"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
