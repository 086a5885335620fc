"""``python -m bench --out DIR``: every measurement as a row of a Run; resumable.

Each study is a module with rows() -> rows with a "key". Times are medians of runs in turn;
quote the ratios, and rows of one Run only.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from cyclopts import App

from assay import progress
from assay.runs import Run

STUDIES = ("exact", "ode", "cost", "rules", "models", "completion")
app = App(name="bench", help="Side-by-side measurements, saved as rows of a Run.")


@app.default
def bench(*, out: Path = Path("out/bench"), only: str = ",".join(STUDIES)) -> None:
    """Measure, print and save.

    Parameters
    ----------
    out
        Folder of the Runs, one a study (created; rows that are there are not measured again).
    only
        Comma list of the studies to run.
    """
    names = [name for name in only.split(",") if name]
    unknown = sorted(set(names) - set(STUDIES))
    if unknown or not names:
        raise SystemExit(f"bench: only={only!r}: choose from {', '.join(STUDIES)}")
    with progress.bar("bench", len(names)) as advance:
        for name in names:
            _run(name, out / name)
            advance(1, name)


def _run(name: str, folder: Path) -> None:
    """One study; each row is saved as it is measured, and measured once."""
    study = importlib.import_module(f"bench.{name}")
    with Run.open(folder, {"kind": f"bench.{name}"}) as run:
        for row in study.rows(run.done):
            if not run.done(row["key"]):
                run.append(_shown(row))
    print(f"rows: {folder / 'rows.jsonl'}")


def _shown(row: dict) -> dict:
    kept = {k: v for k, v in row.items() if isinstance(v, (int, float, str))}
    print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
                    for k, v in kept.items()), flush=True)  # fmt: skip
    return row


if __name__ == "__main__":
    app()
