"""What a scaling study says in sentences: who learns first, what could not be said."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import rows, text
from assay.report.blocks import Finding
from assay.report.rows import Row
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_curves import threshold
from assay.report.sections.scaling_read import Group, Study

FIRST = "How much data a rule needs, and which model needs the least"
FORETOLD = "Left-out sizes are foretold by the others"
MISSED = "Left-out sizes are foretold by the others, but not all within the aim"
STOPPING = "What stopping early would have saved"
RULES = "Which kind of rule is learned first"
COPIES = "How the first copies move with data"
WARNED = "How well collapse is told from the first fifth of a training"
CAPACITY = "Whether the size of a network says when it copies"
_FIFTH = 0.2
_METRICS = {
    "novel_c3": "drawing consistent samples that are new (novel-C3)",
    "completion_trained": "completing the rules it was shown",
    "completion_held_out": "completing rules kept from it",
}


def findings(study: Study) -> list[Finding]:
    """Thresholds, predictions, early stopping, first copies, early warning, capacity."""
    anchor = read.anchor(study)
    by_claim = [
        (_leader(study), [*(_first(study, metric) for metric in _METRICS), _fresh(study)]),
        _foretold(study),
        (STOPPING, [_stopping(study)]),
        (RULES, [*_orders(study), _never(study)]),
        (COPIES, [_copies(study)]),
        (WARNED, [_warned(study)]),
        (CAPACITY, [_capacity(study)]),
    ]
    made = [(claim, [s for s in said if s]) for claim, said in by_claim]
    return [Finding(claim, said, anchor) for claim, said in made if said]


def _leader(study: Study) -> str:
    """Who draws, or else completes, from the least data, as a claim."""
    for metric, verb in (("novel_c3", "draw"), ("completion_trained", "complete")):
        known = _known(study, metric)
        if known:
            name, n = study.label(known[0][0]), text.number(round(known[0][1]["per_rule"]))
            return f"{name} learns to {verb} from the least data: N50 = {n} samples a rule"
    return FIRST


def _known(study: Study, metric: str) -> list[tuple[Group, Row]]:
    """The models with an N50, the least first."""
    found = ((g, _of(study, g, metric, 0.5)) for g in study.groups())
    known = [(g, r) for g, r in found if r and rows.value(r, "per_rule") is not None]
    return sorted(known, key=lambda item: item[1]["per_rule"])


def _first(study: Study, metric: str) -> str:
    """The models by their N50, the first one's N90, and who has none and why."""
    found = {g: _of(study, g, metric, 0.5) for g in study.groups()}
    known = _known(study, metric)
    missing = [(g, r) for g, r in found.items() if r and rows.value(r, "per_rule") is None]
    if not known and not missing:
        return ""
    said = f"{text.capital(_METRICS[metric])}: "
    if known:
        said += _ranked(study, known) + _ninety(study, known[0][0], metric)
    else:
        said += f"no model reaches half within the evidence{_most(study, metric)}. "
    return said + _missing(study, missing)


def _ranked(study: Study, known: Sequence[tuple[Group, Row]]) -> str:
    (first, row), *rest = known
    said = f"{study.label(first)} reaches half with the least data, N50 = {threshold(row)} a rule"
    if rest:
        other, second = rest[0]
        high, low = rows.value(row, "high"), rows.value(second, "low")
        apart = high is not None and low is not None and high < low
        relation = "the intervals lie apart" if apart else "the intervals overlap"
        said += f"; next {study.label(other)} with {threshold(second)} ({relation})"
        others = [f"{study.label(g)} {threshold(r)}" for g, r in rest[1:]]
        said += f"; then {text.listed(others)}" if others else ""
    return said + ". "


