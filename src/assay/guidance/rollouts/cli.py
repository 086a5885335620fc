"""``assay guidance rollout``: raise w in stages, from a shell or a scheduler."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from assay.guidance.rollouts.rollout import Decision, Rollout

app = App(
    name="rollout",
    help="Raise w in stages as far as evidence allows, roll back, watch, and keep the log.",
)
_WEIGHTS = Parameter(allow_leading_hyphen=True, consume_multiple=False, negative=())
_MANY = Parameter(consume_multiple=False, negative=())
_NUMBER = Parameter(allow_leading_hyphen=True)
_FLAG = Parameter(negative=())
_LINES = 1000  # rows that are decided upon, and written, at a time


@app.command
def start(
    log: Path,
    /,
    *,
    stages: Annotated[list[str], _WEIGHTS],
    guard: Annotated[list[str], _MANY],
    alpha: float = 0.05,
    budget: int | None = None,
    fallback: Annotated[float | None, _NUMBER] = None,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Begin a rollout: its log says from now on which w to serve.

    Parameters
    ----------
    log
        Audit log to create (JSON lines).
    stages
        Weights w, increasing: --stages 0,0.5,1,2. guidance_scale is 1 + w.
    guard
        "NAME at most 0.01" or "NAME at least 0.8", repeated; "... in 0..2" for another range.
    alpha
        P(ever promoting a bad w) and P(going back without cause) are at most this.
    budget
        Rows a stage after which an undecided one holds for good, at the last good w.
    fallback
        w to serve where no stage is good [default: the first stage's].
    json
        Where it stands, as one JSON object on stdout.
    """
    from assay.guidance.rollouts.rollout import Rollout

    if log.exists():
        raise ValueError(f"{log}: is there already; go on with observe, or choose another log")
    made = Rollout(_weights(stages), guard, alpha, log=log, budget=budget, fallback=fallback)
    _show(made, made.standing(), json)


@app.command
def observe(
    log: Path, rows: Annotated[Path, _NUMBER], /, *, json: Annotated[bool, _FLAG] = False
) -> None:
    """Take metric rows and decide: promote, hold, roll back, or fall back in production.

    Parameters
    ----------
    log
        Log of the rollout.
    rows
        File of JSON lines, or - for stdin: one object a sample, {"off_support": 0, "quality":
        0.93}; "w" in it says which w made it [default: the w to serve when the command begins].
    json
        Decisions on stdout, one JSON object each.
    """
    from assay.guidance.rollouts.rollout import Rollout

    rollout, decision, said = Rollout.open(log), None, ""
    for batch, w in _batches(rows, rollout.w):
        decision = rollout.observe(batch, w)
        if json:
            _print_json(rollout, decision)
        elif decision.reason != said and decision.action not in ("hold", "watch"):
            _say(decision)
        said = decision.reason
    if decision is None:
        raise ValueError(f"{rows}: holds no rows; give one JSON object a line")
    if not json:
        _show(rollout, rollout.standing(), False)


@app.command
def status(log: Path, /, *, json: Annotated[bool, _FLAG] = False) -> None:
    """Which w to serve now, what each guard has shown, and the head of the log.

    Parameters
    ----------
    log
        Log of the rollout; it is only read.
    json
        One JSON object on stdout.
    """
    from assay.guidance.rollouts.rollout import Rollout

    rollout = Rollout.read(log)
    _show(rollout, rollout.standing(), json)


@app.command
def production(log: Path, /, *, reason: str = "told to") -> None:
    """Stop testing: serve the last good w from now on, and watch it.

    Parameters
    ----------
    log
        Log of the rollout.
    reason
        Words for the log.
    """
    from assay.guidance.rollouts.rollout import Rollout

    rollout = Rollout.open(log)
    rollout.production(reason)
    _show(rollout, rollout.standing(), False)


@app.command
def verify(log: Path, /, *, head: str, json: Annotated[bool, _FLAG] = False) -> None:
    """Check the log against the last head that was noted: finds edits and truncation.

    Parameters
    ----------
    log
        Log of the rollout.
    head
        Hash that status printed, kept elsewhere: 64 hexadecimal digits.
    json
        One JSON object on stdout.
    """
    import dataclasses

    from assay import runs
    from assay.guidance.rollouts import log as rollout_log

    found = rollout_log.verify(log, head)
    if json:
        print(runs.dumps({"log": log.name, **dataclasses.asdict(found)}))
        return
    after = "none came later" if not found.after else f"{found.after} came after that head"
    print(f"whole: {found.n} entries, each chained to the one before; {after}")
    if found.unfinished:
        print(f"{found.unfinished} bytes at its end are an unfinished write; they do not count")
    print(f"head: {found.head}")


@app.command
def draw(log: Path, /, *, out: Path) -> None:
    """Write a Run of the log as it stands, whose confidence sequences assay report draws.

    Parameters
    ----------
    log
        Log of the rollout; it is only read.
    out
        Folder of the Run (created).
    """
    from assay.guidance.rollouts import trace as rollout_trace

    rollout_trace.draw(log, out)
    print(f"rows: {out / 'rows.jsonl'}; assay report {out} draws them")


