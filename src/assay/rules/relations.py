"""The ten relations, each defined once, on panel values and bit masks.

Relations 0-6 hold on three single values (a, b, c): constant; progression with step d = -2, -1,
+1, +2; c = a + b; c = a - b. ``third`` gives the only c for two values; triples that would satisfy
a progression and a sum at once, and a few more, are no rule. Relations 7-9 hold on sets: c is
a XOR b, a OR b, a AND b, where a AND b and a XOR b are not empty and the union is small enough.
Position rows are kept only if the panels' numbers (n1, n2) begin some number triple and
(n1, n2, n3) is none. Hence at most one relation holds for an attribute of a row.

Kinds of values: SEVEN (shape, 0..6), TEN (size and colour, 0..9), NUMBER (1..9). The single-valued
triples are listed once, at most 43 a relation; sets are computed, never listed. Arrays that hold
the list by its first two values are passed to compiled code as arguments.

Source: GenRAVEN (Wang, Shang, Sompolinsky, arXiv 2411.07873) and the authors' published data.
"""

from __future__ import annotations

import math

import numpy as np

from assay.rules.words import jit, load, lowest, popcount

SEVEN, TEN, NUMBER = range(3)
N_SINGLE = 7
XOR, OR, AND = 7, 8, 9

VALUES = (range(7), range(10), range(1, 10))
SEVEN_UNION, TEN_UNION, CELLS_UNION = 6, 8, 9


@jit
def third(kind, relation, a, b):
    """The c for which (a, b, c) satisfies a single-valued relation 0..6, or -1 if there is none.

    a and b must be values of the kind.
    """
    low, high, number = 0, 9, False
    if kind == SEVEN:
        high = 6
    elif kind == NUMBER:
        low, number = 1, True
    c = -1
    if relation == 0:
        if a == b and a > low and not (number and a == 9):
            c = a
    elif relation <= 4:
        d = relation - 3 if relation <= 2 else relation - 2
        sum_too = a == d or a == -3 * d
        if b == a + d and low <= a + 2 * d <= high and not sum_too:
            c = a + 2 * d
    elif relation == 5:
        barred = (b == 2 * a and (a == 1 or a == 2)) or (
            number and ((a == 1 and b == 1) or (a == 3 and b == 6))
        )
        if b >= 1 and a + b <= high and not barred:
            c = a + b
    else:
        barred = (a == 3 and b == 2) or (a == 6 and b == 4) or (number and a == 9 and b == 6)
        if b >= 1 and a - b >= low and not barred:
            c = a - b
    return c


@jit
def single_relation(kind, a, b, c, tables):
    """The relation 0..6 that three single values satisfy, or -1."""
    differ = load(tables, CODES + 256 * kind + 16 * a + b) ^ (c * 0x1111111)
    same = ~((differ & 0x7777777) + 0x7777777 | differ) & 0x8888888
    if same == 0:
        return -1
    return lowest(same) >> 2


@jit
def set_domain(x1, x2, union):
    """Whether relations 7-9 are defined on two sets: neither disjoint nor equal, small union."""
    return (x1 & x2 != 0) & (x1 != x2) & (popcount(x1 | x2) <= union)


@jit
def set_third(relation, x1, x2):
    """The third set of relation 7 (XOR), 8 (OR) or 9 (AND)."""
    if relation == XOR:
        return x1 ^ x2
    if relation == OR:
        return x1 | x2
    return x1 & x2


@jit
def set_relation(x1, x2, x3, union):
    """The relation 7..9 that three sets satisfy, or -1."""
    if set_domain(x1, x2, union):
        for relation in (XOR, OR, AND):
            if x3 == set_third(relation, x1, x2):
                return relation
    return -1


@jit
def attribute_relation(kind, x1, x2, x3, tables):
    """The relation 0..9 that the sets of shape, size or colour in three panels satisfy, or -1."""
    if x1 == 0 or x2 == 0 or x3 == 0:
        return -1
    if (x1 & (x1 - 1)) | (x2 & (x2 - 1)):
        return set_relation(x1, x2, x3, SEVEN_UNION if kind == SEVEN else TEN_UNION)
    if x3 & (x3 - 1):
        return -1
    return single_relation(kind, lowest(x1), lowest(x2), lowest(x3), tables)


