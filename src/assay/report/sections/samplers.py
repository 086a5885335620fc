"""Five samplers side by side: which of them reaches the tilted distribution."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import axes
from assay.report import figures as fig
from assay.report import rows, text
from assay.report.blocks import THREE, Cell, Figure, Finding, Gallery, Mark, Section, Table
from assay.report.rows import Row
from assay.report.sections import curves
from assay.runs import Run

CLAIM = "Guided solvers miss the tilted distribution; weighted ones reach it"
COLORS = {
    "conditional": fig.CONDITIONAL, "guided ODE": fig.GUIDED, "guided SDE": "#d98a5f",
    "tilted": fig.TILTED, "tilted exact": fig.TILTED, "Feynman-Kac": fig.DATA,
}  # fmt: skip
MISSED, REACHED = 5.0, 4.0  # standard errors


def sections(run: Run) -> list[Section]:
    """Means and spreads as dots with intervals, and the table."""
    lead = (
        "The tilted density p(x) p(z|x)¹⁺ʷ is what guidance is said to sample. Guided ODE and SDE "
        "integrate towards something else; Feynman-Kac correctors weight and resample particles, "
        "and do reach it."
    )
    legend = (
        Mark("exact moment of the tilted distribution", fig.TILTED, "line"),
        *(Mark(name, _color(name), "point") for name in _names(run.rows)),
    )
    blocks = [
        Gallery(panels(run.rows, "mean", "mean of the class coordinate"),
                "Means with 95 % intervals; the line is the tilt's exact mean. A dot off the line "
                "is a sampler that does not sample the tilted distribution.", legend, THREE),
        Gallery(panels(run.rows, "sd", "standard deviation"), "The same for the spread.", (), THREE),
        table(run.rows),
    ]  # fmt: skip
    told = said(findings(run))
    return [
        Section(anchor(run), "Does any sampler reach the tilted distribution?", lead, told, blocks,
                method(run), text.command(run.config))
    ]  # fmt: skip


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"samplers-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """At the largest w of the largest dimension: who misses, who reaches."""
    usable = rows.known(run.rows, "w", "mean", "mean_se", "exact_mean")
    if not usable:
        return []
    d, w = max(((r.get("d") or 1), r["w"]) for r in usable)
    panel = [r for r in usable if (r.get("d") or 1) == d and r["w"] == w]
    told = [s for s in (_missing(panel), _reaching(usable)) if s]
    if not told or not _missing(panel):
        return []
    claim = CLAIM if _reaching(usable) else "Guided solvers miss the tilted distribution"
    return [Finding(claim, told, anchor(run))]


def _missing(panel: Sequence[Row]) -> str:
    guided = [r for r in panel if "guided" in str(r.get("sampler")) and _apart(r) > MISSED]
    if not guided:
        return ""
    row = guided[0]
    said = text.listed(
        f"the {r['sampler']} has mean {_mean(r)}, {_apart(r):.0f} standard errors away"
        for r in guided
    )
    return (
        f"{text.capital(str(row.get('target') or 'target'))}, {text.number(row.get('d'))}-D, at "
        f"{text.weight(row['w'])}: the tilt's exact mean is {text.number(row['exact_mean'])}; "
        f"{said} ({_n(guided)})."
    )


def _reaching(usable: Sequence[Row]) -> str:
    corrected = [r for r in usable if str(r.get("sampler")).startswith("Feynman")]
    if not corrected:
        return ""
    near = [r for r in corrected if _apart(r) < REACHED]
    worst = max(corrected, key=_apart)
    return (
        f"Feynman-Kac correctors reach the exact mean within {REACHED:.0f} standard errors in "
        f"{len(near)} of {text.plural(len(corrected), 'case')} (dimensions and w); the worst is "
        f"{_mean(worst)} against {text.number(worst['exact_mean'])} at {text.weight(worst['w'])} "
        f"({_n(corrected)})."
    )


def _n(found: Sequence[Row]) -> str:
    return f"n = {text.number(rows.constant(found, 'n'))}; ± is a 95 % interval"


def _apart(row: Row) -> float:
    """Distance to the exact mean in standard errors."""
    return abs(row["mean"] - row["exact_mean"]) / max(row["mean_se"], 1e-12)


def _mean(row: Row) -> str:
    return f"{text.number(row['mean'])} ± {text.number(1.96 * row['mean_se'], 2)}"


def _names(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(r.get("sampler")) for r in found))


def _color(name: str) -> str:
    return COLORS.get(name, fig.SOFT)


def panels(found: Sequence[Row], column: str, title: str) -> list[Figure]:
    """One panel for each dimension and w: a dot with its interval for each sampler."""
    usable = rows.known(found, "w", column)
    every = rows.groups(sorted(usable, key=lambda r: (r.get("d") or 1, r["w"])), "d", "w")
    return [_panel(group, column, title, d) for (d, _), group in every.items()]


def _panel(group: Sequence[Row], column: str, title: str, d: object) -> Figure:
    names = _names(group)[::-1]
    traces = []
    for row in group:
        name, se = str(row.get("sampler")), rows.value(row, f"{column}_se")
        dot = fig.points([row[column]], [text.safe(name)], name, _color(name), mode="markers")
        if se is not None:
            dot["error_x"] = {"type": "data", "array": fig.compact([1.96 * se]),
                              "color": _color(name), "thickness": 2, "width": 5}  # fmt: skip
        traces.append(dot)
    exact = rows.value(group[0], f"exact_{column}")
    if exact is not None:
        traces.append(fig.upright(exact, "", fig.TILTED, "solid"))
    up = axes.axis("", categoryorder="array", categoryarray=[text.safe(n) for n in names])
    heading = f"{text.number(d)}-D · {curves.title(group[0]['w'])}"
    return fig.figure(traces, axes.axis(title), up, heading, height=190)


def table(found: Sequence[Row]) -> Table:
    """All rows."""
    columns = ("sampler", "d", "w", "guidance_scale", "mean", "± 95 %", "tilt's mean", "sd",
               "± 95 %", "tilt's sd", "evaluations", "n")  # fmt: skip
    cells = [
        [r.get("sampler"), r.get("d"), r.get("w"), r.get("guidance_scale"), _judged(r, "mean"),
         _half(r, "mean"), r.get("exact_mean"), _judged(r, "sd"), _half(r, "sd"),
         r.get("exact_sd"), r.get("nfe"), r.get("n")]
        for r in found
    ]  # fmt: skip
    return Table(columns, cells, "", f"Table: all {text.plural(len(found), 'row')}", folded=True)


def _half(row: Row, column: str) -> str:
    se = rows.value(row, f"{column}_se")
    return text.UNKNOWN if se is None else text.number(1.96 * se, 2)


def _judged(row: Row, column: str) -> object:
    """A moment, marked where it lies beyond MISSED standard errors of the exact one."""
    centre, exact, se = (rows.value(row, c) for c in (column, f"exact_{column}", f"{column}_se"))
    if centre is None or exact is None or not se:
        return row.get(column)
    z = (centre - exact) / se
    return Cell(text.number(centre), detail=f"{z:+.1f} se".replace("-", "−"))


def method(run: Run) -> str:
    """How the rows were made."""
    row = next((r for r in run.rows if r.get("steps")), run.rows[0])
    islands = (
        f" in {text.number(row.get('islands'))} islands that never meet"
        if row.get("islands")
        else ""
    )
    return (
        f"Each row: n = {text.number(row.get('n'))} particles{islands}, "
        f"{text.number(row.get('steps'))} steps where it solves an equation; standard errors from "
        "the spread between islands. The exact moments are by quadrature: the class coordinate "
        "does not depend on the dimension."
    )
