"""When a rollout promotes, rolls back and falls back: error budgets and the rule itself.

Stage s serves w_s and measures guards g, whose true means (given all that came before) are
mu_sg, against limits L_g. A stage is *bad* where some mean is at its limit or beyond it, *clean*
where none is beyond it; one exactly at its limit is both, and neither verdict on it is cheap.
Each guard has two capitals (:mod:`assay.core.anytime`) at its limit, one betting that the mean
is inside, one that it is outside. After every row

    roll back   where some guard's outside-capital reaches 1/beta,  beta = alpha / (2 S G)
    promote     where all guards' inside-capitals are at 1/alpha or more, now, at once
    hold        otherwise

which is to say: the interval that has level alpha towards the limit lies wholly inside it for
every guard, or the one of level beta lies wholly outside for some guard.

P(ever promoting a bad stage) <= alpha, over the whole rollout and any number of looks. Stages
are passed in order, so whoever passes a bad stage passes the first bad one; there, some guard's
mean is not inside its limit, and its inside-capital is a non-negative supermartingale from 1,
which ever reaches 1/alpha with probability alpha at most (Ville). Nothing has to be divided among
stages (the first bad one is one stage) or guards (all must agree, the bad one among them).

P(a rollback although no stage was beyond a limit) <= alpha/2: S G capitals, beta each.
P(a fall back in production while no mean is beyond its limit) <= alpha/2, however long the watch:
G watches (:class:`assay.core.anytime.Watch`) with alpha / (2 G) each. Together at most alpha.

What the theorem needs: values within the guard's range; rows that came from the w under test; a
mean that stays at its limit or beyond for the whole of a bad stage (or within for the whole of a
clean one), whatever the dependence otherwise. What it does not promise: that every clean rollout
is promoted soon (a mean near its limit may hold for good), nor anything on guards not measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.anytime import MeanSequence, Watch
from assay.guidance.rollouts import guard as rollout_guard
from assay.guidance.rollouts.guard import Guard

UNDECIDED, INSIDE, OUTSIDE = 0, 1, -1


@dataclass(frozen=True)
class Plan:
    """What a rollout goes through: stages, guards, alpha, budget of rows a stage, fallback w."""

    stages: tuple[float, ...]
    guards: tuple[Guard, ...]
    alpha: float = 0.05
    budget: int | None = None
    fallback: float = 0.0

    @property
    def beta(self) -> float:
        """Level of a rollback by one guard at one stage."""
        return self.alpha / (2 * len(self.stages) * len(self.guards))

    @property
    def watch_alpha(self) -> float:
        """Level of a fall back by one guard in production."""
        return self.alpha / (2 * len(self.guards))

    def alphas(self, guard: Guard) -> tuple[float, float]:
        """Levels of the lower and of the upper end of the guard's confidence sequence."""
        if guard.good_side == 0:
            return self.alpha, self.beta
        return self.beta, self.alpha

    def data(self) -> dict[str, Any]:
        """For a log; :func:`plan` reads it."""
        return {
            "stages": list(self.stages), "guards": [g.data() for g in self.guards],
            "alpha": self.alpha, "budget": self.budget, "fallback": self.fallback,
        }  # fmt: skip


def plan(
    stages: Iterable[float],
    guards: Iterable[Guard | str] | str,
    alpha: float = 0.05,
    budget: int | None = None,
    fallback: float | None = None,
) -> Plan:
    """A plan from what users say. ValueError naming what is wrong.

    stages: weights w, increasing, finite, >= -1; fallback: w to serve where no stage is good
    [default: the first stage's].
    """
    weights = tuple(float(w) for w in stages)
    if not weights or not all(math.isfinite(w) and w >= -1 for w in weights):
        raise ValueError(f"stages {list(weights)!r} must be one or more finite weights w >= -1")
    if any(b <= a for a, b in itertools.pairwise(weights)):
        raise ValueError(f"stages {list(weights)!r} must increase: each w above the one before")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha!r} must lie strictly between 0 and 1: try 0.05")
    if budget is not None and (not isinstance(budget, int) or budget < 1):
        raise ValueError(f"budget {budget!r} must be a whole number of rows a stage, 1 or more")
    back = weights[0] if fallback is None else float(fallback)
    if not math.isfinite(back) or back < -1:
        raise ValueError(f"fallback {fallback!r} must be a finite weight w >= -1")
    return Plan(weights, rollout_guard.read(guards), float(alpha), budget, back)


