"""The monitor on trial: exact targets, planted errors, and the truth beside every answer.

A class of an exact target is the law; held-out samples are drawn from it; its denoiser gets an
error of a known kind and size; the monitor sees both and no more. The truth of every cell is the
mean of |D - D*|^2 / sigma^2 on the very states that the monitor was asked about: noised held-out
data, and states of trajectories guided by w towards the wrong denoiser, the marginal's exact.
Kinds are those of :mod:`assay.guidance.error_kinds` that have an amount in the denoiser, and

    scaled     eps (1 + a)
    smoothed   the exact denoiser of the law widened by N(0, a^2), its score in place of the law's

each with the size defined there. The bar, over the cells that the monitor says are known: rank
correlation with the truth >= 0.95 and median ratio to it within a factor 1.5 both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy.optimize import brentq

from assay import refusal
from assay.core.guidance import Guided
from assay.guidance import targets
from assay.guidance.error_kinds import ScoreErrors
from assay.guidance.monitoring import monitor
from assay.guidance.monitoring import rows as monitor_rows
from assay.guidance.monitoring import summary as monitor_summary
from assay.runs import Run

PLACES: dict[str, Callable[[], targets.Target]] = {
    "gaussians": lambda: targets.gaussians(1.0, 1.0),
    "uniforms": lambda: targets.uniforms(1.0, 2.0),
    "gaussians-2d": lambda: targets.gaussians([1.0, 0.5], [0.7, 1.0]),
    "uniforms-2d": lambda: targets.uniforms([1.0, 0.5], [2.0, 1.5]),
    "digits-3": lambda: targets.digits(3),
    "digits-4": lambda: targets.digits(4),
}
KINDS = ("bias", "field", "zeroed", "precision", "scaled", "smoothed")
_THIN = 8  # every so many points of the quadrature serve to find a smoothing width
_PER_LEVEL = ("error", "error_low", "error_high", "status", "neighbours", "on_data")

Row = dict[str, Any]


class MonitorStudy(BaseModel):
    """Targets x held-out samples x kinds x sizes x w. ``n`` first: every kind and size; the others
    only ``less_kinds`` and ``less_sizes``. pairs: antithetic noise pairs a datum and level;
    paths: guided trajectories; half as many of both in more than two dimensions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: Literal["guidance.monitor"] = "guidance.monitor"
    targets: tuple[str, ...] = tuple(PLACES)
    n: tuple[int, ...] = (1000, 300, 3000)
    kinds: tuple[str, ...] = KINDS
    sizes: tuple[float, ...] = (0.003, 0.03, 0.1, 0.3)
    less_kinds: tuple[str, ...] = ("bias", "field")
    less_sizes: tuple[float, ...] = (0.1,)
    w: tuple[float, ...] = (0.0, 1.0, 3.0, 7.0)
    seed: int = Field(default=0, ge=0)
    pairs: int = Field(default=2, ge=1)
    paths: int = Field(default=128, ge=8)

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

    @field_validator("sizes", "less_sizes")
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
            if i:
                kinds = tuple(k for k in kinds if k in config.less_kinds)
                sizes = tuple(s for s in sizes if s in config.less_sizes)
            found += [Job(target, n, kind, size) for kind in kinds for size in sizes]
    return found


def finish(run: Run) -> None:
    """Append what the cells amount to, once."""
    for row in monitor_summary.summaries(run.rows):
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
def _place(target: str, n: int, seed: int, pairs: int, paths: int) -> Place:
    errors = _errors(target, seed)
    data = errors.target.cond.sample(n, np.random.default_rng([seed, n, len(target)]))
    if errors.target.dim > 2:
        pairs, paths = max(1, pairs // 2), max(8, paths // 2)
    config = monitor.MonitorConfig(pairs=pairs, paths=paths, substeps=2, seed=seed)
    prepared = monitor.prepare(data, None, config)
    return Place(errors, prepared.keep())


@dataclass(frozen=True, eq=False)
class Wrong:
    """The class's exact denoiser with an error of a kind and amount; x (n, d), sigma a number."""

    errors: ScoreErrors
    kind: str
    amount: float

    def __call__(self, x: np.ndarray, sigma: Any) -> np.ndarray:
        exact = self.errors.target.cond.denoise
        level = np.asarray(sigma, dtype=np.float64).reshape(-1, 1)
        if self.kind == "scaled":
            return x - (1 + self.amount) * (x - exact(x, sigma))
        if self.kind == "smoothed":
            wide = np.hypot(level, self.amount)
            s = wide[:, 0] if len(wide) > 1 else float(wide[0, 0])
            return x + (level / wide) ** 2 * (exact(x, s) - x)
        known = exact(x, sigma)
        return self.errors.change(self.kind, self.amount, x, sigma, known, known)[0]


def amount(errors: ScoreErrors, kind: str, size: float) -> float:
    """The amount of a kind with this size; NaN where none has it."""
    if kind not in ("scaled", "smoothed"):
        return float(errors.amounts(kind, [size])[0])
    at = errors.reference
    if kind == "scaled":
        return size / float(
            np.sqrt(at.weights @ np.sum(((at.x - at.cond) / at.sigma[:, None]) ** 2, axis=1))
        )
    few = slice(None, None, _THIN)
    x, sigma, cond = at.x[few], at.sigma[few], at.cond[few]
    weights = at.weights[few] / at.weights[few].sum()

    def excess(place: float) -> float:
        wrong = Wrong(errors, kind, float(np.exp(place)))(x, sigma)
        square = weights @ (np.sum((wrong - cond) ** 2, axis=1) / sigma**2)
        return 0.5 * float(np.log(max(square, 1e-300))) - np.log(size)

    low, high = np.log(1e-4), np.log(30.0)
    if excess(low) * excess(high) > 0:
        return np.nan
    return float(np.exp(brentq(excess, low, high, xtol=5e-3)))  # pyright: ignore


def rows(job: Job, config: MonitorStudy) -> Iterator[Row]:
    """The row on held-out states, then one for each w; none where the kind has no such size."""
    place = _place(job.target, job.n, config.seed, config.pairs, config.paths)
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
    for w, states, report in zip(config.w, seen, reports[1:], strict=True):
        true = _visited_truth(place, wrong, states)
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


def _visited_truth(place: Place, wrong: Wrong, states: monitor.States) -> dict[float, float]:
    """Truth on the visited states among the held-out data, on all where hardly any are."""
    true = {}
    for at in place.prepared.levels():
        x = states.at[at.sigma]
        crowd = place.prepared.references.raw.crowd(x, at.sigma)
        on = crowd.log_density >= at.least_density
        kept = x[on] if on.sum() > 1 else x
        exact = place.errors.target.cond.denoise(kept, at.sigma)
        true[at.sigma] = _square(wrong(kept, at.sigma), exact, at.sigma)
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
