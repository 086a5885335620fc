"""GenRAVEN: forty abstract rules, their rows of panels drawn at will and checked exactly.

A sample has 3 rows x 3 panels x 9 positions x 3 attributes (shape 0..6, size 0..9, colour 0..9;
-1 in all three: an empty position). One rule, a relation on one attribute, governs all three rows;
everything else obeys no rule. ``generate`` and ``check`` read the same relations, so ground truth
has C3 = 1, C2 = 0 and AnyValid = 1:

    C3        share of samples where some rule holds in all three rows,
    C2        share where some rule holds in exactly two (a sample may count in both),
    AnyValid  share of rows that obey some rule.

Sample i depends on the seed, on i and on the set of rules alone. ``LAW_VERSION`` grows whenever
what a seed gives changes.

Source: Wang, Shang, Sompolinsky, "Diverse capability and scaling of diffusion and auto-regressive
models when learning abstract rules", 2024, arXiv 2411.07873.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from assay.rules import checker, parallel, sampler, streams
from assay.rules.relations import TABLES

LAW_VERSION = 1

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


class Benchmark(NamedTuple):
    """Rules that make up a benchmark, and those of them held out of training."""

    rules: tuple[int, ...]
    held_out: tuple[int, ...]


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

MINI = Benchmark(rules=tuple(range(30, 40)), held_out=(34, 37))


def select(
    attributes: Iterable[str] = ATTRIBUTES, relations: Iterable[str] = RELATIONS
) -> tuple[int, ...]:
    """Ids of the rules on any of these attributes by any of these relations, ascending.

    ValueError for an unknown name or where no rule is left.
    """
    wanted = tuple(attributes), tuple(relations)
    for name, given, known in zip(
        ("attributes", "relations"), wanted, (ATTRIBUTES, RELATIONS), strict=True
    ):
        if unknown := [entry for entry in given if entry not in known]:
            raise ValueError(f"{name} has no {unknown[0]!r}; choose from {', '.join(known)}")
    ids = tuple(r.id for r in RULES if r.attribute in wanted[0] and r.relation in wanted[1])
    if not ids:
        raise ValueError("attributes and relations leave no rule; number has constant to "
                         "arithmetic -, position has XOR, OR, AND")  # fmt: skip
    return ids


def trained(split: int) -> tuple[int, ...]:
    """The rules that a held-out split 0..9 leaves for training. ValueError for another split."""
    if split not in range(len(SPLITS)):
        raise ValueError(f"split must be 0 to {len(SPLITS) - 1}, got {split!r}")
    return tuple(rule.id for rule in RULES if rule.id not in SPLITS[split])


def _sorted_rules(rules: Iterable[int]) -> np.ndarray:
    try:
        ids = sorted(operator.index(rule) for rule in rules)
    except TypeError:
        raise ValueError(f"rules must be integers, got {rules!r}") from None
    if not ids:
        raise ValueError("rules is empty; name at least one of 0..39")
    if ids[0] < 0 or ids[-1] >= len(RULES):
        wrong = ids[0] if ids[0] < 0 else ids[-1]
        raise ValueError(f"rules holds {wrong}; rule ids are 0..39")
    if len(set(ids)) < len(ids):
        raise ValueError(f"rules holds duplicates: {ids}; name each rule once")
    return np.array(ids, np.int64)


def _count(name: str, value: int, least: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if not least <= count < 1 << 62:
        raise ValueError(f"{name} must be at least {least} and below 2^62, got {count}")
    return count


def generate(
    n: int,
    rules: Iterable[int] = range(40),
    seed: int = 0,
    *,
    first: int = 0,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Samples first .. first + n - 1 of a seed, each of a rule uniform over ``rules``.

    Returns int8 (n, 3 rows, 3 panels, 9 positions, 3 attributes) and int64 (n,) rule ids. The
    order of the rules does not matter; neither does the number of threads (cores unless given).
    ValueError for n or first below 0, a seed outside 0..2^64-1, rules that are empty, unknown or
    named twice, threads below 1.
    """
    n, first = _count("n", n, 0), _count("first", first, 0)
    ids, key = _sorted_rules(rules), streams.key(seed)
    x = np.empty((n, *checker.SAMPLE_SHAPE), np.int8)
    labels = np.empty(n, np.int64)

    def run(start: int, stop: int) -> None:
        sampler.fill_samples(x[start:stop], labels[start:stop], first + start, key, ids, TABLES)

    parallel.over(n, run, threads)
    return x, labels


