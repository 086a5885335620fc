"""Five samplers side by side: which of them reaches the tilted distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    THREE,
    Cell,
    Figure,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    said,
)
from assay.report.rows import Row
from assay.report.sections import curves
from assay.runs import Run

MISS = "Guided solvers miss the tilted distribution"
REACH = "Guided solvers miss the tilted distribution; weighted particles reach it"
COLORS = {
    "conditional": fig.CONDITIONAL, "guided ODE": fig.GUIDED, "guided SDE": "#d98a5f",
    "tilted": fig.TILTED, "tilted exact": fig.TILTED, "Feynman-Kac": fig.DATA,
}  # fmt: skip
MISSED, REACHED = 5.0, 4.0  # standard errors


def sections(run: Run) -> list[Section]:
    """Means and spreads as dots with intervals, and the table."""
    lead = (
        "The tilted density p(x) p(z|x)¹⁺ʷ is what guidance is said to sample. Guided ODE and SDE "
        "are compared with it, with the conditional, and with Feynman-Kac correctors, which "
        "weight and resample particles."
    )
    legend = (
        Mark("exact moment of the tilted distribution", fig.TILTED, "line"),
        *(Mark(name, _color(name), "point") for name in _names(run.rows)),
    )
    means = (
        "Means with 95 % intervals; the line is the exact mean of the tilted distribution. A "
        "sampler whose interval lies far from the line does not sample it."
    )
    blocks = [
        Gallery(panels(run.rows, "mean", "mean of the class coordinate"), means, legend, THREE),
        Gallery(panels(run.rows, "sd", "standard deviation"), "The same, spread.", (), THREE),
        table(run.rows),
    ]
    title = "Does any sampler reach the tilted distribution?"
    told, how = said(findings(run)), text.command(run.config)
    return [Section(anchor(run), title, lead, told, blocks, method(run), how)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"samplers-{run.path.name}")


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """At the largest w of the largest dimension: who misses; over all, who reaches."""
    usable = [
        r for r in rows.known(run.rows, "w", "mean", "mean_se", "exact_mean") if r["mean_se"] > 0
    ]
    if not usable:
        return []
    d, w = max((_d(r), r["w"]) for r in usable)
    missing = _missing([r for r in usable if _d(r) == d and r["w"] == w])
    reaching, all_near = _reaching(usable)
    if not missing:
        return []
    told = [missing, reaching] if reaching else [missing]
    return [Finding(REACH if all_near else MISS, told, anchor(run))]


def _d(row: Row) -> float:
    return rows.value(row, "d") or 1.0


def _missing(panel: Sequence[Row]) -> str:
    guided = [r for r in panel if "guided" in str(r.get("sampler")) and _apart(r) > MISSED]
    if not guided:
        return ""
    row = guided[0]
    each = text.listed(
        f"{r['sampler']} {_mean(r)} ({_apart(r):.0f} standard errors off)" for r in guided
    )
    return (
        f"{text.capital(str(row.get('target') or 'target'))}, {_d(row):.0f}-D, at "
        f"{text.weight(row['w'])}: tilted mean {text.number(row['exact_mean'])} (exact); {each}; "
        f"{_n(guided)}."
    )


def _reaching(usable: Sequence[Row]) -> tuple[str, bool]:
    """What is to be said of Feynman-Kac, and whether it is near everywhere."""
    corrected = [r for r in usable if str(r.get("sampler")).startswith("Feynman")]
    if not corrected:
        return "", False
    near = [r for r in corrected if _apart(r) < REACHED]
    worst = max(corrected, key=_apart)
    words = (
        f"Feynman-Kac correctors come within {REACHED:.0f} standard errors of it in {len(near)} "
        f"of {text.plural(len(corrected), 'case')}; the farthest is {_mean(worst)} against "
        f"{text.number(worst['exact_mean'])}, {_d(worst):.0f}-D, at {text.weight(worst['w'])}; "
        f"{_n(corrected)}."
    )
    return words, len(near) == len(corrected)


def _n(found: Sequence[Row]) -> str:
    return f"n = {text.number(rows.constant(found, 'n'))}, ± is a 95 % interval"


def _apart(row: Row) -> float:
    """Distance to the exact mean in standard errors."""
    return abs(row["mean"] - row["exact_mean"]) / row["mean_se"]


def _mean(row: Row) -> str:
    return f"{text.number(row['mean'])} ± {text.number(1.96 * row['mean_se'], 2)}"


# ---- what shows it -----------------------------------------------------------------------------


def _names(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(r.get("sampler")) for r in found))


def _color(name: str) -> str:
    return COLORS.get(name, fig.SOFT)


def panels(found: Sequence[Row], column: str, title: str) -> list[Figure]:
    """One panel for each dimension and w: a dot with its interval for each sampler."""
    usable = sorted(rows.known(found, "w", column), key=lambda r: (_d(r), r["w"]))
    return [_panel(group, column, title) for group in rows.groups(usable, "d", "w").values()]


def _panel(group: Sequence[Row], column: str, title: str) -> Figure:
    traces = [_dot(row, column) for row in group]
    exact = rows.value(group[0], f"exact_{column}")
    if exact is not None:
        traces.append(fig.upright(exact, "", fig.TILTED, "solid"))
    order = [text.safe(n) for n in _names(group)[::-1]]
    up = axes.axis("", categoryorder="array", categoryarray=order)
    heading = curves.heading(group[0]["w"])
    heading["title"] = f"{_d(group[0]):.0f}-D, {heading['title']}"
    return fig.figure(traces, axes.axis(title), up, **heading, height=190)


def _dot(row: Row, column: str) -> dict[str, Any]:
    name, se = str(row.get("sampler")), rows.value(row, f"{column}_se")
    dot = fig.points([row[column]], [text.safe(name)], name, _color(name), mode="markers")
    if se is None:
        return dot
    reach = fig.compact([1.96 * se])
    bar = {"type": "data", "array": reach, "color": _color(name), "thickness": 2, "width": 5}
    return dot | {"error_x": bar}


def table(found: Sequence[Row]) -> Table:
    """All rows; below each moment its distance to the exact one in standard errors."""
    columns = ("sampler", "d", "w", "guidance_scale", "mean", "± 95 %", "tilt's mean", "sd",
               "± 95 %", "tilt's sd", "evaluations", "n")  # fmt: skip
    cells = [
        [r.get("sampler"), r.get("d"), r.get("w"), r.get("guidance_scale"), *_moment(r, "mean"),
         *_moment(r, "sd"), r.get("nfe"), r.get("n")]
        for r in found
    ]  # fmt: skip
    title = f"Table: all {text.plural(len(found), 'row')}"
    return Table(columns, cells, "se: standard errors off the exact moment.", title, folded=True)


def _moment(row: Row, column: str) -> list[Any]:
    """A moment, half its interval, the exact one."""
    centre, exact, se = (rows.value(row, c) for c in (column, f"exact_{column}", f"{column}_se"))
    half = Cell(text.UNKNOWN if se is None else text.number(1.96 * se, 2))
    if centre is None or exact is None or not se:
        return [centre, half, exact]
    off = f"{(centre - exact) / se:+.1f} se".replace("-", "−")
    return [Cell(text.number(centre), detail=off), half, exact]


def method(run: Run) -> str:
    """How the rows were made."""
    row = next((r for r in run.rows if r.get("steps")), run.rows[0])
    n = row.get("islands")
    islands = f" in {text.number(n)} islands that never meet" if n else ""
    return (
        f"Each row: n = {text.number(row.get('n'))} particles{islands}, "
        f"{text.number(row.get('steps'))} steps where it solves an equation; standard errors from "
        "the spread between islands. The exact moments are by quadrature: the class coordinate "
        "does not depend on the dimension."
    )
