"""Bits of a training set of genraven-mini, exactly, from the law of its generator.

A sample of rules R shows three independent rows of one rule, occupied cells alone, and a row
tells its rule. So a sample has

    H = log2 |R| + 3 / |R| sum_(r in R) H(row | r)      bits,

and n of them, whose order carries nothing, n H - log2 n!. Rows (`sampler`):

position rules (37-39)   uniform over the rule's table: H = log2 of its length.
number rules (30-36)     numbers (n1, n2, n3) uniform over the rule's triples; a third number e
    uniform over those of kept position rows that begin (n1, n2); the cells s that panels 1 and 2
    share as in a row uniform over those with numbers (n1, n2, e); panels 1 and 2 uniform given s;
    panel 3 a uniform n3-subset, which never completes a relation, as (n1, n2, n3) is a number
    triple. Sets tell n1, n2, n3 and s, so by the chain rule

    H = log2 T + mean over triples [ H(s | n1, n2) + sum_s p(s) log2 C(9, n1) C(n1, s)
        C(9 - n1, n2 - s) + log2 C(9, n3) ].

Attributes are not counted: models of genraven-mini see occupancy alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from assay.rules import genraven, relations

_SETS = (relations.XOR, relations.OR, relations.AND)
_FIRST_NUMBER, _FIRST_POSITION = 30, 37


def sample_bits(rules: Iterable[int]) -> float:
    """Bits of a sample of these rules, each as likely. ValueError for rules outside 30..39."""
    rules = sorted(set(rules))
    wrong = [rule for rule in rules if rule not in genraven.MINI.rules]
    if wrong or not rules:
        raise ValueError(f"bits are known for rules 30 to 39 (occupancy alone), got {rules}")
    return math.log2(len(rules)) + 3 * sum(row_bits(rule) for rule in rules) / len(rules)


def set_bits(n: float, per_sample: float) -> float:
    """Bits of n samples in any order: n H - log2 n!; 0 at least."""
    return max(0.0, n * per_sample - math.lgamma(n + 1) / math.log(2))


def samples_for(bits: float, per_sample: float) -> float | None:
    """How many samples have so many bits; None where no number has (order outweighs them)."""
    low, high = 0.0, 2.0**per_sample / math.e  # set_bits rises up to about 2^H samples
    if set_bits(high, per_sample) < bits:
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if set_bits(middle, per_sample) < bits else (low, middle)
    return high


@functools.cache
def row_bits(rule: int) -> float:
    """Bits of a row of a rule 30..39, occupied cells alone."""
    if rule >= _FIRST_POSITION:
        return math.log2(_table_length(rule - _FIRST_NUMBER))
    triples = relations.triples(relations.NUMBER)[rule - _FIRST_NUMBER]
    each = [_pair_bits(a, b) + math.log2(math.comb(9, c)) for a, b, c in triples]
    return math.log2(len(triples)) + sum(each) / len(triples)


def shared_law(n1: int, n2: int) -> dict[int, float]:
    """p(s): cells that panels 1 and 2 of a number rule's row share."""
    thirds = [n3 for n3 in range(1, 10) if _kept(n1, n2, n3) and sum(_orbits(n1, n2, n3).values())]
    law: dict[int, float] = {}
    for third in thirds:
        orbits = _orbits(n1, n2, third)
        for shared, rows in orbits.items():
            law[shared] = law.get(shared, 0) + rows / sum(orbits.values()) / len(thirds)
    return law


def _pair_bits(n1: int, n2: int) -> float:
    """H(s) and the bits of panels 1 and 2 given it."""
    law = shared_law(n1, n2)
    return sum(p * (math.log2(_pairs(n1, n2, s)) - math.log2(p)) for s, p in law.items())


def _table_length(relation: int) -> int:
    """Rows of a position rule: the sum of its orbits over the numbers that are kept."""
    total = 0
    for n1 in range(1, 10):
        for n2 in range(1, 10):
            for n3 in range(1, 10):
                shared = relations.overlap.py_func(relation, n1, n2, n3)
                if shared and _kept(n1, n2, n3):
                    total += _pairs(n1, n2, shared)
    return total


def _orbits(n1: int, n2: int, n3: int) -> dict[int, int]:
    """Rows of the three position rules with these numbers, by the cells panels 1 and 2 share."""
    found: dict[int, int] = {}
    for relation in _SETS:
        shared = relations.overlap.py_func(relation, n1, n2, n3)
        if shared:
            found[shared] = found.get(shared, 0) + _pairs(n1, n2, shared)
    return found


def _pairs(n1: int, n2: int, shared: int) -> int:
    """Pairs of sets of n1 and n2 of 9 cells that share so many."""
    return math.comb(9, n1) * math.comb(n1, shared) * math.comb(9 - n1, n2 - shared)


@functools.cache
def _ends() -> dict[tuple[int, int], set[int]]:
    """The third numbers of number triples by their first pair."""
    found: dict[tuple[int, int], set[int]] = {}
    for table in relations.triples(relations.NUMBER):
        for a, b, c in table:
            found.setdefault((a, b), set()).add(c)
    return found


def _kept(n1: int, n2: int, n3: int) -> bool:
    """Whether position rows of these numbers are kept (`relations.position_filter`)."""
    return (n1, n2) in _ends() and n3 not in _ends()[n1, n2]
