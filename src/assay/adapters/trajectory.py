"""What one recorded run of a pipeline is: its levels, predictions, latents and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from assay.adapters.levels import Level


@dataclass(frozen=True)
class Halves:
    """How a pipeline guides: what its first guided step showed.

    uncond_first: which of the two predictions is unconditional; scale: the guidance_scale that
    was measured, None where the two predictions are equal; residual: what of the prediction
    used is no combination of the two, relative; uncond: the unconditional call's inputs.
    """

    uncond_first: bool
    scale: float | None
    residual: float
    uncond: Mapping[str, Any]


@dataclass(frozen=True)
class Errors:
    """Planted errors of the predictions, fixed along a trajectory.

    size: standard deviation of each entry; seeds: one integer a sample; guided: whether the run
    is (w > 0). The conditional and the unconditional prediction get independent errors, the same
    ones at every w.
    """

    size: float
    seeds: tuple[int, ...]
    guided: bool = True

    def draw(self, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """(of cond, of uncond), each (n, *shape)."""
        both = [
            torch.randn((2, *shape), generator=torch.Generator().manual_seed(seed + 7_919_001))
            for seed in self.seeds
        ]
        stacked = self.size * torch.stack(both, 1)
        return stacked[0], stacked[1]


@dataclass
class Trajectory:
    """One run of n samples, in the coordinate x = x0 + sigma noise; arrays as numpy.

    level: of each step. ou (steps, n, *shape): x / sqrt(1 + sigma^2) where the network was asked;
    cond, uncond, guided (steps, n, *shape): denoised, guided as it was used; final (n, *shape):
    latents at the end; decoded (n, channels, height, width): what the VAE gave before any
    clamping, None without one; scale: guidance_scale of each step as measured, NaN where cond
    and uncond are equal; residual: of each step, relative; nfe: network evaluations a sample;
    seconds: in all, without the recorder's own work; flagged (n,): held back by the pipeline's
    own filter, where it has one.
    """

    level: list[Level] = field(default_factory=list)
    ou: Any = field(default_factory=list)
    cond: Any = field(default_factory=list)
    uncond: Any = field(default_factory=list)
    guided: Any = field(default_factory=list)
    scale: Any = field(default_factory=list)
    residual: Any = field(default_factory=list)
    final: Any = None
    decoded: Any = None
    nfe: float = 0.0
    seconds: float = 0.0
    output: Any = None
    flagged: Any = None

    @property
    def sigma(self) -> np.ndarray:
        """Noise level of each step; inf where a flow starts from pure noise."""
        return np.array([found.sigma for found in self.level])


def joined(parts: Sequence[Trajectory]) -> Trajectory:
    """Runs of the same prompt and setting as one, their samples after each other."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def together(name: str, axis: int) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values, axis)

    return Trajectory(
        level=first.level,
        **{name: together(name, 1) for name in ("ou", "cond", "uncond", "guided")},
        **{name: together(name, 0) for name in ("final", "decoded", "flagged")},
        scale=np.ma.masked_invalid([part.scale for part in parts]).mean(0).filled(np.nan),
        residual=np.max([part.residual for part in parts], axis=0),
        nfe=float(np.mean([part.nfe for part in parts])),
        seconds=sum(part.seconds for part in parts),
    )
