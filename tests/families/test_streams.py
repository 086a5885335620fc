"""Streams: a sample's draws depend on seed and sample alone; uniform, normal, unrelated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.families.streams import Streams


@settings(deadline=None)
@given(seed=st.integers(0, 2**70), first=st.integers(0, 1000), n=st.integers(1, 20))
def test_draws_of_a_sample_do_not_depend_on_its_batch(seed, first, n):
    whole = Streams(seed).rand(first + n, 3, 2)
    later = Streams(seed).at(first).rand(n, 3, 2)
    torch.testing.assert_close(later, whole[first:], rtol=0, atol=0)
    lines = np.random.default_rng(n).integers(0, first + n, 5)
    taken = Streams(seed).take(lines).rand(5, 3, 2)
    torch.testing.assert_close(taken, whole[lines], rtol=0, atol=0)


def test_words_come_in_turn():
    once, twice = Streams(3), Streams(3)
    parts = np.concatenate([twice.words(4, 2), twice.words(4, 5)], 1)
    np.testing.assert_array_equal(parts, once.words(4, 7))


def test_words_against_plain_integers():
    """The formula of the module, in Python's integers."""
    golden, top = 0x9E3779B97F4A7C15, 1 << 64

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % top
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % top
        return z ^ (z >> 31)

    key = mix((5 + 1) * golden % top)
    for i, line in enumerate(Streams(5).words(3, 4).tolist()):
        counter = key + 2 * i * golden
        start, step = mix((counter + golden) % top), mix((counter + 2 * golden) % top) | 1
        assert line == [mix((start + (k + 1) * step) % top) for k in range(4)]


def test_uniform_and_normal_by_kolmogorov_smirnov():
    """40,000 numbers across samples and along them; each at p > 1e-4."""
    for u in (Streams(1).rand(40_000, 1), Streams(2).rand(4, 10_000)):
        assert stats.kstest(u.numpy().ravel(), "uniform").pvalue > 1e-4
    for z in (Streams(1).randn(40_000, 1), Streams(2).randn(4, 10_000)):
        assert stats.kstest(z.numpy().ravel(), "norm").pvalue > 1e-4


def test_streams_and_children_are_unrelated():
    """Correlations of 20,000 pairs of neighbours lie within 5 standard errors."""
    z = Streams(7).randn(20_001, 2).numpy()
    other = Streams(7).child(1).randn(20_001, 2).numpy()
    pairs = ((z[1:, 0], z[:-1, 0]), (z[:, 0], z[:, 1]), (z[:, 0], other[:, 0]))
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(20_000)
    seeds = {Streams(7).child(*key).seed for key in ((0,), (1,), (0, 0), (0, 1), (1, 0), ())}
    assert len(seeds) == 6


def test_generator_belongs_to_the_seed_and_the_place():
    def first(streams):
        return torch.rand(3, generator=streams.generator()).tolist()

    assert first(Streams(1)) == first(Streams(1))
    assert first(Streams(1)) != first(Streams(2))
    assert first(Streams(1)) != first(Streams(1).at(1))


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="seed"):
        Streams(-1)
