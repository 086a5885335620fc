"""The study: its jobs through an executor, one row for each, one view of them all.

A row is written once a job's evaluation is complete, by whoever watches; a job that was finished
while nobody watched is found finished. A job that fails leaves a row with its reason, does not
stop the others, and is tried again when the study is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from assay import progress
from assay.rules.scaling import config as configs
from assay.rules.scaling import work
from assay.rules.scaling.config import Job, ScaleConfig
from assay.rules.scaling.executors import Executor, Running
from assay.runs import Run

_PAUSE = 0.5  # seconds between two looks


@dataclass
class Outcome:
    """What became of a study: rows of all jobs done, and why others failed this time."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def run(out: Path, config: ScaleConfig, make: Callable[[], Executor]) -> Outcome:
    """Carry out every job that is not done yet. ValueError where the folder cannot be used.

    make: the executor, made once there is something to do.
    """
    jobs, outcome = configs.jobs(config), Outcome()
    with Run.open(out, config) as opened:
        left = [job for job in jobs if not _recorded(opened, out, config, job)]
        outcome.done = len(jobs) - len(left)
        if left:
            executor = make()
            try:
                _Watch(opened, out, config, executor, outcome).through(left, len(jobs))
            finally:
                executor.close()
    return outcome


def _recorded(run: Run, out: Path, config: ScaleConfig, job: Job) -> bool:
    """Whether the job's row is there, or can be written now."""
    if not run.done(job.key) and work.done(out, job, config):
        run.append(work.summary(out, job, config))
    return run.done(job.key)


class _Watch:
    """Keeps as many jobs on their way as there are workers."""

    def __init__(
        self, run: Run, out: Path, config: ScaleConfig, executor: Executor, outcome: Outcome
    ):
        self.run, self.out, self.config = run, out, config
        self.executor, self.outcome = executor, outcome
        self.running: dict[str, tuple[Job, Running]] = {}
        self.shares: dict[str, float] = {}

    def through(self, jobs: list[Job], total: int) -> None:
        """All jobs, in their order."""
        waiting = list(reversed(jobs))
        with progress.bar("scaling study: jobs", total) as advance:
            advance(total - len(jobs))
            try:
                while waiting or self.running:
                    while waiting and len(self.running) < self.executor.workers:
                        job = waiting.pop()
                        self.running[job.key] = job, self.executor.start(self.out, job.key)
                    time.sleep(_PAUSE)
                    advance(self._look(), self._note(len(waiting)))
            finally:
                for _, running in self.running.values():
                    running.stop()

    def _look(self) -> float:
        """Take up what has ended; how much has been done since the last look, in jobs."""
        moved = 0.0
        for key, (job, running) in list(self.running.items()):
            share = 1.0 if running.ended() else 0.95 * work.share_done(self.out, key)
            moved += share - self.shares.get(key, 0.0)
            self.shares[key] = share
            if share == 1.0:
                del self.running[key]
                self._ended(job, running)
        return moved

    def _ended(self, job: Job, running: Running) -> None:
        if _recorded(self.run, self.out, self.config, job):
            self.outcome.done += 1
            return
        reason = running.failure() or "ended without its evaluation"
        self.outcome.failed[job.key] = reason
        tries = sum(row.get("job") == job.key for row in self.run.rows)
        row = {"key": f"failed/{job.key}/{tries + 1}", "status": "failed", "job": job.key}
        self.run.append({**row, "reason": reason})

    def _note(self, waiting: int) -> str:
        failed = f", {len(self.outcome.failed)} failed" if self.outcome.failed else ""
        return f"{len(self.running)} running, {waiting} waiting{failed}"
