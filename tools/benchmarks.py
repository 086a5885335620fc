"""Writes docs/benchmarks.md from the Runs of ``make bench``.

python tools/benchmarks.py out/bench
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.runs import Run, write_aside

ROOT = Path(__file__).parent.parent
HEAD = """# Benchmarks

Made by `make bench` (rows under out/bench/) and `python tools/benchmarks.py`. Ratios hold
within one run on one machine: peers are timed in turn with ours, medians are quoted. {where}
"""
EXACT = """
## Exact pushforward against Monte Carlo

Evaluations of the guided denoiser, each at one x and sigma, for a distribution of guided
samples (w = 3, guidance_scale 4) at a given W1 error: ours maps a few Chebyshev nodes of u,
Monte Carlo solves n particles with torchdiffeq's dopri5 at the tolerance and n of least cost
(median W1 error of 10 seeds).
"""
ODE = """
## Batches of guided particles

10,000 particles, w = 3, float64 torch, same denoiser, start and threads, to a root-mean-square
endpoint error: ours (`assay.core.solver.adams`), torchdiffeq's dopri5 in its better time, a
plain torch Heun loop; each at its cheapest setting. 2-D: two mirrored Gaussians. 64-D: ten
classes of handwritten digits.
"""
COST = """
## How cost grows

Adaptive reference to 1e-6 on Gaussian mixtures (base: 10,000 samples, 2 dimensions, 2
components, w = 3), and exact pushforwards to ten digits.
"""
RULES = """
## GenRAVEN
"""

MODELS = """
## Models beside plain loops

Ours in bfloat16 against plain float32 loops of the published kind (`bench/plain.py`), one
thread, in turn: samples a processor second, the median ratio, peak memory in MB. GPT-2 S draws
81 tokens with its cache against a whole pass for every token.
"""
COMPLETION = """
## Completion by diffusion

The last panel of genraven-mini's samples (trained rules, seed 0) by sit-tiny; share correct
with Wilson's 95 % interval, evaluations and processor seconds an item, and how many times
fewer seconds than TDS with 25 particles and 100 steps. Rows "-same" use the network of the
amortised ones. `clip-ceiling` is what clipping to [-1, 1] leaves of true panels of the forty
rules' 35 trained ones.
"""


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/bench")
    runs = {p.name: Run.read(p) for p in sorted(folder.iterdir()) if (p / "config.json").exists()}
    env = next(iter(runs.values())).env
    where = f"Here: {env['cpu']}, {env['n_cpus']} cores, torch {env['versions']['torch']}."
    parts = [HEAD.format(where=where)]
    for name, write in STUDIES.items():
        if name in runs:
            parts.append(write(runs[name].rows))
    write_aside(ROOT / "docs" / "benchmarks.md", ("\n".join(parts).rstrip() + "\n").encode())
    print("wrote docs/benchmarks.md")
    return 0


def _exact(rows: list[dict[str, Any]]) -> str:
    columns = ("target", "w1_error", "ours_nfe", "monte_carlo_n", "monte_carlo_nfe", "nfe_ratio")
    titles = ("target", "W1 error", "ours", "particles", "Monte Carlo", "ratio")
    return EXACT + _table(titles, [[r[c] for c in columns] for r in rows])


def _ode(rows: list[dict[str, Any]]) -> str:
    titles = (
        "d", "RMS error", "evaluations ours", "dopri5", "Heun", "ratio to dopri5", "to Heun",
        "seconds ours", "time ratio to dopri5", "to Heun",
    )  # fmt: skip
    columns = (
        "dim", "rms_error", "ours_nfe", "dopri5_nfe", "heun_nfe", "nfe_ratio_dopri5",
        "nfe_ratio_heun", "ours_seconds", "time_ratio_dopri5", "time_ratio_heun",
    )  # fmt: skip
    note = "\nRuns of over 20 seconds are timed by their first 200 evaluations.\n"
    return ODE + _table(titles, [[r[c] for c in columns] for r in rows]) + note


def _cost(rows: list[dict[str, Any]]) -> str:
    batch = [
        [r["grown"], r[r["grown"]], r["nfe"], r["seconds"]]
        for r in rows
        if r["study"] == "cost of a batch"
    ]
    exact = [
        [r["target"], r["w"], r["nfe"], r["seconds"]]
        for r in rows
        if r["study"] != "cost of a batch"
    ]
    return (
        COST
        + _table(("grows", "to", "evaluations", "seconds"), batch)
        + _table(("exact", "w", "evaluations of one x", "seconds"), exact)
    )


def _rules(rows: list[dict[str, Any]]) -> str:
    rates = [
        [r["what"], r["threads"], r["rate"], r["rate_cpu"], r["published_rate"],
         r["ratio_published"], r.get("ratio_plain")]
        for r in rows if r["study"] == "rates"
    ]  # fmt: skip
    grown = [
        [r["n"], r["generate_seconds"], r["check_seconds"], r["peak_mb"]]
        for r in rows
        if r["study"] == "growth"
    ]
    other = [
        [r["what"], r.get("seconds"), r.get("mb", r.get("peak_mb")), r.get("published_mb")]
        for r in rows
        if r["study"] in ("memory", "start-up")
    ]
    titles = (
        "rate", "threads", "a second", "a processor second", "published", "ratio to published",
        "to plain Python",
    )  # fmt: skip
    return (
        RULES
        + _table(titles, rates)
        + _table(("rows", "seconds to generate", "to check", "peak MB"), grown)
        + _table(("what", "seconds", "MB", "published MB"), other)
    )


def _models(rows: list[dict[str, Any]]) -> str:
    columns = (
        "key", "recipe", "parameters", "ours_n", "ours_samples_per_cpu_s",
        "plain_samples_per_cpu_s", "ratio", "ours_peak_mb", "plain_peak_mb",
    )  # fmt: skip
    titles = (
        "what", "recipe", "parameters", "batch", "ours a second", "plain a second", "ratio",
        "peak ours", "plain",
    )  # fmt: skip
    return MODELS + _table(titles, [[r.get(c) for c in columns] for r in rows])


def _completion(rows: list[dict[str, Any]]) -> str:
    titles = ("method", "n", "correct", "95 % interval", "evaluations", "seconds", "ratio")
    lines = [
        [r["key"], r["correct_n"], r["correct"],
         f"{r['correct_low']:.3f}–{r['correct_high']:.3f}", r.get("nfe"),
         r.get("cpu_seconds_per_item"), r.get("ratio")]
        for r in rows
    ]  # fmt: skip
    return COMPLETION + _table(titles, lines)


STUDIES = {
    "exact": _exact,
    "ode": _ode,
    "cost": _cost,
    "rules": _rules,
    "models": _models,
    "completion": _completion,
}


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["", "| " + " | ".join(titles) + " |", "|---" + "|--:" * (len(titles) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
