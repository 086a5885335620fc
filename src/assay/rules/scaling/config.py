"""A scaling study as a list of jobs: models x samples per rule x rule sets x seeds.

A TOML file says it; every job is a whole recipe, made here and nowhere else:

    recipes = ["settoken-tiny", "gpt2-tiny"]
    per_rule = [25, 100, 400, "stream"]
    rule_sets = ["mini"]
    seeds = [0, 1]
    minutes = 1.5

    [[models]]                      # more models, as changes of a recipe
    name = "gpt2-wide"
    recipe = "gpt2-tiny"
    network = {width = 128}

A job's seed is that of its weights, its data and its noise.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from assay import refusal
from assay.models.config import Config
from assay.rules import genraven, recipes
from assay.rules.evaluate import EvaluateConfig
from assay.rules.recipe import Data, Recipe, load_config, mini, resolved

RULE_SETS = ("own", "mini", *(f"split{i}" for i in range(len(genraven.SPLITS))))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


class Model(Config):
    """A recipe, changed: fields of its network, its family's options and its training."""

    name: str
    recipe: str
    network: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    fit: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} must be letters, digits, - and _ (1 to 60)")
        return name

    @field_validator("recipe")
    @classmethod
    def _known(cls, name: str) -> str:
        recipes.get(name)
        return name


class ScaleConfig(Config):
    """A study. per_rule: samples for each rule, "stream" for new ones without end.

    rule_sets: "own" (the recipe's), "mini", "split0" to "split9" of the forty rules, or ids such
    as "10+13+30", with none held out.
    steps or minutes: of each training [default: the recipe's]; minutes are timed once a job.
    probes: moments of each training at which probe_n samples are drawn and judged.
    """

    kind: Literal["rules.scale"] = "rules.scale"
    recipes: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()
    per_rule: tuple[int | Literal["stream"], ...] = Field(min_length=1)
    rule_sets: tuple[str, ...] = ("own",)
    seeds: tuple[int, ...] = (0,)
    steps: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    save_every: int = Field(default=200, ge=1)
    probes: int = Field(default=8, ge=0, le=200)
    probe_n: int = Field(default=256, ge=16)
    evaluate: EvaluateConfig = EvaluateConfig(protocols=("unconditional", "copies", "completion"))

    @field_validator("recipes", "per_rule", "rule_sets", "seeds")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        doubled = [v for i, v in enumerate(values) if v in values[:i]]
        if doubled:
            raise ValueError(f"{doubled[0]!r} is given twice; give each value once")
        return values

    @field_validator("rule_sets")
    @classmethod
    def _sets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in RULE_SETS and not _ids(name):
                raise ValueError(
                    f"{name!r} is unknown; choose from own, mini, split0 to split9, or give ids "
                    "such as 10+13+30"
                )
        return names

    @field_validator("per_rule", "seeds")
    @classmethod
    def _positive(cls, values: tuple[Any, ...], info: Any) -> tuple[Any, ...]:
        least = 1 if info.field_name == "per_rule" else 0
        for value in values:
            if value != "stream" and value < least:
                raise ValueError(f"{value} is too small; {least} is the least")
        return values

    @model_validator(mode="after")
    def _whole(self) -> ScaleConfig:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("steps and minutes say the same thing; give one of them")
        names = [model.name for model in self.every_model()]
        if not names:
            raise ValueError("recipes and models are both empty; name at least one recipe")
        doubled = [name for i, name in enumerate(names) if name in names[:i]]
        if doubled:
            raise ValueError(f"model {doubled[0]!r} is there twice; give each its own name")
        return self

    def every_model(self) -> tuple[Model, ...]:
        """The recipes as they are, then the changed ones."""
        return (*(Model(name=name, recipe=name) for name in self.recipes), *self.models)


class Job(Config):
    """One training and its evaluation; ``key`` is its folder's name."""

    key: str
    model: str
    rule_set: str
    per_rule: int | None
    seed: int
    recipe: Recipe


def jobs(config: ScaleConfig) -> list[Job]:
    """Every job of a study, small data first. ValueError where a recipe cannot be built so."""
    found = []
    for per_rule in sorted(config.per_rule, key=lambda n: float("inf") if n == "stream" else n):
        for seed in config.seeds:
            for rule_set in config.rule_sets:
                for model in config.every_model():
                    found.append(_job(config, model, rule_set, per_rule, seed))
    return found


def _ids(name: str) -> tuple[int, ...]:
    """The rules of a rule set such as "10+13+30"; () where it is none."""
    parts = name.split("+")
    if not all(part.isdecimal() and part.isascii() and int(part) < 40 for part in parts):
        return ()
    ids = tuple(int(part) for part in parts)
    return ids if len({*ids}) == len(ids) else ()


def _job(config: ScaleConfig, model: Model, rule_set: str, per_rule: Any, seed: int) -> Job:
    values = recipes.get(model.recipe).model_dump(mode="json")
    for part in ("network", "options", "fit"):
        values[part] = {**values[part], **getattr(model, part)}
    values["data"] = _data(rule_set, Data.model_validate(values["data"]), per_rule, seed)
    values["seed"] = values["fit"]["seed"] = seed
    if config.steps is not None:
        values["fit"]["n_steps"] = config.steps
    key = f"{model.name}.n{per_rule}.{rule_set}.seed{seed}"
    try:
        recipe = resolved(load_config(values))
    except ValueError as error:
        raise ValueError(f"model {model.name!r}: {_first_line(error)}") from None
    number = None if per_rule == "stream" else per_rule
    return Job(
        key=key, model=model.name, rule_set=rule_set, per_rule=number, seed=seed, recipe=recipe
    )


def _data(rule_set: str, own: Data, per_rule: Any, seed: int) -> dict[str, Any]:
    if rule_set == "mini":
        own = mini()
    elif ids := _ids(rule_set):
        own = Data(rules=ids, held_out=())
    elif rule_set != "own":
        split = int(rule_set.removeprefix("split"))
        own = Data(rules=genraven.trained(split), held_out=genraven.SPLITS[split])
    values = own.model_dump(mode="json")
    return values | {"per_rule": None if per_rule == "stream" else per_rule, "seed": seed}


def read(path: Path) -> ScaleConfig:
    """The study in a TOML file. ValueError in one line where it cannot be read or is refused."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not TOML ({error})") from None
    try:
        return ScaleConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {_first_line(error)}") from None


def _first_line(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return refusal.line(error)
