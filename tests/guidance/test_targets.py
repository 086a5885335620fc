"""Targets: what they hold, what they refuse, and where a class ends."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from assay.core.components import Gaussian, Points, Product, TruncatedGaussian, Uniform
from assay.core.mixture import Mixture
from assay.guidance import targets

UNIT = st.floats(0.05, 0.95)
SCALE = st.floats(0.1, 10)


def column(*values):
    return np.array(values, dtype=float)[:, None]


@given(mean=st.floats(-5, 5).filter(lambda m: abs(m) > 1e-3), sd=SCALE, prior=UNIT)
def test_gaussians_are_two_mirrored_normals(mean, sd, prior):
    t = targets.gaussians(mean, sd, prior)
    x = np.linspace(-6, 6, 7)[:, None]
    ours, theirs = (stats.norm.pdf(x[:, 0], m, sd) for m in (mean, -mean))
    mixed = prior * ours + (1 - prior) * theirs
    for law, expected in ((t.cond, ours), (t.uncond, mixed), (t.rest, theirs)):
        density = np.exp(law.log_prob(x, 0.0))
        np.testing.assert_allclose(density, expected, rtol=1e-9, atol=1e-290)
    assert (t.dim, t.prior) == (1, prior)


@given(prior=UNIT, sigma=st.floats(0.01, 30), x=st.floats(-40, 40))
def test_log_odds_of_gaussians_are_linear_in_x(prior, sigma, x):
    t = targets.gaussians(1.5, 0.5, prior)
    expected = np.log(prior / (1 - prior)) + 2 * 1.5 * x / (0.25 + sigma**2)
    assert t.log_odds(column(x), sigma)[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_log_odds_of_disjoint_classes_are_infinite():
    t = targets.uniforms()
    odds = t.log_odds(column(1.5, -1.5))
    assert odds.tolist() == [np.inf, -np.inf]


def test_uniforms_are_mirrored_boxes_in_any_dimension():
    t = targets.uniforms([0.0, 1.0], [1.0, 3.0], 0.3)
    x = np.array([[0.5, 2.0], [-0.5, -2.0], [0.5, -2.0]])
    np.testing.assert_allclose(np.exp(t.uncond.log_prob(x, 0.0)), [0.15, 0.35, 0.0])
    assert [end.tolist() for end in t.support] == [[0.0, 1.0], [1.0, 3.0]]
    assert t.off_support(x).tolist() == [False, True, True]
    assert t.off_support_name == "support"


def test_support_of_a_class_with_holes_excludes_them():
    parts = [(1, Uniform(0.0, 1.0)), (1, Uniform(2.0, 3.0))]
    t = targets.mixture(cond=parts, uncond=parts + [(1, Gaussian(0.0, 1.0))])
    assert t.off_support(column(0.5, 1.5, 2.5, 3.5, 1.0)).tolist() == [0, 1, 0, 1, 0]


def test_support_of_points_is_the_points():
    t = targets.mixture([(1, Points([[0.0], [5.0]]))], [(1, Gaussian(0.0, 1.0))])
    assert t.off_support(column(0.0, 5.0 + 1e-12, 4.9)).tolist() == [False, False, True]


@pytest.mark.parametrize("dim", [1, 3])
def test_hdr_of_one_gaussian_is_its_chi_square_ellipsoid(dim):
    t = targets.gaussians(mean=np.arange(1, dim + 1), sd=np.linspace(0.5, 2, dim))
    radius = np.sqrt(stats.chi2.ppf(0.999, dim))
    axis = np.zeros((1, dim))
    axis[0, -1] = 2.0 if dim > 1 else 0.5
    mean = np.arange(1.0, dim + 1)
    assert not t.off_support(mean + 0.9999 * radius * axis)[0]
    assert t.off_support(mean + 1.0001 * radius * axis)[0]
    assert t.off_support_name == "HDR99.9"


@pytest.mark.parametrize(
    "parts",
    [
        [(1, Gaussian(-3.0, 0.25)), (3, Gaussian(2.0, 1.0))],
        [(1, TruncatedGaussian(1.0, 1.0, 0.0, np.inf))],
        [(1, Uniform(0.0, 1.0)), (2, Gaussian(0.0, 1.0))],
    ],
)
def test_hdr_in_1d_holds_the_share_and_is_a_level_set(parts):
    t = targets.mixture(cond=parts, uncond=parts + [(1, Gaussian(9.0, 1.0))])
    assert t.off_support_name == "HDR99.9"
    x = np.linspace(-9, 9, 400_001)[:, None]
    density = np.exp(t.cond.log_prob(x, 0.0))
    out = t.off_support(x)
    mass = integrate.simpson(density * ~out, x=x[:, 0])
    assert mass == pytest.approx(0.999, abs=3e-5)  # the grid's share of a boundary cell
    assert density[out].max() <= density[~out].min()


def test_hdr_by_sampled_level_holds_the_share():
    parts = [(1, Gaussian([0.0, 0.0], 1.0)), (1, Gaussian([4.0, 0.0], [0.25, 2.0]))]
    t = targets.mixture(cond=parts, uncond=parts + [(1, Gaussian([0.0, 5.0], 1.0))])
    assert t.off_support_name == "HDR99.9 (sampled level)"
    share = t.off_support(t.cond.sample(100_000, np.random.default_rng(5))).mean()
    assert share == pytest.approx(0.001, abs=5 * np.sqrt(1e-3 * (1e-5 + 5e-6)))  # 5 se: 6e-7


def test_mixture_finds_prior_and_rest():
    ours = [(2, Gaussian(1.0, 1.0)), (1, Uniform(0.0, 1.0))]
    every = [(0.4, Gaussian(1.0, 1.0)), (0.2, Uniform(0.0, 1.0)), (0.4, Gaussian(-1.0, 1.0))]
    t = targets.mixture(cond=ours, uncond=every)
    assert t.prior == pytest.approx(0.6)
    x = np.linspace(-2, 2, 9)[:, None]
    one, other = np.exp(t.cond.log_prob(x, 0.5)), np.exp(t.rest.log_prob(x, 0.5))
    np.testing.assert_allclose(np.exp(t.uncond.log_prob(x, 0.5)), 0.6 * one + 0.4 * other)
    assert len(t.rest.components) == 1


def test_mixture_of_unequal_shares_still_adds_up():
    ours = [(1, Gaussian(1.0, 1.0)), (1, Gaussian(3.0, 1.0))]
    t = targets.mixture(ours, [(1, Gaussian(1.0, 1.0)), (3, Gaussian(3.0, 1.0))])
    x = np.linspace(-2, 6, 9)[:, None]
    one, other = (np.exp(law.log_prob(x, 0.0)) for law in (t.cond, t.rest))
    mixed = t.prior * one + (1 - t.prior) * other
    np.testing.assert_allclose(np.exp(t.uncond.log_prob(x, 0.0)), mixed)
    assert t.prior == pytest.approx(0.5)


@pytest.mark.parametrize("uncond", [[(1, Gaussian(0.0, 2.0))], [(1, Gaussian(0.0, 1.0))]])
def test_mixture_without_a_rest_has_no_odds(uncond):
    t = targets.mixture(cond=[(1, Gaussian(0.0, 1.0))], uncond=uncond)
    assert t.prior is None
    assert t.rest is None
    with pytest.raises(ValueError, match="uncond does not contain cond"):
        t.log_odds(column(0.0))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("gaussians", {"mean": [1.0, 2.0], "sd": [1.0, 0.5], "prior": 0.3}),
        ("uniforms", {"low": 0.0, "high": 1.5}),
        (
            "mixture",
            {
                "cond": [(2, TruncatedGaussian(0.0, 1.0, -np.inf, 1.0))],
                "uncond": [
                    (1, TruncatedGaussian(0.0, 1.0, -np.inf, 1.0)),
                    (1, Product([Uniform(0.0, 1.0)])),
                    (1, Mixture([1, 3], [Gaussian(0.0, 1.0), Uniform(-1.0, 1.0)])),
                ],
            },
        ),
    ],
)
def test_target_from_its_own_json_is_the_same(name, params):
    t = targets.build(name, **params)
    again = targets.build(t.name, **json.loads(json.dumps(t.params, allow_nan=False)))
    x = np.random.default_rng(0).normal(size=(20, t.dim))
    for law in ("cond", "uncond", "rest"):
        one, other = (getattr(side, law).log_prob(x, 0.3) for side in (t, again))
        np.testing.assert_allclose(other, one, rtol=1e-13)
    assert again.params == t.params


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: targets.build("nonsense"), "gaussians, uniforms, mixture, digits"),
        (lambda: targets.build("gaussians", low=1.0), "low"),
        (lambda: targets.gaussians(sd=-1.0), "sd -1.0 must be > 0"),
        (lambda: targets.gaussians(sd=0.0), "sd"),
        (lambda: targets.gaussians(mean=np.inf), "mean inf"),
        (lambda: targets.gaussians(mean="one"), "mean one"),
        (lambda: targets.gaussians(mean=0.0), "both classes equal"),
        (lambda: targets.gaussians(mean=[1.0, 2.0], sd=[1.0, 1.0, 1.0]), "sd has 3 entries"),
        (lambda: targets.gaussians(mean=[[1.0]]), "vector"),
        (lambda: targets.gaussians(prior=0.0), "prior 0.0"),
        (lambda: targets.gaussians(prior=1.0), "prior"),
        (lambda: targets.gaussians(prior=np.nan), "prior"),
        (lambda: targets.gaussians(prior=[0.5, 0.5]), "one number"),
        (lambda: targets.uniforms(low=-0.1), "low -0.1 must be >= 0"),
        (lambda: targets.uniforms(low=2.0, high=2.0), "below high"),
        (lambda: targets.uniforms(low=[0.0, 1.0], high=2.0), "low has 2 entries"),
        (lambda: targets.mixture(cond=[], uncond=[]), "cond must be a list"),
        (lambda: targets.mixture([(0, Gaussian(0.0, 1.0))], [(1, Gaussian(0.0, 1.0))]), "weight"),
        (lambda: targets.mixture([(1, "gaussian")], [(1, Gaussian(0.0, 1.0))]), "none of"),
        (lambda: targets.mixture([Gaussian(0.0, 1.0)], [(1, Gaussian(0.0, 1.0))]), "pair"),
        (lambda: targets.mixture([{"kind": "cauchy"}], [(1, Gaussian(0.0, 1.0))]), "cauchy"),
        (
            lambda: targets.mixture([{"kind": "uniform", "lo": 1}], [(1, Gaussian(0.0, 1.0))]),
            "has no 'lo'",
        ),
        (lambda: targets.mixture([{"kind": "uniform"}], [(1, Gaussian(0.0, 1.0))]), "uniform"),
        (
            lambda: targets.mixture([(1, Gaussian(0.0, 1.0))], [(1, Gaussian([0.0, 0.0], 1.0))]),
            "dimensions",
        ),
        (lambda: targets.gaussians().off_support(np.zeros(3)), "batch"),
        (lambda: targets.gaussians().off_support(np.zeros((3, 2))), "batch"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
