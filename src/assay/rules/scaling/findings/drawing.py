"""Samples and completions of a study's checkpoints, drawn in ways that the study did not.

Each is one row ("part": "drawn") of the findings' Run, computed once: key drawn/STUDY/JOB/WHAT.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from assay import progress
from assay.models.config import Config
from assay.rules import evaluate, genraven, train
from assay.rules.scaling.findings.evidence import Row, Study, Subject
from assay.rules.train import CHECKPOINT
from assay.runs import Run


class FindingsConfig(Config):
    """What is drawn from checkpoints, where anything is.

    n: samples of a model and way of drawing; n_complete: completions. kinds, steps: samplers and
    steps tried on diffusion. clip: where denoised values are cut. draw: False leaves every finding
    out that needs more than the studies' rows.
    """

    kind: Literal["rules.findings"] = "rules.findings"
    studies: tuple[str, ...] = ()
    command: str = ""
    draw: bool = True
    n: int = Field(default=1000, ge=16)
    n_complete: int = Field(default=2000, ge=16)
    seed: int = Field(default=0, ge=0)
    kinds: tuple[Literal["euler", "heun", "dpmpp_2m", "sde"], ...] = ("euler", "heun", "sde")
    steps: tuple[int, ...] = (3, 6, 12, 25, 50)
    clip: float = Field(default=1.0, gt=0)


@dataclass
class Drawer:
    """Draws into a Run; what is there is not drawn again."""

    run: Run
    config: FindingsConfig

    def row(self, subject: Subject, row: Row, what: str, make: Callable[[], Row]) -> Row:
        """The drawn row of a job, made where it is not there yet.

        what: the claim and the way of drawing, CLAIM/WAY.
        """
        key = f"drawn/{safe(subject.study.name)}/{row['key']}/{what}"
        if not self.run.done(key):
            with progress.bar(f"{row['key']}: {what}", 1) as advance:
                start = time.perf_counter()
                made = make()
                made["seconds"] = time.perf_counter() - start
                advance(1)
            facts = {"part": "drawn", "claim": what.partition("/")[0], "job": row["key"]}
            self.run.append({
                "key": key, **facts, **subject.facts(), "per_rule": row["per_rule"],
                "seed": row["seed"], **made,
            })  # fmt: skip
        return next(r for r in self.run.rows if r["key"] == key)

    def generator(self, study: Study, row: Row, averaged: bool | None = None) -> Any:
        """The model of a job: averaged weights where it has them, unless told otherwise."""
        return train.load(study.job(row), averaged)

    def sampled(self, generator: Any) -> tuple[np.ndarray, Row]:
        """n samples at T = 1, and C3 and what it is made of."""
        x = generator.sample(self.config.n, self.config.seed)
        found = evaluate.measures(genraven.check(x))
        nfe = generator.family.evaluations(None)
        return x, {"n": len(x), "nfe": nfe, "weights": weights(generator), **found}


def trained(study: Study, row: Row) -> Row | None:
    """The recipe of a job as JSON; None where its checkpoint is not there."""
    path = study.job(row)
    return train.saved(path) if (path / CHECKPOINT).is_file() else None


def weights(generator: Any) -> str:
    """EMA or raw."""
    return "EMA" if generator.about.get("averaged") else "raw"


def safe(name: str) -> str:
    """A name as a part of a row's key."""
    return re.sub(r"[^A-Za-z0-9._=+,@-]", "-", name).lstrip("._=+,@-")[:60] or "study"


def first_at_most(subject: Subject) -> Row:
    """The job of the first seed with the most data."""
    return min(subject.at(subject.most), key=lambda r: r["seed"])
