"""What follows from a study, as rows of a Run of its own: STUDY/analysis.

    config.json   the study's configuration, how many jobs, digests of their rows and of the code
    rows.jsonl    "part" says what a row is:
        threshold, curve, held_out, held_out_summary, fresh                    `fitted`
        tau_rule, tau_mem, tau_mem_growth, stopping                            `moments`
        warning, warning_signal, warning_run, warning_said, warning_lacking    `early`
        capacity, capacity_run, capacity_fit, capacity_said                    `capacity`

It is made again where the study has grown or the code is another, aside, and put in place whole;
what was left unfinished is gone on with, and until then the old one stays.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay import progress
from assay.rules.scaling import (
    auroc,
    capacity,
    collapse,
    databits,
    early,
    fitted,
    moments,
    thresholds,
)
from assay.runs import Run, dumps

KIND = "rules.scale.analysis"
FOLDER = "analysis"
_CODE = (auroc, capacity, collapse, databits, early, fitted, moments, thresholds)
_ASIDE, _OLD = ".analysis.part", ".analysis.old.part"

Rows = Sequence[Mapping[str, Any]]
Part = Callable[[Rows, progress.Advance], Rows]  # rows of the study, moves on by 1 in all


def _at_once(rows: Callable[[Rows], Rows]) -> Part:
    """A part that is made in one go."""

    def made(study: Rows, advance: progress.Advance) -> Rows:
        found = rows(study)
        advance()
        return found

    return made


PARTS: dict[str, Part] = {
    "fitted": fitted.rows, "moments": _at_once(moments.rows), "early": _at_once(early.rows),
    "capacity": _at_once(capacity.rows),
}  # fmt: skip


def update(study: str | os.PathLike[str]) -> Run | None:
    """The analysis of the study in a folder, made where it is missing or the study has grown.

    None while no job is done. ValueError where the folder holds no study or cannot be written.
    """
    folder = Path(study)
    done = _done(folder)
    if not done:
        return None
    config = _config(Run.read(folder).config, done)
    place, aside = folder / FOLDER, folder / _ASIDE
    if _config_of(place) == config:
        return Run.read(place)
    if _config_of(aside) not in (None, config):
        shutil.rmtree(aside)
    with (
        Run.open(aside, config) as run,
        progress.bar("analysis of the study", len(PARTS)) as advance,
    ):
        for name, part in PARTS.items():
            run.fill(name, _made(part, done, advance))
    _replace(aside, place)
    return Run.read(place)


def _done(folder: Path) -> list[dict[str, Any]]:
    run = Run.read(folder)
    if run.config.get("kind") != "rules.scale":
        raise ValueError(f"{folder}: is no scaling study; name a folder of assay rules scale")
    return sorted((r for r in run.rows if r.get("status") == "done"), key=lambda r: r["key"])


def _config(study: Mapping[str, Any], done: Rows) -> dict[str, Any]:
    digest = hashlib.sha256(dumps(done).encode()).hexdigest()
    return {"kind": KIND, "study": dict(study), "n_jobs": len(done), "digest": digest,
            "parts": list(PARTS), "code": _code()}  # fmt: skip


def _code() -> str:
    """A digest of the modules that make the rows: other code, other rows."""
    sources = [Path(str(module.__file__)).read_bytes() for module in _CODE]
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _config_of(folder: Path) -> dict[str, Any] | None:
    """The configuration of the Run there; None where there is none."""
    return Run.read(folder).config if (folder / "config.json").is_file() else None


def _made(part: Part, done: Rows, advance: progress.Advance) -> Callable[[], Any]:
    return lambda: (part(done, advance), {})


def _replace(aside: Path, place: Path) -> None:
    """The new folder in place of the old one."""
    old = place.with_name(_OLD)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.rename(place, old)
    os.rename(aside, place)
    shutil.rmtree(old, ignore_errors=True)
