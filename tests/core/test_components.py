"""Components against autograd, quadrature, 40-digit arithmetic and the heat equation."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from assay.core import pool
from assay.core.components import Gaussian, Points, Product, TruncatedGaussian, Uniform
from assay.core.mixture import Mixture

INF = float("inf")
COV = np.array([[1.0, 0.6], [0.6, 0.5]])
ONE_D = {
    "gaussian": Gaussian(0.5, 0.3),
    "uniform": Uniform(1.0, 2.0),
    "truncated": TruncatedGaussian(0.2, 0.7, -0.5, 1.0),
    "half": TruncatedGaussian(-3.0, 1.0, low=0.0),
}
TWO_D = {
    "gaussian": Gaussian([1.0, -2.0], COV),
    "axis": Gaussian([1.0, -2.0], [0.3, 4.0]),
    "singular": Gaussian([1.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]),
    "uniform": Uniform([0.0, 1.0], [1.0, 3.0]),
    "truncated": TruncatedGaussian([0.0, 1.0], [1.0, 0.2], [-INF, 0.5], [0.3, INF]),
    "uncut": TruncatedGaussian([0.5, 1.0], [1.0, 0.2]),
    "points": Points([[0.0, 1.0], [2.0, 1.0], [-1.0, 0.5]], [1.0, 2.0, 3.0]),
    "product": Product([Uniform(0.0, 1.0), Gaussian(0.0, 2.0)]),
    "nested": Product([Mixture([1, 2], [Uniform(0, 1), Gaussian(0, 1)]), Points([[1.0], [2.0]])]),
}
BOUNDED = ("uniform", "points")
SIGMAS = (0.02, 0.7, 30.0)


def near_and_far(component, sigma, n=6, seed=0):
    """Noisy samples, and as many moved 50 sigma off."""
    rng = np.random.default_rng(seed)
    x = component.sample(2 * n, rng, sigma)
    away = rng.standard_normal((n, component.dim))
    x[n:] += 50 * sigma * away / np.linalg.norm(away, axis=1, keepdims=True)
    return x


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("name", TWO_D)
def test_score_is_the_gradient_of_log_prob_and_tweedie_holds(name, sigma):
    component = TWO_D[name]
    x = torch.tensor(near_and_far(component, sigma), requires_grad=True)
    (gradient,) = torch.autograd.grad(component.log_prob(x, sigma).sum(), x)
    score = component.score(x.detach(), sigma)
    size = score.abs().max()
    assert torch.isfinite(gradient).all()
    assert (gradient - score).abs().max() < 1e-11 * size
    tweedie = (component.denoise(x.detach(), sigma) - x.detach()) / sigma**2
    assert (tweedie - score).abs().max() < 1e-11 * max(size, 1.0)


@pytest.mark.parametrize("name", TWO_D)
def test_log_prob_solves_the_heat_equation(name):
    """d p / d sigma = sigma * Laplacian of p: a route that never sees the formula for sigma."""
    component = TWO_D[name]
    sigma = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.3, 1.2]], dtype=torch.float64, requires_grad=True)
    log_prob = component.log_prob(x, sigma).sum()
    in_x, in_sigma = torch.autograd.grad(log_prob, (x, sigma), create_graph=True)
    second = [torch.autograd.grad(in_x[0, i], x, retain_graph=True)[0][0, i] for i in range(2)]
    heat = sigma * (sum(second) + (in_x**2).sum())
    assert abs(in_sigma - heat).item() < 1e-10


@pytest.mark.parametrize("x", [-2.0, 0.4, 1.1, 5.0])
@pytest.mark.parametrize("sigma", [0.3, 2.0])
@pytest.mark.parametrize("name", ONE_D)
def test_one_dimension_agrees_with_quadrature(name, sigma, x):
    component = ONE_D[name]
    low, high = (float(edge[0]) for edge in component.support)
    low, high = max(low, -30.0), min(high, 30.0)

    def weight(z):
        return np.exp(component.log_prob(np.array([[z]]), 0.0)[0]) * stats.norm.pdf(x, z, sigma)

    options = {"points": [min(max(x, low), high)], "epsabs": 0, "epsrel": 1e-11, "limit": 200}
    mass = integrate.quad(weight, low, high, **options)[0]
    mean = integrate.quad(lambda z: (z - x) * weight(z), low, high, **options)[0] / mass + x
    at = np.array([[x]])
    assert component.log_prob(at, sigma)[0] == pytest.approx(np.log(mass), abs=1e-9)
    assert component.denoise(at, sigma)[0, 0] == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "uniform", "product"])
def test_two_dimensions_agree_with_quadrature(name):
    component, sigma, x = TWO_D[name], 0.5, np.array([0.2, 0.9])
    low, high = component.support
    low, high = np.maximum(low, -9.0), np.minimum(high, 9.0)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    axes = [(low[i] + high[i]) / 2 + (high[i] - low[i]) / 2 * nodes for i in range(2)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    volume = np.outer(weights, weights).ravel() * np.prod((high - low) / 2)
    joint = component.log_prob(grid, 0.0) + stats.norm.logpdf(x, grid, sigma).sum(axis=1)
    mass = volume @ np.exp(joint)
    mean = (volume * np.exp(joint)) @ grid / mass
    assert component.log_prob(x[None], sigma)[0] == pytest.approx(np.log(mass), abs=1e-9)
    np.testing.assert_allclose(component.denoise(x[None], sigma)[0], mean, atol=1e-9)


def mp_truncated(x, sigma, mean, sd, low, high):
    """Log density and high - E[x0 | x] in 60 digits; sd None is the uniform law."""
    x, sigma, low, high = (mp.mpf(v) for v in (x, sigma, low, high))

    def mass(centre, scale):
        a, b = (low - centre) / scale / mp.sqrt(2), (high - centre) / scale / mp.sqrt(2)
        return (mp.erfc(a) - mp.erfc(b) if a > 0 else mp.erfc(-b) - mp.erfc(-a)) / 2

    if sd is None:
        centre, scale = x, sigma
        log_prob = mp.log(mass(centre, scale) / (high - low))
    else:
        mean, sd = mp.mpf(mean), mp.mpf(sd)
        total = sd**2 + sigma**2
        centre, scale = (mean * sigma**2 + x * sd**2) / total, sd * sigma / mp.sqrt(total)
        log_prob = mp.log(mp.npdf(x, mean, mp.sqrt(total)) * mass(centre, scale) / mass(mean, sd))
    edges = mp.npdf(low, centre, scale) - mp.npdf(high, centre, scale)
    return log_prob, high - (centre + scale**2 * edges / mass(centre, scale))


@pytest.mark.parametrize("far", [-50, -3, 0, 3, 50, 200])
@pytest.mark.parametrize("sigma", [0.01, 1.0])
@pytest.mark.parametrize("cut", [(None, None, 1.0, 2.0), (0.2, 0.7, -0.5, 0.0)])
def test_far_off_the_support_agrees_with_sixty_digits(cut, sigma, far):
    mean, sd, low, high = cut
    box = Uniform(low, high) if sd is None else TruncatedGaussian(mean, sd, low, high)
    x = high + far * sigma
    with mp.workdps(60):
        log_prob, gap = mp_truncated(x, sigma, mean, sd, low, high)
        log_prob, gap = float(log_prob), float(gap)
    at = np.array([[x]])
    assert box.log_prob(at, sigma)[0] == pytest.approx(log_prob, rel=1e-12, abs=1e-12)
    denoised = box.denoise(at, sigma)[0, 0]
    assert low <= denoised <= high
    assert denoised == pytest.approx(high - gap, rel=4e-15)
    if high == 0:  # then the denoised value is itself the distance to the edge
        assert -denoised == pytest.approx(gap, rel=2e-14, abs=0)


@pytest.mark.parametrize("sigma", [1.0, 0.02, 0.002])
def test_points_agree_with_forty_digits(sigma):
    """1,000 numbers apart by up to 16: expanding squares plainly would lose 1e-8 at 0.002."""
    rng = np.random.default_rng(1)
    held = rng.random((40, 24)) * 16
    x = held[:4] + sigma * rng.standard_normal((4, 24))
    x[2] = (held[2] + held[3]) / 2
    x[3] += 50 * sigma
    with mp.workdps(40):
        rows = [[mp.fsum((mp.mpf(a) - b) ** 2 for a, b in zip(r, p, strict=True)) for p in held]
                for r in x]  # fmt: skip
        terms = [mp.fsum(mp.exp(-q / (2 * mp.mpf(sigma) ** 2)) for q in row) for row in rows]
        exact = [mp.log(t / 40) - 12 * mp.log(2 * mp.pi * mp.mpf(sigma) ** 2) for t in terms]
        exact = np.array([float(value) for value in exact])
    np.testing.assert_allclose(Points(held).log_prob(x, sigma), exact, rtol=3e-14, atol=3e-12)


def test_points_denoise_to_the_nearest_exactly():
    held = np.random.default_rng(2).random((30, 5))
    x = held + 1e-3
    np.testing.assert_array_equal(Points(held).denoise(x, 1e-3 / 8), held)


@pytest.mark.parametrize("name", TWO_D)
def test_float32_is_finite_and_near_float64(name):
    component = TWO_D[name]
    for sigma in (0.1, 3.0):
        x = near_and_far(component, sigma).astype(np.float32)
        exact = component.denoise(x.astype(np.float64), sigma)
        for narrow in (x, torch.tensor(x)):
            for method in ("log_prob", "score", "denoise"):
                assert getattr(component, method)(narrow, sigma).dtype == narrow.dtype
            np.testing.assert_allclose(component.denoise(narrow, sigma), exact, 2e-4, 2e-4)
            log_prob = np.asarray(component.log_prob(narrow, sigma))
            np.testing.assert_allclose(log_prob, component.log_prob(x * 1.0, sigma), 2e-4, 2e-3)


@pytest.mark.parametrize("name", TWO_D)
def test_numpy_and_torch_agree(name):
    component = TWO_D[name]
    for sigma in SIGMAS:
        x = near_and_far(component, sigma)
        for method in ("log_prob", "score", "denoise"):
            one = getattr(component, method)(x, sigma)
            other = getattr(component, method)(torch.tensor(x), sigma)
            assert isinstance(one, np.ndarray)
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", TWO_D)
def test_sigma_may_differ_from_row_to_row(name):
    component = TWO_D[name]
    x, sigma = near_and_far(component, 0.7, n=2), np.array([0.02, 0.5, 1.0, 30.0])
    for method in ("log_prob", "score", "denoise"):
        call = getattr(component, method)
        single = [call(x[i : i + 1], float(s))[0] for i, s in enumerate(sigma)]
        for rows, levels in ((x, sigma), (torch.tensor(x), torch.tensor(sigma))):
            np.testing.assert_allclose(call(rows, levels), single, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TWO_D)
def test_chunks_change_nothing(name, monkeypatch):
    component, x = TWO_D[name], near_and_far(TWO_D[name], 0.7)
    whole = component.denoise(x, 0.7), component.log_prob(x, np.full(len(x), 0.7))
    monkeypatch.setattr(pool, "CELLS", 1)
    np.testing.assert_allclose(component.denoise(x, 0.7), whole[0], rtol=1e-13)
    np.testing.assert_allclose(component.log_prob(x, np.full(len(x), 0.7)), whole[1], rtol=1e-13)
    assert component.denoise(x[:0], 0.7).shape == (0, 2)


@pytest.mark.parametrize("name", TWO_D)
def test_denoised_and_samples_lie_in_the_support(name):
    component = TWO_D[name]
    low, high = component.support
    for rng in (np.random.default_rng(3), torch.Generator().manual_seed(3)):
        x = component.sample(200, rng)
        assert np.asarray(component.contains(x)).all()
        for sigma in SIGMAS:
            noisy = component.sample(200, rng, sigma)
            denoised = np.asarray(component.denoise(noisy * 10, sigma))
            assert ((denoised >= low) & (denoised <= high)).all()


@pytest.mark.parametrize("name", TWO_D)
def test_sample_mean_and_spread_at_noise(name):
    """Mean and covariance of 40,000 draws against E and Cov; fails by chance with p < 1e-5."""
    component, n, sigma = TWO_D[name], 40_000, 0.5
    far = np.full((1, 2), 0.1)
    mean = component.denoise(far, 1e7)[0]
    for rng in (np.random.default_rng(4), torch.Generator().manual_seed(4)):
        x = np.asarray(component.sample(n, rng, sigma))
        assert x.dtype == np.float64
        z = (x.mean(axis=0) - mean) / x.std(axis=0) * np.sqrt(n)
        assert np.abs(z).max() < 5
        # At large sigma dE[x0|x]/dx is Cov(x0)/sigma^2.
        big = 1e4
        turns = [component.denoise(far + step, big) - component.denoise(far - step, big)
                 for step in np.eye(2) * big / 100]  # fmt: skip
        cov = np.concatenate(turns) * big * 50 + sigma**2 * np.eye(2)
        kurtosis = stats.kurtosis(x, axis=0).max() + 3
        assert np.abs(np.cov(x.T) - cov).max() < 5 * np.diag(cov).max() * np.sqrt(kurtosis / n)


@pytest.mark.parametrize("cut", [(-1, 1), (-0.3, INF), (6, 6.5), (40, INF), (-90, -60), (-INF, 3)])
def test_truncated_sample_inverts_its_distribution(cut):
    """The distribution function, from the inner edge, gives the uniform draws back."""
    low, high = cut
    uniform = np.random.default_rng(5).random(20_000)
    draw = TruncatedGaussian(0.0, 1.0, low, high).sample(20_000, np.random.default_rng(5))[:, 0]
    sign = 1.0 if low + high >= 0 else -1.0
    a, b = (low, high) if sign > 0 else (-high, -low)
    top, end = stats.norm.logsf(a), stats.norm.logsf(b)
    cdf = np.expm1(stats.norm.logsf(sign * draw) - top) / np.expm1(end - top)
    np.testing.assert_allclose(cdf, uniform, atol=1e-11)


def test_data_density_is_normalised_and_zero_outside():
    for name in ("uniform", "truncated"):
        component = ONE_D[name]
        low, high = component.support
        mass = integrate.quad(
            lambda z, c=component: np.exp(c.log_prob(np.array([[z]]), 0.0)[0]), low[0], high[0]
        )[0]
        assert mass == pytest.approx(1.0, abs=1e-12)
        outside = np.array([[low[0] - 1e-9], [high[0] + 1e-9]])
        assert (component.log_prob(outside, 0.0) == -INF).all()
        assert component.contains(np.array([low, high])).all()
        assert not component.contains(outside).any()
    gaussian = TWO_D["gaussian"]
    x = near_and_far(gaussian, 0.5)
    expected = stats.multivariate_normal(gaussian.mean, gaussian.cov).logpdf(x)
    np.testing.assert_allclose(gaussian.log_prob(x, np.zeros(len(x))), expected, rtol=1e-12)


def test_no_density_of_points_at_sigma_zero():
    for name in ("points", "singular", "nested"):
        with pytest.raises(ValueError, match="sigma"):
            TWO_D[name].log_prob(np.zeros((1, 2)), 0.0)


def test_noise_adds_to_a_gaussian_covariance():
    """In 64 dimensions, against scipy, and singular against the sum that is not."""
    rng = np.random.default_rng(6)
    half = rng.standard_normal((64, 20))
    gaussian = Gaussian(rng.standard_normal(64), half @ half.T)
    x = gaussian.sample(5, rng, 0.3)
    reference = stats.multivariate_normal(gaussian.mean, gaussian.cov + 0.09 * np.eye(64))
    np.testing.assert_allclose(gaussian.log_prob(x, 0.3), reference.logpdf(x), rtol=1e-10)
    gain = gaussian.cov @ np.linalg.inv(gaussian.cov + 0.09 * np.eye(64))
    expected = gaussian.mean + (x - gaussian.mean) @ gain.T
    np.testing.assert_allclose(gaussian.denoise(x, 0.3), expected, rtol=1e-9, atol=1e-10)
    assert gaussian.contains(gaussian.sample(5, rng)).all()
    assert not gaussian.contains(x).any()


@pytest.mark.parametrize("sigma", [0.05, 2.0])
def test_product_is_concatenation(sigma):
    parts = [TWO_D["gaussian"], ONE_D["uniform"], TWO_D["points"], TWO_D["nested"]]
    product = Product(parts)
    blocks = [near_and_far(part, sigma, seed=i) for i, part in enumerate(parts)]
    x = np.concatenate(blocks, axis=1)
    for method in ("denoise", "score"):
        split = [getattr(p, method)(b, sigma) for p, b in zip(parts, blocks, strict=True)]
        together = getattr(product, method)(x, sigma)
        np.testing.assert_allclose(together, np.concatenate(split, 1), rtol=1e-12)
    total = sum(p.log_prob(b, sigma) for p, b in zip(parts, blocks, strict=True))
    np.testing.assert_allclose(product.log_prob(x, sigma), total, rtol=1e-12)
    assert product.dim == 7
    np.testing.assert_array_equal(product.support[0][2:3], [1.0])
    inside = product.sample(3, np.random.default_rng(0))
    assert product.contains(inside).all()
    inside[0, 2] = 2.1
    assert product.contains(inside).tolist() == [False, True, True]


def test_products_of_one_kind_equal_that_kind():
    """Block covariance, and boxes beside truncated Gaussians."""
    x = np.random.default_rng(7).standard_normal((5, 4))
    cov = np.zeros((4, 4))
    cov[:2, :2], cov[2:, 2:] = COV, np.diag([0.3, 4.0])
    whole = Gaussian([1, -2, 1, -2], cov)
    product = Product([TWO_D["gaussian"], TWO_D["axis"]])
    np.testing.assert_allclose(product.log_prob(x, 0.4), whole.log_prob(x, 0.4), rtol=1e-12)
    np.testing.assert_allclose(product.denoise(x, 0.4), whole.denoise(x, 0.4), rtol=1e-12)
    boxes = Product([ONE_D["uniform"], ONE_D["truncated"]])
    split = [
        ONE_D[n].denoise(x[:, i : i + 1], 0.4) for i, n in enumerate(("uniform", "truncated"))
    ]
    np.testing.assert_allclose(boxes.denoise(x[:, :2], 0.4), np.concatenate(split, 1), rtol=1e-13)


scale = st.floats(0.01, 100.0)
place = st.floats(-5.0, 5.0)


@settings(max_examples=60, deadline=None)
@given(a=scale, flip=st.booleans(), shift=place, x=place, sigma=st.floats(0.01, 10.0))
def test_components_move_with_scaling_reflection_and_shift(a, flip, shift, x, sigma):
    """x0 -> s x0 + shift, sigma -> |s| sigma carries E[x0|x] along and adds -ln |s| to ln p."""
    s = -a if flip else a
    cut = np.sort(s * np.array([-0.5, 1.0]) + shift)
    held = np.array([[0.0], [1.5]])
    pairs = [
        (Gaussian(0.5, 0.3), Gaussian(0.5 * s + shift, 0.3 * s * s)),
        (Uniform(-0.5, 1.0), Uniform(*cut)),
        (
            TruncatedGaussian(0.2, 0.7, -0.5, 1.0),
            TruncatedGaussian(0.2 * s + shift, 0.7 * a, *cut),
        ),
        (Points(held, [1, 3]), Points(held * s + shift, [1, 3])),
    ]
    at, moved = np.array([[x]]), np.array([[s * x + shift]])
    room = 1e-9 * (1 + abs(shift) / a)  # the shift's own rounding, in units of the law
    for law, image in pairs:
        first = law.denoise(at, sigma)
        second = (image.denoise(moved, a * sigma) - shift) / s
        assert abs(first - second).max() < room * (1 + x * x / sigma**2)
        drop = law.log_prob(at, sigma) - image.log_prob(moved, a * sigma) - np.log(a)
        assert abs(drop).max() < room * (1 + (abs(x) + 2) ** 2 / sigma**2)


BAD = {
    "mean is not finite": lambda: Gaussian([0.0, INF], 1.0),
    "cov is not finite": lambda: Gaussian(0.0, INF),
    "cov holds NaN": lambda: Gaussian(0.0, float("nan")),
    "cov has a variance -1": lambda: Gaussian(0.0, -1.0),
    "cov has a variance -0.5": lambda: Gaussian([0.0, 0.0], [1.0, -0.5]),
    "on every axis": lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]),
    "not symmetric": lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]),
    "cov of shape": lambda: Gaussian([0.0, 0.0], np.eye(3)),
    "cov has 3 variances": lambda: Gaussian([0.0, 0.0], [1.0, 1.0, 1.0]),
    "mean of shape": lambda: Gaussian([[0.0]], 1.0),
    "mean: give real numbers": lambda: Gaussian("zero", 1.0),
    "need low < high": lambda: Uniform(1.0, 1.0),
    "low=.*high=.*need": lambda: TruncatedGaussian(0.0, 1.0, 2.0, 1.0),
    "high is not finite": lambda: Uniform(0.0, INF),
    "lengths differ": lambda: Uniform([0.0, 0.0], [1.0, 1.0, 1.0]),
    "float64 cannot express": lambda: Uniform(-1e308, 1e308),
    "low, high: float64": lambda: TruncatedGaussian(0.0, 1e-200, 1.0, 2.0),
    "sd=.*must be > 0": lambda: TruncatedGaussian(0.0, 0.0),
    "sd=.*-1": lambda: TruncatedGaussian(0.0, -1.0),
    "low holds NaN": lambda: TruncatedGaussian(0.0, 1.0, float("nan"), 1.0),
    "points of shape": lambda: Points([1.0, 2.0]),
    r"points of shape \(0, 2\)": lambda: Points(np.zeros((0, 2))),
    "points is not finite": lambda: Points([[INF]]),
    "weights of shape": lambda: Points([[1.0]], [1.0, 2.0]),
    "weights: -1 is negative": lambda: Points([[1.0], [2.0]], [1.0, -1.0]),
    "weights sum to 0": lambda: Points([[1.0], [2.0]], [0.0, 0.0]),
    "parts: give one": lambda: Product([]),
    "x of shape": lambda: Uniform(0, 1).denoise(np.zeros((3, 2)), 1.0),
    r"x of shape \(3,\)": lambda: Uniform(0, 1).denoise(np.zeros(3), 1.0),
    "x holds int64": lambda: Uniform(0, 1).denoise(np.zeros((3, 1), dtype=np.int64), 1.0),
    "sigma=0.0: give": lambda: Uniform(0, 1).denoise(np.zeros((3, 1)), 0.0),
    "sigma=-1.0": lambda: Uniform(0, 1).log_prob(np.zeros((3, 1)), -1),
    "sigma=inf": lambda: Uniform(0, 1).score(np.zeros((3, 1)), INF),
    "sigma=nan": lambda: Uniform(0, 1).score(np.zeros((3, 1)), float("nan")),
    "sigma of shape": lambda: Uniform(0, 1).denoise(np.zeros((3, 1)), np.ones(2)),
    "sigma: give finite": lambda: Uniform(0, 1).log_prob(np.zeros((2, 1)), np.array([0.0, 1.0])),
    "n=-1": lambda: Uniform(0, 1).sample(-1, np.random.default_rng(0)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_parameters_are_one_clear_error(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()


def test_parameters_are_frozen_float64():
    given_mean = np.array([1, 2])
    gaussian = Gaussian(given_mean, 2)
    np.testing.assert_array_equal(gaussian.cov, 2 * np.eye(2))
    assert gaussian.mean.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        gaussian.mean[0] = 3.0
    with pytest.raises(AttributeError):
        gaussian.mean = np.zeros(2)  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(Points([[0.0], [1.0]], [1, 3]).weights, [0.25, 0.75])
