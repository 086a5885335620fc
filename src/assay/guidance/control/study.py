"""Guidance laws at equal class odds: what each pays in distance for what it buys.

For each reporting target with a planted error ``choose`` finds the constant law's w under the
stated criterion. Every law then gets the w at which its samples' class odds equal the constant
law's at that w, on the same noise, grid and solver, and is measured after the final denoise:

    w1         distance to p(x|z): W1 on the line, sliced W1 over 32 directions else
    gain       class odds less those of w = 0
    off_support, off_support_denoised   without and with the final denoise
    ratio      w1 over the constant law's, seed by seed

Means and intervals (Student's t, 95 %) are over seeds: of the noise and of the planted field.
Lengths in a law are in units of the class's standard deviation. Parameters of "thrifty" and of
"interval" are chosen on the tuning targets alone: least geometric mean of ratio at equal odds
among those that leave no more samples off the support; all other laws keep their defaults.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from assay.core import intervals
from assay.guidance import laws
from assay.guidance.choosing import choose as choosing
from assay.guidance.control.config import BASELINE, OURS, PEER, PLAIN, ControlConfig
from assay.guidance.control.match import Case, Measured, cases, matched
from assay.runs import Run

GRIDS: dict[str, tuple[dict[str, float], ...]] = {
    OURS: tuple(
        {"threshold": k, "limit": limit}
        for k, limit in itertools.product((1.0, 2.0, 4.0), (2.0, 4.0, 8.0))
    ),
    PEER: tuple(
        {"low": low, "high": high}
        for low, high in ((0.05, 0.5), (0.1, 1.0), (0.2, 0.7), (0.3, 3.0))
    ),
}
_SLACK = 0.002  # share of samples within which a law is no worse off the support
_LEAST_GAIN = 0.01  # nats, below which the constant law buys nothing to compare

Row = dict[str, Any]


class Job(NamedTuple):
    """A row to be made."""

    key: str
    make: Callable[[Run], Row]


def jobs(asked: ControlConfig) -> list[Job]:
    """Every row in the order in which they need each other."""
    on = functools.cache(lambda: list(cases(asked.tuning, asked.tuning_errors, asked)))
    found = [
        Job(f"tune/{name}/{i}", _bind(_tune, on, name, params))
        for name in _tuned_laws(asked)
        for i, params in enumerate(GRIDS[name])
    ]
    every = list(cases(asked.reporting, asked.errors, asked))
    main = [PLAIN, BASELINE, *(name for name in (PEER, OURS) if name in asked.laws)]
    more = [name for name in asked.laws if name not in main]
    told = [case for case in every if case.error == asked.peers_error]
    for case in every:
        found.append(Job(f"choice/{case.name}", _bind(_choice, case)))
        found += _law_jobs(case, main)
    for case in told:
        found += _law_jobs(case, more)
    for case in told:
        names = [name for name in (*main, *more) if name != PLAIN]
        found += [Job(f"front/{case.name}/{n}", _bind(_front, case, n)) for n in names]
    laws_of = [name for name in asked.laws if name != BASELINE]
    return found + [Job(f"summary/{name}", _bind(_summary, name)) for name in laws_of]


def _law_jobs(case: Case, names: Sequence[str]) -> list[Job]:
    return [Job(f"law/{case.name}/{name}", _bind(_law_row, case, name)) for name in names]


def write(run: Run, job: Job) -> Row:
    """The row of a job, made where it is not there yet."""
    return run.compute(job.key, lambda: (job.make(run), {}))


def _bind(make: Callable[..., Row], *args: Any) -> Callable[[Run], Row]:
    return lambda run: make(run, *args)


# ---- tuning ------------------------------------------------------------------------------------


def _tuned_laws(asked: ControlConfig) -> list[str]:
    return [name for name in (OURS, PEER) if name in asked.laws]


def _tune(run: Run, on: Callable[[], list[Case]], name: str, params: Mapping[str, float]) -> Row:
    """One choice of parameters on every tuning target, at the odds of the constant law's w."""
    asked, logs, worse, unmatched = on()[0].asked, [], [], 0
    seed = asked.seeds[0]
    for case in on():
        plain = case.measure(case.law(BASELINE, 0.0, {}), seed)
        for w in asked.tuning_weights:
            base = case.measure(case.law(BASELINE, w, {}), seed)
            own, held = _matched(case, name, params, (plain, base), seed)
            unmatched += not held
            logs.append(np.log(own.w1 / base.w1))
            worse.append(own.off_denoised - base.off_denoised)
    return {
        "stage": "tune",
        "law": name,
        "params": dict(params),
        "ratio": float(np.exp(np.mean(logs))),
        "off_excess": float(np.max(worse)),
        "unmatched": unmatched,
        "comparisons": len(logs),
        "n": asked.n,
        "seed": seed,
    }


def tuned(rows: Sequence[Row], name: str) -> dict[str, float]:
    """The parameters that tuning chose for a law; its defaults where it is not tuned.

    Most comparisons matched first, then no more off the support, then the least ratio.
    """
    tried = [row for row in rows if row.get("stage") == "tune" and row["law"] == name]
    if not tried:
        return {}

    def order(row: Row) -> tuple[float, ...]:
        return row["unmatched"], row["off_excess"] > _SLACK, row["ratio"]

    return dict(min(tried, key=order)["params"])


