"""The law of a GenRAVEN row, and the kernel that writes samples.

A row is first three panels' masks, then their cells (``bits.spread``). Its governed attribute
follows its rule. Every other attribute is a decoy: a relation uniform over the ten, a row uniform
in it, panels 1 and 2 kept, panel 3 replaced by a uniform set of the same size that completes no
relation. Numbers and positions make room for the largest sets and complete no relation of their
own, unless they are the rule. So every row obeys its rule and no other.

Rows of relations 7-9 are drawn by rejection from pairs of uniform sets (71 % accepted; position
64-70 %). Positions of given numbers are an orbit of the permutations of the 9 cells: the overlap
of panels 1 and 2 is drawn by the orbits' sizes, then the permutation. Every draw takes the
high half of a product with 64 random bits, and one word tells at most 2^30 outcomes apart, so a
probability is exact to 2^-34 of itself.

Source: GenRAVEN (arXiv 2411.07873), section 2 and the authors' published data.
"""

from __future__ import annotations

import numpy as np

from assay.rules.bits import fill_packed
from assay.rules.relations import (
    AND,
    BARRED,
    BINOMIALS,
    CELLS_UNION,
    FIRST,
    NUMBER,
    OR,
    PAIRS,
    SECOND,
    SEVEN,
    SEVEN_UNION,
    STARTS,
    TEN,
    TEN_UNION,
    THIRDS,
    XOR,
    overlap,
    position_filter,
    position_relation,
    set_domain,
    set_relation,
    set_third,
)
from assay.rules.streams import mix, start
from assay.rules.words import below, jit, load, popcount, rest, select, select_long


@jit
def universe(attribute):
    """(kind, number of values, largest union) of shape, size or colour."""
    return (SEVEN, 7, SEVEN_UNION) if attribute == 0 else (TEN, 10, TEN_UNION)


@jit
def subset(n, size, random):
    """Uniform subset of 0..n-1 of a size (Floyd), by at most 5 draws."""
    few = min(size, n - size)
    mask = 0
    for last in range(n - few, n):
        bit = 1 << below(random, last + 1)
        random = rest(random, last + 1)
        mask |= (1 << last) if mask & bit else bit
    return mask if few == size else mask ^ ((1 << n) - 1)


@jit
def set_pair(n, union, state, step):
    """Two uniform sets of 0..n-1 in the domain of relations 7-9, and the stream's state."""
    full = (1 << n) - 1
    while True:
        state += step
        random = np.int64(mix(state) >> np.uint64(4))
        for _ in range(3):
            x1, x2 = random & full, (random >> n) & full
            if set_domain(x1, x2, union):
                return x1, x2, state
            random >>= 2 * n


@jit
def single_row(kind, relation, random, tables):
    """A row uniform over a single-valued relation's, 256 c + 16 a + b; what is left of random."""
    begin = load(tables, STARTS + 8 * kind + relation)
    n = load(tables, STARTS + 8 * kind + relation + 1) - begin
    return load(tables, begin + below(random, n)), rest(random, n)


@jit
def decoy(attribute, limits, state, step, tables):
    """Sets of an attribute that obey no relation, of at most ``limits`` values in each panel.

    limits: three numbers packed by four bits, the first uppermost. Returns (x1, x2, x3, state).
    """
    kind, n, union = universe(attribute)
    while True:
        state += step
        random = mix(state)
        relation = below(random, 10)
        random = rest(random, 10)
        if relation < 7:
            row, random = single_row(kind, relation, random, tables)
            others = ((1 << n) - 1) & ~load(tables, BARRED + 256 * kind + (row & 255))
            c = select(others, below(random, popcount(others)))
            return 1 << (row >> 4 & 15), 1 << (row & 15), 1 << c, state
        x1, x2, state = set_pair(n, union, state, step)
        size = popcount(set_third(relation, x1, x2))
        if (
            popcount(x1) <= limits >> 8
            and popcount(x2) <= limits >> 4 & 15
            and size <= limits & 15
        ):
            while True:
                state += step
                x3 = subset(n, size, mix(state))
                if set_relation(x1, x2, x3, union) < 0:
                    return x1, x2, x3, state


@jit
def govern(attribute, relation, state, step, tables):
    """Sets of an attribute that obey a relation, uniform over its rows: (x1, x2, x3, state)."""
    kind, n, union = universe(attribute)
    if relation < 7:
        state += step
        row, _ = single_row(kind, relation, mix(state), tables)
        return 1 << (row >> 4 & 15), 1 << (row & 15), 1 << (row >> 8), state
    x1, x2, state = set_pair(n, union, state, step)
    return x1, x2, set_third(relation, x1, x2), state


@jit
def largest_set(panel):
    """Size of the largest of the three attributes' sets of a packed panel."""
    return max(popcount(panel & 127), popcount(panel & 1023 << 10), popcount(panel & 1023 << 20))


@jit
def numbers_for(need1, need2, need3, random, tables):
    """Numbers of an attribute rule's row: 256 n1 + 16 n2 + n3, or 0 where no n3 is left.

    (n1, n2) is uniform over the first pairs of number triples that leave room for the sets, n3
    over the numbers up to 8 that do and complete no number relation.
    """
    roomy = load(tables, FIRST + need1) & load(tables, SECOND + need2)
    n_pairs = popcount(roomy)
    pair = load(tables, PAIRS + select_long(roomy, below(random, n_pairs)))
    ends = (0x1FF & -(1 << need3)) & ~load(tables, BARRED + 512 + pair)
    n_ends = popcount(ends)
    if n_ends == 0:
        return 0
    return 16 * pair + select(ends, below(rest(random, n_pairs), n_ends))


