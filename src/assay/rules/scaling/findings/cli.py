"""``assay rules findings``: what the paper says, tested on studies of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

_FLAG = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn from checkpoints."""

    n: int = 1000
    """Samples of each model and way of drawing."""
    n_complete: int = 2000
    """Completions of each model and way of completing."""
    seed: int = 0
    """Of what is drawn."""
    rows_only: Annotated[bool, _FLAG] = False
    """Draw nothing: only what the studies' rows say."""


def findings(
    studies: list[Path],
    /,
    *,
    out: Path,
    drawn: Drawn | None = None,
    json: Annotated[bool, _FLAG] = False,
) -> Path:
    """Test what was published of these models on scaling studies: holds, or does not, or unclear.

    Each finding is a group of rows: figures with intervals, then a verdict in one sentence. What
    a study does not contain is left out and said so. Resumable; a study that has grown is tested
    again. Example: assay rules findings out/scaling-mini out/heads --out out/findings

    Parameters
    ----------
    studies
        Folders that `assay rules scale` has written, with their jobs.
    out
        Folder of the Run; its report.html has a picture for each finding.
    json
        Rows of the findings on standard output, one JSON object a line, instead of a table.
    """
    from assay import runs, terminal
    from assay.rules.scaling.findings import study
    from assay.rules.scaling.findings.drawing import FindingsConfig

    asked = drawn or Drawn()
    for flag in ("n", "n_complete"):
        if getattr(asked, flag) < 16:
            raise ValueError(
                f"--{flag.replace('_', '-')} must be 16 or more, got {getattr(asked, flag)}"
            )
    names = tuple(path.resolve().name for path in studies)
    config = FindingsConfig(
        studies=names, command=f"assay rules findings {' '.join(names)} --out {out.name}",
        draw=not asked.rows_only, n=asked.n, n_complete=asked.n_complete, seed=asked.seed,
    )  # fmt: skip
    rows = study.findings(studies, out, config)
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in rows)
    else:
        for line in _lines(rows):
            terminal.show(line)
    return out


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The verdict on each claim, and why; model by model it stands in the rows and the page."""
    said = ""
    for row in rows:
        if row["part"] != "evidence" and row.get("model") is None:
            if row["title"] != said:
                yield f"{row['title']}?"
            said = row["title"]
            yield f"  {row['verdict']}: {row['said']}"