# ---- the constant law's w ----------------------------------------------------------------------


def _choice(run: Run, case: Case) -> Row:
    """What ``choose`` says of the target with its planted error."""
    asked, planted = case.asked, case.planted(case.asked.seeds[0])
    settings = choosing.Settings(
        cap=asked.cap, simulation=asked.simulation(asked.seeds[0]), coarse_steps=None
    )
    shape = case.ground.reference[: 1 << 10]
    found = choosing.choose(
        planted.cond, planted.uncond, asked.criterion, shape, case.ground.inside, None, settings
    )
    return _identity(case, BASELINE, found.w) | {
        "stage": "choice",
        "criterion": found.criterion.text,
        "verdict": found.verdict,
        "reason": found.reason,
        "nfe": found.nfe,
        "cap": asked.cap,
        "seed": asked.seeds[0],
    }


def _identity(case: Case, name: str, w: float | None) -> Row:
    return {
        "target": case.place.name,
        "dim": case.ground.dim,
        "error": case.error.label,
        "error_kind": case.error.kind if case.error.size else None,
        "error_of": case.error.which if case.error.size else None,
        "error_size": case.error.size,
        "law": name,
        "w": w,
        "guidance_scale": None if w is None else 1 + w,
    }


# ---- laws at equal odds ------------------------------------------------------------------------


def _matched(
    case: Case,
    name: str,
    params: Mapping[str, float],
    ends: tuple[Measured, Measured],
    seed: int,
    guess: float | None = None,
) -> tuple[Measured, bool]:
    """The law where its odds are those of the constant law, ends = (w = 0, its w)."""
    plain, base = ends
    tolerance = case.asked.tolerance * abs(base.odds - plain.odds)
    return matched(
        lambda w: case.measure(case.law(name, w, params), seed, w),
        base.odds,
        tolerance,
        guess or base.w,
    )


def _law_row(run: Run, case: Case, name: str) -> Row:
    """One law on one target with its error, at the constant law's class odds, over seeds."""
    chosen = _row(run, f"choice/{case.name}")
    params = tuned(run.rows, name) if name in GRIDS else {}
    row = _identity(case, name, None) | {"stage": "law", "params": params, "reason": None}
    reason = _no_comparison(run, case, name, chosen["w"])
    if reason:
        return row | _settings(case) | {"reason": reason}
    found = _over_seeds(run, case, name, params, chosen["w"])
    last, held = found[-1]
    if not held:
        return row | _settings(case) | _closest(run, case, last, len(found) - 1)
    seen = [measured for measured, _ in found]
    w = float(np.mean([m.w for m in seen]))
    row |= {"w": w, "guidance_scale": 1 + w, "matched": True} | _settings(case)
    return row | _columns(case, seen, _by_seed(run, case, BASELINE), _by_seed(run, case, PLAIN))


def _closest(run: Run, case: Case, seen: Measured, i: int) -> Row:
    """What a law comes to on the first seed on which no w gives the odds; no ratio."""
    gain = seen.odds - _by_seed(run, case, PLAIN)["odds"][i]
    return {
        "w": seen.w,
        "guidance_scale": 1 + seen.w,
        "matched": False,
        "reason": f"no w found gives these class odds on seed {case.asked.seeds[i]}; the closest",
        "seeds": [case.asked.seeds[i]],
        "class_odds": seen.odds,
        "gain": gain,
        "w1": seen.w1,
        "off_support": seen.off,
        "off_support_denoised": seen.off_denoised,
        "nfe": seen.nfe,
    }


def _no_comparison(run: Run, case: Case, name: str, w: float) -> str | None:
    """Why a law has no row of numbers on this case; None where it has one."""
    if name == PLAIN:
        return None
    if w == 0:
        return "choose returned w = 0: there is no guidance to match"
    undefined = laws.build(name, 1.0).undefined(case.ground.dim)
    if undefined or name == BASELINE:
        return undefined
    base = _by_seed(run, case, BASELINE)["odds"]
    gains = np.subtract(base, _by_seed(run, case, PLAIN)["odds"])
    if np.min(gains) < _LEAST_GAIN:
        return "the constant law buys no class odds here on some seed"
    return None


def _over_seeds(
    run: Run, case: Case, name: str, params: Mapping[str, float], w: float
) -> list[tuple[Measured, bool]]:
    """The law on each seed, up to the first on which its odds are not matched.

    At w = 0, at w, or where its odds match: the w of the seed before is tried first.
    """
    if name in (PLAIN, BASELINE):
        law = case.law(BASELINE, 0.0 if name == PLAIN else w, {})
        return [(case.measure(law, seed), True) for seed in case.asked.seeds]
    plain, base = _by_seed(run, case, PLAIN), _by_seed(run, case, BASELINE)
    found, guess = [], None
    for i, seed in enumerate(case.asked.seeds):
        ends = tuple(
            Measured(row["w"], row["odds"][i], row["w1"][i], 0.0, 0.0, 0) for row in (plain, base)
        )
        own, held = _matched(case, name, params, (ends[0], ends[1]), seed, guess)
        found.append((own, held))
        if not held:
            break
        guess = own.w
    return found


