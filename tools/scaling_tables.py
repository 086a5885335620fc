"""Put a scaling study's figures into docs/scaling.md: python tools/scaling_tables.py STUDY

STUDY is the folder of `assay rules scale CONFIG.toml --out STUDY`. Its rows and those of its
analysis become the tables between the markers, and nothing else is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import documents

from assay.core.intervals import wilson
from assay.report.sections import scaling_read as read
from assay.report.sections import scaling_said
from assay.report.sections.scaling_curves import threshold
from assay.report.sections.scaling_read import METRICS, Study
from assay.rules.scaling import analysis, early
from assay.runs import Run

DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling.md"
Row = dict[str, Any]


def shares(study: Study, metric: str) -> str:
    """Markdown: a share by samples per rule, all seeds together, Wilson intervals."""
    sizes = study.sizes()
    lines = [
        _line("model", *(f"{n:,.0f}" for n in sizes), "n"),
        "|---|" + "--:|" * len(sizes) + "--:|",
    ]
    for group, held in study.groups().items():
        cells = [_pooled([r for r in held if r["per_rule"] == n], metric) for n in sizes]
        trials = {sum(r[f"{metric}_n"] for r in held if r["per_rule"] == n) for n in sizes}
        span = f"{min(trials):,}" if len(trials) == 1 else f"{min(trials):,} to {max(trials):,}"
        lines.append(_line(study.label(group), *cells, span))
    for fresh in [study.of("fresh")] if metric == "novel_c3" else []:
        cells = [f"{r['novel_c3']:.3f} ({r['novel_c3_low']:.3f} to {r['novel_c3_high']:.3f})"
                 for r in fresh]  # fmt: skip
        lines.append(_line("fresh data", *cells, f"{fresh[0]['n']:,} rows"))
    return "\n".join(lines)


def _pooled(held: list[Row], metric: str) -> str:
    n = sum(r[f"{metric}_n"] for r in held)
    k = round(sum(r[metric] * r[f"{metric}_n"] for r in held))
    low, high = wilson(k, n)
    return "–" if n == 0 else f"{k / n:.3f} ({low:.3f} to {high:.3f})"


def thresholds(study: Study) -> str:
    """Markdown: N50 and N90 of every model and measure."""
    heads = [f"{name}, N{share}" for name in METRICS.values() for share in (50, 90)]
    lines = [_line("model", *heads), "|---|" + "--:|" * len(heads)]
    for group in study.groups():
        cells = []
        for metric in METRICS:
            for share in (0.5, 0.9):
                found = study.of("threshold", group, metric=metric, share=share)
                cells.append(_threshold(found[0]) if found else "–")
        lines.append(_line(study.label(group), *cells))
    return "\n".join(lines)


def _threshold(row: Row) -> str:
    shown = threshold(row).removesuffix(", or never")
    return "falls with data" if shown.startswith("falls") else shown


def held_out(study: Study) -> str:
    """Markdown: errors of predictions of left-out sizes."""
    names = METRICS | {"all": "all", "rising": "all that rise with data",
                       "moving": "all that rise by 0.2 or more"}  # fmt: skip
    lines = ["| measure | mean error | largest error | within 0.07 |", "|---|--:|--:|--:|"]
    for row in study.of("held_out_summary"):
        within = f"{row['n_within']} of {row['n']}"
        errors = (f"{row[name]:.3f}" for name in ("mean_error", "largest_error"))
        lines.append(_line(names[row["metric"]], *errors, within))
    return "\n".join(lines)


def copies(study: Study) -> str:
    """Markdown: copied rows beside natural ones, by samples per rule."""
    sizes = study.sizes()
    lines = [_line("model", *(f"{n:,.0f}" for n in sizes)), "|---|" + "--:|" * len(sizes)]
    for group, held in study.groups().items():
        cells = [_pooled([r for r in held if r["per_rule"] == n], "copies_row") for n in sizes]
        lines.append(_line(study.label(group), *cells))
    fresh = [_pooled([r for r in study.jobs if r["per_rule"] == n], "natural_row") for n in sizes]
    return "\n".join([*lines, _line("natural overlap of fresh rows", *fresh)])


def first_rules(study: Study) -> str:
    """Markdown: samples seen when kinds of rules first appear, where any does."""
    kinds = list(dict.fromkeys(r["kind"] for r in study.of("tau_rule")))
    lines = [_line("model", "per rule", *kinds, "copies (τ_mem)"),
             "|---|--:|" + "--:|" * (len(kinds) + 1)]  # fmt: skip
    for group in study.groups():
        for size in study.sizes():
            found = [study.of("tau_rule", group, kind=kind, per_rule=size) for kind in kinds]
            found.append(study.of("tau_mem", group, per_rule=size))
            if any(row["n_reached"] for rows in found for row in rows):
                cells = [_time(rows[0]) if rows else "–" for rows in found]
                lines.append(_line(study.label(group), f"{size:,.0f}", *cells))
    return "\n".join(lines)


def _time(row: Row) -> str:
    if not row["n_reached"]:
        return f"> {row['samples_end']:,}"
    if row["tau"] is None:
        return f"{row['n_reached']} of {len(row['taus'])}"
    return f"{row['tau']:,.0f} ({row['tau_low']:,.0f} to {row['tau_high']:,.0f})"


def warnings(study: Study) -> str:
    """Markdown: AUROC of early warnings from the first fifth, configurations left out whole."""
    heads = ("event", "told by", "AUROC", "n", "configurations", "events")
    lines = [_line(*heads), "|---|---|" + "--:|" * 4]
    for row in study.of("warning", scheme="cell", share=early.FIFTH):
        if row.get("auroc") is not None:
            area = f"{row['auroc']:.3f} ({row['auroc_low']:.3f} to {row['auroc_high']:.3f})"
            about = (row[name] for name in ("n", "n_cells", "n_events"))
            lines.append(_line(row["definition"], row["predictor"], area, *about))
    said = [f"{r['definition']}: {r['said']}." for r in
            (*study.of("warning_said"), *study.of("warning_lacking"))]  # fmt: skip
    return "\n".join([*lines, *(["", *said] if said else [])])


def findings(study: Study) -> str:
    """Markdown: what the page concludes, sentence by sentence."""
    lines = []
    for found in scaling_said.findings(study):
        lines.append(f"- **{found.claim}.**")
        lines += [f"  - {said}" for said in found.sentences]
    return "\n".join(lines)


TABLES: dict[str, Callable[[Study], str]] = {
    "findings": findings, "thresholds": thresholds, "held_out": held_out, "copies": copies,
    "first_rules": first_rules, "warnings": warnings,
    **{metric: lambda study, metric=metric: shares(study, metric) for metric in METRICS},
}  # fmt: skip


def _line(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main(folder: str) -> None:
    analysis.update(folder)
    study = read.read(Run.read(folder))
    for name, make in TABLES.items():
        documents.put(DOCUMENT, name, lambda make=make: make(study))
    print(f"{DOCUMENT.name}: {len(study.jobs)} trainings")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
