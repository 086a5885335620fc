"""The early warning for one training: a probability of collapse and what speaks for it.

The warner is fitted to the evidence at the same share of the steps that the training has come
to, a fifth at most; the training itself, where it is part of the evidence, is left out. The
interval is that of 200 fits to cells drawn with replacement (percentiles of the probability).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.rules.scaling import collapse, early
from assay.rules.scaling.collapse import FIFTH, SIGNALS, Row
from assay.runs import Run

_DRAWS, _NEAR = 200, 1.05  # moments of models differ by their rounding to whole steps


@dataclass(frozen=True)
class Asked:
    """A training that was probed: its Run's recipe and its probes."""

    name: str
    recipe: Mapping[str, Any]
    probes: Sequence[Row]

    @property
    def n_steps(self) -> int:
        """Of the whole training."""
        return int(self.recipe["fit"]["n_steps"])

    @property
    def share(self) -> float:
        """Where its last early probe lies, a fifth at most. ValueError with fewer than two."""
        early_steps = [p["step"] for p in self.probes if p["step"] <= FIFTH * self.n_steps]
        if len(early_steps) < 2:
            raise ValueError(
                f"{self.name}: has {len(early_steps)} probes in the first fifth of its "
                f"{self.n_steps} steps (2 are needed); train it by assay rules scale, with probes"
            )
        if any(p["step"] > FIFTH * self.n_steps for p in self.probes):
            return FIFTH
        return min(FIFTH, _NEAR * max(early_steps) / self.n_steps)

    def same(self, row: Row) -> bool:
        """Whether a study's row is that of this very training."""
        data = self.recipe["data"]
        own = (f"{self.recipe['name']}-{self.recipe['preset']}", self.n_steps,
               data["per_rule"], len(data["rules"]), self.recipe["seed"])  # fmt: skip
        names = ("recipe", "n_steps", "per_rule", "n_rules", "seed")
        return own == tuple(row[name] for name in names)


def study_rows(path: Path) -> list[Row]:
    """The rows of the trainings done of a study. ValueError where the folder holds none."""
    run = Run.read(path)
    if run.config.get("kind") != "rules.scale":
        raise ValueError(f"{path}: is no scaling study; name a folder of assay rules scale")
    return [row for row in run.rows if row["status"] == "done"]


def read(path: Path) -> list[Asked]:
    """The training Run in a folder, or those of a study's folder that have come to two probes.

    ValueError where there is none.
    """
    run = Run.read(path)
    if run.config.get("kind") == "rules.train":
        return [_asked(run)]
    if run.config.get("kind") != "rules.scale":
        raise ValueError(
            f"{path}: is no training; name a job of assay rules scale, STUDY/jobs/JOB"
        )
    jobs = sorted(file.parent for file in path.glob("jobs/*/config.json"))
    found = [asked for job in jobs if _probed(asked := _asked(Run.read(job)))]
    if not found:
        raise ValueError(f"{path}: none of its trainings has come to two probes yet")
    return found


def _asked(run: Run) -> Asked:
    rows = [row for row in run.rows if row["key"].startswith("probe-")]
    return Asked(run.path.name, run.config, rows)


def _probed(asked: Asked) -> bool:
    return sum(p["step"] <= FIFTH * asked.n_steps for p in asked.probes) >= 2


@dataclass(frozen=True)
class Answer:
    """Probability of an outcome with its interval; what each signal adds to the log odds."""

    name: str
    definition: str
    family: str
    share: float
    probability: float
    low: float
    high: float
    base_rate: float
    n: int
    n_cells: int
    parts: list[dict[str, Any]]  # signal, said, value, usual, adds; strongest first

    def row(self) -> dict[str, Any]:
        """As a JSON row."""
        return {
            "key": f"warning_answer/{self.name}", "part": "warning_answer", "n": self.n,
            "definition": self.definition,
            "n_cells": self.n_cells, "family": self.family, "share": self.share,
            "probability": self.probability, "probability_low": self.low,
            "probability_high": self.high, "base_rate": self.base_rate, "parts": self.parts,
        }  # fmt: skip

    def said(self) -> str:
        """One paragraph."""
        told = {"collapse": "collapsed", "poor": "ended poor", "memorised": "memorised"}
        lines = [
            f"{self.name}: {self.definition} with probability {self.probability:.2f} "
            f"({self.low:.2f} to {self.high:.2f}), by its probes up to {self.share:.0%} of the "
            f"steps; of {self.n} trainings in the evidence {self.base_rate:.0%} "
            f"{told[self.definition]}."
        ]
        for what, sign in (("For it", 1), ("Against it", -1)):
            strong = [p for p in self.parts if sign * p["adds"] > 0.05][:3]
            words = [
                f"{p['said']} {p['value']:.3g} (usually {p['usual']:.3g}; {p['adds']:+.1f})"
                for p in strong
            ]
            lines += [f"{what}: {'; '.join(words)}."] if words else []
        return " ".join(lines)


def answer(rows: Sequence[Row], asked: Asked, definition: str = early.MAIN) -> Answer:
    """What the evidence in rows of studies says about a training (`collapse.DEFINITIONS`).

    ValueError where it lacks probes in its first fifth, its family is not in the evidence, or
    the evidence is too little.
    """
    share = asked.share
    made = early.evidence([row for row in rows if not asked.same(row)], share, definition)
    family = asked.recipe["family"]
    known = sorted(set(made.column("family")))
    if family not in known:
        raise ValueError(
            f"{asked.name}: family {family!r} is not in the evidence on {definition}, which has "
            f"{', '.join(known)}; add a study of it"
        )
    values = collapse.signals(asked.probes, asked.n_steps, share)
    assert values is not None
    fit = early.Warner(made.table, made.events)
    low, high = np.quantile(_drawn(made, values), [0.025, 0.975])
    return Answer(
        asked.name, definition, family, share, float(fit.probability(values[None])[0]), float(low),
        float(high), float(made.events.mean()), len(made.trainings), len(set(made.cells)),
        _parts(made, fit, values),
    )  # fmt: skip


def _drawn(made: early.Evidence, values: np.ndarray, seed: int = 0) -> np.ndarray:
    """(draws,) probabilities by fits to cells drawn with replacement."""
    rng, events = np.random.default_rng(seed), made.events
    names = list(dict.fromkeys(made.cells))
    lines = [np.flatnonzero([cell == name for cell in made.cells]) for name in names]
    found: list[float] = []
    while len(found) < _DRAWS:
        chosen = np.concatenate([lines[i] for i in rng.integers(len(lines), size=len(lines))])
        if 0 < events[chosen].sum() < len(chosen):
            fit = early.Warner(made.table[chosen], events[chosen])
            found.append(float(fit.probability(values[None])[0]))
    return np.array(found)


def _parts(made: early.Evidence, fit: early.Warner, values: np.ndarray) -> list[dict[str, Any]]:
    adds = fit.parts(values)
    usual = [np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0 for c in made.table.T]
    parts = [
        {"signal": s.name, "said": s.said, "value": float(v), "usual": float(u), "adds": float(a)}
        for s, v, u, a in zip(SIGNALS, values, usual, adds, strict=True)
        if np.isfinite(v)
    ]
    return sorted(parts, key=lambda part: -abs(part["adds"]))
