"""Training and sampling beside plain loops of the published kind (`bench.plain`), one thread.

In turn, medians of the ratios of processor seconds, which other work disturbs less than the
clock on the wall; batches are stated. Sampling is in bfloat16 here and in float32 there. Training
is the recipe's own step (bfloat16 autocast, fused heads and optimiser, average of the weights,
data made on the way). Peaks of memory are measured in processes of their own,
``python -m bench.models KEY SIDE``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import memory, timing

Row = dict[str, Any]
ROOT = Path(__file__).parent.parent
REPEATS = 3
JOBS = {  # recipe, samples of one call
    "sample-gpt2": ("gpt2-s", {"ours": 128, "plain": 4}),
    "train-gpt2": ("gpt2-s", {"ours": 64, "plain": 64}),
    "train-dit": ("dit-s", {"ours": 64, "plain": 64}),
    "train-edm": ("edm-x2", {"ours": 128, "plain": 128}),
}


def rows(done: Callable[[str], bool]) -> Iterator[Row]:
    """A row for each job: seconds a sample, ratio, peaks."""
    for key in JOBS:
        if not done(key):
            yield _row(key)


def _row(key: str) -> Row:
    from assay.rules import cost, recipes
    from assay.rules.recipe import build_family

    name, n = JOBS[key]
    times = timing.paired(
        {side: _job(key, side) for side in ("plain", "ours")}, REPEATS, time.process_time
    )
    each = {side: [t / n[side] for t in times[side]] for side in times}
    recipe = recipes.get(name)
    family = build_family(recipe)
    row = {
        "key": key, "study": "models", "recipe": name, "threads": 1, "repeats": REPEATS,
        "parameters": cost.parameters(family), "bf16": True,
        "ratio": timing.median_ratio(each, "plain", "ours"),
    }  # fmt: skip
    if key.startswith("train"):
        row["training_flop_per_sample"] = cost.flop_per_sample(family, recipe)
    for side in ("ours", "plain"):
        row[f"{side}_n"] = n[side]
        row[f"{side}_samples_per_cpu_s"] = 1 / statistics.median(each[side])
        row[f"{side}_peak_mb"] = _peak(key, side)
    return row


def _job(key: str, side: str) -> Callable[[], Any]:
    """One call of the job of a side."""
    import torch

    torch.set_num_threads(1)
    name, n = JOBS[key]
    if side == "ours":
        return _ours(key, name, n[side])
    from bench import plain

    if key == "train-dit":
        return plain.train_dit(plain.DiT(), n[side])
    if key == "train-edm":
        family, batches, _ = _built(name, n[side])
        return plain.train_edm(family.train(), batches(0))
    model = plain.gpt2(384, 12, 6)
    if key == "train-gpt2":
        return plain.train_gpt2(model.train(), n[side])
    return lambda: plain.sample_gpt2(model.eval(), n[side])


def _built(name: str, batch: int) -> tuple[Any, Any, Any]:
    """Family, batches and the configuration of its training, at another batch."""
    from assay.rules import recipes
    from assay.rules.recipe import batches, build_family

    recipe = recipes.get(name)
    fit = recipe.fit.model_copy(update={"batch": batch, "split": 1, "bf16": True})
    recipe = recipe.model_copy(update={"fit": fit})
    return build_family(recipe), batches(recipe), fit


def _ours(key: str, name: str, n: int) -> Callable[[], Any]:
    family, batches, config = _built(name, n)
    if key.startswith("sample"):
        return lambda: _drawn(family.eval(), n)
    from assay.training import fit

    steps = fit.fit(family, batches, config.model_copy(update={"n_steps": 10**6}))
    return lambda: next(steps)


def _drawn(family: Any, n: int) -> Any:
    """n samples in the precision of training, as ``assay.load(..., bf16=True)`` draws them."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        return family.sample(n, family.streams(0))


def _peak(key: str, side: str) -> float:
    command = [sys.executable, "-m", "bench.models", key, side]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    job = _job(sys.argv[1], sys.argv[2])
    job()
    print(json.dumps(memory.peak_mb()))
