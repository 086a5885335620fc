"""What a wrong score does: off-support maps over (w, size), amplification, and the start's bias.

Every map is measured in four ways, so that an artefact is never blamed on the score: with and
without the final denoise D~_w(x, sigma_min), from sigma_max u ("plain") and from the start that
the flow from infinite noise would have reached ("unbiased", core.guidance.unbiased_start). The
kinds of error and their size are defined in :mod:`assay.guidance.error_kinds`; on the line
everything comes from threshold values of u (:mod:`assay.guidance.error_exact`), in more
dimensions from samples of Heun's method with Wilson intervals.

Amplification A(w) = limit of E|displacement of x|/size as size -> 0, of x at sigma_min, for the
kinds that are linear in their size (bias, field); the others have no such limit.

Reference: Chidambaram, Gatmiry, Chen, Lee, Lu, "What does guidance do?", arXiv 2409.13074,
theorem 3 (any L2 score error, large w: off the support with probability 1 - exp(-Omega(w))); its
construction is not used here, the kinds are this package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from assay.core import intervals, noise, solver
from assay.guidance import error_exact as exactly
from assay.guidance import paths as routes
from assay.guidance.error_kinds import AMOUNTS, KINDS, ScoreErrors
from assay.guidance.paths import WINDOW
from assay.guidance.targets import Target

SIZES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
W = (0.0, 1.0, 3.0, 7.0, 15.0, 31.0)
STEPS = 64  # of Heun's method in d > 1
COLUMNS = (
    ("off_support", "unbiased", False),
    ("off_support_denoised", "unbiased", True),
    ("off_support_plain_start", "plain", False),
    ("off_support_denoised_plain_start", "plain", True),
)
_SMALL = 1e-4  # size at which displacements are still linear in it

Row = dict[str, Any]


def error_rows(
    target: Target,
    w_values: Sequence[float] = W,
    sizes: Sequence[float] = SIZES,
    kinds: Sequence[str] = KINDS,
    which: str = "uncond",
    seed: int = 0,
    n: int = 512,
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """One row for each (kind, w, size), and the maps a picture needs.

    which: the denoiser that "bias" and "field" perturb, "cond" or "uncond"; seed: of the random
    field and, in d > 1, of the n paths. Row: key, kind "error", error, target, dim, w,
    guidance_scale, size, amount, amount_name, perturbed, seed, method, n (None where exact),
    sigma_min, sigma_max, off_support_name, reason (of a size that the kind cannot have, else
    None), the probabilities off_support and off_support_denoised from the unbiased start and both
    with _plain_start, each with _low and _high (Wilson 95 %, None where exact), u_low and u_high
    (the interval of u that stays on the support, without denoising, None where it has no end),
    and increasing (whether u -> x was found to increase; None in d > 1).

    Arrays: w (n_w,), size (n_size,) and, for each kind, map_<kind> (4, n_w, n_size): off_support,
    off_support_denoised, off_support_plain_start, off_support_denoised_plain_start; NaN where
    the row has a reason. ValueError for an unknown kind, and w or sizes that are not numbers.
    """
    if not len(w_values) or not np.all(np.isfinite(w_values)):
        raise ValueError(f"w {list(w_values)!r} must be one or more finite numbers")
    errors = ScoreErrors(target, which, seed)
    rows: list[Row] = []
    arrays = {"w": np.asarray(w_values, float), "size": np.asarray(sizes, float)}
    for kind in kinds:
        amounts = errors.amounts(kind, sizes)
        w, amount = (a.ravel() for a in np.meshgrid(arrays["w"], amounts, indexing="ij"))
        held = np.isfinite(amount)
        cells = exactly.Cells(errors, kind, w[held], amount[held])
        measured = iter(_measure(cells, n, seed))
        block = [
            _identity(errors, kind, float(w[i]), float(sizes[i % len(sizes)]), amount[i])
            | (next(measured) if held[i] else _nothing(kind))
            for i in range(len(w))
        ]
        rows += block
        arrays[f"map_{kind}"] = np.array(
            [[np.nan if r[c] is None else r[c] for r in block] for c, _, _ in COLUMNS]
        ).reshape(len(COLUMNS), len(w_values), len(sizes))
    return rows, arrays


def _identity(errors: ScoreErrors, kind: str, w: float, size: float, amount: float) -> Row:
    target = errors.target
    return {
        "key": f"error/{target.name}/{kind}/w={w:g}/size={size:g}",
        "kind": "error",
        "error": kind,
        "target": target.name,
        "dim": target.dim,
        "w": w,
        "guidance_scale": 1 + w,
        "size": size,
        "amount": float(amount) if np.isfinite(amount) else None,
        "amount_name": AMOUNTS[kind],
        "perturbed": errors.perturbs(kind),
        "seed": errors.seed,
        "sigma_min": WINDOW[0],
        "sigma_max": WINDOW[1],
        "off_support_name": target.off_support_name,
        "reason": None,
    }


def _nothing(kind: str) -> Row:
    row: Row = {"reason": f"no amount of {kind!r} has this size", "method": None, "n": None}
    for column, _, _ in COLUMNS:
        row |= dict.fromkeys((column, f"{column}_low", f"{column}_high"))
    return row | dict.fromkeys(("u_low", "u_high", "increasing"))


def _measure(cells: exactly.Cells, n: int, seed: int) -> list[Row]:
    """The measured part of each cell's row."""
    if not len(cells.w):
        return []
    if cells.errors.target.dim > 1:
        return [_sampled(cells, i, n, seed) for i in range(len(cells.w))]
    found = exactly.off_support(cells)
    steps = f"heun, {exactly.STEPS} steps, by u" if cells.kind == "precision" else "threshold u"
    plain = found["unbiased", False]
    rows = []
    for i in range(len(cells.w)):
        row: Row = {"method": steps, "n": None}
        for column, start, denoise in COLUMNS:
            row[column] = float(found[start, denoise].probability[i])
            row |= {f"{column}_low": None, f"{column}_high": None}
        row["u_low"], row["u_high"] = (_number(a[i]) for a in (plain.low, plain.high))
        row["increasing"] = all(bool(f.increasing[i]) for f in found.values())
        rows.append(row)
    return rows


