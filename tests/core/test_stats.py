"""Distances and nearest-neighbour measures against closed forms, peers and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from scipy import stats as peer
from sklearn.neighbors import NearestNeighbors

from assay.core import stats

finite = st.floats(-1e3, 1e3, allow_nan=False)
weight = st.floats(0.01, 10)
weighted_sample = st.lists(st.tuples(finite, weight), min_size=1, max_size=12)


@pytest.fixture
def rng():
    return np.random.default_rng(20240907)


@given(weighted_sample, weighted_sample)
def test_w1_against_scipy(x, y):
    (x, x_weights), (y, y_weights) = np.array(x).T, np.array(y).T
    expected = peer.wasserstein_distance(x, y, x_weights, y_weights)
    found = stats.w1(x, y, x_weights, y_weights)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_w1_is_the_optimal_transport_cost(rng):
    x, y = rng.normal(size=6), rng.normal(size=9) + 1
    a, b = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(9))
    cost = np.abs(x[:, None] - y)
    rows = np.kron(np.eye(6), np.ones(9))
    columns = np.kron(np.ones(6), np.eye(9))
    plan = optimize.linprog(
        cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b])
    )
    assert stats.w1(x, y, a, b) == pytest.approx(plan.fun, abs=1e-12)


def test_w1_of_a_shift_and_of_repeated_entries(rng):
    x, y = rng.normal(size=1001), rng.normal(size=77)
    assert stats.w1(x, x + 3.5) == pytest.approx(3.5, rel=1e-14)
    assert stats.w1(np.repeat(x, 3), y) == pytest.approx(stats.w1(x, y), rel=1e-12)
    assert stats.w1(x, y, x_weights=np.full(1001, 7.0)) == pytest.approx(stats.w1(x, y), rel=1e-12)
    assert stats.w1([0.0, 1.0], [0.0, 1.0], [1, 0], [0, 1]) == 1.0


def test_w1_to_quantile_of_one_point_is_the_mean_absolute_deviation():
    normal = special.ndtri
    for point in (0.0, 1.5, -9.0):
        expected = 2 * peer.norm.pdf(point) + point * (2 * special.ndtr(point) - 1)
        assert stats.w1_to_quantile([point], normal) == pytest.approx(expected, rel=1e-8)
    exponential = peer.expon.ppf  # E|X - 1| = 2/e
    assert stats.w1_to_quantile([1.0], exponential) == pytest.approx(2 / np.e, rel=1e-8)


def test_w1_to_quantile_against_the_integral_of_the_cdf_difference(rng):
    x, weights = np.sort(rng.normal(0.3, 1.2, size=40)), rng.uniform(0.1, 1, size=40)
    grid = np.linspace(-12, 12, 2_400_001)
    steps = np.concatenate([[0], np.cumsum(weights) / weights.sum()])
    empirical = steps[np.searchsorted(x, grid, side="right")]
    expected = np.trapezoid(np.abs(empirical - special.ndtr(grid)), grid)
    found = stats.w1_to_quantile(x, special.ndtri, weights)
    assert found == pytest.approx(expected, abs=2e-6)


def test_w1_to_quantile_sees_atoms_and_jumps(rng):
    def two_atoms(q):
        return np.where(q < 0.3, -1.0, 2.0)

    x = rng.normal(size=50)
    expected = stats.w1(x, [-1.0, 2.0], y_weights=[0.3, 0.7])
    assert stats.w1_to_quantile(x, two_atoms) == pytest.approx(expected, abs=1e-8)
    assert stats.w1_to_quantile([-1.0, 2.0], two_atoms, [0.3, 0.7]) == pytest.approx(0, abs=1e-12)
    assert stats.w1_to_quantile([2.0], lambda q: np.full_like(q, 2.0)) == 0.0


def test_w1_to_quantile_of_a_sample_at_its_own_quantiles_shrinks_as_one_over_n():
    # On U(0, 1) the midpoints (i - 1/2)/n lie at distance exactly 1/(4n).
    for n in (1, 10, 1000):
        x = (np.arange(n) + 0.5) / n
        assert stats.w1_to_quantile(x, lambda q: q) == pytest.approx(1 / (4 * n), rel=1e-6)


def test_w1_to_quantile_takes_weights_of_zero():
    found = stats.w1_to_quantile([-50.0, 0.0, 50.0], special.ndtri, [0, 1, 0])
    assert found == pytest.approx(np.sqrt(2 / np.pi), rel=1e-8)


def test_sliced_w1_of_a_shift_is_the_mean_projection(rng):
    # For a shift v the slice costs |theta . v|; on the sphere E|theta_1| = G(d/2)/(sqrt(pi)
    # G((d+1)/2)). 20,000 directions: se of the mean < 0.002, so 5 se is 2e-7 of error.
    x = rng.normal(size=(10, 3))
    found = stats.sliced_w1(x, x + [0.0, 2.0, 0.0], 20_000, rng=rng)
    assert found == pytest.approx(2 * 0.5, abs=5 * 2 * 0.29 / np.sqrt(20_000))
    line = rng.normal(size=(31, 1))
    assert stats.sliced_w1(line, x[:, :1], 3, rng=rng) == pytest.approx(
        stats.w1(line, x[:, :1]), rel=1e-12
    )


def _mmd_brute(x, y, bandwidth):
    def kernel(a, b):
        return np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * bandwidth**2))

    n, m = len(x), len(y)
    off = (kernel(x, x).sum() - n) / (n * (n - 1)) + (kernel(y, y).sum() - m) / (m * (m - 1))
    return off - 2 * kernel(x, y).mean()


def test_mmd_against_all_pairs_in_blocks(rng, monkeypatch):
    x, y = 100 + rng.normal(size=(70, 4)), 100 + rng.normal(size=(50, 4))
    expected = _mmd_brute(x, y, 1.3)
    assert stats.mmd(x, y, 1.3) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(stats.intervals, "BLOCK", 300)
    assert stats.mmd(x, y, 1.3) == pytest.approx(expected, rel=1e-9)
    pooled = np.concatenate([x, y])
    pairs = np.sqrt(((pooled[:, None] - pooled) ** 2).sum(-1))[np.triu_indices(120, 1)]
    assert stats.median_distance(pooled) == pytest.approx(np.median(pairs), rel=1e-12)
    expected = _mmd_brute(x, y, np.median(pairs))
    assert stats.mmd(x, y) == pytest.approx(expected, rel=1e-9)


def test_mmd_averages_to_its_population_value(rng):
    # N(0, 1) against N(mu, 1), kernel width s: 2 s/sqrt(s^2+2) (1 - exp(-mu^2/(2 (s^2+2)))).
    # Means over 400 draws must lie within 5 of their own se: error probability 6e-7 each.
    for mu in (0.0, 1.0):
        draws = [
            stats.mmd(rng.normal(size=(20, 1)), mu + rng.normal(size=(30, 1)), 1.5)
            for _ in range(400)
        ]
        variance = 1.5**2 + 2
        expected = 2 * 1.5 / np.sqrt(variance) * (1 - np.exp(-(mu**2) / (2 * variance)))
        assert abs(np.mean(draws) - expected) < 5 * np.std(draws) / np.sqrt(400)


def _prdc_brute(real, fake, k):
    def distance(a, b):
        return np.sqrt(((a[:, None] - b) ** 2).sum(-1))

    real_radius = np.sort(distance(real, real), axis=1)[:, k]
    fake_radius = np.sort(distance(fake, fake), axis=1)[:, k]
    across = distance(real, fake)
    inside = across < real_radius[:, None]
    return {
        "precision": inside.any(0).mean(),
        "recall": (across < fake_radius).any(1).mean(),
        "density": inside.sum() / (k * len(fake)),
        "coverage": inside.any(1).mean(),
    }


@pytest.mark.parametrize("dim", [2, 12])
def test_prdc_against_all_pairs_in_blocks(rng, monkeypatch, dim):
    real, fake = rng.normal(size=(60, dim)), 0.3 + rng.normal(size=(45, dim))
    monkeypatch.setattr(stats.intervals, "BLOCK", 200)
    for k in (1, 5):
        assert stats.prdc(real, fake, k) == pytest.approx(_prdc_brute(real, fake, k), rel=1e-12)


def test_prdc_of_equal_laws_has_its_expected_density_and_coverage(rng):
    # Exchangeability: E density = 1 and E coverage = 1 - prod_i (n - i)/(n + m - i), any law.
    # Means of 500 draws within 5 of their own se: error probability 6e-7 each.
    n, m, k = 30, 20, 3
    draws = [stats.prdc(rng.normal(size=(n, 2)), rng.normal(size=(m, 2)), k) for _ in range(500)]
    i = np.arange(1, k + 1)
    expected = {"density": 1.0, "coverage": 1 - np.prod((n - i) / (n + m - i))}
    for name, value in expected.items():
        found = [draw[name] for draw in draws]
        assert abs(np.mean(found) - value) < 5 * np.std(found) / np.sqrt(500)


def test_prdc_of_far_samples_is_zero_and_of_itself_full(rng):
    real = rng.normal(size=(40, 10))
    assert set(stats.prdc(real, real + 1e3).values()) == {0.0}
    same = stats.prdc(real, real.copy(), 5)
    assert (same["precision"], same["recall"], same["coverage"]) == (1.0, 1.0, 1.0)
    assert same["density"] == 1.0  # each ball holds its centre and k - 1 neighbours


@pytest.mark.parametrize("dim", [3, 20])
def test_knn_distance_against_sklearn(rng, monkeypatch, dim):
    x, reference = rng.normal(size=(50, dim)), rng.normal(size=(80, dim))
    peer_model = NearestNeighbors(algorithm="brute").fit(reference)
    monkeypatch.setattr(stats.intervals, "BLOCK", 500)
    for k in (1, 4):
        expected = peer_model.kneighbors(x, k)[0][:, -1]
        np.testing.assert_allclose(stats.knn_distance(x, reference, k), expected, rtol=1e-7)
        own = peer_model.kneighbors(n_neighbors=k)[0][:, -1]
        np.testing.assert_allclose(stats.knn_distance(reference, None, k), own, rtol=1e-7)


@pytest.mark.parametrize("dim", [3, 20])
def test_knn_distance_of_a_copy_is_exactly_zero(rng, dim):
    reference = 1e6 + rng.normal(size=(30, dim))
    assert (stats.knn_distance(reference[::2], reference) == 0).all()
    doubled = np.concatenate([reference, reference])
    assert (stats.knn_distance(doubled) == 0).all()
    assert (stats.knn_distance(reference) > 0).all()


def test_knn_support_of_the_same_law_is_its_nominal_share(rng):
    # Mean share over 200 draws within 5 of its own se; the quantile's own bias is O(1/n).
    reference = rng.normal(size=(300, 2))
    shares = [
        stats.knn_support(rng.normal(size=(100, 2)), reference, rng.normal(size=(2000, 2)), 2, 0.9)
        for _ in range(200)
    ]
    assert abs(np.mean(shares) - 0.1) < 5 * np.std(shares) / np.sqrt(200) + 1 / 2000
    assert stats.knn_support(reference + 100, reference) == 1.0
    assert stats.knn_support(reference, reference, k=1) == 0.0


def test_vendi_counts_distinct_samples(rng):
    assert stats.vendi(np.tile([1.0, 2.0], (5, 1))) == pytest.approx(1.0, abs=1e-12)
    assert stats.vendi(3 * np.eye(7)) == pytest.approx(7.0, rel=1e-12)
    shares = np.array([1, 2, 5])
    groups = np.repeat(np.eye(3), shares, axis=0)
    expected = np.exp(peer.entropy(shares / 8))
    for kernel in ("cosine", "rbf"):
        found = stats.vendi(100 * groups, kernel, bandwidth=1.0)
        assert found == pytest.approx(expected, rel=1e-12)
    assert stats.vendi(groups @ groups.T, "given") == pytest.approx(expected, rel=1e-12)
    assert stats.vendi(np.ones((1, 3)), "rbf") == pytest.approx(1.0)


def test_vendi_against_the_entropy_of_the_similarity_matrix(rng):
    for shape in ((30, 4), (4, 30)):
        x = rng.normal(size=shape)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        eigenvalues = np.clip(np.linalg.eigvalsh(unit @ unit.T / len(x)), 1e-300, None)
        expected = np.exp(-(eigenvalues * np.log(eigenvalues)).sum())
        assert stats.vendi(x) == pytest.approx(expected, rel=1e-10)
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 8)
    assert stats.vendi(x, "rbf", 2.0) == pytest.approx(stats.vendi(kernel, "given"), rel=1e-10)


def test_stats_take_tensors_of_any_type(rng):
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(25, 3))
    tensors = torch.tensor(x, requires_grad=True), torch.tensor(y)
    assert stats.mmd(*tensors) == stats.mmd(x, y)
    assert stats.prdc(*tensors) == stats.prdc(x, y)
    half = torch.tensor([0.5, 1.5], dtype=torch.bfloat16)
    assert stats.w1(half, [1.0]) == 0.5
    assert stats.mean_se(half) == (1.0, 0.5)
    assert stats.effective_sample_size(torch.zeros(4)) == 4.0


X = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: stats.w1([], [1.0]), "x"),
        (lambda: stats.w1([1.0], [np.nan]), "y"),
        (lambda: stats.w1(X, [1.0]), "x"),
        (lambda: stats.w1([1.0, 2.0], [1.0], [1.0, -1.0]), "x_weights"),
        (lambda: stats.w1([1.0, 2.0], [1.0], [1.0]), "x_weights"),
        (lambda: stats.w1_to_quantile([1.0], lambda q: q * np.nan), "quantile_fn"),
        (lambda: stats.w1_to_quantile([1.0], lambda q: q[:1]), "quantile_fn"),
        (lambda: stats.sliced_w1(X, X, 0, rng=np.random.default_rng(0)), "n_projections"),
        (lambda: stats.sliced_w1(X, X[:, :1], rng=np.random.default_rng(0)), "y"),
        (lambda: stats.mmd(X, X[:1]), "two rows"),
        (lambda: stats.mmd(X, X, 0.0), "bandwidth"),
        (lambda: stats.mmd(X, X, "mean"), "bandwidth"),
        (lambda: stats.mmd(X * 0, X * 0), "bandwidth"),
        (lambda: stats.prdc(X, X, 6), "k must"),
        (lambda: stats.prdc(X, X[:, :1]), "fake"),
        (lambda: stats.knn_distance(X, X, 7), "k must"),
        (lambda: stats.knn_distance(X, None, 6), "k must"),
        (lambda: stats.knn_support(X, X, quantile=1.0), "quantile"),
        (lambda: stats.vendi(X * 0), "rbf"),
        (lambda: stats.vendi(X, "given"), "unit diagonal"),
        (lambda: stats.vendi(X, "poly"), "kernel"),
    ],
)
def test_stats_refuse_bad_input_by_name(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()
