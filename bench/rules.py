"""GenRAVEN at machine speed: generating, checking and indexing, beside the authors' own code.

rate is per second of wall time, the median of the repeats, with the least and the largest;
rate_cpu is per second of processor time (all threads), which other work on the machine disturbs
less, and the ratios compare these. published_rate is the authors' code per second of processor
time (arXiv 2411.07873, the public repository, measured once on one core). plain_rate is a checker
or an index written from the specification on Python sets and tuples (the functions below), in turn
with ours and with the same answers. Peaks of memory and growth are measured in processes of their
own, ``python -m bench.rules JOB N REPEATS``; growth counts processor time.
"""

from __future__ import annotations

import json
import operator
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assay.rules import genraven, memorisation, parallel
from bench import memory

Row = dict[str, Any]
Job = Callable[[], Any]
REPEATS = 5
SAMPLES, FEW = 200_000, 2_000  # of ours, of the plain reference
BLOCK = 1 << 16  # samples of a streamed block: memory does not grow with n
SOURCE = "authors' code (arXiv 2411.07873), one core, per second of processor time"
PUBLISHED = {"generate": 8_660, "check": 2_400, "build": 21_700, "query": 26_200}
ROOT = Path(__file__).parent.parent
PUBLISHED_MB = {"generate": 3_500, "check": 2_700}


def rows(done: Callable[[str], bool]) -> Iterator[Row]:
    """All measurements; growth goes to 10^8 rows (a minute)."""
    if not done("start-up"):
        yield from rates()
        yield from peaks()
        yield start_up()
    for power in range(4, 9):
        if not done(f"growth-1e{power}"):
            yield growth(10**power, REPEATS if power < 8 else 1)


# ---- rates ----------------------------------------------------------------------------------


def rates() -> Iterator[Row]:
    """Rows generated, samples checked, rows indexed and asked for, per second."""
    x, _ = genraven.generate(SAMPLES, seed=1)
    few, index = x[:FEW], memorisation.Index.build(x, threads=1)
    stored = plain_index(few)
    assert (plain_check(few) == genraven.check(few)).all(), "the plain checker disagrees"
    assert plain_query(few[:500], stored) == index.query(few[:500])["row"].tolist()
    for threads in range(1, min(2, parallel.cores()) + 1):
        yield _rate("generate", "rows", threads, lambda t=threads: _generate(t))
        job = lambda t=threads: genraven.check(x, threads=t)  # noqa: E731
        plain = (lambda: plain_check(few)) if threads == 1 else None
        yield _rate("check", "samples", threads, job, plain)
    build = lambda: memorisation.Index.build(x, threads=1).query(x[:1])  # noqa: E731
    yield _rate("build", "rows", 1, build, lambda: plain_index(few))
    query = lambda: index.query(x)  # noqa: E731
    yield _rate("query", "rows", 1, query, lambda: plain_query(few, stored))


def _generate(threads: int) -> None:
    genraven.generate(SAMPLES, seed=2, threads=threads)


def _rate(what: str, unit: str, threads: int, job: Job, plain: Job | None = None) -> Row:
    """A row of medians; ours and the plain reference in turn."""
    each = 3 if unit == "rows" else 1
    job()
    walls, cpus, others = [], [], []
    for _ in range(REPEATS):
        wall, cpu = _seconds(job)
        walls.append(each * SAMPLES / wall)
        cpus.append(each * SAMPLES / cpu)
        if plain:
            others.append(each * FEW / _seconds(plain)[1])
    rate, rate_cpu = statistics.median(walls), statistics.median(cpus)
    row = {
        "key": f"{what}-{threads}", "study": "rates", "what": f"{unit} per second, {what}",
        "threads": threads, "n": each * SAMPLES, "repeats": REPEATS, "rate": rate,
        "rate_min": min(walls), "rate_max": max(walls), "rate_cpu": rate_cpu,
        "cores_used": rate / rate_cpu, "published_rate": PUBLISHED[what],
        "published_source": SOURCE, "ratio_published": rate_cpu / PUBLISHED[what],
    }  # fmt: skip
    if plain:
        pairs = [ours / other for ours, other in zip(cpus, others, strict=True)]
        row |= {"plain_rate": statistics.median(others), "plain_n": each * FEW}
        row["ratio_plain"] = statistics.median(pairs)
    return row


