"""Completion: counts against enumeration, the lines at 1, 0.07 and 0.024, any mask."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.core import intervals
from assay.rules import bits, checker, completion, genraven, rowsolve, shares
from assay.rules.completion import THIRD_PANEL
from assay.rules.relations import TABLES

WAYS = np.zeros(rowsolve.WAYS_SHAPE, np.int64)
TABLE_SIZES = {
    0: [6, 2, 4, 4, 2, 19, 19, 12012, 12012, 12012],
    1: [9, 5, 7, 7, 5, 43, 43, 738780, 738780, 738780],
    2: [9, 5, 7, 7, 5, 43, 43, 738780, 738780, 738780],
    3: [7, 4, 6, 6, 4, 32, 33],
    4: [None] * 7 + [168372, 184092, 171126],
}


def count(unit, relation, known):
    return rowsolve.count(unit, relation, known, TABLES, WAYS)


def rows_by_enumeration(unit, known):
    """bool (rows, 40) and the rows (m, 3) of all sets in the unknown places, by the checker."""
    width = (7, 10, 10, 9, 9)[unit]
    choices = [range(1, 1 << width) if k < 0 else [k] for k in known]
    rows = np.array(list(itertools.product(*choices)))
    masks = np.zeros((len(rows), 3, 4), np.int64)
    masks[..., 0] = 511
    masks[..., 1:] = [3, 5, 5]  # the same sets in all panels obey no rule
    masks[..., 0 if unit > 2 else unit + 1] = rows
    return checker.check_masks(masks), rows


def rule_id(unit, relation):
    return 10 * unit + relation if unit < 3 else 30 + relation


@pytest.mark.parametrize("unit", range(5))
def test_free_rows_are_as_many_as_the_tables_have(unit):
    for relation, size in enumerate(TABLE_SIZES[unit]):
        if size is not None:
            assert count(unit, relation, (-1, -1, -1)) == size


@pytest.mark.parametrize("unit", [0, 4])
@pytest.mark.parametrize("unknown", [(2,), (0,), (1,), (0, 1), (1, 2), (0, 2)])
def test_counts_and_draws_against_enumeration(unit, unknown):
    """Each index gives another row, and together they are exactly the rows the checker admits."""
    rng = np.random.default_rng(unit)
    x, _ = genraven.generate(4, [7, 8, 9] if unit == 0 else [37, 38, 39], seed=len(unknown))
    column = bits.panel_masks(x)[:, 0, :, 0 if unit == 4 else 1]
    for row in [*column[: 4 if unit == 0 else 1].tolist(), rng.integers(1, 100, 3).tolist()]:
        known = tuple(-1 if q in unknown else int(row[q]) for q in range(3))
        verdicts, rows = rows_by_enumeration(unit, known)
        for relation in (7, 8, 9):
            expected = set(map(tuple, rows[verdicts[:, rule_id(unit, relation)]].tolist()))
            n = count(unit, relation, known)
            assert n == len(expected)
            picks = range(n) if n < 3000 else rng.choice(n, 3000, replace=False).tolist()
            got = {rowsolve.complete(unit, relation, known, TABLES, WAYS, k) for k in picks}
            assert len(got) == len(picks)
            assert got <= expected


@pytest.mark.parametrize("unit", [0, 1, 3])
def test_single_valued_completions_against_enumeration(unit):
    for relation, a in itertools.product(range(7), range(1, 7)):
        mask = a if unit == 3 else 1 << a
        for place in range(3):
            known = tuple(mask if q == place else -1 for q in range(3))
            n = count(unit, relation, known)
            values = range(1, 10) if unit == 3 else range((7, 10)[unit])
            triples = itertools.product(*([a] if q == place else values for q in range(3)))
            masks = np.ones((len(values) ** 2, 3, 4), np.int64)
            masks[..., 0] = 511
            for i, triple in enumerate(triples):
                if unit == 3:
                    masks[i, :, 0] = [(1 << v) - 1 for v in triple]
                else:
                    masks[i, :, unit + 1] = [1 << v for v in triple]
            assert n == checker.check_masks(masks)[:, rule_id(unit, relation)].sum()
            got = {rowsolve.complete(unit, relation, known, TABLES, WAYS, k) for k in range(n)}
            assert len(got) == n


@pytest.fixture(scope="module")
def samples():
    x, y = genraven.generate(4000, seed=11)
    assert set(y.tolist()) == set(range(40))
    return x, y


@pytest.mark.parametrize("place", range(9))
def test_solver_is_always_right_on_any_single_panel(samples, place):
    x, y = samples
    mask = np.arange(9).reshape(3, 3) == place
    filled, rule = completion.complete(x, mask, np.random.default_rng(place))
    np.testing.assert_array_equal(filled[:, ~mask], x[:, ~mask])
    np.testing.assert_array_equal(rule, y)  # two full rows leave one rule only
    assert genraven.check(filled)[np.arange(len(y)), :, y].all()
    assert (filled[:, mask] != x[:, mask]).any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_solver_is_always_right_on_random_masks(samples, seed):
    rng = np.random.default_rng(seed)
    x = samples[0][:400]
    mask = rng.random((400, 3, 3)) < rng.random((400, 1, 1))
    before = x.copy()
    filled, rule = completion.complete(x, mask, rng)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(filled[~mask], x[~mask])
    assert genraven.check(filled)[np.arange(400), :, rule].all()
    assert (filled.min((3, 4)) >= -1).all()


def test_deduction_is_exactly_what_enumeration_leaves(samples):
    """Third panels of shape: a rule is open if and only if some set in each row satisfies it."""
    x = samples[0][:60]
    mask = np.zeros((3, 3), bool)
    mask[:, 2] = True
    got = completion.deduce(x, mask, range(10))
    masks = bits.panel_masks(x)[..., 1]
    for i in range(len(x)):
        rows = [
            rows_by_enumeration(0, (int(masks[i, r, 0]), int(masks[i, r, 1]), -1))[0].any(0)
            for r in range(3)
        ]
        np.testing.assert_array_equal(got[i, :10], np.logical_and.reduce(rows)[:10])
    assert not got[:, 10:].any()


def test_solver_is_blind_to_unknown_panels_and_repeats(samples):
    x = samples[0][:50]
    hidden = x.copy()
    hidden[:, 2, 2] = -1
    one, two = (completion.complete(v, THIRD_PANEL, np.random.default_rng(1)) for v in (x, hidden))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_solver_without_a_possible_rule_says_so(samples):
    x = samples[0][:40].copy()
    x[:, 0, 0] = -1  # an empty panel obeys nothing
    filled, rule = completion.complete(x, THIRD_PANEL, np.random.default_rng(0))
    assert (rule == -1).all()
    assert (filled[:, 2, 2] >= 0).any((1, 2)).all()
    x[:, 0, 0] = 100  # out of range in every attribute, but occupied: number rules may remain
    assert not completion.deduce(x, THIRD_PANEL)[:, :30].any()
    assert not completion.deduce(x, np.zeros((3, 3), bool))[:, :30].any()


def test_completions_of_a_row_are_uniform():
    """Shape OR with one panel unknown: chi-square over its completions, p > 1e-4."""
    x, _ = genraven.generate(1, [8], seed=2)
    mask = np.arange(9).reshape(3, 3) == 1
    known = bits.panel_masks(x)[0, 0, :, 1].tolist()
    n = count(0, 8, (known[0], -1, known[2]))
    assert n > 2
    filled, _ = completion.complete(x.repeat(300 * n, 0), mask, np.random.default_rng(3), [8])
    _, counts = np.unique(bits.panel_masks(filled)[:, 0, 1, 1], return_counts=True)
    assert len(counts) == n
    assert stats.chisquare(counts).pvalue > 1e-4


def test_reference_line_is_one(samples):
    result = completion.evaluate_completion(completion.symbolic, *samples)
    for part in ("all", "trained", "held_out", "any_valid"):
        assert result[part]["estimate"] == 1.0
    assert result["trained"]["n"] + result["held_out"]["n"] == result["all"]["n"] == 4000
    assert result["held_out"]["n"] == np.isin(samples[1], genraven.SPLITS[0]).sum()
    assert list(result["per_rule"]) == [rule.name for rule in genraven.RULES]
    low, high = intervals.wilson(4000, 4000)
    assert (result["all"]["low"], result["all"]["high"]) == pytest.approx((low, high))


def test_lower_lines():
    """40,000 samples; bounds are five standard errors or more beyond the published roundings.

    Marginal fill: about 0.07 on held-out rules. Uniform fill: 0.024 of third panels; AnyValid of
    wholly uniform samples 0.170.
    """
    x, y = genraven.generate(40_000, seed=5)
    marginal = completion.marginal(genraven.trained(0))
    lower = completion.evaluate_completion(marginal, x, y)
    assert lower["held_out"]["estimate"] == pytest.approx(0.07, abs=0.02)
    assert lower["trained"]["estimate"] == pytest.approx(0.07, abs=0.01)
    uniform = completion.evaluate_completion(completion.uniform, x, y)
    assert uniform["all"]["estimate"] == pytest.approx(0.024, abs=0.004)
    everything = completion.evaluate_completion(completion.uniform, x, y, np.ones((3, 3), bool))
    assert everything["any_valid"]["estimate"] == pytest.approx(0.170, abs=0.006)


def test_marginal_fill_has_the_marginal_law_and_no_row_structure():
    """Panels of a filled row have their places' laws, and are independent of each other."""
    x, y = genraven.generate(4000, range(10), seed=1)
    row = np.zeros((3, 3), bool)
    row[2] = True
    fill = completion.marginal(range(10))
    result = completion.evaluate_completion(fill, x, y, row, held_out=())
    assert result["any_valid"]["estimate"] < 0.6
    assert result["held_out"] is None
    filled = fill(x, np.broadcast_to(row, (4000, 3, 3)), np.random.default_rng(0))
    sizes = [np.bitwise_count(bits.panel_masks(v)[:, 2, :, 0]) for v in (filled, x)]
    counts = [np.bincount(n[:, 2], minlength=9)[1:9] for n in sizes]
    assert stats.chi2_contingency(counts).pvalue > 1e-4
    pairs = [np.histogram2d(n[:, 0], n[:, 1], 4)[0] for n in sizes]
    assert stats.chi2_contingency(pairs[0]).pvalue > 1e-4 > stats.chi2_contingency(pairs[1]).pvalue


