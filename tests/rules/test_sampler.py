"""The row sampler against its law, enumerated from plain sets and binomials.

Chi-square tests at 1e-6 each, about fifty in all: all pass by chance but once in 20,000.
"""

import itertools
from collections import Counter, defaultdict
from math import comb

import numba
import numpy as np
import pytest
from scipy import stats

from assay.rules import bits, genraven, relations, sampler, streams
from assay.rules.words import popcount

ALPHA = 1e-6
TABLES = relations.TABLES.ctypes.data
TRIPLES = {t for rows in relations.triples(relations.NUMBER) for t in rows}
PAIRS = sorted({t[:2] for t in TRIPLES})


def follows(counts, law):
    """Chi-square p-value of counted outcomes under a law {outcome: probability}, pooled."""
    assert sum(law.values()) == pytest.approx(1)
    assert set(counts) <= set(law)
    n = sum(counts.values())
    expected = {outcome: n * p for outcome, p in law.items()}
    rare = {outcome for outcome in law if expected[outcome] < 8}
    table = [(counts.get(o, 0), e) for o, e in expected.items() if o not in rare]
    if rare:
        table.append((sum(counts.get(o, 0) for o in rare), sum(expected[o] for o in rare)))
    observed, means = np.array(table).T
    return stats.chisquare(observed, means).pvalue if len(table) > 1 else 1.0


def masks_of(rule, n, seed=0):
    """Masks (3 n, 3 panels, 4) of the rows of n samples of a rule."""
    x, _ = genraven.generate(n, rules=[rule], seed=seed)
    return bits.panel_masks(x).reshape(-1, 3, 4)


@numba.njit(error_model="numpy")
def draw_positions(numbers, n, key, tables):
    out = np.empty((n, 3), np.int64)
    for i in range(n):
        state, step = streams.start(key, i)
        out[i, 0], out[i, 1], out[i, 2], _ = sampler.place(numbers, state, step, tables)
    return out


@numba.njit(error_model="numpy")
def draw_decoys(attribute, limits, n, key, tables):
    out = np.empty((n, 3), np.int64)
    for i in range(n):
        state, step = streams.start(key, i)
        out[i, 0], out[i, 1], out[i, 2], _ = sampler.decoy(attribute, limits, state, step, tables)
    return out


@numba.njit(error_model="numpy")
def draw_subsets(n, size, draws, key):
    out = np.empty(draws, np.int64)
    for i in range(draws):
        out[i] = sampler.subset(n, size, streams.mix(key + np.uint64(i)))
    return out


def position_law(n1, n2, n3):
    """Law of (|x1 x2|, |x1 x3|, |x2 x3|, |x1 x2 x3|) by listing all rows with a fixed panel 1."""
    x1 = frozenset(range(n1))
    rows = defaultdict(list)
    for chosen in itertools.combinations(range(9), n2):
        x2 = frozenset(chosen)
        if x1 & x2 and x1 != x2:
            for third in (x1 ^ x2, x1 | x2, x1 & x2):
                if (n1, n2, len(third)) not in TRIPLES:
                    rows[len(third)].append(x2)
    ends = [n3] if n3 in rows else list(rows)
    law = Counter()
    for end in ends:
        for x2, times in Counter(rows[end]).items():
            barred = {x1 ^ x2, x1 | x2, x1 & x2} if n3 in rows else set()
            thirds = [
                s for s in map(frozenset, itertools.combinations(range(9), n3)) if s not in barred
            ]
            weight = times / len(rows[end]) / len(ends) / len(thirds)
            for x3 in thirds:
                law[len(x1 & x2), len(x1 & x3), len(x2 & x3), len(x1 & x2 & x3)] += weight
    return law


def venn(x1, x2, x3):
    """The four overlaps of three sets each, one list per triple of sets."""
    shared = np.bitwise_count(np.broadcast_arrays(x1 & x2, x1 & x3, x2 & x3, x1 & x2 & x3))
    return shared.T.tolist()


POSITION_CASES = [
    (4, 5, 3),  # one overlap for two relations
    (5, 4, 4),
    (3, 4, 5),  # a number triple: no rows
    (4, 4, 4),
    (1, 3, 8),  # no rows of that third number
    (8, 8, 2),
    (6, 5, 1),
    (7, 5, 8),
]