def _fresh(study: Study) -> str:
    """Where data themselves are not new: the ceiling of novel-C3."""
    found = [r for r in rows.known(study.of("fresh"), "novel_c3_high") if r["novel_c3_high"] < 0.9]
    if not found:
        return ""
    row = min(found, key=lambda r: r["novel_c3"])
    return (
        f"What draws like the data reaches less than 1 in novel-C3: of fresh data "
        f"{text.percent(row['novel_c3'])} are new at {read.amount(row['per_rule'])} samples a "
        "rule, the others hold a row that occurs in training by chance."
    )


def _most(study: Study, metric: str) -> str:
    """The largest mean over seeds that was measured."""
    found = [
        (y, study.label(g), x) for g, held in study.groups().items()
        for x, y in zip(*read.means(held, metric), strict=True)
    ]  # fmt: skip
    if not found:
        return ""
    share, name, per_rule = max(found)
    return f" (at most {text.percent(share)}, {name} at {read.amount(per_rule)} a rule)"


def _ninety(study: Study, group: Group, metric: str) -> str:
    row = _of(study, group, metric, 0.9)
    if row is None:
        return ""
    if rows.value(row, "per_rule") is None:
        return f"Its N90 cannot be said: {row.get('said')}. "
    return f"Its N90 is {threshold(row)}. "


def _missing(study: Study, missing: Sequence[tuple[Group, Row]]) -> str:
    """Who has no N50, by the reason."""
    reasons: dict[str, list[str]] = {}
    for group, row in missing:
        reasons.setdefault(str(row.get("said") or "not said"), []).append(study.label(group))
    said = [f"{text.listed(names)}: {why}" for why, names in reasons.items()]
    return f"No N50 for {'; '.join(said)}." if said else ""


def _of(study: Study, group: Group, metric: str, share: float) -> Row | None:
    found = study.of("threshold", group, metric=metric, share=share)
    return found[0] if found else None


def _foretold(study: Study) -> tuple[str, list[str]]:
    found = study.of("held_out_summary", metric="all")
    if not found:
        return FORETOLD, []
    row = found[0]
    aim = text.number(row["aim"])
    said = (
        f"Each inner size predicted from the others, every model and measure: mean error "
        f"{text.number(row['mean_error'], 2)}, largest {text.number(row['largest_error'], 2)}; "
        f"{row['n_within']} of {row['n']} lie within {aim}, the aim."
    )
    for metric, which in (("rising", "rises"), ("moving", "rises by 0.2 or more")):
        for only in study.of("held_out_summary", metric=metric):
            if only["n"] < row["n"]:
                said += (
                    f" Where the share {which} with data: {only['n_within']} of {only['n']}, mean "
                    f"{text.number(only['mean_error'], 2)}, largest "
                    f"{text.number(only['largest_error'], 2)}."
                )
    return (FORETOLD if row["n_within"] == row["n"] else MISSED), [said]


def _stopping(study: Study) -> str:
    """Trainings that ended clearly below their least validation loss's probe, by model."""
    found = rows.known(study.of("stopping"), "c3_gain_low", "c3_gain_high")
    if not found:
        return ""
    parts = []
    for column, name in (("c3", "C3"), ("completion", "completion")):
        better = [r for r in found if (rows.value(r, f"{column}_gain_low") or 0) > 0]
        worse = [r for r in found if (rows.value(r, f"{column}_gain_high") or 0) < 0]
        parts.append(
            f"{name} was clearly higher there in {len(better)} of {len(found)} trainings"
            f"{_where(study, better)}, clearly lower in {len(worse)}{_where(study, worse)}"
        )
    return (
        f"At the probe of least validation loss instead of the end: {'; '.join(parts)} (clearly: "
        "the 95 % interval of the change leaves out 0; n = "
        f"{text.number(found[0].get('n'))} a probe)."
    )


def _where(study: Study, found: Sequence[Row]) -> str:
    counts: dict[str, int] = {}
    for row in found:
        name = study.label((str(row["model"]), str(row["rule_set"])))
        counts[name] = counts.get(name, 0) + 1
    return f" ({', '.join(f'{name} {n}' for name, n in counts.items())})" if counts else ""


