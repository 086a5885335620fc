"""Progress on standard error: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
_FIRST_LINE, _EVERY = 2.0, 10.0  # seconds


class Advance(Protocol):
    """Callable that moves the bar on: advance(n=1, note="")."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


@contextmanager
def bar(label: str, total: float) -> Iterator[Advance]:
    """A bar over ``total`` units of work; silent where all is done within two seconds."""
    if sys.stderr.isatty():
        with _terminal(label, total) as advance:
            yield advance
    else:
        yield _Lines(label, total)


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """The items, with a bar that moves on after each."""
    with bar(label, total) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def _terminal(label: str, total: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed(),
        TextColumn("left"), Remaining(), TextColumn("[dim]{task.fields[note]}", markup=True),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        from rich.markup import escape

        task = progress.add_task(escape(label), total=total, note="")

        def advance(n: float = 1, note: str = "") -> None:
            progress.update(task, advance=n, note=escape(note))

        yield advance


class _Lines:
    """One plain line now and then."""

    def __init__(self, label: str, total: float):
        self.label, self.total, self.done = label, total, 0.0
        self.start = time.monotonic()
        self.next = self.start + _FIRST_LINE

    def __call__(self, n: float = 1, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + _EVERY
        text = f"{self.label}: {self.done:.4g} of {self.total:g}"
        if self.done > 0:
            left = (now - self.start) * (self.total - self.done) / self.done
            text += f", {left:.0f} s left"
        print(f"{text}  {note}".rstrip(), file=sys.stderr, flush=True)