def stream(
    batch: int, rules: Iterable[int] = range(40), seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sequence of ``generate`` in batches (x, y) of ``batch`` samples, without end.

    ValueError, at the call, for a batch below 1 and as ``generate``.
    """
    batch = _count("batch", batch, 1)
    ids = _sorted_rules(rules).tolist()
    streams.key(seed)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first = 0
        while True:
            yield generate(batch, ids, seed, first=first)
            first += batch

    return batches()


def check(x: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Which rules hold in which rows: integers (n, 3, 3, 9, 3) -> bool (n, 3 rows, 40 rules).

    A cell with -1 in any attribute is empty, and a row with an empty panel obeys nothing; a panel
    with another value out of range obeys no rule of that attribute. Never raises for values;
    ValueError for another shape or a type that is not integer.
    """
    return checker.check(x, threads)


def _interval(estimate: Any, low: Any, high: Any) -> dict[str, float | None]:
    return {
        "estimate": None if estimate is None else float(estimate),
        "low": float(low),
        "high": float(high),
    }


def summary(ok: np.ndarray, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """C3, C2, AnyValid and each rule's share of samples, with intervals, from ``check``'s answer.

    ok: bool (n, 3, 40). Returns {"n": n, "c3": I, "c2": I, "any_valid": I, "per_rule": {name: I}}
    with I = {"estimate", "low", "high"}; per_rule holds, for each of the 40 rules in order, the
    share of the n samples that obey it in all three rows. Wilson intervals, but for AnyValid the
    bootstrap over samples (the rows of a sample depend on each other), which draws from ``seed``.
    Without samples each estimate is None and its interval [0, 1]. ValueError for another shape or
    type, or a level outside (0, 1).
    """
    from assay.core import intervals

    ok = np.asarray(ok)
    if ok.dtype != np.bool_ or ok.ndim != 3 or ok.shape[1:] != (3, len(RULES)):
        raise ValueError(
            f"ok must be bool (n, 3, 40), as check returns it, got {ok.dtype} {ok.shape}"
        )
    tally = _tally(ok)
    n = len(ok)

    def share(k: int) -> dict[str, float | None]:
        return _interval(k / n if n else None, *intervals.wilson(int(k), n, level))

    any_valid = _interval(None, 0, 1)
    if n:
        rng = np.random.default_rng(seed)
        thirds = np.arange(4) / 3
        any_valid = _interval(
            *intervals.bootstrap_counts(thirds, tally.valid_rows, level=level, rng=rng)
        )
    return {
        "n": n,
        "c3": share(tally.c3),
        "c2": share(tally.c2),
        "any_valid": any_valid,
        "per_rule": {rule.name: share(tally.per_rule[rule.id]) for rule in RULES},
    }


class _Tally(NamedTuple):
    c3: int
    c2: int
    valid_rows: np.ndarray
    per_rule: np.ndarray


def _tally(ok: np.ndarray) -> _Tally:
    c3 = c2 = 0
    valid_rows, per_rule = np.zeros(4, np.int64), np.zeros(len(RULES), np.int64)
    for start in range(0, len(ok), parallel.SPAN):
        rows = ok[start : start + parallel.SPAN].view(np.uint8)
        times = rows[:, 0] + rows[:, 1] + rows[:, 2]
        c3 += int((times == 3).any(axis=1).sum())
        c2 += int((times == 2).any(axis=1).sum())
        per_rule += (times == 3).sum(axis=0)
        valid_rows += np.bincount(rows.any(axis=2).sum(axis=1), minlength=4)
    return _Tally(c3, c2, valid_rows, per_rule)