def _sampled(cells: exactly.Cells, i: int, n: int, seed: int) -> Row:
    """One cell by n sampled paths from each start."""
    target = cells.errors.target
    u = np.random.default_rng(seed).standard_normal((n, target.dim))
    denoiser = cells.denoiser(np.full(n, i))
    end, top = float(cells.sigma_end[i]), WINDOW[1]
    sigmas = noise.karras(STEPS, end, top, zero=False)
    row: Row = {"method": f"heun, {STEPS} steps, sampled", "n": n}
    off = {}
    for start in exactly.STARTS:
        x = top * u
        if start == "unbiased":
            x = x + denoiser(x / 2, top)
        x = solver.last(solver.solve(denoiser, x, sigmas)).x
        off[start, False] = target.off_support(x)
        off[start, True] = target.off_support(denoiser(x, end))
    for column, start, denoise in COLUMNS:
        count = int(off[start, denoise].sum())
        low, high = intervals.wilson(count, n)
        row |= {column: count / n, f"{column}_low": low, f"{column}_high": high}
    return row | dict.fromkeys(("u_low", "u_high", "increasing"))


def amplification(
    target: Target,
    w_values: Sequence[float],
    kind: str = "bias",
    which: str = "uncond",
    seed: int = 0,
    n: int = 256,
) -> list[Row]:
    """A(w): mean displacement of x at sigma_min by unit of size, as the size goes to 0.

    kind: "bias" or "field". Central differences of the unbiased flow at sizes +-1e-4: on the line
    exact, a quadrature over u; in d > 1 n paths of Heun's method. Row: key, kind
    "amplification", error, target, dim, w, guidance_scale, perturbed, seed, method, n,
    amplification, amplification_denoised (of the final denoise D~_w), amplification_se (None
    where exact), sigma_min, sigma_max. ValueError for a kind that is not linear in its size.
    """
    if kind not in ("bias", "field"):
        raise ValueError(f"error {kind!r} is not linear in its size; give 'bias' or 'field'")
    errors = ScoreErrors(target, which, seed)
    step = float(errors.amounts(kind, [_SMALL])[0])
    exact = target.dim == 1
    each = np.repeat(np.asarray(w_values, dtype=np.float64), 2)
    cells = exactly.Cells(errors, kind, each, np.tile([step, -step], len(w_values)))
    rows = []
    for w, found in zip(w_values, (_exact if exact else _paths)(cells, seed, n), strict=True):
        rows.append(
            {
                "key": f"amplification/{target.name}/{kind}/w={float(w):g}",
                "kind": "amplification",
                "error": kind,
                "target": target.name,
                "dim": target.dim,
                "w": float(w),
                "guidance_scale": 1 + float(w),
                "perturbed": errors.perturbs(kind),
                "seed": seed,
                "method": "exact flow, quadrature" if exact else f"heun, {STEPS} steps, sampled",
                "n": None if exact else n,
                "sigma_min": WINDOW[0],
                "sigma_max": WINDOW[1],
            }
            | dict(zip(_AMPLIFICATION, found, strict=True))
        )
    return rows


_AMPLIFICATION = ("amplification", "amplification_denoised", "amplification_se")


