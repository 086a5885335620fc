"""A training Run: the loss over the samples seen, and what was measured of it in its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay import runs
from assay.report import axes, blocks, rows, text
from assay.report import figures as fig
from assay.report.blocks import Block, Figure, Finding, Gallery, Mark, Section, Table
from assay.report.rows import Row
from assay.report.sections import models
from assay.runs import Run

CLAIM = "How far training has come"
COLOR = "#0f8b8d"
_SMOOTH, _MOST = 40, 400  # rows are averaged over so many parts of the whole; points drawn
_SHOWN = 0.97  # this share of the means is shown; the first ones are far above the others
_OTHERS = (
    ("grad_norm", "Gradient norm", "before clipping"),
    ("rate", "Learning rate", "as a share of its highest"),
    ("samples_per_s", "Speed", "samples a second"),
)


def sections(run: Run) -> list[Section]:
    """The curves, and a section for each evaluation in the folder."""
    found = rows.known(run.rows, "samples", "loss")
    found.sort(key=lambda r: r["samples"])
    name = _name(run.config)
    told = [s for f in _own(run) for s in f.sentences]
    made: list[Block] = [*curves(found), table(found)]
    title = f"Training {name}"
    own = Section(anchor(run), title, _lead(run.config), told, made, _method(run), command(run))
    return [own, *(s for held in evaluations(run) for s in models.sections(held))]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"training-{run.path.name}")


def evaluations(run: Run) -> list[Run]:
    """The evaluations in the Run's folder."""
    paths = sorted(p.parent for p in run.path.glob("*/config.json"))
    found = [runs.Run.read(path) for path in paths]
    return [held for held in found if held.config.get("kind") == "rules.evaluate" and held.rows]


def findings(run: Run) -> list[Finding]:
    """How far training has come; what its evaluations say."""
    return [*_own(run), *(f for held in evaluations(run) for f in models.findings(held))]


def _own(run: Run) -> list[Finding]:
    found = rows.known(run.rows, "samples", "loss", "step")
    if len(found) < 2:
        return []
    last = max(found, key=lambda r: r["step"])
    mean = float(smooth(np.array([r["loss"] for r in found]))[-1])
    wanted = rows.value(_fit(run.config), "n_steps")
    far = f"{text.number(int(last['step']))} steps"
    if wanted is not None and last["step"] < wanted:
        far = f"{text.number(int(last['step']))} of {text.number(int(wanted))} steps"
    said = (
        f"{_name(run.config)}: after {far} and {text.number(int(last['samples']))} samples the "
        f"loss is {text.number(mean, 3)} (mean of the last rows), from "
        f"{text.number(float(found[0]['loss']), 3)} at the start."
    )
    return [Finding(CLAIM, [said], anchor(run))]


def _name(config: Mapping[str, Any]) -> str:
    return "-".join(str(config[k]) for k in ("name", "preset") if config.get(k)) or "a model"


def _fit(config: Mapping[str, Any]) -> Row:
    return _part(config, "fit")


def _part(config: Mapping[str, Any], name: str) -> Row:
    found = config.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _lead(config: Mapping[str, Any]) -> str:
    """What learns from what."""
    data, binding = _part(config, "data"), str(config.get("binding"))
    said = f"Family {config.get('family')}, over {models.CODES.get(binding, binding)}."
    trained, held = data.get("rules"), data.get("held_out")
    if isinstance(trained, list):
        fixed = rows.value(data, "per_rule")
        kind = "every sample new" if fixed is None else f"{text.number(int(fixed))} samples a rule"
        said += f" It is shown {len(trained)} rules, {kind}"
        said += f"; rules {text.number(held)} are kept from it." if held else "."
    return said


def _method(run: Run) -> str:
    """Batch, optimiser, averaging, seed."""
    fit = _fit(run.config)
    optim = _part(fit, "optim")
    said = [
        f"Batches of {text.number(fit['batch'])}" if fit.get("batch") else "",
        f"optimiser {optim['kind']}" if optim.get("kind") else "",
        f"learning rate {text.number(optim['lr'])}" if rows.value(optim, "lr") else "",
        f"weights averaged with {text.number(fit['ema'])}" if fit.get("ema") else "",
        f"seed {text.number(run.config.get('seed'))}",
    ]
    return ", ".join(filter(None, said)) + ". The whole recipe is the Run's config.json. "


def command(run: Run) -> str:
    """The command line that trains again: the Run's own configuration is a recipe."""
    if isinstance(run.config.get("command"), str):
        return text.command(run.config)
    return shlex.join(["assay", "rules", "train", f"{run.path.name}/config.json", "--out", "DIR"])


# ---- curves ------------------------------------------------------------------------------------


def smooth(values: np.ndarray) -> np.ndarray:
    """Means over a window of a fortieth of the rows, shorter at both ends."""
    width = max(1, len(values) // _SMOOTH)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - width, 0), np.minimum(at + width + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def curves(found: Sequence[Row]) -> list[Block]:
    """The loss, gradient norm, rate and speed."""
    if len(found) < 2:
        return []
    legend = (Mark("loss of single batches", "#9fd1d1"), Mark("mean of neighbours", COLOR))
    others = [f for f in (_other(found, *what) for what in _OTHERS) if f is not None]
    return [Gallery([_loss(found), *others], "", legend, blocks.TWO)]


def _loss(found: Sequence[Row]) -> Figure:
    x, y = (np.array([float(r[c]) for r in found]) for c in ("samples", "loss"))
    mean, keep = smooth(y), fig.thinned(len(x), _MOST)
    hover = "%{x:,} samples<br>loss %{y:.4f}<extra></extra>"
    traces = [
        fig.line(x[keep], y[keep], "single batches", COLOR, width=1, opacity=0.4,
                 hoverinfo="skip"),
        fig.line(x[keep], mean[keep], "mean of neighbours", COLOR, width=2.6, hovertemplate=hover),
    ]  # fmt: skip
    top, low = float(np.quantile(mean, _SHOWN)), float(y.min())
    room = 0.1 * (top - low) or 1.0
    up = axes.axis("", range=[low - room, top + room])
    cut = y.max() > top + room
    note = "The first steps lie above the drawing." if cut else ""
    return fig.figure(traces, _seen(), up, "Loss", note=note)


def _other(found: Sequence[Row], column: str, title: str, sub: str) -> Figure | None:
    held = rows.known(found, column)
    if len(held) < 2:
        return None
    held = [held[i] for i in fig.thinned(len(held), _MOST)]
    x, y = [r["samples"] for r in held], [float(r[column]) for r in held]
    trace = fig.line(x, y, title, fig.SOFT, width=1.4)
    up = axes.axis("", rangemode="tozero")
    return fig.figure([trace], _seen(), up, title, sub=sub)


def _seen() -> dict[str, Any]:
    return axes.axis("samples seen", exponentformat="SI", rangemode="tozero")


def table(found: Sequence[Row]) -> Table:
    """The rows as they are."""
    columns = ("step", "samples", "loss", "grad_norm", "rate", "samples_per_s")
    used = [c for c in columns if any(r.get(c) is not None for r in found)]
    cells = [[r.get(c) for c in used] for r in found]
    title = f"Table: all {text.plural(len(cells), 'row')}"
    return Table(used, cells, "", title, folded=True)
