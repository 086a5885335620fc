"""Runs a function over consecutive spans of an index range, on as many threads as there are cores.

The functions meant are compiled and release the interpreter lock; each span writes to its own part
of an array made beforehand, so results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

SPAN = 1 << 14


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over(n: int, run: Callable[[int, int], object], threads: int | None = None) -> None:
    """Call ``run(start, stop)`` on spans that cover 0..n-1; threads: cores unless given.

    The first span runs alone, so that one thread compiles. ValueError unless threads >= 1.
    """
    if threads is not None and threads < 1:
        raise ValueError(
            f"threads must be at least 1, got {threads}; leave it out to use all cores"
        )
    starts = list(range(0, n, SPAN))
    run(0, min(SPAN, n))
    workers = min(threads or cores(), len(starts) - 1)
    if workers <= 1:
        for start in starts[1:]:
            run(start, min(start + SPAN, n))
        return
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(run, start, min(start + SPAN, n)) for start in starts[1:]]:
            future.result()