def _exact(cells: exactly.Cells, seed: int, n: int) -> list[tuple[float, float, None]]:
    """Amplification (without, with final denoise, no standard error) for each pair of cells."""
    u, m = routes.NODES, len(cells.w)
    cell = np.repeat(np.arange(m), len(u))
    denoiser, (end, top) = cells.denoiser(cell), WINDOW
    c = np.tile(u, m)
    c = c + denoiser(top * c[:, None] / 2, top)[:, 0] / top
    x = exactly.carry(cells, c, cell, True)
    fine = np.linspace(u[0], u[-1], 10 * len(u) - 9)
    weights = np.exp(-(fine**2) / 2)
    found = []
    for value in (x, denoiser(x[:, None], end)[:, 0]):
        plus, minus = value.reshape(-1, 2, len(u)).transpose(1, 0, 2)
        moved = CubicSpline(u, (plus - minus) / (2 * _SMALL), axis=1)(fine)
        found.append(np.abs(moved) @ weights / weights.sum())
    return [(float(a), float(b), None) for a, b in zip(*found, strict=True)]


def _paths(cells: exactly.Cells, seed: int, n: int) -> list[tuple[float, float, float]]:
    """The same by n paths for each pair of cells, from the same noise, with a standard error."""
    u = np.random.default_rng(seed).standard_normal((n, cells.errors.target.dim))
    sigmas = noise.karras(STEPS, *WINDOW, zero=False)
    ends = []
    for i in range(len(cells.w)):
        denoiser = cells.denoiser(np.full(n, i))
        x = WINDOW[1] * u
        x = solver.last(solver.solve(denoiser, x + denoiser(x / 2, WINDOW[1]), sigmas)).x
        ends.append((x, denoiser(x, WINDOW[0])))
    found = []
    for plus, minus in zip(ends[::2], ends[1::2], strict=True):
        moved = [
            np.linalg.norm(a - b, axis=1) / (2 * _SMALL) for a, b in zip(plus, minus, strict=True)
        ]
        spread = float(moved[0].std(ddof=1) / np.sqrt(n))
        found.append((float(moved[0].mean()), float(moved[1].mean()), spread))
    return found


def start_rows(
    target: Target, w_values: Sequence[float], sigma_max: Sequence[float] = (10.0, 80.0)
) -> list[Row]:
    """What a start at finite sigma_max does to exact samples on the line, by kind of start.

    "plain": sigma_max u; "means": with (1+w) E[x|z] - w E[x] added; "unbiased": core.guidance's,
    with the guided denoiser at half the noise added. Row: key, kind "start", target, w,
    guidance_scale, sigma_max, sigma_min, and w1_<start> = E|x - x_exact| (= W1, both maps
    increase) and median_<start> (displacement of the median) for each. ValueError in d > 1.
    """
    routes.line(target)
    errors = ScoreErrors(target)
    u, weights = routes.NODES[::2], routes.NODE_WEIGHTS[::2] / routes.NODE_WEIGHTS[::2].sum()
    exact = routes.exact(target, w_values, u, np.array([WINDOW[0]]))[0]
    rows = []
    for top in sigma_max:
        at = _from_starts(errors, np.asarray(w_values, dtype=np.float64), u, float(top))
        for i, w in enumerate(w_values):
            row: Row = {
                "key": f"start/{target.name}/w={float(w):g}/sigma_max={float(top):g}",
                "kind": "start",
                "target": target.name,
                "w": float(w),
                "guidance_scale": 1 + float(w),
                "sigma_max": float(top),
                "sigma_min": WINDOW[0],
            }
            for start, x in at.items():
                apart = x[i] - exact[i]
                row[f"w1_{start}"] = float(np.abs(apart) @ weights)
                row[f"median_{start}"] = float(apart[len(u) // 2])
            rows.append(row)
    return rows


def _from_starts(
    errors: ScoreErrors, w: np.ndarray, u: np.ndarray, top: float
) -> dict[str, np.ndarray]:
    """x (n_w, n_u) at sigma_min from each kind of start at sigma_max = top."""
    weight = np.repeat(w, len(u))[:, None]
    denoiser = routes.guided(errors.pair, weight)
    noisy = np.tile(u, len(w))[:, None]
    cond, uncond = errors.pair(np.zeros((1, 1)), 1e8)
    c = {
        "plain": noisy,
        "means": noisy + (cond + weight * (cond - uncond)) / top,
        "unbiased": noisy + denoiser(top * noisy / 2, top) / top,
    }
    every = routes.guided(errors.pair, np.tile(weight, (len(c), 1)))
    r = np.array([1 / top, 1 / WINDOW[0]])
    last = routes.integrate(
        lambda c, r: every(c[:, None] / r, 1 / r)[:, 0], np.concatenate(list(c.values()))[:, 0], r
    )[-1]
    x = (last * WINDOW[0]).reshape(len(c), len(w), len(u))
    return dict(zip(c, x, strict=True))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
