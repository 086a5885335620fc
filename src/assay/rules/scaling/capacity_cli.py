"""``assay rules capacity-rule``: bits in the data against parameters, put to the test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

_FLAG = Parameter(negative=())


def capacity_rule(studies: list[Path], /, *, json: Annotated[bool, _FLAG] = False) -> None:
    """Say whether bits in the data against parameters predict where memorising ends.

    For each model: the samples per rule between which its copies fall to the natural overlap
    and its novel-C3 rises, and where 2 and 3.6 bits a parameter put them.
    Example: assay rules capacity-rule out/scaling-mini

    Parameters
    ----------
    studies
        Folders that `assay rules scale` has written, on genraven-mini.
    json
        JSON rows on standard output.
    """
    from assay import runs, terminal
    from assay.rules.scaling import capacity, early_answer

    rows = [row for path in studies for row in early_answer.study_rows(path)]
    told = capacity.rows(rows)
    for row in told:
        if row["part"] == "capacity_said":
            raise ValueError(row["said"])
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in told)
        return
    terminal.show(_models(told), _rules(told))


def _models(told: list[dict[str, Any]]) -> Any:
    from assay import terminal
    from assay.rules import tables

    first = next(row for row in told if row["part"] == "capacity")
    title = f"samples per rule; a sample of {first['model']} has {first['sample_bits']:.2f} bits"
    titles = ("model", "parameters", "copies end", "bits a parameter", "novel-C3 rises",
              "at 2 bits", "at 3.6 bits", "held at most")  # fmt: skip
    table = terminal.table(title, *titles)
    for row in told:
        if row["part"] == "capacity":
            held = row["held_per_parameter"]
            table.add_row(
                row["model"], tables.count(row["parameters"]), _bracket(row, "copies", ",.0f"),
                _bracket(row, "kappa_copies", ".2g"), _bracket(row, "novel", ",.0f"),
                f"{row['predicted_2']:,.0f}", f"{row['predicted_3.6']:,.0f}",
                "-" if held is None else f"{held:.2g}",
            )  # fmt: skip
    return table


def _bracket(row: dict[str, Any], name: str, form: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None and high is None:
        return "-"
    if low is None:
        return f"below {high:{form}}"
    return f"above {low:{form}}" if high is None else f"{low:{form}} to {high:{form}}"


def _rules(told: list[dict[str, Any]]) -> Any:
    from assay import terminal

    table = terminal.table("what orders configurations, and predicts models left out", "threshold",
                         "rule", "rank correlation", "n", "prediction", left=2)  # fmt: skip
    for row in told:
        if row["part"] == "capacity_fit":
            r = row["spearman"]
            ends = (
                "" if r is None else f"({row['spearman_low']:.2f} to {row['spearman_high']:.2f})"
            )
            said = "-" if r is None else f"{r:.2f} {ends}"
            table.add_row(row["threshold"], row["rule"], said, str(row["n"]), row["said"])
    return table