@jit
def orbit(relation, n1, n2, n3, tables):
    """(shared, rows): cells that panels 1 and 2 share in a relation's rows; rows per panel 1."""
    shared = overlap(relation, n1, n2, n3)
    if shared == 0:
        return 0, 0
    rows = load(tables, BINOMIALS + 10 * n1 + shared) * load(
        tables, BINOMIALS + 10 * (9 - n1) + n2 - shared
    )
    return shared, rows


@jit
def shared_cells(n1, n2, n3, random, tables):
    """Cells that panels 1 and 2 share in a row uniform over those of the three relations."""
    shared7, rows7 = orbit(XOR, n1, n2, n3, tables)
    shared8, rows8 = orbit(OR, n1, n2, n3, tables)
    shared9, rows9 = orbit(AND, n1, n2, n3, tables)
    row = below(random, rows7 + rows8 + rows9)
    random = rest(random, rows7 + rows8 + rows9)
    if row < rows7:
        return shared7, random
    return shared8 if row < rows7 + rows8 else shared9, random


@jit
def arrange(n1, n2, shared, random):
    """Uniform sets of n1 and n2 of 9 cells that share a number of cells: a shuffle of both."""
    both = ((1 << n1) - 1) | (((1 << n2) - 1) << (16 + n1 - shared))
    for last in range(8, 0, -1):
        other = below(random, last + 1)
        random = rest(random, last + 1)
        swap = ((both >> last) ^ (both >> other)) & 0x10001
        both ^= (swap << last) | (swap << other)
    return both & 511, (both >> 16) & 511


@jit
def place(numbers, state, step, tables):
    """Positions of given numbers that obey no position relation: (x1, x2, x3, state)."""
    n1, n2, n3 = numbers >> 8, numbers >> 4 & 15, numbers & 15
    state += step
    random = mix(state)
    thirds = load(tables, THIRDS + (numbers >> 4))
    end = n3
    if (thirds >> n3) & 1 == 0:
        n_thirds = popcount(thirds)
        end = select(thirds, below(random, n_thirds))
        random = rest(random, n_thirds)
    shared, random = shared_cells(n1, n2, end, random, tables)
    x1, x2 = arrange(n1, n2, shared, random)
    while True:
        state += step
        x3 = subset(9, n3, mix(state))
        if position_relation(x1, x2, x3, tables) < 0:
            return x1, x2, x3, state


@jit
def position_row(relation, state, step, tables):
    """Positions that obey a relation, uniform over its rows: (x1, x2, x3, state)."""
    while True:
        x1, x2, state = set_pair(9, CELLS_UNION, state, step)
        x3 = set_third(relation, x1, x2)
        if position_filter(popcount(x1), popcount(x2), popcount(x3), tables):
            return x1, x2, x3, state


@jit
def draw_row(rule, state, step, tables):
    """A row of a rule as three panels in packed words (``bits.pack``), and the stream's state."""
    governed, numbers = -1, 0
    x1, x2, x3 = 0, 0, 0
    if rule < 30:
        governed = rule // 10
        x1, x2, x3, state = govern(governed, rule - 10 * governed, state, step, tables)
    elif rule < 37:
        state += step
        row, _ = single_row(NUMBER, rule - 30, mix(state), tables)
        numbers = 16 * (row & 255) + (row >> 8)
    else:
        x1, x2, x3, state = position_row(rule - 30, state, step, tables)
        numbers = 256 * popcount(x1) + 16 * popcount(x2) + popcount(x3)
        governed = 3
    at = 10 * max(governed, 0)
    governed1, governed2, governed3 = x1 << at, x2 << at, x3 << at
    limits = numbers if numbers else 0xAAA
    while True:
        panel1, panel2, panel3 = governed1, governed2, governed3
        for attribute in range(3):
            if attribute != governed:
                x1, x2, x3, state = decoy(attribute, limits, state, step, tables)
                panel1 |= x1 << (10 * attribute)
                panel2 |= x2 << (10 * attribute)
                panel3 |= x3 << (10 * attribute)
        if numbers == 0:
            state += step
            needs = largest_set(panel1), largest_set(panel2), largest_set(panel3)
            numbers = numbers_for(needs[0], needs[1], needs[2], mix(state), tables)
        if numbers:
            break
    if governed < 3:
        x1, x2, x3, state = place(numbers, state, step, tables)
        return panel1 | x1 << 30, panel2 | x2 << 30, panel3 | x3 << 30, state
    return panel1, panel2, panel3, state


@jit
def _fill_samples(address, labels, first, key, rules, tables):
    for sample in range(len(labels)):
        state, step = start(key, first + sample)
        state += step
        rule = rules[below(mix(state), len(rules))]
        labels[sample] = rule
        for _ in range(3):
            panel1, panel2, panel3, state = draw_row(rule, state, step, tables)
            state = fill_packed(address, panel1, state, step)
            state = fill_packed(address + 27, panel2, state, step)
            state = fill_packed(address + 54, panel3, state, step)
            address += 81


@jit
def fill_samples(out, labels, first, key, rules, tables):
    """Write samples first, first + 1, ... of a key: int8 (n, 3, 3, 9, 3) and int64 rules (n,).

    rules: int64, sorted; tables: ``relations.TABLES``.
    """
    _fill_samples(out.ctypes.data, labels, first, key, rules, tables.ctypes.data)
