"""The exact pushforward against Monte Carlo: evaluations for one distribution of guided samples.

Ours integrates the monotone map u -> x at a few Chebyshev nodes of u and interpolates. Monte Carlo
solves the same flow for n particles with torchdiffeq's dopri5 (in ln sigma, its better time) and
takes their empirical distribution; n and the tolerance are those of least cost, n times the
evaluations a particle, at which the median W1 error over 10 seeds is within the target. Since the
flow is deterministic, the endpoint of every tolerance is solved on a fine grid of u and read off
there for the particles of all seeds: the same endpoints, thousands of times cheaper to simulate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.interpolate import BarycentricInterpolator, PchipInterpolator
from scipy.special import ndtri

from assay.core import stats
from assay.core.guidance import Guided, unbiased_start
from assay.guidance import targets
from assay.guidance.pushforward import Pushforward

ERRORS, SEEDS, W = (1e-2, 1e-3), 10, 3.0
SIGMA_MIN, SIGMA_MAX, REACH = 0.002, 80.0, 4.0
_GRID = np.linspace(-6, 6, 4001)
_MIDDLES = ndtri((np.arange(20_001) + 0.5) / 20_001)
_TOLERANCES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)


def rows(done: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """One row a target and error: evaluations of both and their ratio."""
    for name in ("gaussians", "uniforms"):
        if all(done(f"exact-{name}-{error:g}") for error in ERRORS):
            continue
        target = targets.build(name)
        law = Pushforward(target, W)
        truth = np.asarray(law.map(_MIDDLES))
        solved = [(tol, *_endpoints(target, tol)) for tol in _TOLERANCES]
        for error in ERRORS:
            ours = _cheapest_map(target, truth, error)
            peer = _cheapest_sample(solved, truth, error)
            yield {
                "key": f"exact-{name}-{error:g}", "study": "exact pushforward",
                "target": name, "w": W, "w1_error": error, "n_seeds": SEEDS,
                **{f"ours_{k}": v for k, v in ours.items()},
                **{f"monte_carlo_{k}": v for k, v in peer.items()},
                "nfe_ratio": peer["nfe"] / ours["nfe"],
            }  # fmt: skip


def _cheapest_map(target: targets.Target, truth: np.ndarray, error: float) -> dict[str, Any]:
    """Nodes and tolerance with fewest evaluations whose interpolated map has that W1 error."""
    found = []
    for tol in (0.1, 1e-2, 1e-3, 1e-4, 1e-5):
        for n_nodes in (5, 6, 7, 9, 11, 13):
            law = Pushforward(target, W, tol=tol)
            u = -REACH * np.cos(np.pi * np.arange(n_nodes) / (n_nodes - 1))
            map_ = BarycentricInterpolator(u, law.map(u))
            missed = np.mean(np.abs(map_(np.clip(_MIDDLES, -REACH, REACH)) - truth))
            if missed <= error:
                found.append({"nfe": law.nfe, "n_nodes": n_nodes, "tol": tol, "w1": float(missed)})
    return min(found, key=lambda f: f["nfe"])


def _endpoints(target: targets.Target, tol: float) -> tuple[int, PchipInterpolator]:
    """dopri5's endpoints on the grid of u after a final denoise, and evaluations a particle."""
    from torchdiffeq import odeint

    cond, uncond = target.cond.denoise, target.uncond.denoise
    guided, calls = Guided(cond, uncond, W), 1
    u = torch.tensor(_GRID)[:, None]

    def rate(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return x - guided(x, float(t.exp()))

    span = torch.tensor([SIGMA_MAX, SIGMA_MIN], dtype=torch.float64).log()
    start = unbiased_start(cond, uncond, W, u, SIGMA_MAX)
    x = odeint(rate, start, span, rtol=tol, atol=tol, method="dopri5")[-1]
    return calls + 1, PchipInterpolator(_GRID, guided(x, SIGMA_MIN)[:, 0].numpy())


def _cheapest_sample(
    solved: list[tuple[float, int, PchipInterpolator]], truth: np.ndarray, error: float
) -> dict[str, Any]:
    """Particles and tolerance of least total evaluations at that median W1 error."""
    found = []
    for tol, calls, endpoint in solved:
        bias = np.mean(np.abs(endpoint(np.clip(_MIDDLES, -6, 6)) - truth))
        if bias > 0.8 * error:  # more particles would not help, or not enough
            continue
        for k in range(8, 44):
            n = round(2 ** (k / 2))
            missed = [_missed(endpoint, n, seed, truth) for seed in range(SEEDS)]
            if np.median(missed) <= error:
                found.append(
                    {"nfe": n * calls, "n": n, "nfe_a_particle": calls, "tol": tol,
                     "w1": float(np.median(missed))}
                )  # fmt: skip
                break
    return min(found, key=lambda f: f["nfe"])


def _missed(endpoint: PchipInterpolator, n: int, seed: int, truth: np.ndarray) -> float:
    u = np.random.default_rng([seed, n]).standard_normal(n)
    return stats.w1(endpoint(np.clip(u, -6, 6)), truth)
