"""How often a rollout errs, and how fast it is: simulated metrics, clean stages and faulty ones.

Two guards stand for the two sorts of metric: off_support, events of which at most 1 % may occur
(Bernoulli), and quality, scores in [0, 1] whose mean must be at least 0.8 (Beta, a + b = 8). A
metric *at e times its limit* has e times the distance from the good end of its range that its
limit has: off_support occurs with probability 0.01 e, quality has mean 1 - 0.2 e. So e = 1 is
exactly at the limit: bad (it must not be promoted) and yet not beyond it (rolling it back has no
cause); 1.5 and 3 are beyond it. Healthy metrics are at 0.2 times their limits.

Stages: the fault begins with one w and stays at all above it. Promoted bad: some w with a metric
at its limit or beyond was found good. False rollback: rolled back at a w none of whose metrics is
beyond its limit. Delay: rows at the first faulty w until it is rolled back. A stage that has not
been decided after the budget of rows holds for good. Production: so many healthy rows, then the
fault; an alarm before it is false, the delay counts from it.

The rule is the one that services use (:mod:`assay.guidance.rollouts.rule`), on many streams at
once. Intervals are Wilson's, 95 %. The same for off_support alone is computed exactly
(:mod:`assay.guidance.rollouts.exact`). No network is called: nfe is 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay import progress
from assay.core.intervals import wilson
from assay.guidance.rollouts import exact as rollout_exact
from assay.guidance.rollouts import rule as rollout_rule
from assay.guidance.rollouts import trace as rollout_trace
from assay.guidance.rollouts.change import change
from assay.guidance.rollouts.rule import INSIDE, OUTSIDE, UNDECIDED, Plan
from assay.guidance.rollouts.state import TESTING, Standing
from assay.runs import Run

GUARDS = ("off_support at most 0.01", "quality at least 0.8")
SIZES = (1.0, 1.5, 3.0)  # times the limit
HEALTHY, NEARER = 0.2, 0.5
FAULTS = {"off_support": (True, False), "quality": (False, True), "both": (True, True)}
_BETA = 8.0  # a + b of the scores
_ROWS, _STEP = 100, 25  # rows drawn at a time, and in a trace
_HEALTHY = (HEALTHY, HEALTHY)

Row = dict[str, Any]
Exposure = tuple[float, float]  # times the limit: off_support, quality


@dataclass(frozen=True)
class Study:
    """n simulated rollouts of each kind; rows a stage and in production; the first faulty stage.
    ValueError for n < 1."""

    n: int = 1000
    seed: int = 0
    alpha: float = 0.05
    stages: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    faulty_from: int = 2
    budget: int = 16_000
    before: int = 2000
    after: int = 20_000

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n {self.n} must be 1 or more: rollouts of each kind")
        rollout_rule.plan(self.stages, GUARDS, self.alpha, self.budget)

    @property
    def plan(self) -> Plan:
        """What every simulated rollout goes through."""
        return rollout_rule.plan(self.stages, GUARDS, self.alpha, self.budget)

    def data(self) -> dict[str, Any]:
        """The Run's configuration."""
        command = f"assay guidance rollout simulate --n {self.n} --seed {self.seed}"
        command += f" --alpha {self.alpha:g} --out DIR"
        return {"kind": "guidance.rollout", **dataclasses.asdict(self), "guards": list(GUARDS),
                "healthy": HEALTHY, "command": command}  # fmt: skip


def fill(run: Run, study: Study) -> None:
    """Compute what the Run lacks, scenario by scenario."""
    every = list(_scenarios(study))
    for key, make in progress.track(every, "simulated rollouts", len(every)):
        run.compute(key, make)


