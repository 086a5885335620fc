"""One job of a study in its folder: train with probes, evaluate, sum up; resumable at any point.

    STUDY/config.json, rows.jsonl     the study's Run: one row for each job done or failed
    STUDY/jobs/KEY/                   the job's training Run; its evaluation in evaluation/
    STUDY/jobs/KEY.log                what its process has said

``python -m assay.rules.scaling.work STUDY KEY`` carries one out; it ends when its parent does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from assay.rules import evaluate, train
from assay.rules.recipe import Recipe, load_config
from assay.rules.scaling import config as configs
from assay.rules.scaling import probe
from assay.rules.scaling.config import Job, ScaleConfig
from assay.runs import Run

EVALUATION = "evaluation"


def folder(study: Path, key: str) -> Path:
    """Where a job lives."""
    return study / "jobs" / key


def find(config: ScaleConfig, key: str) -> Job:
    """The job of this key. ValueError where the study has none."""
    for job in configs.jobs(config):
        if job.key == key:
            return job
    raise ValueError(f"the study has no job {key!r}")


def carry_out(study: Path, config: ScaleConfig, job: Job) -> None:
    """Train and evaluate a job, or go on with it. Raises what goes wrong."""
    path = folder(study, job.key)
    recipe = _recipe(path, config, job)
    looked = probe.moments(recipe.fit.n_steps, config.probes)
    watch = probe.Probe(recipe, config.probe_n, looked)
    generator = train.train(recipe, path, every=config.save_every, on_step=watch)
    if recipe.fit.ema is not None:
        generator = train.load(path)
    made = evaluate.prepare(generator, config.evaluate)
    about = {**config.evaluate.model_dump(mode="json"), "model": generator.about}
    with Run.open(path / EVALUATION, about) as run:
        made.rows(run)


def _recipe(path: Path, config: ScaleConfig, job: Job) -> Recipe:
    """The job's recipe; its steps those of the Run where it has begun, or timed."""
    there = train.saved(path)
    if there is not None:
        n_steps = load_config(there).fit.n_steps
    elif config.minutes is not None:
        n_steps = train.timed(job.recipe, config.minutes).fit.n_steps
    else:
        return job.recipe
    fit = job.recipe.fit.model_copy(update={"n_steps": n_steps})
    return job.recipe.model_copy(update={"fit": fit})


def done(study: Path, job: Job, config: ScaleConfig) -> bool:
    """Whether the evaluation of a job is complete."""
    path = folder(study, job.key) / EVALUATION
    if not (path / "config.json").is_file():
        return False
    last = {row["group"] for row in Run.read(path).rows if row.get("last")}
    return all(_groups(name, config) <= last for name in config.evaluate.protocols)


def _groups(protocol: str, config: ScaleConfig) -> set[str]:
    """The groups of rows that a protocol consists of."""
    if protocol in ("unconditional", "copies"):
        return {f"{protocol}/T={t:g}" for t in config.evaluate.temperatures}
    places = ["r3c3"] if protocol == "completion" else [f"r{i}c{j}" for i in "123" for j in "123"]
    return {f"{protocol}/{place}" for place in places}


def share_done(study: Path, key: str) -> float:
    """How much of a job's training is done, 0 to 1, by its last row; evaluation is not counted."""
    path = folder(study, key)
    if not (path / "config.json").is_file():
        return 0.0
    try:
        run = Run.read(path)
    except ValueError:
        return 0.0  # being written this moment
    steps = [row["step"] for row in run.rows if "step" in row]
    return max(steps, default=0) / run.config["fit"]["n_steps"]


def summary(study: Path, job: Job, config: ScaleConfig) -> dict[str, Any]:
    """The study's row of a finished job: its figures, sizes, costs, and the probes."""
    path = folder(study, job.key)
    training, measured = Run.read(path), Run.read(path / EVALUATION)
    row: dict[str, Any] = {
        "key": job.key,
        "status": "done",
        "model": job.model,
        "recipe": f"{job.recipe.name}-{job.recipe.preset}",
        "family": job.recipe.family,
        "rule_set": job.rule_set,
        "per_rule": job.per_rule,
        "n_rules": len(job.recipe.data.rules),
        "seed": job.seed,
        "weights": "EMA" if measured.config["model"]["averaged"] else "raw",
        "n_steps": training.config["fit"]["n_steps"],
        "batch": training.config["fit"]["batch"],
        "training_seconds": _seconds(training.rows),
    }
    for found in measured.rows:
        row |= _figures(found, config)
    row["probes"] = [r for r in training.rows if r["key"].startswith("probe-")]
    return row


def _seconds(rows: list[dict[str, Any]]) -> float:
    """How long the steps took by their rows' speed; probes are not counted."""
    total, before = 0.0, 0
    for row in rows:
        if row.get("samples_per_s"):
            total += (row["samples"] - before) / row["samples_per_s"]
            before = row["samples"]
    return total


_KEPT = {
    "unconditional": ("c3", "novel_c3", "novel_set_c3", "c2", "any_valid", "row1", "row2", "row3",
                      "implied"),
    "completion": ("all", "trained", "held_out", "marginal_all", "marginal_trained"),
}  # fmt: skip
_ENDS = ("", "_low", "_high", "_n")


def _figures(found: dict[str, Any], config: ScaleConfig) -> dict[str, Any]:
    """What a study keeps of an evaluation's row: figures at its first temperature."""
    part = found.get("part")
    names = {f"{name}{end}": f"{name}{end}" for name in _KEPT.get(part or "", ()) for end in _ENDS}
    if part == "completion":
        names = {old: f"completion_{new}" for old, new in names.items()}
    if part == "copies":
        level = found["level"]
        names = {f"{n}{e}": f"{n}_{level}{e}" for n in ("copies", "natural") for e in _ENDS}
    if part in ("unconditional", "completion"):
        names |= {name: name for name in ("parameters", "samples_seen", "training_flop")}
        names |= {name: f"{part}_{name}" for name in ("nfe", "samples_per_s")}
    kept = {new: found[old] for old, new in names.items() if old in found}
    if part == "unconditional":
        kept["sampling_seconds"] = 1000 / found["samples_per_s"]
    temperature = found.get("temperature")
    return kept if part == "completion" or temperature == config.evaluate.temperatures[0] else {}


def main(arguments: list[str]) -> int:
    """Carry out one job; its reason for failing as the last line of standard error."""
    study, key = Path(arguments[0]), arguments[1]
    _end_with(os.getppid())
    config = ScaleConfig.model_validate(Run.read(study).config)
    try:
        carry_out(study, config, find(config, key))
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{type(error).__name__}: {reason[0]}", file=sys.stderr)
        return 1
    return 0


def _end_with(parent: int) -> None:
    """End this process as soon as its parent is gone: what it did is kept, and goes on later."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
