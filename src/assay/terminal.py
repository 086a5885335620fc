"""What the terminal shows: tables of figures and lines; what a user said is never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def table(title: str, *columns: str, left: int = 1) -> Table:
    """An empty table; all but the first ``left`` columns are set to the right."""
    made = Table(
        title=escape(title) if title else None,
        title_justify="left",
        title_style="bold",
        padding=(0, 0, 0, 1),
        box=box.SIMPLE_HEAD,
    )
    for i, column in enumerate(columns):
        side = "left" if i < left or not column else "right"
        made.add_column(column, justify=side, overflow="fold")
    return made


def of_rows(
    title: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Mapping[str, Any]],
    left: int = 1,
    digits: int = 3,
) -> Table:
    """A table of rows of figures; columns: (name in the row, head)."""
    made = table(title, *(head for _, head in columns), left=left)
    for row in rows:
        made.add_row(*(escape(cell(row.get(name), digits)) for name, _ in columns))
    return made


def cell(value: Any, digits: int = 3) -> str:
    """A figure with so many digits; "-" for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show(*parts: Table | str) -> None:
    """Print tables and lines on standard output."""
    console = Console()
    for part in parts:
        soft = isinstance(part, str)
        console.print(escape(part) if soft else part, highlight=False, soft_wrap=soft)
