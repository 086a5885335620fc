"""What models do: their samples, their completions, their shares beside the lines to beat.

Two kinds of Run: models shipped with the package, measured on the spot, with pictures and with the
rows that lie beside their weights; and a single evaluation. SVG of a Run may have been edited by
a stranger: it stands in the page as the source of an image, in which no script runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from assay.report import blocks, rows, text
from assay.report.blocks import Block, Finding, Gallery, Picture, Section, Terms, Words
from assay.report.rows import Row
from assay.report.sections import measured
from assay.report.sections.measured import Model, interval, part
from assay.runs import Run

LEARNS = "A model completes the rules it was shown, not those kept from it"
CARRIES = "A model completes the rules it was shown, and carries something over to others"
BEGINS = "A model completes the rules it was shown better than by guessing"
GUESSES = "A model completes no better than by guessing"
NEW = "What a model draws mostly obeys a rule, and is new"
COPIED = "What a model draws mostly obeys a rule, but is partly copied"
DRAWS = "What a model draws mostly obeys a rule"
FAILS = "What a model draws mostly obeys no rule"
SOMETIMES = "What a model draws obeys a rule about half the time"
CODES = {
    "sets": "set tokens (a structural prior: a panel is told by its sets of values, its cells are "
    "then filled in by a law that knows no rule)",
    "positions": "set tokens of the occupied positions alone (genraven-mini; a structural prior)",
    "cells": "81 cells, each occupied or empty (genraven-mini)",
    "occupancy": "an image of 9 × 9 cells, each occupied or empty (genraven-mini)",
    "joint": "81 tokens, one for each cell",
    "separate": "81 cells of three tokens each",
    "image": "images of 9 × 9 cells with three channels",
    "one-hot": "images of 9 × 9 cells with one channel for each value",
}
DISCS = ("positions", "cells", "occupancy")
TERMS = (
    ("C3, novel-C3", "C3: the share of samples in which some rule holds in all three rows. "
     "novel-C3: of all samples, those in which moreover no row is a copy of a training row; a "
     "copy is found in any order of the cells."),
    ("row 1, row 2, row 3", "C3 is the product of three shares: row 1 obeys some rule; given "
     "that, row 2 shares one with it; given that, row 3 shares it too."),
    ("completion", "Panels of a sample never trained on are taken away; the model fills them in. "
     "The answer is right if some rule then holds in all three rows, whichever; often more than "
     "one panel is right."),
    ("marginal fill", "The same questions answered by panels of other samples at that place: what "
     "is right without looking at the question."),
    ("trained, held-out rules", "Held-out rules occur in no training row. What a model completes "
     "there, beyond the marginal fill, it has carried over from other rules."),
    ("natural overlap", "How much of fresh data occurs in the training samples by chance. Only "
     "copies beyond that were memorised."),
    ("T, the temperature", "1: the model's own law. Below 1 likelier choices become likelier "
     "still; completions are greedy (T = 0) unless said otherwise."),
)  # fmt: skip


def sections(run: Run) -> list[Section]:
    """One section a model; words explained in the first."""
    found = [_section(run, model) for model in models(run)]
    if found:
        first = found[0]
        terms = Terms("The words of this section, explained", TERMS)
        found[0] = Section(**{**vars(first), "blocks": [*first.blocks, terms]})
    return found


def models(run: Run) -> list[Model]:
    """The models that a Run's rows are about."""
    if run.config.get("kind") == "rules.evaluate":
        said = run.config.get("model")
        return [Model(_name(said), _about(run, said), run.rows, [])] if run.rows else []
    found = []
    for (name,), group in rows.groups(run.rows, "model").items():
        about = next(iter(part(group, "model")), {})
        here = [r for r in group if r.get("source") != "file"]
        if name is not None:
            stored = [r for r in group if r.get("source") == "file"]
            found.append(Model(str(name), about, here, stored))
    return found


def _name(said: object) -> str:
    if not isinstance(said, Mapping):
        return "a model"
    names = [str(said[key]) for key in ("name", "preset") if said.get(key)]
    return "-".join(names) or "a model"


def _about(run: Run, said: object) -> Row:
    """What the configuration of an evaluation says of its model, as the row of a shipped one."""
    given = dict(said) if isinstance(said, Mapping) else {}
    data = given.get("data")
    data = dict(data) if isinstance(data, Mapping) else {}
    costs = next((r for r in run.rows if rows.value(r, "parameters") is not None), {})
    return {
        **{key: given.get(key) for key in ("family", "preset", "binding", "averaged")},
        **{key: costs.get(key) for key in ("parameters", "samples_seen", "training_flop")},
        "trained_rules": data.get("rules"), "held_out_rules": data.get("held_out"),
        "per_rule": data.get("per_rule"), "seed": run.config.get("seed"),
    }  # fmt: skip


