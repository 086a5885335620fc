"""A scaling study read for its page: jobs done, its analysis, names and colours of its models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.report import axes, rows, text
from assay.report import figures as fig
from assay.report.blocks import Mark
from assay.report.rows import Row
from assay.runs import Run

METRICS = {
    "c3": "C3",
    "novel_c3": "novel-C3",
    "completion_trained": "Completion, trained rules",
    "completion_held_out": "Completion, held-out rules",
}
FAMILIES = {
    "edm": "#2457a6", "sit": "#0f8b8d", "dit": "#44607a", "gpt2": "#b4451f", "mamba": "#c9962b",
    "masked": "#7d57a8", "settoken": "#1f7a4d", "panelorder": "#c2557a",
}  # fmt: skip
_OTHERS = ("#5d7a1f", "#8a5a3c", "#6b7683", "#a0522d")
_DASHES = ("solid", "dot", "dash", "dashdot")
ANALYSIS = "analysis"
_MOST = 7  # so many sizes get a tick each

Group = tuple[str, str]  # model, rule set


@dataclass(frozen=True)
class Study:
    """The Run, its finished and its failed jobs, the rows of its analysis by part."""

    run: Run
    jobs: list[Row]
    failed: list[Row]
    parts: Mapping[str, list[Row]]
    n_analysed: int | None

    def groups(self) -> dict[Group, list[Row]]:
        """Jobs by model and rule set, each by rising data."""
        ordered = sorted(self.jobs, key=lambda r: r.get("per_rule") or float("inf"))
        found = rows.groups(ordered, "model", "rule_set")
        order = {name: i for i, name in enumerate(self._order())}
        held = sorted(found.items(), key=lambda item: order.get(str(item[0][0]), len(order)))
        return {(str(model), str(rule_set)): group for (model, rule_set), group in held}

    def _order(self) -> list[str]:
        config = self.run.config
        models = config.get("models") or []
        named = [str(m.get("name")) for m in models if isinstance(m, Mapping)]
        return [*map(str, config.get("recipes") or []), *named]

    def label(self, group: Group) -> str:
        """The model's name, and the rule set where the study has several."""
        several = len({rule_set for _, rule_set in self.groups()}) > 1
        return f"{group[0]}, {group[1]}" if several else group[0]

    def looks(self) -> dict[Group, tuple[str, str]]:
        """(colour, dash) of each: colours by family, dashes within one."""
        found: dict[Group, tuple[str, str]] = {}
        used: dict[str, int] = {}
        others: dict[str, str] = {}
        for group, held in self.groups().items():
            stem = str(held[0].get("recipe") or group[0]).partition("-")[0]
            if stem not in FAMILIES and stem not in others:
                others[stem] = _OTHERS[len(others) % len(_OTHERS)]
            color = FAMILIES.get(stem) or others[stem]
            found[group] = color, _DASHES[used.get(stem, 0) % len(_DASHES)]
            used[stem] = used.get(stem, 0) + 1
        return found

    def legend(self) -> list[Mark]:
        """A mark for each model."""
        return [Mark(self.label(g), color, "dash" if dash != "solid" else "line")
                for g, (color, dash) in self.looks().items()]  # fmt: skip

    def of(self, part: str, group: Group | None = None, **where: Any) -> list[Row]:
        """Rows of the analysis: of a part, a model and rule set, with these values."""
        found = self.parts.get(part, [])
        if group is not None:
            where |= {"model": group[0], "rule_set": group[1]}
        return [r for r in found if all(r.get(k) == v for k, v in where.items())]

    def sizes(self) -> list[float]:
        """Samples per rule that were fixed."""
        return sorted({float(r["per_rule"]) for r in self.jobs if r.get("per_rule")})


