"""Writes docs/digits.md from Runs of ``assay guidance digits`` and the shipped models.

python tools/digits.py out/digits8 [out/digits28]
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from assay.guidance.images import claim as image_claim
from assay.guidance.images import models as image_models
from assay.guidance.images import quality as image_quality
from assay.guidance.images import study as image_study
from assay.runs import Run, write_aside

ROOT = Path(__file__).parent.parent
SIZES = {"digits8": "8x8", "digits28": "28x28"}
HEAD = """# Guidance on learned models of real digits

Made by `python tools/digits.py {runs}` from the Runs and the shipped weights named below; no
figure is typed by hand. Guided = (1 + w) cond - w uncond; guidance_scale = 1 + w.

The paper (Chidambaram et al. 2024, arXiv 2409.13074) takes as best w the largest one whose
trajectories, projected on the class-mean direction, only rise, and found w = 3 on MNIST. Its
rule is tested here on two learned models against measured quality. "Rule": the largest w up to
which the mean trajectory of every w on the grid only rises, within 2 % of the way from the mean
of all images to the class mean, in the window sigma 0.05 ... 20 and the coordinate
x / sqrt(1 + sigma^2) (a fall counts where its simultaneous 95 % bound shows it). "Largest": the
largest w with such a trajectory, which is the rule as it is worded.
"""
MODELS = """
## The models

One residual MLP each, conditional and unconditional (20 % of labels dropped), EDM's
preconditioning, averaged weights. Mean squared error a pixel on held-out images, half-width of
its 95 % interval after ±, beside the best affine denoiser's (mean and covariance of the training
images, of the class or of all).
"""
STUDY = """
## {size} digits

`{command}`: {n_rows} rows. {how} Compared with the {data} held-out images of each digit. The
judge, trained on other real images alone, is right on {accuracy} of the held-out ones.

### Quality by w

Medians over digits and blocks, seeds pooled. "rises": digits whose mean trajectory only rises;
drop: its largest fall (1 = the way between the means); log-odds: nats by the judge; kNN:
distance to the nearest held-out image over that of real ones; far: share beyond their 95 %
quantile; range: amount by which pixels leave the grey scale, mean a pixel, before and after the
final denoise. Intervals of every row are in the Run; real: as many real images in their place.
"""
PIECE = """This is a small piece of the study that `{command}` computes: few
samples, so intervals are wide.
"""
VERDICT = """
### Does the rule find the best w?

Digits for which a w is as good as the best by a measure: its 95 % interval meets that of the
best. "w as good": how many of the {n_w} w of the grid are, on average: where it is large, the
measure cannot tell. Recall and the Vendi score reward whatever scatters, on the data or off it.
"""
DIGITS = """
### Digit by digit

