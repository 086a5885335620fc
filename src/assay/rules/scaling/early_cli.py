"""``assay rules warn``: will this training collapse, by the first fifth of it?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

_FLAG = Parameter(negative=())


def warn(
    studies: list[Path],
    /,
    *,
    run: Path | None = None,
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
    json
        JSON rows on standard output.
    """
    from assay import progress, runs
    from assay.rules import tables
    from assay.rules.scaling import early, early_answer

    rows = [row for path in studies for row in early_answer.study_rows(path)]
    if run is not None:
        asked = early_answer.read(run)
        bar = progress.track(asked, "early warnings", len(asked))
        found = [early_answer.answer(rows, one) for one in bar]
        if json:
            sys.stdout.writelines(runs.dumps(one.row()) + "\n" for one in found)
        else:
            tables.show(*(one.said() for one in found))
        return
    early.evidence(rows)
    with progress.bar("early warnings: fits", 1) as advance:
        told = early.rows(rows)
        advance(1)
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in told)
        return
    tables.show(*_tables(told), *_notes(told))


def _tables(told: list[dict[str, Any]]) -> list[Any]:
    """AUROCs of predictors left out in three ways, then of single signals."""
    from assay.rules import tables

    titles = ("predictor", "left out", "AUROC", "within sizes", "within models")
    fitted = tables.table("collapse forecast from the first fifth, cross-validated", *titles)
    single = tables.table("signals by themselves", "signal", *titles[2:])
    for row in told:
        cells = [_cell(row, name) for name in ("auroc", "within_size", "within_model")]
        if row["part"] == "warning" and row["definition"] == "collapse" and row["share"] == 0.2:
            fitted.add_row(row["predictor"].replace("_", " "), row["scheme"], *cells)
        elif row["part"] == "warning_signal" and row["definition"] == "collapse":
            single.add_row(row["signal"], *cells)
    return [fitted, single]


def _cell(row: dict[str, Any], name: str) -> str:
    if row.get(name) is None:
        return "-"
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}-{row[f'{name}_high']:.2f})"


def _notes(told: list[dict[str, Any]]) -> list[str]:
    """n, base rate, other definitions, other moments."""
    main = {
        (row["definition"], row["share"]): row for row in told
        if row["part"] == "warning" and row["predictor"] == "signals" and row["scheme"] == "cell"
    }  # fmt: skip
    first = main["collapse", 0.2]
    notes = [
        f"{first['n']} trainings of {first['n_cells']} configurations, "
        f"{first['n_events']} collapsed; 95 % intervals count configurations"
    ]
    for (definition, share), row in main.items():
        if (definition, share) != ("collapse", 0.2):
            notes.append(
                f"{definition} ({row['base_rate']:.0%} of {row['n']}) by {share:.0%} of the "
                f"steps: AUROC {_cell(row, 'auroc')}"
            )
    return notes
