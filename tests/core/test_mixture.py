"""Mixtures against scipy, against sums over their parts, and stacks against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from assay.core import pool
from assay.core.components import Gaussian, Points, Product, TruncatedGaussian, Uniform
from assay.core.mixture import Mixture, Together
from assay.core.stacks import GaussianStack

INF = float("inf")
rng = np.random.default_rng(0)
D, K = 5, 7
MEANS = rng.standard_normal((K, D)) * 2
WEIGHTS = rng.random(K) + 0.1


def covariance():
    half = rng.standard_normal((D, D))
    return half @ half.T / D + 0.1 * np.eye(D)


SHARED, OWN = covariance(), [covariance() for _ in range(K)]
DIAGONALS = rng.random((K, D)) + 0.1
KINDS = {
    "one covariance": [SHARED] * K,
    "one variance": [0.3] * K,
    "own covariances": OWN,
    "own variances": list(DIAGONALS),
    "some of each": [SHARED, 0.3, OWN[0], DIAGONALS[0], SHARED, OWN[1], DIAGONALS[1]],
    "two groups": [SHARED, SHARED, OWN[0], OWN[0], OWN[0], SHARED, 2.0],
}
MIXED = Mixture(
    [1, 2, 3, 4, 0, 2, 1, 1],
    [
        Gaussian([1.0, 2.0], [[1.0, 0.6], [0.6, 0.5]]),
        Uniform([0.0, 1.0], [1.0, 3.0]),
        TruncatedGaussian([0.0, 1.0], [1.0, 0.2], [-INF, 0.5], [0.3, INF]),
        Points([[0.0, 1.0], [2.0, 1.0]], [1, 2]),
        Points([[90.0, 90.0]]),
        Product([Uniform(0.0, 1.0), Gaussian(0.0, 1.0)]),
        Product([Uniform(1.0, 2.0), Gaussian(3.0, 0.1)]),
        Mixture([1, 3], [Uniform([0.0, 1.0], [1.0, 3.0]), Gaussian([0.0, 0.0], 1.0)]),
    ],
)


def gaussians(kind):
    return Mixture(WEIGHTS, [Gaussian(m, c) for m, c in zip(MEANS, KINDS[kind], strict=True)])


def near_and_far(law, sigma, n=5):
    draws = np.random.default_rng(1)
    x = law.sample(2 * n, draws, sigma)
    away = draws.standard_normal((n, law.dim))
    x[n:] += 50 * sigma * away / np.linalg.norm(away, axis=1, keepdims=True)
    return x


@pytest.mark.parametrize("sigma", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_mixture_agrees_with_scipy(kind, sigma):
    mixture = gaussians(kind)
    x = near_and_far(mixture, max(sigma, 0.1))
    covs = [c.cov + sigma**2 * np.eye(D) for c in mixture.components]
    each = np.stack(
        [stats.multivariate_normal(m, c).logpdf(x) for m, c in zip(MEANS, covs, strict=True)], 1
    )
    joint = each + np.log(mixture.weights)
    expected = special.logsumexp(joint, axis=1)
    np.testing.assert_allclose(mixture.log_prob(x, sigma), expected, rtol=1e-10, atol=1e-10)
    shares = np.exp(joint - expected[:, None])
    found = np.exp(mixture.log_responsibilities(x, sigma))
    np.testing.assert_allclose(found, shares, rtol=1e-8, atol=1e-10)
    if sigma > 0:
        pulls = [np.linalg.solve(c, (m - x).T).T for m, c in zip(MEANS, covs, strict=True)]
        score = np.einsum("bk,kbd->bd", shares, np.array(pulls))
        np.testing.assert_allclose(mixture.score(x, sigma), score, rtol=1e-8, atol=1e-8)
        tweedie = x + sigma**2 * score
        np.testing.assert_allclose(mixture.denoise(x, sigma), tweedie, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_sigma_and_chunks_change_nothing(kind, monkeypatch):
    mixture = gaussians(kind)
    x, sigma = near_and_far(mixture, 0.5), np.geomspace(0.02, 30, 10)
    calls = (mixture.log_prob, mixture.score, mixture.denoise)
    single = [np.stack([f(r[None], float(s))[0] for r, s in zip(x, sigma, strict=True)])
              for f in calls]  # fmt: skip
    for cells in (pool.CELLS, 1, 100):
        monkeypatch.setattr(pool, "CELLS", cells)
        for call, expected in zip(calls, single, strict=True):
            np.testing.assert_allclose(call(x, sigma), expected, rtol=1e-9, atol=1e-9)
            rows = call(torch.tensor(x), torch.tensor(sigma))
            np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_score_is_the_gradient_of_log_prob(kind, sigma):
    mixture = MIXED if kind == "mixed" else gaussians(kind)
    x = torch.tensor(near_and_far(mixture, sigma), requires_grad=True)
    (gradient,) = torch.autograd.grad(mixture.log_prob(x, sigma).sum(), x)
    score = mixture.score(x.detach(), sigma)
    np.testing.assert_allclose(gradient, score, rtol=1e-10, atol=1e-10 * score.abs().max().item())
    tweedie = x.detach() + sigma**2 * score
    np.testing.assert_allclose(mixture.denoise(x.detach(), sigma), tweedie, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 20.0])
def test_mixture_is_the_weighted_sum_of_its_parts(sigma):
    x = near_and_far(MIXED, sigma)
    joint = np.stack([c.log_prob(x, sigma) for c in MIXED.components], 1)
    with np.errstate(divide="ignore"):
        joint = joint + np.log(MIXED.weights)
    total = special.logsumexp(joint, axis=1)
    np.testing.assert_allclose(MIXED.log_prob(x, sigma), total, rtol=1e-12)
    found = MIXED.log_responsibilities(x, sigma)
    np.testing.assert_allclose(found, joint - total[:, None], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-12)
    assert (found[:, 4] == -INF).all()
    means = np.stack([c.denoise(x, sigma) for c in MIXED.components], 1)
    expected = np.einsum("bk,bkd->bd", np.exp(joint - total[:, None]), means)
    np.testing.assert_allclose(MIXED.denoise(x, sigma), expected, rtol=1e-9, atol=1e-11)
    torch_denoised = MIXED.denoise(torch.tensor(x), sigma).numpy()
    np.testing.assert_allclose(torch_denoised, MIXED.denoise(x, sigma), rtol=1e-11, atol=1e-12)


def test_nested_mixture_is_the_flat_one():
    parts = [Gaussian(0.0, 1.0), Uniform(1.0, 2.0), Gaussian(3.0, 0.1), Uniform(-2.0, -1.0)]
    nested = Mixture([1, 3], [Mixture([1, 1], parts[:2]), Mixture([1, 4], parts[2:])])
    flat = Mixture([0.125, 0.125, 0.15, 0.6], parts)
    x = np.linspace(-40, 40, 9)[:, None]
    for sigma in (0.1, 2.0):
        np.testing.assert_allclose(nested.log_prob(x, sigma), flat.log_prob(x, sigma), rtol=1e-13)
        np.testing.assert_allclose(nested.denoise(x, sigma), flat.denoise(x, sigma), rtol=1e-12)
        both = flat.log_responsibilities(x, sigma)
        halves = np.logaddexp(both[:, ::2], both[:, 1::2])
        np.testing.assert_allclose(nested.log_responsibilities(x, sigma), halves, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.001, 0.3, 40.0])
@pytest.mark.parametrize("backend", [np.asarray, torch.tensor])
def test_together_is_each_alone(backend, sigma):
    """Equal components built apart count as shared; none shared, or weights alone, also hold."""
    cond = Mixture([1, 2], [Uniform([0, 1], [1, 3]), Points([[0.0, 1.0], [2.0, 1.0]], [1, 2])])
    members = (cond, MIXED, Mixture([0.2, 0.8], [cond, MIXED]), Gaussian([4.0, 4.0], 2.0))
    together = Together(members)
    x = backend(near_and_far(MIXED, sigma))
    for name in ("log_prob", "denoise", "score"):
        values = getattr(together, name)(x, sigma)
        for value, member in zip(values, members, strict=True):
            alone = getattr(member, name)(x, sigma)
            np.testing.assert_allclose(value, alone, rtol=1e-9, atol=1e-9)
    assert len(together(x, sigma)) == 4


def test_shared_components_are_held_once():
    cond = [Gaussian(m, SHARED) for m in MEANS[:3]]
    uncond = [Gaussian(m, SHARED) for m in MEANS]
    pair = Together([Mixture(np.ones(3), cond), Mixture(np.ones(7), uncond)])
    stack = pair._mixed.stack
    assert isinstance(stack, GaussianStack)
    assert stack.size == 7
    assert stack.spectra.shape == (1, D)


def test_support_and_contains_are_unions():
    mixture = Mixture([1, 1, 0], [Uniform(1, 2), Uniform(-2, -1), Gaussian(0.0, 1.0)])
    np.testing.assert_array_equal(mixture.support, [[-2.0], [2.0]])
    x = np.array([[-2.0], [-0.5], [0.0], [1.0], [2.0], [2.0 + 1e-12]])
    expected = [True, False, False, True, True, False]
    assert mixture.contains(x).tolist() == expected
    assert mixture.contains(torch.tensor(x)).tolist() == expected
    assert (mixture.log_prob(x, 0.0) > -INF).tolist() == expected
    unbounded = Mixture([1, 1], [Uniform(1, 2), TruncatedGaussian(0.0, 1.0, high=0.0)])
    np.testing.assert_array_equal(unbounded.support, [[-INF], [2.0]])


def test_far_between_classes_the_nearer_wins_in_log_space():
    """U[1,2] against U[-2,-1] at sigma 1e-3: ln odds are about +-2e6, never NaN."""
    mixture = Mixture([0.5, 0.5], [Uniform(1, 2), Uniform(-2, -1)])
    x = np.array([[-1e-6], [0.0], [1e-6], [50.0], [-50.0]])
    for at in (x, torch.tensor(x), torch.tensor(x, dtype=torch.float32)):
        odds = mixture.log_responsibilities(at, 1e-3)
        margin = np.asarray(odds[:, 0] - odds[:, 1], dtype=np.float64)
        # ln(mass of one tail / mass of the other): x/sigma^2 * 2 with the edges at +-1.
        expected = 2 * x[:3, 0] / 1e-6
        np.testing.assert_allclose(margin[:3], expected, rtol=0.1, atol=1e-6)
        assert margin[3] > 1e6
        assert margin[4] < -1e6
        denoised = np.asarray(mixture.denoise(at, 1e-3))[:, 0]
        np.testing.assert_allclose(np.abs(denoised[3:]), 2, atol=1e-6)
        assert np.isfinite(denoised).all()


def test_sample_follows_the_weights():
    """Chi-square over components at 1e-6; the component of weight 0 never appears."""
    places = np.arange(5.0)[:, None]
    weights = np.array([1, 0, 3, 5, 1]) / 10
    mixture = Mixture(weights, [Points(place[None]) for place in places])
    for generator in (np.random.default_rng(2), torch.Generator().manual_seed(2)):
        x = np.asarray(mixture.sample(20_000, generator))[:, 0]
        counts = np.bincount(x.astype(int), minlength=5)
        assert counts[1] == 0
        kept = weights > 0
        assert stats.chisquare(counts[kept], 20_000 * weights[kept]).pvalue > 1e-6
        assert mixture.sample(0, generator).shape == (0, 1)


def test_sample_moments_of_a_mixed_mixture():
    """Mean of 50,000 noisy draws within 5 standard errors: fails by chance with p < 3e-6."""
    x = MIXED.sample(50_000, np.random.default_rng(3), 0.7)
    mean = MIXED.denoise(np.zeros((1, 2)), 1e8)[0]
    assert np.abs((x.mean(axis=0) - mean) / x.std(axis=0)).max() < 5 / np.sqrt(50_000)
    score = MIXED.score(x, 0.7)  # has mean 0 under the law itself
    assert np.abs(score.mean(axis=0) / score.std(axis=0)).max() < 5 / np.sqrt(50_000)


positive = st.floats(0.01, 100.0)


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(positive, min_size=2, max_size=5), sigma=positive, factor=positive)
def test_weights_are_normalised(weights, sigma, factor):
    laws = [Uniform(k, k + 1) if k % 2 else Gaussian(float(k), 0.3) for k in range(len(weights))]
    one, other = Mixture(weights, laws), Mixture(np.array(weights) * factor, laws)
    assert one.weights.sum() == pytest.approx(1, abs=1e-15)
    x = np.linspace(-30, 30, 7)[:, None]
    np.testing.assert_allclose(one.log_prob(x, sigma), other.log_prob(x, sigma), rtol=1e-12)
    shares = np.exp(one.log_responsibilities(x, sigma))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(sigma=st.floats(0.01, 50), x=st.floats(-200, 200), prior=st.floats(0.01, 0.99))
def test_mirrored_classes_swap_under_reflection(sigma, x, prior):
    pairs = [(Uniform(1, 2), Uniform(-2, -1)), (Gaussian(1.0, 1.0), Gaussian(-1.0, 1.0))]
    at = np.array([[x]])
    for plus, minus in pairs:
        one, other = Mixture([prior, 1 - prior], [plus, minus]), Mixture(
            [1 - prior, prior], [plus, minus]
        )  # fmt: skip
        np.testing.assert_allclose(one.denoise(at, sigma), -other.denoise(-at, sigma), rtol=1e-9,
                                   atol=1e-12)  # fmt: skip
        np.testing.assert_allclose(one.log_prob(at, sigma), other.log_prob(-at, sigma), rtol=1e-11)


BAD = {
    "weights: -1 is negative": lambda: Mixture([2, -1], [Uniform(0, 1)] * 2),
    "weights sum to 0": lambda: Mixture([0, 0], [Uniform(0, 1)] * 2),
    "weights of shape": lambda: Mixture([1, 1, 1], [Uniform(0, 1)] * 2),
    "weights is not finite": lambda: Mixture([1, INF], [Uniform(0, 1)] * 2),
    "weights holds NaN": lambda: Mixture([1, float("nan")], [Uniform(0, 1)] * 2),
    "components: give one": lambda: Mixture([], []),
    "components: give one or more components": lambda: Mixture([1], [3.0]),
    r"components have dimensions \[1, 2\]": lambda: Mixture(
        [1, 1], [Uniform(0, 1), Gaussian([0.0, 0.0], 1.0)]
    ),
    r"members have dimensions \[1, 2\]": lambda: Together(
        [Uniform(0, 1), Gaussian([0.0, 0.0], 1.0)]
    ),
    "x of shape": lambda: MIXED.log_responsibilities(np.zeros((1, 3)), 1.0),
    "sigma=0: point masses": lambda: MIXED.log_prob(np.zeros((1, 2)), 0.0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_mixtures_are_one_clear_error(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
