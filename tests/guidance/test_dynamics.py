"""Trajectories against closed forms, the exact map and solvers; what is measured on them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special as sp

from assay.core import components, guidance, mixture, noise, solver
from assay.guidance import dynamics, paths, targets
from assay.guidance.pushforward import Pushforward

U12 = targets.uniforms(1.0, 2.0)
GMM = targets.gaussians(1.0, 1.0)


@pytest.fixture(scope="module")
def textbook():
    return {t.name: dynamics.trajectory_rows(t, [0, 1, 3, 7, 15]) for t in (U12, GMM)}


def test_overshoot_of_mean_has_known_peaks(textbook):
    rows, arrays = textbook["uniforms"]
    peaks = {r["w"]: r["peak"] for r in rows}
    for w, peak in {3.0: 2.0767654, 7.0: 2.7515571, 15.0: 3.7882192}.items():
        assert abs(peaks[w] - peak) < 6e-8
    assert all(r["overshoot"] == pytest.approx(r["peak"] - 2) for r in rows)
    at = np.argmax(arrays["mean"][2])
    assert arrays["sigmas"][at] == pytest.approx(rows[2]["peak_sigma"], rel=0.03)


def test_rows_are_json_and_arrays_have_their_shapes(textbook):
    for rows, arrays in textbook.values():
        json.dumps(rows, allow_nan=False)
        assert len({r["key"] for r in rows}) == len(rows) == 5
        assert arrays["bands"].shape == (5, 241, 5)
        assert arrays["mean"].shape == (5, 241)
        assert arrays["shown"].shape == (5, 241, 8)
        assert arrays["sigmas"].shape == (241,)
        assert all(np.isfinite(a).all() for a in arrays.values())


def test_flow_of_one_gaussian_is_a_straight_scaling():
    u, sigmas = np.array([-3.0, 0.0, 2.5]), paths.grid(31)
    x = paths.exact(GMM, [0.0], u, sigmas)[:, 0]
    want = 1 + u * np.sqrt(1 + sigmas[:, None] ** 2)
    np.testing.assert_allclose(x, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("w", [-0.5, 1.0, 3.0, 7.0])
def test_flow_of_zero_mean_gaussians_is_a_power_law(w):
    def centred(sd):
        return components.Gaussian([0.0], [sd**2])

    t = targets.mixture(cond=[(1.0, centred(1.0))], uncond=[(1.0, centred(1.5))])
    u, sigmas = np.array([-2.0, 1.0]), paths.grid(21)
    square = sigmas[:, None] ** 2
    want = u * (1 + square) ** ((1 + w) / 2) * (2.25 + square) ** (-w / 2)
    np.testing.assert_allclose(paths.exact(t, [w], u, sigmas)[:, 0], want, rtol=1e-7)


@pytest.mark.parametrize("target", [U12, GMM], ids=["uniforms", "gaussians"])
def test_flow_ends_where_the_exact_map_does(target):
    u = np.array([-2.0, -0.5, 0.0, 1.0])
    for i, w in enumerate([0.0, 3.0]):
        x = paths.exact(target, [0.0, 3.0], u, np.array([1e-5]))[0, i]
        # The last stretch below sigma = 1e-5 moves x by O(sigma^2) inside the support.
        np.testing.assert_allclose(x, Pushforward(target, w).map(u), atol=3e-7)


def test_flow_against_heun_with_second_order_error():
    u = np.array([[-1.0], [0.0], [1.5]])
    pair = mixture.Together([U12.cond, U12.uncond])
    want = paths.exact(U12, [3.0], u[:, 0], np.array([0.05]))[0, 0]
    errors = []
    for n in (120, 240):
        sigmas = noise.karras(n, 0.05, 400.0, zero=False)
        routes = paths.follow(paths.guided(pair, 3.0), u, sigmas)
        errors.append(np.abs(routes.x[-1, :, 0] - want).max())
    assert errors[1] < 3e-4
    assert 3 < errors[0] / errors[1] < 5.5


def test_guided_pair_is_the_guided_denoiser():
    pair = mixture.Together([U12.cond, U12.uncond])
    both = guidance.Guided(U12.cond.denoise, U12.uncond.denoise, 3.0)
    x = np.linspace(-3, 4, 9)[:, None]
    np.testing.assert_allclose(paths.guided(pair, 3.0)(x, 0.3), both(x, 0.3), rtol=1e-12)
    with_law = paths.follow(both, np.ones((1, 1)), paths.grid(33), solver.euler)
    assert with_law.x.shape == (33, 1, 1)


def test_slope_is_the_derivative_in_ou_time():
    sigmas = np.geomspace(3.0, 0.05, 801)
    traced = paths.trace(U12, [7.0], sigmas)[0]
    time = noise.ou_from_sigma(sigmas)
    steps = np.diff(traced.y, axis=0) / -np.diff(time)[:, None, None]
    middle = (traced.slope[1:] + traced.slope[:-1]) / 2
    np.testing.assert_allclose(steps, middle, atol=2e-3 * np.abs(middle).max())


def test_median_of_boxes_is_monotone_up_to_its_limit():
    assert dynamics.monotone_limit(U12) == pytest.approx(1.58181386, abs=2e-8)
    v = np.ones(1)
    for w, rises in ((1.58, True), (1.59, False)):
        row = dynamics.monotone(paths.trace(U12, [w], paths.grid(481))[0], v)
        assert row["monotone_median"] is rises


def test_gaussians_never_turn_back(textbook):
    assert dynamics.monotone_limit(GMM, w_max=1e4) is None
    for row in textbook["gaussians"][0]:
        assert row["monotone_mean"]
        assert row["monotone_median"]
        assert row["monotone_share"] == 1.0
        assert row["overshoot"] is None
        assert row["far_edge"] is None


def test_limit_of_the_mean_depends_on_the_window():
    narrow = (0.5, 80.0)
    limit = dynamics.monotone_limit(U12, "mean", narrow, w_max=5.0)
    assert limit == pytest.approx(1.73584, abs=5e-4)
    # On all of [0.002, 80] the mean turns back from w = 0.7498 on.
    w = [0.745, 0.755, 0.99 * limit, 1.01 * limit]
    sigmas = paths.default_grid(U12, narrow)
    assert 0.5 in sigmas
    traced = paths.trace(U12, w, sigmas)
    wide = [dynamics.monotone(one, np.ones(1))["monotone_mean"] for one in traced]
    assert wide == [True, False, False, False]
    windowed = [dynamics.monotone(one, np.ones(1), narrow)["monotone_mean"] for one in traced]
    assert windowed == [True, True, True, False]


def test_shares_against_bisection_in_u(textbook):
    v = np.ones(1)
    row = next(r for r in textbook["uniforms"][0] if r["w"] == 3.0)
    low, high = -4.0, 4.0  # of u where paths are over: an upper tail
    monotone_low, monotone_high = -4.0, 4.0  # where they are monotone: a lower one
    for _ in range(4):
        u = np.linspace(low, high, 9)
        x = paths.exact(U12, [3.0], u, paths.grid())[:, 0]
        y = x / np.sqrt(1 + paths.grid()[:, None] ** 2)
        first = int(np.argmax(y.max(axis=0) > 2))
        low, high = u[first - 1], u[first]
        u = np.linspace(monotone_low, monotone_high, 9)
        x = paths.exact(U12, [3.0], u, paths.grid())
        slope = paths.slopes(U12, np.array([[3.0]]), x, paths.grid())[:, 0]
        first = int(np.argmax(slope.min(axis=0) < 0))
        monotone_low, monotone_high = u[first - 1], u[first]
    assert sp.ndtr(-high) - 1e-5 <= row["share_over"] <= sp.ndtr(-low) + 1e-5
    share = row["monotone_share"]
    assert sp.ndtr(monotone_low) - 1e-5 <= share <= sp.ndtr(monotone_high) + 1e-5
    assert v[0] == dynamics.direction(U12)[0]


def test_every_overshooting_path_returns(textbook):
    for row in textbook["uniforms"][0]:
        assert row["share_returned"] == pytest.approx(row["share_over"], abs=1e-6)
        assert row["returned"] >= -1e-12
    assert textbook["uniforms"][0][4]["share_over"] > 0.99999


def test_bands_are_the_paths_of_normal_quantiles(textbook):
    _, arrays = textbook["uniforms"]
    u = sp.ndtri(arrays["levels"])
    x = paths.exact(U12, [7.0], u, arrays["sigmas"])[:, 0]
    y = x / np.sqrt(1 + arrays["sigmas"][:, None] ** 2)
    np.testing.assert_allclose(arrays["bands"][3], y, atol=1e-7)
    assert (np.diff(arrays["bands"], axis=2) > 0).all()


def test_reflected_target_gives_the_same_rows():
    left, right = components.Uniform([-2.0], [-1.0]), components.Uniform([1.0], [2.0])
    mirrored = targets.mixture(cond=[(1.0, left)], uncond=[(0.5, left), (0.5, right)])
    assert dynamics.direction(mirrored)[0] == -1.0
    sigmas = paths.grid(121)
    ours = dynamics.trajectory_rows(U12, [3.0], sigmas=sigmas)
    theirs = dynamics.trajectory_rows(mirrored, [3.0], sigmas=sigmas)
    same = ("peak", "overshoot", "far_edge", "monotone_share", "share_over", "least_slope_median")
    for key in same:
        assert theirs[0][0][key] == pytest.approx(ours[0][0][key], abs=1e-6), key
    np.testing.assert_allclose(theirs[1]["bands"], ours[1]["bands"], atol=1e-6)


def test_sampled_boxes_beside_a_nuisance_agree_with_the_line():
    def box(low, high):
        return components.Uniform([low, -1.0], [high, 1.0])

    one, other = box(1.0, 2.0), box(-2.0, -1.0)
    flat = targets.mixture(cond=[(1.0, one)], uncond=[(0.5, one), (0.5, other)])
    (row,), arrays = dynamics.trajectory_rows(flat, [7.0], n=400, seed=3)
    (want,), _ = dynamics.trajectory_rows(U12, [7.0])
    assert row["far_edge"] == 2.0
    # Four standard errors: fails once in 16,000 seeds; 0.002 for the solver's own error.
    assert abs(row["peak"] - want["peak"]) < 4 * row["overshoot_se"] + 0.002
    assert abs(row["share_over"] - want["share_over"]) < 4 * np.sqrt(0.0026 / 400) + 0.002
    assert row["n"] == 400
    assert row["method"] == "heun, sampled"
    assert arrays["shown"].shape == (1, 65, 8)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        dynamics.trajectory_rows(U12, [])
    with pytest.raises(ValueError, match="finite"):
        dynamics.trajectory_rows(U12, [np.nan])
    with pytest.raises(ValueError, match="window"):
        dynamics.trajectory_rows(U12, [1.0], window=(100.0, 200.0))
    with pytest.raises(ValueError, match="'median' or 'mean'"):
        dynamics.monotone_limit(U12, "mode")
    with pytest.raises(ValueError, match="d = 2"):
        dynamics.monotone_limit(targets.gaussians([1.0, 1.0]))
    same = components.Gaussian([0.0], [1.0])
    with pytest.raises(ValueError, match="share their mean"):
        dynamics.direction(
            targets.mixture(cond=[(1.0, same)], uncond=[(1.0, components.Gaussian([0.0], [2.0]))])
        )
