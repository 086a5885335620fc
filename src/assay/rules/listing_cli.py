"""``assay rules recipes | models | compare``: what there is, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

_FLAG = Parameter(negative=())


def recipes(*, names: Annotated[bool, _FLAG] = False) -> None:
    """List the recipes that `assay rules train` knows.

    Example: assay rules recipes

    Parameters
    ----------
    names
        Names only, one a line.
    """
    from assay import terminal
    from assay.rules import recipes as known

    if names:
        _lines(known.NAMES)
        return
    table = terminal.table("recipes", "recipe", "family", "what it is", left=3)
    for name in known.NAMES:
        make = known.RECIPES[name.rpartition("-")[0]][0]
        words = (make.__doc__ or "").strip().splitlines() or [""]
        table.add_row(name, known.get(name).family, words[0].rstrip("."))
    terminal.show(table)


def models(*, names: Annotated[bool, _FLAG] = False) -> None:
    """List the shipped models with what was measured on their files.

    Example: assay rules models

    Parameters
    ----------
    names
        Names only, one a line.
    """
    from assay.rules import modelfile, shipping

    if names:
        _lines(shipping.names())
        return
    from assay import terminal
    from assay.rules import tables

    table = terminal.table(
        "shipped models: shares and 95 % intervals; samples at T = 1, completion of trained rules",
        "name", "family", "parameters", "samples", "C3", "novel-C3", "completion",
        left=2,
    )  # fmt: skip
    for name in shipping.names():
        said = modelfile.about(shipping.FOLDER / f"{name}.json")
        rows = tables.by_key(said["rows"])
        drawn, filled = rows.get(tables.UNCONDITIONAL), rows.get(tables.COMPLETION)
        table.add_row(
            terminal.escape(name),
            said["recipe"]["family"],
            tables.count(said["parameters"]),
            tables.count(said["samples_seen"]),
            tables.stacked(tables.triple(drawn, "c3")),
            tables.stacked(tables.triple(drawn, "novel_c3")),
            tables.stacked(tables.triple(filled, "trained")),
        )
    terminal.show(table if table.row_count else "no model is shipped with this version")


def compare(first: str, /, *others: str, out: Path | None = None) -> None:
    """Set the evaluations of models side by side, as a table and as a picture.

    Example: assay rules compare out/tiny out/other --out compare.html

    Parameters
    ----------
    first
        An evaluated training Run, an evaluation's folder, a shipped model or its file.
    others
        More of them.
    out
        Picture to write: .html (self-contained, with the table), .svg or .png.
    """
    from assay import terminal
    from assay.rules import compare as comparing

    if out is not None and out.suffix.lower() not in comparing.ENDINGS:
        raise ValueError(f"--out {out}: a comparison ends in {', '.join(comparing.ENDINGS)}")
    results = [comparing.read(source) for source in (first, *others)]
    terminal.show(*comparing.tables(results))
    if out is not None:
        terminal.show(f"picture: {comparing.save(out, results)}")


def _lines(names: Iterable[str]) -> None:
    sys.stdout.writelines(f"{name}\n" for name in names)
