"""Early warning of collapse: receiver operating characteristics, signals, who was warned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import Block, Cell, Figure, Gallery, Mark, Table, Words
from assay.report.rows import Row
from assay.report.sections import scaling_read as read
from assay.report.sections.scaling_read import Study

_SCHEMES = {
    "cell": "seeds of a configuration left out together",
    "family": "a whole family left out",
    "size": "an amount of data left out",
}
_PREDICTORS = {
    "signals": "signals of the first fifth",
    "signals+per_rule": "signals and amount of data",
    "per_rule": "amount of data alone",
    "known_before": "amount of data and model",
}
_MAIN = "collapse"
_POOR = "novel-C3 below half of the model's with ample data"
_COPIED = "rows copied above nature, or a validation loss a tenth above its smallest"
_MEANT = {"collapse": f"{_POOR}, and {_COPIED}", "poor": _POOR, "memorised": _COPIED}
_HAPPENED = {"collapse": "collapsed", "poor": "ended poor", "memorised": "memorised"}
_WILL = {"collapse": "collapses", "poor": "ends poor", "memorised": "memorises"}


def warnings(study: Study) -> list[Block]:
    """The ROC and the scores behind it, AUROCs, signals one by one; or why there are none."""
    refused = [Words(f"No early warning of {r.get('definition') or 'collapse'}: {r.get('said')}.")
               for r in (*study.of("warning_said"), *study.of("warning_lacking"))]  # fmt: skip
    told = [str(r["definition"]) for r in study.of("warning")]
    if not told:
        return list(refused)
    event = _MAIN if _MAIN in told else told[0]
    panels = [p for p in (_roc(study, event), _spread(study, event), _signals(study, event))
              if p is not None]  # fmt: skip
    caption = (
        f"Left: trainings warned of ({event}) against false alarms, as the threshold moves, each "
        "scored by fits that have not seen its configuration. Middle: what was said of each; "
        f"full: {_HAPPENED[event]}. Right: the AUROC of each signal alone, with its 95 % "
        "interval; 0.5 is chance."
    )
    legend = [*study.legend(), Mark(_HAPPENED[event], fig.INK, "point"),
              Mark("not", fig.INK, "hollow")]  # fmt: skip
    title = f"Does the first fifth of a training forecast that it {_WILL[event]}?"
    gallery = Gallery(panels, caption, legend, 300, title)
    return [*refused, gallery, *_areas(study, event), *_table(study)]


def _runs(study: Study, event: str) -> list[Row]:
    """Trainings with their outcome, log odds and probability of an event."""
    end = "" if event == _MAIN else f"_{event}"
    return [
        {**r, "event": bool(r[event]), "log_odds": r[f"log_odds{end}"],
         "probability": rows.value(r, f"probability{end}")}
        for r in rows.known(study.of("warning_run"), f"log_odds{end}", event)
    ]  # fmt: skip


def _roc(study: Study, event: str) -> Figure | None:
    """Points of the curve: one for each threshold."""
    runs = _runs(study, event)
    yes = sum(r["event"] for r in runs)
    no = len(runs) - yes
    if not (yes and no):
        return None
    x, y, hits, alarms = [0.0], [0.0], 0, 0
    ordered = sorted(runs, key=lambda r: -r["log_odds"])
    for i, row in enumerate(ordered):
        hits, alarms = hits + row["event"], alarms + (not row["event"])
        tied = i + 1 < len(ordered) and ordered[i + 1]["log_odds"] == row["log_odds"]
        if not tied:
            x.append(alarms / no)
            y.append(hits / yes)
    hover = "%{y:.0%} warned of<br>at %{x:.0%} false alarms<extra></extra>"
    traces = [
        fig.line([0, 1], [0, 1], "chance", fig.SOFT, dash="dot", width=1.2, hoverinfo="skip"),
        fig.line(x, y, "signals", fig.GUIDED, width=2.6, hovertemplate=hover),
    ]
    note = f"{yes} of {len(runs)} trainings {_HAPPENED[event]}"
    ends = (axes.shares("false alarms"), axes.shares("warned of"))
    return fig.figure(traces, *ends, "Warned of, against false alarms", height=300, note=note)


def _spread(study: Study, event: str) -> Figure | None:
    """Probabilities out of their folds by amount of data."""
    traces, looks, runs = [], study.looks(), _runs(study, event)
    for i, (group, (color, _)) in enumerate(looks.items()):
        own = [r for r in rows.known(runs, "per_rule", "probability")
               if (r.get("model"), r.get("rule_set")) == group]  # fmt: skip
        aside = 1.08 ** (i - (len(looks) - 1) / 2)
        seen = [f"{text.safe(study.label(group))}<br>{read.amount(r['per_rule'])} per rule, seed "
                f"{r.get('seed')}<br>said {r['probability']:.2f}; it "
                f"{'' if r['event'] else 'not '}{_HAPPENED[event]}"
                for r in own]  # fmt: skip
        trace = fig.points([r["per_rule"] * aside for r in own], [r["probability"] for r in own],
                           study.label(group), color, mode="markers", text=seen,
                           hovertemplate="%{text}<extra></extra>")  # fmt: skip
        trace["marker"]["color"] = [color if r["event"] else "#ffffff" for r in own]
        traces.append(trace)
    if not any(t["x"] for t in traces):
        return None
    y = axes.shares("probability said")
    return fig.figure(traces, read.per_rule_axis(study.sizes()), y, "What was said of each",
                      height=300)  # fmt: skip


def _signals(study: Study, event: str) -> Figure | None:
    """AUROC of each signal by itself."""
    found = rows.known(
        study.of("warning_signal", definition=event), "auroc", "auroc_low", "auroc_high"
    )
    if not found:
        return None
    found.sort(key=lambda r: r["auroc"])
    names = [text.safe(str(r["signal"]).replace("_", " ")) for r in found]
    seen = [f"{text.safe(r.get('said'))}<br>AUROC {r['auroc']:.3f} ({r['auroc_low']:.3f} to "
            f"{r['auroc_high']:.3f})" for r in found]  # fmt: skip
    trace = fig.points([r["auroc"] for r in found], names, "signal", fig.TILTED, mode="markers",
                       text=seen, hovertemplate="%{text}<extra></extra>")  # fmt: skip
    trace["error_x"] = {
        "type": "data", "symmetric": False, "thickness": 1.4, "width": 4, "color": fig.TILTED,
        "array": [max(r["auroc_high"] - r["auroc"], 0) for r in found],
        "arrayminus": [max(r["auroc"] - r["auroc_low"], 0) for r in found],
    }  # fmt: skip
    x, y = axes.axis("AUROC", range=[-0.03, 1.03]), axes.axis("", type="category", nticks=99)
    half = fig.upright(0.5, "", fig.SOFT, "dot")
    return fig.figure([trace, half], x, y, "Each signal alone", height=300)


def _areas(study: Study, event: str) -> list[Block]:
    """AUROCs of the cross-validated predictors, each way of leaving out a column."""
    found = study.of("warning", definition=event)
    shares = sorted({r["share"] for r in rows.known(found, "share")})
    if not found:
        return []
    main = max(shares, key=lambda s: sum(r["share"] == s for r in found))
    lines: list[list[Any]] = []
    for name, said in _PREDICTORS.items():
        held = [_one(found, predictor=name, scheme=s, share=main) for s in _SCHEMES]
        if any(held):
            lines.append([said, *(_area(r, "auroc") for r in held), _area(held[0], "within_size")])
    for share in shares:
        row = _one(found, predictor="signals", scheme="cell", share=share)
        if share != main and row:
            blank = Cell(text.UNKNOWN)
            said = f"signals of the first {text.percent(share)}"
            lines.append([said, _area(row, "auroc"), blank, blank, _area(row, "within_size")])
    columns = ("told by", *(Cell("AUROC", detail=said) for said in _SCHEMES.values()),
               Cell("AUROC", detail="within one amount of data"))  # fmt: skip
    row = found[0]
    caption = (
        f"{row.get('n_events')} of {row.get('n')} trainings ({row.get('n_cells')} configurations) "
        f"{_HAPPENED[event]}: {_MEANT[event]}. Aim: 0.9. 95 % intervals count configurations."
    )
    return [
        Table(columns, lines, caption, f"How well it is told early that a training {_WILL[event]}")
    ]


def _one(found: Sequence[Row], **where: Any) -> Row | None:
    return next((r for r in found if all(r.get(k) == v for k, v in where.items())), None)


def _area(row: Row | None, name: str) -> Cell:
    value, low, high = (rows.value(row or {}, f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return Cell(text.UNKNOWN)
    return Cell(text.number(value, 3), value, detail=f"{low:.2f} to {high:.2f}")


def _table(study: Study) -> list[Block]:
    """Every signal under every definition."""
    found = study.of("warning_signal")
    if not found:
        return []
    kinds = list(dict.fromkeys(str(r["definition"]) for r in found))
    lines = []
    for name in dict.fromkeys(r["signal"] for r in found):
        held = [_one(found, signal=name, definition=kind) for kind in kinds]
        first = next(r for r in held if r)
        way = "large" if first.get("sign") == 1 else "small"
        lines.append([str(name), str(first.get("said")), f"{way} warns",
                      *(_area(r, "auroc") for r in held),
                      _area(held[0], "within_size")])  # fmt: skip
    columns = ("signal", "what it is", "which", *(Cell("AUROC", detail=k) for k in kinds),
               Cell("AUROC", detail="within one amount"))  # fmt: skip
    return [Table(columns, lines, "", "Table: every signal alone", folded=True)]
