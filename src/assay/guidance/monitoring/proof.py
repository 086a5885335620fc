"""The monitor on trial: exact targets, planted errors, and the truth beside every answer.

A class of an exact target is the law; held-out samples are drawn from it; its denoiser gets an
error of a known kind and size; the monitor sees both and no more. The truth of every cell is the
mean of |D - D*|^2 / sigma^2 on the very states that the monitor was asked about: noised held-out
data, and states of trajectories guided by w towards the wrong denoiser, the marginal's exact.
Targets and errors: :mod:`assay.guidance.monitoring.planted`. The bar, over the cells that the
monitor says are known: rank correlation with the truth >= 0.95 and median ratio to it within a
factor 1.5 both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from assay import refusal
from assay.core.guidance import Guided
from assay.guidance.error_kinds import ScoreErrors
from assay.guidance.monitoring import monitor
from assay.guidance.monitoring import rows as monitor_rows
from assay.guidance.monitoring import summary as monitor_summary
from assay.guidance.monitoring.planted import KINDS, PLACES, Wrong, amount
from assay.guidance.paths import WINDOW
from assay.runs import Run

_PLENTY = 2000  # held-out samples beyond which half as many noise pairs serve
_PER_LEVEL = ("error", "error_low", "error_high", "status", "neighbours", "on_data")

Row = dict[str, Any]


class MonitorStudy(BaseModel):
    """Targets x held-out samples x kinds x sizes x w. ``n`` first: every kind and size, digits
    also ``more_sizes``; the others only ``less_kinds`` and ``less_sizes``. pairs: antithetic
    noise pairs a datum and level, half as many beyond 2,000 samples; paths: guided trajectories;
    half as many of both in more than two dimensions; levels: noise levels from 80 to 0.002."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: Literal["guidance.monitor"] = "guidance.monitor"
    targets: tuple[str, ...] = tuple(PLACES)
    n: tuple[int, ...] = (1000, 300, 3000)
    kinds: tuple[str, ...] = KINDS
    sizes: tuple[float, ...] = (0.003, 0.03, 0.1, 0.3)
    more_sizes: tuple[float, ...] = (1.0, 3.0)
    less_kinds: tuple[str, ...] = ("bias", "field")
    less_sizes: tuple[float, ...] = (0.1,)
    w: tuple[float, ...] = (0.0, 1.0, 3.0, 7.0)
    seed: int = Field(default=0, ge=0)
    pairs: int = Field(default=2, ge=1)
    paths: int = Field(default=128, ge=8)
    levels: int = Field(default=11, ge=2)

    @field_validator("targets")
    @classmethod
    def _places(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _among("targets", names, PLACES)

    @field_validator("kinds", "less_kinds")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _among("kinds", names, KINDS)

    @field_validator("n")
    @classmethod
    def _enough(cls, n: tuple[int, ...]) -> tuple[int, ...]:
        if not n or min(n) < 40 or len(set(n)) < len(n):
            raise ValueError("give one or more different numbers of held-out samples, 40 or more")
        return n

    @field_validator("sizes", "more_sizes", "less_sizes")
    @classmethod
    def _positive(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        if not all(size > 0 for size in sizes):
            raise ValueError("sizes of errors must be > 0")
        return sizes


def _among(name: str, given: tuple[str, ...], every: Any) -> tuple[str, ...]:
    unknown = [g for g in given if g not in every]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is unknown; choose from {', '.join(every)}")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"{name} must be given once each, and one at least")
    return given


def study(**values: Any) -> MonitorStudy:
    """The study from plain values; ValueError in one line where one is refused."""
    return refusal.checked(MonitorStudy, values)


@dataclass(frozen=True)
class Job:
    """One wrong denoiser and every w: the rows of its cells."""

    target: str
    n: int
    kind: str
    size: float

    @property
    def key(self) -> str:
        """Stem of its rows' keys."""
        return f"{self.target}/n={self.n}/{self.kind}/size={self.size:g}"

    def last(self, config: MonitorStudy) -> str:
        """Key of its last row."""
        return f"{self.key}/w={config.w[-1]:g}" if config.w else f"{self.key}/held-out"

    def write(self, run: Run, config: MonitorStudy) -> None:
        """Compute its rows and append those that are not there yet."""
        for row in rows(self, config):
            if not run.done(row["key"]):
                run.append(row)


def jobs(config: MonitorStudy) -> list[Job]:
    """In order: by target, then by number of held-out samples."""
    found = []
    for target in config.targets:
        for i, n in enumerate(config.n):
            kinds, sizes = config.kinds, config.sizes
            if target.startswith("digits"):
                sizes += tuple(s for s in config.more_sizes if s not in sizes)
            if i:
                kinds = tuple(k for k in kinds if k in config.less_kinds)
                sizes = tuple(s for s in sizes if s in config.less_sizes)
            found += [Job(target, n, kind, size) for kind in kinds for size in sizes]
    return found


def finish(run: Run, config: MonitorStudy) -> None:
    """Append what the cells amount to, once."""
    for row in monitor_summary.summaries(run.rows, config.sizes):
        if not run.done(row["key"]):
            run.append(row)


@dataclass(frozen=True, eq=False)
class Place:
    """A target with held-out samples of its class, prepared for the monitor."""

    errors: ScoreErrors
    prepared: monitor.Prepared

    @cached_property
    def exact(self) -> dict[float, np.ndarray]:
        """D* at the noised held-out data of every level."""
        law = self.errors.target.cond
        return {at.sigma: law.denoise(at.held_out.x, at.sigma) for at in self.prepared.levels()}


@lru_cache(maxsize=1)
def _errors(target: str, seed: int) -> ScoreErrors:
    return ScoreErrors(PLACES[target](), "cond", seed)


@lru_cache(maxsize=1)
def _place(target: str, n: int, seed: int, pairs: int, paths: int, levels: int) -> Place:
    errors = _errors(target, seed)
    data = errors.target.cond.sample(n, np.random.default_rng([seed, n, len(target)]))
    if errors.target.dim > 2:
        pairs, paths = max(1, pairs // 2), max(8, paths // 2)
    elif n > _PLENTY:
        pairs = max(1, pairs // 2)
    few = monitor.MonitorConfig(pairs=pairs, paths=paths, substeps=2, seed=seed)
    prepared = monitor.prepare(data, tuple(np.geomspace(WINDOW[1], WINDOW[0], levels)), few)
    return Place(errors, prepared.keep())


def rows(job: Job, config: MonitorStudy) -> Iterator[Row]:
    """The row on held-out states, then one for each w; none where the kind has no such size."""
    place = _place(job.target, job.n, config.seed, config.pairs, config.paths, config.levels)
    given = amount(place.errors, job.kind, job.size)
    if not np.isfinite(given):
        reason = f"no amount of {job.kind!r} has this size"
        yield {"key": job.last(config), "kind": "none", "reason": reason}
        return
    wrong = Wrong(place.errors, job.kind, given)
    held = _held_truth(place, wrong)
    fixed = {
        "kind": "cell", "target": job.target, "dim": place.errors.target.dim, "n": job.n,
        "seed": config.seed, "error_kind": job.kind, "size": job.size, "amount": given,
        "perturbed": "cond",
    }  # fmt: skip
    seen = [_visit(place, wrong, w) for w in config.w]
    reports = monitor.measure(wrong, place.prepared, [monitor.States({}), *seen])
    head = f"{job.key}/held-out"
    yield (
        {"key": head}
        | fixed
        | {"states": monitor_rows.HELD_OUT, "w": None}
        | {"guidance_scale": None}
        | _compared(reports[0], monitor_rows.HELD_OUT, held)
    )
    truths = _visited_truths(place, wrong, seen)
    for w, true, report in zip(config.w, truths, reports[1:], strict=True):
        row = {"key": f"{job.key}/w={w:g}"} | fixed | {"states": monitor_rows.VISITED}
        row |= {"w": w, "guidance_scale": 1 + w}
        yield row | _compared(report, monitor_rows.VISITED, true) | _ratio(report, true, held)


def _visit(place: Place, wrong: Wrong, w: float) -> monitor.States:
    law = Guided(wrong, place.errors.target.uncond.denoise, float(w))
    return monitor.visit(law, place.prepared)


def _held_truth(place: Place, wrong: Wrong) -> dict[float, float]:
    return {
        at.sigma: _square(wrong(at.held_out.x, at.sigma), place.exact[at.sigma], at.sigma)
        for at in place.prepared.levels()
    }


def _visited_truths(
    place: Place, wrong: Wrong, seen: Sequence[monitor.States]
) -> list[dict[float, float]]:
    """Truth on the visited states among the held-out data, on all where hardly any are."""
    true: list[dict[float, float]] = [{} for _ in seen]
    for at in place.prepared.levels() if seen else ():
        x = np.stack([s.at[at.sigma] for s in seen])
        rows = x.reshape(-1, x.shape[-1])
        crowd = place.prepared.references.raw.crowd(rows, at.sigma)
        on = (crowd.log_density >= at.least_density).reshape(x.shape[:2])
        apart = wrong(rows, at.sigma) - place.errors.target.cond.denoise(rows, at.sigma)
        square = np.sum(apart**2, axis=1).reshape(on.shape) / at.sigma**2
        for into, own, kept in zip(true, square, on, strict=True):
            into[at.sigma] = float(own[kept].mean() if kept.sum() > 1 else own.mean())
    return true


def _square(one: np.ndarray, other: np.ndarray, sigma: float) -> float:
    return float(np.mean(np.sum((one - other) ** 2, axis=1)) / sigma**2)


def _compared(report: monitor.Report, name: str, true: dict[float, float]) -> Row:
    """The total of one kind of states beside the truth over its levels, and every level."""
    total = report.total[name]
    levels = [r for r in report.rows if r["states"] == name]
    row: Row = {c: total[c] for c in ("error", "error_low", "error_high", "status", "reason")}
    row |= {"covered": total["covered"], "nfe": total["nfe"], "true": _size(true, total["levels"])}
    row["levels"] = {
        "sigma": [r["sigma"] for r in levels],
        "true": [float(np.sqrt(true[r["sigma"]])) for r in levels],
    } | {c: [r[c] for r in levels] for c in _PER_LEVEL}
    return row


def _size(true: dict[float, float], over: Sequence[float]) -> float | None:
    weight = dict(zip(true, monitor_rows.log_weights(list(true)), strict=True))
    total = sum(weight[s] for s in over)
    return float(np.sqrt(sum(weight[s] * true[s] for s in over) / total)) if total else None


def _ratio(report: monitor.Report, true: dict[float, float], held: dict[float, float]) -> Row:
    """The warning beside the true ratio, over the same levels."""
    ratio = report.total[monitor_rows.RATIO]
    over = report.total[monitor_rows.VISITED]["levels"]
    top, below = _size(true, over), _size(held, over)
    return {
        "ratio": ratio["error"], "ratio_low": ratio["error_low"],
        "ratio_high": ratio["error_high"], "ratio_status": ratio["status"],
        "true_ratio": top / below if top is not None and below else None,
    }  # fmt: skip
