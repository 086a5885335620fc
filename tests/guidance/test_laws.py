"""The laws' formulas, sample by sample, and their closed forms on linear Gaussians."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from assay.core import components, solver
from assay.core import mixture as core
from assay.core.guidance import Guided
from assay.guidance import corrections, law, laws, schedules, targets

NONLINEAR = ("rescale", "apg", "cfg_zero_star", "tangential")
A, B = 1.0, 2.0  # variances of the conditional and of the unconditional Gaussian


def draws(seed, dim=4, n=6):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, dim)) for _ in range(3)]


def guide(name, x, sigma, cond, uncond, w=3.0, **params):
    return laws.build(name, w, **params)(x, sigma, cond, uncond)[0]


def to_prediction(kind, x, sigma, denoised):
    """From the textbook definitions: x = alpha-scaled signal plus noise."""
    noise = (x - denoised) / sigma
    alpha, std = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    return {
        "x0": denoised,
        "eps": noise,
        "v": alpha * noise - std * denoised,
        "velocity": noise - denoised,
    }[kind]


# ---- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", law.PREDICTIONS)
def test_predictions_are_the_textbook_ones(kind):
    x, d, _ = draws(0)
    a, b = law.affine(kind, 0.7)
    np.testing.assert_allclose(a * x + b * d, to_prediction(kind, x, 0.7, d), rtol=1e-14)


def check_native(name, sigma, combine, **params):
    """The law, converted to its prediction, equals ``combine`` on each sample there."""
    x, cond, uncond = draws(1)
    built = laws.build(name, 3.0, **params)
    ours = to_prediction(built.prediction, x, sigma, built(x, sigma, cond, uncond)[0])
    c = to_prediction(built.prediction, x, sigma, cond)
    u = to_prediction(built.prediction, x, sigma, uncond)
    theirs = [combine(c_i, u_i) for c_i, u_i in zip(c, u, strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", law.PREDICTIONS)
def test_rescale_matches_the_conditional_spread(kind):
    def combine(c, u):
        g = 4 * c - 3 * u
        return 0.7 * g * np.std(c, ddof=1) / np.std(g, ddof=1) + 0.3 * g

    check_native("rescale", 0.7, combine, prediction=kind)


@pytest.mark.parametrize("kind", law.PREDICTIONS)
def test_apg_without_momentum_cuts_and_projects(kind):
    def combine(c, u):
        m = c - u
        m = m * min(1, 0.8 / np.linalg.norm(m))
        unit = c / np.linalg.norm(c)
        along = (m @ unit) * unit
        return c + 3 * (m - along + 0.25 * along)

    check_native("apg", 0.7, combine, prediction=kind, eta=0.25, norm_threshold=0.8, momentum=0.0)


def test_apg_in_diffusers_form_starts_from_the_unconditional():
    def combine(c, u):
        unit = c / np.linalg.norm(c)
        return u + 4 * ((c - u) - ((c - u) @ unit) * unit)

    check_native("apg", 0.7, combine, norm_threshold=0.0, momentum=0.0, form="diffusers")


def test_apg_forms_agree_exactly_where_nothing_is_projected_cut_or_remembered():
    x, cond, uncond = draws(2)
    plain = {"eta": 1.0, "norm_threshold": 0.0, "momentum": 0.0}
    forms = [guide("apg", x, 0.7, cond, uncond, form=f, **plain) for f in ("paper", "diffusers")]
    np.testing.assert_allclose(*forms, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(forms[0], 4 * cond - 3 * uncond, rtol=1e-12, atol=1e-12)


def test_apg_memory_is_the_geometric_sum_of_differences():
    built = laws.build("apg", 3.0, eta=1.0, norm_threshold=0.0, momentum=-0.5)
    memory, differences = None, []
    for seed in range(4):
        x, cond, uncond = draws(seed)
        differences.append(cond - uncond)
        guided, memory = built(x, 0.7, cond, uncond, memory)
    total = sum((-0.5) ** i * d for i, d in enumerate(reversed(differences)))
    np.testing.assert_allclose(memory, total, rtol=1e-13)
    np.testing.assert_allclose(guided, cond + 3 * total, rtol=1e-13)


@pytest.mark.parametrize("kind", law.PREDICTIONS)
def test_cfg_zero_star_scales_by_least_squares(kind):
    def combine(c, u):
        s = np.linalg.lstsq(u[:, None], c, rcond=None)[0][0]
        return (1 - 4) * s * u + 4 * c

    check_native("cfg_zero_star", 0.7, combine, prediction=kind)


@pytest.mark.parametrize("kind", law.PREDICTIONS)
def test_tangential_keeps_the_leading_singular_direction(kind):
    def combine(c, u):
        lead = np.linalg.svd(np.stack([c, u]))[2][0]
        return 4 * c - 3 * (u @ lead) * lead

    check_native("tangential", 0.7, combine, prediction=kind)


def test_dynamic_thresholding_clips_at_a_percentile_and_divides():
    def combine(c, u):
        g = (4 * c - 3 * u) / 1.5
        s = max(1.0, np.quantile(np.abs(g), 0.8))
        return np.clip(g, -s, s) / s * 1.5

    check_native("dynamic_thresholding", 0.7, combine, bound=1.5, percentile=0.8)


def test_mimic_brings_the_range_down_to_that_of_the_smaller_weight():
    def combine(c, u):
        g, h = 4 * c - 3 * u, 1.5 * c - 0.5 * u
        centred, reach = g - g.mean(), np.abs(h - h.mean()).max()
        s = max(reach, np.quantile(np.abs(centred), 0.8))
        return g.mean() + np.clip(centred, -s, s) / s * reach

    check_native("mimic", 0.7, combine, mimic_w=0.5, percentile=0.8)


def test_beta_schedule_is_the_density_over_elapsed_time():
    sigma = np.array([0.002, 0.1, 1.0, 5.0, 80.0])
    time = np.array([law.vp_time(s) for s in sigma])
    np.testing.assert_allclose(np.expm1(0.1 * time + 9.95 * time**2), sigma**2, rtol=1e-10)
    weight = schedules.Beta(3.0, a=2.0, b=3.0).weight(sigma)
    density = stats.beta(2, 3).pdf(1 - time)
    np.testing.assert_allclose(1 + weight, 4 * density, rtol=1e-12, atol=1e-14)
    mean, _ = integrate.quad(
        lambda t: 1 + schedules.Beta(3.0).weight(math.sqrt(math.expm1(0.1 * t + 9.95 * t * t))),
        0,
        1,
    )
    assert mean == pytest.approx(4, rel=1e-9)  # the scale's mean over time is 1 + w


def test_beta_normalises_the_noise_difference():
    def combine(c, u, scale):
        return u + scale * (c - u) / np.linalg.norm(c - u) ** 0.6

    x, cond, uncond = draws(1)
    scale = 4 * stats.beta(2, 3).pdf(1 - law.vp_time(0.7))
    ours = to_prediction("eps", x, 0.7, guide("beta", x, 0.7, cond, uncond, gamma=0.6))
    c, u = (to_prediction("eps", x, 0.7, d) for d in (cond, uncond))
    theirs = [combine(*pair, scale) for pair in zip(c, u, strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def test_low_high_low_is_a_triangle_of_mean_w_over_flow_time():
    built = schedules.LowHighLow(3.0)
    assert built.weight(1.0) == pytest.approx(6)
    mean, _ = integrate.quad(lambda t: built.weight(t / (1 - t)), 0, 1, points=[0.5])
    assert mean == pytest.approx(3, rel=1e-9)


def test_zero_init_leaves_the_flow_state_where_it_is():
    built = laws.build("cfg_zero_star", 3.0)
    x, cond, uncond = draws(3)
    start, sigmas = x, np.linspace(80, 24.0, 7)
    for sigma, after in itertools.pairwise(sigmas):
        denoised, _ = built(x, sigma, cond, uncond)
        x = denoised + after / sigma * (x - denoised)
    np.testing.assert_allclose(x / (1 + 24), start / (1 + 80), rtol=1e-12)
    assert built.breaks == pytest.approx((24.0,))
    assert [built.evaluations(s) for s in (24.01, 23.99)] == [0, 2]


# ---- what holds for all inputs -----------------------------------------------------------------


@pytest.mark.parametrize("name", laws.NAMES)
def test_law_takes_one_noise_level_or_one_per_sample(name):
    x, cond, uncond = draws(4)
    sigmas = np.array([0.05, 0.3, 0.9, 3.0, 20.0, 60.0])
    together = guide(name, x, sigmas, cond, uncond)
    alone = [
        guide(name, x[i : i + 1], float(s), cond[i : i + 1], uncond[i : i + 1])[0]
        for i, s in enumerate(sigmas)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", laws.NAMES)
def test_law_is_the_same_in_torch(name):
    torch = pytest.importorskip("torch")
    x, cond, uncond = draws(5)
    there = guide(name, torch.tensor(x), 0.7, torch.tensor(cond), torch.tensor(uncond))
    np.testing.assert_allclose(there.numpy(), guide(name, x, 0.7, cond, uncond), rtol=1e-11)


@given(st.integers(0, 10**6), st.sampled_from(NONLINEAR), st.floats(0.01, 90))
@settings(deadline=None, max_examples=60)
def test_weight_zero_is_the_conditional(seed, name, sigma):
    x, cond, uncond = draws(seed)
    params = {"zero_init": 0.0} if name == "cfg_zero_star" else {}
    guided = guide(name, x, sigma, cond, uncond, w=0.0, **params)
    np.testing.assert_allclose(guided, cond, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10**6), st.sampled_from(("apg", "cfg_zero_star", "tangential")),
       st.floats(0.01, 90))  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_laws_of_norms_commute_with_rotations(seed, name, sigma):
    x, cond, uncond = draws(seed)
    turn = stats.ortho_group.rvs(4, random_state=seed)
    guided = guide(name, x, sigma, cond, uncond)
    turned = guide(name, x @ turn, sigma, cond @ turn, uncond @ turn)
    np.testing.assert_allclose(turned, guided @ turn, rtol=1e-8, atol=1e-8)


@given(st.integers(0, 10**6), st.floats(0.01, 90), st.sampled_from(law.PREDICTIONS))
@settings(deadline=None, max_examples=60)
def test_affine_law_is_the_same_in_every_prediction(seed, sigma, kind):
    x, cond, uncond = draws(seed)
    guided = guide("rescale", x, sigma, cond, uncond, prediction=kind, phi=0.0)
    np.testing.assert_allclose(guided, 4 * cond - 3 * uncond, rtol=1e-8, atol=1e-8)


@given(st.integers(0, 10**6), st.floats(0.01, 20), st.floats(0.5, 3))
@settings(deadline=None, max_examples=60)
def test_thresholding_never_leaves_the_bound(seed, w, bound):
    x, cond, uncond = draws(seed)
    guided = guide("dynamic_thresholding", x, 0.7, cond, uncond, w=w, bound=bound)
    assert np.abs(guided).max() <= bound * (1 + 1e-12)


@given(st.integers(0, 10**6), st.floats(-1, 20))
@settings(deadline=None, max_examples=60)
def test_mimicking_its_own_weight_is_the_constant_law(seed, w):
    x, cond, uncond = draws(seed)
    guided = guide("mimic", x, 0.7, cond, uncond, w=w, mimic_w=w)
    np.testing.assert_allclose(guided, cond + w * (cond - uncond), rtol=1e-10, atol=1e-10)


def test_weight_minus_one_is_the_unconditional():
    x, cond, uncond = draws(6)
    np.testing.assert_allclose(guide("constant", x, 0.7, cond, uncond, w=-1.0), uncond)
    built = laws.build("constant", -1.0)
    assert [built.evaluations(1.0), laws.build("constant", 0.0).evaluations(1.0)] == [1, 1]


# ---- one coordinate ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rescale", "tangential", "mimic"])
def test_one_coordinate_is_refused_where_the_law_is_undefined(name):
    x, cond, uncond = draws(7, dim=1)
    built = laws.build(name, 3.0)
    assert built.undefined(1)
    assert built.undefined(2) is None
    with pytest.raises(ValueError, match="undefined here"):
        built(x, 0.7, cond, uncond)


def test_one_coordinate_leaves_projection_and_best_scale_without_effect():
    x, cond, uncond = draws(8, dim=1)
    for name in ("apg", "cfg_zero_star"):
        np.testing.assert_allclose(guide(name, x, 0.7, cond, uncond), cond, rtol=1e-12)
        assert "does nothing" in (laws.build(name, 3.0).note(1) or "")
        assert laws.build(name, 3.0).note(2) is None


def test_one_coordinate_makes_apg_jump_at_scale_one_in_diffusers_form():
    x, cond, uncond = draws(8, dim=1)
    near = guide("apg", x, 0.7, cond, uncond, w=1e-9, form="diffusers", momentum=0.0)
    np.testing.assert_allclose(near, uncond, rtol=1e-7)  # while scale 1 itself is switched off


# ---- closed forms on linear Gaussians ----------------------------------------------------------


def log_slope(built, sigma, cond_var=A, uncond_var=B):
    """d ln x / d ln sigma of the guided ODE in one coordinate, from the law itself."""
    x = np.ones((1, 1))
    guided, _ = built(
        x, sigma, x * cond_var / (cond_var + sigma**2), x * uncond_var / (uncond_var + sigma**2)
    )
    return 1 - float(guided[0, 0])


def variance(built, uncond_var=B):
    """Of the ODE from N(0, sigma^2) at sigma = e^12 down to e^-12, by quadrature of the slope."""
    marks = sorted(math.log(b) for b in built.breaks)
    ends = [-12.0, *marks, 12.0]
    fall = sum(
        integrate.quad(
            lambda s: log_slope(built, math.exp(s), A, uncond_var), low, high,
            epsabs=1e-12, epsrel=1e-12, limit=400,
        )[0]
        for low, high in itertools.pairwise(ends)
    )  # fmt: skip
    return math.exp(2 * (12 - fall))


def by_weight(weight, points):
    """A exp(-2 int w (1/(A+sigma^2) - 1/(B+sigma^2)) sigma dsigma), over q = ln(1+sigma^2)."""

    def integrand(q):
        squared = math.expm1(q)
        return (
            weight(math.sqrt(squared))
            * (B - A)
            * (1 + squared)
            / (2 * (A + squared) * (B + squared))
        )

    ends = [0.0, *points, 60.0]
    total = sum(
        integrate.quad(integrand, low, high, epsabs=1e-13, epsrel=1e-13, limit=400)[0]
        for low, high in itertools.pairwise(ends)
    )
    return A * math.exp(-2 * total)


@pytest.mark.parametrize(("w", "expected"), [(0, 1.0), (1, 0.5), (3, 0.125), (7, 0.0078125)])
def test_constant_law_has_the_closed_variance(w, expected):
    assert variance(laws.build("constant", w)) == pytest.approx(expected, rel=1e-9)


def test_interval_law_has_the_closed_variance():
    built = laws.build("interval", 3.0, low=0.3, high=3.0)
    closed = A * ((A + 0.09) * (B + 9) / ((B + 0.09) * (A + 9))) ** 3
    assert closed == pytest.approx(0.1888072605, abs=1e-10)
    assert variance(built) == pytest.approx(closed, rel=1e-9)


def test_autoguidance_has_the_closed_variance():
    built = laws.build("autoguidance", 2.0)
    assert built.weak_variance == 1.25
    assert variance(built, uncond_var=1.25 * A) == pytest.approx(0.64, rel=1e-9)


def test_low_high_low_law_has_the_variance_of_its_triangle():
    closed = by_weight(lambda s: 6 * (1 - abs(2 * s / (1 + s) - 1)), points=[math.log(2)])
    assert variance(laws.build("low_high_low", 3.0)) == pytest.approx(closed, rel=1e-8)


def test_beta_law_has_the_variance_of_its_density():
    def weight(sigma):
        q = math.log1p(sigma**2)  # 0.1 t + 9.95 t^2, solved by bisection on purpose
        low, high = 0.0, 1.0
        for _ in range(60):
            t = (low + high) / 2
            low, high = (t, high) if 0.1 * t + 9.95 * t * t < q else (low, t)
        return 4 * stats.beta.pdf(1 - low, 2, 3) - 1

    closed = by_weight(weight, points=[0.01, 1.0, 10.05])
    assert variance(laws.build("beta", 3.0)) == pytest.approx(closed, rel=1e-7)


def test_thresholding_far_below_its_bound_is_the_constant_law():
    built = laws.build("dynamic_thresholding", 3.0, bound=1e9)
    assert variance(built) == pytest.approx(0.125, rel=1e-9)


def test_apg_momentum_acts_like_a_smaller_weight_as_steps_shrink():
    built = laws.build("apg", 3.0, eta=1.0, norm_threshold=0.0, momentum=-0.75)
    limit = A * (A / B) ** (3 / 1.75)

    def end(n):
        x, memory = np.full((1, 1), 80.0), None
        sigmas = np.geomspace(80, 1e-3, n + 1)
        for sigma, after in itertools.pairwise(sigmas):
            cond, uncond = x * A / (A + sigma**2), x * B / (B + sigma**2)
            guided, memory = built(x, sigma, cond, uncond, memory)
            x = guided + after / sigma * (x - guided)
        return float(x[0, 0]) ** 2

    errors = [abs(end(n) / limit - 1) for n in (400, 1600)]
    assert errors[1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.6)  # first order


# In two coordinates (class variance A against B, both nuisances 1) every law is homogeneous, so
# that the plane reduces to the ratio q = x2/x1 and ln x1: a second route, with formulas by hand.


def plane(built, q0):
    """(ln x1, x2/x1) at the end of the law's own ODE in the plane, from sigma = 1e3 to 1e-3."""

    def slope(s, state):
        sigma, x = math.exp(s), state[None, :]
        cond = x * np.array([A, 1.0]) / (np.array([A, 1.0]) + sigma**2)
        uncond = x * np.array([B, 1.0]) / (np.array([B, 1.0]) + sigma**2)
        return (x - built(x, sigma, cond, uncond)[0])[0]

    span = (math.log(1e3), math.log(1e-3))
    done = integrate.solve_ivp(slope, span, [1e3, 1e3 * q0], "DOP853", rtol=1e-11, atol=1e-12)
    x1, x2 = done.y[:, -1]
    return math.log(x1), x2 / x1


