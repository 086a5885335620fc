"""``assay rules evaluate | sample | complete``: trained models at work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    import numpy as np

    from assay.rules.generator import Generator

_FLAG = Parameter(negative=())
_NUMBER = Parameter(allow_leading_hyphen=True)
_MANY = Parameter(consume_multiple=False, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured."""

    n: int = 2000
    """Samples, and completions of the third panel of row 3; 1 or more."""
    n_any_panel: int = 500
    """Completions of each of the nine panels in turn; 1 or more."""
    temperature: Annotated[list[str] | None, _MANY] = None
    """Sampling temperatures, 0 or more: --temperature 0,0.7,1 or repeated [default: 1]."""
    completion_temperature: float = 0.0
    """Temperature of completions, 0 (the likeliest choice) or more."""
    seed: int = 0
    """Seed of samples, completions and validation data, 0 or more."""
    bf16: Annotated[bool, _FLAG] = False
    """Draw with matrices in bfloat16, as in training: faster where the processor has it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How a model draws."""

    seed: int = 0
    """Seed, 0 to 2^64 - 1; the same seed gives the same bytes."""
    temperature: float | None = None
    """0 (the likeliest choice) or more [default: 1 for samples, 0 for completions]."""
    rule: str | None = None
    """Draw given a rule, by number (0 to 39) or name ("size XOR"); conditional models only."""
    w: Annotated[float, _NUMBER] = 0.0
    """Guidance weight towards the rule, any number; guidance_scale is 1 + w."""
    bf16: Annotated[bool, _FLAG] = False
    """Matrices in bfloat16: faster where the processor has it; other draws of the same seed."""


def evaluate(
    model: str,
    /,
    *,
    out: Path | None = None,
    flags: Measured | None = None,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Measure a model: what it draws, completes, has copied; resumes where stopped.

    C3, novel-C3, C2, AnyValid, the stages of a sample's rows, implied completion;
    completion on trained and held-out rules beside the marginal fill; every panel
    in turn; copies of training data beside the natural overlap; network
    evaluations and time. Intervals are Wilson's, 95 %.
    Example: assay rules evaluate out/tiny --n 1000 --temperature 0.7,1

    Parameters
    ----------
    model
        Folder of a training Run, a shipped model's name or a .safetensors file.
    out
        Folder of the evaluation's own Run [default: RUN/evaluation, then -2, -3, ... for others;
        a shipped model's or a file's is not saved].
    json
        Rows on standard output, one JSON object a line, instead of tables.
    """
    from assay import progress, runs, terminal
    from assay.rules import evaluate as evaluation
    from assay.rules import tables

    config = _config(flags or Measured())
    generator = _load(model)
    made = evaluation.prepare(generator, config)
    with _saved(model, out, {**config.model_dump(mode="json"), "model": generator.about}) as run:
        with progress.bar(f"evaluating {model}", made.work(run)) as advance:
            generator.on_batch = advance
            rows = made.rows(run)
        path = None if run is None else run.path
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in rows)
        return
    terminal.show(*tables.evaluation(model, rows))
    if path is not None:
        terminal.show(f"rows: {path / 'rows.jsonl'}")


def _config(flags: Measured) -> Any:
    """What is to be measured; ValueError in one line where it cannot be."""
    from pydantic import ValidationError

    from assay import refusal
    from assay.rules.evaluate import EvaluateConfig

    given = flags.temperature or ["1"]
    try:
        temperatures = [float(part) for text in given for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--temperature must be numbers, got {','.join(given)!r}") from None
    if not all(0 <= t < float("inf") for t in temperatures):
        raise ValueError(f"--temperature must be 0 or more, got {','.join(given)}")
    try:
        return EvaluateConfig(
            n=flags.n,
            n_any_panel=flags.n_any_panel,
            seed=flags.seed,
            temperatures=tuple(dict.fromkeys(temperatures)),
            completion_temperature=flags.completion_temperature,
            bf16=flags.bf16,
        )
    except ValidationError as error:
        flag, _, said = refusal.line(error).partition(": ")
        value = error.errors()[0]["input"]
        raise ValueError(f"--{flag.replace('_', '-')} {value}: {said}") from None


def _saved(model: str, out: Path | None, config: dict[str, Any]) -> Any:
    """The evaluation's Run, open for writing; a context without one where none is wanted."""
    from contextlib import nullcontext

    from assay.rules import shipping
    from assay.runs import Run

    if out is None:
        if model in shipping.names() or not Path(model).is_dir():
            return nullcontext()
        out = _free(Path(model) / "evaluation", config)
    return Run.open(out, config)


def _free(folder: Path, config: dict[str, Any]) -> Path:
    """The folder, or folder-2, -3, ..., whichever first holds this configuration or nothing."""
    from assay.runs import Run, plain

    number, path = 1, folder
    while (path / "config.json").is_file() and Run.read(path).config != plain(config):
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    return path


