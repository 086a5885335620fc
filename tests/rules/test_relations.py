"""The ten relations: table sizes by enumeration, and plain sets as the second route."""

import itertools

import numba
import numpy as np
import pytest

from assay.rules import relations

KINDS = (relations.SEVEN, relations.TEN, relations.NUMBER)
TABLES = relations.TABLES.ctypes.data


def subsets(n):
    everything = itertools.chain.from_iterable(
        itertools.combinations(range(n), k) for k in range(1, n + 1)
    )
    return [frozenset(chosen) for chosen in everything]


def mask(chosen):
    return sum(1 << v for v in chosen)


def spelled_out(kind):
    """The admitted triples, written from the tables of starts and exceptions."""
    if kind == relations.NUMBER:
        starts = (range(2, 9), (5, 7, 8, 9), range(4, 10), range(2, 8), (1, 3, 4, 5))
        low, high = 1, 9
        no_sum, no_difference = {(1, 1), (1, 2), (2, 4), (3, 6)}, {(3, 2), (6, 4), (9, 6)}
    else:
        m = 7 if kind == relations.SEVEN else 10
        starts = (
            range(1, m),
            [a for a in range(4, m) if a != 6],
            [a for a in range(2, m) if a != 3],
            [a for a in range(m - 2) if a != 1],
            [a for a in range(m - 4) if a != 2],
        )
        low, high = 0, m - 1
        no_sum, no_difference = {(1, 2), (2, 4)}, {(3, 2), (6, 4)}
    steps = (0, -2, -1, 1, 2)
    table = [
        {(a, a + d, a + 2 * d) for a in first} for d, first in zip(steps, starts, strict=True)
    ]
    values = range(max(low, 0), high + 1)
    pairs = [(a, b) for a in values for b in values if b >= 1]
    table.append({(a, b, a + b) for a, b in pairs if a + b <= high and (a, b) not in no_sum})
    table.append({(a, b, a - b) for a, b in pairs if a - b >= low and (a, b) not in no_difference})
    return table


@pytest.mark.parametrize("kind", KINDS)
def test_triples_are_those_spelled_out(kind):
    assert [set(rows) for rows in relations.triples(kind)] == spelled_out(kind)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (relations.SEVEN, [6, 2, 4, 4, 2, 19, 19]),
        (relations.TEN, [9, 5, 7, 7, 5, 43, 43]),
        (relations.NUMBER, [7, 4, 6, 6, 4, 32, 33]),
    ],
)
def test_triples_have_the_published_table_sizes(kind, sizes):
    table = relations.triples(kind)
    assert [len(rows) for rows in table] == sizes
    assert len(set(itertools.chain(*table))) == sum(sizes)  # no triple satisfies two relations


def test_number_triples_have_59_first_pairs():
    assert len({t[:2] for rows in relations.triples(relations.NUMBER) for t in rows}) == 59


@pytest.mark.parametrize("kind", KINDS)
def test_single_relation_on_every_triple(kind):
    table = spelled_out(kind)
    for triple in itertools.product(relations.VALUES[kind], repeat=3):
        holding = [r for r, rows in enumerate(table) if triple in rows]
        assert relations.single_relation(kind, *triple, TABLES) == (holding or [-1])[0]


@numba.njit(error_model="numpy")
def count_pairs(n, union):
    count = 0
    for x1 in range(1 << n):
        for x2 in range(1 << n):
            count += relations.set_domain(x1, x2, union)
    return count


@numba.njit(error_model="numpy")
def count_position_rows(relation, tables):
    count = 0
    for x1 in range(1, 512):
        for x2 in range(1, 512):
            x3 = relations.set_third(relation, x1, x2)
            count += relations.position_relation(x1, x2, x3, tables) == relation
    return count


def test_set_relations_have_the_published_table_sizes():
    assert count_pairs(7, relations.SEVEN_UNION) == 12_012
    assert count_pairs(10, relations.TEN_UNION) == 738_780
    rows = [count_position_rows(relation, TABLES) for relation in (7, 8, 9)]
    assert rows == [168_372, 184_092, 171_126]