def anchor(run: Run, model: Model) -> str:
    """The anchor of a model's section."""
    return text.slug(f"models-{run.path.name}-{model.name}")


def _section(run: Run, model: Model) -> Section:
    told = [s for f in _findings(run, model) for s in f.sentences]
    made = [*pictures(model), *measured.blocks_of(model)]
    title = f"What the model {model.name} has learned"
    return Section(anchor(run, model), title, lead(model), told, made, method(model), command(run))


def lead(model: Model) -> str:
    """What the model is and what it was shown."""
    row = model.about
    family, binding = row.get("family"), str(row.get("binding"))
    said = f"Family {family}, over {CODES.get(binding, binding)}" if family else model.name
    if (n := rows.value(row, "parameters")) is not None:
        said += f"; {text.number(int(n))} parameters"
    said += f"{', averaged weights' if row.get('averaged') is True else ''}."
    seen, trained = rows.value(row, "samples_seen"), row.get("trained_rules")
    if seen is not None:
        fixed = rows.value(row, "per_rule")
        kind = "samples, each new," if fixed is None else "samples (with repetitions)"
        said += f" Trained on {text.number(int(seen))} {kind}"
        said += f" of {len(trained)} rules" if isinstance(trained, list) else ""
        if fixed is not None:
            said += f", {text.number(int(fixed))} different ones a rule"
        held = row.get("held_out_rules")
        said += f"; rules {text.number(held)} were kept from it." if held else "."
    return said


def method(model: Model) -> str:
    """When, how many, from which seeds."""
    drawn = next(iter(part(model.here, "unconditional")), {})
    n, speed = rows.value(drawn, "n"), rows.value(drawn, "samples_per_s")
    if n is None:
        return ""
    said = f"{text.number(int(n))} samples"
    if (nfe := rows.value(drawn, "nfe")) is not None:
        said += f", {text.number(int(nfe))} network evaluations each"
    if speed is not None:
        said += f", {text.number(speed, 2)} a second here"
    stored = " The rows shipped with the weights come from other seeds." if model.file else ""
    return (
        f"Measured: {said}; seed {text.number(model.about.get('seed'))}. Intervals are Wilson's, "
        f"95 %. No label, no rejection, no rule used in drawing.{stored} "
    )


def command(run: Run) -> str:
    """The command line that makes the rows again."""
    config = run.config
    if config.get("kind") != "rules.evaluate" or isinstance(config.get("command"), str):
        return text.command(config)
    temperatures = config.get("temperatures")
    listed = temperatures if isinstance(temperatures, list) else []
    flags = ["--temperature", ",".join(text.number(t) for t in listed)] if listed else []
    for name in ("n", "n_any_panel", "completion_temperature", "seed"):
        if rows.value(config, name) is not None:
            flags += [f"--{name.replace('_', '-')}", str(config[name])]
    return shlex.join(["assay", "rules", "evaluate", "MODEL", *flags, "--out", "DIR"])


# ---- pictures ----------------------------------------------------------------------------------


def pictures(model: Model) -> list[Block]:
    """Samples, then completions of the task, then of several panels at once."""
    made: list[Block] = []
    drawn = [_sample(r) for r in part(model.here, "sample_picture")]
    if drawn:
        caption = (
            f"The first {len(drawn)} samples at T = 1, none left out. Red: the rows at fault."
            f"{_discs(model)}"
        )
        made.append(Gallery(drawn, caption, (), blocks.FOUR, "What it draws"))
    shown = part(model.here, "completion_picture")
    several = [r for r in shown if "," in str(r.get("mask"))]
    single = [_completion(r) for r in shown if r not in several]
    if single:
        caption = (
            "Left the question, right the answer: framed in green where some rule then holds in "
            "all three rows, in red otherwise. The first questions of every kind, not chosen by "
            "their answers."
        )
        made.append(Gallery(single, caption, (), blocks.THREE, "What it completes"))
    masks = {str(r.get("mask")): r for r in part(model.here, "any_mask")}
    drawn = [_completion(r, masks.get(str(r.get("mask")))) for r in several]
    refused = "; ".join(measured.panels(mask) for mask, r in masks.items() if r.get("refused"))
    caption = f"Not trained for, and refused: {refused}." if refused else ""
    if drawn:
        made.append(Gallery(drawn, caption, (), blocks.THREE, "Several panels unknown"))
    elif caption:
        made.append(Words(f"Several panels unknown. {caption}"))
    return made


def _discs(model: Model) -> str:
    only = model.about.get("binding") in DISCS
    return " The model knows occupied cells alone: each is drawn as a disc." if only else ""


def _sample(row: Row) -> Picture:
    return _drawn(row, str(row.get("verdict") or ""), "", str(row.get("verdict_note") or ""))


