"""Methods of choosing w compared over many seeds; every row is judged by the truth.

Kind "guidance.choosing". Rows: "limit" (one a case: the oracle's weights, those of the methods
without chance), "choice" (case, method, seed), "evidence" (the weights that the first seed's
choice looked at), "summary" (case, method and all cases together: mean and worst regret with
bootstrap intervals, violations with Wilson's, evaluations as a share of the grid's). Methods and
regret: :mod:`assay.guidance.choosing.rules`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from assay.core import intervals
from assay.guidance import config
from assay.guidance.choosing import cases as choosing_cases
from assay.guidance.choosing import choose as choosing
from assay.guidance.choosing import rules
from assay.guidance.choosing.cases import Case, StudySampler
from assay.guidance.choosing.criterion import Criterion
from assay.runs import Run

METHODS = ("criterion", "monotone", "habit", "grid")
Row = dict[str, Any]


class StudyConfig(config._Config):
    """cases by name; seeds: how many, from first_seed on; cap: samples of one weight, of the
    criterion's and of the grid's; steps of Heun's method, coarse_steps where it only looks."""

    kind: Literal["guidance.choosing"] = "guidance.choosing"
    cases: tuple[str, ...] = choosing_cases.NAMES
    seeds: int = Field(default=100, ge=2, le=100_000)
    first_seed: int = Field(default=0, ge=0)
    cap: int = Field(default=4096, ge=128)
    steps: int = Field(default=64, ge=4)
    coarse_steps: int | None = Field(default=16, ge=2)

    @field_validator("cases")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        choosing_cases.named(names)
        return config._unique("cases", names)

    def simulation(self, seed: int) -> config.Simulation:
        """Solver, grid and seed of one choice."""
        return config.Simulation(steps=self.steps, seed=seed)


@dataclass(frozen=True)
class Job:
    """Rows to be made; weight: rough share of the work."""

    key: str
    make: Callable[[Run], None]
    weight: float = 1.0


@dataclass(eq=False)
class _Place:
    """A case with its sampler, made once, and the oracle's weights."""

    case: Case
    study: StudyConfig
    best: tuple[float, float] | None = field(default=None)

    @functools.cached_property
    def criterion(self) -> Criterion:
        return Criterion.parse(self.case.criterion)

    @functools.cached_property
    def sampler(self) -> StudySampler:
        return self.case.sampler(self.study.simulation(0), self.study.coarse_steps)

    @functools.cached_property
    def oracle(self) -> tuple[float, float] | None:
        on_grid, exact = rules.oracle(self.sampler, self.criterion)
        return None if on_grid is None or exact is None else (on_grid, exact)


def jobs(study: StudyConfig) -> Iterator[Job]:
    """What fills the Run: each case's limits, choices seed by seed, and the summary."""
    for case in choosing_cases.named(study.cases):
        place = _Place(case, study)
        yield Job(f"{case.name}/limit", functools.partial(_limit, place), 5.0)
        for seed in range(study.first_seed, study.first_seed + study.seeds):
            yield Job(f"{case.name}/criterion/s{seed}", functools.partial(_seed, place, seed))
    yield Job("all/criterion/summary", functools.partial(_summaries, study), 2.0)


def demo_config() -> Row:
    """A small study: three cases, a few seeds."""
    cases = ("gaussians", "gaussians-bias", "uniforms")
    return StudyConfig(cases=cases, seeds=8, steps=48).model_dump(mode="json")


def fill(run: Run, values: Row) -> None:
    """All rows of a study, made where the Run lacks them."""
    for job in jobs(StudyConfig.model_validate(values)):
        if not run.done(job.key):
            job.make(run)


def _put(run: Run, key: str, row: Row) -> None:
    if not run.done(key):
        run.append({"key": key, **row})