def ratio(slopes, q0):
    """The same from slopes(sigma, q) = (d ln x1 / d ln sigma, d ln x2 / d ln sigma)."""

    def slope(s, state):
        one, two = slopes(math.exp(s), state[1])
        return [one, state[1] * (two - one)]

    span = (math.log(1e3), math.log(1e-3))
    start = [math.log(1e3), q0]
    return integrate.solve_ivp(slope, span, start, "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]


def gains(sigma):
    """D/x of the conditional, the unconditional class coordinate and the nuisance."""
    return A / (A + sigma**2), B / (B + sigma**2), 1 / (1 + sigma**2)


def apg_slopes(sigma, q):
    c, u, n = gains(sigma)
    share = c**2 / (c**2 + (n * q) ** 2)  # of D_c's squared length in the class coordinate
    return 1 - c - 3 * (c - u) * (1 - share), 1 - n + 3 * (c - u) / c * share * n


def star_slopes(sigma, q):
    c, u, n = ((1 - g * (1 + sigma)) / sigma for g in gains(sigma))  # velocities over x
    s = (c * u + (n * q) ** 2) / (u**2 + (n * q) ** 2)
    v1, v2 = 4 * c - 3 * s * u, (4 - 3 * s) * n
    return tuple(1 - (1 - sigma * v) / (1 + sigma) for v in (v1, v2))


def rescale_slopes(sigma, q):
    root = math.hypot(1, sigma)
    c, u, n = ((1 - g * root**2) / (sigma * root) for g in gains(sigma))  # v over x
    g = 4 * c - 3 * u
    factor = 0.7 * abs(c - n * q) / abs(g - n * q) + 0.3  # the spread of two numbers
    return tuple(1 - (1 - sigma * root * factor * v) / root**2 for v in (g, n))


def tangential_slopes(sigma, q):
    c, u, n = ((1 - g) / sigma for g in gains(sigma))  # eps over x
    gram = np.array([[c**2 + u**2, (c + u) * n * q], [(c + u) * n * q, 2 * (n * q) ** 2]])
    lead = np.linalg.eigh(gram)[1][:, -1]
    kept = (u * lead[0] + n * q * lead[1]) * lead
    e1, e2 = 4 * c - 3 * kept[0], 4 * n - 3 * kept[1] / q
    return sigma * e1, sigma * e2


@pytest.mark.parametrize("q0", [-1.7, 0.6])
@pytest.mark.parametrize(
    ("name", "params", "slopes"),
    [
        ("apg", {"norm_threshold": 0.0, "momentum": 0.0}, apg_slopes),
        ("cfg_zero_star", {"zero_init": 0.0}, star_slopes),
        ("rescale", {}, rescale_slopes),
        ("tangential", {}, tangential_slopes),
    ],
)
def test_law_in_the_plane_agrees_with_its_reduction_to_a_ratio(name, params, slopes, q0):
    ours = plane(laws.build(name, 3.0, **params), q0)
    np.testing.assert_allclose(ours, ratio(slopes, q0), rtol=1e-7, atol=1e-7)


def test_laws_of_direction_leave_isotropic_gaussians_alone():
    x, _, _ = draws(9, dim=5)
    for sigma in (0.1, 1.0, 10.0):
        cond, uncond = x * A / (A + sigma**2), x * B / (B + sigma**2)
        for name in ("apg", "cfg_zero_star"):
            np.testing.assert_allclose(guide(name, x, sigma, cond, uncond), cond, rtol=1e-11)
        kept = guide("apg", x, sigma, cond, uncond, eta=0.4, momentum=0.0, norm_threshold=0.0)
        np.testing.assert_allclose(kept, cond + 1.2 * (cond - uncond), rtol=1e-11)


# ---- CFG++ and the weak model ------------------------------------------------------------------


def linear(variance):
    return lambda x, sigma: x * variance / (variance + sigma**2)


def test_cfg_plus_plus_is_euler_with_a_scale_for_each_step():
    x, _, _ = draws(10)
    sigmas = [80.0, 31.0, 9.0, 2.0, 0.4, 0.05]
    plus = laws.guided(laws.build("cfg_plus_plus", -0.4), linear(A), linear(B))
    theirs = x
    for state in solver.solve(plus, x, sigmas, laws.cfg_plus_plus):
        np.testing.assert_allclose(state.x, theirs, rtol=1e-12)
        step = [s for s in sigmas if s <= state.sigma][:2]
        if len(step) == 2:
            scale = 0.6 * step[0] / (step[0] - step[1])
            euler = solver.solve(
                Guided(linear(A), linear(B), scale - 1), theirs, step, solver.euler
            )
            theirs = solver.last(euler).x


def test_cfg_plus_plus_follows_its_scalar_recursion_and_has_no_limit():
    def closed(sigmas):
        x = 1.0
        for here, after in itertools.pairwise(sigmas):
            a, b = A / (A + here**2), B / (B + here**2)
            x *= b + 0.3 * (a - b) + after / here * (1 - b)
        return x

    ends, scales = [], []
    plus = laws.guided(laws.build("cfg_plus_plus", -0.7), linear(A), linear(B))
    for n in (100, 200, 400):
        sigmas = np.geomspace(80, 0.002, n + 1).tolist()
        states = solver.solve(
            plus, np.ones((1, 1)), sigmas, laws.build("cfg_plus_plus", 0).own_step
        )
        ends.append(float(solver.last(states).x[0, 0]))
        assert ends[-1] == pytest.approx(closed(sigmas), rel=1e-11)
        scales.append(0.3 / (1 - sigmas[1] / sigmas[0]))
    shrunk = np.array(ends[1:]) / ends[:-1]
    np.testing.assert_allclose(shrunk, (A / B) ** (np.diff(scales) / 2), rtol=0.06)
    assert scales[2] > 3 * scales[0]  # the steps decide how strong the guidance is


def test_cfg_plus_plus_is_matched_to_the_mean_scale_of_its_steps():
    sigmas = np.geomspace(80, 0.002, 65)
    scale = (1 + laws.matched_w(3.0, sigmas)) / (1 - sigmas[1] / sigmas[0])
    assert scale == pytest.approx(4, rel=1e-12)  # every step alike on a geometric grid


def test_dilated_denoiser_is_that_of_the_stretched_law():
    t = targets.gaussians(mean=1.5, sd=0.8)
    wider = core.Mixture(
        [0.5, 0.5],
        [components.Gaussian([m * 1.3], [1.69 * 0.64]) for m in (1.5, -1.5)],
    )
    x = np.linspace(-6, 6, 25)[:, None]
    for sigma in (0.05, 0.7, 5.0):
        stretched = laws.Dilated(t.uncond.denoise, 1.69)(x, sigma)
        np.testing.assert_allclose(stretched, wider.denoise(x, sigma), rtol=1e-9, atol=1e-9)
        given = laws.Dilated(t.uncond.denoise, 1.69, mean=[0.0])(x, sigma)
        np.testing.assert_allclose(given, stretched, rtol=1e-9, atol=1e-9)


def test_autoguidance_is_guided_against_the_weak_model():
    t = targets.uniforms()
    built = laws.build("autoguidance", 2.0)
    x = np.linspace(-1, 4, 11)[:, None]
    weak = laws.Dilated(t.cond.denoise, 1.25)(x, 0.5)
    cond = t.cond.denoise(x, 0.5)
    guided = laws.guided(built, t.cond.denoise, t.uncond.denoise)(x, 0.5)
    np.testing.assert_allclose(guided, 3 * cond - 2 * weak, rtol=1e-10, atol=1e-10)
    assert laws.models(laws.build("constant", 2.0), 1, 2) == (1, 2)


# ---- the registry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "w", "params", "says"),
    [
        ("cfg", 3.0, {}, "choose from constant"),
        ("constant", math.nan, {}, "finite"),
        ("constant", "3", {}, "law 'constant'"),
        ("constant", 3.0, {"low": 1}, "does not take low"),
        ("interval", 3.0, {"low": 3.0, "high": 0.3}, "low < high"),
        ("beta", 3.0, {"a": 0.5}, "at least 1"),
        ("beta", 3.0, {"gamma": 2}, "gamma"),
        ("autoguidance", 3.0, {"variance": 0}, "variance"),
        ("rescale", 3.0, {"phi": 1.5}, "phi"),
        ("rescale", 3.0, {"prediction": "score"}, "choose from x0"),
        ("apg", 3.0, {"momentum": 1.0}, "momentum"),
        ("apg", 3.0, {"norm_threshold": -1.0}, "norm_threshold"),
        ("apg", 3.0, {"form": "mine"}, "choose paper or diffusers"),
        ("cfg_zero_star", 3.0, {"zero_init": 1.0}, "zero_init"),
        ("dynamic_thresholding", 3.0, {"bound": 0.0}, "bound"),
        ("dynamic_thresholding", 3.0, {"percentile": 0.0}, "percentile"),
        ("mimic", 3.0, {"percentile": 1.5}, "percentile"),
    ],
)
def test_build_refuses_in_one_line(name, w, params, says):
    with pytest.raises(ValueError, match=says) as error:
        laws.build(name, w, **params)
    assert "\n" not in str(error.value)


def test_build_fills_in_the_defaults_it_names():
    for name in laws.NAMES:
        built = laws.build(name, 3.0)
        assert built.name == name
        assert laws.build(name, 3.0, **laws.parameters(name)) == built
    assert laws.parameters("interval") == {"low": 0.3, "high": 3.0}
    assert isinstance(laws.build("rescale", 1.0), corrections.Rescale)
