"""Confidence sequences: coverage at every moment, batches against single draws, closed forms."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.core import anytime
from assay.core.anytime import MeanSequence, Watch, confidence_sequence

RUNS = 2000


def draws(name, mean, size, rng):
    """Draws in [0, 1] of this mean: rare events, smooth scores, or dependent on their past."""
    if name == "bernoulli":
        return (rng.random(size) < mean).astype(float)
    if name == "beta":
        return rng.beta(4 * mean, 4 * (1 - mean), size)
    x = np.empty(size)  # the spread follows the last draw, the mean given the past stays
    last = np.full(size[1:], mean)
    for t in range(size[0]):
        width = min(mean, 1 - mean) * np.abs(last)
        last = x[t] = mean + width * np.where(rng.random(size[1:]) < 0.5, 1.0, -1.0)
    return x


@pytest.mark.parametrize(("name", "mean"), [
    ("bernoulli", 0.01), ("bernoulli", 0.5), ("beta", 0.9), ("dependent", 0.3),
])  # fmt: skip
def test_limit_at_the_mean_is_crossed_with_probability_alpha_at_most(name, mean):
    # alpha = 0.2, 2,000 streams of 400: a test at 0.2 exactly fails with probability 1e-4
    x = draws(name, mean, (400, RUNS), np.random.default_rng(7))
    sequence = MeanSequence(means=[mean], shape=(RUNS,))
    crossed = (sequence.evidence(x)[..., 0] >= math.log(5)).any(0).sum(0)
    most = stats.binom.ppf(1 - 1e-4, RUNS, 0.2)
    assert (crossed <= most).all(), crossed / RUNS
    if mean == 0.5:  # and the bound is not idle: more than a tenth of it is used
        assert (crossed > 0.02 * RUNS).all()


@pytest.mark.parametrize(("name", "mean"), [("bernoulli", 0.1), ("beta", 0.8)])
def test_interval_holds_the_mean_at_every_moment(name, mean):
    x = draws(name, mean, (200, 300), np.random.default_rng(3))
    grid = np.sort([*np.linspace(0.05, 0.95, 7), mean - 1e-6, mean + 1e-6])
    lower, upper = confidence_sequence(x, 0.1, means=grid)
    missed = ((lower > mean) | (upper < mean)).any(0).sum()
    assert missed <= stats.binom.ppf(1 - 1e-4, 300, 0.1)
    assert (upper[-1] - lower[-1]).mean() < 0.4


def test_capital_after_three_draws_is_the_product_of_the_bets():
    x, m = np.array([0.2, 1.0, 0.0]), 0.3
    above, below = MeanSequence(means=[m]).evidence(x)[-1, :, 0]
    prior = np.exp(anytime.LOG_PRIOR)
    assert prior.sum() == pytest.approx(1, abs=1e-14)
    bets = [np.prod([1 + t * (v - m) / m for v in x]) for t in anytime.THETAS]
    np.testing.assert_allclose(math.exp(above), prior @ bets, rtol=1e-12)
    bets = [np.prod([1 + t * (m - v) / (1 - m) for v in x]) for t in anytime.THETAS]
    np.testing.assert_allclose(math.exp(below), prior @ bets, rtol=1e-12)


@pytest.mark.parametrize("m", [0.25, 0.5, 0.9])
def test_expected_capital_at_the_mean_is_one(m):
    # every path of 6 Bernoulli(m) draws, weighted by its probability: exact, no sampling
    paths = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    chance = np.where(paths == 1, m, 1 - m).prod(1)
    capital = np.exp(MeanSequence(means=[m], shape=(64,)).evidence(paths.T)[..., 0])
    np.testing.assert_allclose(np.einsum("tps,p->ts", capital, chance), 1, rtol=1e-12)
    watch = np.exp(Watch(m, "above", shape=(64,)).update(paths.T))
    begun = [1 - 1 / math.log2(t + 2) for t in range(1, 7)]
    np.testing.assert_allclose(watch @ chance, begun, rtol=1e-12)


bounded = st.lists(st.floats(-2, 5), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(bounded, st.integers(0, 40))
def test_batches_equal_single_draws_and_resume_exactly(x, cut):
    means = [-1.5, 0.0, 1.25, 4.9]
    whole = MeanSequence(0.05, -2, 5, means=means).update(x)
    single = MeanSequence(0.05, -2, 5, means=means)
    for value in x:
        single.update(value)
    halves = MeanSequence(0.05, -2, 5, means=means).update(x[:cut])
    halves = MeanSequence.restore(json.loads(json.dumps(halves.state()))).update(x[cut:])
    assert whole.state() == single.state() == halves.state()
    watch = Watch(0.5, "below", -2, 5)
    watch.update(x[:cut])
    again = Watch.restore(json.loads(json.dumps(watch.state())))
    again.update(x[cut:])
    at_once = Watch(0.5, "below", -2, 5)
    at_once.update(x)
    assert again.state() == at_once.state()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_evidence_is_monotone_in_the_mean_and_mirrors(x):
    grid = np.linspace(0.05, 0.95, 19)
    above, below = MeanSequence(means=grid).update(x).log_evidence()
    assert (np.diff(above) <= 1e-9).all()
    assert (np.diff(below) >= -1e-9).all()
    mirrored = MeanSequence(means=grid).update([1 - v for v in x]).log_evidence()
    np.testing.assert_allclose(mirrored[0], below[::-1], atol=1e-8)
    lower, upper = confidence_sequence(np.array(x), means=grid)
    assert (np.diff(lower) >= 0).all()
    assert (np.diff(upper) <= 0).all()


def test_range_only_rescales():
    x = np.random.default_rng(0).random(200)
    lower, upper = MeanSequence(0.05).update(x).interval()
    scaled = MeanSequence(0.05, -3, 7).update(10 * x - 3).interval()
    np.testing.assert_allclose(scaled, (10 * lower - 3, 10 * upper - 3), atol=1e-12)
    assert lower < x.mean() < upper


def test_streams_side_by_side_equal_each_alone():
    x = np.random.default_rng(1).random((50, 3))
    both = MeanSequence(0.1, shape=(3,)).update(x)
    for i in range(3):
        alone = MeanSequence(0.1).update(x[:, i]).interval()
        assert alone == tuple(end[i] for end in both.interval())
    both.keep(np.array([False, True, False]))
    assert both.interval()[0][0] == MeanSequence(0.1).update(x[:, 1]).interval()[0]


def test_rare_events_need_a_few_times_ln_over_limit():
    # no event at all: K grows by at most 1/(1 - limit) a draw, so ln(20)/0.01 = 300 is the least
    path = MeanSequence(means=[0.01]).evidence(np.zeros(1000))[:, 1, 0]
    first = int(np.argmax(path >= math.log(20))) + 1
    assert 298 <= first <= 450


def test_watch_finds_a_change_and_keeps_quiet_before_it():
    rng = np.random.default_rng(5)
    quiet = draws("bernoulli", 0.1, (1000, 400), rng)
    watch = Watch(0.1, "above", shape=(400,))
    alarms = (watch.update(quiet) >= math.log(10)).any(0).sum()
    assert alarms <= stats.binom.ppf(1 - 1e-4, 400, 0.1)
    path = watch.update(draws("bernoulli", 0.4, (200, 400), rng))
    assert (path[-1] >= math.log(10)).all()


@pytest.mark.parametrize(("make", "words"), [
    (lambda: MeanSequence(0), "alpha 0 must lie strictly between 0 and 1"),
    (lambda: MeanSequence((0.1, 1.5)), "alpha"),
    (lambda: MeanSequence(low=1, high=1), "low below high"),
    (lambda: MeanSequence(means=[0.0, 0.5]), "must increase, strictly between"),
    (lambda: MeanSequence(means=[0.5, 0.4]), "must increase"),
    (lambda: MeanSequence().update(1.1), "outside its range 0 to 1"),
    (lambda: MeanSequence().update([0.5, math.nan]), "NaN"),
    (lambda: MeanSequence(shape=(2,)).update([[1, 1, 1]]), "shape"),
    (lambda: MeanSequence.restore({"alpha": [0.1, 0.1]}), "no state of a MeanSequence"),
    (lambda: Watch(0.5, "up"), "side must be"),
    (lambda: Watch(1.0, "above"), "strictly between"),
    (lambda: Watch.restore({}), "no state of a Watch"),
])  # fmt: skip
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_refused_draws_leave_the_sequence_as_it_was():
    sequence = MeanSequence().update([0.25, 0.5])
    before = sequence.state()
    with pytest.raises(ValueError, match="outside"):
        sequence.update([0.5, 2.0])
    assert sequence.state() == before