@app.command
def simulate(
    *,
    out: Path,
    n: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
    json: Annotated[bool, _FLAG] = False,
) -> None:
    """Simulated rollouts with clean and faulty stages: error rates, delays, samples needed.

    Parameters
    ----------
    out
        Folder of the Run (created; resumed where it holds the same configuration).
    n
        Rollouts of each kind.
    seed
        Seed of the simulated metrics.
    alpha
        Error budget of every rollout.
    json
        Rows on stdout, one JSON object a line.
    """
    from assay import runs
    from assay.guidance.rollouts import simulation

    config = simulation.Study(n=n, seed=seed, alpha=alpha)
    with runs.Run.open(out, config.data()) as run:
        simulation.fill(run, config)
        rows = run.rows
    if json:
        for row in rows:
            sys.stdout.write(runs.dumps(row) + "\n")
    else:
        _table(rows, out)


def _weights(given: list[str]) -> list[float]:
    parts = [p.strip() for v in given for p in v.split(",")]
    try:
        return [float(p) for p in parts]
    except ValueError:
        raise ValueError(
            f"stages {','.join(given)!r} must be numbers, comma separated: 0,0.5,1"
        ) from None


def _batches(path: Path, usual: float) -> Iterator[tuple[list[dict[str, Any]], float]]:
    """Rows that follow each other and were made at one w, in order."""
    batch: list[dict[str, Any]] = []
    made_at = usual
    for row in _read(path):
        w = row.pop("w", None)
        w = usual if w is None else w
        if batch and (w != made_at or len(batch) == _LINES):
            yield batch, made_at
            batch = []
        batch, made_at = [*batch, row], w
    if batch:
        yield batch, made_at


def _read(path: Path) -> Iterator[dict[str, Any]]:
    import json

    if str(path) != "-" and not path.is_file():
        raise ValueError(f"{path}: no such file; give JSON lines, or - for stdin")
    stdin = contextlib.nullcontext(sys.stdin)
    with stdin if str(path) == "-" else path.open(encoding="utf-8") as file:
        for i, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or not isinstance(row.get("w", 0), (int, float)):
                raise ValueError(f"{path}: line {i} is no JSON object of metrics")
            yield row


def _print_json(rollout: Rollout, decision: Decision) -> None:
    from assay import runs

    print(runs.dumps({**decision.row(), "good_w": rollout.good_w, "head": rollout.head}))


def _say(decision: Decision) -> None:
    from rich.console import Console
    from rich.markup import escape

    word = decision.action.replace("_", " ")
    Console().print(f"[bold]{word}[/]: {escape(decision.reason)}", highlight=False, soft_wrap=True)


def _show(rollout: Rollout, decision: Decision, json: bool) -> None:
    if json:
        _print_json(rollout, decision)
        return
    from rich.markup import escape

    from assay import terminal

    table = terminal.table("", "guard", "limit", "n", "mean", "lower", "upper", "")
    for g in decision.guards:
        shown = [terminal.cell(g[k], 4) for k in ("n", "mean", "lower", "upper")]
        limit = f"{g['side']} {g['limit']:g}"
        table.add_row(escape(g["name"]), limit, *shown, g["verdict"])
    scale = f"guidance_scale {decision.guidance_scale:g}"
    serve = f"serve w = {decision.w:g} ({scale}): {decision.reason}"
    terminal.show(serve, table, f"head: {rollout.head}")


_COLUMNS = {
    "stages": (
        ("scenario", "fault"), ("size", "x limit"), ("promoted_bad", "promoted bad w"),
        ("false_rollback", "false rollback"), ("rolled_back", "rolled back"),
        ("delay_median", "delay"), ("delay_90", "90 %"), ("rows_to_promote_median", "to promote"),
    ),
    "exact": (
        ("scenario", "fault"), ("size", "x limit"), ("promoted", "promoted"),
        ("rolled_back", "rolled back"), ("delay_median", "delay"), ("delay_90", "90 %"),
        ("rows_to_promote_median", "to promote"), ("rows_to_promote_90", "90 %"),
    ),
    "production": (
        ("scenario", "fault"), ("size", "x limit"), ("false_alarm", "false alarm"),
        ("detected", "detected"), ("delay_median", "delay"), ("delay_90", "90 %"),
    ),
}  # fmt: skip


def _table(rows: list[dict[str, Any]], out: Path) -> None:
    from rich.markup import escape

    from assay import terminal

    for part, columns in _COLUMNS.items():
        found = [row for row in rows if row.get("part") == part]
        n = found[0]["n"]
        what = "one stage, no sampling" if n is None else f"{n:,} rollouts of each kind"
        title = f"{part}: {what}, alpha {found[0]['alpha']:g}"
        table = terminal.table(title, *(head for _, head in columns))
        for row in found:
            table.add_row(*(escape(_cell_of(row, name)) for name, _ in columns))
        terminal.show(table)
    delays = "delays and samples to promote in rows: median, and 90 % point of delays"
    terminal.show(delays, f"rows: {out / 'rows.jsonl'}")


def _cell_of(row: dict[str, Any], name: str) -> str:
    from assay import terminal

    value = row.get(name)
    if f"{name}_high" in row:
        return f"{value:.3g} ({row[f'{name}_low']:.2g}-{row[f'{name}_high']:.2g})"
    return terminal.cell(value, 4)