The rule's w with the least and largest of its seeds by themselves; the largest w; the best w by
four measures with the w as good, least to largest.
"""


def models(names: Sequence[str]) -> list[str]:
    """What the models are, and their losses on held-out images."""
    lines = [
        "| model | weights | samples seen | command |",
        "|---|--:|--:|---|",
    ]
    for name in names:
        said = image_models.about(name)
        lines.append(
            f"| {name} | {said['parameters']:,} | {said['samples_seen']:,} | "
            f"`assay guidance digits train {SIZES[name]} --out FILE.safetensors` |"
        )
    columns = ("cond", "linear_cond", "uncond", "linear_uncond")
    lines += ["", "| model | sigma | n | conditional | affine | unconditional | affine |",
              "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name in names:
        for row in image_models.about(name)["rows"]:
            if row["part"] == "heldout":
                cells = [f"{row[c]:.4f} ± {row[f'{c}_high'] - row[c]:.4f}" for c in columns]
                lines.append(f"| {name} | {row['sigma']:g} | {row['n']:,} | {' | '.join(cells)} |")
    return lines


def _of(run: Run, kind: str, **values: Any) -> list[dict[str, Any]]:
    return [
        row
        for row in run.rows
        if row["kind"] == kind and all(row[k] == v for k, v in values.items())
    ]


def _how(run: Run) -> str:
    """Samplers, samples and evaluations in words."""
    blocks = [
        f"{len(b['digits'])} digits, {b['n']} samples of each from each of "
        f"{len(b['seeds'])} seed{'s' if len(b['seeds']) > 1 else ''}"
        for b in run.config["blocks"]
    ]
    most = {s: max(r["nfe"] for r in _of(run, "pooled", sampler=s)) for s in _samplers(run)}
    said = {"ddpm": f"DDPM in {run.config['ddpm_steps']} steps",
            "heun": f"Heun in {run.config['heun_steps']}"}  # fmt: skip
    calls = ", ".join(f"{said[s]} ({most[s]} network evaluations at w > 0)" for s in most)
    return f"{'; '.join(blocks)}. {calls}; nothing is clipped."


def _samplers(run: Run) -> list[str]:
    done = {row["sampler"] for row in run.rows if row["kind"] == "pooled"}
    return [s for s in run.config["samplers"] if s in done]


def by_w(run: Run) -> list[str]:
    """Medians over digits for every sampler and w."""
    names = ("log_odds", "knn", "far", "range_amount_x", "range_amount", "precision", "recall",
             "density", "coverage", "vendi", "frechet")  # fmt: skip
    lines = [
        "| sampler | w | guidance_scale | rises | drop | log-odds | kNN | far | range before | "
        "after | precision | recall | density | coverage | Vendi | Fréchet |",
        "|---" * 2 + "|--:" * 14 + "|",
    ]
    for sampler in _samplers(run):
        for w in run.config["w"]:
            rows = _of(run, "pooled", sampler=sampler, w=w)
            if rows:
                rises = f"{sum(r['monotone'] for r in rows)} of {len(rows)}"
                values = [median(r[name] for r in rows) for name in ("drop", *names)]
                cells = [sampler, f"{w:g}", f"{1 + w:g}", rises, *(f"{v:.3g}" for v in values)]
                lines.append(f"| {' | '.join(cells)} |")
    real = _of(run, "real")
    values = [median(r[name] for r in real) for name in names]
    cells = ["real", "", "", "", "", *(f"{v:.3g}" for v in values)]
    return [*lines, f"| {' | '.join(cells)} |"]


def verdicts(run: Run) -> list[str]:
    """For how many digits each choice of w is as good as the best, by measure."""
    lines = [
        "| sampler | samples | measure | rule | 95 % interval | largest | w = 3 | w as good |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in _of(run, "verdict"):
        n = row["n"]
        counts = [f"{row[k] * n:.0f} of {n}" for k in ("holds", "largest_holds", "paper_holds")]
        lines.append(
            f"| {row['sampler']} | {row['block_n'] * len(row['seeds'])} | {row['measure']} | "
            f"{counts[0]} | {row['holds_low']:.2f} to {row['holds_high']:.2f} | {counts[1]} | "
            f"{counts[2]} | {row['n_as_good']:.1f} |"
        )
    return lines


def digits(run: Run) -> list[str]:
    """The rule's w and the best ones, a line for each sampler, block and digit."""
    shown = ("log_odds", "knn", "density", "frechet")
    lines = [
        "| sampler | n | digit | rule | largest | log-odds | kNN | density | Fréchet |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for first in _of(run, "claim", measure="log_odds"):
        where = {k: first[k] for k in ("sampler", "digit", "n")}
        own = {m: _of(run, "claim", measure=m, **where)[0] for m in shown}
        best = [f"{own[m]['w_best']:g}{_ends(own[m]['as_good'])}" for m in shown]
        rule = f"{_w(first['w_rule'])}{_ends(first['w_rules'])}"
        cells = [first["sampler"], str(first["n"]), str(first["digit"]), rule,
                 _w(first["w_largest"]), *best]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _w(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _ends(values: Sequence[float | None]) -> str:
    known = sorted(v for v in values if v is not None)
    return f" ({known[0]:g} to {known[-1]:g})" if known else ""


def conclusion(run: Run) -> list[str]:
    """Where the claim holds and where not, from the rows."""
    lines = []
    for sampler in _samplers(run):
        claims = [c for c in _of(run, "claim", sampler=sampler) if c["measure"] not in SCATTER]
        n = len(claims)
        held = {k: sum(c[k] for c in claims) for k in ("holds", "largest_holds", "paper_holds")}
        own = {(c["digit"], c["n"]): c for c in claims}.values()
        rule = [c["w_rule"] for c in own if c["w_rule"] is not None]
        most = sum(c["w_largest"] == max(run.config["w"]) for c in own)
        above = sum(c["w_rule"] is not None and c["w_rule"] > c["w_best"] for c in claims)
        below = sum(c["w_rule"] is not None and c["w_rule"] < c["w_best"] for c in claims)
        odds = [c["digit"] for c in claims if c["measure"] == "log_odds" and c["w_best"] >= FAR]
        lines.append(
            f"- {sampler}: the rule gives w = {median(rule):g} (median over {len(own)} digits; "
            f"{min(rule):g} to {max(rule):g}). It is as good as the best w in {held['holds']} of "
            f"{n} pairs of digit and measure, above the best w in {above} and below it in "
            f"{below}; w = 3 is as good in {held['paper_holds']}. As it is worded the rule is as "
            f"good in {held['largest_holds']}."
            + (OUT.format(end=max(run.config["w"]), k=most, n=len(own)) if most else "")
            + (ODDS.format(far=FAR, digits=", ".join(map(str, odds))) if odds else "")
        )
    told = "\nIn all, recall and Vendi score left out, which reward whatever scatters:\n"
    return [told, *lines]


SCATTER = ("recall", "vendi")
FAR = 8.0
OUT = (
    " It takes w = {end:g}, the end of the grid, for {k} of {n} digits, whose projection there "
    "only rises while the images have left the data."
)
ODDS = (
    " Log-odds alone name a w of {far:g} or more the best for digit {digits}: a classifier does "
    "not see that images have left the data."
)


def study(run: Run) -> list[str]:
    """One data set."""
    name = run.config["data"]
    judge = image_quality.judge(name)
    data = sorted({r["n_data"] for r in _of(run, "pooled")})
    ends = f"{data[0]}" if data[0] == data[-1] else f"{data[0]} to {data[-1]}"
    accuracy = (
        f"{100 * judge.accuracy:.1f} % (95 % interval {100 * judge.accuracy_low:.1f} to "
        f"{100 * judge.accuracy_high:.1f})"
    )
    facts = {"size": SIZES[name], "command": run.config["command"], "n_rows": len(run.rows),
             "how": _how(run), "data": ends, "accuracy": accuracy}  # fmt: skip
    whole = image_study.study8() if name == "digits8" else image_study.study28()
    piece = [] if run.config["command"] == whole.command else [PIECE.format(command=whole.command)]
    grid = len(run.config["w"])
    return [
        STUDY.format(**facts), *piece, *by_w(run), VERDICT.format(n_w=grid), *verdicts(run),
        *conclusion(run), DIGITS, *digits(run),
    ]  # fmt: skip


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Paragraphs in lines of 99; tables, headings and lists start lines of their own."""
    out: list[str] = []
    for own, part in itertools.groupby(lines, lambda line: line == "" or line[0] in "|#-"):
        given = list(part)
        told = given if own else [" ".join(given)]
        out += [piece for line in told for piece in _fill(line)]
    return out


def _fill(line: str) -> list[str]:
    if line.startswith(("|", "#")) or not line:
        return [line]
    further = "  " if line.startswith("- ") else ""
    return textwrap.wrap(
        line, 99, subsequent_indent=further, break_on_hyphens=False, break_long_words=False
    )


def main(*folders: str) -> None:
    assert image_claim.PAPER == 3.0
    runs = [Run.read(folder) for folder in folders]
    parts = [HEAD.format(runs=" ".join(folders)), MODELS, *models(image_models.names())]
    for run in runs:
        parts += study(run)
    path = ROOT / "docs" / "digits.md"
    lines = "\n".join(parts).splitlines()
    write_aside(path, ("\n".join(_wrapped(lines)) + "\n").encode())
    print(path)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
