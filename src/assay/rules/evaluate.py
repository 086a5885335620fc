"""Any generator x any protocol: what it draws, what it completes, what it copied.

    unconditional  C3, C2, AnyValid, novel-C3 (no row a copy of a training row; also with rows
                   compared as sets), the stages that make C3 up, implied completion, and for each
                   rule its share
    copies         memorisation at every level, beside the natural overlap of fresh data
    completion     the third panel of row 3, trained and held-out rules apart, beside the marginal
                   fill on the same samples
    any_panel      each of the nine panels in turn

C3 = (row 1 obeys a rule) x (row 2 then shares one with it) x (row 3 then shares one with both):
the stages `row1`, `row2`, `row3`. Implied completion is C3 / (C3 + C2/3), what the model's own
joint says of its completion; its C2 leaves out samples with a rule in all three rows. Shares have
95 % intervals, Wilson's (`shares`), as NAME_low and NAME_high, and their trials as NAME_n.

A generator is anything with ``sample(n, seed, temperature)`` and ``complete(panels, mask, seed,
temperature)`` on int8 panels; `rules.generator.Generator` is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field, field_validator

from assay.core import intervals
from assay.models.config import Config
from assay.rules import bindings, completion, cost, genraven, memorisation, shares
from assay.rules.recipe import VALIDATION_SEED, Data, Recipe, load_config
from assay.runs import Run

PROTOCOLS = ("unconditional", "copies", "completion", "any_panel")
Row = dict[str, Any]


class Generates(Protocol):
    """What is evaluated."""

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """int8 (n, 3, 3, 9, 3)."""
        ...

    def complete(
        self, panels: np.ndarray, mask: np.ndarray, seed: int = 0, temperature: float = 0.0
    ) -> np.ndarray:
        """int8 of the shape of panels."""
        ...


class EvaluateConfig(Config):
    """What is measured. Completions are greedy unless a temperature above 0 is given."""

    kind: Literal["rules.evaluate"] = "rules.evaluate"
    n: int = Field(default=2000, ge=1)
    n_any_panel: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0)
    temperatures: tuple[float, ...] = (1.0,)
    completion_temperature: float = Field(default=0.0, ge=0)
    bf16: bool = False  # draw with matrices in bfloat16
    protocols: tuple[str, ...] = PROTOCOLS
    levels: tuple[str, ...] = memorisation.LEVELS

    @field_validator("protocols")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in PROTOCOLS:
                raise ValueError(f"protocol {name!r} is unknown; choose from {PROTOCOLS}")
        return names

    @field_validator("levels")
    @classmethod
    def _with_rows(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(levels) - set(memorisation.LEVELS)
        if unknown:
            known = ", ".join(memorisation.LEVELS)
            raise ValueError(f"level {min(unknown)!r} is unknown; choose from {known}")
        wanted = {"row", "set_row", *levels}  # novel-C3 needs these two
        return tuple(level for level in memorisation.LEVELS if level in wanted)


class Evaluation:
    """A generator, the data it learned from, and what the protocols share."""

    def __init__(
        self,
        generator: Generates,
        data: Data,
        samples_seen: int,
        config: EvaluateConfig,
        binding: bindings.Binding | None = None,
    ):
        """samples_seen: of streamed data, how many the model was trained on."""
        self.generator, self.data, self.config = generator, data, config
        self.binding = binding or bindings.get("sets")
        self.n_trained = samples_seen if data.n_samples is None else data.n_samples
        # canonical rows of occupancy alone are a few Venn counts: there copies are plain ones
        self.form = "plain" if self.binding.occupancy_only else "canonical"
        self.levels = tuple(v for v in config.levels if self.form != "plain" or v != "set_row")
        self._index: memorisation.Index | None = None
        self._drawn: dict[float, tuple[np.ndarray, float]] = {}
        self.facts: Row = {}  # of the model, for the rows of whole protocols

    def rows(self, run: Run | None = None) -> list[Row]:
        """The rows of every protocol; those that a Run has already are not computed again."""
        found = []
        for key, make in self.groups():
            found.extend(run.fill(key, _group(make)) if run is not None else make())
        return found

    def groups(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        """(key, what makes its rows) of every group of rows."""
        for name in self.config.protocols:
            yield from getattr(self, f"_{name}")()

    def work(self, run: Run | None = None) -> int:
        """How many samples and completions the rows that a Run lacks will take."""
        there = [] if run is None else [row["group"] for row in run.rows if row.get("last")]
        left = [key for key, _ in self.groups() if key not in there]
        temperatures = {key.partition("=")[2] for key in left if "/T=" in key}
        fills = sum(key.startswith("completion/") for key in left)
        panels = sum(key.startswith("any_panel/") for key in left)
        config = self.config
        return config.n * (len(temperatures) + fills) + config.n_any_panel * panels

    # ---- what protocols share ----------------------------------------------------------------

    def index(self) -> memorisation.Index:
        """The training samples' contents, made again from their seed."""
        if self._index is None:
            self._index = memorisation.Index(self.levels, self.form)
            for x, _ in self.data.samples(self.n_trained):
                self._index.add(self.binding.project(x))
        return self._index

    def drawn(self, temperature: float) -> tuple[np.ndarray, float]:
        """Samples at a temperature, and the seconds they took."""
        if temperature not in self._drawn:
            start = time.perf_counter()
            x = self.generator.sample(self.config.n, self.config.seed, temperature)
            self._drawn[temperature] = x, time.perf_counter() - start
        return self._drawn[temperature]

    def fresh(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Validation samples over trained and held-out rules, (x, y)."""
        rules = sorted({*self.data.rules, *self.data.held_out})
        return genraven.generate(n, rules, VALIDATION_SEED + self.config.seed)

    # ---- protocols: (key, () -> rows) --------------------------------------------------------

    def _unconditional(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        for t in self.config.temperatures:
            yield f"unconditional/T={t:g}", lambda t=t: self._unconditional_rows(t)

    def _unconditional_rows(self, temperature: float) -> list[Row]:
        x, seconds = self.drawn(temperature)
        ok = genraven.check(x)
        key = f"unconditional/T={temperature:g}"
        row = {
            "key": key,
            "part": "unconditional",
            "temperature": temperature,
            "n": len(x),
            **measures(ok),
            **self._novelty(x, ok),
            **_cost(self.generator, None, seconds, len(x)),
            **self.facts,
        }
        return [row, *self._rule_rows(key, ok, temperature)]

    def _novelty(self, x: np.ndarray, ok: Any) -> Row:
        c3 = ok.all(1).any(1)
        found: Row = {"n_trained": self.n_trained, "form": self.form}
        for name, level in (("novel_c3", "row"), ("novel_set_c3", "set_row")):
            if level in self.levels:
                novel = self.index().novel(self.binding.project(x), level)
                found |= flat(name, shares.share(novel & c3))
        return found

    def _rule_rows(self, key: str, ok: Any, temperature: float) -> list[Row]:
        """For each rule its share of all samples and, of a trained one, of the C3 samples."""
        every = ok.all(1)
        c3 = every.any(1)
        rows = []
        for rule in genraven.RULES:
            row = {
                "key": f"{key}/rule-{rule.id}",
                "part": "rule",
                "rule": rule.name,
                "temperature": temperature,
                "trained": rule.id in self.data.rules,
                **flat("share", shares.share(every[:, rule.id])),
            }
            if c3.any():
                row |= flat("share_of_c3", shares.ratio(every[:, rule.id] & c3, c3))
                row["nominal"] = 1 / len(self.data.rules) if row["trained"] else 0.0
            rows.append(row)
        return rows

    def _copies(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        for t in self.config.temperatures:
            yield f"copies/T={t:g}", lambda t=t: self._copies_rows(t)

    def _copies_rows(self, temperature: float) -> list[Row]:
        own = self.index().overlap(self.binding.project(self.drawn(temperature)[0]))
        seed = VALIDATION_SEED + self.config.seed
        x, _ = genraven.generate(self.config.n, self.data.rules, seed)
        natural = self.index().overlap(self.binding.project(x))
        return [
            {
                "key": f"copies/T={temperature:g}/{level}",
                "part": "copies",
                "level": level,
                "temperature": temperature,
                **flat("copies", own[level]),
                **flat("natural", natural[level]),
            }
            for level in self.levels
        ]

    def _completion(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        yield "completion/r3c3", lambda: self._completion_rows(2, 2, self.config.n)

    def _any_panel(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        for place in range(9):
            row, col = divmod(place, 3)
            key = f"any_panel/r{row + 1}c{col + 1}"
            yield key, lambda row=row, col=col: self._any_panel_rows(row, col)

    def _any_panel_rows(self, row: int, col: int) -> list[Row]:
        """One row of the completions of a panel, or of why the family cannot complete it."""
        where, n = f"r{row + 1}c{col + 1}", self.config.n_any_panel
        try:
            made = self._completion_rows(row, col, n)[0]
        except ValueError as error:
            made = {"mask": where, "n": n, "refused": str(error)}
        return [{**made, "key": f"any_panel/{where}", "part": "any_panel"}]

    def _completion_rows(self, row: int, col: int, n: int) -> list[Row]:
        """One row of the completions of a panel, then one for each rule."""
        x, y = self.fresh(n)
        mask = np.arange(9).reshape(3, 3) == 3 * row + col
        start = time.perf_counter()
        found = self._judged(self._fill(mask), x, y, mask)
        seconds = time.perf_counter() - start
        line = self._judged(completion.marginal(self.data.rules), x, y, mask)
        where = f"r{row + 1}c{col + 1}"
        made: Row = {"key": f"completion/{where}", "part": "completion", "mask": where, "n": n}
        made["temperature"] = self.config.completion_temperature
        for group in ("all", "trained", "held_out"):
            if found[group] is not None:
                made |= flat(group, found[group])
                made |= flat(f"marginal_{group}", line[group])
        made |= flat("any_valid", found["any_valid"]) | _cost(self.generator, 1, seconds, n)
        made |= self.facts
        return [made] + [
            {
                "key": f"completion/{where}/{_slug(rule)}",
                "part": "completion_rule",
                "mask": where,
                "rule": rule,
                **flat("correct", share),
            }
            for rule, share in found["per_rule"].items()
        ]

    def _fill(self, mask: np.ndarray) -> completion.Fill:
        temperature = self.config.completion_temperature

        def fill(x: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return self.generator.complete(x, mask, self.config.seed, temperature)

        return fill

    def _judged(self, fill: completion.Fill, x: Any, y: Any, mask: np.ndarray) -> dict[str, Any]:
        return completion.evaluate_completion(
            fill, x, y, mask, self.data.held_out, self.config.seed
        )


def prepare(generator: Any, config: EvaluateConfig | None = None) -> Evaluation:
    """The evaluation of a generator loaded from a Run or a file: ``about`` says what it learned.

    Its rows carry parameters, samples seen and training FLOP.
    """
    recipe = load_config({
        k: v for k, v in generator.about.items() if k in Recipe.model_fields
    })  # fmt: skip
    seen = int(generator.about["samples_seen"])
    binding = bindings.get(recipe.binding)
    made = Evaluation(generator, recipe.data, seen, config or EvaluateConfig(), binding)
    generator.bf16 = made.config.bf16
    made.facts = {**cost.facts(generator.family, recipe, seen), "bf16": generator.bf16}
    return made


def evaluate(
    generator: Any, config: EvaluateConfig | None = None, run: Run | None = None
) -> list[Row]:
    """Every protocol on a generator loaded from a Run or a file; see `prepare`.

    Returns the rows; with a Run open for writing, those it has are not computed again.
    """
    return prepare(generator, config).rows(run)


def measures(ok: Any) -> Row:
    """C3 and what it is made of, from `genraven.check`'s answer, bool (n >= 1, 3, 40)."""
    every = ok.all(1).any(1)
    two = (ok.sum(1) == 2).any(1)
    row1 = ok[:, 0].any(1)
    pair = (ok[:, 0] & ok[:, 1]).any(1)
    found = {
        **flat("c3", shares.share(every)),
        **flat("c2", shares.share(two)),
        **flat("any_valid", shares.share(ok.any(2))),
        **flat("row1", shares.share(row1)),
    }
    for name, hits, tries in (("row2", pair, row1), ("row3", every, pair)):
        if tries.any():
            found |= flat(name, shares.ratio(hits, tries))
    return {**found, **implied(every, two & ~every)}


def implied(c3: Any, c2: Any) -> Row:
    """C3/(C3 + C2/3) with its interval from the share p = C3/(C3 + C2): p/(p + (1 - p)/3)."""
    k, n = int(c3.sum()), int((c3 | c2).sum())
    if n == 0:
        return {"implied": None, "implied_low": 0.0, "implied_high": 1.0, "implied_n": 0}
    low, high = intervals.wilson(k, n)
    values = [p / (p + (1 - p) / 3) for p in (k / n, low, high)]
    names = ("implied", "implied_low", "implied_high")
    return {**dict(zip(names, values, strict=True)), "implied_n": n}


def flat(name: str, share: dict[str, float]) -> Row:
    """A share as columns NAME, NAME_low, NAME_high, NAME_n."""
    return {
        name: share["estimate"],
        f"{name}_low": share["low"],
        f"{name}_high": share["high"],
        f"{name}_n": share["n"],
    }


def _cost(generator: Any, n_unknown: int | None, seconds: float, n: int) -> Row:
    """Network evaluations a sample, wall time and speed."""
    family = getattr(generator, "family", None)
    nfe = None if family is None else family.evaluations(n_unknown)
    return {"nfe": nfe, "seconds": seconds, "samples_per_s": n / max(seconds, 1e-9)}


def _group(make: Callable[[], list[Row]]) -> Callable[[], Any]:
    return lambda: (make(), {})


def _slug(name: str) -> str:
    return name.replace(" ", "-").replace("+", "plus")
