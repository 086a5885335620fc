"""Which section draws which kind of Run, and the page of a folder."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from assay import runs
from assay.report.page import Section, Table, write

# Kind of Run -> module under sections/, in the order of the page.
SECTIONS = {
    "guidance.sweep": "sweep",
    "guidance.digits": "digits",
    "guidance.dynamics": "dynamics",
    "guidance.rates": "rates",
    "guidance.error": "error",
    "guidance.samplers": "samplers",
    "guidance.peers": "peers",
    "rules.examples": "rules",
}
TITLE = "assay: what guidance does, and which rules are learned"


def write_report(folder: str | os.PathLike[str], title: str = TITLE) -> Path:
    """Write FOLDER/report.html from the Runs there; returns its path.

    ValueError where there is no Run, or none has a row yet.
    """
    found = [run for run in runs.find(folder) if run.rows]
    if not found:
        raise ValueError(f"{folder}: its Runs hold no rows yet; finish the job first")
    found.sort(key=_order)
    sections = [s for run in found for s in sections_of(run)]
    return write(Path(folder) / "report.html", title, sections, found[0].env)


def sections_of(run: runs.Run) -> Sequence[Section]:
    """The sections of one Run: its kind's, or a plain table where the kind has none."""
    module = SECTIONS.get(str(run.config.get("kind")))
    if module is None:
        return [_plain(run)]
    return importlib.import_module(f"assay.report.sections.{module}").sections(run)


def _order(run: runs.Run) -> tuple[int, str]:
    kinds = list(SECTIONS)
    kind = str(run.config.get("kind"))
    return (kinds.index(kind) if kind in kinds else len(kinds), run.path.name)


def _plain(run: runs.Run) -> Section:
    names = list(dict.fromkeys(name for row in run.rows for name in row))
    rows = [[_cell(row.get(name)) for name in names] for row in run.rows]
    return Section(run.path.name, run.path.name, "", blocks=(Table(names, rows),))


def _cell(value: object) -> object:
    return value if isinstance(value, (int, float, str)) or value is None else runs.dumps(value)
