"""A network trained on the law whose denoisers are known: its score error can be measured.

SiT's network and recipe, on samples of the exact law (`assay.studies.guided_exact`) instead of
genraven-mini: each row of a sample uniform over the M rows of its rule, the rule uniform. What it
misses of the exact denoisers is its score error, at any x and sigma, with the rule told or not.
The training is a Run of kind "studies.guided-twin" that resumes as every training does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay import progress
from assay.families.config import SamplerConfig
from assay.rules import bindings
from assay.rules.recipe import Recipe, build_family
from assay.runs import Run
from assay.studies import guided_exact
from assay.studies.guided_models import TWIN, Model, recipe
from assay.training import checkpoint, fit

KIND = "studies.guided-twin"
_EVERY, _LOGGED = 200, 50  # steps between checkpoints, and between rows


def batches(made: Recipe, n_rows: int) -> Callable[[int], dict[str, torch.Tensor]]:
    """batches(step): samples of the exact law, each step's from a stream of its own."""
    config = guided_exact.TableConfig(n_rows=n_rows)
    tables = guided_exact.Tables(config).rows.float()
    rules = torch.tensor(config.rules)

    def batch(step: int) -> dict[str, torch.Tensor]:
        return draw(tables, rules, made.fit.batch, np.random.default_rng((made.seed, step)))

    return batch


def draw(
    tables: torch.Tensor, rules: torch.Tensor, n: int, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """n samples of the exact law: "x" float (n, 1, 9, 9), cells -1 or 1; "label" rule ids + 1."""
    rule = torch.from_numpy(rng.integers(len(tables), size=n))
    row = torch.from_numpy(rng.integers(tables.shape[1], size=(n, 3)))
    x = tables[rule[:, None], row]
    return {"x": x.reshape(n, 1, 9, 9), "label": rules[rule] + 1}


def train(folder: Path, n_rows: int, n_steps: int | None = None) -> None:
    """Train in a folder, or go on with it there; nothing where it has ended."""
    made = recipe(TWIN, n_steps)
    n, path = made.fit.n_steps, folder / "checkpoint.safetensors"
    about = {"kind": KIND, "n_rows": n_rows, "recipe": made.model_dump(mode="json")}
    with Run.open(folder, about) as run, progress.bar(TWIN, n) as advance:
        state = fit.begin(build_family(made), made.fit)
        if path.exists():
            checkpoint.read(path, state)
        advance(state.step)
        steps = fit.fit(state.model, batches(made, n_rows), made.fit, state)
        for step in checkpoint.kept(steps, path, _EVERY, n):
            advance(1, f"loss {step.loss:.3f}")
            key = f"step-{step.number:07d}"
            if (step.number % _LOGGED == 0 or step.number == n) and not run.done(key):
                run.append({"key": key, "step": step.number, "loss": step.loss})


def load(folder: Path, sampler: SamplerConfig) -> Model:
    """The trained twin. ValueError where the folder holds another Run or no checkpoint."""
    run = Run.read(folder)
    if run.config.get("kind") != KIND:
        raise ValueError(f"{folder}: is no training of the twin; choose another folder")
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        raise ValueError(f"{path}: is not there; train until the first checkpoint")
    made = Recipe.model_validate(run.config["recipe"])
    weights, step = checkpoint.weights(path, False)
    family: Any = build_family(made)
    family.load_state_dict(weights)
    about = {"n_rows": run.config["n_rows"], "samples_seen": step * made.fit.batch}
    return Model(TWIN, family.eval().using(sampler=sampler), bindings.get("occupancy"), about)
