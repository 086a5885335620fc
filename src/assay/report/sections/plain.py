"""A Run of a kind that has no section of its own: its rows as a table."""

from __future__ import annotations

from typing import Any

from assay.report import text
from assay.report.blocks import Finding, Section, Table
from assay.runs import Run, dumps


def sections(run: Run) -> list[Section]:
    """The rows as they are."""
    names = list(dict.fromkeys(name for row in run.rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in run.rows]
    kind = str(run.config.get("kind") or "no kind")
    lead = f"Rows of a Run of kind {kind}, as they are."
    table = Table(names, cells)
    return [Section(f"rows-{run.path.name}", run.path.name, lead, blocks=[table])]


def findings(run: Run) -> list[Finding]:
    """Nothing is known about such rows."""
    return []


def _cell(value: Any) -> Any:
    return (
        value
        if isinstance(value, (int, float, str)) or value is None
        else text.number(dumps(value))
    )
