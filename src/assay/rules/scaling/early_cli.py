"""``assay rules warn``: will this training collapse, by the first fifth of it?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

FIFTH = 0.2  # of the steps
_FLAG = Parameter(negative=())


def warn(
    studies: list[Path],
    /,
    *,
    run: Path | None = None,
    outcome: Literal["collapse", "poor", "memorised"] = "collapse",
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Forecast a training's collapse from its first fifth, or say how well that can be done.

    Without --run: the AUROC of early signals over the trainings of the studies,
    cross-validated, beside what is known beforehand. With it: the probability that this
    training collapses, and what speaks for it.
    Example: assay rules warn out/scaling-mini --run out/new/jobs/edm-tiny.n100.mini.seed7

    Parameters
    ----------
    studies
        Folders that `assay rules scale` has written: the evidence.
    run
        Folder of a training with probes, STUDY/jobs/JOB, finished or not; or a whole study.
    outcome
        What --run forecasts: collapse, or one half of it: novel-C3 ends low (poor), copies
        above nature or a rising validation loss (memorised).
    json
        JSON rows on standard output.
    """
    from assay import progress, runs, terminal
    from assay.rules.scaling import early, early_answer

    rows = [row for path in studies for row in early_answer.study_rows(path)]
    if run is not None:
        asked = early_answer.read(run)
        bar = progress.track(asked, "early warnings", len(asked))
        found = [early_answer.answer(rows, one, outcome) for one in bar]
        if json:
            sys.stdout.writelines(runs.dumps(one.row()) + "\n" for one in found)
        else:
            terminal.show(*(one.said() for one in found))
        return
    with progress.bar("early warnings: fits", 1) as advance:
        told = early.rows(rows)
        advance(1)
    if not any(row["part"] == "warning" for row in told):
        raise ValueError(next(row["said"] for row in told if "said" in row))
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in told)
        return
    terminal.show(*_tables(told), *_notes(told))


def _tables(told: list[dict[str, Any]]) -> list[Any]:
    """AUROCs of predictors left out in three ways, then of single signals."""
    from assay import terminal

    titles = ("AUROC", "within sizes", "within models")
    fitted = terminal.table("forecast from the first fifth, cross-validated", "outcome",
                          "predictor", "left out", *titles, left=3)  # fmt: skip
    single = terminal.table("signals by themselves", "outcome", "signal", *titles, left=2)
    for row in told:
        cells = [_cell(row, name) for name in ("auroc", "within_size", "within_model")]
        if row["part"] == "warning" and row["share"] == FIFTH:
            predictor = row["predictor"].replace("_", " ")
            fitted.add_row(row["definition"], predictor, row["scheme"], *cells)
        elif row["part"] == "warning_signal":
            single.add_row(row["definition"], row["signal"], *cells)
    return [fitted, single]


def _cell(row: dict[str, Any], name: str) -> str:
    if row.get(name) is None:
        return "-"
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}-{row[f'{name}_high']:.2f})"


def _notes(told: list[dict[str, Any]]) -> list[str]:
    """n and base rate of each outcome, how early it is known, what lacks evidence."""
    notes = []
    for row in told:
        if row["part"] in ("warning_said", "warning_lacking"):
            notes.append(row["said"])
        if row["part"] != "warning" or (row["predictor"], row["scheme"]) != ("signals", "cell"):
            continue
        if row["share"] == FIFTH:
            notes.append(
                f"{row['definition']}: {row['n_events']} of {row['n']} trainings "
                f"({row['n_cells']} configurations, which the 95 % intervals count)"
            )
        else:
            said = f"{row['definition']} by {row['share']:.0%} of the steps"
            notes.append(f"{said}: AUROC {_cell(row, 'auroc')}")
    return notes
