"""Score-error monitor: how wrong a denoiser is, from held-out samples alone.

    report = score_error(denoiser, data, sigmas, guided=Guided(cond, uncond, w))
    report.total["held-out"], report.total["visited"], report.total["ratio"]

sees the denoiser D and samples that it was not trained on, never the law they come from. With
D* = E[x0 | x] of the held-out samples' law, one axis for every kind of error:

    size = sqrt(mean over ln sigma of E|D - D*|^2 / sigma^2) = sqrt(mean of E[sigma^2 |ds|^2]),

the root mean square error of the predicted noise, summed over coordinates; the expectation is
over noised held-out data ("held-out": p_sigma of the data given, so that samples of a class and
the conditional denoiser make it the size of an error as this laboratory defines it), or over the
states that guided trajectories visit ("visited"). ``denoiser`` is the one measured, ``data`` must
come from the law that it is meant to denoise. How: :mod:`assay.guidance.monitoring.levels`.

The ratio of visited to held-out is the warning: a loss on held-out data vouches for the states of
held-out data only. Where held-out data cannot answer the row says "unknown" and why, or "below
resolution" with the bound that the error is under.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_torch_array
from pydantic import BaseModel, ConfigDict, Field

from assay.core import intervals, solver, special
from assay.core.guidance import Guided
from assay.guidance.monitoring import levels
from assay.guidance.monitoring import rows as report
from assay.guidance.monitoring.rows import Report
from assay.guidance.paths import WINDOW
from assay.guidance.simulate import start
from assay.progress import track

SIGMAS = tuple(float(s) for s in np.geomspace(WINDOW[1], WINDOW[0], 21))
_BATCH = 1024  # rows a denoiser is asked at once


class MonitorConfig(BaseModel):
    """How held-out data are asked.

    pairs: antithetic noise pairs a datum and level. groups: parts of the data that answer for
    each other. paths: guided trajectories; substeps: Heun steps between two levels. neighbours:
    median of effective neighbours that visited states need; on_data: share of them that must lie
    among the data. spread: ratio of an interval's ends up to which an error counts as known;
    level: its confidence. seed: of groups, noise and trajectories.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    pairs: int = Field(default=2, ge=1)
    groups: int = Field(default=10, ge=3)
    paths: int = Field(default=256, ge=8)
    substeps: int = Field(default=3, ge=1)
    neighbours: float = Field(default=3.0, ge=1)
    on_data: float = Field(default=0.5, ge=0, le=1)
    spread: float = Field(default=2.0, gt=1)
    level: float = Field(default=0.95, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class States:
    """What guided trajectories visit: x (n, d) by noise level; w where it is a number; network
    evaluations that drawing them took."""

    at: dict[float, np.ndarray]
    w: float | None = None
    nfe: int = 0


def score_error(
    denoiser: Any,
    data: Any,
    sigmas: Sequence[float] | None = None,
    *,
    guided: Guided | None = None,
    states: Iterable[tuple[float, Any]] | None = None,
    ensemble: Sequence[Any] = (),
    config: MonitorConfig | None = None,
) -> Report:
    """Error of ``denoiser`` on noised held-out data and, if asked, on visited states.

    denoiser: callable (x, sigma) -> denoised, x (n, *shape), numpy or torch. data: held-out
    samples (n, *shape) of the law it denoises, n >= 4 config.groups. sigmas: two or more noise
    levels > 0 [default: 21 from 80 to 0.002]; totals are means over ln sigma between the ends.
    guided: the guided denoiser whose trajectories count as visited, or states: pairs
    (sigma, x (m, *shape)) at levels among ``sigmas``. ensemble: further denoisers of the same
    law, whose disagreement with ``denoiser`` is reported beside the error.

    Returns a :class:`~assay.guidance.monitoring.rows.Report`: rows by level and kind of states,
    total. ValueError where data, sigmas or states do not fit.
    """
    config = config or MonitorConfig()
    prepared = prepare(data, sigmas, config)
    if guided is not None and states is not None:
        raise ValueError("guided and states are both given; give one of them")
    seen = States({})
    if guided is not None:
        seen = visit(guided, prepared)
    elif states is not None:
        seen = States(_given(states, prepared))
    return measure(denoiser, prepared, [seen], ensemble)[0]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Held-out data with their references: what does not depend on the denoiser under test."""

    references: levels.References
    shape: tuple[int, ...]
    sigmas: tuple[float, ...]
    config: MonitorConfig
    kept: tuple[levels.Level, ...] | None = None

    def levels(self) -> Iterator[levels.Level]:
        """Each noise level in turn, from large to small, noised alike every time."""
        if self.kept is not None:
            yield from self.kept
            return
        for i, sigma in enumerate(track(self.sigmas, "noise levels", len(self.sigmas))):
            rng = np.random.default_rng([self.config.seed, i])
            yield levels.level(self.references, sigma, self.config.pairs, rng)

    def keep(self) -> Prepared:
        """The same with every level held in memory, for several denoisers."""
        every = tuple(self.levels())
        return Prepared(self.references, self.shape, self.sigmas, self.config, every)


def prepare(
    data: Any, sigmas: Sequence[float] | None = None, config: MonitorConfig | None = None
) -> Prepared:
    """Check data (n, *shape) and sigmas, cut the data into groups. ValueError as score_error."""
    config = config or MonitorConfig()
    array = intervals.as_array("data", data)
    least = 4 * config.groups
    if array.ndim < 2 or len(array) < least:
        raise ValueError(
            f"data of shape {array.shape} must be (n, *shape) with n >= {least}, four for each "
            f"of {config.groups} groups; give more held-out samples"
        )
    flat = array.reshape(len(array), -1)
    if not flat.var(axis=0).any():
        raise ValueError("data are all equal: give samples that vary")
    grid = SIGMAS if sigmas is None else _levels(sigmas)
    rng = np.random.default_rng(config.seed)
    return Prepared(levels.references(flat, config.groups, rng), array.shape[1:], grid, config)


def _levels(sigmas: Sequence[float]) -> tuple[float, ...]:
    grid = tuple(sorted((float(s) for s in sigmas), reverse=True))
    if len(set(grid)) < 2 or len(set(grid)) < len(grid):
        raise ValueError(f"sigmas {list(sigmas)!r} must be two or more different noise levels")
    if not all(np.isfinite(s) and s > 0 for s in grid):
        raise ValueError(f"sigmas {list(sigmas)!r} must be finite and > 0")
    return grid


def measure(
    denoiser: Any, prepared: Prepared, states: Sequence[States], ensemble: Sequence[Any] = ()
) -> list[Report]:
    """One report for each set of visited states; held-out data are asked once for all."""
    every = [answers(d, prepared.shape) for d in (denoiser, *ensemble)]
    config, refs = prepared.config, prepared.references
    found: list[list[report.Found]] = [[] for _ in states]
    for level in prepared.levels():
        said = [d(level.held_out.x, level.sigma) for d in every]
        held = levels.held_out_error(level, refs.data, said[0])
        apart = report.disagreement(said, level.sigma)
        asked = levels.Asked(held, said[0][level.own_rows])
        places = [one.at.get(level.sigma) for one in states]
        there = _there(level, refs, every, [x for x in places if x is not None])
        for x, into in zip(places, found, strict=True):
            seen = None
            if x is not None:
                around, values = next(there)
                value = levels.visited_error(level, around, values[0], asked, config.neighbours)
                seen = report.Seen(value, around, report.disagreement(values, level.sigma))
            into.append(report.Found(level, held, apart, seen))
    return [
        report.build(f, config, one.w, one.nfe, len(every))
        for f, one in zip(found, states, strict=True)
    ]


def _there(
    level: levels.Level,
    refs: levels.References,
    every: Sequence[levels.Answer],
    places: Sequence[np.ndarray],
) -> Iterator[tuple[levels.Surrounding, list[np.ndarray]]]:
    """Surrounding and every denoiser's answers of each set of states, asked for all at once."""
    if not places:
        return
    x = np.concatenate(places)
    around = levels.surround(level, refs, x)
    said = [d(x, level.sigma) for d in every]
    ends = np.cumsum([len(p) for p in places])
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        own = slice(int(first), int(last))
        yield around.part(own), [s[own] for s in said]


def answers(denoiser: Any, shape: tuple[int, ...]) -> levels.Answer:
    """The denoiser as a function of float64 rows (n, d), whatever it takes; ValueError if it
    answers with another shape or with numbers that are not finite."""
    torch_too = _takes_torch(denoiser, shape)

    def answer(x: np.ndarray, sigma: float) -> np.ndarray:
        rows = x.reshape(len(x), *shape)
        parts = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        said = [_torch(denoiser, p, sigma) if torch_too else denoiser(p, sigma) for p in parts]
        whole = np.concatenate([special.as_float64(s) for s in said])
        if whole.shape != rows.shape:
            raise ValueError(
                f"denoiser answers {whole.shape} to x of shape {rows.shape}; it must answer alike"
            )
        if not np.isfinite(whole).all():
            raise ValueError(f"denoiser answers NaN or infinite values at sigma {sigma:g}")
        return whole.reshape(x.shape)

    return answer


def _takes_torch(denoiser: Any, shape: tuple[int, ...]) -> bool:
    try:
        return is_torch_array(denoiser(np.zeros((1, *shape)), 1.0))
    except (TypeError, AttributeError):
        return True


def _torch(denoiser: Any, x: np.ndarray, sigma: float) -> Any:
    import torch

    with torch.no_grad():
        return denoiser(torch.as_tensor(x, dtype=torch.get_default_dtype()), sigma)


def visit(guided: Guided, prepared: Prepared) -> States:
    """States at every level of trajectories of a guided denoiser, by Heun's method."""
    config = prepared.config
    fine = [
        np.geomspace(a, b, config.substeps + 1)[:-1]
        for a, b in zip(prepared.sigmas[:-1], prepared.sigmas[1:], strict=True)
    ]
    grid = np.concatenate([*fine, [prepared.sigmas[-1]]])
    grid[:: config.substeps] = prepared.sigmas
    rng = np.random.default_rng([config.seed, len(grid)])
    noise = rng.standard_normal((config.paths, *prepared.shape))
    if _takes_torch(guided, prepared.shape):
        import torch

        noise = torch.as_tensor(noise, dtype=torch.get_default_dtype())
    at = {}
    for state in track(_solve(guided, noise, grid), "guided trajectories", len(grid)):
        if state.sigma in prepared.sigmas:
            x = special.as_float64(state.x)
            at[state.sigma] = x.reshape(len(x), -1)
    w = float(guided.law) if isinstance(guided.law, (int, float)) else None
    calls = guided.calls_per_evaluation * (1 + solver.nfe(solver.heun, grid))
    return States(at, w, calls * config.paths)


def _solve(guided: Guided, noise: Any, grid: np.ndarray) -> Iterator[solver.State]:
    with _no_grad(noise):
        yield from solver.solve(guided, start(guided, noise, grid[0]), grid)


def _no_grad(like: Any) -> Any:
    import contextlib

    if not is_torch_array(like):
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def _given(states: Iterable[tuple[float, Any]], prepared: Prepared) -> dict[float, np.ndarray]:
    """States given by hand, at the levels they name."""
    at: dict[float, np.ndarray] = {}
    size = prepared.references.data.shape[1]
    for sigma, x in states:
        near = min(prepared.sigmas, key=lambda s: abs(s - float(sigma)))
        if abs(near / float(sigma) - 1) > 1e-6:
            raise ValueError(f"states at sigma {sigma:g}: sigmas has no such level; add it")
        rows = intervals.as_array("states", x)
        if rows.ndim < 2 or len(rows) < 8 or rows[0].size != size:
            raise ValueError(
                f"states of shape {rows.shape} at sigma {sigma:g} must be (m, *{prepared.shape}) "
                "with m >= 8"
            )
        at[near] = rows.reshape(len(rows), -1)
    if not at:
        raise ValueError("states is empty: give pairs (sigma, x)")
    return at
