"""``assay rules train``: what is asked for, what is there already, and the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from assay.rules.recipe import Recipe

_FLAG = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    """What of a recipe may be said on the command line."""

    data: Path | None = None
    """Data set written by `assay rules generate`, learned instead of the recipe's own data."""
    steps: int | None = None
    """Training steps, 1 or more [default: the recipe's]."""
    minutes: float | None = None
    """Train for about so many minutes, > 0: 50 steps are timed once, then the steps are fixed."""
    extend: int | None = None
    """Steps in all for the finished Run in OUT, more than it has: its training goes on."""
    start: str | None = None
    """Model to start from: Run, file or shipped name; of the recipe's network and data."""
    conditional: Annotated[bool, _FLAG] = False
    """Conditional on the rule: 40 labels, dropped 10 % of the time."""
    compile: Annotated[bool, _FLAG] = False
    """Compile what can be: faster after a minute or two; on a CPU it needs a C++ compiler."""
    seed: int | None = None
    """Seed of weights, data and noise, 0 or more [default: 0]."""
    save_every: int = 200
    """Steps between checkpoints, 1 or more."""


def train(
    recipe: str | None = None,
    /,
    *,
    out: Path,
    flags: Flags | None = None,
    resume: Annotated[bool, _FLAG] = False,
    tensorboard: Annotated[bool, _FLAG] = False,
) -> int | None:
    """Train a recipe in a Run, or go on with the Run where it was stopped.

    The same command goes on from the last checkpoint, bit for bit, whatever stopped
    it; the number of steps is the saved one. A GPU is used where there is one,
    several by `torchrun --nproc-per-node N -m assay rules train ...`.
    Example: assay rules train settoken-tiny --minutes 2 --out out/tiny

    Parameters
    ----------
    recipe
        A name from `assay rules recipes`, or a Run's config.json; not needed to go on with a Run.
    out
        Folder of the Run (created; gone on with where it holds one of the same recipe).
    resume
        Go on where the Run is there: what happens without this flag too.
    tensorboard
        Curves in RUN/tensorboard as well (needs the extra tensorboard).
    """
    from assay.rules import processes

    with processes.joined() as rank:
        try:
            _train(recipe, out, flags or Flags(), tensorboard)
        except ValueError:
            if rank == 0:  # the first process speaks for all
                raise
            return 2
    return None


def _train(name: str | None, out: Path, flags: Flags, tensorboard: bool) -> None:
    from assay.rules import processes
    from assay.rules import train as training
    from assay.rules.recipe import load_config

    _check(flags)
    if (n_steps := flags.extend) is not None:
        if name is not None:
            raise ValueError(f"--extend goes on with the Run in {out}; leave {name!r} out")
        processes.first(lambda: training.extend(out, n_steps))
    there = processes.shared(lambda: training.saved(out))
    there = None if there is None else load_config(there)
    data, samples = _data(flags.data)
    recipe = asked(name, flags, there, data, out)
    model = None
    if flags.start is not None:
        recipe, model = _started(recipe, flags.start)
    if flags.minutes is not None and there is None:
        recipe = training.timed(recipe, flags.minutes)
    with _curves(out / "tensorboard", tensorboard and processes.rank() == 0) as on_step:
        made = training.train(
            recipe, out, every=flags.save_every, on_step=on_step, samples=samples, start=model
        )
    if processes.rank() == 0:
        n, seen = recipe.fit.n_steps, made.about["samples_seen"]
        print(f"{out}: {n:,} steps, {seen:,} samples; next: assay rules evaluate {out}")


def _started(recipe: Recipe, source: str) -> tuple[Recipe, Any]:
    """The recipe started from a model, and the model."""
    from assay.rules import shipping, starting

    model = shipping.load(source, averaged=False, device="cpu")
    return starting.started(recipe, model), model


def _check(flags: Flags) -> None:
    if flags.steps is not None and flags.minutes is not None:
        raise ValueError("--steps and --minutes say the same thing; give one of them")
    if flags.minutes is not None and not 0 < flags.minutes < float("inf"):
        raise ValueError(f"--minutes must be a positive number, got {flags.minutes}")
    if flags.extend is not None and (flags.steps, flags.minutes) != (None, None):
        raise ValueError("--extend says how many steps there are; drop --steps and --minutes")
    numbers = {"steps": flags.steps, "extend": flags.extend, "save-every": flags.save_every}
    for flag, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"--{flag} must be 1 or more, got {value}")


def _data(folder: Path | None) -> tuple[dict[str, Any] | None, Any]:
    """What a recipe says of a data set, and its train part."""
    if folder is None:
        return None, None
    from assay.rules import datasets

    found = datasets.Dataset.read(folder)
    said = {
        "rules": found.about["trained"],
        "held_out": found.about["held_out"],
        "per_rule": found.about["samples_per_rule"],
        "seed": found.about["seed"],
        "fingerprint": found.fingerprint,
    }
    return said, found.part("train")


def asked(
    name: str | None,
    flags: Flags,
    there: Recipe | None,
    data: dict[str, Any] | None,
    out: Path,
) -> Recipe:
    """The recipe that name and flags ask for, with the steps of the Run that is there.

    ValueError where they ask for what cannot be, or for other steps than the Run's.
    """
    from assay.rules.recipe import load_config

    if name is None and there is None:
        raise ValueError(f"{out}: holds no Run to go on with; name a recipe")
    if name is None and flags.conditional:
        raise ValueError("--conditional is part of the recipe; name the recipe too")
    base = there if name is None else _named(name, flags.conditional)
    assert base is not None
    values = base.model_dump(mode="json")
    if data is not None:
        values["data"] = data
    if flags.seed is not None:
        values["seed"] = values["fit"]["seed"] = flags.seed
        if data is None:
            values["data"]["seed"] = flags.seed
    if flags.compile:
        values["fit"]["compile"] = True
    if there is not None and flags.steps not in (None, there.fit.n_steps):
        raise ValueError(
            f"--steps {flags.steps}: the Run in {out} has {there.fit.n_steps}, which its schedule "
            "depends on; leave --steps out or choose another folder"
        )
    n_steps = there.fit.n_steps if there is not None else flags.steps
    if n_steps is not None:
        values["fit"]["n_steps"] = n_steps
    return load_config(values)


def _named(name: str, conditional: bool) -> Recipe:
    """A recipe from the list, or the one in a Run's config.json."""
    import json

    from assay.rules import recipes
    from assay.rules.recipe import load_config

    if not name.endswith(".json"):
        return recipes.get(name, conditional)
    if conditional:
        raise ValueError(f"{name}: says itself whether it is conditional; drop --conditional")
    try:
        return load_config(json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{name}: cannot be read ({error})") from None


@contextmanager
def _curves(folder: Path, wanted: bool) -> Iterator[Callable[[Any], None] | None]:
    """Yields what writes each step's loss, gradient norm and rate for TensorBoard, or None."""
    if not wanted:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs pip install 'assay[tensorboard]'") from None
    writers: list[Any] = []

    def on_step(step: Any) -> None:
        if not writers:  # steps after the checkpoint that were written before are dropped
            writers.append(SummaryWriter(str(folder), purge_step=step.number))
        for label in ("loss", "grad_norm", "rate"):
            writers[0].add_scalar(label, getattr(step, label), step.number)

    try:
        yield on_step
    finally:
        for writer in writers:
            writer.close()
