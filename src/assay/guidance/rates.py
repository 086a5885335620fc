"""How fast guided samples concentrate as w grows: measured, beside what theorems say of it.

For a class with a far edge b (on the side that guidance pushes to) and median map F_w(0):

    layer   P(|b - x| <= delta), with ln of the mass outside
    gap     ln |b - F_w(0)| = -kappa w - ln(w)/2 + const + O(1/w)
    Theorem 1 of the paper: within O(1/sqrt(ln w)) with probability 1 - exp(-Omega(w))

and for two mirrored Gaussians of standard deviation sd

    median  F_w(0) = sd (k sqrt(w) + const + O(1/sqrt(w)))
    beyond  P(x >= c sd sqrt(w)), which tends to 1 only for c < k
    Theorem 2: P(x >= 0) >= 1 - exp(-Omega(w^2)), samples at order sqrt(w)

and for any target the tail law p_guided/p_cond -> P(z)^-w towards the far edge or tail.

The constants. With c = x/sigma = sqrt(w) q, 1/sigma = s/sqrt(w), the flow at large w becomes
dq/ds = f(s q), q(0) = 0, f(t) = D_cond - D_uncond at x = t sigma^2, sigma -> infinity; k is
q(infinity) and kappa = k^2/2, since a path enters the edge with c - b/sigma = k sqrt(w) and
(c - b/sigma)^2/2 + ln(1/sigma) is conserved beyond an edge. Balanced: k = 0.9332947510,
kappa = 0.4355195; on two mirrored classes k depends on P(z) alone (found numerically, to 1e-7).
This derivation is ours, no theorem; :func:`scaling_constant` computes k.

A fit takes only the range of w where the term after the last fitted one is below 1 %, and its
interval is the estimate +- the change that adding one more term makes. The theorems leave their
constants unknown: their columns are shapes, anchored at the first w that is drawn.

Reference: Chidambaram, Gatmiry, Chen, Lee, Lu, "What does guidance do?", arXiv 2409.13074,
theorems 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from assay.core import mixture
from assay.guidance import dynamics, pushforward, tilt
from assay.guidance.targets import Target

W = (1.0, 3.0, 7.0, 15.0, 31.0)
DELTAS = (0.1, 0.01, 0.001)  # of the class's width
BEYOND = (0.5, 0.9, 1.0)  # multiples of sd sqrt(w)
TAIL_U = (2.0, 5.0, 10.0, 20.0, 37.0)
GAP_RANGE, MEDIAN_RANGE = (100.0, 300.0), (1e3, 1e4)
_CURVE_W = np.geomspace(1, 1000, 25)
_TOL = 1e-8  # of the exact maps: seven digits of a gap's logarithm

Row = dict[str, Any]


def scaling_constant(target: Target) -> float:
    """k = q(infinity) of dq/ds = f(s q), q(0) = 0, of a target on the line; see the module."""
    pair = mixture.Together([target.cond, target.uncond])
    v = float(dynamics.direction(target)[0])
    sigma = 1e4

    def gain(t: float) -> float:
        cond, uncond = pair(np.array([[v * t * sigma**2]]), sigma)
        return v * float(cond[0, 0] - uncond[0, 0])

    first = gain(0.0)
    found = solve_ivp(
        lambda s, q: [gain(s * q[0])],
        (0, 100 / first),
        [0.0],
        method="DOP853",
        rtol=1e-10,
        atol=1e-12,
    )
    return float(found.y[0, -1])


def fit_constant(main: np.ndarray, later: np.ndarray, y: np.ndarray) -> Row:
    """Slope of y = slope main + const + coefficient later: "constant", "low", "high", "later".

    All (n,), n >= 4. low, high: the slope +- the change that the later term makes to it; later:
    the largest share of that term in slope * main.
    """
    one = np.ones_like(main)
    short, *_ = np.linalg.lstsq(np.stack([main, one], axis=1), y, rcond=None)
    full, *_ = np.linalg.lstsq(np.stack([main, one, later], axis=1), y, rcond=None)
    change = abs(float(full[0] - short[0]))
    slope = float(full[0])
    part = float(np.max(np.abs(full[2] * later) / np.abs(slope * main)))
    return {"constant": slope, "low": slope - change, "high": slope + change, "later": part}


def rate_rows(
    target: Target, w_values: Sequence[float] = W, fit: bool = True
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Rates of one target on the line at w_values > 0, and what a picture of them needs.

    Every row has key, kind "rate", rate, target, w (None for fits) and guidance_scale; by rate:

    * "layer" (far edge): delta, delta_of ("fixed" or "theorem 1": width/sqrt(ln w)), share,
      log_outside, theorem_log_outside (-w, up to a factor);
    * "gap" (far edge): log_gap and gap of the median;
    * "median", "beyond" (mirrored Gaussians): median, median_over_sqrt_w; c, share, log_missing;
      "origin": log_missing = ln P(x < 0) and log_missing_over_w2;
    * "tail": u, x, ratio = p_guided/p_cond at F_w(u), limit = P(z)^-w (None where undefined);
    * "fit" (textbook targets, if ``fit``): law, constant, low, high, predicted, holds (predicted
      inside), w_low, w_high, n, later (share of the later term), reason where there is no fit.

    Arrays: w (n_w,); far edge: log_gap (n_w,), log_outside (n_w, 3) at DELTAS of the width,
    theorem_gap (n_w,) ~ 1/sqrt(ln w) and theorem_log_outside (n_w,) ~ -w, both anchored at the
    first w > 1; Gaussians: median (n_w,), theorem_median ~ sqrt(w), curve_w (25,), beyond
    (3, 25), limit_c. ValueError in d > 1 or for w that are not finite and > 0.
    """
    w = np.asarray(w_values, dtype=np.float64)
    if w.ndim != 1 or not len(w) or not np.all((w > 0) & (w < np.inf)):
        raise ValueError(f"w {list(w_values)!r} must be one or more finite numbers > 0")
    laws = [pushforward.Pushforward(target, float(one), _TOL) for one in w]
    v = float(dynamics.direction(target)[0])
    if dynamics.far_edge(target) is not None:
        rows, arrays = _edge(target, laws)
    elif target.name == "gaussians":
        rows, arrays = _unbounded(target, laws)
    else:
        u = v * np.array(TAIL_U)
        rows, arrays = [row for law in laws for row in _tail(target, law, law.map(u))], {}
    if fit:
        rows += _fits(target)
    return rows, {"w": w} | arrays


