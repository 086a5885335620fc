"""The guided flow against 30-digit extrapolation, general solvers, closed forms and symmetries."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.integrate import DOP853, solve_ivp

from assay.core.components import Gaussian, Points, TruncatedGaussian, Uniform
from assay.guidance import Pushforward, conditional, lanes, targets
from assay.guidance.edged1d import Edged
from assay.guidance.flow1d import Smooth
from assay.guidance.stack1d import stack

SCORES = np.array([-2.3, -1.0, -0.1, 0.4, 1.1, 2.2])


def contained(ours, others):
    return targets.mixture(cond=ours, uncond=ours + others)


CASES = {
    "overlapping boxes": contained([(1, Uniform(0.0, 2.0))], [(1, Uniform(-1.0, 1.0))]),
    "class with a hole": contained(
        [(1, Uniform(0.0, 1.0)), (2, Uniform(2.0, 3.0))],
        [(1, Uniform(1.0, 2.0)), (1, Uniform(-2.0, -1.0))],
    ),
    "cut normals": contained(
        [(1, TruncatedGaussian(1.0, 1.0, 0.0, np.inf))],
        [(1, TruncatedGaussian(-1.0, 0.5, -np.inf, 0.3))],
    ),
    "three normals": contained(
        [(1, Gaussian(1.0, 0.25)), (2, Gaussian(3.0, 1.0))], [(4, Gaussian(-1.0, 4.0))]
    ),
    "normal and box": contained(
        [(1, Gaussian(1.0, 0.25)), (2, Uniform(0.0, 1.0))], [(4, Gaussian(-1.0, 4.0))]
    ),
    "box within a normal": targets.mixture([(1, Uniform(0.0, 1.0))], [(1, Gaussian(0.0, 1.0))]),
    "normals, no class": targets.mixture(
        [(1, Gaussian(0.5, 0.49))], [(1, Gaussian(0.0, 1.0)), (1, Gaussian(3.0, 0.09))]
    ),
    "points": contained(
        [(1, Points([[0.0], [1.0], [2.5]], [1, 2, 1]))], [(1, Points([[-1.0], [1.2]]))]
    ),
    "points beside a box": contained(
        [(1, Points([[0.5], [3.0]])), (1, Uniform(0.0, 1.0))], [(1, Gaussian(0.0, 1.0))]
    ),
}


def solved(target, w, u, r):
    """x by a general solver and the mixtures' own denoisers up to 1/sigma = r.

    There x(sigma) = x - sigma^2 s/2 + O(sigma^4) and D_w - x = sigma^2 s, s the guided score.
    """

    def slope(log_r, c):
        inverse = np.exp(log_r)
        x, sigma = (c / inverse)[:, None], float(1 / inverse)
        ours, every = (m.denoise(x, sigma)[:, 0] for m in (target.cond, target.uncond))
        return inverse * ((1 + w) * ours - w * every)

    start, end = np.log(1e-6), np.log(r)
    done = solve_ivp(slope, (start, end), u + slope(start, u), DOP853, rtol=1e-8, atol=1e-9)
    last = done.y[:, -1]
    return (last / r + slope(end, last) / r) / 2


@pytest.mark.parametrize("name", CASES)
def test_map_without_guidance_is_the_conditional_s(name):
    p, cond = Pushforward(CASES[name], 0.0), conditional(CASES[name])
    np.testing.assert_allclose(p.map(SCORES), cond.map(SCORES), atol=1e-9)
    x = cond.quantile([0.1, 0.45, 0.8])
    np.testing.assert_allclose(p.cdf(x), cond.cdf(x), rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "w"), [(name, 2.0) for name in CASES] + [(name, -1.0) for name in list(CASES)[:3]]
)
def test_map_against_a_general_solver(name, w):
    r = 300.0
    x, expected = Pushforward(CASES[name], w).map(SCORES), solved(CASES[name], w, SCORES, r)
    # Beside an edge or an atom the solver at finite r is still a few r^-1 away.
    np.testing.assert_allclose(x, expected, atol=4 / r)
    edges = np.union1d(stack(CASES[name].uncond).edges, stack(CASES[name].cond).edges)
    clear = np.abs(x[:, None] - edges).min(axis=1, initial=np.inf) > 10 / r
    np.testing.assert_allclose(x[clear], expected[clear], atol=1e-6, rtol=0)


def extrapolated(f, start, end, y, steps, order=9):
    """y(end) of y' = f(t, y) in mpmath: modified midpoint, extrapolated in h^2 (Gragg)."""
    h = (end - start) / steps
    for i in range(steps):
        t, table = start + i * h, []
        for k in range(1, order + 1):
            n, sub = 2 * k, h / (2 * k)
            before, now = y, y + sub * f(t, y)
            for m in range(1, n):
                before, now = now, before + 2 * sub * f(t + m * sub, now)
            row = [(before + now + sub * f(t + h, now)) / 2]
            for j in range(1, k):
                ratio = mpmath.mpf(k) ** 2 / mpmath.mpf(k - j) ** 2 - 1
                row.append(row[j - 1] + (row[j - 1] - table[-1][j - 1]) / ratio)
            table.append(row)
        y = table[-1][-1]
    return y


