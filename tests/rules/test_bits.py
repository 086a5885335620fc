"""Panels as masks and back, and the words beneath: against plain sets and counting."""

import itertools
import os
import subprocess
import sys
from collections import Counter
from math import factorial, prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.rules import bits, streams, words

RNG_SEED = 20411


def plain_masks(panel):
    """Masks of one panel (9, 3) by sets."""
    cells = [c for c in range(9) if -1 not in panel[c]]
    masks = [sum(1 << c for c in cells)]
    for attribute, width in enumerate((7, 10, 10)):
        values = {int(panel[c][attribute]) for c in cells}
        fine = all(0 <= v < width for v in values)
        masks.append(sum(1 << v for v in values) if fine else 0)
    return masks


def random_masks(rng, n):
    """Masks (n, 4) of occupied panels, sets no larger than the panel's number."""
    position = rng.integers(1, 512, n)
    masks = [position]
    for width in (7, 10, 10):
        size = rng.integers(1, np.minimum(np.bitwise_count(position), width) + 1)
        ranks = rng.random((n, width)).argsort(1).argsort(1)
        masks.append(((ranks < size[:, None]) << np.arange(width)).sum(1))
    return np.stack(masks, axis=1)


def test_masks_of_random_panels_against_sets():
    rng = np.random.default_rng(RNG_SEED)
    panels = rng.integers(-1, 7, (400, 9, 3))
    panels[200:] = np.where(rng.random((200, 9, 3)) < 0.1, rng.integers(-9, 14, (200, 9, 3)), 3)
    expected = [plain_masks(panel) for panel in panels.tolist()]
    masks = bits.panel_masks(panels)
    assert masks.dtype == np.int16
    assert masks.tolist() == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=27, max_size=27))
def test_masks_of_any_int64_values(values):
    panel = np.array(values, np.int64).reshape(9, 3)
    assert bits.panel_masks(panel).tolist() == plain_masks(panel.tolist())


def test_masks_keep_leading_axes_and_accept_every_integer_layout():
    rng = np.random.default_rng(RNG_SEED)
    panels = rng.integers(-1, 10, (2, 5, 9, 3)).astype(np.int8)
    expected = bits.panel_masks(panels)
    assert expected.shape == (2, 5, 4)
    frozen = panels.copy()
    frozen.flags.writeable = False
    wide = np.repeat(panels, 2, axis=0)[::2]
    for same in (panels.astype(">i4"), panels.astype(np.int64), frozen, wide, panels.tolist()):
        assert (bits.panel_masks(same) == expected).all()
    assert (
        bits.panel_masks(np.abs(panels).astype(np.uint64)) == bits.panel_masks(abs(panels))
    ).all()


def test_masks_where_values_are_out_of_range():
    panel = np.full((9, 3), -1)
    panel[0], panel[4] = (6, 9, 9), (7, 2, 3)
    assert bits.panel_masks(panel).tolist() == [17, 0, 1 << 9 | 4, 1 << 9 | 8]
    panel[4] = (7, -1, 99)
    assert bits.panel_masks(panel).tolist() == [1, 1 << 6, 1 << 9, 1 << 9]
    panel[0] = (-2, 10, 4)
    assert bits.panel_masks(panel).tolist() == [1, 0, 0, 16]
    assert bits.panel_masks(np.full((9, 3), 255, np.uint8)).tolist() == [511, 0, 0, 0]
    assert bits.panel_masks(np.full((9, 3), 2**64 - 1, np.uint64)).tolist() == [511, 0, 0, 0]
    assert bits.panel_masks(np.full((9, 3), 257, np.int16)).tolist() == [511, 0, 0, 0]


def test_masks_need_integers_of_the_shape():
    with pytest.raises(ValueError, match=r"\(9, 3\)"):
        bits.panel_masks(np.zeros((3, 9), np.int8))
    for wrong in (np.zeros((9, 3)), np.zeros((9, 3), bool), np.full((9, 3), None)):
        with pytest.raises(ValueError, match="integers"):
            bits.panel_masks(wrong)


def test_fill_returns_the_sets_it_was_given():
    masks = random_masks(np.random.default_rng(RNG_SEED), 20_000)
    masks[::50] = 0
    panels = bits.fill_panels(masks, seed=5)
    assert panels.dtype == np.int8
    assert (bits.panel_masks(panels) == masks).all()
    empty = panels.min(axis=2) < 0
    assert (empty == (panels == -1).all(axis=2)).all()
    part = bits.fill_panels(masks[100:130].reshape(2, 5, 3, 4), seed=5, first=100)
    assert (part.reshape(30, 9, 3) == panels[100:130]).all()
    assert (bits.fill_panels(masks, seed=6) != panels).any()


