"""``assay rules scale | forecast``: many models over many amounts of data, and what follows."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

_FLAG = Parameter(negative=())
_MANY = Parameter(consume_multiple=False, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the jobs are carried out."""

    executor: Literal["local", "slurm", "ray"] = "local"
    """Processes here, SLURM by submitit (extra slurm), or a Ray cluster (extra ray)."""
    workers: int | None = None
    """Jobs at a time, 1 or more [default: one a processor; 16 on a cluster]."""
    address: str | None = None
    """Ray: address of the cluster [default: one made of this machine]."""
    option: Annotated[list[str] | None, _MANY] = None
    """Slurm: NAME=VALUE as submitit takes it, repeated: timeout_min=120, slurm_partition=gpu."""


def scale(
    config: Path,
    /,
    *,
    out: Path,
    where: Where | None = None,
    plan: Annotated[bool, _FLAG] = False,
    json: Annotated[bool, _FLAG] = False,
) -> int | None:
    """Train and evaluate every model of a study; resumes where it was stopped.

    The study is a TOML file: recipes, per_rule, rule_sets, seeds, steps or minutes
    (examples/scaling-mini.toml). Every job is a Run under OUT/jobs; jobs that are done
    are skipped, those that were stopped go on, those that fail do not stop the others.
    Example: assay rules scale examples/scaling-mini.toml --out out/scaling

    Parameters
    ----------
    config
        TOML file of the study.
    out
        Folder of the study's Run (created; gone on with where it holds the same study).
    plan
        List the jobs and stop.
    json
        Rows of the jobs on standard output, one JSON object a line, instead of a table.
    """
    from assay import runs, terminal
    from assay.rules.scaling import analysis, study
    from assay.rules.scaling import config as configs

    asked, where = configs.read(config), where or Where()
    if plan:
        for job in configs.jobs(asked):
            print(job.key)
        return None
    outcome = study.run(out, asked, lambda: _executor(where, out))
    rows = [row for row in runs.Run.read(out).rows if row["status"] == "done"]
    analysed = analysis.update(out)
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in rows)
    else:
        terminal.show(_table(rows))
        terminal.show(f"rows: {out / 'rows.jsonl'}")
        if analysed is not None:
            terminal.show(f"analysis: {analysed.path}; page: assay report {out}")
    for key, reason in outcome.failed.items():
        print(f"{key}: failed: {reason}", file=sys.stderr)
    return 1 if outcome.failed else None


def _executor(where: Where, out: Path) -> Any:
    from assay.rules.scaling import executors

    if where.workers is not None and where.workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {where.workers}")
    if where.executor == "local":
        return executors.Local(where.workers)
    workers = where.workers or 16
    if where.executor == "ray":
        return executors.Ray(workers, where.address)
    return executors.Slurm(out / "jobs" / ".submitit", workers, **_options(where.option or []))


def _options(given: list[str]) -> dict[str, Any]:
    """{name: number or text} from NAME=VALUE."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (equals and name.isidentifier()):
            raise ValueError(f"--option {text!r} must be NAME=VALUE")
        found[name] = int(value) if value.lstrip("-").isdigit() else value
    return found


def _table(rows: list[dict[str, Any]]) -> Any:
    """One line a job: what it drew and completed."""
    from assay import terminal

    titles = ("model", "rules", "per rule", "seed", "C3", "novel-C3", "trained", "held out")
    table = terminal.table("jobs done", *titles)
    for row in rows:
        per_rule = "stream" if row["per_rule"] is None else f"{row['per_rule']:,}"
        names = ("c3", "novel_c3", "completion_trained", "completion_held_out")
        shares = [f"{row[name]:.3f}" if row.get(name) is not None else "-" for name in names]
        table.add_row(row["model"], row["rule_set"], per_rule, str(row["seed"]), *shares)
    return table


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of the evidence."""

    grow: str = "0/month"
    """New samples per rule: 200/month, 50/week, 10/day or 2000/year."""
    metric: str = "novel_c3"
    """novel_c3, c3, completion_trained or completion_held_out."""
    want: float = 0.9
    """The share to be reached, between 0 and 1."""
    watts: float | None = None
    """Power drawn while computing, for energy."""
    per_hour: float | None = None
    """Money for an hour of computing."""
    per_kwh: float | None = None
    """Money for a kWh (with --watts)."""


def forecast(
    studies: list[Path],
    /,
    *,
    have: float,
    flags: Asked | None = None,
    picture: Path | None = None,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Say which model to take now, when to switch, how sure that is and what it costs.

    Refuses to answer for amounts of data beyond what the studies measured.
    Example: assay rules forecast out/scaling-mini --have 500 --grow 200/month

    Parameters
    ----------
    studies
        Folders that `assay rules scale` has written; rows of one rule set.
    have
        Samples per rule there are now.
    picture
        .svg or .png to write: the curves, their bands, now and the switches.
    json
        The answer as a JSON object on standard output.
    """
    from assay import runs, terminal
    from assay.rules import canvas
    from assay.rules.scaling import forecast as forecasts

    asked = flags or Asked()
    _check_asked(asked)
    if picture is not None:
        canvas.ending(picture)
    rows = [row for path in studies for row in _done(path)]
    found = forecasts.families(rows, asked.metric)
    rates = forecasts.Rates(asked.watts, asked.per_hour, asked.per_kwh)
    answer = forecasts.forecast(
        found, have, per_month(asked.grow), asked.metric, asked.want, rates
    )
    if picture is not None:
        from assay.rules.scaling import forecast_picture

        forecast_picture.scene(answer).save(picture)
    if json:
        sys.stdout.write(runs.dumps(answer.row()) + "\n")
        return
    terminal.show(answer.said())
    if picture is not None:
        terminal.show(f"picture: {picture}")


def _check_asked(asked: Asked) -> None:
    if not 0 < asked.want < 1:
        raise ValueError(f"--want must lie between 0 and 1, got {asked.want}")
    for flag in ("watts", "per_hour", "per_kwh"):
        value = getattr(asked, flag)
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(f"--{flag.replace('_', '-')} must be 0 or more, got {value}")
    if asked.per_kwh is not None and asked.watts is None:
        raise ValueError("--per-kwh needs --watts, the power drawn while computing")


def _done(path: Path) -> list[dict[str, Any]]:
    from assay.runs import Run

    run = Run.read(path)
    if run.config.get("kind") != "rules.scale":
        raise ValueError(f"{path}: is no scaling study; name a folder of assay rules scale")
    return [row for row in run.rows if row["status"] == "done"]


_MONTHS = {"day": 365.25 / 12, "week": 365.25 / 84, "month": 1.0, "year": 1 / 12}


def per_month(text: str) -> float:
    """Samples a month from "200/month", "50/week", ...; ValueError otherwise."""
    number, _, unit = text.strip().partition("/")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if unit not in _MONTHS or not 0 <= value < float("inf"):
        raise ValueError(f"--grow {text!r} must read 200/month, 50/week, 10/day or 2000/year")
    return value * _MONTHS[unit]
