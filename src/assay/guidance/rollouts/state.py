"""Where a rollout stands: a function of its log's entries alone, so that a log can be replayed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.core.anytime import MeanSequence
from assay.guidance.rollouts import rule as rollout_rule
from assay.guidance.rollouts.guard import Guard
from assay.guidance.rollouts.rule import INSIDE, OUTSIDE, UNDECIDED, Plan

Columns = dict[str, list[float | None]]
TESTING, PRODUCTION, HELD, ROLLED_BACK = "testing", "production", "held", "rolled_back"
ENDS = {"rolled_back": ROLLED_BACK, "held": HELD, "drift": ROLLED_BACK}


@dataclass(frozen=True)
class Reading:
    """What a guard has shown at one stage: n values, their mean, the confidence sequence's ends
    (null in production, where there is a watch instead), and where it stands."""

    guard: Guard
    n: int
    mean: float | None
    low: float | None
    high: float | None
    verdict: int  # INSIDE, OUTSIDE or UNDECIDED

    def data(self) -> dict[str, Any]:
        """For logs and JSON."""
        said = {INSIDE: "inside", OUTSIDE: "outside", UNDECIDED: "undecided"}[self.verdict]
        return {**self.guard.data(), "n": self.n, "mean": self.mean, "lower": self.low,
                "upper": self.high, "verdict": said}  # fmt: skip

    @property
    def words(self) -> str:
        """The reading in words."""
        g = self.guard
        if self.mean is None:
            return f"{g.name} has not been measured"
        ends = "" if self.low is None else f"between {self.low:.4g} and {self.high:.4g}, "
        seen = f"{g.name} {self.mean:.4g} ({ends}n = {self.n:,})"
        if self.verdict == INSIDE:
            return f"{seen} is {g.side} {g.limit:g}"
        if self.verdict == OUTSIDE:
            return f"{seen} is not {g.side} {g.limit:g}"
        return f"{seen} is not settled against {g.side} {g.limit:g}"


@dataclass
class Standing:
    """A rollout's stage, phase and sequences; changed by :meth:`apply` only."""

    plan: Plan
    phase: str = TESTING
    stage: int = 0
    rows: int = 0  # taken at this stage, or in production
    total: int = 0
    reason: str = ""  # of the last change
    _gate: Any = field(default=None, repr=False)
    _drawn: list[MeanSequence] = field(default_factory=list, repr=False)
    _watches: Any = field(default=None, repr=False)
    _sums: list[list[float]] = field(default_factory=list, repr=False)  # n and sum, production
    _alarms: list[bool] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._begin()

    @property
    def w(self) -> float:
        """The weight to serve now."""
        if self.phase in (TESTING, PRODUCTION):
            return self.plan.stages[self.stage]
        below = self.stage - 1
        return self.plan.stages[below] if below >= 0 else self.plan.fallback

    @property
    def good_w(self) -> float | None:
        """The last weight that was found good and is still thought so; None without one."""
        last = self.stage if self.phase == PRODUCTION else self.stage - 1
        return self.plan.stages[last] if last >= 0 else None

    @property
    def over(self) -> bool:
        """Whether it has come to an end: further rows change nothing."""
        return self.phase in (HELD, ROLLED_BACK)

    # ---- looking ---------------------------------------------------------------------------

    def look(self, columns: Columns) -> tuple[int, int]:
        """(verdict, rows used) of these rows, without taking them."""
        arrays = self._arrays(columns)
        if self.phase == TESTING:
            if self.plan.budget is not None:
                arrays = [a[: self.plan.budget - self.rows] for a in arrays]
            inside, outside = copy.deepcopy(self._gate).update(arrays)
        else:
            outside = copy.deepcopy(self._watches).update(arrays)
            inside = np.zeros_like(outside)
        if not len(outside):
            return UNDECIDED, 0
        verdict, row = rollout_rule.first_verdict(inside, outside)
        return int(verdict), min(int(row) + 1, len(arrays[0]))

    def due(self) -> str | None:
        """The change that the rows so far call for: "promoted", "rolled_back", "held", "drift"."""
        verdicts = [r.verdict for r in self.readings()]
        if self.over:
            return None
        if OUTSIDE in verdicts:
            return "rolled_back" if self.phase == TESTING else "drift"
        if self.phase == PRODUCTION:
            return None
        if set(verdicts) == {INSIDE}:
            return "promoted"
        spent = self.plan.budget is not None and self.rows >= self.plan.budget
        return "held" if spent else None

    def readings(self) -> list[Reading]:
        """What every guard has shown at this stage, or since production began."""
        if self.phase == PRODUCTION or (self.over and self._watches is not None):
            return [
                Reading(g, int(n), s / n if n else None, None, None, OUTSIDE if a else UNDECIDED)
                for g, (n, s), a in zip(self.plan.guards, self._sums, self._alarms, strict=True)
            ]
        return [
            self._reading(g, d, t)
            for g, d, t in zip(self.plan.guards, self._drawn, self._gate.tests, strict=True)
        ]

    def _reading(self, guard: Guard, drawn: MeanSequence, test: MeanSequence) -> Reading:
        low, high = drawn.interval()
        evidence = test.log_evidence()[:, 0]
        good, plan = guard.good_side, self.plan
        verdict = INSIDE if evidence[good] >= -np.log(plan.alpha) else UNDECIDED
        verdict = OUTSIDE if evidence[1 - good] >= -np.log(plan.beta) else verdict
        return Reading(guard, drawn.n, drawn.mean, low, high, verdict)

    # ---- changing --------------------------------------------------------------------------

    def apply(self, kind: str, data: dict[str, Any]) -> None:
        """Take one entry of the log."""
        if kind == "observed":
            self._take(data["columns"])
        elif kind in ("rolled_back", "held"):
            self.phase, self.reason = (
                (ROLLED_BACK if kind == "rolled_back" else HELD),
                data["reason"],
            )
        elif kind == "drift":
            self.phase, self.reason = ROLLED_BACK, data["reason"]
        elif kind == "promoted":
            self.reason = data["reason"]
            self._enter(self.stage + 1)
        elif kind == "production":
            self.reason = data["reason"]
            self._enter(len(self.plan.stages), self.stage - 1)

    def _enter(self, stage: int, at: int | None = None) -> None:
        """Begin a stage; past the last one, production at the last good stage."""
        last = len(self.plan.stages) - 1
        if stage > last:
            self.phase, self.stage = PRODUCTION, last if at is None else at
        else:
            self.stage = stage
        self._begin()

    def _begin(self) -> None:
        plan, self.rows = self.plan, 0
        if self.phase == PRODUCTION:
            self._watches = rollout_rule.Watches(plan)
            self._sums = [[0, 0.0] for _ in plan.guards]
            self._alarms = [False for _ in plan.guards]
            return
        self._gate = rollout_rule.Gate(plan)
        self._drawn = [
            MeanSequence(plan.alphas(g), g.low, g.high, means=g.means()) for g in plan.guards
        ]

    def _take(self, columns: Columns) -> None:
        arrays = self._arrays(columns)
        self.rows += len(arrays[0])
        self.total += len(arrays[0])
        known = [a[~np.isnan(a)] for a in arrays]
        if self.phase == PRODUCTION:
            alarms = self._watches.update(arrays)
            self._alarms = list(alarms.any(0) | np.array(self._alarms))
            for pair, values in zip(self._sums, known, strict=True):
                pair[0], pair[1] = pair[0] + len(values), pair[1] + float(values.sum())
        elif self.phase == TESTING:
            self._gate.update(arrays)
            for sequence, values in zip(self._drawn, known, strict=True):
                sequence.update(values)

    def _arrays(self, columns: Columns) -> list[np.ndarray]:
        """Columns in the order of the guards, NaN where a row lacks the value."""
        return [np.array(columns[g.name], np.float64) for g in self.plan.guards]
