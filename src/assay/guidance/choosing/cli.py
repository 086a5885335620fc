"""``assay guidance choose`` and ``choose-study``: a weight by a criterion, and its rivals."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from assay import refusal
from assay.guidance.target_flags import TargetFlags

if TYPE_CHECKING:
    from assay.guidance.choosing.choose import Choice

_FLAG = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags(TargetFlags):
    """Target, solver and samples of a choice."""

    cap: int | None = None
    """Most samples of one weight [default: 4096]."""
    w_max: float | None = None
    """The largest weight considered [default: 30]."""
    steps: int | None = None
    """Solver steps [default: 64]."""
    solver: str | None = None
    """euler, heun, dpmpp_2m, adams, sde [default: heun]."""
    seed: int | None = None
    """Seed [default: 0]."""


def choose(
    *,
    target: str = "gaussians",
    criterion: str,
    error: str | None = None,
    flags: Flags | None = None,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Choose the strongest guidance of an exact target that keeps a stated criterion.

    Example: assay guidance choose --criterion "off_support < 1%; diversity >= 80%"
    For denoisers of your own: assay.guidance.choose in Python.

    Parameters
    ----------
    target
        gaussians, uniforms, digits.
    criterion
        Clauses such as "off_support < 1%; diversity >= 80%; returned before sigma 0.1",
        or a TOML file.
    error
        A score error to plant, KIND:SIZE, such as field:0.1; kinds: bias, field, zeroed,
        precision.
    json
        The evidence on stdout, one JSON object a weight, the choice as the last.
    """
    from assay.guidance import targets
    from assay.guidance.choosing.criterion import Criterion
    from assay.runs import dumps

    given, flags = Path(criterion), flags or Flags()
    asked = Criterion.read(given) if given.suffix == ".toml" else Criterion.parse(criterion)
    found = _chosen(targets.build(target, **flags.params()), asked, _planted(error), flags)
    if json:
        for row in found.rows:
            sys.stdout.write(dumps({"row": "evidence", **row}) + "\n")
        sys.stdout.write(dumps(_summary(found)) + "\n")
    else:
        _print(found, target)


def _planted(error: str | None) -> tuple[str | None, float | None]:
    if error is None:
        return None, None
    kind, _, size = error.partition(":")
    try:
        return kind, float(size)
    except ValueError:
        raise ValueError(f"error {error!r} must be KIND:SIZE, such as field:0.1") from None


def _chosen(
    target: Any, criterion: Any, planted: tuple[str | None, float | None], flags: Flags
) -> Choice:
    from assay.guidance import config
    from assay.guidance.choosing import cases as choosing_cases
    from assay.guidance.choosing import choose as choosing
    from assay.guidance.choosing import draw as choosing_draw

    own = {k: v for k in ("steps", "solver", "seed") if (v := getattr(flags, k)) is not None}
    simulation = refusal.checked(config.Simulation, own, given=True)
    more = {k: v for k in ("cap", "w_max") if (v := getattr(flags, k)) is not None}
    settings = refusal.checked(choosing.Settings, {"simulation": simulation, **more}, given=True)
    pair = choosing_cases.denoisers(target, *planted)
    odds = target.log_odds if target.rest is not None else None
    return choosing.choose(
        lambda x, sigma: pair(x, sigma)[0],
        lambda x, sigma: pair(x, sigma)[1],
        criterion,
        _origin(target),
        choosing_draw.of_target(target),
        odds if criterion.odds_gain is not None else None,
        settings,
    )


def _origin(target: Any) -> Any:
    """Two samples of the class, which tell the shape."""
    import numpy as np

    return target.cond.sample(2, np.random.default_rng(0))


def _summary(found: Choice) -> dict[str, Any]:
    return {
        "row": "choice",
        "w": found.w,
        "guidance_scale": found.guidance_scale,
        "verdict": found.verdict,
        "reason": found.reason,
        "criterion": found.criterion.text,
        "support": found.support,
        "n": sum(row["n"] for row in found.rows),
        "nfe": found.nfe,
        "grid_share": found.grid_share,
        "seed": found.seed,
        "notes": list(found.notes),
    }


def _print(found: Choice, target: str) -> None:
    from assay import terminal

    names = ("", "w", "scale", "n", "verdict", *found.criterion.names)
    title = f"{target}: weights looked at and tested"
    table = terminal.table(title, *(name.replace("_", " ") for name in names))
    for row in found.rows:
        numbers = [f"{row['w']:.3g}", f"{row['guidance_scale']:.3g}", str(row["n"])]
        bounds = [_bounded(row, name) for name in found.criterion.names]
        table.add_row(row["phase"], *numbers, row["verdict"], *bounds)
    terminal.show(table, str(found.criterion), str(found), *found.notes)


def _bounded(row: dict[str, Any], name: str) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def choose_study(
    *,
    out: Path,
    case: list[str] | None = None,
    seeds: int = 100,
    cap: int = 4096,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Compare ways to choose w on exact targets, with and without planted score error; resumes.

    The criterion, the paper's monotone rule, guidance_scale 7.5 by habit and a measured grid,
    each judged by the truth; `assay report OUT` draws it.

    Parameters
    ----------
    out
        Folder of the Run (created; resumed where it holds the same configuration).
    case
        Names of cases, comma list or repeated [default: all].
    seeds
        Choices a case, 2 or more.
    cap
        Most samples of one weight, of the criterion's search and of the grid.
    json
        Rows on stdout, one JSON object a line.
    """
    from assay.guidance.choosing import cases as choosing_cases
    from assay.guidance.choosing import study as choosing_study
    from assay.progress import bar
    from assay.runs import Run, dumps

    names = [n.strip() for one in case or [] for n in one.split(",")]
    cases = [c.name for c in choosing_cases.named(names)] if case else choosing_cases.NAMES
    asked = {"cases": tuple(cases), "seeds": seeds, "cap": cap}
    study = refusal.checked(choosing_study.StudyConfig, asked, given=True)
    with Run.open(out, study) as run:
        missing = [job for job in choosing_study.jobs(study) if not run.done(job.key)]
        with bar("choosing w", sum(job.weight for job in missing)) as advance:
            for job in missing:
                job.make(run)
                advance(job.weight, job.key)
        rows = run.rows
    if json:
        for row in rows:
            sys.stdout.write(dumps(row) + "\n")
    else:
        _print_study(rows, out)


def _print_study(rows: list[dict[str, Any]], out: Path) -> None:
    from assay import terminal

    columns = ("case", "method", "w", "guidance_scale", "regret", "regret_low", "regret_high",
               "regret_worst", "violations", "grid_share", "n")  # fmt: skip
    heads = tuple((name, name.replace("_", " ")) for name in columns)
    summary = [row for row in rows if row["row"] == "summary"]
    table = terminal.of_rows("regret of ways to choose w", heads, summary, left=2)
    terminal.show(table, f"rows: {out / 'rows.jsonl'}")
