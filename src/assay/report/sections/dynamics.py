"""Trajectories of guided samples: overshoot, return, monotonicity, by target and w."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import (
    Block,
    Finding,
    Gallery,
    Mark,
    Section,
    Table,
    beside,
    percent,
    said,
)
from assay.report.rows import Row
from assay.report.sections import bands, curves
from assay.runs import Run

CLAIM = "On the way, strong guidance overshoots the class and comes back"
NEUTRAL = "How trajectories travel"
COLUMNS = {
    "w": "w", "guidance_scale": "guidance_scale", "far_edge": "far edge",
    "peak": "peak of the mean", "peak_sigma": "σ at the peak",
    "overshoot": "overshoot of the mean", "final": "mean at the end", "returned": "way back",
    "overshoot_per_path": "overshoot per path", "share_over": "paths over the edge",
    "share_returned": "… that came back", "monotone_mean": "mean monotone",
    "monotone_median": "median monotone", "monotone_share": "paths monotone",
}  # fmt: skip
_SHARES = ("share_over", "share_returned", "monotone_share")
_ARRAYS = ("w", "sigmas", "bands", "mean", "shown")
_PANELS = 10
LEGEND = (
    Mark("mean", fig.GUIDED), Mark("the middle 50 % and 90 %", fig.GUIDED, "area"),
    Mark("single trajectories", fig.faint(fig.GUIDED, 0.55)),
    Mark("far edge of the class", fig.INK, "dash"),
)  # fmt: skip


def sections(run: Run) -> list[Section]:
    """Trajectories of every target, the overshoot by w, the table."""
    blocks: list[Block] = []
    for (name,), found in rows.groups(run.rows, "target").items():
        blocks += [*trajectories(run, str(name), found), *peaks(str(name), found)]
        blocks.append(table(str(name), found))
    lead = (
        "How samples travel from noise to data. Everything is seen in the coordinate "
        "x·v/√(1 + σ²): v points from the mean of all data to the mean of the class, and pure "
        "noise has variance 1 in it."
    )
    told = said(findings(run))
    return [
        Section(anchor(run), "Trajectories: overshoot and return", lead, told, blocks,
                method(run), text.command(run.config))
    ]  # fmt: skip


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"dynamics-{run.path.name}")


def findings(run: Run) -> list[Finding]:
    """The largest overshoot of every bounded class, and the last monotone w."""
    by_target = rows.groups(run.rows, "target").items()
    over = [overshoot(str(name), found) for (name,), found in by_target]
    told = [*over, *(monotone(str(name), found) for (name,), found in by_target)]
    told = [s for s in told if s]
    claim = CLAIM if any(over) else NEUTRAL
    return [Finding(claim, told, anchor(run))] if told else []


def overshoot(name: str, found: Sequence[Row]) -> str:
    """How far the mean goes beyond the far edge, and where it ends."""
    over = [r for r in rows.by_w(rows.known(found, "overshoot", "final")) if r["overshoot"] > 0]
    if not over:
        return ""
    row = over[-1]
    back = rows.value(row, "share_returned")
    said = (
        f"{text.capital(name)}: at {text.weight(row['w'])} the mean of the trajectories goes "
        f"{text.number(row['overshoot'], 3)} beyond the far edge "
        f"{text.number(row.get('far_edge'))}, at σ = {text.number(row.get('peak_sigma'), 3)}, and "
        f"comes back to {text.number(row['final'])}"
    )
    said += f"; {text.percent(back)} of the paths leave the class and return" if back else ""
    return said + f" ({_how(row)})."


def monotone(name: str, found: Sequence[Row]) -> str:
    """Up to which w the median only rises in the stated window."""
    seen = [r for r in rows.by_w(found) if isinstance(r.get("monotone_median"), bool)]
    turned = [r for r in seen if not r["monotone_median"]]
    if not seen:
        return ""
    low, high = (text.number(rows.value(seen[0], f"window_{end}")) for end in ("low", "high"))
    window = f"between σ = {high} and {low}"
    if not turned:
        return (
            f"{text.capital(name)}: the median trajectory stays monotone {window} at every w "
            f"measured, up to {text.weight(seen[-1]['w'])}: a rule that stops at the last "
            "monotone w would never fire here."
        )
    held = [r for r in seen if r["monotone_median"] and r["w"] < turned[0]["w"]]
    last = f"up to {text.weight(held[-1]['w'])}" if held else "at no w measured"
    return (
        f"{text.capital(name)}: the median trajectory is monotone {window} {last}; at "
        f"{text.weight(turned[0]['w'])} it turns back ({_how(turned[0])})."
    )


def _how(row: Row) -> str:
    n = rows.value(row, "n")
    return "exact" if n is None else f"n = {text.number(int(n))}"


def trajectories(run: Run, name: str, found: Sequence[Row]) -> list[Block]:
    """One panel a weight: bands, mean, a few paths, the far edge."""
    suffix = _suffix(run, name, found)
    arrays = {k: rows.array(run, f"{k}.{suffix}") for k in _ARRAYS}
    w, sigmas, quantiles = arrays["w"], arrays["sigmas"], arrays["bands"]
    if w is None or sigmas is None or quantiles is None or not len(w):
        return []
    mean, shown = arrays["mean"], arrays["shown"]
    seen = []
    for i in fig.thinned(len(w), _PANELS).tolist():
        edge = rows.value(rows.at(found, float(w[i])) or {}, "far_edge")
        middle, single = (None if a is None else a[i] for a in (mean, shown))
        seen.append((float(w[i]), bands.Bands(sigmas, quantiles[i], middle, single, edge)))
    span = bands.reach([b for _, b in seen])
    panels = [bands.panel(b, v, span) for v, b in seen]
    bounded = seen[0][1].edge is not None
    caption = f"{text.capital(name)}: from noise (left) to sample (right). " + (
        "Where the mean rises above the dashed line, it is outside the class for a while."
        if bounded
        else "The class is unbounded: there is no edge to overshoot, samples drift outwards."
    )
    legend = LEGEND if bounded else LEGEND[:3]
    return [Gallery(panels, caption, legend, beside(len(panels)))]


def _suffix(run: Run, name: str, found: Sequence[Row]) -> str:
    """The end of the arrays' names: the target, or the group that made the rows."""
    names = run.array_names()
    group = str(found[0].get("group"))
    return next((s for s in (name, group) if f"bands.{s}" in names), name)


