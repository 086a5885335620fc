"""The first section of the page: what to conclude, across all Runs, from their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.report import figures as fig
from assay.report import rows, text, verdict
from assay.report.blocks import Block, Cell, Finding, Findings, Section, Table, Terms
from assay.report.rows import Row
from assay.report.sections import curves
from assay.runs import Run

_MOST_W, _MOST_LINES = 9, 16
TERMS = (
    ("w and guidance_scale", "guided = (1+w) cond − w uncond. w = 0 is the plain conditional "
     "model, w = −1 the unconditional one. Most software calls 1 + w the guidance_scale; this "
     "page gives both."),
    ("guided, conditional, tilted", "Guided: what sampling with w really gives. Conditional: "
     "p(x|z), the data of the class. Tilted: p(x) p(z|x)¹⁺ʷ, what guidance is often said to "
     "sample."),
    ("off the class", "Outside the support of the class; where the class has no bounded support, "
     "outside HDR99.9, the region of highest density that holds 99.9 % of it."),
    ("final denoise", "Sampling stops at a small noise level σ. One more call of the denoiser "
     "removes the noise that is left. Samples are judged with and without it, so that left-over "
     "noise is not mistaken for damage by guidance."),
    ("σ, the noise level", "A noisy sample is x = data + σ · noise. Sampling goes from large σ to "
     "small."),
    ("W1", "Wasserstein distance: how far probability has to be carried, on average, to turn one "
     "distribution into the other, in units of x."),
    ("spread", "Standard deviation as a share of that at w = 0; for images coverage, the share of "
     "held-out images with a sample near, as a share of that at w = 0."),
    ("95 % interval, n", "Sampled shares carry Wilson intervals and their number of samples n. "
     "\"Exact\" means integrated without sampling."),
)  # fmt: skip


def section(found: Sequence[tuple[Run, Sequence[Finding]]]) -> Section | None:
    """The verdicts on every target by w, and the findings of all Runs, equal claims together."""
    blocks: list[Block] = []
    table = verdicts([run for run, _ in found])
    if table is not None:
        blocks.append(table)
    told = merged([f for _, told in found for f in told])
    if told:
        blocks.append(Findings(told))
    if not blocks:
        return None
    if any(str(run.config.get("kind")).startswith("guidance.") for run, _ in found):
        blocks.append(Terms("The words of this page, explained", TERMS))
    return Section("conclusions", "What to conclude", blocks=blocks)


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of one claim as one, in the order in which claims first appear."""
    by_claim: dict[str, list[Finding]] = {}
    for finding in findings:
        by_claim.setdefault(finding.claim, []).append(finding)
    return [
        Finding(claim, [s for f in same for s in f.sentences], same[0].anchor)
        for claim, same in by_claim.items()
    ]


def verdicts(found: Sequence[Run]) -> Table | None:
    """Targets, laws and solvers down, w across: inside, artefact or outside."""
    lines = [line for run in found if _is_sweep(run) for line in _lines(run)][:_MOST_LINES]
    grid = sorted({w for _, by_w in lines for w in by_w})
    if not lines or not grid:
        return None
    grid = [grid[i] for i in fig.thinned(len(grid), _MOST_W)]
    cells: list[list[Any]] = [
        [name, *(by_w.get(w, Cell(text.UNKNOWN)) for w in grid)] for name, by_w in lines
    ]
    heads = [curves.heading(w) for w in grid]
    columns = ["", *(Cell(h["title"], state="middle", detail=h["sub"]) for h in heads)]
    caption = (
        "Share of the samples off the class after one final denoise, and how much of the spread "
        "at w = 0 is left."
    )
    return Table(columns, cells, caption, "Which w is still inside?", verdict.LEGEND)


def _is_sweep(run: Run) -> bool:
    return str(run.config.get("kind")) == "guidance.sweep"


def _lines(run: Run) -> list[tuple[Cell, dict[float, Cell]]]:
    """A line for each law and solver: cells by w; of several seeds the worst."""
    lines = []
    for label, group in curves.groups(run.rows).items():
        by_w: dict[float, Cell] = {}
        plain = _one(group, 0.0)
        for w in dict.fromkeys(r["w"] for r in group):
            row = _one(group, w)
            if row is not None and verdict.state(row, plain):
                by_w[float(w)] = verdict.cell(row, plain)
        if by_w:
            lines.append((Cell(text.target(run.config), state="words", detail=label), by_w))
    return lines


def _one(group: Sequence[Row], w: float) -> Row | None:
    same = [r for r in group if rows.value(r, "w") == w]
    return verdict.worst(same) if same else None
