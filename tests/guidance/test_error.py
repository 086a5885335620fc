"""Score errors: sizes by definition, thresholds against walked paths, known probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special as sp
from scipy.integrate import quad

from assay.core import components, intervals, noise, solver
from assay.guidance import error, error_exact, paths, targets
from assay.guidance.error_kinds import KINDS, Pair, ScoreErrors, _rounded

U12 = targets.uniforms(1.0, 2.0)
GMM = targets.gaussians(1.0, 1.0)
W = np.array([1.0, 3.0, 7.0, 15.0, 31.0])
SPAN = np.log(80 / 0.002)


@pytest.fixture(scope="module")
def boxes():
    return ScoreErrors(U12)


@pytest.fixture(scope="module")
def gauss():
    return ScoreErrors(GMM)


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["cond", "uncond"])
def test_size_of_a_bias_is_its_closed_form(which):
    # The mean over ln sigma of a^2 / sigma^2.
    want = 0.3 * np.sqrt((0.002**-2 - 80.0**-2) / 2 / SPAN)
    assert ScoreErrors(GMM, which).size("bias", 0.3) == pytest.approx(want, rel=2e-5)


def test_size_of_a_score_left_out_is_its_closed_form(gauss):
    # Of N(1, 1): E[sigma^2 score^2] = sigma^2 / (1 + sigma^2).
    for last in (0.01, 0.3, 5.0):
        square = np.log((1 + last**2) / (1 + 0.002**2)) / 2 / SPAN
        assert gauss.size("stop", last) == pytest.approx(np.sqrt(square), rel=5e-4)


def test_size_of_zeroed_scores_is_its_closed_form():
    # One Gaussian against itself shifted far away: both scores beyond b + k sigma, b the HDR end.
    errors = ScoreErrors(GMM)
    k = 2.0

    def square(s: float) -> float:
        sigma, spread = np.exp(s), np.sqrt(1 + np.exp(2 * s))
        z = (errors.edge - 1 + k * sigma) / spread
        tail = z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi) + sp.ndtr(-z)
        return sigma**2 / spread**2 * tail

    mean = quad(square, np.log(0.002), np.log(80))[0] / SPAN
    # So far on the class's side the marginal's score differs little from the class's.
    assert errors.size("zeroed", k) == pytest.approx(np.sqrt(mean), rel=0.01)


def test_edge_of_an_unbounded_class_is_the_end_of_its_region(gauss, boxes):
    assert gauss.edge == pytest.approx(1 + sp.ndtri(0.9995), abs=1e-9)
    assert boxes.edge == 2.0
    plane = ScoreErrors(targets.gaussians([1.0, 0.0]))
    assert plane.edge == pytest.approx(1 + sp.ndtri(0.9995), abs=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_amounts_have_the_sizes_asked_for(boxes, kind):
    sizes = [0.003, 0.03]
    amounts = boxes.amounts(kind, sizes)
    for size, amount in zip(sizes, amounts, strict=True):
        assert boxes.size(kind, float(amount)) == pytest.approx(size, rel=5e-3)


def test_size_of_a_field_against_a_sample(boxes):
    amount = float(boxes.amounts("field", [0.05])[0])
    rng = np.random.default_rng(5)
    sigma = np.exp(rng.uniform(np.log(0.002), np.log(80), 40_000))
    x = U12.cond.sample(len(sigma), rng) + sigma[:, None] * rng.standard_normal((len(sigma), 1))
    square = (amount * boxes.field(x, sigma)[:, 0]) ** 2
    # Four standard errors: fails once in 16,000 seeds.
    assert abs(square.mean() - 0.05**2) < 4 * square.std() / np.sqrt(len(square))


def test_rounded_eps_are_those_of_float16():
    rng = np.random.default_rng(2)
    x, denoised = rng.standard_normal((2, 500, 1))
    level = np.full((500, 1), 0.7)
    eps = (x - denoised) / level
    kept = (x - _rounded(x, level, denoised, 2.0**-10)) / level
    np.testing.assert_allclose(kept, eps.astype(np.float16).astype(float), atol=1e-12)


def test_kinds_change_the_denoisers_they_name(boxes):
    x = np.array([[0.5], [1.5], [3.2]])
    exact = boxes.pair(x, 0.25)
    for kind, amount in (("bias", 0.1), ("field", 0.1), ("zeroed", 4.0), ("precision", 0.1)):
        pair: Pair = boxes.denoisers(kind, amount)
        changed = [not np.allclose(a, b) for a, b in zip(pair(x, 0.25), exact, strict=True)]
        named = {"uncond": [False, True], "both": [True, True]}[boxes.perturbs(kind)]
        assert changed == named, kind
    shifted = boxes.denoisers("bias", 0.1)(x, 0.25)[1]
    np.testing.assert_allclose(shifted, exact[1] - 0.1)
    zeroed = boxes.denoisers("zeroed", 4.0)(x, 0.25)
    for value, before in zip(zeroed, exact, strict=True):
        np.testing.assert_array_equal(value[2], x[2])  # 3.2 > 2 + 4 * 0.25
        np.testing.assert_array_equal(value[:2], before[:2])


# ---- known probabilities -----------------------------------------------------------------------


def test_zeroed_beyond_four_sigma_loses_known_shares(boxes):
    cells = error_exact.Cells(boxes, "zeroed", W, np.full(5, 4.0))
    off = error_exact.off_support(cells)["unbiased", True]
    want = [4.1e-5, 1.3e-4, 1.4e-3, 0.068, 0.994]
    for found, share in zip(off.probability, want, strict=True):
        assert float(f"{found:.2g}" if share < 0.9 else f"{found:.3g}") == share
    assert off.increasing.all()


def test_early_stop_leaves_known_shares_and_one_denoise_puts_them_back(boxes):
    cells = error_exact.Cells(boxes, "stop", W[:4], np.full(4, 0.002))
    off = error_exact.off_support(cells)
    shares = [float(f"{p:.2g}") for p in off["unbiased", False].probability]
    assert shares == [0.0016, 0.0056, 0.053, 0.73]
    assert (off["unbiased", True].probability == 0).all()
    assert all(o.increasing.all() for o in off.values())


@pytest.mark.parametrize(("sign", "end"), [(1.0, 2.0), (-1.0, 1.0)])
def test_constant_bias_sends_every_sample_past_the_edge(boxes, sign, end):
    eta, w, u = 0.3, 3.0, np.array([-4.0, -1.0, 0.0, 2.0, 4.0])
    denoiser = paths.guided(boxes.denoisers("bias", sign * eta), w)
    r = np.array([1e-5, 1e7])
    start = u + r[0] * denoiser(u[:, None] / r[0], 1 / r[0])[:, 0]
    c = paths.integrate(lambda c, r: denoiser(c[:, None] / r, 1 / r)[:, 0], start, r)[-1]
    x = c / r[-1]
    np.testing.assert_allclose(x, end + sign * w * eta, atol=1e-5)
    again = denoiser(x[:, None], 1 / r[-1])[:, 0]
    np.testing.assert_allclose(again, end + sign * w * eta, atol=1e-5)


def test_bias_is_not_repaired_by_a_final_denoise(boxes):
    cells = error_exact.Cells(boxes, "bias", W, np.full(5, 0.01))
    off = error_exact.off_support(cells)
    denoised = off["unbiased", True].probability
    assert (denoised > off["unbiased", False].probability - 1e-3).all()
    assert denoised[2] > 0.99


def test_start_errors_have_known_sizes_and_orders():
    at = error._from_starts(ScoreErrors(GMM), np.array([3.0]), np.array([0.5]), 80.0)
    want = paths.exact(GMM, [3.0], np.array([0.5]), np.array([0.002]))[0]
    assert (want - at["plain"])[0, 0] == pytest.approx(0.033, abs=5e-4)
    assert abs(at["means"] - want)[0, 0] == pytest.approx(5.7e-5, abs=5e-6)
    rows = error.start_rows(GMM, [7.0], (20.0, 80.0))
    ratio = {k: rows[0][k] / rows[1][k] for k in ("w1_plain", "w1_means", "w1_unbiased")}
    assert 3.5 < ratio["w1_plain"] < 4.1  # first order in 1/sigma_max
    assert 12 < ratio["w1_means"] < 20  # second
    assert 50 < ratio["w1_unbiased"] < 80  # third
    assert rows[1]["w1_unbiased"] < rows[1]["w1_means"] / 10


# ---- thresholds against paths that are walked --------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "amount"),
    [
        ("uniforms", "bias", 0.003),
        ("uniforms", "zeroed", 3.0),
        ("gaussians", "bias", 0.003),
        ("gaussians", "field", 0.05),
        ("gaussians", "zeroed", 3.0),
        ("gaussians", "stop", 0.05),
    ],
)
def test_thresholds_part_walked_paths(boxes, gauss, name, kind, amount):
    errors = boxes if name == "uniforms" else gauss
    cells = error_exact.Cells(errors, kind, np.array([3.0]), np.array([amount]))
    off = error_exact.off_support(cells)["unbiased", False]
    assert off.increasing.all()
    ends = [(u, side) for u, side in ((off.low[0], -1), (off.high[0], 1)) if abs(u) < 6]
    assert ends
    near = np.array([u + side * beyond for u, side in ends for beyond in (-0.01, 0.01)])
    denoiser = cells.denoiser(np.zeros(len(near), dtype=int))
    x = 80.0 * near[:, None]
    x = x + denoiser(x / 2, 80.0)
    sigmas = noise.exponential(900, float(cells.sigma_end[0]), 80.0, zero=False)
    x = solver.last(solver.solve(denoiser, x, sigmas)).x
    assert errors.target.off_support(x).tolist() == [False, True] * len(ends)


def test_denoised_off_set_against_a_scan(boxes):
    cells = error_exact.Cells(boxes, "bias", np.array([7.0]), np.array([0.0002]))
    off = error_exact.off_support(cells)["plain", True]
    u = np.linspace(-6, 6, 241)
    cell = np.zeros(len(u), dtype=int)
    x = error_exact.carry(cells, u, cell, True)
    denoised = cells.denoiser(cell)(x[:, None], 0.002)
    scanned = U12.off_support(denoised)
    change = np.flatnonzero(scanned[1:] != scanned[:-1])
    assert len(change) == 1
    assert u[change[0]] <= off.high[0] <= u[change[0] + 1]
    assert off.probability[0] == pytest.approx(sp.ndtr(-off.high[0]), rel=1e-9)


def test_fine_precision_is_the_solver_alone(gauss):
    cells = error_exact.Cells(gauss, "precision", np.array([3.0]), np.array([2.0**-40]))
    off = error_exact.off_support(cells)
    clean = error_exact.Cells(gauss, "stop", np.array([3.0]), np.array([0.002]))
    want = error_exact.off_support(clean)
    for key in off:
        np.testing.assert_allclose(off[key].probability, want[key].probability, rtol=0.1)
        assert off[key].increasing.all()


def test_coarse_precision_is_found_not_to_increase(boxes):
    cells = error_exact.Cells(boxes, "precision", np.array([3.0]), np.array([0.06]))
    found = error_exact.off_support(cells)
    assert not found["unbiased", False].increasing[0]
    # The sum over the intervals found, against counting on a grid of u that is ten times finer.
    u = np.linspace(-6, 6, 1001)
    mass = np.exp(-u * u / 2) / np.exp(-u * u / 2).sum()
    _, off = error_exact._walk(cells, "unbiased", u, np.zeros(len(u), dtype=int))
    share = found["unbiased", False].probability[0]
    assert share == pytest.approx(mass @ off[0], abs=3e-4)


# ---- amplification -----------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "gain"), [("uncond", 3.0), ("cond", 4.0)])
def test_amplification_of_linear_gaussians_is_closed(which, gain):
    one, other = components.Gaussian([1.0], [1.0]), components.Gaussian([-1.0], [2.0])
    t = targets.mixture(cond=[(1.0, one)], uncond=[(1.0, other)])
    w = 3.0

    def scale(sigma):  # of deviations under the guided flow
        return (1 + sigma**2) ** ((1 + w) / 2) * (2 + sigma**2) ** (-w / 2)

    moved = quad(lambda s: gain / scale(np.exp(s)), np.log(0.002), np.log(80))[0]
    moved *= scale(0.002)
    # The start shifts x by the bias as well: by gain at sigma_max.
    moved += gain * scale(0.002) / scale(80.0)
    unit = np.sqrt((0.002**-2 - 80.0**-2) / 2 / SPAN)
    (row,) = error.amplification(t, [w], "bias", which)
    assert row["amplification"] == pytest.approx(moved / unit, rel=1e-4)
    assert row["perturbed"] == which
    json.dumps(row, allow_nan=False)


def test_amplification_against_sampled_paths(boxes, gauss):
    for errors, kind in ((boxes, "bias"), (gauss, "field")):
        (row,) = error.amplification(errors.target, [3.0], kind)
        step = float(errors.amounts(kind, [1e-4])[0])
        cells = error_exact.Cells(errors, kind, np.full(2, 3.0), np.array([step, -step]))
        ((mean, _, se),) = error._paths(cells, seed=1, n=400)
        # Four standard errors (once in 16,000 seeds), and 2 % for the solver.
        assert abs(row["amplification"] - mean) < 4 * se + 0.02 * mean


def test_amplification_of_a_pair_without_guidance_is_nothing():
    rows = error.amplification(GMM, [0.0, 1.0], "bias")
    assert rows[0]["amplification"] == 0.0
    assert rows[1]["amplification"] > 0.01
    with pytest.raises(ValueError, match="not linear"):
        error.amplification(GMM, [1.0], "stop")


# ---- rows --------------------------------------------------------------------------------------


def test_rows_and_maps_agree():
    rows, arrays = error.error_rows(GMM, [0.0, 3.0], [0.01, 0.2])
    json.dumps(rows, allow_nan=False)
    assert len(rows) == len({r["key"] for r in rows}) == 5 * 2 * 2
    for kind in KINDS:
        block = [r for r in rows if r["error"] == kind]
        grid = arrays[f"map_{kind}"]
        assert grid.shape == (4, 2, 2)
        for column, layer in zip(error.COLUMNS, grid, strict=True):
            values = [np.nan if r[column[0]] is None else r[column[0]] for r in block]
            np.testing.assert_array_equal(layer.ravel(), values)
    # eps rounded to a significand cannot be as wrong as 0.2.
    missing = [r for r in rows if r["reason"]]
    assert {r["error"] for r in missing} == {"precision"}
    assert all(r["off_support"] is None and r["amount"] is None for r in missing)


def test_probability_grows_with_size_where_it_must():
    _, arrays = error.error_rows(U12, [3.0, 15.0], [0.01, 0.03, 0.1], ["bias"])
    assert (np.diff(arrays["map_bias"][1], axis=1) > 0).all()
    assert (np.diff(arrays["map_bias"][1], axis=0) > 0).all()


def test_reflection_changes_nothing():
    kinds = ["bias", "zeroed", "stop"]
    _, ours = error.error_rows(GMM, [7.0], [0.03], kinds)
    _, theirs = error.error_rows(targets.gaussians(-1.0, 1.0), [7.0], [0.03], kinds)
    for kind in kinds:
        np.testing.assert_allclose(
            theirs[f"map_{kind}"], ours[f"map_{kind}"], rtol=1e-4, atol=1e-12
        )


def test_sampled_boxes_beside_a_nuisance_agree_with_the_line():
    def box(low, high):
        return components.Uniform([low, -1.0], [high, 1.0])

    one, other = box(1.0, 2.0), box(-2.0, -1.0)
    flat = targets.mixture(cond=[(1.0, one)], uncond=[(0.5, one), (0.5, other)])
    errors = ScoreErrors(flat)
    cells = error_exact.Cells(errors, "zeroed", np.array([15.0]), np.array([4.0]))
    row = error._sampled(cells, 0, 400, 0)
    low, high = intervals.wilson(round(row["off_support_denoised"] * 400), 400, 0.9999)
    # 0.068 on the line; 0.01 for 64 steps of Heun.
    assert low - 0.01 < 0.0680 < high + 0.01
    assert row["method"] == "heun, 64 steps, sampled"
    assert row["off_support_denoised_low"] < row["off_support_denoised"]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="'cond' or 'uncond'"):
        error.error_rows(GMM, which="both")
    with pytest.raises(ValueError, match="unknown"):
        error.error_rows(GMM, kinds=["typo"])
    with pytest.raises(ValueError, match="finite"):
        error.error_rows(GMM, [])
    with pytest.raises(ValueError, match="numbers > 0"):
        error.error_rows(GMM, sizes=[0.0])
    with pytest.raises(ValueError, match="d = 2"):
        error.start_rows(targets.gaussians([1.0, 1.0]), [1.0])
