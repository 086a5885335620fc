"""Puts the figures of the score-error monitor's trial into docs/monitor.md.

python tools/monitor.py out/monitor    after  assay guidance monitor --out out/monitor

Of a trial that was broken off, the targets that are whole.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import documents

from assay.guidance.monitoring import proof
from assay.guidance.monitoring import summary as monitor_summary
from assay.runs import Run

PAGE = Path(__file__).parent.parent / "docs" / "monitor.md"
SCOPES = {"levels": "one level", "totals": "all levels", "ratios": "ratio"}
HEADS = (
    "targets", "n", "states", "what", "known", "below", "unknown", "rank correlation",
    "median ratio", "truth spans", "interval holds", "bound holds", "bar",
)  # fmt: skip


def tables(run: Run) -> str:
    """Markdown: all targets together by n and sizes, then target by target at the first n."""
    config = proof.MonitorStudy.model_validate(run.config)
    jobs = proof.jobs(config)
    left = {j.target for j in jobs if not run.done(j.last(config))}
    whole = [t for t in config.targets if t not in left]
    cells = [r for r in run.rows if r.get("kind") == "cell" and r["target"] in whole]
    found = monitor_summary.summaries(cells, config.sizes)
    every = [r for r in found if r["scope"] in SCOPES]
    first = config.n[0]
    together = [r for r in every if r["target"] == "all"]
    parts = [
        (_title(run, n, sizes), [r for r in together if r["n"] == n and r["sizes"] == sizes])
        for n in run.config["n"]
        for sizes in ("common", "all")
    ]
    apart = [r for r in every if r["target"] != "all" and r["n"] == first and r["sizes"] == "all"]
    parts.append((f"Target by target, {_title(run, first, 'all')}", apart))
    told = (
        f"Seed {config.seed}, w = {', '.join(f'{w:g}' for w in config.w)}, {config.levels} noise "
    )
    told += f"levels; targets {', '.join(whole)}."
    made = [f"{title}:\n\n{_table(rows)}" for title, rows in parts if rows]
    return "\n\n".join([told, *made])


def _title(run: Run, n: int, sizes: str) -> str:
    config = run.config
    if n != config["n"][0]:
        every = ", ".join(f"{s:g}" for s in config["less_sizes"])
        return f"n = {n}, {' and '.join(config['less_kinds'])} of size {every}"
    every = ", ".join(f"{s:g}" for s in config["sizes"])
    more = ", ".join(f"{s:g}" for s in config["more_sizes"])
    return f"n = {n}, sizes {every}" + (f", on digits also {more}" if sizes == "all" else "")


def _table(rows: list[dict[str, Any]]) -> str:
    sides = ["---"] * 4 + ["--:"] * (len(HEADS) - 5) + ["---"]
    lines = [" | ".join(HEADS), "|".join(sides)]
    lines += [" | ".join(_cells(row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    met = {True: "met", False: "missed"}.get(row["met"], "too few")
    return [
        row["target"], str(row["n"]), row["states"], SCOPES[row["scope"]],
        f"{row['known']} of {row['cells']}", _share(row["share_below"]),
        _share(row["share_unknown"]), _interval(row, "rank", 4), _interval(row, "ratio", 3),
        "" if row["span"] is None else f"{row['span']:.2g}",
        _share(row["holds"]), _share(row["bounds_hold"]), met,
    ]  # fmt: skip


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}".replace("%", " %")


def _interval(row: dict[str, Any], name: str, digits: int) -> str:
    if row[name] is None:
        return ""
    low, high = (row[f"{name}_{end}"] for end in ("low", "high"))
    return f"{row[name]:.{digits}f} ({low:.3f} to {high:.3f})"


def main() -> int:
    run = Run.read(Path(sys.argv[1] if len(sys.argv) > 1 else "out/monitor"))
    documents.put(PAGE, "tools/monitor.py", lambda: tables(run))
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
