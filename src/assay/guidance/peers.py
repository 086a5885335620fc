"""How the guidance laws differ: one table of them all on one exact target.

The target, its start and its grid are those of :mod:`assay.guidance.product`. Everything is
measured after the final denoise, except ``off_support``, which is what is off without it:

    class_odds   mean of log p(z|x)/(1 - p(z|x)); null with a reason where infinite
    w1_to_cond   W1 of the class coordinate to p(x|z); sliced_w1: of all d coordinates
    mean, sd     of the class coordinate; nuisance_sd: of the others (1 in the data)
    overshoot    compact classes: max over sigma of E[x/sqrt(1+sigma^2)] - far edge of the class
    nfe          network evaluations a sample, without those that the law does not need

Sliced distances have a floor from sampling the nuisances: the row "conditional" (w = 0) shows it.
Parameters are the laws' defaults; dynamic_thresholding gets the data's own bound (the largest |x|
in the middle 99.9 % of every coordinate), CFG++ the lambda = 1 + w whose guidance scales average
to that of the constant law. ``matched`` gives every law instead the w at which its class odds
equal the constant law's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.optimize import root_scalar

from assay.core import stats
from assay.guidance import laws, product, targets
from assay.guidance.config import Simulation

BASELINE = "conditional"
_DIRECTIONS = 32
_FEW = {"n": 1024}  # while a matching w is looked for
_LARGEST_W = 64.0
_NUMBERS = (
    "class_odds", "w1_to_cond", "sliced_w1", "mean", "sd", "nuisance_sd", "overshoot",
    "off_support", "off_support_denoised",
)  # fmt: skip

Choose = Callable[[float], laws.Law]


def peer_rows(
    target: str | targets.Target,
    d: int,
    w: float = 3.0,
    names: Iterable[str] = laws.NAMES,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    simulation: Simulation | None = None,
    matched: bool = False,
) -> list[dict[str, Any]]:
    """One row for each law, after one for the conditional itself.

    target: the class coordinate, a 1-D target or its name ("gaussians", "uniforms"); d >= 1
    coordinates in all. w: the constant law's. names: of :data:`assay.guidance.laws.NAMES`.
    params: parameters by law, in place of the defaults. simulation: particles, grid, heun or
    euler, seed. matched: choose each law's w by its class odds.

    Numbers that do not exist are None, with the reason in ``undefined`` (the law has no value in
    so few coordinates), ``class_odds_reason``, ``overshoot_reason`` or ``unmatched``.
    ValueError for an unknown target, law or solver, d < 1, or matched odds that are infinite.
    """
    simulation = simulation or Simulation.model_validate({})
    names, params = tuple(names), params or {}
    unused = sorted(set(params) - set(names))
    if unused:
        raise ValueError(f"params for {', '.join(unused)}, which names does not ask for")
    place = product.product(target, d)
    rows = [_row(place, laws.build("constant", 0.0), simulation) | {"law": BASELINE}]
    for name in names:
        choose = functools.partial(_build, place, simulation, name, dict(params.get(name, {})))
        if matched and choose(w).undefined(d) is None:
            rows.append(_matched_row(place, choose, w, simulation))
        else:
            rows.append(_row(place, choose(w), simulation))
    ending = "-matched" if matched else ""
    fixed = {"target": place.target.name, "d": d, "w_constant": w, "matched": matched}
    stem = f"{place.target.name}-d{d}-w{w:g}"
    return [{"key": f"{stem}-{row['law']}{ending}", **fixed, **row} for row in rows]


def _build(
    place: product.Product, simulation: Simulation, name: str, given: dict[str, Any], w: float
) -> laws.Law:
    """The law that stands for the constant law's w on this target and grid."""
    if name == laws.CfgPlusPlus.name:
        grid = product.levels(laws.build("constant", w), simulation)
        return laws.build(name, laws.matched_w(w, grid), **given)
    if name == "dynamic_thresholding":
        given = {"bound": place.bound, **given}
    return laws.build(name, w, **given)


