"""Put figures of studies into docs/relations.md: python tools/relation_tables.py RUN [SHARING]

RUN and SHARING are the folders of `assay rules scale examples/relations.toml --out RUN` and of
examples/relations-sharing.toml. The rows of their jobs become the tables between the markers,
and nothing else is touched.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import documents

from assay.runs import Run

DOCUMENT = Path(__file__).parent.parent / "docs" / "relations.md"
STAGES = ("any_valid", "row1", "row2", "row3", "copies_row", "natural_row")
Row = dict[str, Any]


def done(run: Run) -> list[Row]:
    """The study's jobs that have been evaluated, in the order of samples and rule sets."""
    rows = [row for row in run.rows if row.get("status") == "done"]
    return sorted(
        rows, key=lambda row: [row[name] for name in ("model", "per_rule", "rule_set", "seed")]
    )


def parts(run: Run, job: Row) -> list[Row]:
    """The rows of a job's evaluation."""
    return list(Run.read(run.path / "jobs" / job["key"] / "evaluation").rows)


def main_table(run: Run) -> str:
    """Markdown: the headline figures of every job."""
    lines = [
        "| model | samples a rule | rules | seed | C3 | novel-C3 | the same at set level "
        "| completion, trained | held out | n | training, wall |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for job in done(run):
        held = next(row for row in parts(run, job) if row["key"] == "completion/r3c3")
        cells = [_share(job, c) for c in ("c3", "novel_c3", "novel_set_c3")]
        cells += [_share(held, c) for c in ("trained", "held_out")]
        seconds = f"{job['training_seconds']:.0f} s"
        lines.append(_line(*_names(job), *cells, f"{held['n']:,}", seconds))
    return "\n".join(lines)


def stages(run: Run) -> str:
    """Markdown: what C3 is made of, copies, and how evenly the rules are drawn."""
    lines = [
        "| model | samples a rule | rules | seed | AnyValid | row 1 | row 2 agrees | row 3 agrees "
        "| copied rows | natural | least-drawn rule: share of nominal |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for job in done(run):
        drawn = [row for row in parts(run, job) if row["part"] == "rule" and row["trained"]]
        least = min(drawn, key=lambda row: row["share_of_c3"])
        said = f"{least['rule']}: {least['share_of_c3'] / least['nominal']:.2f}"
        cells = [f"{job[c]:.3f}" if job.get(c) is not None else "–" for c in STAGES]
        lines.append(_line(*_names(job), *cells, said))
    return "\n".join(lines)


def rules(run: Run) -> str:
    """Markdown: completion of every held-out rule, and of trained rules below 0.95."""
    lines = [
        "| model | samples a rule | rules | seed | held out | trained, below 0.95 |",
        "|---|--:|---|--:|---|---|",
    ]
    for job in done(run):
        rows = parts(run, job)
        trained = {row["rule"] for row in rows if row["part"] == "rule" and row["trained"]}
        each = [row for row in rows if row["part"] == "completion_rule"]
        said = [
            ", ".join(f"{row['rule']} {row['correct']:.3f} ({row['correct_n']})" for row in chosen)
            for chosen in (
                [row for row in each if row["rule"] not in trained],
                [row for row in each if row["rule"] in trained and row["correct"] < 0.95],
            )
        ]
        lines.append(_line(*_names(job), said[0], said[1] or "none"))
    return "\n".join(lines)


TABLES = {"main": main_table, "stages": stages, "rules": rules}


def _names(job: Row) -> tuple[str, str, str, int]:
    return job["model"], f"{job['per_rule']:,}", job["rule_set"], job["seed"]


def _line(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _share(row: Row, name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def main(folders: list[str]) -> None:
    for study, folder in zip(("", "sharing-"), folders, strict=False):
        run = Run.read(folder)
        for name, make in TABLES.items():
            documents.put(DOCUMENT, f"{study}{name}", lambda make=make, run=run: make(run))
        print(f"{DOCUMENT.name}: {len(done(run))} jobs of {run.path.name}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1:])