def peaks(name: str, found: Sequence[Row]) -> list[Block]:
    """Overshoot and the shares of paths against w, for a bounded class."""
    group = {name: rows.by_w(found)}
    level = axes.axis("beyond the far edge", zeroline=True, zerolinecolor="#9aa3ad")
    share = axes.shares("share of paths")
    panels = [
        curves.curve(group, "overshoot", level, "Overshoot of the mean"),
        curves.curve(group, "share_returned", share, "Paths that leave and return"),
        curves.curve(group, "monotone_share", share, "Paths that only rise"),
    ]
    drawn = [p for p in panels if p is not None]
    if len(drawn) < 2:
        return []
    return [Gallery(drawn, f"{text.capital(name)}, by w.", (), beside(len(drawn)))]


def table(name: str, found: Sequence[Row]) -> Table:
    """The rows of a target."""
    used = [c for c in COLUMNS if any(r.get(c) is not None for r in found)]
    cells = [
        [percent(rows.value(r, c)) if c in _SHARES else r.get(c) for c in used]
        for r in rows.by_w(found)
    ]
    title = f"Table: {text.capital(name)}, trajectories by w"
    return Table([COLUMNS[c] for c in used], cells, "", title, folded=True)


def method(run: Run) -> str:
    """Definitions and how the rows were made."""
    row = run.rows[0]
    return (
        f"Trajectories by {row.get('method') or 'the guided flow'}, from "
        f"σ = {text.number(row.get('sigma_max'))} to {text.number(row.get('sigma_min'))}. "
        "Overshoot: the largest mean over σ less the far edge of the class. Monotone: the "
        f"projection never falls between σ = {text.number(row.get('window_high'))} and "
        f"{text.number(row.get('window_low'))}."
    )
