"""Guided rules: what guidance buys and costs models whose rules and support are known exactly.

For every family, weight w, rule and seed: draws given the rule, measured by `guided_measures`. The
best w of a family is the one of most intended consistency on the first seed, and what it buys and
costs is measured on the other seeds, so that no sample both chooses and reports. A Run of kind
"studies.guided-rules":

    part    one row for each
    data    rule, seed: as many fresh samples of the rule, how different they are
    model   family: size, samples seen, held-out loss with the rule told and not, natural overlap
    draws   family, w, rule, seed: the measures
    pooled  family, w: the same over rules and seeds, diversity over that at w = 0 and of the data
    best    family: the best w, the change of intended consistency, what is left of diversity
    error   w, where: the twin's score error under the data and on guided states (`guided_error`)

Held-out loss is the family's own (nats a token, or its weighted squared error), on fresh samples;
told less untold says how much the label means to the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import guidance, intervals
from assay.rules import bindings, genraven
from assay.rules.recipe import VALIDATION_SEED
from assay.runs import Run
from assay.studies import guided_measures as measures
from assay.studies import guided_models as models
from assay.studies.guided_config import GuidedRules, build
from assay.studies.guided_models import EXACT, FAMILIES, ON_TABLES, TWIN, Model

_HELD_OUT = 2000  # fresh samples for losses and for natural overlap
_SHOWN = 4  # samples of a rule in the pictures
Rows = list[dict[str, Any]]


def train(config: GuidedRules, folder: Path) -> None:
    """Train the families that are neither exact nor shipped, in folder/models; resumable."""
    for name in config.families:
        where = folder / "models" / name
        if name == TWIN:
            from assay.studies import guided_twin

            guided_twin.train(where, config.n_rows, config.n_steps)
        elif name != EXACT and name not in config.shipped:
            models.train(name, where, config.n_steps)


def work(config: GuidedRules, run: Run) -> int:
    """How many samples the rows that a Run lacks will take."""
    cells = len(config.w) * len(config.rules) * len(config.seeds)
    total = sum(config.n_of(name) * cells for name in config.families)
    return total - sum(row["n"] for row in run.rows if row.get("part") == "draws")


def fill(
    run: Run, config: Mapping[str, Any], on_batch: Callable[[int], None] | None = None
) -> None:
    """Compute what the Run lacks; models in training must have ended (`train`).

    on_batch: told how many samples each internal batch gave.
    """
    study = _Study(run, build(config), on_batch)
    study.data()
    for name in study.config.families:
        study.family(name)


class _Study:
    """A Run being filled."""

    def __init__(self, run: Run, config: GuidedRules, on_batch: Callable[[int], None] | None):
        self.run, self.config, self.on_batch = run, config, on_batch

    def data(self) -> None:
        """Fresh samples of every rule, as many as each family draws."""
        for n in sorted({self.config.n_of(name) for name in self.config.families}):
            self.run.fill(f"data-n{n}", lambda n=n: (list(self._data(n)), {}))

    def _data(self, n: int) -> Iterator[dict[str, Any]]:
        for rule in self.config.rules:
            for seed in self.config.seeds:
                x = bindings.get("cells").project(_fresh(n, [rule], seed)[0])
                key = f"data/n={n}/rule={rule}/seed={seed}"
                yield {"key": key, "part": "data", "rule": rule, "name": _named(rule),
                       "seed": seed, "n": n, **measures.diversity(x)}  # fmt: skip

    def family(self, name: str) -> None:
        """Every row of a family."""
        groups = [f"{name}-w{w:g}-s{s}" for w in self.config.w for s in self.config.seeds]
        there = {row["group"] for row in self.run.rows if row.get("last")}
        if not there.issuperset([f"{name}-model", *groups]):
            model = self._model(name)
            self.run.fill(f"{name}-model", lambda: ([self._about(model)], {}))
            for w in self.config.w:
                for seed in self.config.seeds:
                    self.run.fill(
                        f"{name}-w{w:g}-s{seed}", lambda w=w, s=seed: self._draws(model, w, s)
                    )
        self.run.fill(f"{name}-pooled", lambda: (self._pooled(name), {}))
        if name == TWIN:
            for w in self.config.w:
                self.run.fill(f"{TWIN}-error-w{w:g}", lambda w=w: (self._errors(w), {}))

    def _model(self, name: str) -> Model:
        config = self.config
        if name == EXACT:
            return models.exact(config.sampler, config.n_rows)
        if name == TWIN:
            from assay.studies import guided_twin

            return guided_twin.load(self.run.path / "models" / TWIN, config.sampler)
        if name in config.shipped:
            return models.shipped(name, config.sampler)
        return models.trained(name, self.run.path / "models" / name, config.sampler)

    def _about(self, model: Model) -> dict[str, Any]:
        x, y = _fresh(_HELD_OUT, self.config.rules, self.config.seeds[0])
        overlap = model.index().overlap(model.binding.project(x))
        row: dict[str, Any] = {
            "key": f"{model.name}/model", "part": "model", "family": model.name,
            "family_kind": model.kind, "binding": model.binding.name, "n": len(x),
            "seed": self.config.seeds[0], "nfe": None,
            "parameters": sum(p.numel() for p in model.family.parameters()),
            **{k: model.about.get(k) for k in ("samples_seen", "averaged", "n_rows")},
        }  # fmt: skip
        for level in models.LEVELS:
            row |= measures.flat(f"natural_{level}", overlap[level])
        return row if model.name in ON_TABLES else row | _losses(model, x, y)

    def _errors(self, w: float) -> Rows:
        """The twin's score error at a w, under the data and where it goes."""
        from assay.studies import guided_error

        config = self.config
        beside = models.exact(config.sampler, config.n_rows)
        twin = self._model(TWIN)
        made = guided_error.Errors(twin, beside, config.sampler, config.n, config.seeds[0])
        return list(made.rows(w))

    def _draws(self, model: Model, w: float, seed: int) -> tuple[Rows, dict[str, Any]]:
        rows, shown = [], []
        n = self.config.n_of(model.name)
        for rule in self.config.rules:
            drawn = model.draw(rule, w, n, seed, self.on_batch)
            key = f"{model.name}/w={w:g}/rule={rule}/seed={seed}"
            made = measures.of_draws(drawn, rule, model.index())
            rows.append({"key": key, "part": "draws", **self._place(model.name, w), "rule": rule,
                         "name": _named(rule), "seed": seed, **made})  # fmt: skip
            if rule in self.config.shown:
                shown.append(_picture(drawn))
        first = shown and seed == self.config.seeds[0]
        return rows, {"shown": np.concatenate(shown)} if first else {}

    def _place(self, name: str, w: float) -> dict[str, Any]:
        return {"family": name, "family_kind": FAMILIES[name].kind, "w": w,
                "guidance_scale": guidance.guidance_scale(w)}  # fmt: skip

    # ---- from rows that are there ---------------------------------------------------------------

    def _pooled(self, name: str) -> Rows:
        plain = self._of(name, 0.0)
        n = self.config.n_of(name)
        data = [r for r in self.run.rows if r["part"] == "data" and r["n"] == n]
        made = []
        for w in self.config.w:
            rows = self._of(name, w)
            row = {"key": f"{name}/w={w:g}/pooled", "part": "pooled", **self._place(name, w),
                   "seed": list(self.config.seeds), **measures.pooled(rows)}  # fmt: skip
            row |= measures.kept(rows, plain, "kept") | measures.kept(rows, data, "of_data")
            made.append(row)
        return [*made, self._best(name)]

    def _of(self, name: str, w: float, seeds: Sequence[int] | None = None) -> Rows:
        wanted = self.config.seeds if seeds is None else seeds
        return [row for row in self.run.rows if row["part"] == "draws" and row["family"] == name
                and row["w"] == w and row["seed"] in wanted]  # fmt: skip

    def _best(self, name: str) -> dict[str, Any]:
        """The best w on the first seed, as the other seeds see it; the same where it is alone."""
        first, *others = self.config.seeds
        by_w = {w: measures.pooled(self._of(name, w, [first]))["intended"] for w in self.config.w}
        w = max(by_w, key=lambda v: (by_w[v], -abs(v)))
        seeds = others or [first]
        rows, plain = self._of(name, w, seeds), self._of(name, 0.0, seeds)
        at, at_0 = measures.pooled(rows), measures.pooled(plain)
        counts = [round(r["intended"] * r["n"]) for r in (at, at_0)]
        change, low, high = measures.change(counts[0], at["n"], counts[1], at_0["n"])
        zero = {f"{k}_at_0": at_0[k] for k in at_0 if k.startswith(("intended", "off_support"))}
        return {
            "key": f"{name}/best", "part": "best", **self._place(name, w), "seed": seeds,
            "chosen_on": [first], "same_samples": not others, **at, **zero,
            "change": change, "change_low": low, "change_high": high,
            **measures.kept(rows, plain, "kept"),
        }  # fmt: skip


