"""What a pipeline's own scale means: most mean 1 + w by it, some guiders w.

The pipeline runs to its first guided step at a known setting, and the weight that was applied is
solved for (:mod:`assay.adapters.recording`); the run ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.adapters.pipelines import Subject, quiet
from assay.adapters.recording import Recorder
from assay.adapters.trajectory import Halves

PROBE = 4.0  # the setting at which the convention is measured
_NEAR = 0.02


@dataclass(frozen=True)
class Convention:
    """What the pipeline's own scale means, as measured at :data:`PROBE`.

    offset: guidance_scale minus the pipeline's setting, 0 where it means 1 + w, 1 where it means
    w; measured: whether the recorded predictions decided it; residual: relative, of the
    prediction used that is no combination of cond and uncond (0 for plain guidance).
    """

    offset: float
    measured: bool
    residual: float

    def setting(self, w: float) -> float:
        """The pipeline's own setting for w."""
        return 1 + w - self.offset

    @property
    def words(self) -> str:
        """In words."""
        means = "1 + w" if self.offset == 0 else "w"
        how = "measured" if self.measured else "assumed"
        return f"the pipeline's scale means {means} ({how})"


def how_it_guides(
    subject: Subject, prompt: str, seeds: Sequence[int]
) -> tuple[Convention, Halves]:
    """The convention of its scale and the order of its predictions, from its first guided step.

    ValueError where no step at :data:`PROBE` uses two predictions.
    """
    recorder = Recorder(subject.parts, len(seeds), stop=True)
    with quiet(subject.pipe), recorder:
        subject.ask(prompt, PROBE, seeds)
    halves = recorder.halves
    if halves is None:
        raise ValueError(
            f"pipeline {subject.name} has no guidance: at scale {PROBE:g} no step uses an "
            "unconditional prediction"
        )
    return convention(halves), halves


def convention(halves: Halves) -> Convention:
    """What a first guided step at :data:`PROBE` says about the scale."""
    if halves.scale is not None:
        for offset in (0.0, 1.0):
            if abs(halves.scale - PROBE - offset) < _NEAR * PROBE:
                return Convention(offset, True, halves.residual)
    return Convention(0.0, False, halves.residual)
