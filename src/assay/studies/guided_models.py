"""Models of genraven-mini given a rule: one small recipe a family, and what they draw.

Every learned family is its tiny recipe, conditional on the rule (label = rule id + 1, dropped to
0 a tenth of the time), with all of its training spent on what this study draws: whole samples.
So no panels are told (continuous families), and cells or panels come in the one order that
sampling uses (discrete families). Guidance acts on denoisers, (1 + w) D_cond - w D_uncond, or on
the log probabilities of a token in the same way (`assay.core.guidance`).

``exact`` is the reference without any score error (`assay.studies.guided_exact`), ``twin`` a
network trained on that very law, whose score error is known (`assay.studies.guided_twin`). A
model that is shipped is one of these, trained by the same recipe, as a file beside this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import denoiser as denoisers
from assay.families.config import SamplerConfig
from assay.rules import bindings, memorisation
from assay.rules.generator import BATCH
from assay.rules.recipe import Recipe, load_config

EXACT, TWIN = "exact", "twin"
ON_TABLES = (EXACT, TWIN)  # whose data law is the exact one, its support rows of a table
FOLDER = Path(__file__).parent / "shipped"
LEVELS = ("sample", "row", "panel")


@dataclass(frozen=True)
class Setup:
    """A family of the study: its kind, what is changed of its tiny recipe, what a sample costs.

    share: of the samples that others draw; the slowest families draw fewer.
    """

    kind: str
    network: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    n_steps: int | None = None
    share: float = 1.0


_UNTOLD = {"amortised": False}
_PLAIN = {"completion": {"kind": "replacement"}}
_NATURAL = {"orders": (1.0, 0.0, 0.0)}
FAMILIES: dict[str, Setup] = {
    EXACT: Setup("continuous", share=0.5),
    TWIN: Setup("continuous", _UNTOLD, _PLAIN, 1000, share=0.5),
    "edm": Setup("continuous", {**_UNTOLD, "width": 24}, _PLAIN, 500, share=0.5),
    "dit": Setup("continuous", _UNTOLD, _PLAIN, 1100, share=0.5),
    "sit": Setup("continuous", _UNTOLD, _PLAIN, 1000),
    "gpt2": Setup("autoregressive", n_steps=500),
    "panelorder": Setup("autoregressive", options=_NATURAL),
    "settoken": Setup("autoregressive", options=_NATURAL, n_steps=1000),
    "masked": Setup("masked", options={"masks": (0.0, 1.0, 0.0), "at_once": 3}, share=0.25),
}
LEARNED = tuple(name for name in FAMILIES if name not in ON_TABLES)


def recipe(name: str, n_steps: int | None = None, seed: int = 0) -> Recipe:
    """The recipe of a learned family of the study; ValueError for another name."""
    from assay.rules import recipes

    if name not in (*LEARNED, TWIN):
        raise ValueError(f"family {name!r} is not learned here; choose from {', '.join(LEARNED)}")
    setup = FAMILIES[name]
    network = "sit" if name == TWIN else name
    values = recipes.get(f"{network}-tiny", conditional=True).model_dump(mode="json")
    values["network"] |= setup.network
    values["options"] |= setup.options
    values["fit"]["n_steps"] = n_steps or setup.n_steps or values["fit"]["n_steps"]
    values["seed"] = values["fit"]["seed"] = values["data"]["seed"] = seed
    return load_config(values)


@dataclass(frozen=True)
class Draws:
    """What was drawn: panels int8 (n, 3, 3, 9, 3), network evaluations a sample; of continuous
    families also the pixels (n, 1, 9, 9) before their sign is taken, data being -1 or 1: as
    they are (``pixels``) and as the solver left them before its final denoise (``before``)."""

    panels: np.ndarray
    nfe: int
    pixels: np.ndarray | None = None
    before: np.ndarray | None = None


class Model:
    """A family that draws given a rule, and what it learned from. ``about``: its recipe, seen."""

    def __init__(self, name: str, family: Any, binding: bindings.Binding, about: dict[str, Any]):
        self.name, self.family, self.binding, self.about = name, family, binding, about
        self.kind = FAMILIES[name].kind
        self._index: memorisation.Index | None = None

    def draw(
        self,
        rule: int,
        w: float,
        n: int,
        seed: int = 0,
        on_batch: Callable[[int], None] | None = None,
    ) -> Draws:
        """n draws given a rule, guided by w; sample i is that of stream i of the seed.

        w = 0 gives the bytes of `rules.generator.Generator.sample` given the rule, where n is a
        multiple of its internal batch, 128. on_batch is told how many samples each batch gave.
        ValueError for a rule that the model has no label for, and a w that is not finite.
        """
        bound = self.family.guided(rule + 1, w)
        watched = _watch(bound) if self.kind == "continuous" else None
        rng, codes, before = bound.streams(seed), [], []
        for first in range(0, n, BATCH):
            size = min(BATCH, n - first)  # not filled up: slow families draw few
            codes.append(bound.sample(size, rng.at(first)).cpu().numpy())
            if watched is not None:
                before.append(np.asarray(watched.x))
            if on_batch is not None:
                on_batch(size)
        made = np.concatenate(codes)
        panels, nfe = self.binding.decode(made, seed), bound.evaluations()
        if watched is None:
            return Draws(panels, nfe)
        return Draws(panels, nfe, made, np.concatenate(before))

    def index(self) -> memorisation.Index:
        """The contents of what it learned from, made again; of the exact law all of its rows."""
        if self._index is None:
            self._index = memorisation.Index(LEVELS, "plain")
            for x in self._learned():
                self._index.add(self.binding.project(x))
        return self._index

    def _learned(self) -> Any:
        if self.name in ON_TABLES:
            from assay.studies import guided_exact

            return guided_exact.samples(int(self.about["n_rows"]))
        data = load_config({k: v for k, v in self.about.items() if k in Recipe.model_fields}).data
        return (x for x, _ in data.samples(int(self.about["samples_seen"])))


class _Watched:
    """A denoiser that remembers the last x it was asked about: the solver's state before the
    final denoise, once a sample is drawn."""

    def __init__(self, denoiser: Any):
        self.denoiser, self.x = denoiser, np.empty(0)

    def __call__(self, x: Any, sigma: Any) -> Any:
        return self.evaluate(x, sigma, None)[0]

    def evaluate(self, x: Any, sigma: Any, memory: Any) -> tuple[Any, Any]:
        self.x = x
        return denoisers.evaluate(self.denoiser, x, sigma, memory)


def _watch(bound: Any) -> Any:
    """What watches the denoiser that this bound family will draw with."""
    watched = _Watched(bound.denoiser())
    bound.denoiser = lambda: watched
    return watched


# ---- where models come from ---------------------------------------------------------------------


def exact(sampler: SamplerConfig, n_rows: int) -> Model:
    """The law known exactly, with so many rows of each rule."""
    from assay.studies import guided_exact

    family = guided_exact.family(sampler, n_rows)
    return Model(EXACT, family, bindings.get("occupancy"), {"n_rows": n_rows})


def train(name: str, folder: Path, n_steps: int | None = None) -> None:
    """Train a learned family in a folder, or go on with it there; nothing where it has ended."""
    from assay.rules import train as training

    training.train(recipe(name, n_steps), folder)


def trained(name: str, folder: Path, sampler: SamplerConfig) -> Model:
    """A learned family out of its training Run, averaged weights where it has them."""
    from assay.rules import train as training

    return _model(name, training.load(folder, where="cpu"), sampler)


def shipped(name: str, sampler: SamplerConfig) -> Model:
    """A learned family as it is shipped; ValueError naming those that are."""
    from assay.rules import shipping

    if name not in shipped_names():
        there = ", ".join(shipped_names()) or "none"
        raise ValueError(f"family {name!r} is not shipped ({there} are); train it instead")
    return _model(name, shipping.load(FOLDER / f"{name}.safetensors", device="cpu"), sampler)


def shipped_names() -> list[str]:
    """The families that are shipped."""
    there = {p.stem for p in FOLDER.glob("*.safetensors")}
    return [name for name in LEARNED if name in there]


def _model(name: str, generator: Any, sampler: SamplerConfig) -> Model:
    family = generator.family
    if FAMILIES[name].kind == "continuous":
        family = family.using(sampler=sampler)
    return Model(name, family, generator.binding, generator.about)
