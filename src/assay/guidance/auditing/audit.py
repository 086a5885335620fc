"""An audit of somebody's pipeline: how hard may it be guided?

    found = audit(pipe, ["a cat", "a house"], w=[0, 1, 2, 4, 6.5], out="audit")
    found.recommendation["w"], found.recommendation["reason"]

The pipeline runs under its own scheduler and is recorded, never re-sampled
(:mod:`assay.adapters.recording`). Convention: guided = (1+w) cond - w uncond, guidance_scale =
1 + w; what the pipeline's own scale means is measured first. The measures are those of
:mod:`assay.guidance.auditing.measures`; w = 0, the reference, is always among the runs.

Rows of the Run: "sample" (prompt x w x seed), "weight" (a w over all prompts and seeds, with
intervals), "recommendation".
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay import progress
from assay.guidance.auditing import measures
from assay.guidance.auditing import summary as audit_summary
from assay.guidance.auditing.config import AuditConfig, Pictures, Settings, grid
from assay.guidance.auditing.inputs import prompts_of, read_images
from assay.guidance.auditing.prompt import PromptRuns
from assay.runs import Run


@dataclass(frozen=True)
class Audit:
    """What an audit found. rows: all rows; recommendation: the row that says which w, and why."""

    rows: list[dict[str, Any]]
    recommendation: dict[str, Any]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The rows of a kind: "sample", "weight"."""
        return [row for row in self.rows if row.get("row") == kind]


def audit(
    pipe: Any,
    prompts: Sequence[str] | str,
    w: Sequence[float] | None = None,
    *,
    guidance_scale: Sequence[float] | None = None,
    settings: Settings | None = None,
    images: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Audit:
    """Audit a diffusers pipeline over prompts and weights; resumes in the same folder.

    pipe: a loaded pipeline that takes prompts (or class labels: their numbers or names as
    prompts) and guides. Give w (w = 0 the conditional model) or guidance_scale = 1 + w. images:
    a folder of real images, the reference of support instead of the samples of w = 0. out: the
    Run's folder; None keeps nothing. ValueError for a pipeline without guidance, without a
    denoiser that can be hooked or with a distilled guidance embedding, for no prompts, unreadable
    images, both or neither of w and guidance_scale.
    """
    asked = Asked(prompts_of(prompts), grid(w, guidance_scale), settings or Settings(), images)
    if out is not None:
        return run_audit(pipe, asked, Path(out))
    with tempfile.TemporaryDirectory() as folder:
        return run_audit(pipe, asked, Path(folder) / "audit")


@dataclass(frozen=True)
class Asked:
    """What a user asked for, read and checked; name: of the pipeline; command: to repeat it."""

    prompts: tuple[str, ...]
    w: tuple[float, ...]
    settings: Settings
    images: str | os.PathLike[str] | None = None
    name: str = ""
    command: str = "assay.guidance.audit(pipe, prompts, w, out=...)"


def run_audit(pipe: Any, asked: Asked, out: Path) -> Audit:
    """The audit into a Run's folder, going on where it was stopped."""
    from assay.adapters import pipelines

    subject = pipelines.subject(pipe, asked.settings.options)
    if subject.labels:
        for prompt in asked.prompts:
            pipelines.label_of(pipe, prompt)
    chunks = asked.settings.chunks
    folder = None if asked.images is None else Path(asked.images)
    pictures = (
        None if folder is None else read_images(folder, (3, measures.SIDE, measures.SIDE))[1]
    )
    config = configuration(subject, asked, pictures)
    per = 1 + asked.settings.amplify
    total = len(asked.prompts) * len(asked.w) * len(chunks) * per
    with Run.open(out, config) as run, progress.bar("guidance audit", total) as advance:
        for index in range(len(asked.prompts)):
            PromptRuns(run, subject, config, index).fill(advance)
        audit_summary.write(run, config, folder)
        rows = list(run.rows)
    return Audit(rows, next(r for r in rows if r["row"] == "recommendation"))


def configuration(subject: Any, asked: Asked, pictures: Pictures | None) -> AuditConfig:
    """The Run's configuration."""
    from assay.adapters import levels, loading

    return AuditConfig(
        pipeline=asked.name or subject.name,
        pipeline_class=subject.name,
        scheduler=subject.scheduler,
        prediction=levels.prediction_type(subject.parts.scheduler),
        fingerprint=loading.fingerprint(subject.parts.denoiser),
        prompts=asked.prompts,
        w=asked.w,
        settings=asked.settings,
        images=pictures,
        command=asked.command,
    )