def test_set_relations_against_sets_for_every_pair_of_shape_sets():
    sets = subsets(7)
    rows = 0
    for x1, x2 in itertools.product(sets, sets):
        thirds = {x1 ^ x2: 7, x1 | x2: 8, x1 & x2: 9}
        in_domain = bool(x1 & x2) and bool(x1 ^ x2) and len(x1 | x2) <= 6
        rows += in_domain
        for x3 in (x1 ^ x2, x1 | x2, x1 & x2, x1, x2, frozenset({0}), frozenset(range(7))):
            expected = thirds.get(x3, -1) if in_domain else -1
            assert relations.set_relation(mask(x1), mask(x2), mask(x3), 6) == expected
    assert rows == 12_012


def test_attribute_relation_joins_singles_and_sets():
    assert relations.attribute_relation(1, 1 << 2, 1 << 3, 1 << 5, TABLES) == 5
    assert relations.attribute_relation(1, 1 << 9, 1 << 3, 1 << 6, TABLES) == 6
    assert relations.attribute_relation(0, 1 << 6, 1 << 6, 1 << 6, TABLES) == 0
    assert relations.attribute_relation(0, 1, 1, 1, TABLES) == -1
    assert relations.attribute_relation(0, 0b11, 0b110, 0b101, TABLES) == 7
    assert relations.attribute_relation(0, 0b11, 0b110, 0b111, TABLES) == 8
    assert relations.attribute_relation(0, 0b11, 0b110, 0b010, TABLES) == 9
    assert relations.attribute_relation(1, 0b11, 0b11, 0b11, TABLES) == -1
    assert relations.attribute_relation(1, 0b1111, 0b11111000, 0b11110111, TABLES) == 7
    assert relations.attribute_relation(0, 0b1111, 0b1111000, 0b1110111, TABLES) == -1
    for empty in range(3):
        sets = [1 << 1] * 3
        sets[empty] = 0
        assert relations.attribute_relation(0, *sets, TABLES) == -1


def test_overlap_counts_position_rows_of_every_size():
    """Sum over orbits of sizes = the table sizes, by multinomials alone."""
    from math import comb

    number = spelled_out(relations.NUMBER)
    triples = set().union(*number)
    pairs = {t[:2] for t in triples}
    totals = []
    for relation in (7, 8, 9):
        total = 0
        for n1, n2 in pairs:
            for n3 in range(1, 10):
                shared = relations.overlap(relation, n1, n2, n3)
                if shared and (n1, n2, n3) not in triples:
                    total += comb(9, n1) * comb(n1, shared) * comb(9 - n1, n2 - shared)
        totals.append(total)
    assert totals == [168_372, 184_092, 171_126]


def test_thirds_list_the_numbers_that_kept_rows_reach():
    listed = relations.TABLES[relations.THIRDS : relations.BINOMIALS].reshape(16, 16)
    first = [frozenset(range(n)) for n in range(10)]
    triples = set().union(*spelled_out(relations.NUMBER))
    pairs = {t[:2] for t in triples}
    sets = subsets(9)
    for n1, n2 in itertools.product(range(1, 10), repeat=2):
        x1, seen = first[n1], set()
        if (n1, n2) in pairs:
            for x2 in (s for s in sets if len(s) == n2):
                if x1 & x2 and x1 ^ x2:
                    seen |= {len(x1 ^ x2), len(x1 | x2), len(x1 & x2)}
        seen = {n3 for n3 in seen if (n1, n2, n3) not in triples}
        assert listed[n1, n2] == sum(1 << n3 for n3 in seen)
        assert ((n1, n2) in pairs) == bool(seen)  # positions exist for every first pair


def test_tables_stay_small():
    assert relations.TABLES.nbytes < 20_000
    assert relations.TABLES.dtype == np.int64