@pytest.mark.parametrize(("n", "size"), [(2, 2), (4, 2), (5, 4), (6, 3)])
def test_fill_follows_its_law(n, size):
    """Frequencies of every arrangement by counting; fails by chance with probability 1e-6."""
    values = (0, 2, 3, 6)[:size]
    extras = n - size
    law = {}
    for cells in itertools.product(values, repeat=n):
        times = Counter(cells)
        if len(times) == size:
            ways = factorial(extras) / prod(factorial(m - 1) for m in times.values())
            orders = factorial(n) / prod(factorial(m) for m in times.values())
            law[cells] = ways / size**extras / orders
    assert sum(law.values()) == pytest.approx(1)
    draws = 60_000
    mask = bits.mask_of(values)
    panels = bits.fill_panels(np.full((draws, 4), ((1 << n) - 1, mask, 1, mask)), seed=n)
    for attribute in (0, 2):
        seen = Counter(map(tuple, panels[:, :n, attribute].tolist()))
        counts = np.array([seen[cells] for cells in law])
        expected = draws * np.array(list(law.values()))
        assert counts.sum() == draws
        assert expected.min() > 5
        assert stats.chisquare(counts, expected).pvalue > 1e-6
    pairs = Counter(zip(*panels[:, 0, ::2].T.tolist(), strict=True))
    assert (
        stats.chi2_contingency([[pairs[a, b] for b in values] for a in values]).pvalue > 1e-6
    )  # attributes are filled independently


def test_fill_refuses_masks_that_no_panel_has():
    with pytest.raises(ValueError, match="as many values"):
        bits.fill_panels(np.array([1, 3, 1, 1]), 0)
    with pytest.raises(ValueError, match="as many values"):
        bits.fill_panels(np.array([1, 0, 1, 1]), 0)
    with pytest.raises(ValueError, match="as many values"):
        bits.fill_panels(np.array([0, 1, 0, 0]), 0)
    with pytest.raises(ValueError, match="widths"):
        bits.fill_panels(np.array([1, 1 << 7, 1, 1]), 0)
    with pytest.raises(ValueError, match="widths"):
        bits.fill_panels(np.array([1, 1, -1, 1]), 0)
    with pytest.raises(ValueError, match="integers"):
        bits.fill_panels(np.ones((2, 3), np.int16), 0)


def test_mask_of_and_values_of_are_inverse():
    for mask in range(1024):
        assert bits.mask_of(bits.values_of(mask)) == mask
        assert len(bits.values_of(mask)) == mask.bit_count()


def test_select_finds_each_set_bit():
    rng = np.random.default_rng(RNG_SEED)
    for bound, select in ((1 << 16, words.select), (1 << 62, words.select_long)):
        for word in [1, bound - 1, bound >> 1, *rng.integers(1, bound, 50).tolist()]:
            places = [b for b in range(63) if word >> b & 1]
            assert [select(word, k) for k in range(len(places))] == places


def test_jit_compiles_where_nothing_can_be_cached():
    scope = {}
    exec("def add(a, b):\n    return a + b", scope)
    assert words.jit(scope["add"])(2, 3) == 5


def test_kept_machine_code_follows_changes_in_other_files(tmp_path):
    """A caller is compiled anew when the function it calls, in another file, has changed."""
    room = tmp_path / "assay" / "rules"
    room.mkdir(parents=True)
    for folder in (room, room.parent):
        folder.joinpath("__init__.py").touch()
    room.joinpath("words.py").write_bytes(Path(words.__file__).read_bytes())
    head = "from assay.rules.words import jit\n"
    room.joinpath("outer.py").write_text(
        head + "from assay.rules.inner import f\n@jit\ndef g(x):\n    return f(x)\n"
    )
    code = "from assay.rules.outer import g; print(g(1), sum(g.stats.cache_hits.values()))"
    seen = []
    for number in (5, 5, 7):
        inner = head + f"@jit\ndef f(x):\n    return x + {number}\n"
        if not seen or number == 7:
            room.joinpath("inner.py").write_text(inner)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        environment.pop("NUMBA_CACHE_DIR", None)
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout.split())
    assert seen == [["6", "0"], ["6", "1"], ["8", "0"]]


def test_stream_words_against_splitmix_in_integers():
    def mix(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    golden = 0x9E3779B97F4A7C15
    # The first outputs of SplitMix64 from seed 1234567, as published with it.
    assert int(streams.key(1234567)) == 6457827717110365317
    assert mix(1234567 + 2 * golden & 2**64 - 1) == 3203168211198807973
    for seed, index in [(0, 0), (7, 10**8), (2**64 - 1, 3)]:
        key = streams.key(seed)
        counter = int(key) + 2 * index * golden
        state, step = streams.start(key, index)
        assert state == mix((counter + golden) % 2**64)
        assert step == mix((counter + 2 * golden) % 2**64) | 1
        assert streams.mix(np.uint64(state)) == mix(int(state))


def test_stream_keys_need_a_seed_of_64_bits():
    for seed in (-1, 2**64, 1.5, "a", None):
        with pytest.raises(ValueError, match="seed"):
            streams.key(seed)
    assert len({int(streams.key(seed)) for seed in range(1000)}) == 1000


def test_first_words_of_neighbouring_streams_are_uniform_and_independent():
    """Pairs of bytes of streams i, i + 1; fails by chance with probability 1e-6."""
    key = streams.key(0)
    first = []
    for index in range(40_001):
        state, step = streams.start(key, index)
        first.append(int(streams.mix(np.uint64((int(state) + int(step)) % 2**64))) >> 60)
    table = np.bincount(np.array(first[1:]) * 16 + np.array(first[:-1]), minlength=256)
    assert stats.chisquare(table).pvalue > 1e-6
