"""Completion by diffusion: amortised, the Twisted Diffusion Sampler, and the methods between.

The recipe's tiny preset on genraven-mini is trained twice with equal effort (a minute or two of
one core each), in temporary Runs: as it is, told of known panels in most of its samples, and
untold, all of its training unconditional, which serves the methods that need no more; ``-same``
rows use the first network, unconditionally. Each method completes the last panel of validation
samples of the trained rules. Accuracy: some rule holds in all three rows, with Wilson's 95 %
interval; evaluations of the network an item, those of dps, pgdm and tds differentiated
(`assay.families.inpaint`); seconds an item of one thread, by the wall and by the processor's
clock, which other work on the machine disturbs less. Ratios are to the published sampler, TDS with
25 particles and 100 steps.

``clip-ceiling`` is no model: what is left of true last panels, as images, once clipped to [-1, 1]
as the published figures' were; on genraven-mini's images nothing lies beyond.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from assay.families.config import CompletionConfig
from assay.rules import codecs, completion, evaluate, genraven, recipes, train
from assay.rules.recipe import VALIDATION_SEED

Row = dict[str, Any]
RECIPE, SEED = "sit-tiny", 0
N, N_SLOW, SLOW = 512, 64, 1000  # items; items of a method with more evaluations than SLOW
TDS = CompletionConfig(kind="tds", n_steps=100, particles=25)
AMORTISED = CompletionConfig(kind="amortised", n_steps=25, solver="heun")
REPLACEMENT = CompletionConfig(kind="replacement", n_steps=50)
METHODS = {
    "tds": TDS,
    "tds-clip": TDS.model_copy(update={"clip": 1.0}),
    "tds-same": TDS,
    "tds-few": CompletionConfig(kind="tds", n_steps=50, particles=4),
    "amortised": AMORTISED,
    "amortised-few": CompletionConfig(kind="amortised", n_steps=8, solver="heun"),
    "amortised-clip": AMORTISED.model_copy(update={"clip": 1.0}),
    "replacement": REPLACEMENT,
    "replacement-clip": REPLACEMENT.model_copy(update={"clip": 1.0}),
    "replacement-same": REPLACEMENT,
    "replacement-heun": CompletionConfig(kind="replacement", n_steps=25, solver="heun"),
    "replacement-more": CompletionConfig(kind="replacement", n_steps=200),
    "repaint": CompletionConfig(kind="repaint", n_steps=25, resample=10, jump=5),
    "dps": CompletionConfig(kind="dps", n_steps=100),
    "pgdm": CompletionConfig(kind="pgdm", n_steps=50),
    "pgdm-clip": CompletionConfig(kind="pgdm", n_steps=50, clip=1.0),
}


def rows(done: Callable[[str], bool]) -> Iterator[Row]:
    """The ceiling, then a row a method, TDS first: the others have their ratios to it."""
    import torch

    torch.set_num_threads(1)
    if not done("clip-ceiling"):
        yield ceiling()
    if all(done(name) for name in METHODS):
        return
    models = {told: trained(told) for told in (True, False)}
    published = None
    for name, config in METHODS.items():
        if published is not None and done(name):
            continue
        told = config.kind == "amortised" or name.endswith("-same")
        row = measured(*models[told], name, config)
        published = published or row
        yield row | {
            key: published[per] / row[per]
            for key, per in (("ratio", "cpu_seconds_per_item"), ("nfe_ratio", "nfe"))
        }


def trained(told: bool) -> tuple[Any, float]:
    """The recipe's generator and the processor seconds of its training."""
    recipe = recipes.get(RECIPE)
    if not told:
        recipe = recipe.model_copy(update={"options": {**recipe.options, "known": 0.0}})
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        train.train(recipe, folder)
        return train.load(folder, where="cpu"), time.process_time() - start


def measured(model: Any, spent: float, name: str, config: CompletionConfig) -> Row:
    """One method on the same first samples."""
    family = model.family.using(completion=config)
    nfe = family.evaluations(1)
    n = N_SLOW if nfe > SLOW else N
    generator = type(model)(family, model.binding, model.about)
    generator.batch = N_SLOW
    x, y = genraven.generate(n, model.about["data"]["rules"], VALIDATION_SEED)
    mask = completion.THIRD_PANEL
    wall, cpu = time.perf_counter(), time.process_time()
    found = completion.evaluate_completion(
        lambda x, where, rng: generator.complete(x, mask, SEED), x, y, mask, ()
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "key": name, "study": "completion", "recipe": RECIPE, "kind": config.kind,
        "known": family.config.known, "n_steps": config.n_steps, "clip": config.clip,
        **evaluate.flat("correct", found["all"]), "nfe": nfe, "seconds_per_item": wall / n,
        "cpu_seconds_per_item": cpu / n, "training_cpu_seconds": spent, "threads": 1,
    }  # fmt: skip


def ceiling() -> Row:
    """True last panels of the 35 trained rules as images, clipped to [-1, 1]."""
    x, y = genraven.generate(20_000, genraven.trained(0), VALIDATION_SEED)

    def clipped(_: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = codecs.CODECS["image"]
        return image.decode(image.encode(x).clip(-1, 1))

    found = completion.evaluate_completion(clipped, x, y, completion.THIRD_PANEL, ())
    return {
        "key": "clip-ceiling", "study": "completion", "clip": 1.0,
        **evaluate.flat("correct", found["all"]),
    }  # fmt: skip