def _scenarios(study: Study) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Keys of rows, and what makes each with its own stream of random numbers."""
    index = 0

    def own(make: Callable[..., Row], *args: Any) -> Callable[[], Any]:
        nonlocal index
        index += 1
        seeds = [study.seed, index]
        return lambda: (make(study, np.random.default_rng(seeds), *args), {})

    for size in (HEALTHY, NEARER):
        yield f"stages/clean/{size:g}", own(stage_row, "clean", size)
    for fault in FAULTS:
        for size in SIZES:
            yield f"stages/{fault}/{size:g}", own(stage_row, fault, size)
    for fault, size in [("clean", HEALTHY), *((f, s) for f in FAULTS for s in SIZES)]:
        if fault != "both":
            yield f"production/{fault}/{size:g}", own(production_row, fault, size)
    for size in (HEALTHY, NEARER, *SIZES):
        yield f"exact/off_support/{size:g}", lambda s=size: (exact_row(study, s), {})
    for fault, size in (("clean", HEALTHY), ("off_support", 3.0), ("quality", 1.5)):
        index += 1
        yield f"trace-{fault}-{size:g}", lambda f=fault, s=size, i=index: trace(study, i, f, s)


def exposure(fault: str, size: float) -> Exposure:
    """How many times their limits the metrics are at, with this fault."""
    if fault == "clean":
        return size, size
    off, quality = FAULTS[fault]
    return size if off else HEALTHY, size if quality else HEALTHY


def draw(rng: np.random.Generator, at: Exposure, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Metrics at so many times their limits: off_support and quality, of this shape each."""
    off, quality = 0.01 * at[0], 1 - 0.2 * at[1]
    scores = rng.beta(_BETA * quality, _BETA * (1 - quality), shape)
    return [(rng.random(shape) < off).astype(float), scores]