@jit
def position_filter(n1, n2, n3, tables):
    """Whether position rows are kept: (n1, n2) begins a number triple, (n1, n2, n3) is none."""
    ends = load(tables, BARRED + 512 + 16 * n1 + n2)
    return (ends != 0) & ((ends >> n3) & 1 == 0)


@jit
def position_relation(x1, x2, x3, tables):
    """The relation 7..9 that three sets of occupied cells satisfy, or -1."""
    relation = set_relation(x1, x2, x3, CELLS_UNION)
    if relation >= 0 and position_filter(popcount(x1), popcount(x2), popcount(x3), tables):
        return relation
    return -1


@jit
def overlap(relation, n1, n2, n3):
    """The size of x1 AND x2 for which sets of n1 and n2 of 9 cells have a third set of n3 cells.

    0 where relations 7-9 have no such rows.
    """
    shared = n3
    if relation == XOR:
        if (n1 + n2 - n3) & 1:
            return 0
        shared = (n1 + n2 - n3) >> 1
    elif relation == OR:
        shared = n1 + n2 - n3
    if shared < 1 or shared > min(n1, n2) or shared * 2 == n1 + n2 or n1 + n2 - shared > 9:
        return 0
    return shared


def triples(kind: int) -> list[list[tuple[int, int, int]]]:
    """The triples (a, b, c) of each relation 0..6 over a kind of values."""
    values = VALUES[kind]
    define = third.py_func
    return [
        [(a, b, c) for a in values for b in values if (c := define(kind, r, a, b)) >= 0]
        for r in range(N_SINGLE)
    ]


# One flat array for compiled code holds the triples and what follows from them, in sections that
# begin at: STARTS (3 x 8), where the triples of a kind and relation begin in the array; CODES
# (3 x 256), at 16 a + b, four bits for the c of each relation, 15 where there is none; BARRED
# (3 x 256), at 16 a + b, bit c where (a, b, c) satisfies some relation; THIRDS (256), at
# 16 n1 + n2, bit n where kept position rows of those numbers have third number n; BINOMIALS
# (10 x 10); FIRST, SECOND (10 each), at u, bit p where first pair p of number triples has n1 >= u
# (n2 >= u); PAIRS (59), 16 n1 + n2; TRIPLES, 256 c + 16 a + b.
STARTS, CODES, BARRED, THIRDS = 0, 24, 792, 1560
BINOMIALS, FIRST, SECOND, PAIRS, TRIPLES = 1816, 1916, 1926, 1936, 1995


def _tables() -> np.ndarray:
    table = [triples(kind) for kind in (SEVEN, TEN, NUMBER)]
    listed, starts = [], np.zeros((3, 8), np.int64)
    codes, barred = np.full((3, 16, 16), 0xFFFFFFF, np.int64), np.zeros((3, 16, 16), np.int64)
    for kind, relations in enumerate(table):
        for relation, rows in enumerate(relations):
            starts[kind, relation] = len(listed)
            for a, b, c in rows:
                listed.append(256 * c + 16 * a + b)
                codes[kind, a, b] ^= (15 ^ c) << (4 * relation)
                barred[kind, a, b] |= 1 << c
        starts[kind, N_SINGLE] = len(listed)
    pairs = np.argwhere(barred[NUMBER])
    number = 1 << np.arange(len(pairs), dtype=np.int64)
    thresholds = np.arange(10)[:, None]
    thirds = np.zeros((16, 16), np.int64)
    for n1, n2 in pairs.tolist():
        for n3 in range(1, 10):
            rows = any(overlap.py_func(relation, n1, n2, n3) for relation in (XOR, OR, AND))
            if rows and not barred[NUMBER, n1, n2] >> n3 & 1:
                thirds[n1, n2] |= 1 << n3
    sections = (
        starts + TRIPLES,
        codes,
        barred,
        thirds,
        np.array([math.comb(n, k) for n in range(10) for k in range(10)]),
        np.where(pairs[:, 0] >= thresholds, number, 0).sum(axis=1),
        np.where(pairs[:, 1] >= thresholds, number, 0).sum(axis=1),
        pairs @ [16, 1],
        np.array(listed),
    )
    return np.concatenate([section.ravel() for section in sections])


TABLES = _tables()
