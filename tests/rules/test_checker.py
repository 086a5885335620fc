"""The checker against a slow one on Python sets, its symmetries, and values out of range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from assay.rules import bits, checker, genraven

STEPS = {1: -2, 2: -1, 3: 1, 4: 2}


def single(a, b, c, low, high, number):
    """Relations 0-6 on three values, from their definitions and the exceptions' reasons."""
    held = set()
    if a == b == c and (2 <= a <= 8 if number else a >= 1):
        held.add(0)
    for relation, d in STEPS.items():
        if (b - a, c - b) == (d, d) and (a, b) not in {(1, 2), (2, 4), (3, 2), (6, 4)}:
            held.add(relation)
    if c == a + b and b >= 1 and (a, b) not in {(1, 2), (2, 4)}:
        held.add(5)
    if c == a - b and b >= 1 and (a, b) not in {(3, 2), (6, 4)}:
        held.add(6)
    if number:
        held -= {5} if (a, b) in {(1, 1), (3, 6)} else set()
        held -= {6} if (a, b) == (9, 6) else set()
    return held if all(low <= v <= high for v in (a, b, c)) else set()


def logical(x1, x2, x3, union):
    if not x1 & x2 or not x1 ^ x2 or len(x1 | x2) > union:
        return set()
    return {
        r for r, third in zip((7, 8, 9), (x1 ^ x2, x1 | x2, x1 & x2), strict=True) if x3 == third
    }


FIRST_PAIRS = {
    (a, b)
    for a in range(1, 10)
    for b in range(1, 10)
    if any(single(a, b, c, 1, 9, True) for c in range(1, 10))
}


def row_rules(row):
    """Rules of one row (3, 9, 3) as a set of ids."""
    occupied = [{c for c in range(9) if -1 not in panel[c]} for panel in row]
    if not all(occupied):
        return set()
    rules = set()
    for attribute, (m, union) in enumerate([(7, 6), (10, 8), (10, 8)]):
        sets = [
            {panel[c][attribute] for c in cells}
            for panel, cells in zip(row, occupied, strict=True)
        ]
        if not all(0 <= v < m for s in sets for v in s):
            continue
        if all(len(s) == 1 for s in sets):
            held = single(*(min(s) for s in sets), 0, m - 1, False)
        else:
            held = logical(*sets, union)
        rules |= {10 * attribute + r for r in held}
    numbers = [len(cells) for cells in occupied]
    triple = single(*numbers, 1, 9, True)
    rules |= {30 + r for r in triple}
    if tuple(numbers[:2]) in FIRST_PAIRS and not triple:
        rules |= {30 + r for r in logical(*occupied, 9)}
    return rules


def slow_check(x):
    ok = np.zeros((len(x), 3, 40), bool)
    for i, sample in enumerate(np.asarray(x).tolist()):
        for r, row in enumerate(sample):
            ok[i, r, sorted(row_rules(row))] = True
    return ok


def corrupted(seed, n=1200):
    """Generated samples with cells, panels or rows disturbed, many still obeying some rule."""
    rng = np.random.default_rng(seed)
    x = genraven.generate(n, seed=seed)[0].astype(np.int64)
    cells = rng.random(x.shape) < rng.choice([0, 0.003, 0.03], (n, 1, 1, 1, 1))
    x[cells] = rng.integers(-3, 12, cells.sum())
    shuffled = rng.random(n) < 0.3
    x[shuffled] = rng.permuted(x[shuffled], axis=2)
    gone = rng.random((n, 3, 3)) < 0.02
    x[gone] = -1
    one = rng.random((n, 3, 3)) < 0.1
    x[one] = np.where(x[one] >= 0, rng.integers(0, 7, (one.sum(), 1, 3)), x[one])
    return x


