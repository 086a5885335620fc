"""An audit of somebody's pipeline: how hard may it be guided?

    found = audit(pipe, ["a cat", "a house"], w=[0, 1, 2, 4, 6.5], out="audit")
    found.recommendation["w"], found.recommendation["reason"]

The pipeline runs under its own scheduler and is recorded, never re-sampled
(:mod:`assay.adapters.recording`). Convention: guided = (1+w) cond - w uncond, guidance_scale =
1 + w; what the pipeline's own scale means is measured first. The measures are those of
:mod:`assay.guidance.audit_measures`; w = 0, the reference, is always among the runs.

Rows of the Run: "sample" (prompt x w x seed), "weight" (a w over all prompts and seeds, with
intervals), "recommendation".
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay import progress
from assay.guidance import audit_measures as measures
from assay.guidance import audit_summary
from assay.guidance.audit_config import AuditConfig, Pictures, Settings, grid
from assay.guidance.audit_inputs import prompts_of, read_images
from assay.runs import Run

Report = Callable[..., None]


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
            _Prompt(run, subject, config, index).fill(advance)
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


class _Prompt:
    """All runs of one prompt, w = 0 first: what it gives is the others' reference."""

    def __init__(self, run: Run, subject: Any, config: AuditConfig, index: int):
        self.run, self.subject, self.config, self.index = run, subject, config, index
        self.settings, self.prompt = config.settings, config.prompts[index]
        self._known: Any = None

    def fill(self, advance: Report) -> None:
        """Every group of rows that is not there yet."""
        steps = len(self.settings.chunks) * (1 + self.settings.amplify)
        for w in self.config.w:
            note = f"prompt {self.index + 1}, w = {w:g}"
            before = len(self.run.rows)
            self.run.fill(audit_summary.group(self.index, w), lambda w=w: self._measure(w))
            advance(steps, note if len(self.run.rows) > before else f"{note}: there already")

    def _how(self) -> Any:
        """The pipeline's convention and how it guides, measured once a prompt."""
        from assay.adapters import pipelines

        if self._known is None:
            first = self.settings.chunks[0]
            self._known = pipelines.how_it_guides(self.subject, self.prompt, first)
        return self._known

    def _measure(self, w: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        from assay.adapters.trajectory import Errors, joined

        convention, halves = self._how()
        setting = convention.setting(w)

        def record(planted: bool) -> Any:
            size = self.settings.error
            return joined([
                self.subject.record(
                    self.prompt, setting, seeds, halves,
                    Errors(size, seeds, w > 0) if planted else None,
                )
                for seeds in self.settings.chunks
            ])  # fmt: skip

        seen = record(False)
        moved = record(True) if self.settings.amplify else None
        columns, arrays = self._columns(w, seen, moved)
        told = {
            "row": "sample", "prompt_index": self.index, "prompt": self.prompt, "w": w,
            "guidance_scale": 1 + w, "setting": setting, "convention": convention.words, "n": 1,
        }  # fmt: skip
        rows = [
            {"key": audit_summary.key(self.index, w, seed), **told, "seed": seed,
             **{name: float(values[i]) for name, values in columns.items()}}
            for i, seed in enumerate(self.settings.seeds)
        ]  # fmt: skip
        return rows, arrays

    def _columns(self, w: float, seen: Any, moved: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Measures (n,) by name, and the arrays that the summary and the page read."""
        n = len(self.settings.seeds)
        shown = seen.decoded if seen.decoded is not None else seen.final
        if shown.ndim != 4:
            raise ValueError(
                f"pipeline {self.subject.name} decodes arrays of shape {shown.shape}: "
                "only images (n, channels, height, width) are audited"
            )
        along = self._direction(w, seen)
        y = measures.path(seen.ou, seen.final, along)
        edge = float(y[-1].max()) if w == 0 else float(self._array("path", 0.0)[-1].max())
        rows = measures.features(shown)
        reference = rows if w == 0 else self._array("features", 0.0)
        columns = {
            "w_measured": np.full(n, _middle(seen.scale) - 1),
            "residual": np.full(n, seen.residual.max()),
            "nfe": np.full(n, seen.nfe),
            "seconds": np.full(n, seen.seconds / n),
            "disagreement": measures.disagreement(seen.sigma, seen.cond, seen.uncond),
            **measures.of_path(y, edge),
            **measures.of_images(shown),
            "final_gap": measures.displacement(seen.final, seen.guided[-1]),
            "knn_distance": measures.apart(rows, reference),
        }
        if moved is not None:
            per = np.array([found.eps_per_prediction for found in seen.level])
            size = measures.error_size(seen.sigma, per, self.settings.error)
            columns["displacement"] = measures.displacement(seen.final, moved.final)
            columns["amplification"] = columns["displacement"] / size
        arrays = {
            "path": y.astype(np.float32), "sigma": seen.sigma, "features": rows,
            "thumbs": measures.thumbs(_allowed(shown, seen.flagged)),
            "shape": np.array([shown.shape[1], *(min(s, measures.SIDE) for s in shown.shape[2:])]),
        }  # fmt: skip
        if w == 0:
            arrays["direction"] = along
        return columns, arrays

    def _direction(self, w: float, seen: Any) -> np.ndarray:
        if w != 0:
            return self._array("direction", 0.0)
        found = measures.direction(seen.cond, seen.uncond)
        if found is None:
            raise ValueError(
                f"prompt {self.prompt!r}: its predictions are those of no prompt, so guidance "
                "does nothing; leave it out"
            )
        return found

    def _array(self, name: str, w: float) -> np.ndarray:
        return np.asarray(self.run.array(f"{name}.{audit_summary.group(self.index, w)}"))


def _middle(scale: np.ndarray) -> float:
    """Median of the measured scales; NaN where none was measured."""
    known = scale[np.isfinite(scale)]
    return float(np.median(known)) if len(known) else float("nan")


def _allowed(images: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """Images with those that the pipeline's own filter held back blank."""
    return np.where(flagged.reshape(-1, 1, 1, 1), 0.0, images)
