"""A recipe carried out in a Run: rows of the loss, a checkpoint to go on from.

    RUN/config.json             the recipe, whole
    RUN/rows.jsonl              step rows: loss, gradient norm, samples seen, samples a second
    RUN/checkpoint.safetensors  the last good state

The same call goes on from the checkpoint, bit for bit, whatever stopped it; rows that are there
already are not written again. Of several processes (`processes`) only the first one writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from assay import progress, runs
from assay.rules import bindings, processes, starting
from assay.rules import recipe as recipes
from assay.rules.generator import Generator
from assay.rules.recipe import Recipe, build_family, load_config

CHECKPOINT = "checkpoint.safetensors"
OnStep = Callable[[Any], "Mapping[str, Any] | None"]
_TIMED = 55  # steps timed, the first five of them to warm up


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    every: int = 200,
    log_every: int = 50,
    on_step: OnStep | None = None,
    samples: tuple[np.ndarray, np.ndarray] | None = None,
    start: Generator | None = None,
) -> Generator:
    """Train a recipe in the Run ``out``, or go on with it; returns the generator.

    every: steps between checkpoints; log_every: between rows; on_step: called in the first
    process with each `training.fit.Step`, after its checkpoint, for a row (with a key) or None;
    samples: the recipe's fixed data, where they are at hand; start: the model from which a recipe
    starts (`starting`). ValueError where the folder holds another Run, or loss or gradient is not
    finite (the last good checkpoint stays).
    """
    from assay.training import checkpoint, fit

    with _opened(recipe, out) as run:
        family = build_family(recipe).to(device())
        state, path = fit.begin(family, recipe.fit), Path(out) / CHECKPOINT
        if path.exists():
            checkpoint.read(path, state)
        else:
            starting.begin(family, recipe, start)
        _agree(state.step)
        n, batches = recipe.fit.n_steps, recipes.batches(recipe, samples)
        steps = fit.fit(family, batches, recipe.fit, state)
        steps = checkpoint.kept(steps, path, every, n)
        if run is None:
            for _ in steps:
                pass
        else:
            _watched(steps, _Log(run, log_every, n), state.step, on_step)
    about = {**recipe.model_dump(mode="json"), "averaged": False}
    about["samples_seen"] = recipe.data.first + state.step * recipe.fit.batch
    return Generator(family.eval(), bindings.get(recipe.binding), about)


def _watched(steps: Iterator[Any], log: _Log, done: int, on_step: OnStep | None) -> None:
    """Go through the steps with rows, a progress bar and what the caller wants to see."""
    config = log.run.config
    with progress.bar(f"{config['name']}-{config['preset']}", log.last) as advance:
        advance(done)
        for step in steps:
            log(step)
            advance(1, f"loss {step.loss:.3f}, {log.speed:.0f} samples/s")
            row = None if on_step is None else on_step(step)
            if row is not None and not log.run.done(row["key"]):
                log.run.append(row)


@contextmanager
def _opened(recipe: Recipe, out: str | os.PathLike[str]) -> Iterator[runs.Run | None]:
    """The Run, open for writing in the first process; None in the others."""
    run = processes.first(lambda: runs.Run.open(out, _config(recipe, out)))
    try:
        yield run
    finally:
        if run is not None:
            run.close()


def _config(recipe: Recipe, out: str | os.PathLike[str]) -> Any:
    """The configuration to open the Run with: its own, where that says the same.

    A Run of an earlier version lacks what has been added since, with a default that says what
    was done before.
    """
    file = Path(out) / "config.json"
    if not file.is_file():
        return recipe
    there = runs.Run.read(out).config
    same = there.get("kind") == "rules.train" and _resolved(there) == _resolved(recipe)
    return there if same else recipe


def _resolved(config: Any) -> dict[str, Any]:
    """A recipe with every default of its network and its family filled in."""
    recipe = config if isinstance(config, Recipe) else load_config(config)
    return recipes.resolved(recipe).model_dump(mode="json")


def saved(out: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The recipe of the training Run in a folder, as JSON; None where there is nothing yet.

    ValueError where the folder holds anything else.
    """
    path = Path(out)
    if not (path / "config.json").is_file():
        if path.is_file() or (path.is_dir() and any(p.name[0] != "." for p in path.iterdir())):
            raise ValueError(f"{path}: holds other files and no Run; choose a new or empty folder")
        return None
    return _training(path)[1].model_dump(mode="json")


