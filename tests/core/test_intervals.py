"""Intervals: closed forms, scipy as the peer, exact or simulated coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as peer

from assay.core import stats


@pytest.fixture
def rng():
    return np.random.default_rng(1729)


@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(0.01, 0.999))
def test_wilson_against_scipy(n, share, level):
    k = round(share * n)
    expected = peer.binomtest(k, n).proportion_ci(level, "wilson") if n < 10**6 else None
    low, high = stats.wilson(k, n, level)
    assert 0 <= low <= k / n * (1 + 1e-12)
    assert k / n * (1 - 1e-12) <= high <= 1
    if expected is not None:
        np.testing.assert_allclose((low, high), (expected.low, expected.high), atol=1e-12)
    z2 = peer.norm.isf(0.5 - level / 2) ** 2
    for p in (low, high):  # the score test is exactly on its boundary
        np.testing.assert_allclose(
            (k - n * p) ** 2, z2 * n * p * (1 - p), rtol=1e-6, atol=1e-6 * z2
        )


def test_wilson_ends_are_exact_and_arrays_keep_their_shape():
    low, high = stats.wilson([[0, 10, 5], [0, 10**12, 1]], [[10, 10, 10], [0, 10**12, 10**12]])
    assert low[0, 0] == 0
    assert high[0, 1] == 1
    assert (low[1, 0], high[1, 0]) == (0, 1)
    assert high[1, 1] == 1
    np.testing.assert_allclose(high[0, 0], 1.959963984540054**2 / (10 + 1.959963984540054**2))
    np.testing.assert_allclose(low[0] + high[0][[1, 0, 2]], 1, rtol=1e-14)
    assert low.shape == (2, 3)
    assert all(type(end) is float for end in stats.wilson(3, 7))


def test_wilson_coverage_is_nominal_on_average():
    # Exact, by enumeration: the mean over p in (0, 1) of the binomial coverage.
    for n in (20, 100):
        k = np.arange(n + 1)
        low, high = stats.wilson(k, n)
        p = (np.arange(4000) + 0.5)[:, None] / 4000
        coverage = (peer.binom.pmf(k, n, p) * ((low <= p) & (p <= high))).sum(1)
        assert coverage.mean() == pytest.approx(0.95, abs=0.006)
        # its known dips lie near the ends, at p about 0.18/n (Brown, Cai and DasGupta 2001)
        assert coverage.min() > 0.83


def test_bootstrap_mean_covers_at_its_level(rng):
    # n = 100 normal draws: nominal 0.95 less about 0.006 from the resampled variance (n-1)/n and
    # normal for t quantiles. 2,000 intervals: se 0.005, the window of +-0.025 is 5 se, 6e-7.
    hits = 0
    for _ in range(2000):
        estimate, low, high = stats.bootstrap(rng.normal(size=100), n_resamples=400, rng=rng)
        assert low < estimate < high
        hits += low <= 0 <= high
    assert abs(hits / 2000 - 0.944) < 0.025


def test_bootstrap_fast_mean_against_the_general_route_and_scipy(rng):
    # Ends of 20,000 resamples: sd of a 2.5 % quantile sqrt(0.025*0.975/20000)/pdf = 0.019 se.
    values = rng.exponential(size=200)
    se = values.std() / np.sqrt(200)
    fast = stats.bootstrap(values, "mean", 20_000, rng=rng)
    slow = stats.bootstrap(values, np.mean, 20_000, rng=rng)
    other = peer.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    assert fast[0] == slow[0] == values.mean()
    np.testing.assert_allclose(fast[1:], slow[1:], atol=5 * 0.027 * se)
    np.testing.assert_allclose(fast[1:], (other.low, other.high), atol=5 * 0.027 * se)


def test_bootstrap_of_counts_has_the_binomial_quantiles(rng):
    # Resampling k of n gives Binomial(n, k/n)/n; the drawn quantile's sd is 0.019 se.
    n, k = 10**6, 300_000
    values = np.repeat([0.0, 1.0], [n - k, k])
    estimate, low, high = stats.bootstrap(values, n_resamples=20_000, rng=rng)
    se = np.sqrt(0.3 * 0.7 / n)
    expected = peer.binom(n, 0.3).ppf([0.025, 0.975]) / n
    assert estimate == 0.3
    np.testing.assert_allclose((low, high), expected, atol=5 * 0.019 * se)
    again = stats.bootstrap_counts([0, 1], [n - k, k], 20_000, rng=rng)
    np.testing.assert_allclose((low, high), again[1:], atol=5 * 0.027 * se)


def test_bootstrap_redraws_whole_rows(rng):
    x = rng.normal(size=300)
    pairs = np.stack([x, 2 * x + 1], axis=1)
    estimate, low, high = stats.bootstrap(pairs, n_resamples=300, rng=rng)
    np.testing.assert_allclose(estimate[1], 2 * estimate[0] + 1)
    np.testing.assert_allclose(low[1], 2 * low[0] + 1)
    np.testing.assert_allclose(high[1], 2 * high[0] + 1)
    slope = stats.bootstrap(pairs, lambda row: np.polyfit(*row.T, 1)[0], 20, rng=rng)
    np.testing.assert_allclose(slope, 2)


def test_bootstrap_is_repeatable_and_blockwise(monkeypatch):
    values = np.random.default_rng(0).normal(size=500)
    one = stats.bootstrap(values, rng=np.random.default_rng(5))
    two = stats.bootstrap(values, rng=np.random.default_rng(5))
    assert one == two
    monkeypatch.setattr(stats.intervals, "BLOCK", 600)
    assert stats.bootstrap(values, rng=np.random.default_rng(5)) == pytest.approx(one, rel=1e-12)


def test_mean_se_closed_forms():
    assert stats.mean_se([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1 / np.sqrt(3)))
    mean, se = stats.mean_se(np.array([[1.0, 0], [3, 0]]))
    np.testing.assert_allclose(mean, [2, 0])
    np.testing.assert_allclose(se, [1, 0])
    equal = stats.mean_se([1.0, 2.0, 6.0], [5, 5, 5])
    assert equal == (3.0, pytest.approx(np.sqrt(14) / 3))
    assert stats.mean_se([1.0, 9.0, 3.0], [1, 0, 1])[0] == 2.0


def test_mean_se_of_importance_weights_is_honest(rng):
    # N(0,1) reweighted to N(0.5,1). The standardised error over 1,000 draws has sd near 1; the
    # sd of 1,000 draws has se 0.022, the window 0.15 leaves room for the O(1/n) ratio bias.
    x = rng.normal(size=(1000, 400))
    scores = []
    for row in x:
        mean, se = stats.mean_se(row, np.exp(0.5 * row))
        scores.append((mean - 0.5) / se)
    assert np.std(scores) == pytest.approx(1, abs=0.15)


def test_effective_sample_size_closed_forms():
    assert stats.effective_sample_size(np.full(9, 5000.0)) == 9.0
    assert stats.effective_sample_size([0, -np.inf, -np.inf]) == 1.0
    assert stats.effective_sample_size([-np.inf, -np.inf]) == 0.0
    assert stats.effective_sample_size(np.log([1, 2, 3])) == pytest.approx(36 / 14)


def test_jackknife_closed_forms(rng):
    x = rng.normal(size=50)
    mean, se = stats.jackknife(x, np.mean)
    assert mean == pytest.approx(x.mean())
    assert se == pytest.approx(stats.mean_se(x)[1])
    variance, _ = stats.jackknife(x, np.var)  # removes the bias of divisor n exactly
    assert variance == pytest.approx(np.var(x, ddof=1))


def test_spearman_against_scipy_and_coverage(rng):
    x, y = rng.integers(0, 8, size=(2, 60)).astype(float)  # with ties
    assert stats.spearman(x, y)[0] == pytest.approx(peer.spearmanr(x, y).statistic)
    assert stats.spearman(x, x**3) == (1.0, 1.0, 1.0)
    # Normal pairs of correlation r have population value (6/pi) asin(r/2). 2,000 intervals:
    # se 0.005, window 5 se (6e-7).
    truth = 6 / np.pi * np.arcsin(0.3)
    hits = 0
    for _ in range(2000):
        a, b = rng.normal(size=(2, 80))
        _, low, high = stats.spearman(a, 0.6 * a + 0.8 * b)
        hits += low <= truth <= high
    assert abs(hits / 2000 - 0.95) < 0.025


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: stats.wilson(3, 2), "k must"),
        (lambda: stats.wilson(-1, 2), "k must"),
        (lambda: stats.wilson(1, 2, level=1.0), "level"),
        (lambda: stats.wilson(np.nan, 2), "k holds"),
        (lambda: stats.bootstrap([1.0], rng=RNG), "values"),
        (lambda: stats.bootstrap([1.0, 2.0], "median", rng=RNG), "statistic"),
        (lambda: stats.bootstrap([1.0, 2.0], n_resamples=0, rng=RNG), "n_resamples"),
        (lambda: stats.bootstrap([1.0, 2.0], level=95, rng=RNG), "level"),
        (lambda: stats.bootstrap_counts([0, 1], [0.5, 1], rng=RNG), "counts"),
        (lambda: stats.bootstrap_counts([0, 1], [0, 0], rng=RNG), "counts"),
        (lambda: stats.bootstrap_counts([0, 1], [-1, 3], rng=RNG), "counts"),
        (lambda: stats.mean_se([1.0]), "values"),
        (lambda: stats.mean_se([1.0, 2.0], [0, 0]), "weights"),
        (lambda: stats.effective_sample_size([0, np.nan]), "log_weights"),
        (lambda: stats.effective_sample_size([0, np.inf]), "log_weights"),
        (lambda: stats.jackknife([1.0], np.mean), "values"),
        (lambda: stats.spearman([1, 2, 3], [1, 2, 3]), "x needs"),
        (lambda: stats.spearman([1, 2, 3, 4], [1, 2, 3, 4, 5]), "one length"),
        (lambda: stats.spearman([1, 2, 3, 4], [1, 1, 1, 1]), "constant"),
    ],
)
def test_intervals_refuse_bad_input_by_name(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()