def _row(target: Target, rate: str, w: float | None, label: str, values: Row) -> Row:
    at = "" if w is None else f"/w={w:g}"
    return {
        "key": f"rate/{target.name}/{rate}{at}{label}",
        "kind": "rate",
        "rate": rate,
        "target": target.name,
        "w": w,
        "guidance_scale": None if w is None else 1 + w,
    } | values


def _edge(target: Target, laws: list) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Layers and gaps of a class with a far edge."""
    low, high = (float(end[0]) for end in target.support)
    rows, gaps, outside = [], [], []
    v = float(dynamics.direction(target)[0])
    for law in laws:
        w = law.w
        # One call, for the median and for the places where tails are compared.
        away = law.log_edge_gap(v * np.array([0.0, *TAIL_U]))
        rows += _tail(target, law, law.far_edge - v * np.exp(away[1:]))
        gaps.append(float(away[0]))
        gap = {"log_gap": gaps[-1], "gap": float(np.exp(gaps[-1]))}
        rows.append(_row(target, "gap", w, "", gap))
        deltas = [(f"{d:g}", "fixed", d * (high - low)) for d in DELTAS]
        if w > np.e:
            deltas.append(("theorem", "theorem 1", (high - low) / np.sqrt(np.log(w))))
        at = np.array([delta for _, _, delta in deltas])
        upper = law.far_edge == high
        log_outside = law.logcdf(high - at) if upper else law.logsf(low + at)
        outside.append(log_outside[: len(DELTAS)])
        for (label, name, delta), log_mass in zip(deltas, log_outside, strict=True):
            values = {
                "delta": float(delta),
                "delta_of": name,
                "share": float(-np.expm1(log_mass)),
                "log_outside": float(log_mass) if np.isfinite(log_mass) else None,
                "theorem_log_outside": -w,
            }
            rows.append(_row(target, "layer", w, f"/delta={label}", values))
    w = np.array([law.w for law in laws])
    log_gap, log_outside = np.array(gaps), np.array(outside)
    arrays = {"log_gap": log_gap, "log_outside": log_outside}
    return rows, arrays | _theorem_edge(w, log_gap, log_outside)


def _theorem_edge(
    w: np.ndarray, log_gap: np.ndarray, log_outside: np.ndarray
) -> dict[str, np.ndarray]:
    """Shapes of theorem 1 through the first w > 1; NaN where ln w <= 0."""
    drawn = w > 1
    shape, mass = np.full(len(w), np.nan), np.full(len(w), np.nan)
    if drawn.any():
        first = int(np.argmax(drawn))
        shape[drawn] = np.exp(log_gap[first]) * np.sqrt(np.log(w[first]) / np.log(w[drawn]))
        mass[drawn] = log_outside[first, 0] * w[drawn] / w[first]
    return {"theorem_gap": shape, "theorem_log_outside": mass}


def _unbounded(target: Target, laws: list) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Medians and tails of two mirrored Gaussians, in the class's direction."""
    v, sd = float(dynamics.direction(target)[0]), _sd(target)
    rows, medians = [], []
    for law in laws:
        w = law.w
        medians.append(v * float(law.map(0.0)))
        values = {"median": medians[-1], "median_over_sqrt_w": medians[-1] / float(np.sqrt(w))}
        rows.append(_row(target, "median", w, "", values))
        rows += _tail(target, law, law.map(v * np.array(TAIL_U)))
        missing = _log_below(law, v, np.append(sd * np.sqrt(w) * np.array(BEYOND), 0.0))
        for c, value in zip(BEYOND, missing, strict=False):
            values = {"c": c, "share": float(-np.expm1(value)), "log_missing": float(value)}
            rows.append(_row(target, "beyond", w, f"/c={c:g}", values))
        origin = float(missing[-1])
        values = {"log_missing": origin, "log_missing_over_w2": origin / w**2}
        rows.append(_row(target, "origin", w, "", values))
    w, median = np.array([law.w for law in laws]), np.array(medians)
    curve = [pushforward.Pushforward(target, float(one), _TOL) for one in _CURVE_W]
    beyond = [
        -np.expm1(_log_below(law, v, sd * np.sqrt(law.w) * np.array(BEYOND))) for law in curve
    ]
    return rows, {
        "median": median,
        "theorem_median": median[0] * np.sqrt(w / w[0]),
        "curve_w": _CURVE_W,
        "beyond": np.array(beyond).T,
        "limit_c": np.array(scaling_constant(target)),
    }


