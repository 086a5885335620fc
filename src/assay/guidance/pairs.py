"""The sweep's row for any two denoisers: what their guided samples are like.

``measure(cond, uncond, w)`` needs nothing but two callables (x, sigma) -> denoised; with a
support it says how many samples leave it, with data how far they are from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from array_api_compat import is_torch_array

from assay.core import neighbours, special
from assay.core.guidance import Guided
from assay.guidance import columns
from assay.guidance.config import Simulation
from assay.guidance.simulate import Generators, simulate


def measure(
    cond: Any,
    uncond: Any,
    w: float = 3.0,
    support: Any = None,
    data: Any = None,
    simulation: Simulation | None = None,
) -> dict[str, Any]:
    """One row for the samples of (1+w) cond - w uncond.

    cond, uncond: callables (x, sigma) -> denoised, x (n, *shape), numpy or torch; which of the
    two they take is found by one point. support: (low, high) of numbers or vectors, or a callable
    x (n, d) -> bool (n,), True inside. data: samples (m, *shape) of the class that were kept out
    of training; it also gives the shape, which is otherwise the support's, a ``dim`` of the
    denoiser, or one coordinate. w: the paper's weight, w = 0 the plain conditional model.
    simulation: particles, grid, solver and seed.

    Returns the columns of a sweep's row; what cannot be known without data or support is None.
    Distances to the conditional are to samples of w = 0 from other noise. ValueError for a w that
    is not finite, or shapes that do not agree.
    """
    if not np.isfinite(w):
        raise ValueError(f"w {w!r} is not finite; give a number, w = 0 for the plain conditional")
    simulation = simulation or Simulation()
    kept = None if data is None else special.as_float64(data)
    shape = _shape(cond, support, kept)
    generator = _generators(cond, uncond, shape)
    own = simulate(Guided(cond, uncond, float(w)), shape, simulation, generator)
    fresh = simulation.model_copy(update={"seed": simulation.seed + 1_000_003})
    plain = simulate(Guided(cond, uncond, 0.0), shape, fresh, generator)
    row = {"w": float(w), "guidance_scale": 1 + float(w)} | columns.settings(simulation, own)
    row |= columns.moments(own)
    row |= columns.distance_columns(own, columns.flat(plain.denoised), None, simulation.seed)
    row |= columns.support_columns(own, *_inside(support, kept))
    row |= columns.overshoot(own, columns.far_edge(support, own.direction))
    return row | columns.data_columns(own, kept)


@dataclass(frozen=True)
class _Box:
    low: np.ndarray
    high: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.all((self.low <= x) & (x <= self.high), axis=1)


def _shape(cond: Any, support: Any, kept: np.ndarray | None) -> tuple[int, ...]:
    if kept is not None:
        if kept.ndim < 2 or len(kept) < 2:
            raise ValueError(f"data of shape {kept.shape} must be (m, *shape) with m >= 2")
        return kept.shape[1:]
    if support is not None and not callable(support):
        return (max(np.size(edge) for edge in support),)
    return (int(getattr(cond, "dim", getattr(getattr(cond, "__self__", None), "dim", 1))),)


def _generators(cond: Any, uncond: Any, shape: tuple[int, ...]) -> Generators:
    """Numpy generators where the denoisers take numpy arrays, else torch ones."""
    try:
        answers = [denoiser(np.zeros((1, *shape)), 1.0) for denoiser in (cond, uncond)]
    except (TypeError, AttributeError):
        answers = []
    if answers and not any(is_torch_array(answer) for answer in answers):
        return np.random.default_rng
    import torch

    return lambda seed: torch.Generator().manual_seed(seed)


def _inside(support: Any, kept: np.ndarray | None) -> tuple[columns.Inside | None, str | None]:
    if callable(support):
        return cast(columns.Inside, support), "given"
    if support is not None:
        low, high = (np.asarray(edge, dtype=np.float64) for edge in support)
        if not np.all(low < high):
            raise ValueError(f"support {support!r} must be (low, high) with low < high")

        return _Box(low, high), "given"
    if kept is None:
        return None, None
    real = columns.flat(kept)
    limit = float(np.quantile(neighbours.knn_distance(real), 0.99))

    def near(x: np.ndarray) -> np.ndarray:
        return neighbours.knn_distance(x, real) <= limit

    return near, "within the 99 % quantile of the data's own nearest-neighbour distances"