def _limit(place: _Place, run: Run) -> None:
    """The truth of a case, and the methods that draw nothing by chance."""
    case, study = place.case, place.study
    best = place.oracle
    weights = {"monotone": rules.monotone(place.sampler), "habit": rules.HABIT}
    shared = {**case.row(), "n": None, "seed": None, "cap": study.cap}
    if best is not None:
        for method, w in weights.items():
            row = rules.judged(place.sampler, place.criterion, w, best)
            _put(
                run, f"{case.name}/{method}", {"row": "choice", "method": method, **shared, **row}
            )
    curve = [{"w": w, **place.sampler.truth(place.criterion, w)} for w in rules.GRID]
    for at in curve:
        key = f"{case.name}/truth/w={at['w']:.4g}"
        _put(run, key, {"row": "truth", **shared, "guidance_scale": 1 + at["w"], **at})
    limit = {"row": "limit", **shared, "oracle_w": best and best[0]}
    limit |= {"oracle_w_exact": best and best[1], "steps": study.steps}
    _put(run, f"{case.name}/limit", limit)


def _seed(place: _Place, seed: int, run: Run) -> None:
    """The criterion's choice and the measured grid's, from one seed."""
    case, study, best = place.case, place.study, place.oracle
    if best is None:
        return
    settings = choosing.Settings(
        cap=study.cap, simulation=study.simulation(seed), coarse_steps=study.coarse_steps
    )
    shared = {"row": "choice", **case.row(), "seed": seed, "cap": study.cap}
    w, spent = rules.measured_grid(place.sampler, place.criterion, study.cap, seed)
    full = choosing.GRID_SIZE * study.cap * place.sampler.nfe(1.0)
    row = rules.judged(place.sampler, place.criterion, w, best)
    row |= {"nfe": spent, "grid_share": spent / full, "n": choosing.GRID_SIZE * study.cap}
    _put(run, f"{case.name}/grid/s{seed}", {**shared, "method": "grid", **row})
    choice = choosing.choose_from(place.sampler, place.criterion, settings)
    if seed == study.first_seed:
        for i, seen in enumerate(choice.rows):
            _put(run, f"{case.name}/evidence/{i}", {"row": "evidence", **case.row(), **seen})
    row = rules.judged(place.sampler, place.criterion, choice.w, best)
    row |= {
        "n": sum(r["n"] for r in choice.rows),
        "nfe": choice.nfe,
        "grid_share": choice.grid_share,
        "verdict": choice.verdict,
        "reason": choice.reason,
        "notes": list(choice.notes),
    }
    _put(run, f"{case.name}/criterion/s{seed}", {**shared, "method": "criterion", **row})


# ---- summaries ---------------------------------------------------------------------------------


def _summaries(study: StudyConfig, run: Run) -> None:
    choices = [row for row in run.rows if row.get("row") == "choice"]
    for method in reversed(METHODS):  # the last key written says that all are there
        own = [row for row in choices if row["method"] == method]
        for name in [*study.cases, "all"]:
            found = [row for row in own if name in ("all", row["case"])]
            if found:
                made = {"row": "summary", "case": name, "method": method, **summary(found)}
                _put(run, f"{name}/{method}/summary", made)


def summary(rows: list[Row]) -> Row:
    """What choices come to: a case's seeds, or all cases with the same number of seeds."""
    row: Row = {"n": len(rows), "cases": len({r["case"] for r in rows})}
    for name in ("regret", "regret_exact"):
        values = np.array([r[name] for r in rows])
        mean, low, high = float(values.mean()), None, None
        if len(values) > 1:
            rng = np.random.default_rng(0)
            mean, low, high = intervals.bootstrap(values, rng=rng)
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        row[f"{name}_worst"] = float(values.max())
    k = sum(bool(r["violates"]) for r in rows)
    row["violations"] = k / len(rows)
    row["violations_low"], row["violations_high"] = intervals.wilson(k, len(rows))
    weights = [r["w"] for r in rows if r["w"] is not None]
    row["w"] = float(np.median(weights)) if weights else None
    row["guidance_scale"] = None if row["w"] is None else 1 + row["w"]
    shares = [r["grid_share"] for r in rows if r.get("grid_share") is not None]
    row["grid_share"] = float(np.mean(shares)) if shares else None
    row["grid_share_worst"] = max(shares) if shares else None
    spent = [r["nfe"] for r in rows if r.get("nfe") is not None]
    row["nfe"] = float(np.mean(spent)) if spent else None
    return row