def read(run: Run) -> Study:
    """The study of a Run, with its analysis where there is one."""
    done = [r for r in run.rows if r.get("status") == "done" and "model" in r]
    failed = [r for r in run.rows if r.get("status") == "failed"]
    again = {r["key"] for r in done}
    failed = [r for r in failed if r.get("job") not in again]
    path = Path(run.path) / ANALYSIS
    analysis = Run.read(path) if (path / "config.json").is_file() else None
    held = rows.groups(analysis.rows, "part") if analysis else {}
    parts = {str(part): group for (part,), group in held.items()}
    n = rows.value(analysis.config, "n_jobs") if analysis else None
    return Study(run, done, failed, parts, None if n is None else int(n))


def anchor(study: Study, part: str = "") -> str:
    """The anchor of a part of the study's page."""
    return text.slug("-".join(filter(None, ["scaling", study.run.path.name, part])))


def per_rule_axis(sizes: Sequence[float], **options: Any) -> dict[str, Any]:
    """The logarithmic axis of samples per rule, a little wider than the sizes."""
    low, high = (min(sizes) / 1.6, max(sizes) * 1.6) if sizes else (10.0, 1e4)
    if 1 < len(set(sizes)) <= _MOST:
        ticks = sorted(set(sizes))
        options = {"tickvals": ticks, "ticktext": [short(n) for n in ticks], **options}
    return powers("samples per rule", low, high, **options)


def powers(title: str, low: float, high: float, **options: Any) -> dict[str, Any]:
    """A logarithmic axis with its powers of ten written out: 100, 1k, 10k."""
    ends = [math.log10(low), math.log10(high)]
    powers = [10.0**i for i in range(math.floor(ends[0]), math.floor(ends[1]) + 1)]
    ticks = [n for n in powers if low <= n <= high]
    if len(ticks) < 2:
        ticks = [m * n for n in powers for m in (1, 3) if low <= m * n <= high]
    return axes.axis(title, **{
        "type": "log", "range": ends, "tickvals": ticks, "ticktext": [short(n) for n in ticks],
        "tickangle": 0, **options,
    })  # fmt: skip


def short(value: float) -> str:
    """100, 1.6k, 10k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def place(row: Row) -> float | None:
    """Where a training stands on that axis: its samples per rule, of a stream those seen."""
    if (fixed := rows.value(row, "per_rule")) is not None:
        return fixed
    seen, n_rules = rows.value(row, "samples_seen"), rows.value(row, "n_rules")
    return seen / n_rules if seen and n_rules else None


def amount(per_rule: Any) -> str:
    """Samples per rule in words."""
    return "a stream" if per_rule is None else text.number(int(per_rule))


def dots(held: Sequence[Row], column: str, name: str, color: str) -> dict[str, Any]:
    """Every training as a point, with its interval in the hover text; streams as squares."""
    usable = [r for r in rows.known(held, column) if place(r) is not None]
    seen = [
        f"{text.safe(name)}<br>{amount(r.get('per_rule'))} per rule, seed {r.get('seed')}"
        f"<br>{text.safe(METRICS.get(column, column))} {_share(r, column)}"
        for r in usable
    ]
    hover = {"text": seen, "hovertemplate": "%{text}<extra></extra>"}
    x, y = [place(r) for r in usable], [r[column] for r in usable]
    trace = fig.points(x, y, name, color, mode="markers", **hover)
    symbols = ["circle" if r.get("per_rule") else "square-open" for r in usable]
    trace["marker"] = {"size": 6.5, "color": fig.faint(color, 0.75), "symbol": symbols,
                       "line": {"color": "#ffffff", "width": 0.8}}  # fmt: skip
    return trace


def _share(row: Row, column: str) -> str:
    low, high, n = (rows.value(row, f"{column}_{end}") for end in ("low", "high", "n"))
    found = text.percent(row[column])
    if low is not None and high is not None:
        found += f" ({text.percent(low)} to {text.percent(high)}"
        found += f", n = {text.number(int(n))})" if n is not None else ")"
    return found


def means(held: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Samples per rule and the mean over seeds, by rising data."""
    found: dict[float, list[float]] = {}
    for row in rows.known(held, column):
        if (x := place(row)) is not None:
            found.setdefault(x, []).append(float(row[column]))
    at = sorted(found)
    return at, [sum(found[x]) / len(found[x]) for x in at]
