"""All ways to complete a row under one rule, counted exactly and drawn uniformly.

The governed quantity of three panels is (x1, x2, x3), some known and some not. Relations 0-6 are
lists of triples: those that agree with the known panels are counted. Relations 7-9 are Boolean:
each value v is in x1 only, in x2 only, in both or in neither, its place in x3 follows from the
relation, and known panels rule some of the four out, value by value. So with W_v(a, b, s) the
number of ways to place the first v values with a in x1 only, b in x2 only, s in both,

    W_{v+1}(a, b, s) = W_v(a-1, b, s) + W_v(a, b-1, s) + W_v(a, b, s-1) + W_v(a, b, s),

each term where the known panels allow it; and the conditions of the relations (overlapping, not
equal, small union, the numbers of position rows) depend on (a, b, s) alone. The sum of W_M over
the admitted (a, b, s) is the number of completions, and unranking an index below it gives each
completion once. Units: 0 shape, 1 size, 2 colour, 3 number, 4 position.
"""

from __future__ import annotations

import numpy as np

from assay.rules.relations import (
    CELLS_UNION,
    N_SINGLE,
    NUMBER,
    SEVEN,
    SEVEN_UNION,
    STARTS,
    TEN,
    TEN_UNION,
    position_filter,
    set_domain,
    set_third,
)
from assay.rules.streams import mix, start
from assay.rules.words import below, jit, popcount

NUMBER_UNIT, POSITION_UNIT = 3, 4
WAYS_SHAPE = (11, 11, 11, 11)  # W by v, a, b, s


@jit
def unit_of(rule):
    """The unit that a rule 0..39 governs, and its relation 0..9."""
    if rule < 30:
        return rule // 10, rule % 10
    return (NUMBER_UNIT if rule < 37 else POSITION_UNIT), rule - 30


@jit
def _width(unit):
    """Number of values, and the largest union of relations 7-9."""
    if unit == 0:
        return 7, SEVEN_UNION
    if unit == POSITION_UNIT:
        return 9, CELLS_UNION
    return 10, TEN_UNION


@jit
def _agrees(value, known, number):
    """Whether a single value may stand where a panel is known (its mask), or unknown (-1)."""
    if known < 0:
        return True
    return known == value if number else known == 1 << value


@jit
def _single(unit, relation, known, tables, pick):
    """(number of triples that agree, the packed triple of index `pick` among them or -1)."""
    kind = NUMBER if unit == NUMBER_UNIT else (SEVEN if unit == 0 else TEN)
    number, at, count, found = unit == NUMBER_UNIT, STARTS + 8 * kind + relation, 0, -1
    for i in range(tables[at], tables[at + 1]):
        c, a, b = tables[i] >> 8, (tables[i] >> 4) & 15, tables[i] & 15
        if (
            _agrees(a, known[0], number)
            and _agrees(b, known[1], number)
            and _agrees(c, known[2], number)
        ):
            if count == pick:
                found = tables[i]
            count += 1
    return count, found


@jit
def _allowed(relation, known, v):
    """Bit k = i + 2j: may value v be in x1 (i) and in x2 (j), as far as known panels say?"""
    flags = 0
    for k in range(4):
        i, j = k & 1, k >> 1
        h = set_third(relation, i, j)
        fits = (known[0] < 0 or (known[0] >> v) & 1 == i) and (
            known[1] < 0 or (known[1] >> v) & 1 == j
        )
        if fits and (known[2] < 0 or (known[2] >> v) & 1 == h):
            flags |= 1 << k
    return flags


@jit
def _place(ways, relation, known, width):
    """Fill W for all values; False where some value has no place at all."""
    ways[0, 0, 0, 0] = 1
    for v in range(width):
        flags = _allowed(relation, known, v)
        if flags == 0:
            return False
        for a in range(v + 2):
            for b in range(v + 2 - a):
                for s in range(v + 2 - a - b):
                    total = 0
                    if flags & 1 and a + b + s <= v:
                        total += ways[v, a, b, s]
                    if flags & 2 and a > 0:
                        total += ways[v, a - 1, b, s]
                    if flags & 4 and b > 0:
                        total += ways[v, a, b - 1, s]
                    if flags & 8 and s > 0:
                        total += ways[v, a, b, s - 1]
                    ways[v + 1, a, b, s] = total
    return True


@jit
def _admitted(unit, relation, a, b, s, tables):
    """Whether rows with these counts satisfy the conditions of relations 7-9."""
    x1 = (1 << (a + s)) - 1
    x2 = ((1 << (b + s)) - 1) << a
    _, union = _width(unit)
    if not set_domain(x1, x2, union):
        return False
    if unit != POSITION_UNIT:
        return True
    n3 = popcount(set_third(relation, x1, x2))
    return position_filter(a + s, b + s, n3, tables.ctypes.data)