def test_known_panels_stand_whatever_a_fill_does(samples):
    x, y = samples

    def vandal(x, mask, rng):
        assert (x[mask] == -1).all()
        return np.full_like(x, 5)

    result = completion.evaluate_completion(vandal, x, y)
    expected = x.copy()
    expected[:, 2, 2] = 5
    assert result["all"]["k"] == genraven.check(expected).all(1).any(1).sum()


def test_wrong_arguments_are_named(samples):
    x, y = samples
    with pytest.raises(ValueError, match="mask must be bool"):
        completion.deduce(x, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="mask must be bool"):
        completion.deduce(x, np.zeros((2, 3, 3), bool))
    with pytest.raises(ValueError, match=r"0\.\.39"):
        completion.deduce(x, THIRD_PANEL, [40])
    with pytest.raises(ValueError, match="y must hold"):
        completion.evaluate_completion(completion.uniform, x, y[:5])
    with pytest.raises(ValueError, match="nothing to fill"):
        completion.evaluate_completion(completion.uniform, x, y, np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="shape"):
        completion.evaluate_completion(lambda x, mask, rng: x[:, 0], x, y)


def test_ratio_against_wilson_and_bootstrap():
    """Clustered flags: the interval agrees with the bootstrap over samples to a fifth of it."""
    rng = np.random.default_rng(0)
    own = rng.beta(1, 3, 2000)
    flags = rng.random((2000, 9)) < own[:, None]
    got = shares.share(flags)
    _, low, high = intervals.bootstrap(flags.mean(1), rng=rng)
    assert got["high"] - got["low"] == pytest.approx(high - low, rel=0.2)
    assert got["estimate"] == flags.mean()
    naive = intervals.wilson(int(flags.sum()), flags.size)
    assert got["high"] - got["low"] > 1.3 * (naive[1] - naive[0])
    counted = rng.random((2000, 9)) < 0.5
    part = shares.ratio(flags & counted, counted)
    assert (part["n"], part["k"]) == (counted.sum(), (flags & counted).sum())
    single = shares.share(flags[:, 0])
    expected = intervals.wilson(int(flags[:, 0].sum()), 2000)
    assert (single["low"], single["high"]) == pytest.approx(expected)