def sample(
    model: str,
    /,
    *,
    n: int = 16,
    out: Path | None = None,
    png: Path | None = None,
    flags: Drawn | None = None,
) -> None:
    """Draw samples, write them as an array or a picture, and say which rules hold.

    Example: assay rules sample out/tiny --n 16 --out samples.npy --png samples.png

    Parameters
    ----------
    model
        Folder of a training Run, a shipped model's name or a .safetensors file.
    n
        How many samples, 1 or more.
    out
        .npy file for int8 panels (n, 3, 3, 9, 3).
    png
        Picture to write, .png or .svg, of at most 1,000 samples.
    """
    flags = flags or Drawn()
    if n < 1:
        raise ValueError(f"--n must be 1 or more, got {n}")
    _check_files(out, png)
    options = _options(flags, 1.0)
    x = _with_bar(
        f"sampling {model}", n, _load(model, flags.bf16), lambda g: g.sample(n, **options)
    )
    _written(x, out, png, f"{model}, seed {flags.seed}")


def complete(
    model: str,
    file: Path,
    /,
    *,
    mask: str,
    out: Path | None = None,
    png: Path | None = None,
    flags: Drawn | None = None,
) -> None:
    """Fill in unknown panels of samples in a file; what stands there is never read.

    Example: assay rules complete out/tiny panels.npy --mask r3c3,r1c2 --out filled.npy

    Parameters
    ----------
    model
        Folder of a training Run, a shipped model's name or a .safetensors file.
    file
        .npy; .npz with key x; .parquet with column panels; .json: integers (n, 3, 3, 9, 3).
    mask
        Unknown panels by row and column, each 1 to 3, comma separated: r3c3,r1c2; or all.
    out
        .npy file for int8 panels (n, 3, 3, 9, 3), the known ones untouched.
    png
        Picture to write, .png or .svg, of the first 1,000 samples.
    """
    import numpy as np

    from assay.rules import datasets

    flags = flags or Drawn()
    where = parse_mask(mask)
    _check_files(out, png)
    options = _options(flags, 0.0)
    panels = np.asarray(datasets.load_panels(file))
    if not len(panels):
        raise ValueError(f"{file}: holds no samples")
    generator = _load(model, flags.bf16)
    x = _with_bar(
        f"completing {file.name}",
        len(panels),
        generator,
        lambda g: g.complete(panels, where, **options),
    )
    _written(x, out, png, f"{file.name}: {mask} by {model}")


def parse_mask(text: str) -> np.ndarray:
    """bool (3, 3), True where unknown, from "r3c3,r1c2" or "all"; ValueError otherwise."""
    import re

    import numpy as np

    if text.strip().lower() == "all":
        return np.ones((3, 3), np.bool_)
    mask = np.zeros((3, 3), np.bool_)
    for part in text.split(","):
        found = re.fullmatch(r"\s*r([1-3])c([1-3])\s*", part, re.IGNORECASE)
        if found is None:
            raise ValueError(
                f"--mask {text!r}: {part.strip()!r} is no panel; name panels as r3c3,r1c2 "
                "(rows and columns 1 to 3), or all"
            )
        mask[int(found[1]) - 1, int(found[2]) - 1] = True
    return mask


def _load(model: str, bf16: bool = False) -> Generator:
    from assay.rules import shipping

    return shipping.load(model, bf16=bf16)


def _options(flags: Drawn, temperature: float) -> dict[str, Any]:
    given = temperature if flags.temperature is None else flags.temperature
    return {"seed": flags.seed, "temperature": given, "rule": flags.rule, "w": flags.w}


def _with_bar(
    label: str, n: int, generator: Generator, draw: Callable[[Generator], np.ndarray]
) -> np.ndarray:
    from assay import progress

    with progress.bar(label, n) as advance:
        generator.on_batch = advance
        return draw(generator)


def _check_files(out: Path | None, png: Path | None) -> None:
    """ValueError where nothing is to be written, or a name ends otherwise than it must."""
    from assay.rules import canvas

    if out is None and png is None:
        raise ValueError("nothing to write: give --out FILE.npy, --png FILE.png or both")
    if out is not None and out.suffix != ".npy":
        raise ValueError(f"--out {out}: arrays end in .npy")
    if png is not None:
        canvas.ending(png)


def _written(x: np.ndarray, out: Path | None, png: Path | None, title: str) -> None:
    """Write panels and their picture, and print what the checker says of them."""
    from assay import terminal
    from assay.rules import draw, evaluate, genraven, tables

    if out is not None:
        _save_array(out, x)
        terminal.show(f"panels: {out}")
    if png is not None:
        terminal.show(f"picture: {draw.save(png, x[: draw.MOST], title=title)}")
    found = evaluate.measures(genraven.check(x))
    shown = terminal.table(f"{len(x):,} samples", "measure", "share", "95 % interval")
    for name, label in (("c3", "C3"), ("c2", "C2"), ("any_valid", "AnyValid")):
        shown.add_row(label, *tables.share(found, name))
    terminal.show(shown)


def _save_array(out: Path, x: np.ndarray) -> None:
    import io

    import numpy as np

    from assay.runs import write_aside

    data = io.BytesIO()
    np.save(data, x, allow_pickle=False)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_aside(out, data.getvalue())
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror or error})") from None
