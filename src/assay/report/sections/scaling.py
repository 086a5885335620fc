"""A scaling study: how much data a rule needs, for every model, beside the published figures.

Reads the study's Run and the Run of its analysis in the folder below; computes nothing anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    THREE,
    Block,
    Cell,
    Figure,
    Finding,
    Gallery,
    Section,
    Table,
    Terms,
    Words,
    bars,
    said,
)
from assay.report.rows import Row
from assay.report.sections import (
    scaling_capacity,
    scaling_curves,
    scaling_dynamics,
    scaling_first,
    scaling_published,
    scaling_said,
    scaling_warning,
)
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import METRICS, Study
from assay.runs import Run

TERMS = (
    ("C3, novel-C3", "C3: the share of samples in which some rule holds in all three rows. "
     "novel-C3: of all samples, those in which moreover no row is a copy of a training row."),
    ("completion, trained and held out", "The last panel of a fresh sample is taken away and "
     "filled in; right if some rule then holds in all three rows. Held-out rules occur in no "
     "training row."),
    ("N50, N90", "Samples per rule at which the fitted share is 0.5 or 0.9."),
    ("τ_rule, τ_mem", "Samples seen in training when a kind of rule first appears in what is "
     "drawn; when rows are first copied beyond chance."),
    ("natural overlap", "How much of fresh data occurs in the training samples by chance."),
    ("gap", "Validation loss less the loss on training samples, with the same noise."),
)  # fmt: skip
_JOB = ("c3", "novel_c3", "completion_trained", "completion_held_out")


def sections(run: Run) -> list[Section]:
    """The page: need of data, published figures, collapse, first times, cost and every job."""
    study = read.read(run)
    if not study.jobs:
        return [_waiting(study)]
    parts = [
        ("", "How much data does a rule need?", _lead(study), _need(study)),
        ("published", "Beside the published figures", "", scaling_published.beside(study)),
        ("collapse", "Copies, collapse and early stopping", "", [
            *scaling_dynamics.copies(study), *scaling_dynamics.collapse(study)]),
        ("first", "First rules, first copies", "", [
            *scaling_first.first_rules(study), *scaling_first.first_copies(study)]),
        ("warning", "Early warning", "", scaling_warning.warnings(study)),
        ("capacity", "Does the size of the network say when it copies?", "",
         scaling_capacity.capacity(study)),
        ("cost", "What it costs, and every job", "", [
            *cost(study), jobs(study), *_failed(study), again(study)]),
    ]  # fmt: skip
    told = said(findings(run))
    return [
        Section(read.anchor(study, part), title, lead, told if not part else (), blocks,
                "" if part else _method(study), "" if part else command(study))
        for part, title, lead, blocks in parts if blocks
    ]  # fmt: skip


def findings(run: Run) -> list[Finding]:
    """What to conclude; see `scaling_said`."""
    return scaling_said.findings(read.read(run))


def _need(study: Study) -> list[Block]:
    return [
        *_stale(study),
        *scaling_curves.curves(study),
        *scaling_curves.thresholds(study),
        *scaling_curves.predictions(study),
        Terms("The words of this page, explained", TERMS),
    ]


def _waiting(study: Study) -> Section:
    words = Words("No job is done yet.")
    blocks = [words, *_failed(study)]
    title = "How much data does a rule need?"
    return Section(read.anchor(study), title, "", (), blocks, "", command(study))


def _stale(study: Study) -> list[Block]:
    """What to do where there is no analysis, or jobs came after it."""
    if study.n_analysed is None:
        return [Words("No curves yet: `assay rules scale` writes the analysis at its end.")]
    if study.n_analysed != len(study.jobs):
        said = f"The analysis is of {study.n_analysed} of the {len(study.jobs)} jobs done"
        return [Words(f"{said}: run `assay rules scale` again to renew it.")]
    return []


def _lead(study: Study) -> str:
    groups, sizes = study.groups(), study.sizes()
    n_seeds = len({r.get("seed") for r in study.jobs})
    spread = f"{read.amount(sizes[0])} to {read.amount(sizes[-1])}" if sizes else "streamed"
    wanted = _wanted(study)
    done = f"{len(study.jobs)} of {wanted}" if wanted != len(study.jobs) else str(wanted)
    return (
        f"{text.plural(len(groups), 'model')}, {text.plural(len(sizes), 'amount')} of data "
        f"({spread} samples per rule), {text.plural(n_seeds, 'seed')}: {done} trainings, each "
        "evaluated by an exact checker."
    )


def _wanted(study: Study) -> int:
    config = study.run.config
    found = len(config.get("recipes") or []) + len(config.get("models") or [])
    for name in ("per_rule", "rule_sets", "seeds"):
        found *= len(config.get(name) or [None])
    return max(found, len(study.jobs))


def _method(study: Study) -> str:
    evaluate = study.run.config.get("evaluate")
    n = evaluate.get("n") if isinstance(evaluate, Mapping) else None
    steps = sorted({int(r["n_steps"]) for r in rows.known(study.jobs, "n_steps")})
    return (
        f"{text.number(n)} samples and as many completions a training, at T = 1 and greedy; no "
        "label, no rejection, no rule used in drawing. Wilson intervals, 95 %; thresholds by "
        f"profile likelihood with the dispersion between trainings. Steps: {text.number(steps)}. "
    )


# ---- cost -------------------------------------------------------------------------------------


def cost(study: Study) -> list[Block]:
    """Seconds, FLOP and evaluations, the median over trainings."""
    lines = {study.label(g): _costs(held) for g, held in study.groups().items()}
    columns = ("training, s", "training, FLOP", "1,000 samples, s", "evaluations a sample",
               "1,000 completions, s", "evaluations a completion", "parameters")  # fmt: skip
    across = [bars([costs[i] for costs in lines.values()], 3) for i in range(len(columns))]
    cells = [[name, *column] for name, *column in zip(lines, *across, strict=True)]
    caption = (
        "Medians over the trainings of a model. Seconds are those of the clock, on the machine of "
        "the study, which trainings shared."
    )
    table = Table(("model", *columns), cells, caption, "What a model costs")
    panels = [p for p in (_paid(study, *what) for what in (
        ("training_flop", "training FLOP"), ("training_seconds", "training, s"),
        ("sampling_seconds", "1,000 samples, s"))) if p is not None]  # fmt: skip
    shown = "novel-C3 against cost; larger dots: more data."
    return [table, Gallery(panels, shown, study.legend(), THREE, "What is got for it")]


def _costs(held: Sequence[Row]) -> list[float | None]:
    columns = ("training_seconds", "training_flop", "sampling_seconds", "unconditional_nfe",
               "completion_samples_per_s", "completion_nfe", "parameters")  # fmt: skip
    found = [_median(held, column) for column in columns]
    speed = found[4]
    return [*found[:4], None if not speed else 1000 / speed, *found[5:]]


def _median(held: Sequence[Row], column: str) -> float | None:
    values = sorted(float(r[column]) for r in rows.known(held, column))
    if not values:
        return None
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def _paid(study: Study, column: str, title: str) -> Figure | None:
    traces, sizes = [], study.sizes()
    for group, held in study.groups().items():
        color, name = study.looks()[group][0], study.label(group)
        usable = [r for r in rows.known(held, column, "novel_c3") if r[column] > 0]
        trace = read.dots(usable, "novel_c3", name, color)
        trace["x"] = fig.compact([float(r[column]) for r in usable])
        places = [sizes.index(n) if (n := r.get("per_rule")) in sizes else len(sizes)
                  for r in usable]  # fmt: skip
        trace["marker"] |= {"size": [5 + 2.2 * i for i in places], "symbol": "circle"}
        traces.append(trace)
    every = [x for t in traces for x in t["x"]]
    if not every:
        return None
    wide = max(every) > 30 * min(every)
    ends = (min(every) / 1.5, max(every) * 1.5)
    x = read.powers(title, *ends) if wide else axes.axis(title, exponentformat="SI")
    return fig.figure(traces, x, axes.shares("novel-C3"), "", height=240)


# ---- every job --------------------------------------------------------------------------------


def jobs(study: Study) -> Table:
    """Every finished job with its intervals."""
    columns = ("model", "rules", "per rule", "seed", *METRICS.values(), "marginal fill",
               "copied rows", "natural", "weights", "steps", "samples seen", "s", "n")  # fmt: skip
    cells = [
        [str(r.get("model")), str(r.get("rule_set")), read.amount(r.get("per_rule")),
         r.get("seed"), *(_share(r, c) for c in (*_JOB, "completion_marginal_trained",
                                                 "copies_row", "natural_row")),
         str(r.get("weights") or text.UNKNOWN), r.get("n_steps"), r.get("samples_seen"),
         Cell(text.number(rows.value(r, "training_seconds"), 3)), r.get("c3_n")]
        for held in study.groups().values() for r in held
    ]  # fmt: skip
    title = f"Table: {text.plural(len(cells), 'job')} with 95 % intervals"
    return Table(columns, cells, "", title, folded=True)


def _share(row: Row, column: str) -> Cell:
    low, high = (rows.value(row, f"{column}_{end}") for end in ("low", "high"))
    detail = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return Cell(text.number(rows.value(row, column), 3), detail=detail)


def _failed(study: Study) -> list[Block]:
    if not study.failed:
        return []
    last = {str(r.get("job")): str(r.get("reason") or "") for r in study.failed}
    cells = [[job, reason] for job, reason in last.items()]
    return [Table(("job", "why"), cells, "", "Jobs that failed")]


def again(study: Study) -> Table:
    """The study as the TOML file that makes it again."""
    lines = [[line] for line in toml(study.run.config)]
    return Table(("STUDY.toml",), lines, "", "Table: the study as a TOML file", folded=True)


def command(study: Study) -> str:
    """The command line that makes the rows again."""
    name = study.run.path.name
    return f"assay rules scale STUDY.toml --out {name} && assay report {name}"


def toml(config: Mapping[str, Any]) -> list[str]:
    """A study's configuration as lines of TOML; what is null is left to its default."""
    plain = {k: v for k, v in config.items() if not isinstance(v, Mapping) and k != "models"}
    lines = [f"{k} = {_value(v)}" for k, v in plain.items() if v is not None]
    tables = [(f"[{k}]", v) for k, v in config.items() if isinstance(v, Mapping)]
    tables += [("[[models]]", m) for m in config.get("models") or [] if isinstance(m, Mapping)]
    for head, table in tables:
        lines += [head, *(f"{k} = {_value(v)}" for k, v in table.items() if v is not None)]
    return lines


def _value(value: Any) -> str:
    """A value as TOML writes it; tables inside one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(str(k))} = {_value(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(v) for v in value)}]"
    return json.dumps(value)