def _row(place: product.Product, law: laws.Law, simulation: Simulation) -> dict[str, Any]:
    """The row of one law."""
    undefined = law.undefined(place.dim)
    own = {k: v for k, v in asdict(law).items() if k not in ("w", "prediction")}
    row = {
        "law": law.name,
        "params": own,
        "prediction": getattr(law, "prediction", "any"),
        "w": law.w,
        "guidance_scale": 1 + law.w,
        "undefined": undefined,
        "note": law.note(place.dim),
    }
    row |= dict.fromkeys(_NUMBERS)
    row |= {"class_odds_reason": undefined, "overshoot_reason": undefined, "unmatched": None}
    if undefined is None:
        row |= _measured(place, product.draw(place, law, simulation), simulation)
    return row | {
        "off_support_name": place.target.off_support_name,
        "nfe": None if undefined else product.evaluations(place, law, simulation),
        "n": simulation.n,
        "seed": simulation.seed,
        "solver": law.name if law.own_step else simulation.solver,
        "steps": simulation.steps,
    }


def _measured(
    place: product.Product, drawn: product.Drawn, simulation: Simulation
) -> dict[str, Any]:
    x, rest = drawn.denoised[:, :1], drawn.denoised[:, 1:]
    cond = _reference(place, len(x), simulation.seed + 1)
    (odds, reason), edge = _odds(place, drawn), place.edge
    rng = np.random.default_rng(simulation.seed)
    sliced = stats.sliced_w1(drawn.denoised, cond, _DIRECTIONS, rng=rng) if place.dim > 1 else None
    return {
        "class_odds": odds,
        "class_odds_reason": reason,
        "w1_to_cond": stats.w1(x[:, 0], cond[:, 0]),
        "sliced_w1": sliced,
        "mean": float(x.mean()),
        "sd": float(x.std()),
        "nuisance_sd": float(np.sqrt(np.mean(rest**2))) if place.dim > 1 else None,
        "overshoot": None if edge is None else drawn.peak - edge,
        "overshoot_reason": "the class is unbounded" if edge is None else None,
        "off_support": float(place.target.off_support(drawn.x[:, :1]).mean()),
        "off_support_denoised": float(place.target.off_support(x).mean()),
    }


def _odds(place: product.Product, drawn: product.Drawn) -> tuple[float | None, str | None]:
    """Mean log odds of the class, or None and why."""
    if place.target.rest is None:
        return None, "the marginal does not contain the class"
    odds = float(np.mean(place.target.log_odds(drawn.denoised[:, :1])))
    return (odds, None) if np.isfinite(odds) else (None, "separable")


def _reference(place: product.Product, n: int, seed: int) -> np.ndarray:
    """p(x|z): mid-quantiles of the class coordinate, independent nuisances."""
    cond = np.random.default_rng(seed).standard_normal((n, place.dim))
    cond[:, 0] = place.class_sample(n)
    return cond


def _matched_row(
    place: product.Product, choose: Choose, w: float, simulation: Simulation
) -> dict[str, Any]:
    """The row at the w with the constant law's odds; the law's row at w itself where none has."""
    few = simulation.model_copy(update=_FEW)

    def odds(law: laws.Law) -> float:
        found, reason = _odds(place, product.draw(place, law, few))
        if found is None:
            raise ValueError(
                f"matched: target {place.target.name!r} has no finite class odds ({reason}); "
                "take gaussians"
            )
        return found

    aim = odds(laws.build("constant", w))
    nominal = _crossing(lambda own: odds(choose(own)) - aim)
    row = _row(place, choose(w if nominal is None else nominal), simulation)
    if nominal is None:
        row["unmatched"] = (
            f"no w in [0, {_LARGEST_W:g}] gives these class odds; shown at w = {w:g}"
        )
    return row


def _crossing(excess: Callable[[float], float]) -> float | None:
    """Smallest bracket's root of excess over doubling weights, None where it never turns."""
    low, below = 0.0, excess(0.0)
    high = 1.0
    while high <= _LARGEST_W:
        above = excess(high)
        if (below <= 0) != (above <= 0):
            found = root_scalar(excess, bracket=(low, high), method="brentq", xtol=1e-4)
            return float(found.root)
        low, below, high = high, above, 2 * high
    return None