def few_values(seed, n=600):
    """Random panels over few values, so that every relation occurs."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (n, 3, 3, 9, 3))
    same = rng.random((n, 3, 3, 1, 3)) < 0.7
    x = np.where(same, x[..., :1, :], x)
    x[rng.random((n, 3, 3, 9)) < rng.random((n, 3, 3, 1))] = -1
    return x


@pytest.mark.parametrize("seed", range(3))
def test_check_against_sets_on_corrupted_and_random_panels(seed):
    for x in (corrupted(seed), few_values(seed)):
        expected = slow_check(x)
        assert (genraven.check(x) == expected).all()
        assert expected.any(axis=(0, 1)).sum() > 30
        assert 0.05 < expected.any(axis=2).mean() < 0.95


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.int8, (1, 3, 3, 9, 3), elements=st.integers(-2, 10), fill=st.just(3)))
def test_check_against_sets_on_any_values(x):
    assert (genraven.check(x) == slow_check(x)).all()


def test_check_gives_at_most_one_relation_per_attribute():
    ok = genraven.check(few_values(9, 4000))
    for part in np.split(ok, [10, 20, 30, 37], axis=2):
        assert part.sum(axis=2).max() == 1
    assert (ok[..., 30:37].any(2) & ok[..., 37:].any(2)).sum() == 0


def test_verdicts_are_unchanged_by_the_exact_symmetries():
    rng = np.random.default_rng(3)
    x = np.concatenate([corrupted(5), few_values(5), genraven.generate(500)[0]])
    ok = genraven.check(x)
    moved = x.copy()
    for sample in moved:
        for row in sample:
            row[:] = row[:, rng.permutation(9)]
    assert (genraven.check(moved) == ok).all()
    order = rng.permuted(np.tile(np.arange(3), (len(x), 1)), axis=1)
    rows = np.arange(len(x))[:, None]
    assert (genraven.check(x[rows, order]) == ok[rows, order]).all()
    swap = [*range(10), *range(20, 30), *range(10, 20), *range(30, 40)]
    assert (genraven.check(x[..., [0, 2, 1]]) == ok[..., swap]).all()


def test_values_out_of_range_bar_their_attribute_only():
    x, y = genraven.generate(300, rules=[33, 37], seed=1)
    x = x.astype(np.int32)
    for value in (7, 10, 200, 255, 256 + 3, 2**31 - 1, -2, -128, -255, -(2**31)):
        for attribute in range(3):
            if value == 7 and attribute:
                continue
            odd = x.copy()
            cells = odd[:, 2, 1, :, attribute]
            cells[cells >= 0] = value
            ok = genraven.check(odd)
            assert not ok[:, 2, 10 * attribute : 10 * attribute + 10].any()
            assert ok[np.arange(300), :, y].all()  # number and position still count the cells
            assert (ok[:, :2] == genraven.check(x)[:, :2]).all()


def test_a_cell_with_any_minus_one_is_empty():
    x, y = genraven.generate(200, rules=range(30, 40), seed=2)
    full = genraven.check(x)
    for attribute in range(3):
        half = np.where((x == -1).all(-1, keepdims=True), np.int8(99), x)
        half[..., attribute] = x[..., attribute]
        assert (genraven.check(half) == full).all()
    assert full[np.arange(200), :, y].all()


def test_a_row_with_an_empty_panel_obeys_nothing():
    x = genraven.generate(90, seed=4)[0]
    for panel in range(3):
        gone = x.copy()
        gone[:, 1, panel, :, panel] = -1
        ok = genraven.check(gone)
        assert not ok[:, 1].any()
        assert ok[:, [0, 2]].any(axis=2).all()
    assert not genraven.check(np.full((2, 3, 3, 9, 3), -1)).any()


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", ">i2", ">i8", "u1", "u2", "u4", "u8"])
def test_every_integer_type_gives_the_same_verdicts(dtype):
    x = np.abs(genraven.generate(100, rules=[0, 18, 30, 35], seed=3)[0])
    assert (genraven.check(x.astype(dtype)) == genraven.check(x)).all()
    assert not genraven.check(np.full((1, 3, 3, 9, 3), np.iinfo(dtype).max, dtype))[..., :30].any()


def test_every_memory_layout_gives_the_same_verdicts(tmp_path):
    x = genraven.generate(400, seed=6)[0]
    ok = genraven.check(x)
    np.save(tmp_path / "x.npy", x)
    frozen = np.load(tmp_path / "x.npy", mmap_mode="r")
    for same in (frozen, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x[:3].tolist()):
        assert (genraven.check(same) == ok[: len(same)]).all()
    many = np.tile(x, (100, 1, 1, 1, 1))
    assert (genraven.check(many, threads=1) == np.tile(ok, (100, 1, 1))).all()
    assert (genraven.check(many, threads=3) == np.tile(ok, (100, 1, 1))).all()
    assert genraven.check(x[:0]).shape == (0, 3, 40)


def test_only_shape_and_type_are_refused():
    for shape in [(3, 3, 9, 3), (2, 3, 3, 3, 9), (2, 9, 9, 3), (5,), ()]:
        with pytest.raises(ValueError, match=r"\(n, 3, 3, 9, 3\)"):
            genraven.check(np.zeros(shape, np.int8))
    for dtype in (float, bool, object, "m8[s]", "S1"):
        for n in (0, 2):
            with pytest.raises(ValueError, match="integers"):
                genraven.check(np.zeros((n, 3, 3, 9, 3), dtype))
    with pytest.raises(ValueError, match="threads"):
        genraven.check(np.zeros((2, 3, 3, 9, 3), np.int8), threads=0)


def test_masks_get_the_verdicts_of_their_cells():
    x = np.concatenate([corrupted(7), few_values(7)])
    masks = bits.panel_masks(x)
    assert (checker.check_masks(masks) == genraven.check(x)).all()
    assert (checker.check_masks(masks[3, 1].tolist()) == genraven.check(x)[3, 1]).all()
    for wrong in (masks[..., :3], masks[..., :2, :], masks.astype(float)):
        with pytest.raises(ValueError, match="integers"):
            checker.check_masks(wrong)
    with pytest.raises(ValueError, match="widths"):
        checker.check_masks(np.full((3, 4), 512))