def _seconds(job: Job) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


# ---- memory, start-up, growth ---------------------------------------------------------------


def peaks() -> Iterator[Row]:
    """Peak memory of each job on SAMPLES samples, and what it adds to the imports."""
    for what in PUBLISHED:
        found = _process(what, SAMPLES)
        yield {
            "key": f"peak-{what}", "study": "memory", "what": f"peak memory, {what}",
            "n": SAMPLES, **found, "beyond_mb": found["peak_mb"] - found["imports_mb"],
            "published_mb": PUBLISHED_MB.get(what), "published_source": SOURCE,
        }  # fmt: skip


def start_up() -> Row:
    """Seconds and memory that importing the rules adds to numpy and numba."""
    code = (
        "import time, numpy, numba; from bench.memory import peak_mb as peak; "
        "before, start = peak(), time.perf_counter(); import assay.rules.genraven; "
        "print(time.perf_counter() - start, peak() - before)"
    )
    _run(["-c", code])  # reads files that the others then find in memory
    found = [[float(v) for v in _run(["-c", code]).split()] for _ in range(REPEATS)]
    seconds, megabytes = zip(*found, strict=True)
    return {
        "key": "start-up", "study": "start-up", "what": "import beyond numpy and numba",
        "repeats": REPEATS, "seconds": statistics.median(seconds), "seconds_min": min(seconds),
        "seconds_max": max(seconds), "mb": statistics.median(megabytes),
        "published_seconds": 17, "published_mb": 2_700,
        "published_source": "import of the authors' checker, 17 to 21 s",
    }  # fmt: skip


def growth(n: int, repeats: int) -> Row:
    """n rows generated and checked in blocks, one thread, in a process of its own."""
    found = _process("growth", n, repeats)
    row: Row = {
        "key": f"growth-1e{len(str(n)) - 1}", "study": "growth",
        "what": "rows generated and checked, processor seconds", "n": n, "threads": 1,
        "repeats": repeats,
        "peak_mb": found["peak_mb"],
        "beyond_mb": found["peak_mb"] - found["imports_mb"],
    }  # fmt: skip
    for name in ("generate", "check"):
        times = found[name]
        row |= {f"{name}_seconds": statistics.median(times), f"{name}_min": min(times)}
        row |= {f"{name}_max": max(times), f"{name}_rate": n / statistics.median(times)}
    return row


def _process(job: str, n: int, repeats: int = 1) -> dict[str, Any]:
    return json.loads(_run(["-m", "bench.rules", job, str(n), str(repeats)]))