def _log_below(law: Any, v: float, x: np.ndarray) -> np.ndarray:
    """ln P(v X < x)."""
    return law.logcdf(x) if v > 0 else law.logsf(-x)


def _sd(target: Target) -> float:
    """Standard deviation of a class that is one Gaussian."""
    return float(np.sqrt(target.cond.components[0].cov[0, 0]))  # pyright: ignore


def _tail(target: Target, law: Any, x: np.ndarray) -> list[Row]:
    """Density ratios along x = F_w(u) towards the far end."""
    if target.prior is None:
        return []
    u = np.array(TAIL_U) * float(dynamics.direction(target)[0])
    low, high = law.support
    inside = (x > low) & (x < high)  # else x has rounded to the edge
    log_ratio = np.full(len(x), np.nan)
    cond = tilt.conditional(target)
    log_ratio[inside] = law.logpdf(x[inside]) - cond.logpdf(x[inside])
    with np.errstate(over="ignore"):
        limit, ratio = np.exp(-law.w * np.log(target.prior)), np.exp(log_ratio)
    rows = []
    for one, at, value in zip(u.tolist(), x.tolist(), ratio, strict=True):
        values = {"u": one, "x": at, "ratio": _finite(value), "limit": _finite(limit)}
        rows.append(_row(target, "tail", law.w, f"/u={one:g}", values))
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _fits(target: Target) -> list[Row]:
    """The constant that the target's large-w law has, fitted in its range, and predicted."""
    if target.name == "uniforms":
        w = np.linspace(*GAP_RANGE, 5)
        log_gap = [pushforward.Pushforward(target, one, _TOL).log_edge_gap(0.0) for one in w]
        fitted = fit_constant(-w, 1 / w, np.array(log_gap) + np.log(w) / 2)
        law, predicted = "ln(gap) + ln(w)/2 = -constant w", scaling_constant(target) ** 2 / 2
    elif target.name == "gaussians":
        w, v = np.geomspace(*MEDIAN_RANGE, 9), float(dynamics.direction(target)[0])
        median = [pushforward.Pushforward(target, one, _TOL).map(0.0) for one in w]
        fitted = fit_constant(np.sqrt(w), 1 / np.sqrt(w), v * np.array(median) / _sd(target))
        law, predicted = "median = constant sd sqrt(w)", scaling_constant(target)
    else:
        return []
    values = {
        "law": law,
        **fitted,
        "predicted": predicted,
        "holds": bool(fitted["low"] <= predicted <= fitted["high"]),
        "w_low": float(w[0]),
        "w_high": float(w[-1]),
        "n": len(w),
        "reason": None,
    }
    if fitted["later"] >= 0.01:
        values |= dict.fromkeys(("constant", "low", "high", "holds"))
        values["reason"] = f"the later term is {fitted['later']:.1%}, not below 1 %, in this range"
    return [_row(target, "fit", None, "", values)]