def _completion(row: Row, mask: Row | None = None) -> Picture:
    name = measured.signed(row.get("name"))
    kind = "held-out rule" if row.get("held_out") else "trained rule"
    found, note = measured.signed(row.get("verdict")), str(row.get("verdict_note") or "")
    if row.get("right") is True:
        found = "the rule asked for" if found == name else f"another rule, {found}"
        note = f"{found}, in all three rows"
    lines = [f"Checker: {note or found}."] + ([_of_mask(mask)] if mask else [])
    return _drawn(row, name, kind, "\n".join(filter(None, lines)))


def _of_mask(row: Row) -> str:
    """How often the questions of a mask are answered rightly."""
    if rows.value(row, "trained") is None:
        return ""
    return (
        f"{measured.panels(row.get('mask'))} unknown: {interval(row, 'trained')} right on trained "
        f"rules (n = {text.number(row.get('trained_n'))}), marginal fill "
        f"{text.percent(rows.value(row, 'marginal_trained'))}."
    )


def _drawn(row: Row, title: str, sub: str, note: str) -> Picture:
    """The row's SVG as an image; a tick or a cross before its title."""
    right = row.get("right")
    mark = {True: "✓ ", False: "✗ "}.get(right, "") if isinstance(right, bool) else ""
    title, note = measured.signed(title), measured.signed(note)
    verdict = {"✓ ": "Right.", "✗ ": "Wrong."}.get(mark, "")
    alt = " ".join(filter(None, [verdict, f"{title}.", note]))
    return Picture(blocks.svg_source(str(row.get("svg") or "")), alt, mark + title, sub, note)


# ---- findings ----------------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """What each model completes and what it draws, claimed as far as the intervals go."""
    return [f for model in models(run) for f in _findings(run, model)]


def _findings(run: Run, model: Model) -> list[Finding]:
    made = (_completes(model), _draws(model))
    return [Finding(claim, said, anchor(run, model)) for claim, said in filter(None, made)]


def _completes(model: Model) -> tuple[str, list[str]] | None:
    row = next(iter(part(model.here, "completion")), None)
    if row is None or not rows.known([row], "trained", "trained_low", "marginal_trained_high"):
        return None
    said = f"{_named(model)}, {measured.panels(row.get('mask'))}, trained rules: "
    said += _beside(row, "trained")
    claim = GUESSES
    if row["trained_low"] > row["marginal_trained_high"]:
        claim = BEGINS
        if row["trained_low"] > 0.5 and rows.known(
            [row], "held_out_low", "marginal_held_out_high"
        ):
            carried = row["held_out_low"] > row["marginal_held_out_high"]
            claim = CARRIES if carried else LEARNS
    if rows.value(row, "held_out") is not None:
        said += f" Held-out rules: {_beside(row, 'held_out')}"
    return claim, [said]


def _beside(row: Row, name: str) -> str:
    n = text.number(row.get(f"{name}_n"))
    return (
        f"{interval(row, name)} of {n} answers are right; panels of other samples, "
        f"{interval(row, f'marginal_{name}')}."
    )


def _draws(model: Model) -> tuple[str, list[str]] | None:
    row = model.drawn(1.0)
    if row is None or not rows.known([row], "c3", "c3_low", "c3_high", "n"):
        return None
    said = (
        f"{_named(model)} at T = 1: in {interval(row, 'c3')} of {text.number(int(row['n']))} "
        "samples some rule holds in all three rows (C3)"
    )
    if rows.value(row, "novel_c3") is not None:
        said += f"; {interval(row, 'novel_c3')} moreover copy no training row (novel-C3)"
    stages = [interval(row, f"row{i}") for i in (1, 2, 3) if rows.value(row, f"row{i}")]
    if len(stages) == 3:
        said += (
            f". Row 1 obeys some rule in {stages[0]}, row 2 then shares one in {stages[1]}, row "
            f"3 in {stages[2]}"
        )
    copies, claim = _copies(model), SOMETIMES
    if copies:
        said += (
            f". {interval(copies, 'copies')} of its rows occur in training, of fresh rows "
            f"{interval(copies, 'natural')}"
        )
    if row["c3_low"] > 0.5:
        claim = DRAWS
        if copies:
            claim = COPIED if copies["copies_low"] > copies["natural_high"] else NEW
    elif row["c3_high"] < 0.5:
        claim = FAILS
    return claim, [said + "."]


def _copies(model: Model) -> Row | None:
    """The row that tells copied rows from those that agree by chance, at T = 1."""
    every = [r for r in part(model.here, "copies") if rows.value(r, "temperature") == 1]
    found = [r for r in every if r.get("level") == "row"]
    known = rows.known(found, "copies", "copies_low", "natural", "natural_high")
    return next(iter(known), None)


def _named(model: Model) -> str:
    prior = " (set tokens: a structural prior)"
    return model.name + (prior if model.about.get("binding") in ("sets", "positions") else "")