def run_stage(
    plan: Plan, at: Exposure, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(verdict, rows) of n rollouts at one stage whose metrics are at these exposures, (n,) each.

    Undecided ones took the whole budget.
    """
    assert plan.budget is not None
    verdict, rows = np.zeros(n, int), np.full(n, plan.budget)
    left, gate = np.arange(n), rollout_rule.Gate(plan, (n,))
    for start in range(0, plan.budget, _ROWS):
        k = min(_ROWS, plan.budget - start)
        found, row = rollout_rule.first_verdict(*gate.update(draw(rng, at, (k, len(left)))))
        done = found != UNDECIDED
        verdict[left[done]], rows[left[done]] = found[done], start + row[done] + 1
        left = left[~done]
        if not len(left):
            break
        gate.keep(~done)
    return verdict, rows


def stage_row(study: Study, rng: np.random.Generator, fault: str, size: float) -> Row:
    """n rollouts through all stages, with a fault from one stage on, or clean at a size."""
    plan, n, first = study.plan, study.n, study.faulty_from
    clean = fault == "clean"
    usual = exposure("clean", size if clean else HEALTHY)
    alive = np.arange(n)
    rolled, held, promoted_bad, false = (np.zeros(n, bool) for _ in range(4))
    taken: list[np.ndarray] = []
    delay = np.empty(0)
    for stage in range(len(plan.stages)):
        at = usual if clean or stage < first else exposure(fault, size)
        verdict, rows = run_stage(plan, at, len(alive), rng)
        good, out = verdict == INSIDE, verdict == OUTSIDE
        rolled[alive[out]], held[alive[verdict == UNDECIDED]] = True, True
        if max(at) >= 1:
            promoted_bad[alive[good]] = True
        if max(at) <= 1:
            false[alive[out]] = True
        if not clean and stage == first:
            delay = np.where(out, rows, np.inf)
        if max(at) < 1:
            taken.append(rows[good])
        alive = alive[good]
        if not len(alive):
            break
    reached = np.zeros(n, bool)
    reached[alive] = True
    w = None if clean else plan.stages[first]
    return {
        **_head(study, "stages", fault, size, w), **_share("promoted_bad", promoted_bad),
        **_share("rolled_back", rolled), **_share("false_rollback", false),
        **_share("held", held), **_share("passed_all", reached),
        **_times("delay", delay),
        **_times("rows_to_promote", np.concatenate(taken)), "budget": plan.budget,
    }  # fmt: skip


def exact_row(study: Study, size: float) -> Row:
    """What happens at one stage with off_support at so many times its limit, without sampling."""
    head = _head(study, "exact", "off_support", size, study.stages[study.faulty_from])
    found = rollout_exact.stage_row(study.plan, 0.01 * size)
    return {**head, "n": None, "seed": None, **found, "budget": study.budget}


def production_row(study: Study, rng: np.random.Generator, fault: str, size: float) -> Row:
    """n rollouts in production: healthy rows, then the fault; a clean one stays as it is."""
    plan, n = study.plan, study.n
    left, watches = np.arange(n), rollout_rule.Watches(plan, (n,))
    alarm = np.full(n, np.inf)
    for start in range(0, study.before + study.after, _ROWS):
        at = exposure("clean", HEALTHY) if start < study.before else exposure(fault, size)
        alarms = watches.update(draw(rng, at, (_ROWS, len(left)))).any(-1)
        done = np.asarray(alarms.any(0))
        alarm[left[done]] = start + alarms.argmax(0)[done] + 1
        left = left[~done]
        if not len(left):
            break
        for watch in watches.watches:
            watch.keep(~done)
    cause = fault != "clean" and size > 1
    false = alarm <= (study.before if cause else np.inf)
    false &= np.isfinite(alarm)
    delay = alarm[alarm > study.before] - study.before if cause else np.empty(0)
    return {
        **_head(study, "production", fault, size, plan.stages[-1]),
        **_share("false_alarm", false),
        **_share("detected", np.isfinite(alarm) & (alarm > study.before) & cause),
        **_times("delay", delay), "before": study.before, "after": study.after,
    }  # fmt: skip


def trace(study: Study, index: int, fault: str, size: float) -> tuple[Row, dict[str, np.ndarray]]:
    """One rollout step by step, as :meth:`rollout_trace.Tracer.made`."""
    rng = np.random.default_rng([study.seed, index])
    standing = Standing(study.plan)
    tracer = rollout_trace.Tracer(standing)
    names = [g.name for g in study.plan.guards]
    while standing.phase == TESTING:
        at = exposure(fault, size) if standing.stage >= study.faulty_from else _HEALTHY
        drawn = [v.tolist() for v in draw(rng, at, (_STEP,))]
        _, used = standing.look(dict(zip(names, drawn, strict=True)))
        taken = {name: v[:used] for name, v in zip(names, drawn, strict=True)}
        standing.apply("observed", {"columns": taken})
        tracer.total += used
        tracer.note()
        for kind, data in change(standing):
            tracer.event(kind, data["reason"])
            standing.apply(kind, data)
    row, arrays = tracer.made()
    return {**_head(study, "trace", fault, size, standing.w), **row}, arrays


def _head(study: Study, part: str, fault: str, size: float, w: float | None) -> Row:
    return {
        "part": part, "scenario": fault, "size": size, "w": w,
        "guidance_scale": None if w is None else 1 + w, "n": study.n, "seed": study.seed,
        "alpha": study.alpha, "nfe": 0,
    }  # fmt: skip


def _share(name: str, hit: np.ndarray) -> Row:
    low, high = wilson(int(hit.sum()), len(hit))
    return {name: float(hit.mean()), f"{name}_low": low, f"{name}_high": high}


def _times(name: str, rows: np.ndarray) -> Row:
    """Median and 90 % point; null where that many never came."""
    found = np.sort(rows)
    points = {"median": 0.5, "90": 0.9}
    at = {k: found[min(int(np.ceil(q * len(found))), len(found)) - 1] if len(found) else np.inf
          for k, q in points.items()}  # fmt: skip
    return {f"{name}_{k}": int(v) if np.isfinite(v) else None for k, v in at.items()}