def _run(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def main(job: str, n: int, repeats: int) -> dict[str, Any]:
    """What a process of its own measures: peaks in MB, and for growth the seconds."""
    x = np.zeros((2, *genraven.generate(1)[0].shape[1:]), np.int8)
    memorisation.Index.build(x).query(x)  # compiled code is read before memory is counted
    genraven.check(x)
    found: dict[str, Any] = {"imports_mb": memory.peak_mb()}
    if job == "growth":
        times = [_grow(-(-n // 3)) for _ in range(repeats)]
        found |= {"generate": [t[0] for t in times], "check": [t[1] for t in times]}
    elif job == "generate":
        genraven.generate(n, threads=1)
    else:
        _stream(job, n)
    return found | {"peak_mb": memory.peak_mb()}


def _stream(job: str, n: int) -> None:
    """Check, index or look up n samples that come in blocks."""
    index = memorisation.Index(threads=1)
    for x in _blocks(n):
        if job == "check":
            genraven.check(x, threads=1)
        else:
            index.add(x)
    if job == "query":
        for x in _blocks(n):
            index.query(x)


def _grow(n: int) -> tuple[float, float]:
    """Processor seconds of generating and of checking n samples in blocks."""
    total, checked = time.process_time(), 0.0
    for x in _blocks(n):
        start = time.process_time()
        genraven.check(x, threads=1)
        checked += time.process_time() - start
    return time.process_time() - total - checked, checked


def _blocks(n: int) -> Iterator[np.ndarray]:
    for first in range(0, n, BLOCK):
        yield genraven.generate(min(BLOCK, n - first), first=first, threads=1)[0]


# ---- the specification in plain Python ------------------------------------------------------

STEPS = {-2: 1, -1: 2, 1: 3, 2: 4}
# (a, b) of triples that would satisfy two relations, and of a few more: no rule.
NO_SUM, NO_DIFFERENCE = {(1, 2), (2, 4)}, {(3, 2), (6, 4)}
NO_NUMBERS = {5: {(1, 1), (3, 6)}, 6: {(9, 6)}}
LOGIC = (operator.xor, operator.or_, operator.and_)


def single(a: int, b: int, c: int, number: bool) -> set[int]:
    """Relations 0-6 that three single values satisfy."""
    pair, held = (a, b), set()
    if a == b == c and 1 + number <= a <= 9 - number:
        held.add(0)
    if b - a == c - b and b - a in STEPS and pair not in NO_SUM | NO_DIFFERENCE:
        held.add(STEPS[b - a])
    if b and c == a + b and pair not in NO_SUM:
        held.add(5)
    if b and c == a - b and pair not in NO_DIFFERENCE:
        held.add(6)
    return {r for r in held if not (number and pair in NO_NUMBERS.get(r, ()))}


def logical(x1: set[int], x2: set[int], x3: set[int], union: int) -> set[int]:
    """Relations 7-9 that three sets satisfy."""
    if not x1 & x2 or x1 == x2 or len(x1 | x2) > union:
        return set()
    return {7 + k for k, third in enumerate(LOGIC) if x3 == third(x1, x2)}


FIRST = {
    (a, b)
    for a in range(1, 10)
    for b in range(1, 10)
    if any(single(a, b, c, True) for c in range(1, 10))
}


def plain_row(row: list[list[list[int]]]) -> set[int]:
    """Rules of one row of valid panels (3, 9, 3)."""
    cells = [{p for p in range(9) if panel[p][0] >= 0} for panel in row]
    rules: set[int] = set()
    for attribute, union in enumerate((6, 8, 8)):
        x1, x2, x3 = (
            {panel[p][attribute] for p in at} for panel, at in zip(row, cells, strict=True)
        )
        if len(x1) == len(x2) == len(x3) == 1:
            held = single(min(x1), min(x2), min(x3), False)
        else:
            held = logical(x1, x2, x3, union)
        rules |= {10 * attribute + r for r in held}
    n1, n2, n3 = (len(at) for at in cells)
    held = single(n1, n2, n3, True)
    if not held and (n1, n2) in FIRST:
        held = logical(cells[0], cells[1], cells[2], 9)
    return rules | {30 + r for r in held}


def plain_check(x: np.ndarray) -> np.ndarray:
    """As genraven.check, for panels without half-empty cells or values out of range."""
    ok = np.zeros((len(x), 3, 40), np.bool_)
    for i, sample in enumerate(x.tolist()):
        for r, row in enumerate(sample):
            ok[i, r, list(plain_row(row))] = True
    return ok


def _columns(x: np.ndarray) -> list[tuple[bytes, ...]]:
    """Of each row its nine cell columns (3 panels x 3 attributes of a position), sorted."""
    columns = x.reshape(-1, 3, 9, 3).transpose(0, 2, 1, 3).reshape(-1, 9, 9)
    return [tuple(sorted(c.tobytes() for c in row)) for row in columns]


def plain_index(x: np.ndarray) -> set[tuple[bytes, ...]]:
    """Rows in any order of their cells."""
    return set(_columns(x))


def plain_query(x: np.ndarray, stored: set[tuple[bytes, ...]]) -> list[list[bool]]:
    """Which rows are stored, as lists of three a sample."""
    found = [row in stored for row in _columns(x)]
    return [found[i : i + 3] for i in range(0, len(found), 3)]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