@pytest.mark.parametrize("numbers", POSITION_CASES)
def test_positions_of_given_numbers_follow_their_law(numbers):
    n1, n2, n3 = numbers
    assert (n1, n2) in PAIRS
    x = draw_positions(256 * n1 + 16 * n2 + n3, 40_000, streams.key(n1), TABLES)
    assert (np.bitwise_count(x) == numbers).all()
    assert follows(Counter(map(tuple, venn(*x.T))), position_law(*numbers)) > ALPHA
    for panel in range(3):  # by symmetry each panel alone is a uniform subset
        subsets = [bits.mask_of(s) for s in itertools.combinations(range(9), numbers[panel])]
        law = dict.fromkeys(subsets, 1 / len(subsets))
        assert follows(Counter(x[:, panel].tolist()), law) > ALPHA


def orbits(n, union):
    """{(n1, n2, shared): pairs of sets} of the domain of relations 7-9 over n values."""
    table = {}
    for n1, n2 in itertools.product(range(1, n + 1), repeat=2):
        for shared in range(1, min(n1, n2) + 1):
            rest = n2 - shared
            if n1 + n2 - shared <= union and n1 + n2 > 2 * shared and rest <= n - n1:
                table[n1, n2, shared] = comb(n, n1) * comb(n1, shared) * comb(n - n1, rest)
    return table


def third_sizes(n1, n2, shared):
    return n1 + n2 - 2 * shared, n1 + n2 - shared, shared


def decoy_law(kind, limits):
    """Law of a decoy: (a, b, c) of single values, or sizes and overlaps of sets."""
    n, union = (7, 6) if kind == relations.SEVEN else (10, 8)
    rows = relations.triples(kind)
    law = Counter()
    for relation in rows:
        for a, b, _ in relation:
            barred = {t[2] for rel in rows for t in rel if t[:2] == (a, b)}
            for c in set(range(n)) - barred:
                law[a, b, c] += 1 / len(relation) / (n - len(barred))
    table = orbits(n, union)
    for which in range(3):
        for (n1, n2, shared), pairs in table.items():
            size = third_sizes(n1, n2, shared)[which]
            if n1 > limits[0] or n2 > limits[1] or size > limits[2]:
                continue
            x1, x2 = (1 << n1) - 1, ((1 << n2) - 1) << (n1 - shared)
            x3 = np.array([m for m in range(1 << n) if m.bit_count() == size])
            x3 = x3[(x3 != x1 ^ x2) & (x3 != x1 | x2) & (x3 != x1 & x2)]
            for overlaps in venn(x1, x2, x3):
                law[n1, n2, size, *overlaps] += pairs / sum(table.values()) / len(x3)
    total = sum(law.values())
    return {outcome: weight / total for outcome, weight in law.items()}


@pytest.mark.parametrize(
    ("attribute", "limits"),
    [(0, (9, 9, 9)), (1, (9, 9, 9)), (2, (4, 3, 5)), (0, (2, 3, 2)), (1, (1, 2, 3))],
)
def test_decoys_follow_their_law(attribute, limits):
    packed = 256 * limits[0] + 16 * limits[1] + limits[2]
    x = draw_decoys(attribute, packed, 120_000, streams.key(attribute), TABLES)
    sizes = np.bitwise_count(x)
    # Panels 1 and 2 of single values are single; sets in the domain of 7-9 never both are.
    single = (sizes[:, :2] == 1).all(axis=1)
    counts = Counter(map(tuple, np.log2(x[single]).round().astype(int).tolist()))
    counts.update(map(tuple, np.hstack([sizes[~single], venn(*x[~single].T)]).tolist()))
    law = decoy_law(relations.SEVEN if attribute == 0 else relations.TEN, limits)
    assert follows(counts, law) > ALPHA
    assert (sizes <= limits).all()


def size_law(rule=None, n=10, union=8):
    """Law of an attribute's three set sizes: of a decoy, or of a relation 0..9."""
    table = orbits(n, union)
    relations_weights = dict.fromkeys(range(10), 0.1) if rule is None else {rule: 1.0}
    law = Counter()
    for relation, weight in relations_weights.items():
        if relation < 7:
            law[1, 1, 1] += weight
            continue
        for (n1, n2, shared), pairs in table.items():
            sizes = n1, n2, third_sizes(n1, n2, shared)[relation - 7]
            law[sizes] += weight * pairs / sum(table.values())
    return law


def number_law(governed, *decoys):
    """Law of the three numbers of an attribute rule's row: decoys are redrawn, never the rule."""
    joined, law = merged(*decoys), Counter()
    for sizes, weight in governed.items():
        given = Counter()
        for (u1, u2, u3), chance in merged({sizes: 1.0}, joined).items():
            pairs = [(a, b) for a, b in PAIRS if a >= u1 and b >= u2]
            for pair in pairs:
                ends = [c for c in range(u3, 9) if (*pair, c) not in TRIPLES]
                for end in ends:
                    given[*pair, end] += chance / len(pairs) / len(ends)
        for numbers, chance in given.items():
            law[numbers] += weight * chance / sum(given.values())
    return law


