"""Set tokens: exact on sets, blind to everything else, and filled by the stated law."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from assay.rules import settokens


def random_sets(n, seed):
    """Sets that can be filled in, by rejection with plain Python."""
    rng = np.random.default_rng(seed)
    sets = np.zeros((n, 9, 4), np.int16)
    for panel in sets.reshape(-1, 4):
        panel[0] = rng.integers(1, 512)
        number = int(panel[0]).bit_count()
        for a, width in enumerate((7, 10, 10), 1):
            while not 1 <= int(panel[a]).bit_count() <= number:
                panel[a] = rng.integers(1, 1 << width)
    return sets


@given(seed=st.integers(0, 2**32 - 1))
def test_round_trip_is_exact_on_sets(seed):
    sets = random_sets(2, seed)
    x = settokens.decode(sets, np.random.default_rng(seed))
    np.testing.assert_array_equal(settokens.encode(x), sets)
    np.testing.assert_array_equal(settokens.from_bits(settokens.to_bits(sets)), sets)


def test_encode_against_python_sets():
    rng = np.random.default_rng(1)
    x = rng.integers(-1, [7, 10, 10], (5, 3, 3, 9, 3)).astype(np.int8)
    got = settokens.encode(x).reshape(-1, 4)
    for tokens, cells in zip(got, x.reshape(-1, 9, 3), strict=True):
        full = [p for p in range(9) if min(cells[p]) >= 0]
        expected = [set(full)] + [{cells[p, a] for p in full} for a in range(3)]
        assert tokens.tolist() == [sum(1 << int(v) for v in s) for s in expected]


def test_empty_panel_is_four_empty_sets():
    x = np.full((1, 3, 3, 9, 3), -1, np.int8)
    sets = settokens.encode(x)
    assert not sets.any()
    np.testing.assert_array_equal(settokens.decode(sets, np.random.default_rng(0)), x)


def test_allowed_by_enumeration():
    for name, width in (("shape", 7), ("size", 10), ("colour", 10)):
        table = settokens.allowed(name)
        assert table.shape == (10, 1 << width)
        for number, bits in itertools.product(range(10), range(1 << width)):
            assert table[number, bits] == (1 <= bits.bit_count() <= number)
    with pytest.raises(ValueError, match="position"):
        settokens.allowed("position")


def test_fill_law_by_enumeration():
    """One panel, 3 objects, set {1, 4}: 6 fillings, 1/6 each; chi-square at p > 1e-4."""
    sets = np.ones((20_000, 9, 4), np.int16)
    sets[:, 0] = 0b1011, 0b10010, 1, 1
    x = settokens.decode(sets, np.random.default_rng(3))[:, 0, 0, :, 0]
    _, counts = np.unique(x, axis=0, return_counts=True)
    # slots (1, 4, v) with v uniform over two values, in random order: each of 6 words alike
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4
    assert (x[:, 3] >= 0).all()
    assert (x[:, 2] == -1).all()


def test_attributes_are_filled_independently():
    """Two objects with sets {0, 1} twice: the four words are alike, chi-square at p > 1e-4."""
    sets = np.ones((20_000, 9, 4), np.int16)
    sets[:, 4] = 0b11, 0b11, 0b11, 1
    cells = settokens.decode(sets, np.random.default_rng(4))[:, 1, 1, 0, :2]
    counts = np.bincount(cells @ np.array([1, 2]), minlength=4)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_sets_that_cannot_be_filled_are_refused():
    rng = np.random.default_rng(0)
    good = np.ones((1, 9, 4), np.int64)
    for place, value, words in [
        ((0, 0, 1), 0b11, "as many values as the panel has objects"),
        ((0, 2, 3), 0, "as many values as the panel has objects"),
        ((0, 0, 0), 512, "beyond their widths"),
        ((0, 0, 1), 128, "beyond their widths"),
        ((0, 0, 2), -1, "beyond their widths"),
    ]:
        bad = good.copy()
        bad[place] = value
        with pytest.raises(ValueError, match=words):
            settokens.decode(bad, rng)
    with pytest.raises(ValueError, match="shape"):
        settokens.decode(good[0], rng)
    with pytest.raises(ValueError, match="36"):
        settokens.from_bits(np.zeros((2, 35)))


def test_values_outside_every_set_are_refused():
    x = np.zeros((1, 3, 3, 9, 3), np.int8)
    x[0, 0, 0, 0, 0] = 7
    with pytest.raises(ValueError, match="no token"):
        settokens.encode(x)
