"""Batches of guided particles to a given endpoint error: ours, torchdiffeq's dopri5, plain Heun.

All three solve the same guided ODE of the same exact denoisers, float64 in torch with the same
threads, from the same start at sigma 80 to sigma 0.002, w = 3, 10,000 particles. Each method's
free setting (steps, order, tolerance, and for torchdiffeq also the time, sigma or ln sigma) is
the cheapest of a fixed list that meets the error on 200 particles; the truth is the adaptive
reference at 1e-11. A job of more than 20 seconds is timed by its first evaluations and says so.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from assay.core import noise, reference, solver
from assay.core.guidance import Guided, unbiased_start
from assay.guidance import targets
from bench import timing

SIGMA_MIN, SIGMA_MAX, W, N, N_SEARCH = 0.002, 80.0, 3.0, 10_000, 200
LONGEST = 20.0  # seconds that one timed run may take
ERRORS = (1e-3, 1e-6)
CASES = {
    2: ("gaussians", {"mean": [1.0, 0.0]}, 1.0),
    64: ("digits", {"label": 3}, 0.35),
}


class Problem:
    """The guided denoiser, the common start and the true endpoint in d dimensions."""

    def __init__(self, dim: int, n: int) -> None:
        name, params, self.scale = CASES[dim]
        target = targets.build(name, **params)
        self.guided = Guided(target.cond.denoise, target.uncond.denoise, W)
        rng = torch.Generator().manual_seed(0)
        u = torch.randn((n, dim), generator=rng, dtype=torch.float64)
        self.start = unbiased_start(target.cond.denoise, target.uncond.denoise, W, u, SIGMA_MAX)

    @functools.cached_property
    def truth(self) -> torch.Tensor:
        """Endpoints by the adaptive reference."""
        tight = reference.Adaptive(rtol=1e-11, atol=1e-11, scale=self.scale)
        return reference.reference(self.guided, self.start, SIGMA_MAX, SIGMA_MIN, config=tight).x

    def error(self, x: torch.Tensor) -> float:
        """Root mean square over particles of the Euclidean endpoint error."""
        return float((x - self.truth).square().sum(dim=1).mean().sqrt())

    def ours(self, steps: int, order: int, scale: float) -> tuple[torch.Tensor, int]:
        """The multistep solver in alpha on the Chebyshev grid."""
        sigmas = noise.chebyshev(steps, SIGMA_MIN, SIGMA_MAX, scale)
        step = solver.adams(order, scale)
        end = solver.last(solver.solve(self.guided, self.start, sigmas, step))
        return end.x, solver.nfe(step, sigmas)

    def heun(self, steps: int) -> tuple[torch.Tensor, int]:
        """EDM's loop (Karras et al. 2022, algorithm 1 with S_churn 0) as people write it."""
        sigmas = noise.karras(steps, SIGMA_MIN, SIGMA_MAX, zero=False).tolist()
        x, calls = self.start, 0
        for sigma, after in itertools.pairwise(sigmas):
            slope = (x - self.guided(x, sigma)) / sigma
            ahead = x + (after - sigma) * slope
            second = (ahead - self.guided(ahead, after)) / after
            x = x + (after - sigma) * (slope + second) / 2
            calls += 2
        return x, calls

    def dopri5(self, tolerance: float, time: str) -> tuple[torch.Tensor, int]:
        """torchdiffeq's dopri5 in sigma or in ln sigma."""
        from torchdiffeq import odeint

        calls = 0

        def rate(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            # it steps over the end and interpolates back: sigma must not reach 0 there
            sigma = max(float(t), SIGMA_MIN / 4) if time == "sigma" else float(t.exp())
            change = x - self.guided(x, sigma)
            return change / sigma if time == "sigma" else change

        ends = torch.tensor([SIGMA_MAX, SIGMA_MIN], dtype=torch.float64)
        span = ends if time == "sigma" else ends.log()
        x = odeint(rate, self.start, span, rtol=tolerance, atol=tolerance, method="dopri5")
        return x[-1], calls


def rows(done: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """One row a dimension and error, those not done."""
    for dim, error in itertools.product(CASES, ERRORS):
        key = f"ode-d{dim}-{error:g}"
        if not done(key):
            yield {"key": key} | row(dim, error)


def settings(problem: Problem) -> dict[str, list[tuple[Any, ...]]]:
    """Settings of each method, cheap ones first."""
    scales = [problem.scale * f for f in (0.5, 1.0, 2.0)]
    steps = [*range(6, 33, 2), 36, 40, 48, 56, 64, 80, 96, 128]
    return {
        "ours": [(n, order, scale) for n in steps for order in (4, 6, 8) for scale in scales],
        "heun": [(round(12 * 2 ** (k / 2)),) for k in range(22)],
        "dopri5": [(10.0 ** (-k / 2), time) for k in range(2, 22) for time in ("sigma", "log")],
    }


def cheapest(problem: Problem, name: str, error: float) -> tuple[tuple[Any, ...], int]:
    """The setting with fewest denoiser calls whose endpoint error is within ``error``.

    The lists run from cheap to dear, so the search ends a few settings after the first success.
    """
    found: list[tuple[int, tuple[Any, ...]]] = []
    after = 0
    for setting in settings(problem)[name]:
        x, calls = getattr(problem, name)(*setting)
        if problem.error(x) <= error:
            found.append((calls, setting))
        after += bool(found)
        if after > 2:
            break
    assert found, f"{name} never reached {error}"
    calls, setting = min(found)
    return setting, calls


def row(dim: int, error: float) -> dict[str, Any]:
    """Evaluations and time of the three at one endpoint error, as ratios to ours."""
    few, full = Problem(dim, N_SEARCH), Problem(dim, N)
    chosen = {name: cheapest(few, name, error) for name in ("ours", "dopri5", "heun")}
    result: dict[str, Any] = {
        "study": "batch ODE", "dim": dim, "n": N, "w": W, "rms_error": error,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    per_call = timing.seconds(lambda: full.ours(10, 4, full.scale)) / 10
    jobs = {}
    for name, (setting, calls) in chosen.items():
        result |= {f"{name}_setting": list(setting), f"{name}_nfe": calls}
        result[f"{name}_timed_whole"] = name != "heun" or calls * per_call <= LONGEST
        if result[f"{name}_timed_whole"]:
            jobs[name] = functools.partial(getattr(full, name), *setting)
    times = timing.paired(jobs, 3)
    for name, (_, calls) in chosen.items():
        if name not in times:
            times[name] = [t * calls / 200 for t in _first_calls(full, name, 3)]
        result[f"{name}_seconds"] = sorted(times[name])[1]
    for peer in ("dopri5", "heun"):
        result[f"nfe_ratio_{peer}"] = result[f"{peer}_nfe"] / result["ours_nfe"]
        result[f"time_ratio_{peer}"] = timing.median_ratio(times, peer, "ours")
    return result


def _first_calls(problem: Problem, name: str, repeats: int) -> list[float]:
    """Seconds of 200 denoiser calls in the loop of a method whose whole run is too long."""
    assert name == "heun", f"{name} is too long to time whole"
    return [timing.seconds(lambda: problem.heun(100)) for _ in range(repeats)]
