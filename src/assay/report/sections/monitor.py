"""The score-error monitor: against the truth on exact targets, and on a learned model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import blocks as b
from assay.report import figures as fig
from assay.report.blocks import Block, Figure, Finding, Mark, Section
from assay.report.rows import Row
from assay.runs import Run

FOLLOWS = "The score-error monitor follows the true error without seeing it"
PARTLY = "The score-error monitor misses its bar in places"
LEARNED = "The score error of a learned model, from held-out images alone"
RANK, FACTOR = 0.95, 1.5
_NAMES = {
    "bias": "constant bias", "field": "smooth random error", "zeroed": "score zeroed far out",
    "precision": "finite precision", "scaled": "noise over-estimated", "smoothed": "over-smoothed",
    "slope": "grows where guidance pushes",
}  # fmt: skip
_STATES = {"held-out": "noised held-out data", "visited": "states that guidance visits"}
_SCOPES = {"levels": "noise level by noise level", "totals": "all levels", "ratios": "the ratio",
    "common": "levels of errors that every n met",
}  # fmt: skip
_DENOISERS = {"cond": "Conditional", "uncond": "Unconditional"}
_COLUMNS = (
    "target", "held-out n", "states", "what", "sizes", "cells", "known", "below resolution",
    "unknown", "planted errors", "rank correlation", "from", "to", "truth spans", "median ratio",
    "typical factor", "within 1.5", "interval holds", "bound holds", "no error there", "bar",
)  # fmt: skip


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"monitor-{run.path.name}")


def sections(run: Run) -> list[Section]:
    """Estimates against truth, dependence on the number of held-out samples, tables."""
    told = b.said(findings(run))
    if _of(run, "learned"):
        lead = (
            "A network's score error has no truth to compare with. Held-out images alone say how "
            "large it is on noised images and, where they can, on states that guidance visits."
        )
        title = f"Score error of {run.config.get('model') or 'a model'}"
        blocks = learned(run)
        return [Section(anchor(run), title, lead, told, blocks, _method(), _command(run))]
    lead = (
        "Exact denoisers were made wrong on purpose. The monitor saw the wrong denoiser and "
        "held-out samples, never the target; the truth stands beside each of its answers."
    )
    blocks: list[Block] = [*scatter(run), *by_n(run), *table(run)]
    return [
        Section(
            anchor(run), "Measuring a score error", lead, told, blocks, _method(), _command(run)
        )
    ]


def findings(run: Run) -> list[Finding]:
    """Whether the bar is met, by how much, and how often the monitor says that it cannot know."""
    found = _of(run, "learned")
    if found:
        said = [s for s in (_said(r) for r in found if r.get("sigma") is None) if s]
        return [Finding(LEARNED, said, anchor(run))] if said else []
    judged = [r for r in _main(run) if r.get("scope") != "common" and _widest(r)]
    every = [r for r in judged if r.get("target") == "all" and rows.value(r, "rank") is not None]
    if not every:
        return []
    sentences = [_judged(r) for r in every]
    missed = [r for r in judged if r.get("met") is False]
    apart = [_briefly(r) for r in missed if r.get("target") != "all"]
    if apart:
        sentences.append("Target by target the bar is missed at " + "; ".join(apart) + ".")
    return [Finding(PARTLY if missed else FOLLOWS, sentences, anchor(run))]


def _widest(row: Row) -> bool:
    """Over all sizes that were planted, not only those that every target met."""
    return row.get("sizes", "all") == "all"


def _of(run: Run, kind: str) -> list[Row]:
    return [r for r in run.rows if r.get("kind") == kind]


def _main(run: Run) -> list[Row]:
    """Summaries at the number of held-out samples that met every error: the first."""
    found = _of(run, "summary")
    given = run.config.get("n")
    n = given[0] if isinstance(given, Sequence) and given else None
    return [r for r in found if n is None or r.get("n") == n]


def _judged(row: Row) -> str:
    told = "met" if row.get("met") is True else "missed"
    return (
        f"Bar {told} on {_STATES.get(str(row.get('states')), row.get('states'))}, "
        f"{_scope(row)}: rank correlation with the truth {_ends(row, 'rank')}, median ratio "
        f"{_ends(row, 'ratio')}, over {text.number(row.get('known'))} of "
        f"{text.number(row.get('cells'))} cells of {text.number(row.get('errors'))} planted "
        f"errors, whose truth spans a factor {text.number(rows.value(row, 'span'), 2)}; "
        f"{text.percent(rows.value(row, 'share_below'))} lie below "
        f"the resolution and of {text.percent(rows.value(row, 'share_unknown'))} the monitor says "
        f"that it does not know (n = {text.number(row.get('n'))} held-out samples)."
    )


def _scope(row: Row) -> str:
    return _SCOPES.get(str(row.get("scope")), str(row.get("scope")))


def _ends(row: Row, name: str) -> str:
    ends = (text.number(rows.value(row, f"{name}_{end}"), 3) for end in ("low", "high"))
    return f"{text.number(rows.value(row, name), 4)} (95 % interval {' to '.join(ends)})"


def _briefly(row: Row) -> str:
    return (
        f"{row.get('target')}, {row.get('states')}, {_scope(row)} (rank correlation "
        f"{text.number(rows.value(row, 'rank'), 3)}, median ratio "
        f"{text.number(rows.value(row, 'ratio'), 3)}, {text.number(row.get('known'))} cells, "
        f"truth spans {text.number(rows.value(row, 'span'), 2)})"
    )


def _cells(found: Sequence[Row]) -> Iterator[tuple[Row, float, float]]:
    """(row, truth, estimate) of every known cell, level by level."""
    for row in found:
        at = row.get("levels")
        if not isinstance(at, Mapping):
            continue
        columns = [at.get(c) for c in ("true", "error", "status")]
        if not all(isinstance(c, Sequence) for c in columns):
            continue
        for true, error, status in zip(*columns, strict=False):
            if status == "known" and _positive(true) and _positive(error):
                yield row, float(true), float(error)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def scatter(run: Run) -> list[Block]:
    """Estimate against truth by target: held-out above, visited below."""
    cells = _of(run, "cell")
    given = run.config.get("n")
    if isinstance(given, Sequence) and given:
        cells = [r for r in cells if r.get("n") == given[0]]
    kinds = list(dict.fromkeys(str(r.get("error_kind")) for r in cells))
    color = {k: fig.SERIES[i % len(fig.SERIES)] for i, k in enumerate(kinds)}
    legend = [Mark(_NAMES.get(k, k), color[k], "point") for k in kinds]
    legend.append(Mark("a factor 1.5 off", fig.INK, "dash"))
    blocks: list[Block] = []
    for states, named in _STATES.items():
        here = rows.groups([r for r in cells if r.get("states") == states], "target")
        drawn = [f for (t,), r in here.items() if (f := _panel(str(t), r, color)) is not None]
        if drawn:
            caption = (
                f"On {named}: the monitor's error (upwards) against the true one, each point a "
                "noise level of a planted error that the monitor says it knows; the root mean "
                "square error of the predicted noise."
            )
            title = text.capital(named)
            blocks.append(b.Gallery(drawn, caption, legend, b.beside(len(drawn)), title))
    return blocks


def _panel(target: str, found: Sequence[Row], color: Mapping[str, str]) -> Figure | None:
    points: dict[str, list[tuple[float, float]]] = {}
    for row, true, error in _cells(found):
        points.setdefault(str(row.get("error_kind")), []).append((true, error))
    if not points:
        return None
    every = [v for pairs in points.values() for pair in pairs for v in pair]
    low, high = min(every) / 1.3, max(every) * 1.3
    traces = [
        fig.line(
            [low, high], [low * f, high * f], "", fig.INK, width=1.2, dash=d, hoverinfo="skip"
        )
        for f, d in ((1.0, None), (FACTOR, "dash"), (1 / FACTOR, "dash"))
    ]
    for kind, pairs in points.items():
        x, y = zip(*pairs, strict=True)
        name = _NAMES.get(kind, kind)
        traces.append(fig.points(x, y, name, color.get(kind, fig.INK), mode="markers"))
        traces[-1]["marker"] |= {"size": 5, "line": {"width": 0}}
    return fig.figure(
        traces, axes.logarithmic("true error"), axes.logarithmic("said"), text.capital(target)
    )


def by_n(run: Run) -> list[Block]:
    """Share known and typical factor by the number of held-out samples."""
    found = [r for r in _of(run, "summary") if r.get("scope") == "common"]
    found = rows.known(found, "n")
    if len({rows.value(r, "n") for r in found}) < 2:
        return []
    panels = []
    for column, title, axis in (
        ("share_known", "Cells that are known", axes.shares("share of cells", whole=False)),
        ("factor", "Typical factor off the truth", axes.axis("factor")),
    ):
        traces = []
        for i, ((states,), own) in enumerate(rows.groups(found, "states").items()):
            every = sorted(
                (r for r in rows.known(own, column, "n") if r.get("target") == "all"),
                key=lambda r: r["n"],
            )
            x, y = [r["n"] for r in every], [r[column] for r in every]
            traces.append(fig.points(x, y, str(states), fig.SERIES[i]))
        if any(t["x"] for t in traces):
            every = sorted({r["n"] for r in found})
            across = axes.axis("held-out samples", type="log", tickvals=every)
            panels.append(fig.figure(traces, across, axis, title))
    legend = [Mark(s, fig.SERIES[i], "point") for i, s in enumerate(_STATES.values())]
    caption = (
        "All targets together, over the planted errors that every number of held-out samples met."
    )
    return [b.Gallery(panels, caption, legend, b.TWO)] if panels else []


def table(run: Run) -> list[Block]:
    """Every summary."""
    cells = [
        [
            text.capital(str(r.get("target"))), r.get("n"), str(r.get("states")),
            _scope(r), str(r.get("sizes", "all")), r.get("cells"), r.get("known"),
            b.percent(rows.value(r, "share_below")), b.percent(rows.value(r, "share_unknown")),
            r.get("errors"), rows.value(r, "rank"), rows.value(r, "rank_low"),
            rows.value(r, "rank_high"), rows.value(r, "span"), rows.value(r, "ratio"),
            rows.value(r, "factor"), b.percent(rows.value(r, "within")),
            b.percent(rows.value(r, "holds")), b.percent(rows.value(r, "bounds_hold")),
            r.get("false_alarms"),
            "met" if r.get("met") is True else "missed" if r.get("met") is False else "too few",
        ]
        for r in _of(run, "summary")
    ]  # fmt: skip
    if not cells:
        return []
    caption = (
        f"The bar: rank correlation at least {RANK:g} and median ratio within a factor "
        f"{FACTOR:g}, over the cells said to be known; intervals of the rank correlation by "
        "redrawing planted errors whole. Sizes: common are those planted in every target. Truth "
        "spans: largest over smallest true value; near 1 there is nothing to rank. Typical "
        "factor: exp of the median |ln ratio|. Bound holds: share of cells below the resolution "
        "whose truth is under the bound. No error there: known cells in which the denoiser was "
        "exact."
    )
    title = "Table: the monitor against the truth"
    return [b.Table(_COLUMNS, cells, caption, title, folded=True)]


def learned(run: Run) -> list[Block]:
    """Error by noise level of each denoiser, and the totals."""
    found = _of(run, "learned")
    panels = []
    for (name,), own in rows.groups(found, "denoiser").items():
        levels = [r for r in own if _positive(r.get("sigma"))]
        traces = []
        for i, ((states, w), here) in enumerate(rows.groups(levels, "states", "w").items()):
            known = rows.known(here, "sigma", "error", "error_low", "error_high")
            label = _label(states, w)
            color = fig.SERIES[i % len(fig.SERIES)]
            columns = ([r[c] for r in known] for c in ("error", "error_low", "error_high"))
            y, low, high = columns
            x = [r["sigma"] for r in known]
            traces.append(fig.points(x, y, label, color, low=low, high=high))
        sigmas = [r["sigma"] for r in levels]
        if sigmas and any(t["x"] for t in traces):
            across = axes.of_noise(min(sigmas), max(sigmas))
            up = axes.logarithmic("error of eps")
            panels.append(fig.figure(traces, across, up, _DENOISERS.get(str(name), str(name))))
    legend = _legend(found)
    caption = "Where it is known, with 95 % intervals; levels that are not known are left out."
    blocks: list[Block] = [b.Gallery(panels, caption, legend, b.TWO)] if panels else []
    return [*blocks, *_learned_table(found)]


def _label(states: Any, w: Any) -> str:
    named = _STATES.get(str(states), str(states))
    return named if not isinstance(w, (int, float)) else f"{named}, {text.weight(w)}"


def _legend(found: Sequence[Row]) -> list[Mark]:
    levels = [r for r in found if _positive(r.get("sigma"))]
    labels = [_label(s, w) for s, w in rows.groups(levels, "states", "w")]
    return [Mark(n, fig.SERIES[i % len(fig.SERIES)], "point") for i, n in enumerate(labels)]


def _learned_table(found: Sequence[Row]) -> list[Block]:
    cells = [
        [
            str(r.get("denoiser")), str(r.get("states")), r.get("w"), r.get("guidance_scale"),
            rows.value(r, "error"), rows.value(r, "error_low"), rows.value(r, "error_high"),
            b.percent(rows.value(r, "covered")), r.get("n_data"), r.get("nfe"),
            str(r.get("status")), str(r.get("reason") or ""),
        ]
        for r in found
        if r.get("sigma") is None
    ]  # fmt: skip
    columns = ("denoiser", "states", "w", "guidance_scale", "error", "from", "to",
               "ln sigma covered", "held-out images", "evaluations", "status", "why")  # fmt: skip
    title = "Table: all noise levels together"
    return [b.Table(columns, cells, "", title, folded=True)] if cells else []


def _said(row: Row) -> str:
    error, low, high = (rows.value(row, c) for c in ("error", "error_low", "error_high"))
    if error is None or low is None or high is None:
        return ""
    name = _DENOISERS.get(str(row.get("denoiser")), str(row.get("denoiser")))
    span = (
        f"{text.number(error, 3)} (95 % interval {text.number(low, 3)} to {text.number(high, 3)}"
    )
    span += f", {text.number(row.get('n_data'))} held-out images)"
    w = rows.value(row, "w")
    if row.get("states") == "ratio" and w is not None:
        return f"{name}, {text.weight(w)}: visited over held-out error {span}."
    return f"{name}: {_label(row.get('states'), w)}: {span}."


def _method() -> str:
    return (
        "Error: root mean square error of the predicted noise, the root of the mean over ln σ of "
        "E[σ² |score error|²], summed over coordinates. On held-out data from the denoising loss "
        "against a cross-fitted reference, corrected where a second estimate, which the "
        "reference's own error can only lower, lies above it; on visited states from the "
        "empirical posterior of the held-out data or, in many dimensions, from how a model fitted "
        "to these differs between visited and held-out states."
    )


def _command(run: Run) -> str:
    model = run.config.get("model")
    flags = f" --model {model}" if isinstance(model, str) else ""
    return f"assay guidance monitor{flags} --seed {run.config.get('seed', 0)} --out DIR"
