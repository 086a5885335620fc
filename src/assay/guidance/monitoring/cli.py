"""``assay guidance monitor``: the score-error monitor on trial, or on a model of digits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

_MANY = Parameter(consume_multiple=False, negative=())
_W = Parameter(allow_leading_hyphen=True, consume_multiple=False, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MonitorFlags:
    """What is put on trial."""

    target: Annotated[list[str] | None, _MANY] = None
    """gaussians, uniforms, gaussians-2d, uniforms-2d, digits-3, digits-4, digits-even
    [default: all]."""
    kind: Annotated[list[str] | None, _MANY] = None
    """bias, field, zeroed, precision, scaled, smoothed, slope [default: all]."""
    n: Annotated[list[str] | None, _MANY] = None
    """Held-out samples; the first meets every kind and size [default: 1000,300,3000]."""
    size: Annotated[list[str] | None, _MANY] = None
    """Sizes of the planted error [default: 0.003,0.03,0.1,0.3]."""
    more_size: Annotated[list[str] | None, _MANY] = None
    """Further sizes on targets of digits [default: 1,3]."""
    w: Annotated[list[str] | None, _W] = None
    """Weights whose trajectories are visited, guidance_scale = 1 + w [default: 0,1,3,7]."""
    seed: int = 0
    """Of held-out samples, noise and random errors."""


_FIELDS = (
    ("target", "targets"), ("kind", "kinds"), ("n", "n"), ("size", "sizes"),
    ("more_size", "more_sizes"), ("w", "w"),
)  # fmt: skip


def monitor(
    *,
    flags: MonitorFlags | None = None,
    model: str | None = None,
    out: Path,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Put the score-error monitor on trial: planted errors on exact targets; resumes.

    Parameters
    ----------
    model
        Instead of exact targets, a learned model of digits: digits8, digits28 or a file of
        weights, measured with the images held out of its training.
    out
        Folder of the Run (created; resumed where it holds the same configuration).
    json
        Rows on stdout, one JSON object a line.
    """
    from assay.runs import dumps

    given = _given(flags or MonitorFlags())
    rows = _learned(model, given, out) if model is not None else _trial(given, out)
    if json:
        for row in rows:
            sys.stdout.write(dumps(row) + "\n")
    else:
        _print_table(rows, out)


def _given(flags: MonitorFlags) -> dict[str, Any]:
    from assay.guidance import config as configs

    given: dict[str, Any] = {"seed": flags.seed}
    for flag, name in _FIELDS:
        values = getattr(flags, flag)
        if values is not None:
            given[name] = tuple(configs.split(flag, values))
    return given


def _trial(given: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    from assay.guidance.monitoring import proof
    from assay.progress import track
    from assay.runs import Run

    config = proof.study(**given)
    with Run.open(out, config) as run:
        missing = [job for job in proof.jobs(config) if not run.done(job.last(config))]
        for job in track(missing, "score-error monitor", len(missing)):
            job.write(run, config)
        proof.finish(run, config)
        return run.rows


def _learned(model: str, given: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    from assay.guidance.monitoring import learned
    from assay.runs import Run

    unused = sorted(set(given) - {"seed", "w"})
    if unused:
        raise ValueError(f"{', '.join(unused)} and model are both given; a model has one law")
    config = learned.study(model=model, **given)
    with Run.open(out, config) as run:
        learned.write(run, config)
        return run.rows


_SUMMARY = (
    ("target", "target"), ("n", "n"), ("states", "states"), ("scope", "scope"), ("sizes", "sizes"),
    ("known", "known"), ("cells", "of"), ("rank", "rank"), ("ratio", "ratio"),
    ("factor", "factor"), ("holds", "holds"), ("met", "bar"),
)  # fmt: skip
_LEARNED = (
    ("denoiser", "denoiser"), ("states", "states"), ("w", "w"), ("guidance_scale", "scale"),
    ("n", "n"), ("error", "error"), ("error_low", "from"), ("error_high", "to"),
    ("covered", "covered"), ("status", "status"),
)  # fmt: skip


def _print_table(rows: list[dict[str, Any]], out: Path) -> None:
    from assay import terminal

    shown = [r for r in rows if r["kind"] == "summary"]
    columns, title = _SUMMARY, "the monitor against the truth"
    if not shown:
        shown = [r for r in rows if r["kind"] == "learned" and r["sigma"] is None]
        columns, title = _LEARNED, "score error of a learned model, all noise levels"
    terminal.show(terminal.of_rows(title, columns, shown), f"rows: {out / 'rows.jsonl'}")
