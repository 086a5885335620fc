"""GenRAVEN: forty abstract rules."""

from __future__ import annotations

from typing import NamedTuple

ATTRIBUTES = ("shape", "size", "colour", "number", "position")
RELATIONS = (
    "constant",
    "progression -2",
    "progression -1",
    "progression +1",
    "progression +2",
    "arithmetic +",
    "arithmetic -",
    "XOR",
    "OR",
    "AND",
)


class Rule(NamedTuple):
    """A relation that governs one attribute in all three rows; ``name`` reads "size XOR"."""

    id: int
    name: str
    attribute: str
    relation: str


def _rules() -> tuple[Rule, ...]:
    pairs = [(a, r) for a in ATTRIBUTES[:3] for r in RELATIONS]
    pairs += [("number", r) for r in RELATIONS[:7]] + [("position", r) for r in RELATIONS[7:]]
    return tuple(Rule(i, f"{a} {r}", a, r) for i, (a, r) in enumerate(pairs))


RULES = _rules()

SPLITS = (
    (1, 16, 20, 34, 37),
    (8, 12, 24, 36, 39),
    (5, 17, 21, 33, 38),
    (3, 10, 29, 31, 37),
    (0, 14, 27, 35, 38),
    (4, 19, 26, 30, 39),
    (9, 13, 25, 32, 37),
    (2, 18, 23, 30, 38),
    (7, 15, 22, 34, 39),
    (6, 11, 28, 33, 37),
)


class Benchmark(NamedTuple):
    """Rules that make up a benchmark, and those of them held out of training."""

    rules: tuple[int, ...]
    held_out: tuple[int, ...]


MINI = Benchmark(rules=tuple(range(30, 40)), held_out=(34, 37))
