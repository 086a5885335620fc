"""``assay rules``: data sets of the forty rules, checked and drawn panels, models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.rules import listing_cli, models_cli, train_cli
from assay.rules.scaling import capacity_cli, early_cli
from assay.rules.scaling import cli as scaling_cli
from assay.rules.scaling.findings import cli as findings_cli

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

app = App(name="rules", help="Laboratory 2: the forty rules of GenRAVEN.")
for _command in (
    train_cli.train,
    models_cli.evaluate,
    models_cli.sample,
    models_cli.complete,
    scaling_cli.scale,
    scaling_cli.forecast,
    early_cli.warn,
    capacity_cli.capacity_rule,
    findings_cli.findings,
    listing_cli.compare,
    listing_cli.recipes,
    listing_cli.models,
):
    app.command(_command)

_CHUNK = 1 << 17  # samples checked at a time
_FLAG = Parameter(negative=())


@app.command
def generate(
    *,
    out: Path,
    samples_per_rule: int = 4000,
    split: int = 0,
    seed: int = 0,
    format: Literal["npy", "parquet"] = "npy",
) -> None:
    """Write a fixed data set: train, validation and held-out parts, disjoint by rows.

    Parameters
    ----------
    out
        New or empty folder. The same data set already there is left as it is.
    samples_per_rule
        Training samples of each of the 35 trained rules; validation has 500 more of each.
    split
        Which five rules are held out: 0 to 9 (main results: 0).
    seed
        Any integer from 0 to 2^64 - 1.
    format
        npy: memory-mapped arrays; parquet: columns panels (243 integers) and rule.
    """
    from assay import progress, terminal
    from assay.rules import datasets, genraven

    n_trained = len(genraven.trained(split))
    n_held_out = len(genraven.SPLITS[split])
    total = n_trained * (samples_per_rule + datasets.VALIDATION)
    with progress.bar("samples", total + n_held_out * datasets.VALIDATION) as advance:
        made = datasets.write(out, samples_per_rule, split, seed, format, advance)
    table = terminal.table(f"{out}: split {split}, seed {seed}", "part", "samples", "rules")
    for name, part in made.about["parts"].items():
        rules = made.about["held_out" if name == "held_out" else "trained"]
        table.add_row(name, f"{part['n']:,}", str(len(rules)))
    terminal.show(table, f"fingerprint {made.fingerprint}")


@app.command
def check(file: Path, /, *, json: Annotated[bool, _FLAG] = False) -> None:
    """Which rules hold in panels from a file: C3, C2, AnyValid and each rule, with intervals.

    Parameters
    ----------
    file
        .npy; .npz with key x; .parquet with column panels; .json: integers (n, 3, 3, 9, 3).
    json
        One JSON object on stdout instead of tables.
    """
    from assay import runs, terminal
    from assay.rules import datasets, genraven

    x = datasets.load_panels(file)
    result = genraven.summary(_checked(x))
    result["cells"] = datasets.cell_counts(x)
    if json:
        print(runs.dumps({"file": file.name, **result}, indent=1))
        return
    terminal.show(_measures(file.name, result), _rules(result), _cells(result["cells"]))


def _checked(x: np.ndarray) -> np.ndarray:
    """The verdicts, chunk by chunk."""
    import numpy as np

    from assay import progress
    from assay.rules import genraven

    ok = np.empty((len(x), 3, len(genraven.RULES)), np.bool_)
    with progress.bar("samples", len(x)) as advance:
        for start in range(0, len(x), _CHUNK):
            part = x[start : start + _CHUNK]
            ok[start : start + _CHUNK] = genraven.check(part)
            advance(len(part))
    return ok


def _measures(name: str, result: dict[str, Any]) -> Table:
    from assay import terminal

    title = f"{name}: {result['n']:,} samples"
    table = terminal.table(title, "measure", "share", "95 % interval", "")
    for key, label, meaning in (
        ("c3", "C3", "some rule holds in all three rows"),
        ("c2", "C2", "some rule holds in exactly two"),
        ("any_valid", "AnyValid", "rows in which some rule holds"),
    ):
        table.add_row(label, *_share(result[key]), f"[dim]{meaning}[/]")
    return table


def _rules(result: dict[str, Any]) -> Table:
    from assay import terminal

    title = "samples of each rule (in all three rows)"
    table = terminal.table(title, "rule", "", "share", "interval")
    for number, (name, share) in enumerate(result["per_rule"].items()):
        table.add_row(str(number), name, *_share(share))
    return table


def _share(share: dict[str, Any]) -> tuple[str, str]:
    estimate = "none" if share["estimate"] is None else f"{share['estimate']:.4f}"
    return estimate, f"{share['low']:.4f} to {share['high']:.4f}"


def _cells(counts: dict[str, int]) -> str:
    return (
        f"{counts['cells']:,} cells, {counts['half_empty']:,} of them half empty (read as empty), "
        f"{counts['out_of_range']:,} with a value out of range"
    )


@app.command
def show(
    target: str,
    /,
    *,
    out: Path | None = None,
    n: int = 6,
    seed: int = 0,
    columns: int | None = None,
) -> None:
    """Draw samples of a rule, or from a file, with the rule found named underneath.

    Parameters
    ----------
    target
        A file as for `check`, or a rule by number (0 to 39) or name ("size XOR").
    out
        Picture to write, .png or .svg [default: rule-NN.png or FILE.png in the working folder].
    n
        How many samples: new ones of the rule, or the first of the file.
    seed
        Seed of a rule's samples.
    columns
        Samples side by side.
    """
    from assay.rules import datasets, draw, genraven

    if n < 1:
        raise ValueError(f"--n must be 1 or more, got {n}")
    rule = None if Path(target).exists() else _rule(target)
    if rule is None:
        x, title = datasets.load_panels(target)[:n], Path(target).name
        path = out or Path(f"{Path(target).stem}.png")
    else:
        x, _ = genraven.generate(n, [rule], seed)
        title = f"Rule {rule}: {genraven.RULES[rule].name}"
        path = out or Path(f"rule-{rule:02d}.png")
    print(draw.save(path, x, columns, title))


def _rule(target: str) -> int | None:
    """The rule of this number or name; None for what looks like a file's name."""
    from assay.rules import genraven, names

    found = names.find(target)
    if found is not None or "." in target or "/" in target:
        return found
    raise ValueError(
        f"{target!r} is neither a file nor a rule; rules are 0 to 39, or names such as "
        f"{genraven.RULES[17].name!r}"
    )
