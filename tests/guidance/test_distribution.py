"""What every distribution on the line shares, on conditionals known in closed form."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from assay.core.components import Gaussian, Points, TruncatedGaussian, Uniform
from assay.guidance import conditional, panels, targets


def law(*parts):
    """The conditional of a class with these (weight, component) pairs."""
    return conditional(targets.mixture(cond=list(parts), uncond=[(1, Gaussian(0.0, 100.0))]))


NORMAL = conditional(targets.gaussians(1.0, 2.0))
BOX = conditional(targets.uniforms(1.0, 3.0))
LUMPS = law(
    (1, Gaussian(-3.0, 0.04)), (2, Gaussian(2.0, 1.0)), (1, TruncatedGaussian(0.0, 1.0, 0.5, 2.5))
)
HALF = law((1, TruncatedGaussian(-1.0, 0.5, 0.0, np.inf)), (1, Uniform(1.0, 2.0)))
DOTS = law((1, Points([[0.0], [1.0], [4.0]], [1, 2, 1])))
LAWS = {"normal": NORMAL, "box": BOX, "lumps": LUMPS, "half": HALF}
FACE = ("map", "quantile", "cdf", "sf", "logcdf", "logsf", "pdf", "logpdf", "log_edge_gap")


@pytest.mark.parametrize("name", FACE)
def test_numbers_give_floats_and_arrays_keep_their_shape(name):
    f = getattr(BOX, name)
    assert type(f(0.5)) is float
    assert type(f(np.float32(0.5))) is float
    grid = np.linspace(0.0, 1.0, 6).reshape(2, 3)
    out = f(grid)
    assert out.shape == (2, 3)
    assert out.dtype == np.float64
    assert out[1, 0] == f(grid[1, 0])
    assert f(np.empty((0, 2))).shape == (0, 2)
    assert f([0.25]).shape == (1,)


def test_moments_are_floats():
    for value in (BOX.mean(), BOX.sd(), BOX.entropy(), BOX.w1(NORMAL), *BOX.support):
        assert type(value) is float


@pytest.mark.parametrize("name", FACE)
@pytest.mark.parametrize("value", [np.nan, [0.5, np.nan], "x", 1j])
def test_what_is_no_real_number_is_refused(name, value):
    with pytest.raises(ValueError, match="give real numbers"):
        getattr(BOX, name)(value)


@pytest.mark.parametrize("q", [-1e-9, 1.0 + 1e-9, np.inf, [0.5, 2.0]])
def test_quantile_refuses_what_is_no_probability(q):
    with pytest.raises(ValueError, match="is no probability"):
        NORMAL.quantile(q)


def test_outside_the_support_there_is_nothing():
    x = np.array([-np.inf, 0.0, 3.5, np.inf])
    assert BOX.pdf(x).tolist() == [0, 0, 0, 0]
    assert BOX.logpdf(x).tolist() == [-np.inf] * 4
    assert BOX.cdf(x).tolist() == [0, 0, 1, 1]
    assert BOX.sf(x).tolist() == [1, 1, 0, 0]
    assert BOX.logcdf(x).tolist() == [-np.inf, -np.inf, 0, 0]
    assert BOX.logsf(x).tolist() == [0, 0, -np.inf, -np.inf]
    assert BOX.pdf(np.array([1.0, 3.0])).tolist() == [0.5, 0.5]


def test_quantile_and_map_reach_the_ends():
    assert BOX.quantile([0.0, 1.0]).tolist() == [1.0, 3.0]
    assert BOX.map([-np.inf, np.inf]).tolist() == [1.0, 3.0]
    assert NORMAL.quantile([0.0, 1.0]).tolist() == [-np.inf, np.inf]
    assert HALF.quantile([0.0, 1.0]).tolist() == [0.0, np.inf]
    assert (BOX.support, NORMAL.support) == ((1.0, 3.0), (-np.inf, np.inf))


@pytest.mark.parametrize("name", LAWS)
def test_cdf_of_quantile_is_q(name):
    q = np.linspace(0, 1, 101)
    if name != "box":  # beside an edge away from 0 float64 has no x for a small q
        q = np.append(q, 10.0 ** -np.arange(3, 200, 20))
    np.testing.assert_allclose(LAWS[name].cdf(LAWS[name].quantile(q)), q, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LAWS)
def test_scores_run_through_both_tails(name):
    d, u = LAWS[name], np.array([-30.0, -9.0, -1.0, 0.0, 1.0, 5.0])
    x = d.map(u)
    # An edge away from 0 swallows digits of what lies beyond it.
    low, high = d.support
    kept = (x >= low + 1e-9) & (x <= high - 1e-9)
    np.testing.assert_allclose(d.logcdf(x)[kept], special.log_ndtr(u)[kept], rtol=1e-6)
    assert np.all(np.diff(x) >= 0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(-9, 9), st.floats(0.05, 3)), min_size=1,
             max_size=4),
    st.floats(1e-12, 1 - 1e-12),
)  # fmt: skip
def test_quantile_of_gaussian_mixtures_inverts_their_cdf(parts, q):
    d = law(*[(w, Gaussian(m, s * s)) for w, m, s in parts])
    x = d.quantile(q)
    weights = np.array([w for w, _, _ in parts]) / sum(w for w, _, _ in parts)
    cdf = sum(w * stats.norm.cdf(x, m, s) for w, (_, m, s) in zip(weights, parts, strict=True))
    sf = sum(w * stats.norm.sf(x, m, s) for w, (_, m, s) in zip(weights, parts, strict=True))
    assert cdf == pytest.approx(q, rel=1e-9)
    assert sf == pytest.approx(1 - q, rel=1e-4 if q > 0.999 else 1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_density_against_the_mixture_and_its_integral(name):
    d = LAWS[name]
    low, high = d.quantile(1e-14), d.quantile(1 - 1e-14)
    points = [p for p in (-3.0, 0.0, 0.5, 1.0, 2.0, 2.5) if low < p < high]

    def total(f):
        return integrate.quad(f, low, high, points=points, limit=200, epsabs=1e-12)[0]

    assert total(d.pdf) == pytest.approx(1, abs=1e-10)
    x = np.linspace(-4, 4, 33)
    expected = d.target.cond.log_prob(x[:, None], 0.0)
    inside = np.isfinite(expected)
    np.testing.assert_allclose(d.logpdf(x)[inside], expected[inside], rtol=1e-12, atol=1e-13)
    assert d.mean() == pytest.approx(total(lambda x: x * d.pdf(x)), abs=1e-9)
    variance = total(lambda x: (x - d.mean()) ** 2 * d.pdf(x))
    assert d.sd() == pytest.approx(np.sqrt(variance), abs=1e-9)
    assert d.entropy() == pytest.approx(-total(lambda x: d.pdf(x) * d.logpdf(x)), abs=1e-8)


def test_entropy_of_normal_and_box_in_closed_form():
    assert NORMAL.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 4), abs=1e-12)
    assert BOX.entropy() == pytest.approx(np.log(2), abs=1e-12)


def test_tails_go_on_where_probabilities_have_ended():
    z = mpmath.mpf(201) / 2
    expected = float(mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2))
    assert NORMAL.logcdf(-200.0) == pytest.approx(expected, rel=1e-14)
    assert NORMAL.logsf(202.0) == pytest.approx(expected, rel=1e-14)
    with mpmath.workdps(50):

        def q(z):
            return mpmath.erfc(z / mpmath.sqrt(2)) / 2

        expected = float(mpmath.log(q(mpmath.mpf(42)) / q(mpmath.mpf(2)) / 2))
    assert HALF.logsf(20.0) == pytest.approx(expected, rel=1e-13)


@given(a=st.floats(-3, 3), b=st.floats(-3, 3), s=st.floats(0.1, 3), r=st.floats(0.1, 3))
@settings(max_examples=40, deadline=None)
def test_w1_of_two_normals_is_a_folded_normal_mean(a, b, s, r):
    one, other = law((1, Gaussian(a, s * s))), law((1, Gaussian(b, r * r)))
    shift, spread = b - a, abs(r - s)
    expected = abs(shift)
    if spread > 1e-9 * abs(shift):
        z = shift / spread
        expected = spread * np.sqrt(2 / np.pi) * np.exp(-z * z / 2) + shift * special.erf(
            z / np.sqrt(2)
        )
    assert one.w1(other) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert other.w1(one) == pytest.approx(one.w1(other), abs=1e-13)


@pytest.mark.parametrize(("one", "other"), [("box", "lumps"), ("half", "normal")])
def test_w1_is_the_area_between_the_cdfs(one, other):
    a, b = LAWS[one], LAWS[other]
    x = np.linspace(-30, 30, 200_001)
    area = np.sum(np.abs(a.cdf(x) - b.cdf(x))) * (x[1] - x[0])
    assert a.w1(b) == pytest.approx(area, abs=3e-4)  # the grid's error at the edges
    assert a.w1(a) == 0


def test_w1_refuses_what_is_no_distribution():
    with pytest.raises(ValueError, match="Distribution1D"):
        BOX.w1([1.0, 2.0])


def test_the_conditional_is_its_own_conditional_and_tilt():
    assert LUMPS.w1_to_cond() == 0
    assert LUMPS.w1_to_tilted() == 0


def test_points_have_steps_and_no_density():
    assert DOTS.quantile([0.0, 0.1, 0.25, 0.2500001, 0.75, 0.9, 1.0]).tolist() == [
        0, 0, 0, 1, 1, 4, 4,
    ]  # fmt: skip
    assert DOTS.cdf([-1.0, 0.0, 0.5, 1.0, 3.9, 4.0]).tolist() == [0, 0.25, 0.25, 0.75, 0.75, 1]
    assert DOTS.mean() == pytest.approx(1.5, abs=1e-12)
    assert DOTS.sd() == pytest.approx(np.sqrt(0.5 * 1 + 16 / 4 - 2.25), abs=1e-12)
    assert DOTS.w1(law((1, Points([[2.0]])))) == pytest.approx(1.5, abs=1e-12)
    for refused in (lambda: DOTS.pdf(0.5), lambda: DOTS.logpdf(0.5), DOTS.entropy):
        with pytest.raises(ValueError, match="atoms"):
            refused()


def test_points_beside_a_box_mix_steps_and_slopes():
    d = law((1, Points([[0.5], [3.0]])), (1, Uniform(0.0, 1.0)))
    np.testing.assert_allclose(d.cdf([0.25, 0.5, 0.75, 2.0, 3.0]), [0.125, 0.5, 0.625, 0.75, 1])
    q = [0.125, 0.3, 0.5, 0.625, 0.8]
    np.testing.assert_allclose(d.quantile(q), [0.25, 0.5, 0.5, 0.75, 3])
    assert d.mean() == pytest.approx(0.5 * 1.75 + 0.5 * 0.5, abs=1e-10)


def test_edge_gap_keeps_its_digits():
    u = np.array([0.0, 3.0, 9.0, 30.0, -2.0])
    np.testing.assert_allclose(BOX.edge_gap(u), 2 * special.ndtr(-u), rtol=1e-10)
    np.testing.assert_allclose(
        BOX.log_edge_gap(300.0), np.log(2) + special.log_ndtr(-300.0), rtol=1e-14
    )
    wedge = law((1, TruncatedGaussian(0.0, 1.0, -0.5, 1.0)))
    top, mass = stats.norm.cdf([1.0, 1.0]) - [0, stats.norm.cdf(-0.5)]
    assert wedge.edge_gap(12.0) == pytest.approx(
        stats.norm.sf(12.0) * mass / stats.norm.pdf(1.0), rel=1e-8
    )
    assert wedge.edge_gap(4.0) == pytest.approx(
        1 - stats.norm.ppf(top - mass * stats.norm.sf(4.0)), rel=1e-8
    )


def test_far_edge_is_where_the_class_lies_from_the_rest():
    left = targets.mixture(
        [(1, Uniform(-2.0, -1.0))], [(1, Uniform(-2.0, -1.0)), (1, Uniform(1.0, 2.0))]
    )
    d = conditional(left)
    assert d.far_edge == -2.0
    np.testing.assert_allclose(d.edge_gap([0.0, -8.0]), [0.5, special.ndtr(-8.0)], rtol=1e-9)
    with pytest.raises(ValueError, match="no far edge"):
        NORMAL.edge_gap(0.0)


@pytest.mark.parametrize("n", [900, 60_000])
def test_samples_follow_the_law(n):
    x = LUMPS.sample(n, np.random.default_rng(3))
    assert x.shape == (n,)
    # Kolmogorov-Smirnov with an error probability of 1e-6.
    assert stats.kstest(x, LUMPS.cdf).pvalue > 1e-6
    np.testing.assert_array_equal(x, LUMPS.sample(n, 3))


def test_many_samples_are_the_map_of_their_scores():
    u = np.random.default_rng(1).standard_normal(2000)
    x = LUMPS.sample(2000, np.random.default_rng(1))
    np.testing.assert_allclose(x[::20], LUMPS.map(u[::20]), atol=1e-8)


@pytest.mark.parametrize("n", [-1, 2.5, True])
def test_a_sample_size_must_be_a_whole_number(n):
    with pytest.raises(ValueError, match="whole number"):
        BOX.sample(n, np.random.default_rng(0))


def test_dimension_two_has_no_line():
    with pytest.raises(ValueError, match="2 dimensions"):
        conditional(targets.gaussians(mean=[1.0, 0.0]))


def test_card_shows_numbers_and_curve():
    card = LUMPS._repr_html_()
    assert f"{LUMPS.mean():.6g}" in card
    assert card.count("<polyline") == 1
    assert "nan" not in card
    assert "entropy" not in DOTS._repr_html_()


def test_table_of_a_function_with_a_jump_and_a_kink():
    def f(u):
        return np.abs(u) + np.where(u > 1.25, 1.0, 0.0)

    table = panels.build(f, np.array([0.0]), 1e-10)
    expected = np.sqrt(2 / np.pi) + stats.norm.sf(1.25)
    assert table.expect(lambda v: v) == pytest.approx(expected, abs=1e-9)
    u = np.array([-8.0, -0.3, 1.0, 1.2, 1.3, 8.4])
    np.testing.assert_allclose(table(u), f(u), atol=1e-9)


def test_step_table_and_distance_of_crossing_maps():
    step = panels.steps(np.array([-0.5, 0.5]), np.array([-1.0, 0.0, 1.0]))
    assert step(np.array([-3.0, 0.0, 0.6])).tolist() == [-1, 0, 1]
    line = panels.build(lambda u: u, np.empty(0), 1e-12)
    expected = 2 * sum(
        integrate.quad(lambda u, v=v: abs(u - v) * stats.norm.pdf(u), a, b, points=[v])[0]
        for a, b, v in ((0.0, 0.5, 0.0), (0.5, 8.5, 1.0))
    )
    assert panels.distance(step, line) == pytest.approx(expected, abs=1e-10)