def read_plan(data: dict[str, Any]) -> Plan:
    """The plan of :meth:`Plan.data`."""
    guards = [Guard.of(g) for g in data["guards"]]
    return plan(data["stages"], guards, data["alpha"], data["budget"], data["fallback"])


class Gate:
    """The two capitals of every guard at its limit, at one stage; shape: streams side by side."""

    def __init__(self, plan: Plan, shape: tuple[int, ...] = ()):
        self.plan = plan
        self.tests = [
            MeanSequence(0.5, g.low, g.high, means=[g.limit], shape=shape) for g in plan.guards
        ]

    def update(self, columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Take rows, a column (n, *shape) for each guard; (inside, outside) after each.

        Both (n, *shape, n_guards) and boolean. A column of one stream may lack values (NaN):
        that guard then stays where it was.
        """
        inside, outside = [], []
        for guard, test, column in zip(self.plan.guards, self.tests, columns, strict=True):
            path = _forward(test, np.asarray(column, np.float64))
            good = guard.good_side
            inside.append(path[..., good] >= math.log(1 / self.plan.alpha))
            outside.append(path[..., 1 - good] >= math.log(1 / self.plan.beta))
        return np.stack(inside, axis=-1), np.stack(outside, axis=-1)

    def keep(self, which: np.ndarray) -> None:
        """Go on with some of the streams only."""
        for test in self.tests:
            test.keep(which)


class Watches:
    """A watch of every guard in production; shape: streams side by side."""

    def __init__(self, plan: Plan, shape: tuple[int, ...] = ()):
        self.plan = plan
        self.watches = [
            Watch(g.limit, "above" if g.good_side else "below", g.low, g.high, shape=shape)
            for g in plan.guards
        ]

    def update(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Take rows as :meth:`Gate.update`; whether a guard sounds the alarm after each,
        (n, *shape, n_guards)."""
        found = []
        for watch, column in zip(self.watches, columns, strict=True):
            column = np.asarray(column, np.float64)
            there = ~np.isnan(column) if not watch.shape else np.ones(len(column), bool)
            before = np.broadcast_to(watch.log_evidence(), column.shape)
            path = _filled(before, there, watch.update(column[there]))
            found.append(path >= math.log(1 / self.plan.watch_alpha))
        return np.stack(found, axis=-1)


def first_verdict(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(verdict, row) of the first row that decides, from (n, *shape, n_guards) each.

    n >= 1; verdict: INSIDE, OUTSIDE or UNDECIDED (then row is n); outside wins.
    """
    out = np.asarray(outside.any(-1))
    decided = np.asarray(out | inside.all(-1))
    row = np.where(decided.any(0), decided.argmax(0), len(decided))
    last = np.minimum(row, len(decided) - 1)
    was_out = np.take_along_axis(out, np.expand_dims(last, 0), 0)[0]
    return np.where(row == len(decided), UNDECIDED, np.where(was_out, OUTSIDE, INSIDE)), row


def _forward(test: MeanSequence, column: np.ndarray) -> np.ndarray:
    """ln K (n, *shape, 2) after each row; rows without a value repeat what was."""
    there = np.ones(len(column), bool) if test.shape else ~np.isnan(column)
    before = np.broadcast_to(test.log_evidence()[..., 0], (len(column), *test.shape, 2))
    return _filled(before, there, test.evidence(column[there])[..., 0])


def _filled(before: np.ndarray, there: np.ndarray, path: np.ndarray) -> np.ndarray:
    """path at the rows that are there, carried forward to the others."""
    if there.all():
        return path
    every = np.concatenate([before[:1], path])
    return every[np.cumsum(there)]