@pytest.mark.parametrize(("w", "u"), [(1, 0), (3, 0), (3, -2.5), (7, 1), (15, 4)])
def test_two_gaussians_against_extrapolation_in_30_digits(w, u):
    with mpmath.workdps(30):
        expected = extrapolated(
            lambda a, g: 1 + w * (1 - mpmath.tanh(a * g)),
            mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(u), 12,
        )  # fmt: skip
    assert Pushforward(targets.gaussians(), w).map(u) == pytest.approx(float(expected), abs=1e-9)


def test_far_lower_tail_against_extrapolation_in_30_digits():
    with mpmath.workdps(30):
        u = extrapolated(
            lambda a, g: -(1 + 100 * (1 - mpmath.tanh((1 - a) * g))),
            mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(0), 160,
        )  # fmt: skip
        expected = float(mpmath.log(mpmath.erfc(-u / mpmath.sqrt(2)) / 2))
    assert expected == pytest.approx(-20036.6963606, abs=1e-6)
    assert Pushforward(targets.gaussians(), 100).logcdf(0.0) == pytest.approx(expected, rel=1e-11)


def upper(z):
    return mpmath.erfc(z / mpmath.sqrt(2)) / 2


def box_mean(low, high, c, r):
    """ln of P(c) and E[x0|c] of a box, in as many digits as are set."""
    a, b = low * r - c, high * r - c
    mass = upper(a) - upper(b) if a > 0 else upper(-b) - upper(-a)
    return mass, (c + (mpmath.npdf(a) - mpmath.npdf(b)) / mass) / r


