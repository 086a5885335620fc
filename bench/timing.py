"""Times in turn, A B A B ..., so that a ratio holds when the machine's speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def seconds(job: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call, wall time unless another clock is given."""
    start = clock()
    job()
    return clock() - start


def paired(
    jobs: dict[str, Callable[[], Any]],
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times of each job by the clock, the jobs in turn, after one uncounted call of each."""
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            times[name].append(seconds(job, clock))
    return times


def median_ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over the rounds of slow / fast."""
    pairs = zip(times[slow], times[fast], strict=True)
    return statistics.median(a / b for a, b in pairs)
