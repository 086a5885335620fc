"""Ways to choose w against the truth: weights, regret, and the evidence of one choice."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import THREE, Cell, Figure, Finding, Gallery, Mark, Section, Table, said
from assay.report.rows import Row
from assay.runs import Run

CLAIM = "A stated criterion chooses w; habit and monotone trajectories do not know the limit"
METHODS = {
    "criterion": "the criterion",
    "grid": "a measured grid",
    "monotone": "monotone trajectories",
    "habit": "guidance_scale 7.5 by habit",
}
COLORS = {
    "criterion": fig.GUIDED,
    "grid": fig.TILTED,
    "monotone": fig.SERIES[2],
    "habit": fig.CONDITIONAL,
}
AIM_REGRET, AIM_SHARE = 0.05, 0.2
_LIMITS = {
    "off_support": "off the support",
    "diversity": "diversity against w = 0",
    "returned": "mean overshoot late",
    "odds_gain": "gain in class odds (nats)",
}
_PHASES = {
    "look": ("looked at, coarse solver", fig.CONDITIONAL),
    "check": ("solvers compared", fig.TILTED),
    "test": ("tested on noise of its own", fig.GUIDED),
}


def sections(run: Run) -> list[Section]:
    """What each method chose, what it lost, and how one choice came about."""
    cases = list(dict.fromkeys(str(r.get("case")) for r in _of(run, "choice")))
    panels = [chosen(run, case) for case in cases]
    caption = (
        "Each dot is the weight that one seed's choice returned; hollow dots truly violate the "
        "criterion. The line is the largest weight that truly satisfies it."
    )
    marks = [Mark(METHODS[m], COLORS[m], "point") for m in METHODS]
    legend = [*marks, Mark("violates the criterion", fig.INK, "hollow")]
    blocks: list[Any] = [regrets(run)]
    if panels:
        blocks.append(Gallery(panels, caption, legend, THREE, "Chosen weights against the truth"))
    drawn = evidence(run)
    if drawn:
        marks = [Mark(label, color, "point") for label, color in _PHASES.values()]
        told = (
            f"The choice of the first seed on {drawn[0][0]}: estimates with their bounds, and "
            "the limit. Only the tests vouch for a weight; the search before them is free to err."
        )
        blocks.append(Gallery([f for _, f in drawn], told, marks, THREE, "Evidence of one choice"))
    lead = (
        "The largest w is wanted at which guided samples keep a stated criterion. Judged on exact "
        "targets, with and without planted score error, by the true values of its constraints."
    )
    return [
        Section(
            anchor(run), "How to choose w?", lead, said(findings(run)), blocks, method(run),
            command(run.config),
        )
    ]  # fmt: skip


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"choosing-{run.path.name}")


def _of(run: Run, kind: str) -> list[Row]:
    return [r for r in run.rows if r.get("row") == kind]


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """Mean regret and cost of every method over all cases, against the aims."""
    overall = {str(r["method"]): r for r in _of(run, "summary") if r.get("case") == "all"}
    own = overall.get("criterion")
    if own is None:
        return []
    met = own["regret"] <= AIM_REGRET and (own.get("grid_share") or 1.0) <= AIM_SHARE
    first = (
        f"Over {text.plural(int(own['cases']), 'case')} and {text.number(own['n'])} choices the "
        f"criterion loses {_regret(own)} of the oracle's log(1 + w), at worst "
        f"{text.percent(own['regret_worst'])}, with {text.percent(own['grid_share'])} of the "
        f"grid's evaluations; {_broken(own)}. The aim was at most {text.percent(AIM_REGRET)} at "
        f"{text.percent(AIM_SHARE)}: {'met' if met else 'missed'}."
    )
    more = [
        f"{text.capital(METHODS[m])} loses {_regret(r)}; {_broken(r)}."
        for m, r in overall.items()
        if m in METHODS and m != "criterion"
    ]
    exact = (
        "Against the largest weight of all instead of the largest of the grid's, the criterion "
        f"loses {_regret(own, 'regret_exact')}."
    )
    return [Finding(CLAIM, [first, *more], anchor(run), [exact])]


def _regret(row: Row, name: str = "regret") -> str:
    low, high = rows.value(row, f"{name}_low"), rows.value(row, f"{name}_high")
    mean = text.percent(row[name])
    if low is None or high is None:
        return mean
    return f"{mean} (95 %: {text.percent(low)} to {text.percent(high)})"


def _broken(row: Row) -> str:
    ends = f"{text.percent(row['violations_low'])} to {text.percent(row['violations_high'])}"
    return f"{text.percent(row['violations'])} of its choices violate a constraint (95 %: {ends})"


# ---- tables ------------------------------------------------------------------------------------


_ALL = "; confidence 95%"


def regrets(run: Run) -> Table:
    """A line a case, for each method its mean and worst regret, violations and median weight."""
    summaries = _of(run, "summary")
    methods = [m for m in METHODS if any(r.get("method") == m for r in summaries)]
    limits = {str(r["case"]): r for r in _of(run, "limit")}
    columns: list[str | Cell] = ["case", Cell("oracle w", detail="guidance_scale")]
    columns.append(Cell("evaluations", detail="of the grid's"))
    columns += [Cell("regret", detail=METHODS[name]) for name in methods]
    cells = []
    for case in dict.fromkeys(str(r.get("case")) for r in summaries):
        own = {str(r["method"]): r for r in summaries if str(r.get("case")) == case}
        limit = limits.get(case, {})
        name, criterion = "all cases" if case == "all" else case, str(limit.get("criterion") or "")
        line: list[Any] = [Cell(name, state="words", detail=criterion.removesuffix(_ALL))]
        line.append(_weight(limit.get("oracle_w")))
        share = rows.value(own.get("criterion", {}), "grid_share")
        cells.append([*line, Cell(text.percent(share)), *(_lost(own.get(m)) for m in methods)])
    caption = (
        "Regret: the share of the oracle's log(1 + w) that is lost, 1 where a constraint is truly "
        "violated. The oracle is the largest weight of the grid that truly satisfies the "
        "criterion, which stands below the case (at 95 % confidence where nothing else is said). "
        "Evaluations are the criterion's. Below each regret: the median w chosen "
        "(guidance_scale is 1 more), the worst regret where it is more, the share of choices "
        "that violate."
    )
    return Table(columns, cells, caption, "Regret by method and case")


def _lost(row: Row | None) -> Cell:
    if row is None:
        return Cell(text.UNKNOWN)
    detail = f"w {text.number(row.get('w'), 3)}"
    if row["regret_worst"] > row["regret"]:
        detail += f", worst {text.percent(row['regret_worst'])}"
    if row["violations"]:
        detail += f", {text.percent(row['violations'])} violate"
    return Cell(text.percent(row["regret"]), min(row["regret"], 1.0), detail=detail)


def _weight(w: Any) -> Cell:
    if w is None:
        return Cell(text.UNKNOWN)
    return Cell(text.number(float(w), 3), detail=text.number(1 + float(w), 3))


# ---- figures -----------------------------------------------------------------------------------


def chosen(run: Run, case: str) -> Figure:
    """The weights every method chose on one case."""
    found = [r for r in _of(run, "choice") if str(r.get("case")) == case]
    methods = [m for m in METHODS if any(r.get("method") == m for r in found)]
    grid = (0.0, 1.0, 3.0, 10.0, 30.0)
    limit = next((r for r in _of(run, "limit") if str(r.get("case")) == case), {})
    traces: list[Any] = []
    for height, name in enumerate(reversed(methods)):
        own = rows.known([r for r in found if r.get("method") == name], "w")
        for broken in (False, True):
            part = [r for r in own if bool(r.get("violates")) == broken]
            if part:
                x = axes.places([r["w"] for r in part], grid)
                y = [height + _jitter(r) for r in part]
                dots = fig.points(x, y, METHODS[name], COLORS[name], mode="markers", hollow=broken)
                said = [_hover(r) for r in part]
                traces.append(dots | {"text": said, "hovertemplate": "%{text}<extra></extra>"})
    best = rows.value(limit, "oracle_w_exact")
    if best is not None:
        traces.append(fig.upright(axes.places([best], grid)[0]))
    y = axes.axis("", showticklabels=False, range=[-0.6, len(methods) - 0.4], ticks="")
    error = limit.get("error")
    sub = f"error {error}, size {text.number(limit.get('size'))}" if error else "exact scores"
    return fig.figure(traces, axes.of_w(grid), y, case, sub=sub, height=210)


def _jitter(row: Row) -> float:
    """A fixed small shift, so that equal weights do not hide each other."""
    return (zlib.crc32(str(row.get("key")).encode()) % 1000 / 1000 - 0.5) * 0.5


def _hover(row: Row) -> str:
    return f"{text.weight(row['w'])}<br>regret {text.percent(row.get('regret'))}"


def evidence(run: Run) -> list[tuple[str, Figure]]:
    """One figure a constraint: bounds by w of the case whose choice tested the most weights."""
    found = _of(run, "evidence")
    counts: dict[str, int] = {}
    for row in found:
        counts[str(row.get("case"))] = counts.get(str(row.get("case")), 0) + len(
            [n for n in _LIMITS if row.get(n) is not None]
        )
    if not counts:
        return []
    case = max(counts, key=lambda name: counts[name])
    own = [r for r in found if str(r.get("case")) == case]
    return [
        (case, _bounds(name, rows.known(own, name, "w", f"{name}_low", f"{name}_high")))
        for name in _LIMITS
        if rows.known(own, name, "w", f"{name}_low", f"{name}_high")
    ]


def _bounds(name: str, found: Sequence[Row]) -> Figure:
    grid = sorted({r["w"] for r in found})
    traces: list[Any] = []
    for phase, (label, color) in _PHASES.items():
        part = [r for r in found if str(r.get("phase")).split(",")[0] == phase]
        if part:
            x = axes.places([r["w"] for r in part], grid)
            ends = {end: [r[f"{name}_{end}"] for r in part] for end in ("low", "high")}
            values = [r[name] for r in part]
            traces.append(fig.points(x, values, label, color, mode="markers", **ends))
    limit = rows.value(found[0], f"{name}_limit")
    if limit is not None:
        traces.append(fig.across(limit, "limit"))
    share = name in ("off_support", "diversity")
    y = axes.shares(_LIMITS[name], whole=False) if share else axes.axis(_LIMITS[name])
    return fig.figure(traces, axes.of_w(grid), y, text.capital(_LIMITS[name]), height=270)


def method(run: Run) -> str:
    """How the rows were made."""
    config = run.config
    return (
        f"{text.number(config.get('seeds'))} seeds a case; at most "
        f"{text.number(config.get('cap'))} samples of one weight, as many for every weight of "
        "the grid (w = 0 and 25 weights even in ln w over [0.1, 30]). Heun's method, "
        f"{text.number(config.get('steps'))} steps, {text.number(config.get('coarse_steps'))} "
        "where the criterion's search only looks. Samples come from the solver's tabulated map, "
        "and the truth is a quadrature over that map. The monotone rule sees the true mean "
        "projected trajectories over the whole window of noise, sigma 80 to 0.002, and "
        "nothing of the criterion."
    )


def command(config: dict[str, Any]) -> str:
    """The command line that makes the rows again."""
    cases = ",".join(str(c) for c in config.get("cases") or [])
    flags = f"--seeds {config.get('seeds')} --cap {config.get('cap')}"
    return f"assay guidance choose-study --case {cases} {flags} --out DIR"