@jit
def _total(ways, unit, relation, tables, pick):
    """(number of completions, (a, b, s) of the one of index `pick`, its index among these)."""
    width, union = _width(unit)
    total, found, left = 0, (0, 0, 0), 0
    for a in range(union + 1):
        for b in range(union + 1 - a):
            for s in range(1, union + 1 - a - b):
                here = ways[width, a, b, s]
                if here and _admitted(unit, relation, a, b, s, tables):
                    if total <= pick < total + here:
                        found, left = (a, b, s), pick - total
                    total += here
    return total, found, left


@jit
def _unrank(ways, relation, known, width, counts, left):
    """The sets (x1, x2) of index `left` among those with these counts (a, b, s)."""
    a, b, s = counts
    x1, x2 = 0, 0
    for v in range(width - 1, -1, -1):
        flags = _allowed(relation, known, v)
        for k in range(4):
            i, j = k & 1, k >> 1
            pa, pb, ps = a - (i & ~j), b - (j & ~i), s - (i & j)
            if not flags >> k & 1 or min(pa, pb, ps) < 0 or pa + pb + ps > v:
                continue
            if left < ways[v, pa, pb, ps]:
                a, b, s = pa, pb, ps
                x1 |= i << v
                x2 |= j << v
                break
            left -= ways[v, pa, pb, ps]
    return x1, x2


@jit
def count(unit, relation, known, tables, ways):
    """The number of ways to complete a row: known holds three masks (numbers), -1 for unknown."""
    if relation < N_SINGLE:
        return _single(unit, relation, known, tables, -1)[0]
    if not _place(ways, relation, known, _width(unit)[0]):
        return 0
    return _total(ways, unit, relation, tables, -1)[0]


@jit
def complete(unit, relation, known, tables, ways, pick):
    """The three masks (numbers) of the completion of index pick, 0 <= pick < count(...)."""
    if relation < N_SINGLE:
        code = _single(unit, relation, known, tables, pick)[1]
        a, b, c = (code >> 4) & 15, code & 15, code >> 8
        return (a, b, c) if unit == NUMBER_UNIT else (1 << a, 1 << b, 1 << c)
    width = _width(unit)[0]
    _place(ways, relation, known, width)
    _, counts, left = _total(ways, unit, relation, tables, pick)
    x1, x2 = _unrank(ways, relation, known, width, counts, left)
    return x1, x2, set_third(relation, x1, x2)


@jit
def _known(masks, unit, row, unknown):
    """The three known masks (numbers) of a row; -1 where unknown."""
    out = (0, 0, 0)
    column = 0 if unit >= NUMBER_UNIT else unit + 1
    for q in range(3):
        value = np.int64(masks[3 * row + q, column])
        if unit == NUMBER_UNIT:
            value = popcount(value)
        if unknown >> (3 * row + q) & 1:
            value = -1
        out = (out[1], out[2], value)
    return out


@jit
def _feasible(masks, rule, unknown, tables, ways):
    """Whether each row can be completed under a rule, full rows asked first."""
    unit, relation = unit_of(rule)
    for asked in range(2):
        for row in range(3):
            if (unknown >> (3 * row) & 7 != 0) == (asked == 1):
                known = _known(masks, unit, row, unknown)
                if count(unit, relation, known, tables, ways) == 0:
                    return False
    return True


@jit
def feasible(masks, unknown, rules, tables, out):
    """out (n, 40), preset to False: True for those of the rules that all rows can satisfy."""
    ways = np.zeros(WAYS_SHAPE, np.int64)
    for i in range(len(masks)):
        for rule in rules:
            out[i, rule] = _feasible(masks[i], rule, unknown[i], tables, ways)


@jit
def choose(masks, unknown, open_rules, key, tables, out):
    """Choose among each sample's open rules and complete its rows, uniformly; the rule or -1.

    out (n, 9) takes the mask (number) of each unknown panel for the governed unit.
    """
    ways = np.zeros(WAYS_SHAPE, np.int64)
    chosen = np.full(len(masks), -1, np.int64)
    for i in range(len(masks)):
        rules = np.flatnonzero(open_rules[i])
        if len(rules) == 0:
            continue
        state, step = start(key, i)
        state += step
        chosen[i] = rules[below(mix(state), len(rules))]
        unit, relation = unit_of(chosen[i])
        for row in range(3):
            known = _known(masks[i], unit, row, unknown[i])
            state += step
            pick = below(mix(state), count(unit, relation, known, tables, ways))
            sets = complete(unit, relation, known, tables, ways, pick)
            out[i, 3 * row], out[i, 3 * row + 1], out[i, 3 * row + 2] = sets
    return chosen