def _fresh(n: int, rules: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples never trained on."""
    return genraven.generate(n, rules, VALIDATION_SEED + seed)


def _named(rule: int) -> str:
    return genraven.RULES[rule].name


def _picture(drawn: models.Draws) -> np.ndarray:
    """float32 (4, 9, 9): pixels of the first draws, -1 and 1 for families of cells."""
    if drawn.pixels is not None:
        return drawn.pixels[:_SHOWN, 0].astype(np.float32)
    return bindings.get("occupancy").encode(drawn.panels[:_SHOWN])[:, 0]


def _losses(model: Model, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Held-out loss with the rule told and untold, of the same noise; and their difference."""
    import torch

    family = copy.copy(model.family)
    family.config = family.config.model_copy(update={"label_drop": 0.0})
    codes, label = torch.from_numpy(model.binding.encode(x)), torch.from_numpy(y + 1)
    found = {}
    with torch.no_grad():
        for name, told in (("told", label), ("untold", torch.zeros_like(label))):
            parts = [
                family.loss({"x": codes[i : i + 500], "label": told[i : i + 500]}, rng)
                for i in range(0, len(codes), 500)
                for rng in [family.streams(VALIDATION_SEED).at(i)]
            ]
            found[name] = torch.cat(parts).double().numpy()
    found["label_gain"] = found["untold"] - found["told"]
    row = {}
    for name, losses in found.items():
        key = name if name == "label_gain" else f"loss_{name}"
        row[key], row[f"{key}_se"] = intervals.mean_se(losses)
    return row
