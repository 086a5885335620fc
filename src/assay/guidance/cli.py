"""``assay guidance``: sweeps over targets, laws, solvers and w."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from assay.guidance.auditing import cli as audit_cli
from assay.guidance.choosing import cli as choosing_cli
from assay.guidance.control import cli as control_cli
from assay.guidance.images import cli as image_cli
from assay.guidance.monitoring import cli as monitor_cli
from assay.guidance.rollouts import cli as rollout_cli
from assay.guidance.target_flags import TargetFlags

app = App(name="guidance", help="Laboratory 1: what guidance really does.")
app.command(rollout_cli.app)
app.command(image_cli.app)
app.command(audit_cli.audit)
app.command(choosing_cli.choose)
app.command(choosing_cli.choose_study)
app.command(control_cli.control)
app.command(monitor_cli.monitor)

_W = Parameter(allow_leading_hyphen=True, consume_multiple=False, negative=())
_MANY = Parameter(consume_multiple=False, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags(TargetFlags):
    """What may be said on the command line; each flag overrides the TOML file."""

    target: str | None = None
    """gaussians, uniforms, digits (a mixture needs a TOML file)."""
    w: Annotated[list[str] | None, _W] = None
    """Guidance weights, w = 0 the plain conditional model: --w 0,1,3 or repeated."""
    law: Annotated[list[str] | None, _MANY] = None
    """Guidance laws, comma list or repeated [default: constant]."""
    solver: Annotated[list[str] | None, _MANY] = None
    """exact, euler, heun, dpmpp_2m, adams, sde [default: exact where 1-D, else heun]."""
    seed: Annotated[list[str] | None, _MANY] = None
    """Seeds of sampled rows, comma list or repeated [default: 0]."""
    n: int | None = None
    """Samples a row where it is not exact."""
    steps: int | None = None
    """Solver steps."""


@app.command
def sweep(
    config: Path | None = None,
    /,
    *,
    flags: Flags | None = None,
    out: Path,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Measure guided samples for each target, law, solver, w and seed; resumes where it stopped.

    Parameters
    ----------
    config
        TOML file with the fields of SweepConfig: target, params, w, laws, solvers, seeds, ...
    out
        Folder of the Run (created; resumed where it holds the same configuration).
    json
        Rows on stdout, one JSON object a line.
    """
    from assay.guidance import config as configs
    from assay.guidance import sweep as sweeps
    from assay.progress import track
    from assay.runs import Run, dumps

    asked = configs.build(_merge(configs.read_toml(config) if config else {}, flags or Flags()))
    jobs = sweeps.jobs(asked)
    with Run.open(out, asked) as run:
        missing = [job for job in jobs if not run.done(job.key)]
        for job in track(missing, "guidance sweep", len(missing)):
            job.write(run)
        rows = run.rows
    if json:
        for row in rows:
            sys.stdout.write(dumps(row) + "\n")
    else:
        _print_table(rows, out)


def _merge(values: dict[str, Any], flags: Flags) -> dict[str, Any]:
    """The TOML file's values with the flags over them."""
    from assay.guidance import config as configs

    merged = dict(values)
    for name in ("target", "w"):
        if getattr(flags, name) is not None:
            merged[name] = getattr(flags, name)
    if flags.law is not None:
        merged["laws"] = [{"name": name} for name in configs.split("law", flags.law)]
    if flags.solver is not None:
        merged["solvers"] = configs.split("solver", flags.solver)
    if flags.seed is not None:
        merged["seeds"] = configs.split("seed", flags.seed)
    particles = {k: v for k in ("n", "steps") if (v := getattr(flags, k)) is not None}
    for group, given in (("params", flags.params()), ("particles", particles)):
        if given:
            merged[group] = {**merged.get(group, {}), **given}
    return merged


_COLUMNS = (
    ("law", "law"), ("solver", "solver"), ("w", "w"), ("guidance_scale", "scale"),
    ("mean", "mean"), ("sd", "sd"), ("median", "median"), ("w1_to_cond", "W1 cond"),
    ("w1_to_tilted", "W1 tilt"), ("off_support", "off"),
    ("off_support_denoised", "denoised"), ("nfe", "nfe"),
)  # fmt: skip


def _print_table(rows: list[dict[str, Any]], out: Path) -> None:
    from assay import terminal

    # what is the same in every row stands in the title, so that figures keep their digits
    same = [n for n in ("law", "solver") if len({row.get(n) for row in rows}) == 1]
    said = ", ".join(str(rows[0][n]) for n in same)
    shown = [c for c in _COLUMNS if c[0] not in same]
    table = terminal.of_rows(f"{rows[0]['target']}: {said}", shown, rows, left=0, digits=4)
    terminal.show(table, f"rows: {out / 'rows.jsonl'}")
