"""All runs of one prompt of an audit, and the rows and arrays that they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from assay.guidance.auditing import measures
from assay.guidance.auditing import summary as audit_summary
from assay.guidance.auditing.config import AuditConfig
from assay.runs import Run

Report = Callable[..., None]


class PromptRuns:
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
        from assay.adapters import conventions

        if self._known is None:
            first = self.settings.chunks[0]
            self._known = conventions.how_it_guides(self.subject, self.prompt, first)
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
