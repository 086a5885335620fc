"""One class against all others on the way from noise: does the projected trajectory only rise?

    v = (m_class - m_others) / |m_class - m_others|,   u = v . (m_class - m_all)
    q(sigma) = v . (x - m_all) / (u sqrt(1 + sigma^2))

with means m of the training images: the Ornstein-Uhlenbeck coordinate of `guidance.dynamics`,
centred on the mean of all images, in units of the way from there to the class mean. Plain
conditional sampling has E[q] = 1 / sqrt(1 + sigma^2), which only rises; a guided path may
overshoot and return.

    drop = max over s before t of mean q(s) - q(t),   within a window of noise levels.

The mean trajectory is monotone where drop <= TOLERANCE: by the estimate, or (``monotone``) unless
a simultaneous 95 % bound over all pairs (s, t), by the bootstrap of the studentised maximum over
samples, shows a larger drop. Sampled paths of DDPM carry noise at every step, so that hardly one
of them is monotone by itself; ``monotone_share`` is the share that is.

Source of the rule: Chidambaram, Gatmiry, Chen, Lee, Lu 2024, arXiv 2409.13074.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.guidance.images import data as image_data

WINDOW = (0.05, 20.0)
TOLERANCE = 0.02  # of the way from the mean of all images to the class mean
N_LEVELS = 33  # of the window, even in ln sigma
_RESAMPLES = 300


class Axis(NamedTuple):
    """v (d,) of a class, m_all (d,), and the unit u."""

    v: np.ndarray
    centre: np.ndarray
    unit: float


def axis(train: image_data.Part, digit: int) -> Axis:
    """The class-mean direction, one digit against all others."""
    flat = train.x.reshape(len(train.x), -1)
    own = train.y == digit
    away = flat[own].mean(axis=0) - flat[~own].mean(axis=0)
    v, centre = away / np.linalg.norm(away), flat.mean(axis=0)
    return Axis(v, centre, float(v @ (flat[own].mean(axis=0) - centre)))


def project(x: np.ndarray, sigma: float, along: Axis) -> np.ndarray:
    """q (n,) of x (n, d) at sigma."""
    return (x - along.centre) @ along.v / (along.unit * np.sqrt(1 + sigma**2))


def levels(sigmas: np.ndarray, window: tuple[float, float] = WINDOW) -> np.ndarray:
    """Indices of up to N_LEVELS of the sigmas, near to even in ln sigma over the window."""
    wanted = np.geomspace(window[1], window[0], N_LEVELS)
    near = np.abs(np.log(sigmas[sigmas > 0])[:, None] - np.log(wanted)).argmin(axis=0)
    inside = (sigmas[near] >= window[0] * 0.8) & (sigmas[near] <= window[1] * 1.25)
    return np.unique(near[inside])


def monotone(q: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """What the paths q (T, n), noise falling along T, say of the rule; needs T, n >= 2.

    Keys: drop, drop_low (the simultaneous bound), overshoot (of the mean over its end),
    monotone_drop (drop <= TOLERANCE), monotone (drop_low <= TOLERANCE), monotone_share and its
    Wilson interval.
    """
    from assay.core import intervals

    n = q.shape[1]
    fall = _pairs(q.mean(axis=1))
    late = np.triu_indices(len(q), 1)
    drawn = np.random.default_rng(seed).integers(n, size=(_RESAMPLES, n))
    means = np.stack([q[:, lines].mean(axis=1) for lines in drawn])
    falls = np.stack([_pairs(m)[late] for m in means])
    error = np.maximum(falls.std(axis=0), 1e-12)
    worst = np.quantile(((falls - fall[late]) / error).max(axis=1), 0.95)
    low = float((fall[late] - worst * error).max())
    drop = max(float(fall[late].max()), 0.0)
    each = np.maximum.accumulate(q, axis=0) - q
    alone = int((each.max(axis=0) <= TOLERANCE).sum())
    share_low, share_high = intervals.wilson(alone, n)
    mean = q.mean(axis=1)
    return {
        "drop": drop,
        "drop_low": max(low, 0.0),
        "overshoot": float(mean.max() - mean[-1]),
        "monotone_drop": drop <= TOLERANCE,
        "monotone": low <= TOLERANCE,
        "monotone_share": alone / n,
        "monotone_share_low": share_low,
        "monotone_share_high": share_high,
        "slope_tolerance": TOLERANCE,
    }


def _pairs(mean: np.ndarray) -> np.ndarray:
    """(T, T): by how much the mean falls from s (row) to t (column)."""
    return mean[:, None] - mean[None, :]