def merged(*laws):
    """Law of the panelwise maximum of independent sizes."""
    law = Counter({(1, 1, 1): 1.0})
    for other in laws:
        step = Counter()
        for (a, p), (b, q) in itertools.product(law.items(), other.items()):
            step[tuple(map(max, a, b))] += p * q
        law = step
    return law


@pytest.mark.parametrize("rule", [4, 8, 9, 15, 28, 27])
def test_numbers_of_attribute_rules_follow_their_law(rule):
    attribute, relation = divmod(rule, 10)
    shapes = 7, 6
    governed = size_law(relation, *(shapes if attribute == 0 else (10, 8)))
    decoys = size_law(None, *(shapes if attribute else (10, 8))), size_law()
    numbers = np.bitwise_count(masks_of(rule, 50_000)[:, :, 0])
    law = number_law(governed, *decoys)
    assert follows(Counter(map(tuple, numbers.tolist())), law) > ALPHA


@pytest.mark.parametrize("rule", [*range(7), 12, 15, 26, *range(30, 37)])
def test_single_valued_rows_are_uniform_over_their_table(rule):
    kind = {0: 0, 1: 1, 2: 1, 3: 2}[rule // 10]
    masks = masks_of(rule, 10_000)
    if kind == relations.NUMBER:
        values = np.bitwise_count(masks[:, :, 0])
    else:
        values = np.log2(masks[:, :, 1 + rule // 10]).round().astype(int)
    rows = relations.triples(kind)[rule % 10]
    law = dict.fromkeys(rows, 1 / len(rows))
    assert follows(Counter(map(tuple, values.tolist())), law) > ALPHA


@pytest.mark.parametrize("rule", [7, 8, 9])
def test_shape_set_rows_are_uniform_over_all_12012(rule):
    masks = masks_of(rule, 60_000)[:, :, 1].astype(np.int64)
    counts = np.unique(masks[:, 0] * 128 + masks[:, 1], return_counts=True)[1]
    assert len(counts) == 12_012
    assert stats.chisquare(counts).pvalue > ALPHA


@pytest.mark.parametrize(("rule", "size"), [(37, 168_372), (38, 184_092), (39, 171_126)])
def test_position_rows_are_uniform_over_their_table(rule, size):
    x, _ = genraven.generate(500_000, rules=[rule], seed=1)
    powers = 1 << np.arange(9)
    masks = (x[:, :, :2, :, 0] >= 0) @ powers
    counts = np.bincount((masks[..., 0] * 512 + masks[..., 1]).ravel(), minlength=1 << 18)
    counts = counts[counts > 0]
    assert abs(len(counts) - size * (1 - np.exp(-1.5e6 / size))) < 60
    short = size - len(counts)  # rows of the table that happened not to be drawn
    assert stats.chisquare([*counts, *[0] * short]).pvalue > ALPHA


@pytest.mark.parametrize(("n", "size"), [(9, 1), (9, 8), (10, 5), (10, 3), (7, 6), (9, 9), (7, 4)])
def test_subsets_are_uniform(n, size):
    draws = draw_subsets(n, size, 60_000, streams.key(size))
    subsets = [bits.mask_of(s) for s in itertools.combinations(range(n), size)]
    assert follows(Counter(draws.tolist()), dict.fromkeys(subsets, 1 / len(subsets))) > ALPHA


def test_decoy_sets_are_uniform_given_their_size():
    """Panel 1 of a set-valued decoy is uniform over the sets of its size."""
    x = draw_decoys(1, 0x999, 200_000, streams.key(3), TABLES)
    x = x[(np.bitwise_count(x[:, :2]) > 1).any(axis=1)]
    for panel in (0, 1, 2):
        for size in (2, 4, 6):
            chosen = x[np.bitwise_count(x[:, panel]) == size, panel]
            subsets = [bits.mask_of(s) for s in itertools.combinations(range(10), size)]
            law = dict.fromkeys(subsets, 1 / len(subsets))
            assert follows(Counter(chosen.tolist()), law) > ALPHA


def test_popcount_is_numpys():
    values = np.random.default_rng(0).integers(0, 1 << 62, 100)
    count = numba.njit(lambda value: popcount(value))
    assert [count(v) for v in values] == np.bitwise_count(values).tolist()
