"""A recipe carried out in a Run: rows of the loss, a checkpoint to go on from.

    RUN/config.json             the recipe, whole
    RUN/rows.jsonl              step rows: loss, gradient norm, samples seen, samples a second
    RUN/checkpoint.safetensors  the last good state

The same call goes on from the checkpoint, bit for bit, whatever stopped it; rows that are there
already are not written again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay import progress, runs
from assay.rules import bindings
from assay.rules.generator import Generator
from assay.rules.recipe import Recipe, batches, build_family, load_config

CHECKPOINT = "checkpoint.safetensors"


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    every: int = 200,
    log_every: int = 50,
    on_step: Callable[[Any], None] | None = None,
) -> Generator:
    """Train a recipe in the Run ``out``, or go on with it; returns the generator.

    every: steps between checkpoints; log_every: between rows; on_step: called with each
    `training.fit.Step`, after its checkpoint. ValueError where the folder holds another Run, or
    loss or gradient is not finite (the last good checkpoint stays).
    """
    from assay.training import checkpoint, fit

    with runs.Run.open(out, recipe) as run:
        family = build_family(recipe)
        state, path = fit.begin(family, recipe.fit), run.path / CHECKPOINT
        if path.exists():
            checkpoint.read(path, state)
        n = recipe.fit.n_steps
        steps = fit.fit(family, batches(recipe), recipe.fit, state)
        with progress.bar(f"{recipe.name}-{recipe.preset}", n) as advance:
            advance(state.step)
            log = _Log(run, log_every, n)
            for step in checkpoint.kept(steps, path, every, n):
                log(step)
                advance(1, f"loss {step.loss:.3f}, {log.speed:.0f} samples/s")
                if on_step is not None:
                    on_step(step)
    return Generator(family.eval(), bindings.get(recipe.binding), recipe.model_dump(mode="json"))


class _Log:
    """Rows of mean loss and speed over the steps since the last row."""

    def __init__(self, run: runs.Run, every: int, last: int):
        self.run, self.every, self.last = run, every, last
        self.speed = 0.0
        self.batch = run.config["fit"]["batch"]

    def __call__(self, step: Any) -> None:
        now = self.batch / max(step.seconds, 1e-9)
        self.speed = 0.95 * self.speed + 0.05 * now if self.speed else now
        key = f"step-{step.number:07d}"
        due = step.number % self.every == 0 or step.number in (1, self.last)
        if due and not self.run.done(key):
            self.run.append(
                {
                    "key": key,
                    "step": step.number,
                    "loss": step.loss,
                    "grad_norm": step.grad_norm,
                    "rate": step.rate,
                    "samples": step.samples,
                    "samples_per_s": self.speed,
                }
            )


def timed(recipe: Recipe, minutes: float) -> Recipe:
    """The recipe with as many steps as fit into so many minutes here; 50 of them are timed."""
    from assay.training import fit

    if not 0 < minutes < float("inf"):
        raise ValueError(f"minutes must be a positive number, got {minutes!r}")
    family, made = build_family(recipe), batches(recipe)
    seconds = fit.seconds_per_step(family, made, recipe.fit)
    n_steps = max(1, round(60 * minutes / seconds))
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"n_steps": n_steps})})


def load(path: str | os.PathLike[str], averaged: bool | None = None) -> Generator:
    """The generator of a Run: averaged weights where it has them, unless told otherwise.

    ValueError where the folder is no training Run or has no checkpoint yet.
    """
    from assay.training import checkpoint

    run = runs.Run.read(path)
    if run.config.get("kind") != "rules.train":
        raise ValueError(f"{Path(path)}: is no training Run; name one written by training")
    recipe = load_config(run.config)
    file = run.path / CHECKPOINT
    if not file.exists():
        raise ValueError(f"{file}: is not there; train the recipe until its first checkpoint")
    family = build_family(recipe)
    use_average = recipe.fit.ema is not None if averaged is None else averaged
    family.load_state_dict(checkpoint.weights(file, use_average))
    about = {**recipe.model_dump(mode="json"), "averaged": use_average}
    about["samples_seen"] = checkpoint.step_of(file) * recipe.fit.batch
    return Generator(family.eval(), bindings.get(recipe.binding), about)
