"""Staged rollout of a guidance weight, with rollback: raise w only as far as evidence allows.

    rollout = Rollout([0, 0.5, 1, 2], ["off_support at most 0.01", "quality at least 0.8"],
                      log="rollout.jsonl")
    while serving:
        samples = generate(w=rollout.w)
        decision = rollout.observe({"off_support": outside(samples), "quality": score(samples)})

With alpha the error budget, whatever the number of looks and of rows (rule and proof:
:mod:`assay.guidance.rollouts.rule`):

    P(some bad stage is ever promoted) <= alpha        bad: a guard's true mean at its limit or
                                                       beyond it while that w was tested
    P(rolled back or fallen back without cause) <= alpha   half for the stages, half for
                                                       production; cause: a mean beyond its limit

Promoted means: w was found good, and the next one is tested. The w under test is served to those
on whom it is tested; a bad one is served until it is rolled back or its budget of rows is spent.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay import runs
from assay.core.intervals import as_array
from assay.guidance.rollouts import rows as rollout_rows
from assay.guidance.rollouts import rule as rollout_rule
from assay.guidance.rollouts import state as rollout_state
from assay.guidance.rollouts.change import change, weights, why
from assay.guidance.rollouts.guard import Guard
from assay.guidance.rollouts.log import Log, Memory
from assay.guidance.rollouts.state import Columns, Standing

__all__ = ["Decision", "Guard", "Rollout"]
_MOST_ROWS = 4096  # decided upon at a time, and in one entry of the log
_ACTIONS = {"promoted": "promote", "rolled_back": "roll_back", "held": "hold_for_good",
            "drift": "fall_back"}  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """What a rollout decided, and why.

    action: "promote", "hold", "roll_back", "hold_for_good" (a stage's budget is spent), "watch"
    (production, no alarm), "fall_back" (production, drift), "ignore" (rows of another w), "over"
    (it ended earlier). w: the weight to serve from now on. used: how many of the rows given
    counted. guards: what each guard showed (name, limit, side, n, mean, lower, upper, verdict).
    """

    action: str
    state: str
    w: float
    stage: int
    reason: str
    used: int = 0
    guards: Sequence[Mapping[str, Any]] = ()

    @property
    def guidance_scale(self) -> float:
        """1 + w."""
        return 1 + self.w

    def row(self) -> dict[str, Any]:
        """As a row: JSON-able, w and guidance_scale side by side."""
        return {"action": self.action, "state": self.state, "w": self.w,
                "guidance_scale": self.guidance_scale, "stage": self.stage,
                "reason": self.reason, "used": self.used, "guards": list(self.guards)}  # fmt: skip


class Rollout:
    """A rollout of guidance weights in stages; in a service, a script or the command line.

    stages: weights w (guided = (1+w) cond - w uncond), increasing. guards: :class:`Guard` or
    words such as "off_support at most 0.01". alpha: error budget, see the module. log: path of
    the audit log; one that is there is resumed where it has the same plan; None keeps it in
    memory. budget: rows a stage after which an undecided one holds for good, at the last good w.
    fallback: w to serve where no stage is good [default: the first stage's].

    Several processes may share a log: each reads what the others appended before it decides.
    ValueError for a plan that makes no sense, a log of another plan, or one that is damaged.
    """

    def __init__(
        self,
        stages: Iterable[float],
        guards: Iterable[Guard | str] | str,
        alpha: float = 0.05,
        *,
        log: str | os.PathLike[str] | None = None,
        budget: int | None = None,
        fallback: float | None = None,
    ):
        plan = rollout_rule.plan(stages, guards, alpha, budget, fallback)
        self._start(plan, Memory() if log is None else Log(log))

    @classmethod
    def open(cls, log: str | os.PathLike[str]) -> Rollout:
        """Resume from a log alone. ValueError where there is none or it is damaged."""
        return cls._of(Log(log), write=True)

    @classmethod
    def read(cls, log: str | os.PathLike[str]) -> Rollout:
        """Look at a log without writing to it or waiting for its lock."""
        return cls._of(Log(log, writable=False), write=False)

    @classmethod
    def _of(cls, log: Log, write: bool) -> Rollout:
        made = cls.__new__(cls)
        found = log.read()
        if not found:
            raise ValueError(
                f"{log.path}: holds no rollout; begin one with assay guidance rollout start"
            )
        plan = _opened(log, found[0])
        if write:
            made._start(plan, Log(log.path))
        else:
            made._log, made._plan, made._standing = log, plan, Standing(plan)
            made._replay(found[1:])
            made._shown = made._standing.w
        return made

    def _start(self, plan: rollout_rule.Plan, log: Memory) -> None:
        self._log, self._plan, self._standing = log, plan, Standing(plan)
        with log.locked():
            found = log.read()
            if found:
                _same_plan(log, plan, _opened(log, found[0]))
                self._replay(found[1:])
                dropped = log.dropped
                self._settle()
                log.append([("resumed", {"entries": len(found), "unfinished_bytes": dropped})])
            else:
                version = runs.environment()["versions"].get("assay")
                log.append([("opened", {**plan.data(), "assay": version})])
        self._shown = self._standing.w

    # ---- what is so now --------------------------------------------------------------------

    @property
    def w(self) -> float:
        """The weight to serve now, as of the last call."""
        return self._shown

    @property
    def guidance_scale(self) -> float:
        """1 + w."""
        return 1 + self._shown

    @property
    def state(self) -> str:
        """ "testing", "production", "held" (for good: budget spent) or "rolled_back"."""
        return self._standing.phase

    @property
    def good_w(self) -> float | None:
        """The last weight that was found good; None while there is none."""
        return self._standing.good_w

    @property
    def plan(self) -> rollout_rule.Plan:
        """Stages, guards, budgets."""
        return self._plan

    @property
    def head(self) -> str:
        """Hash of the log's last entry: note it elsewhere, for verification."""
        return self._log.head

    def decide(self) -> Decision:
        """Where it stands, with what others appended; no new rows."""
        with self._log.locked():
            self._refresh()
        return self.standing()

    def standing(self) -> Decision:
        """Where it stood at the last call; reads and writes nothing."""
        self._shown = self._standing.w
        action = {rollout_state.TESTING: "hold", rollout_state.PRODUCTION: "watch"}
        return self._decision(action.get(self.state, "over"), why(self._standing), 0)

    # ---- what changes it -------------------------------------------------------------------

    def observe(
        self, rows: Mapping[str, Any] | Iterable[Mapping[str, Any]], w: float | None = None
    ) -> Decision:
        """Take a metric row, or several in order, and decide.

        A row gives values for guards by name, all within their ranges; a guard may be missing or
        None. Rows after the one that decides were made at the old w and do not count. w: the
        weight that the rows were made at [default: the one this object showed last; say it where
        threads share the object]; rows of any other w than the one to serve now are noted and
        ignored. When it returns, rows and decision are on disk.

        ValueError, and nothing taken, for unknown guards, values that are no numbers or outside
        the guard's range.
        """
        given = [rows] if isinstance(rows, Mapping) else list(rows)
        columns = rollout_rows.columns(given, self._plan.guards)
        made_at = self._shown if w is None else float(w)
        with self._log.locked():
            self._refresh()
            return self._take(columns, len(given), made_at)

    def measure(self, samples: Any, w: float | None = None) -> Decision:
        """Take samples (n, ...): each guard's metric gives n values of them; then as observe.

        ValueError where a guard has no metric or gives another number of values.
        """
        columns: dict[str, np.ndarray] = {}
        for guard in self._plan.guards:
            if guard.metric is None:
                raise ValueError(
                    f"guard {guard.name!r} has no metric: give it one, or use observe with rows"
                )
            columns[guard.name] = as_array(guard.name, guard.metric(samples))
            if columns[guard.name].shape != (len(samples),):
                raise ValueError(
                    f"guard {guard.name!r}: its metric gave shape {columns[guard.name].shape} "
                    f"for {len(samples)} samples; it must give one value a sample"
                )
        names = list(columns)
        values = zip(*columns.values(), strict=True)
        return self.observe([dict(zip(names, v, strict=True)) for v in values], w)

    def production(self, reason: str = "told to") -> Decision:
        """Stop testing: serve the last good w from now on, and watch it.

        ValueError where no stage is good yet, or the rollout is over.
        """
        with self._log.locked():
            self._refresh()
            now = self._standing
            if now.over or (now.phase == rollout_state.TESTING and now.good_w is None):
                said = "is over" if now.over else "has found no stage good yet"
                raise ValueError(f"the rollout {said}: there is nothing to take into production")
            if now.phase == rollout_state.TESTING:
                data = {
                    **weights(now.good_w),
                    "reason": f"production at w = {now.good_w:g}: {reason}",
                }
                self._replay(self._log.append([("production", data)]))
        return self.standing()

    def _take(self, columns: Columns, n: int, made_at: float) -> Decision:
        now = self._standing
        if now.over or made_at != now.w:
            said = (
                f"the rollout is over: {now.reason}"
                if now.over
                else f"these rows were made at w = {made_at:g}; now w = {now.w:g} is to be served"
            )
            self._log.append([("ignored", {"n": n, "made_at": made_at, "reason": said})])
            return self._decision("over" if now.over else "ignore", said, 0)
        used, decision = 0, None
        for start in range(0, n, _MOST_ROWS):
            part = {k: v[start : start + _MOST_ROWS] for k, v in columns.items()}
            decision = self._take_part(part, n - start, used)
            used = decision.used
            if decision.action not in ("hold", "watch"):
                return decision
        return decision or self.standing()

    def _take_part(self, columns: Columns, n: int, before: int) -> Decision:
        """Rows of one entry: found out, written with their decision, then taken."""
        now = self._standing
        _, used = now.look(columns)
        data = {
            "stage": now.stage, "state": now.phase, **weights(now.w), "n": n, "used": used,
            "columns": {name: values[:used] for name, values in columns.items()},
        }  # fmt: skip
        ahead = copy.deepcopy(now)
        ahead.apply("observed", data)
        items = [("observed", data), *change(ahead)]
        _, *rest = self._log.append(items)
        self._standing = ahead  # only now: what is not on disk does not count
        self._replay(rest)
        if len(items) == 1:
            action = "hold" if now.phase == rollout_state.TESTING else "watch"
            return self._decision(action, why(self._standing), before + used)
        kind, made = items[1]
        return self._decision(_ACTIONS[kind], made["reason"], before + used, made["guards"])

    def _decision(
        self, action: str, reason: str, used: int, guards: Sequence[Any] | None = None
    ) -> Decision:
        now = self._standing
        self._shown = now.w
        shown = [r.data() for r in now.readings()] if guards is None else guards
        return Decision(action, now.phase, now.w, now.stage, reason, used, shown)

    def _refresh(self) -> None:
        self._replay(self._log.read())
        self._settle()

    def _settle(self) -> None:
        """Write the decision that a kill kept from the log, where there is one."""
        if missing := change(self._standing):
            self._replay(self._log.append(missing))

    def _replay(self, found: Iterable[dict[str, Any]]) -> None:
        for entry in found:
            try:
                self._standing.apply(entry["kind"], entry["data"])
            except (KeyError, TypeError, IndexError) as error:
                raise ValueError(
                    f"{_name(self._log)}: entry {entry['seq']} ({entry['kind']}) does not fit a "
                    f"rollout: {error!r}"
                ) from None


def _opened(log: Memory, entry: Mapping[str, Any]) -> rollout_rule.Plan:
    try:
        if entry["kind"] == "opened":
            return rollout_rule.read_plan(entry["data"])
    except (KeyError, TypeError):
        pass
    raise ValueError(f"{_name(log)}: does not begin a rollout")


def _name(log: Memory) -> str:
    return str(getattr(log, "path", "log"))


def _same_plan(log: Memory, wanted: rollout_rule.Plan, there: rollout_rule.Plan) -> None:
    differing = [k for k, v in there.data().items() if v != wanted.data()[k]]
    if differing:
        raise ValueError(
            f"{_name(log)}: holds a rollout of another plan "
            f"({', '.join(differing)} differ); choose another log, or resume with the same plan"
        )


def rows_of(log: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The entries of a log in order, its chain checked. ValueError where it is damaged."""
    yield from Log(log).read()
