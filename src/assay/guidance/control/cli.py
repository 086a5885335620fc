"""``assay guidance control``: guidance laws at equal class odds, errors planted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

_MANY = Parameter(consume_multiple=False, negative=())
_FLAG = Parameter(negative=())
_COLUMNS = (
    ("law", "law"), ("w", "w"), ("guidance_scale", "scale"), ("gain", "gain"), ("w1", "W1"),
    ("ratio", "ratio"), ("off_support", "off"), ("off_support_denoised", "denoised"),
    ("nfe", "nfe"),
)  # fmt: skip
T = TypeVar("T")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is compared; every list may be given by commas or by repeating the flag."""

    targets: Annotated[list[str] | None, _MANY] = None
    """Reporting targets by name [default: all but digits, which has 64 dimensions]."""
    errors: Annotated[list[str] | None, _MANY] = None
    """Planted errors by name, such as exact or field-uncond-0.1 [default: all]."""
    laws: Annotated[list[str] | None, _MANY] = None
    """Guidance laws; constant and thrifty must be among them [default: all]."""
    seeds: Annotated[list[str] | None, _MANY] = None
    """Seeds of the noise and of the planted field, two or more [default: 0,1,2]."""
    criterion: str | None = None
    """What `choose` finds the constant law's w by, such as "off_support < 3%"."""
    n: int | None = None
    """Samples a seed, a power of two [default: 512]."""
    steps: int | None = None
    """Heun steps [default: 32]."""


def control(
    *, out: Path, flags: Flags | None = None, json: Annotated[bool, _FLAG] = False
) -> None:
    """Compare guidance laws: how far do they move samples for the same class odds?

    About seven minutes on one core; the same command goes on where it was stopped. `assay report`
    makes the page.

    Parameters
    ----------
    out
        Folder of the Run (created; resumed where it holds the same configuration).
    json
        Rows on stdout, one JSON object a line.
    """
    from assay.guidance.control import config as control_config
    from assay.guidance.control import study as control_study
    from assay.progress import track
    from assay.runs import Run, dumps

    asked = control_config.build(_values(flags or Flags()))
    with Run.open(out, asked) as run:
        missing = [job for job in control_study.jobs(asked) if not run.done(job.key)]
        for job in track(missing, "guidance control", len(missing)):
            control_study.write(run, job)
        rows = run.rows
    if json:
        for row in rows:
            sys.stdout.write(dumps(row) + "\n")
    else:
        _print(rows, out)


def _values(flags: Flags) -> dict[str, Any]:
    """The config's fields from the flags."""
    from assay.guidance import config as configs
    from assay.guidance.control import config as control_config
    from assay.guidance.control import targets as control_targets

    places = {p.name: p for p in (*control_targets.REPORTING, *control_targets.MORE)}
    errors = {e.label: e for e in control_targets.ERRORS}
    values: dict[str, Any] = {"command": _command(flags)}
    if flags.targets is not None:
        values["reporting"] = _picked("target", flags.targets, places)
    if flags.errors is not None:
        chosen = _picked("error", flags.errors, errors)
        usual = control_config.ControlConfig().peers_error
        values |= {"errors": chosen, "peers_error": usual if usual in chosen else chosen[0]}
    if flags.laws is not None:
        values["laws"] = tuple(configs.split("laws", flags.laws))
    if flags.seeds is not None:
        values["seeds"] = tuple(configs.split("seeds", flags.seeds))
    given = {name: getattr(flags, name) for name in ("criterion", "n", "steps")}
    return values | {name: value for name, value in given.items() if value is not None}


def _picked(what: str, given: Sequence[str], known: dict[str, T]) -> tuple[T, ...]:
    from assay.guidance import config as configs

    names = configs.split(f"{what}s", given)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ValueError(f"{what} {unknown!r} is unknown; choose from {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _command(flags: Flags) -> str:
    from assay.guidance import config as configs

    words = ["assay", "guidance", "control"]
    for name in Flags.__dataclass_fields__:
        value = getattr(flags, name)
        if value is not None:
            shown = ",".join(configs.split(name, value)) if isinstance(value, list) else str(value)
            words += [f"--{name}", shown]
    return shlex.join([*words, "--out", "DIR"])


def _print(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """One table for each target and error, then what each law does over all of them."""
    from assay import terminal

    measured = [row for row in rows if row["stage"] == "law"]
    for place in dict.fromkeys((row["target"], row["error"]) for row in measured):
        group = [row for row in measured if (row["target"], row["error"]) == place]
        terminal.show(terminal.of_rows(", ".join(place), _COLUMNS, group))
    summary = [row for row in rows if row["stage"] == "summary"]
    names = ("law", "matched", "cases", "ratio", "ratio_least", "ratio_most", "halved",
             "worse_off_support_denoised")  # fmt: skip
    titles = ("law", "matched", "of", "W1 ratio", "least", "most", "halved", "worse off")
    title = "W1 over the constant law's at equal class odds, all cases"
    table = terminal.of_rows(title, tuple(zip(names, titles, strict=True)), summary)
    terminal.show(table, f"rows: {out / 'rows.jsonl'}")
