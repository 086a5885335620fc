"""What a finding rests on: shares pooled over seeds, and three verdicts.

Shares of several trainings are pooled by their counts. Trainings differ by more than chance, so
the interval is Wilson's at the effective number of trials m / phi,

    phi = max(1, sum_i (k_i - m_i p)^2 / (m_i p (1 - p)) / (seeds - 1)),

Pearson's dispersion between them; m_i is the number of independent trials that a row's own
interval stands for. Two shares differ where their intervals lie apart, which errs on the side of
"cannot be told here".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import intervals
from assay.runs import Run

Row = dict[str, Any]
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told here"
DIFFUSION = ("edm", "flow", "ddpm")
AUTOREGRESSIVE = ("autoregressive",)
_Z2 = 1.959963984540054**2


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval, samples, and seeds pooled."""

    value: float
    low: float
    high: float
    n: int
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def columns(self, name: str = "value") -> Row:
        """NAME, NAME_low, NAME_high, NAME_n."""
        ends = {f"{name}_low": self.low, f"{name}_high": self.high, f"{name}_n": self.n}
        return {name: self.value, **ends}


def above(a: Share, b: Share, times: float = 1.0) -> bool | None:
    """Whether a > times * b; None where the intervals do not lie apart."""
    if a.low > times * b.high:
        return True
    return False if a.high < times * b.low else None


def verdict(answer: bool | None) -> str:
    """The verdict of an answer that may be open."""
    return UNKNOWN if answer is None else HOLDS if answer else FAILS


def together(answers: Iterable[bool | None]) -> bool | None:
    """True or False where all answers agree, else None."""
    found = set(answers)
    return found.pop() if len(found) == 1 else None


def pooled(rows: Sequence[Mapping[str, Any]], name: str) -> Share | None:
    """The share NAME of several trainings (one row each); None where no row has it."""
    usable = [r for r in rows if r.get(name) is not None and r.get(f"{name}_n")]
    if not usable:
        return None
    shares = np.array([r[name] for r in usable], np.float64)
    trials = np.array([_trials(r, name) for r in usable])
    total = float(trials.sum())
    p = float((shares * trials).sum() / total)
    phi = 1.0
    if len(usable) > 1 and 0 < p < 1:
        chi2 = float((trials * (shares - p) ** 2).sum() / (p * (1 - p)))
        phi = max(1.0, chi2 / (len(usable) - 1))
    low, high = intervals.wilson(p * total / phi, total / phi)
    return Share(p, low, high, sum(int(r[f"{name}_n"]) for r in usable), len(usable))


def _trials(row: Mapping[str, Any], name: str) -> float:
    """Independent trials that a Wilson interval NAME_low to NAME_high of NAME stands for.

    With W = (high - low) / 2 z and u = 1 / m:
    (W^2 z^4 - z^2 / 4) u^2 + (2 W^2 z^2 - p q) u + W^2 = 0.
    """
    n, low, high = (row.get(f"{name}_{end}") for end in ("n", "low", "high"))
    if low is None or high is None or not n:
        return float(n or 0)
    p, w2 = row[name], (high - low) ** 2 / (4 * _Z2)
    a, b = w2 * _Z2**2 - _Z2 / 4, 2 * w2 * _Z2 - p * (1 - p)
    root = max((-b - s * np.sqrt(max(b * b - 4 * a * w2, 0.0))) / (2 * a) for s in (-1, 1))
    return float(min(1 / root, n)) if root > 0 else float(n)


# ---- studies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """A scaling study on disk: its folder, its configuration, the rows of jobs done."""

    path: Path
    config: Row
    rows: list[Row]

    @property
    def name(self) -> str:
        return self.path.name

    def job(self, row: Row) -> Path:
        """The folder of a row's job."""
        return self.path / "jobs" / row["key"]

    def measured(self, row: Row) -> list[Row]:
        """The rows of a job's evaluation; none where its folder is not there."""
        path = self.job(row) / "evaluation"
        return Run.read(path).rows if (path / "config.json").is_file() else []


def read(path: Path) -> Study:
    """The study in a folder. ValueError where it is none or no job of it is done."""
    run = Run.read(path)
    if run.config.get("kind") != "rules.scale":
        raise ValueError(f"{path}: is no scaling study; name a folder of assay rules scale")
    done = [row for row in run.rows if row["status"] == "done"]
    if not done:
        raise ValueError(f"{path}: no job of it is done yet; run assay rules scale first")
    return Study(Path(path).resolve(), run.config, done)


@dataclass(frozen=True)
class Subject:
    """A model on a rule set of a study, with its rows."""

    study: Study
    model: str
    rule_set: str
    rows: list[Row]

    @property
    def family(self) -> str:
        return self.rows[0]["family"]

    @property
    def said(self) -> str:
        return self.model if self.rule_set == "mini" else f"{self.model} ({self.rule_set})"

    @property
    def sizes(self) -> list[int]:
        """Samples per rule, rising; streamed data are left out."""
        return sorted({r["per_rule"] for r in self.rows if r["per_rule"] is not None})

    @property
    def most(self) -> int | None:
        """The most data: None where samples were streamed, each one new."""
        return None if any(r["per_rule"] is None for r in self.rows) else self.sizes[-1]

    def at(self, size: int | None) -> list[Row]:
        """Its rows at so many samples per rule, None for streamed ones, one a seed."""
        return [r for r in self.rows if r["per_rule"] == size]

    def share(self, size: int | None, name: str) -> Share | None:
        return pooled(self.at(size), name)

    def facts(self) -> Row:
        """What every row of a finding says of its subject."""
        weights = sorted({r.get("weights") or "raw" for r in self.rows})
        return {
            "study": self.study.name, "model": self.model, "family": self.family,
            "rule_set": self.rule_set, "weights": ", ".join(weights),
        }  # fmt: skip


def subjects(studies: Sequence[Study]) -> list[Subject]:
    """Every model on every rule set of every study."""
    found: dict[tuple[str, str, str], Subject] = {}
    for study in studies:
        for row in study.rows:
            key = (study.name, row["model"], row["rule_set"])
            found.setdefault(key, Subject(study, row["model"], row["rule_set"], [])).rows.append(
                row
            )
    return list(found.values())


def size_said(size: int | None) -> str:
    """ "25 a rule", or streamed."""
    return "streamed samples" if size is None else f"{size:,} a rule"


def evidence(subject: Subject, size: int | None, share: Share | None, **more: Any) -> Row:
    """A row that a finding rests on; share is its figure."""
    figure = {} if share is None else share.columns() | {"n": share.n, "seeds": share.seeds}
    return {"part": "evidence", **subject.facts(), "per_rule": size, **figure, **more}


def found(answer: bool | None, said: str, subject: Subject | None = None, **more: Any) -> Row:
    """The verdict on a subject, or on the claim as a whole."""
    facts = subject.facts() if subject else {"model": None}
    return {"part": "verdict", **facts, "verdict": verdict(answer), "said": said, **more}