def _row(run: Run, key: str) -> Row:
    return next(row for row in run.rows if row["key"] == key)


def _by_seed(run: Run, case: Case, name: str) -> dict[str, Any]:
    """w and the lists over seeds of a law's row; empty lists where it is not there yet."""
    row = next((r for r in run.rows if r["key"] == f"law/{case.name}/{name}"), {})
    return {
        "w": row.get("w"),
        "odds": row.get("class_odds_by_seed", []),
        "w1": row.get("w1_by_seed", []),
    }


def _settings(case: Case) -> Row:
    asked = case.asked
    return {
        "n": asked.n,
        "seeds": list(asked.seeds),
        "steps": asked.steps,
        "off_support_name": case.ground.target.off_support_name,
        "odds_sigma": case.ground.odds_sigma,
        "distance": "w1" if case.ground.dim == 1 else "sliced w1",
    }


def _columns(
    case: Case, seen: Sequence[Measured], base: dict[str, Any], plain: dict[str, Any]
) -> Row:
    """Means and intervals over seeds, beside what each seed gave."""
    odds, w1 = [m.odds for m in seen], [m.w1 for m in seen]
    row: Row = {"nfe": seen[0].nfe, "class_odds_by_seed": odds, "w1_by_seed": w1}
    row |= _mean("class_odds", odds) | _mean("w1", w1)
    row |= _mean("gain", np.subtract(odds, plain["odds"] or odds))
    if plain["odds"]:
        logs = np.log(w1) - np.log(base["w1"] or w1)
        row |= {k: float(np.exp(v)) for k, v in _mean("ratio", logs).items()}
    n = case.asked.n * len(seen)
    for name, values in (
        ("off_support", [m.off for m in seen]),
        ("off_support_denoised", [m.off_denoised for m in seen]),
    ):
        count = round(float(np.mean(values)) * n)
        low, high = intervals.wilson(count, n)
        row |= {name: count / n, f"{name}_low": low, f"{name}_high": high}
    return row


def _mean(name: str, values: Any) -> Row:
    """Mean over seeds with Student's 95 % interval."""
    values = np.asarray(values, dtype=np.float64)
    spread = values.std(ddof=1) / np.sqrt(len(values)) * stats.t.ppf(0.975, len(values) - 1)
    mean = float(values.mean())
    return {name: mean, f"{name}_low": mean - float(spread), f"{name}_high": mean + float(spread)}


# ---- fronts and summary ------------------------------------------------------------------------


def _front(run: Run, case: Case, name: str) -> Row:
    """Odds, distance and off-support along multiples of the law's matched w, on one seed."""
    own = _row(run, f"law/{case.name}/{name}")
    row = _identity(case, name, own["w"]) | {"stage": "front", "reason": own["reason"]}
    centre = own["w"]
    if centre is None:
        return row
    seed, weights = case.asked.seeds[0], [centre * f for f in case.asked.front]
    seen = [case.measure(case.law(name, w, own["params"]), seed, w) for w in weights]
    return row | {
        "reason": None,
        "n": case.asked.n,
        "seed": seed,
        "nfe": seen[0].nfe,
        "weights": weights,
        "class_odds": [m.odds for m in seen],
        "w1": [m.w1 for m in seen],
        "off_support": [m.off for m in seen],
        "off_support_denoised": [m.off_denoised for m in seen],
    }


def _summary(run: Run, name: str) -> Row:
    """A law over every case in which it could be compared."""
    rows = [row for row in run.rows if row.get("stage") == "law" and row["law"] == name]
    held = [row for row in rows if row.get("matched")]
    base = {(r["target"], r["error"]): r for r in run.rows if _is_base(r)}
    worse = [_worse(row, base[row["target"], row["error"]]) for row in held]
    logs = np.log([row["ratio"] for row in held])
    return {
        "stage": "summary",
        "law": name,
        "params": tuned(run.rows, name) if name in GRIDS else {},
        "cases": len(rows),
        "matched": len(held),
        "ratio": float(np.exp(logs.mean())) if held else None,
        "ratio_least": float(np.exp(logs.min())) if held else None,
        "ratio_most": float(np.exp(logs.max())) if held else None,
        "halved": sum(row["ratio"] <= 0.5 for row in held),
        "worse_off_support": sum(before for before, _ in worse),
        "worse_off_support_denoised": sum(after for _, after in worse),
    }


def _is_base(row: Row) -> bool:
    return row.get("stage") == "law" and row["law"] == BASELINE and row.get("w1") is not None


def _worse(row: Row, base: Row) -> tuple[bool, bool]:
    """Whether more samples are off than under the constant law, without and with denoise."""
    before, after = (
        row[name] - base[name] > _SLACK for name in ("off_support", "off_support_denoised")
    )
    return before, after