def u12_gap(w, u, digits, last):
    """ln(2 - F_w(u)) of the uniforms by E = c - 2r, to r = 1 in r and to exp(last) in ln r."""
    with mpmath.workdps(digits):

        def slope(r, away):
            c = away + 2 * r
            ours, mean = box_mean(1, 2, c, r)
            theirs, other = box_mean(-2, -1, c, r)
            return mean - 2 + w * theirs / (ours + theirs) * (mean - other)

        def log_slope(log_r, away):
            return mpmath.exp(log_r) * slope(mpmath.exp(log_r), away)

        # The means of narrow intervals cost twice the digits of r.
        start, one = mpmath.mpf(10) ** (-digits // 4), mpmath.mpf(1)
        away = extrapolated(slope, start, one, mpmath.mpf(u), 10 + w // 2)
        away = extrapolated(log_slope, mpmath.mpf(0), mpmath.mpf(last), away, 20 + 2 * last)
        return float(mpmath.log(-away) - last)


@pytest.mark.parametrize(("w", "u", "digits", "last"), [(3, 1.5, 50, 8)])
def test_two_boxes_against_extrapolation_in_50_digits(w, u, digits, last):
    p = Pushforward(targets.uniforms(), w)
    assert p.log_edge_gap(u) == pytest.approx(u12_gap(w, u, digits, last), abs=1e-9)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(("w", "u", "digits", "last"), [(100, 0, 60, 50), (300, 0, 90, 137)])
def test_gap_below_float64_against_extrapolation(w, u, digits, last):
    p = Pushforward(targets.uniforms(), w)
    assert p.log_edge_gap(u) == pytest.approx(u12_gap(w, u, digits, last), abs=1e-8)


@pytest.mark.parametrize("w", [0.0, 7.0])
def test_both_coordinates_agree(w):
    # A box of weight 1e-14 far away changes nothing but the coordinates.
    speck = (1e-14, Uniform(-9.0, -8.0))
    ours, rest = [(1, Gaussian(1.0, 1.0))], [(1, Gaussian(-1.0, 0.25))]
    smooth = Pushforward(contained(ours, rest), w)
    edged = Pushforward(contained(ours, rest + [speck]), w)
    assert isinstance(smooth._flow, Smooth)
    assert isinstance(edged._flow, Edged) == (w > 0)
    np.testing.assert_allclose(edged.map(SCORES), smooth.map(SCORES), atol=3e-9)
    np.testing.assert_allclose(edged.logpdf(SCORES), smooth.logpdf(SCORES), atol=1e-8)


@settings(max_examples=5, deadline=None)
@given(shift=st.floats(-20, 20), scale=st.floats(0.1, 10), w=st.floats(0, 12), flip=st.booleans())
@pytest.mark.parametrize("kind", ["normals", "boxes"])
def test_map_moves_with_shift_scale_and_reflection(kind, shift, scale, w, flip):
    sign = -scale if flip else scale

    def moved(low, high):
        low, high = sorted((shift + sign * low, shift + sign * high))
        if kind == "boxes":
            return Uniform(low, high)
        return Gaussian((low + high) / 2, (high - low) ** 2)

    def target(part):
        return contained([(1, part(0.0, 1.0))], [(2, part(-2.5, -1.0))])

    plain = {"normals": lambda a, b: Gaussian((a + b) / 2, (b - a) ** 2), "boxes": Uniform}[kind]
    u = np.array([-1.0, 0.3, 2.0])
    one, other = Pushforward(target(plain), w, 1e-8), Pushforward(target(moved), w, 1e-8)
    expected = shift + sign * one.map(u)
    # Sixteen digits of x are fewer of x - shift.
    np.testing.assert_allclose(other.map(-u if flip else u), expected, atol=1e-7 * scale)


@pytest.mark.parametrize("name", ["class with a hole", "three normals", "box within a normal"])
def test_map_increases_and_its_slope_is_its_derivative(name):
    p = Pushforward(CASES[name], 2.0, tol=1e-10)
    u = np.array([-2.4, -1.0, 0.1, 0.9, 1.9, 2.6])
    x = p.map(u)
    assert np.all(np.diff(x) >= 0)
    h = 2e-3
    # Richardson's derivative; u on a kink of the map is not among these.
    wide, narrow = ((p.map(u + k * h) - p.map(u - k * h)) / (2 * k * h) for k in (2, 1))
    _, log_slope = p._map_slope(u)
    np.testing.assert_allclose(np.exp(log_slope), (4 * narrow - wide) / 3, rtol=1e-6, atol=1e-8)
    held = (x > p.support[0] + 1e-3) & (x < p.support[1] - 1e-3)
    back, log_slope_back = p._flow.backward(x[held], True)
    np.testing.assert_allclose(back, u[held], atol=1e-7)
    np.testing.assert_allclose(log_slope_back, log_slope[held], atol=1e-6)


def test_lane_does_not_depend_on_its_neighbours():
    p = Pushforward(CASES["normal and box"], 3.0)
    np.testing.assert_allclose(p.map(SCORES)[::2], [p.map(u) for u in SCORES[::2]], rtol=1e-12)


@pytest.mark.parametrize("make", [targets.gaussians, targets.uniforms])
def test_looser_tolerance_costs_less_and_keeps_its_promise(make):
    errors, costs = [], []
    best = Pushforward(make(), 3.0, tol=1e-13).map(SCORES)
    for tol in (1e-3, 1e-6, 1e-9):
        p = Pushforward(make(), 3.0, tol=tol)
        errors.append(np.abs(p.map(SCORES) - best).max())
        costs.append(p.nfe)
        assert errors[-1] <= 10 * tol
    assert errors == sorted(errors, reverse=True)
    assert costs == sorted(costs)
    assert costs[0] < costs[2] / 3


def test_evaluations_are_counted_lane_by_lane(monkeypatch):
    seen = []
    drift = Edged.drift
    monkeypatch.setattr(
        Edged, "drift", lambda self, r, *rest: seen.append(len(r)) or drift(self, r, *rest)
    )
    p = Pushforward(targets.uniforms(), 3.0, tol=1e-6)
    p.map(SCORES)
    p.logcdf([1.2, 1.9])
    assert p.nfe == sum(seen)


@pytest.mark.parametrize("order", [8])
def test_integrator_has_its_order_and_each_lane_its_own_time(order):
    # y' = lane * cos(t) y from different starts to different ends, without error control.
    speed = np.array([1.0, 2.0, -1.0])
    start, end = np.array([0.0, 0.5, 1.0]), np.array([2.0, 1.5, -1.0])
    exact = np.exp(speed * (np.sin(end) - np.sin(start)))
    errors = []
    for n in (4, 8):
        problem = lanes.Problem(
            lambda t, y, i: (speed[i] * np.cos(t))[:, None] * y, np.inf, np.zeros(1)
        )
        y = np.ones((3, 1))
        for i in range(n):
            a, b = start + (end - start) * i / n, start + (end - start) * (i + 1) / n
            f = problem.slope(a, y, np.arange(3))
            state = lanes.Lanes(np.arange(3), a.copy(), y.copy(), f, b - a, b)
            lanes._step(problem, state)
            y = state.y
        errors.append(np.abs(y[:, 0] / exact - 1).max())
    assert np.log2(errors[0] / errors[1]) > order - 0.5


def test_integrator_meets_its_tolerance():
    problem = lanes.Problem(lambda t, y, i: -y * (1 + i[:, None]), 1e-10, np.ones(1))
    t, y = lanes.integrate(problem, np.zeros(3), np.ones((3, 1)), np.full(3, 2.0))
    np.testing.assert_allclose(y[:, 0], np.exp([-2, -4, -6]), atol=3e-9)
    assert t.tolist() == [2.0, 2.0, 2.0]


def test_thresholds_of_points_without_guidance_are_their_quantiles():
    target = CASES["points"]
    cond = Pushforward(target, 0.0)
    np.testing.assert_allclose(cond.cdf([-1, 0, 0.5, 1, 2.4, 2.5]), [0, 0.25, 0.25, 0.75, 0.75, 1])
    marginal = Pushforward(target, -1.0)
    np.testing.assert_allclose(
        marginal.cdf([-1, 0, 1, 1.2, 2.5]), [0.25, 0.375, 0.625, 0.875, 1], atol=1e-9
    )
    assert cond.mean() == pytest.approx(1.125, abs=1e-10)


@pytest.mark.parametrize("name", ["points", "class with a hole", "points beside a box"])
def test_border_of_a_hole_parts_the_scores(name):
    p = Pushforward(CASES[name], 2.0)
    inside = {"points": 0.5, "class with a hole": 1.5, "points beside a box": 2.0}[name]
    border = special.ndtri(p.cdf(inside))
    below, above = p.map([border - 1e-7, border + 1e-7])
    assert below < inside < above


def test_unequal_points_far_apart_have_their_thresholds():
    weights = [1e-9, 1.0, 1e-6]
    points = (1, Points([[0.0], [1.0], [50.0]], weights))
    p = Pushforward(contained([points], [(1, Gaussian(0.0, 1.0))]), 0.0)
    np.testing.assert_allclose(
        p.cdf([0.0, 1.0]), np.cumsum(weights)[:2] / np.sum(weights), rtol=1e-9
    )
