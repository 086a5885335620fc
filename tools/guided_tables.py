"""Put a study's figures into docs/guided_rules.md: python tools/guided_tables.py RUN

RUN is the folder of `assay studies guided-rules --out RUN`. Its pooled rows, its best weights and
its models become the tables between the markers, and nothing else is touched.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import documents

from assay.report.sections import guided_said
from assay.runs import Run

DOCUMENT = Path(__file__).parent.parent / "docs" / "guided_rules.md"
Row = dict[str, Any]


def best(run: Run) -> str:
    """Markdown: what the best w buys and costs each family."""
    lines = [
        "| family | best w | guidance_scale | intended at w = 0 | at the best w | change, points "
        "| diversity left | off the two values | novel | evaluations | n |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in guided_said.part(run, "best"):
        change = (100 * row[name] for name in ("change", "change_low", "change_high"))
        lines.append(_line(
            row["family"], f"{row['w']:g}", f"{row['guidance_scale']:g}",
            f"{row['intended_at_0']:.3f}", _share(row, "intended"),
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*change), _ratio(row, "vendi_kept"),
            _plain(row, "off_support_denoised"), _plain(row, "novel"), row["nfe"],
            f"{row['n']:,}",
        ))  # fmt: skip
    return "\n".join(lines)


def by_w(run: Run, column: str) -> str:
    """Markdown: a share of every family at every w."""
    pooled = guided_said.part(run, "pooled")
    grid = sorted({row["w"] for row in pooled})
    lines = [
        _line("family", *(f"w = {w:g}" for w in grid), "n"),
        "|---|" + "--:|" * (len(grid) + 1),
    ]
    for family in dict.fromkeys(row["family"] for row in pooled):
        held = {row["w"]: row for row in pooled if row["family"] == family}
        if all(held[w].get(column) is not None for w in grid):
            cells = [f"{held[w][column]:.3f}" for w in grid]
            lines.append(_line(family, *cells, f"{held[grid[0]]['n']:,}"))
    return "\n".join(lines)


def models(run: Run) -> str:
    """Markdown: what the families are."""
    lines = [
        "| family | parameters | samples seen | held-out loss, rule told | untold | gain "
        "| natural overlap of rows |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in guided_said.part(run, "model"):
        losses = [
            "–" if row.get(c) is None else f"{row[c]:.3f} ± {1.96 * row[f'{c}_se']:.3f}"
            for c in ("loss_told", "loss_untold", "label_gain")
        ]
        seen = "exact" if row["samples_seen"] is None else f"{row['samples_seen']:,}"
        size = "–" if row["samples_seen"] is None else f"{row['parameters']:,}"
        lines.append(_line(row["family"], size, seen, *losses, f"{row['natural_row']:.3f}"))
    return "\n".join(lines)


def findings(run: Run) -> str:
    """Markdown: what the report concludes, sentence by sentence."""
    lines = []
    for found in guided_said.findings(run):
        lines.append(f"- **{found.claim}.**")
        lines += [f"  - {said}" for said in found.sentences]
    return "\n".join(lines)


def error(run: Run) -> str:
    """Markdown: the twin's score error by w."""
    lines = [
        "| w | guidance_scale | states | rule told | untold | guided | evaluations |",
        "|--:|--:|---|--:|--:|--:|--:|",
    ]
    for row in guided_said.part(run, "error"):
        sizes = (
            f"{row[c]:.2f} ({row[f'{c}_low']:.2f} to {row[f'{c}_high']:.2f})"
            for c in ("size_cond", "size_uncond", "size_guided")
        )
        place = f"{row['w']:g}", f"{row['guidance_scale']:g}", row["where"]
        lines.append(_line(*place, *sizes, row["nfe"]))
    return "\n".join(lines)


TABLES = {
    "findings": findings,
    "best": best,
    "models": models,
    "error": error,
    **{
        column: lambda run, column=column: by_w(run, column)
        for column in (
            "intended",
            "any_rule",
            "row_intended",
            "vendi_kept",
            "vendi_of_data",
            "novel_intended",
            "copied_row",
            "off_support",
            "off_support_denoised",
            "empty_panels",
        )
    },
}


def _line(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _share(row: Row, name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def _plain(row: Row, name: str) -> str:
    return "–" if row.get(name) is None else f"{row[name]:.3f}"


def _ratio(row: Row, name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return f"{row[name]:.3f}{ends}"


def main(folder: str) -> None:
    run = Run.read(folder)
    for name, make in TABLES.items():
        documents.put(DOCUMENT, name, lambda make=make: make(run))
    print(f"{DOCUMENT.name}: {len(run.rows):,} rows of {run.path.name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
