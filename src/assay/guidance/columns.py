"""The columns of a row: each function measures one side of a set of guided samples.

Everything is measured on the samples after the final denoise; off-support also without it, so
that what stopping early leaves behind is never blamed on guidance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from assay.core import intervals, neighbours, stats
from assay.guidance.config import Simulation
from assay.guidance.simulate import Samples

Inside = Callable[[np.ndarray], np.ndarray]
_N_PROJECTIONS = 64
_K = 5  # neighbours in precision, recall, density, coverage (Naeem et al. 2020)
_DIVERSE = 512  # samples in the Vendi score, whose cost is cubic


def settings(simulation: Simulation, samples: Samples) -> dict[str, Any]:
    """The columns that say how the samples were drawn."""
    return {
        "solver": simulation.solver,
        "steps": simulation.steps,
        "sigma_min": simulation.sigma_min,
        "sigma_max": simulation.sigma_max,
        "n": simulation.n,
        "seed": simulation.seed,
        "nfe": samples.nfe,
    }


def moments(samples: Samples) -> dict[str, Any]:
    """Mean, sd and median of the denoised samples along the class direction (in 1-D: of x)."""
    dim = samples.direction.size
    x = flat(samples.denoised) @ (samples.direction if dim > 1 else np.ones(1))
    mean, se = intervals.mean_se(x)
    return {
        "coordinate": "x" if dim == 1 else "class direction",
        "mean": mean,
        "mean_se": se,
        "sd": float(x.std(ddof=1)),
        "median": float(np.median(x)),
    }


def distance_columns(
    samples: Samples, cond: np.ndarray, tilted: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """W1 to samples of the conditional and of the tilt: exact in 1-D, sliced in more."""
    x = flat(samples.denoised)
    return {
        "distance": "W1" if x.shape[1] == 1 else f"sliced W1, {_N_PROJECTIONS} directions",
        "w1_to_cond": _w1(x, cond, seed),
        "w1_to_tilted": None if tilted is None else _w1(x, tilted, seed),
    }


def _w1(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    if x.shape[1] == 1:
        return stats.w1(x[:, 0], y[:, 0])
    return stats.sliced_w1(x, y, _N_PROJECTIONS, rng=np.random.default_rng(seed))


def support_columns(samples: Samples, inside: Inside | None, name: str | None) -> dict[str, Any]:
    """Share of samples off the support without and with the final denoise, Wilson intervals."""
    row: dict[str, Any] = {"support": name}
    for column, x in (
        ("off_support", samples.x),
        ("off_support_denoised", samples.denoised),
    ):
        row |= {column: None, f"{column}_low": None, f"{column}_high": None}
        if inside is not None:
            off = int(np.count_nonzero(~np.asarray(inside(flat(x)), dtype=bool)))
            low, high = intervals.wilson(off, len(x))
            row |= {column: off / len(x), f"{column}_low": low, f"{column}_high": high}
    return row


def overshoot(samples: Samples, edge: float | None) -> dict[str, Any]:
    """Largest E[projection / sqrt(1+sigma^2)] over sigma less the far edge, and where it is."""
    if edge is None:
        return {"overshoot": None, "overshoot_sigma": None}
    mean = samples.projection.mean(axis=1)
    top = int(np.argmax(mean))
    return {
        "overshoot": float(mean[top] - edge),
        "overshoot_sigma": float(samples.sigmas[top]),
    }


def data_columns(samples: Samples, kept: np.ndarray | None) -> dict[str, Any]:
    """Distance of the samples to kept-out data, and their diversity."""
    if kept is None:
        return {}
    x, real = flat(samples.denoised), flat(kept)
    few = x[: 4 * len(real)]
    row = {"knn_distance": float(np.median(neighbours.knn_distance(x, real)))}
    row |= neighbours.prdc(real, few, k=min(_K, len(real) - 1))
    return row | {"vendi": stats.vendi(x[:_DIVERSE]), "n_data": len(real)}


def flat(x: np.ndarray) -> np.ndarray:
    """(n, *shape) as (n, d)."""
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)


def far_edge(support: Any, direction: np.ndarray) -> float | None:
    """Largest projection of the box (low, high) on a direction (d,); None where unbounded."""
    if support is None or callable(support):
        return None
    low, high = (np.broadcast_to(np.asarray(e, float), direction.shape) for e in support)
    reach = float(np.sum(np.where(direction > 0, direction * high, direction * low)))
    return reach if np.isfinite(reach) else None


def odds_columns(mean: float) -> dict[str, Any]:
    """Mean of log p(z|x)/(1-p(z|x)) in nats; None with the reason where it is infinite."""
    finite = bool(np.isfinite(mean))
    return {
        "class_odds": mean if finite else None,
        "class_odds_reason": None if finite else "separable",
    }
