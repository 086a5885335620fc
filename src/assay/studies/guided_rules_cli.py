"""``assay studies guided-rules``: train the families, sweep w, and say what guidance bought."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.table import Table

    from assay.studies.guided_config import GuidedRules

_FLAG = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    """What of the study may be said on the command line."""

    families: str | None = None
    """Of exact, twin, edm, dit, sit, gpt2, panelorder, settoken, masked [default: all]; gpt2
    needs the extra hf."""
    w: str | None = None
    """Weights, comma separated, 0 among them [default: 0,0.5,1,2,3,5,8,12,20]."""
    n: int | None = None
    """Samples of a rule and seed, 4 or more [default: 128; exact, twin, edm and dit draw a half,
    masked a quarter]."""
    seeds: str | None = None
    """The best w is chosen on the first and measured on the others [default: 0,1]."""
    steps: int | None = None
    """Training steps of every family [default: each one's own]."""
    solver_steps: int | None = None
    """Steps of the continuous families' solver, DPM-Solver++ 2M [default: 20]."""
    shipped: Annotated[bool, _FLAG] = False
    """The exact law and the shipped families; nothing is trained."""


def guided_rules(
    *, out: Path, flags: Flags | None = None, json: Annotated[bool, _FLAG] = False
) -> None:
    """What guidance buys and costs models whose rules and support are known exactly.

    Rule-conditional models of genraven-mini are trained (resumable, in OUT/models), then
    drawn from at every w, beside a law whose denoisers are exact: does the intended rule
    hold, how different and new are samples, do pixels leave the data. guided = (1 + w)
    cond - w uncond; w = 0 is the plain conditional law, guidance_scale is 1 + w. All of it
    takes about half an hour of one processor; the same command goes on where it was
    stopped. `assay report OUT` writes its page.
    Example: assay studies guided-rules --out out/guided --families exact,sit,settoken

    Parameters
    ----------
    out
        Folder of the Run (created; resumed where it holds one of the same flags).
    json
        Rows on standard output, one JSON object a line, instead of a table.
    """
    import sys

    from assay import progress, runs, terminal
    from assay.studies import guided_rules as study

    config = configured(flags or Flags())
    with runs.Run.open(out, config) as run:
        study.train(config, out)
        with progress.bar("guided draws", study.work(config, run)) as advance:
            study.fill(run, config.model_dump(mode="json"), advance)
    if json:
        sys.stdout.writelines(runs.dumps(row) + "\n" for row in run.rows)
        return
    terminal.show(_table(run.rows), f"rows: {out / 'rows.jsonl'}; next: assay report {out}")


def configured(flags: Flags) -> GuidedRules:
    """The configuration that the flags ask for, with the command that makes it again."""
    from assay.studies import guided_config as study

    if flags.shipped and flags.steps is not None:
        raise ValueError("--steps trains, --shipped does not; give one of them")
    if flags.solver_steps is not None and flags.solver_steps < 1:
        raise ValueError(f"--solver-steps must be 1 or more, got {flags.solver_steps}")
    given = {"families": _listed(flags.families), "w": _numbers("w", flags.w, float),
             "n": flags.n, "seeds": _numbers("seeds", flags.seeds, int),
             "n_steps": flags.steps}  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    config = study.from_shipped(**changes) if flags.shipped else study.build(changes)
    values = config.model_dump(mode="json")
    if flags.solver_steps is not None:
        values["sampler"]["n_steps"] = flags.solver_steps
    return study.build({**values, "command": _command(flags)})


def _command(flags: Flags) -> str:
    said = ["assay studies guided-rules --out DIR"]
    for name, value in vars(flags).items():
        if value is not None and value is not False:
            flag = f"--{name.replace('_', '-')}"
            said.append(flag if value is True else f"{flag} {str(value).replace(' ', '')}")
    return " ".join(said)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _numbers(name: str, text: str | None, kind: type) -> list[Any] | None:
    """Comma-separated numbers; ValueError for anything else."""
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} must be numbers, comma separated, got {text!r}") from None


# ---- what is printed ----------------------------------------------------------------------------

_COLUMNS = ("family", "w", "scale", "kept", "low", "high", "vendi", "off", "novel", "nfe",
            "n")  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> Table:
    """A line a family and w; the best w marked."""
    from rich.markup import escape

    from assay import terminal

    title = "What guidance buys and costs, by w (scale: guidance_scale = 1 + w)"
    table = terminal.table(title, *_COLUMNS)
    best = {row["family"]: row["w"] for row in rows if row["part"] == "best"}
    last = None
    for row in (r for r in rows if r["part"] == "pooled"):
        if last not in (None, row["family"]):
            table.add_section()
        last = row["family"]
        mark = "*" if best.get(last) == row["w"] else " "
        names = ("intended", "intended_low", "intended_high", "vendi_kept",
                 "off_support_denoised", "novel")  # fmt: skip
        table.add_row(
            escape(last), f"{row['w']:g}{mark}", f"{row['guidance_scale']:g}",
            *(_share(row.get(name)) for name in names), str(row["nfe"]), f"{row['n']:,}",
        )  # fmt: skip
    table.caption = (
        "kept: the intended rule in all three rows, 95 % interval; * the best w on the first "
        "seed. vendi: diversity over that at w = 0. off: samples with a pixel off the data's two "
        "values. novel: samples with no row copied"
    )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