def _training(path: str | os.PathLike[str]) -> tuple[runs.Run, Recipe]:
    """A training Run and its recipe. ValueError where the folder is none."""
    run = runs.Run.read(path)
    if run.config.get("kind") != "rules.train":
        raise ValueError(f"{Path(path)}: is no training Run; name one written by training")
    return run, load_config(run.config)


def device(name: str | None = None) -> Any:
    """The torch device of this name, a GPU where there is one unless named."""
    import torch

    if name is None:
        name = "cpu"
        if torch.cuda.is_available():
            name = f"cuda:{torch.cuda.current_device()}"
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is unknown; use cpu, cuda or cuda:N") from None


def _agree(step: int) -> None:
    """ValueError unless every process has read the same checkpoint."""
    if processes.shared(lambda: step) != step:
        raise ValueError("the Run's folder is not the same for every process; share it")


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


def extend(out: str | os.PathLike[str], n_steps: int) -> Recipe:
    """Plan a finished Run for n_steps in all; `train` then goes on from its last checkpoint.

    The new recipe says where the earlier schedule ended, so it repeats the whole training.
    Asked for again, it changes nothing. ValueError where the Run is not finished or has as many
    steps already.
    """
    from assay.training import checkpoint

    run, recipe = _training(out)
    fit, file = recipe.fit, run.path / CHECKPOINT
    if fit.n_steps == n_steps and fit.optim.schedule.ends:
        return recipe
    done = checkpoint.weights(file)[1] if file.exists() else 0
    if done < fit.n_steps:
        raise ValueError(f"{out}: stands at step {done} of {fit.n_steps}; finish it first")
    if n_steps <= done:
        raise ValueError(f"{out}: has {done} steps already; extend it to more")
    schedule = fit.optim.schedule
    schedule = schedule.model_copy(update={"ends": (*schedule.ends, done)})
    optim = fit.optim.model_copy(update={"schedule": schedule})
    fit = fit.model_copy(update={"n_steps": n_steps, "optim": optim})
    recipe = recipe.model_copy(update={"fit": fit})
    runs.reconfigure(out, recipe)
    return recipe


def timed(recipe: Recipe, minutes: float) -> Recipe:
    """The recipe with as many steps as fit into so many minutes here; 50 of them are timed.

    Of several processes all take part, and the first one's figure counts.
    """
    from assay.training import fit

    if not 0 < minutes < float("inf"):
        raise ValueError(f"minutes must be a positive number, got {minutes!r}")
    family, made = build_family(recipe).to(device()), recipes.batches(recipe)
    with progress.bar("timing 50 steps", _TIMED) as advance:

        def watched(step: int) -> Any:
            advance()
            return made(step)

        seconds = fit.seconds_per_step(family, watched, recipe.fit)
    n_steps = max(1, round(60 * minutes / processes.shared(lambda: seconds)))
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"n_steps": n_steps})})


def load(
    path: str | os.PathLike[str], averaged: bool | None = None, where: str | None = None
) -> Generator:
    """The generator of a Run: averaged weights where it has them, unless told otherwise.

    where: the device [default: a GPU where there is one]. ValueError where the folder is no
    training Run or has no checkpoint yet.
    """
    from assay.training import checkpoint

    run, recipe = _training(path)
    file = run.path / CHECKPOINT
    if not file.exists():
        raise ValueError(f"{file}: is not there; train the recipe until its first checkpoint")
    family = build_family(recipe)
    use_average = recipe.fit.ema is not None if averaged is None else averaged
    weights, step = checkpoint.weights(file, use_average)
    family.load_state_dict(weights)
    about = {**recipe.model_dump(mode="json"), "averaged": use_average}
    about["samples_seen"] = recipe.data.first + step * recipe.fit.batch
    return Generator(family.eval().to(device(where)), bindings.get(recipe.binding), about)
