"""A sweep over w: densities where they are exact, trajectories, and every measure by w."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import rows, text
from assay.report.blocks import Block, Finding, Gallery, Section, Table, beside, percent, said
from assay.report.rows import Row
from assay.report.sections import curves, pictures, sentences
from assay.runs import Run

COLUMNS = {
    "law": "law", "solver": "solver", "seed": "seed", "w": "w", "guidance_scale": "guidance_scale",
    "mean": "mean", "sd": "sd", "median": "median", "tilted_mean": "tilt's mean",
    "w1_to_cond": "W1 to conditional", "w1_to_tilted": "W1 to tilt",
    "class_odds": "class odds (nats)", "off_support": "off the class",
    "off_support_denoised": "… after final denoise", "overshoot": "overshoot", "n": "n",
    "nfe": "evaluations",
}  # fmt: skip
_SHARES = ("off_support", "off_support_denoised", "coverage", "precision", "recall")
_DISTANCES = ("w1_to_cond", "w1_to_tilted")


def sections(run: Run) -> list[Section]:
    """Densities, trajectories and samples by w, measures by w, the table."""
    blocks = [
        *pictures.densities(run), *measures(run.rows), *pictures.trajectories(run),
        *pictures.scatter(run), table(run.rows, COLUMNS),
    ]  # fmt: skip
    title = f"{text.target(run.config)}: what guidance samples"
    lead = (
        "Guided samples by w, beside the conditional distribution that w = 0 samples and the "
        "tilted one that guidance is said to sample."
    )
    told, how = said(findings(run)), text.command(run.config)
    return [Section(anchor(run), title, lead, told, blocks, method(run), how)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"sweep-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """Which w is inside, what was an artefact, how far from the tilt."""
    name, main = text.target(run.config), curves.main(run.rows)
    told = (
        (sentences.INSIDE, sentences.inside(name, main)),
        (sentences.ARTEFACT, sentences.artefact(name, run.rows)),
        (sentences.MISSES, sentences.misses(name, main)),
    )
    return [Finding(claim, [words], anchor(run)) for claim, words in told if words]


def measures(found: Sequence[Row]) -> list[Block]:
    """Where the samples are, their spread, distances and shares off the class, against w."""
    groups = curves.groups(found)
    panels = [
        curves.centres(groups), curves.spreads(groups), *curves.distances(groups),
        curves.off_support(groups),
    ]  # fmt: skip
    drawn = [p for p in panels if p is not None]
    if not drawn:
        return []
    caption = (
        f"The same by w. Off the class means outside {sentences.region(found)}; open circles are "
        "measured without the final denoise, filled ones after it."
    )
    return [Gallery(drawn, caption, curves.legend(groups), beside(len(drawn)))]


def table(found: Sequence[Row], columns: dict[str, str]) -> Table:
    """The rows with the columns that any of them fills; what all share stands below."""
    used = [c for c in columns if any(r.get(c) is not None for r in found)]
    many = ("law", "solver", "seed") if len(found) > 1 else ()
    same = {c: v for c in used if c in many and (v := rows.constant(found, c)) is not None}
    used = [c for c in used if c not in same]
    cells = [[shown(r, c) for c in used] for r in found]
    below = ", ".join(f"{c} {text.number(v)}" for c, v in same.items())
    title = f"Table: all {text.plural(len(found), 'row')}"
    titles = [columns[c] for c in used]
    return Table(titles, cells, text.capital(below), title, folded=len(found) > 12)


def shown(row: Row, column: str) -> object:
    """A cell of the table: shares in per cent, distances below any accuracy as 0."""
    found = rows.value(row, column)
    if column in _SHARES and found is not None:
        return percent(found)
    return 0 if column in _DISTANCES and found and abs(found) < 1e-11 else row.get(column)


def method(run: Run) -> str:
    """How the rows were made."""
    sampled = [r for r in run.rows if r.get("n")]
    parts = ["Weights are the paper's, guided = (1+w) cond − w uncond; guidance_scale = 1 + w."]
    if len(sampled) < len(run.rows):
        parts.append(
            "Rows of the solver 'exact' integrate the guided flow itself, without sampling."
        )
    if sampled:
        r = sampled[0]
        parts.append(
            f"Sampled rows: n = {text.number(r['n'])}, {text.number(r.get('steps'))} steps from "
            f"σ = {text.number(r.get('sigma_max'))} to {text.number(r.get('sigma_min'))}, "
            f"unbiased start; distances are {r.get('distance') or text.UNKNOWN}."
        )
    return " ".join(parts)
