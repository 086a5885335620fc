"""A look at a model while it learns: what it draws, copies and predicts, at a few moments.

Each probe is a row of the training Run, made from its own streams, so that training goes on as if
nobody had looked. The gap is the validation loss less the loss on training samples, both of the
same number of samples with the same noise: what early warning of memorisation is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from assay.rules import bindings, genraven, memorisation, shares
from assay.rules.completion import THIRD_PANEL, evaluate_completion
from assay.rules.evaluate import flat, measures
from assay.rules.generator import Generator
from assay.rules.recipe import VALIDATION_SEED, Recipe

_FIRST = 50  # the first probe comes after a 50th of the steps
_INDEXED = 1 << 16  # training samples that copies are looked for among, at most


def moments(n_steps: int, n: int) -> tuple[int, ...]:
    """n steps to look at, evenly spaced in their logarithm, the last one n_steps."""
    if n == 0:
        return ()
    first = max(1, n_steps // _FIRST)
    steps = np.geomspace(first, n_steps, n) if n > 1 else [n_steps]
    return tuple(sorted({round(float(step)) for step in steps}))


class Probe:
    """Called with each training step, answers with a row at the moments, else None."""

    def __init__(self, recipe: Recipe, n: int, moments: tuple[int, ...]):
        self.recipe, self.n, self.moments = recipe, n, moments
        self.binding = bindings.get(recipe.binding)
        self._known: Any = None

    def __call__(self, step: Any) -> Mapping[str, Any] | None:
        if step.number not in self.moments:
            return None
        family = step.state.model
        was_training = family.training
        family.eval()
        try:
            return {
                "key": f"probe-{step.number:07d}",
                "step": step.number,
                "samples": step.samples,
                "weights": "raw",
                **self._drawn(family),
                **self._losses(family),
            }
        finally:
            family.train(was_training)

    def _drawn(self, family: Any) -> dict[str, Any]:
        """What it draws at T = 1 and completes, judged."""
        generator = Generator(family, self.binding)
        x = generator.sample(self.n, self.recipe.seed)
        ok = genraven.check(x)
        every: Any = ok.all(1)
        drawn = self.binding.project(x)
        own, novel = self._index().overlap(drawn), self._index().novel(drawn)
        natural = self._index().overlap(self.binding.project(self._fresh()[0]))
        row = {"n": self.n, **measures(ok), "half_empty": _half_empty(x)}
        row |= flat("novel_c3", shares.share(novel & every.any(1)))
        row["rules"] = {
            genraven.RULES[i].name: float(every[:, i].mean()) for i in self.recipe.data.rules
        }
        for level in self._index().levels:
            row |= flat(f"copies_{level}", own[level]) | flat(f"natural_{level}", natural[level])
        found = evaluate_completion(
            _filling(generator, self.recipe.seed), *self._fresh(), THIRD_PANEL, ()
        )
        return row | flat("completion", found["all"])

    def _losses(self, family: Any) -> dict[str, float]:
        """Mean losses of training and validation samples, with the same noise."""
        import torch

        rng = family.streams(self.recipe.fit.seed + 1)
        found = {}
        with torch.no_grad():
            for name, (x, y) in (("train", self._seen()), ("validation", self._fresh())):
                lines = {
                    "x": torch.from_numpy(self.binding.encode(x)),
                    "label": torch.from_numpy(y + 1),
                }
                found[f"{name}_loss"] = float(family.loss(lines, rng.at(0)).float().mean())
        return found | {"gap": found["validation_loss"] - found["train_loss"]}

    def _index(self) -> memorisation.Index:
        """The training samples' rows and panels; of many or streamed ones the first."""
        if self._known is None:
            data = self.recipe.data
            form = "plain" if self.binding.occupancy_only else "canonical"
            self._known = memorisation.Index(("sample", "row", "panel"), form)
            for x, _ in data.samples(min(data.n_samples or _INDEXED, _INDEXED)):
                self._known.add(self.binding.project(x))
        return self._known

    def _fresh(self) -> tuple[np.ndarray, np.ndarray]:
        return genraven.generate(self.n, self.recipe.data.rules, VALIDATION_SEED)

    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        """The first n training samples, repeated where there are fewer."""
        data = self.recipe.data
        x, y = next(iter(data.samples(min(self.n, data.n_samples or self.n))))
        return np.resize(x, (self.n, *x.shape[1:])), np.resize(y, self.n)


def _filling(generator: Generator, seed: int) -> Callable[..., np.ndarray]:
    """Greedy completion by the generator."""
    return lambda x, where, rng: generator.complete(x, THIRD_PANEL, seed)


def _half_empty(x: np.ndarray) -> float:
    """Share of occupied cells with an attribute missing: what separate heads draw."""
    void = x == -1
    some = ~void.all(-1)
    return float((void.any(-1) & some).sum() / max(1, some.sum()))


def copied(row: Mapping[str, Any]) -> bool:
    """Whether rows are copied beyond chance: the intervals of copies and nature lie apart."""
    return row["copies_row_low"] > row["natural_row_high"]