def _orders(study: Study) -> list[str]:
    """For each model the kinds of rules in the order in which they appear, at the most data."""
    said = []
    for group in study.groups():
        found = [r for r in study.of("tau_rule", group) if r.get("n_reached")]
        if not found:
            continue
        size = max((r["per_rule"] for r in found), key=lambda n: n or float("inf"))
        here = study.of("tau_rule", group, per_rule=size)
        known = sorted((r for r in here if r.get("tau")), key=lambda r: r["tau"])
        order = [f"{r['kind']} after {text.number(round(r['tau']))}" for r in known]
        some = [str(r["kind"]) for r in here if r["n_reached"] and not r.get("tau")]
        late = [str(r["kind"]) for r in here if not r["n_reached"]]
        parts = [
            ", ".join(order) + " samples" if order else "",
            f"in some trainings {text.listed(some)}" if some else "",
            f"not by the end {text.listed(late)}" if late else "",
        ]
        name = f"{study.label(group)} at {read.amount(size)} samples a rule"
        said.append(f"{name}: {'; '.join(p for p in parts if p)}.")
    return said


def _never(study: Study) -> str:
    """Models in which nothing was learned by this measure."""
    names = [
        study.label(g) for g in study.groups()
        if study.of("tau_rule", g) and not any(r["n_reached"] for r in study.of("tau_rule", g))
    ]  # fmt: skip
    return f"None by the end of any training: {text.listed(names)}." if names else ""


def _copies(study: Study) -> str:
    found = study.of("tau_mem_growth")
    known = [r for r in found if rows.value(r, "slope") is not None and r["model"] != "all"]
    none: dict[str, list[str]] = {}
    for row in found:
        if row not in known and row["model"] != "all":
            none.setdefault(str(row.get("said")), []).append(str(row["model"]))
    parts = [
        f"{r['model']} {text.number(r['slope'], 3)} ({_end(r, 'low')} to {_end(r, 'high')})"
        for r in known
    ]
    said = ""
    if parts:
        said = f"Slope of ln τ_mem on ln N (1: so many passes over the data): {', '.join(parts)}. "
    missing = [f"{text.listed(names)}: {why}" for why, names in none.items()]
    return said + (f"No slope for {'; '.join(missing)}." if missing else "")


def _end(row: Row, name: str) -> str:
    return text.number(rows.value(row, name), 3)


def _warned(study: Study) -> str:
    """The AUROC of the signals beside that of the amount of data alone."""
    refused = study.of("warning_said")
    if refused:
        return f"Cannot be said: {refused[0].get('said')}."
    found = [r for r in rows.known(study.of("warning", definition="collapse", scheme="cell"),
                                   "auroc", "auroc_low", "auroc_high", "share")
             if r["share"] == _FIFTH]  # fmt: skip
    by = {str(r["predictor"]): r for r in found}
    if "signals" not in by:
        return ""
    row, alone = by["signals"], by.get("per_rule")
    said = (
        f"Signals of the first fifth of the steps: AUROC {_auroc(row)}, scored by fits that have "
        f"not seen the configuration ({row.get('n_events')} of {row.get('n')} trainings "
        f"collapsed, {row.get('n_cells')} configurations)"
    )
    return said + (f"; the amount of data alone: {_auroc(alone)}." if alone else ".")


def _auroc(row: Row) -> str:
    return f"{row['auroc']:.2f} ({row['auroc_low']:.2f} to {row['auroc_high']:.2f})"


def _capacity(study: Study) -> str:
    parts = {
        str(r.get("threshold")): str(r.get("said"))
        for r in study.of("capacity_fit", rule="bits per parameter")
    }
    names = {"copies": "where copies fall to nature", "novel": "where novel-C3 passes half"}
    said = [f"{names[k]}: {v}" for k, v in parts.items() if k in names]
    return f"Bits in the data against parameters, {'; '.join(said)}." if said else ""
