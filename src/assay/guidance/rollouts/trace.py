"""The confidence sequences of one rollout step by step, from its log, as a row for a report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assay.guidance.rollouts import state as rollout_state
from assay.guidance.rollouts.rollout import Rollout, rows_of
from assay.guidance.rollouts.state import Columns, Standing
from assay.runs import Run

KIND = "guidance.rollout"
_STEPS = 400  # points of a drawing, about
_CHANGES = ("promoted", "rolled_back", "held", "drift", "production")


class Tracer:
    """Collects what each guard has shown, after every so many rows, and what was decided."""

    def __init__(self, standing: Standing):
        self.standing, self.total = standing, 0
        self.events: list[dict[str, Any]] = []
        self._paths: list[list[list[float]]] = [[] for _ in standing.plan.guards]

    def note(self) -> None:
        """Note the readings of now, while a stage is tested."""
        for path, r in zip(self._paths, self.standing.readings(), strict=True):
            if r.low is not None and r.high is not None:
                mean = np.nan if r.mean is None else r.mean
                path.append([self.total, self.standing.stage, r.n, mean, r.low, r.high])

    def event(self, kind: str, reason: str) -> None:
        """Note a decision."""
        w = self.standing.w
        self.events.append({"row": self.total, "kind": kind, "reason": reason, "w": w,
                            "guidance_scale": 1 + w, "stage": self.standing.stage})  # fmt: skip

    def made(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(entries of a row, arrays): guard0, guard1 ... each (6, n_steps): rows so far, stage,
        values of the guard, their mean, lower and upper end."""
        plan = self.standing.plan
        row = {"n": self.total, "events": self.events, "stages": list(plan.stages),
               "guards": [g.data() for g in plan.guards], "alpha": plan.alpha}  # fmt: skip
        paths = enumerate(self._paths)
        return row, {f"guard{i}": np.array(p, float).reshape(-1, 6).T for i, p in paths}


def of_log(log: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Row (part "trace") and arrays of a log's rollout. ValueError where the log is damaged."""
    now = Rollout.read(log)
    entries = list(rows_of(log))
    every = sum(e["data"]["used"] for e in entries if e["kind"] == "observed")
    tracer = Tracer(Standing(now.plan))
    for entry in entries[1:]:
        kind, data = entry["kind"], entry["data"]
        if kind == "observed":
            for columns in _steps(data["columns"], max(1, every // _STEPS)):
                tracer.standing.apply(kind, {"columns": columns})
                tracer.total += len(next(iter(columns.values())))
                if tracer.standing.phase == rollout_state.TESTING:
                    tracer.note()
        elif kind in _CHANGES:
            tracer.event(kind, data["reason"])
            tracer.standing.apply(kind, data)
    row, arrays = tracer.made()
    place = {"w": now.w, "guidance_scale": now.guidance_scale, "state": now.state}
    name = Path(log).name
    return {"part": "trace", "scenario": name, "size": None, "seed": None, "nfe": None,
            "head": now.head, **place, **row}, arrays  # fmt: skip


def draw(log: str | os.PathLike[str], out: str | os.PathLike[str]) -> Run:
    """Write the Run of a log's rollout as it stands, for ``assay report``.

    ValueError where the log is damaged, or the folder holds something else: another log, or this
    one as it stood earlier.
    """
    row, arrays = of_log(log)
    command = f"assay guidance rollout draw {Path(log).name} --out DIR"
    config = {"kind": KIND, "log": Path(log).name, "head": row["head"], "command": command}
    with Run.open(out, config) as run:
        run.compute("trace-log", lambda: (row, arrays))
    return run


def _steps(columns: Columns, size: int) -> Iterator[Columns]:
    n = len(next(iter(columns.values())))
    for start in range(0, n, size):
        yield {name: values[start : start + size] for name, values in columns.items()}
