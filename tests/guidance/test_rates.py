"""Rates against the exact distributions, the derived constant and the theorems' shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from assay.guidance import rates, targets
from assay.guidance.pushforward import Pushforward

U12 = targets.uniforms(1.0, 2.0)
GMM = targets.gaussians(1.0, 1.0)


@pytest.fixture(scope="module")
def boxes():
    return rates.rate_rows(U12, [1.0, 3.0])


@pytest.fixture(scope="module")
def gauss():
    return rates.rate_rows(GMM, [3.0, 13.46, 1000.0])


def _of(found, rate, **values):
    rows = [r for r in found[0] if r["rate"] == rate]
    return [r for r in rows if all(r[k] == v for k, v in values.items())]


@pytest.mark.parametrize("target", [U12, GMM], ids=["uniforms", "gaussians"])
def test_scaling_constant_of_a_balanced_pair(target):
    assert rates.scaling_constant(target) == pytest.approx(0.9332947510, abs=2e-8)


@pytest.mark.parametrize("prior", [0.1, 0.2, 0.8])
def test_scaling_constant_depends_on_the_prior_alone(prior):
    constants = [
        rates.scaling_constant(t)
        for t in (
            targets.gaussians(1.0, 1.0, prior),
            targets.gaussians(-3.0, 0.5, prior),
            targets.uniforms(1.0, 2.0, prior),
            targets.uniforms(0.2, 5.0, prior),
        )
    ]
    np.testing.assert_allclose(constants, constants[0], rtol=1e-7)


def test_fitted_median_law_holds_the_known_constant(gauss):
    (fit,) = _of(gauss, "fit")
    assert fit["low"] < 0.93329475 < fit["high"]
    assert fit["high"] - fit["low"] < 1e-3
    assert fit["holds"]
    assert fit["later"] < 0.01
    assert (fit["w_low"], fit["w_high"]) == (1e3, 1e4)


def test_fitted_gap_law_holds_the_known_constant(boxes):
    (fit,) = _of(boxes, "fit")
    assert fit["low"] < 0.4355195 < fit["high"]
    assert fit["high"] - fit["low"] < 1e-3
    assert fit["holds"]
    assert fit["later"] < 0.01
    assert (fit["w_low"], fit["w_high"]) == (100, 300)


def test_fitted_median_law_of_another_prior_and_scale():
    (fit,) = _of(rates.rate_rows(targets.gaussians(-2.0, 0.5, 0.2), [1.0]), "fit")
    assert fit["holds"]
    assert fit["predicted"] == pytest.approx(1.399176, abs=1e-6)


@pytest.mark.slow
def test_fitted_gap_law_of_another_prior_and_box():
    (fit,) = _of(rates.rate_rows(targets.uniforms(0.5, 2.0, 0.3), [1.0]), "fit")
    assert fit["holds"]
    assert fit["predicted"] == pytest.approx(0.742526, abs=1e-6)


def test_share_beyond_sqrt_w_peaks_and_falls(gauss):
    share = {r["w"]: r["share"] for r in _of(gauss, "beyond", c=1.0)}
    assert share[13.46] == pytest.approx(0.9198, abs=5e-5)
    assert share[1000.0] == pytest.approx(0.0025, abs=5e-5)
    for w in (13.3, 13.6):
        assert Pushforward(GMM, w).sf(np.sqrt(w)) < share[13.46]
    # Below the constant it tends to 1 instead.
    below = [r["share"] for r in _of(gauss, "beyond", c=0.9)]
    assert below == sorted(below)
    assert below[-1] > 0.9999999
    assert gauss[1]["limit_c"] == pytest.approx(0.93329475, abs=1e-8)
    assert gauss[1]["beyond"].shape == (3, len(gauss[1]["curve_w"]))


def test_tail_ratio_tends_to_the_prior_power(gauss, boxes):
    rows = _of(gauss, "tail", w=3.0)
    assert all(r["limit"] == pytest.approx(8.0) for r in rows)
    ratios = [r["ratio"] for r in rows]
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(8.0, abs=0.01)
    edge = [r["ratio"] for r in _of(boxes, "tail", w=3.0)]
    assert edge[1] == pytest.approx(7.5912, abs=1e-3)
    assert edge[-1] is None  # x has rounded to the edge


def test_mass_below_zero_falls_like_the_square_of_w(gauss):
    rows = _of(gauss, "origin")
    exact = [Pushforward(GMM, r["w"]).logcdf(0.0) for r in rows]
    np.testing.assert_allclose([r["log_missing"] for r in rows], exact, rtol=1e-6)
    assert rows[-1]["log_missing_over_w2"] == pytest.approx(-2, abs=0.01)


def test_layers_and_gaps_are_those_of_the_exact_map(boxes):
    law = Pushforward(U12, 3.0)
    for row in _of(boxes, "layer", w=3.0):
        assert row["share"] == pytest.approx(law.sf(2 - row["delta"]), rel=1e-5)
        assert row["theorem_log_outside"] == -3.0
    (gap,) = _of(boxes, "gap", w=3.0)
    assert gap["gap"] == pytest.approx(2 - 1.9020694075, abs=1e-8)
    named = [r["delta_of"] for r in _of(boxes, "layer", w=3.0)]
    assert named == ["fixed"] * 3 + ["theorem 1"]
    assert len(_of(boxes, "layer", w=1.0)) == 3  # ln 1 = 0 gives the theorem no layer


def test_theorem_shapes_pass_through_the_first_w(boxes, gauss):
    w = np.array([0.5, 3.0, 9.0])
    shapes = rates._theorem_edge(w, np.log([0.5, 0.2, 0.1]), -np.ones((3, 3)))
    assert np.isnan(shapes["theorem_gap"][0])
    assert shapes["theorem_gap"][1] == pytest.approx(0.2)
    assert shapes["theorem_gap"][2] == pytest.approx(0.2 / np.sqrt(2))
    np.testing.assert_allclose(shapes["theorem_log_outside"][1:], [-1, -3])
    median = gauss[1]["theorem_median"]
    assert median[0] == gauss[1]["median"][0]
    assert median[2] == pytest.approx(median[0] * np.sqrt(1000 / 3))
    assert boxes[1]["log_outside"].shape == (2, 3)


def test_fit_recovers_a_law_with_a_later_term():
    w = np.geomspace(100, 1000, 7)
    fitted = rates.fit_constant(w, 1 / w, 0.7 * w + 3 - 5 / w)
    assert fitted["constant"] == pytest.approx(0.7, abs=1e-9)
    assert fitted["low"] < 0.7 < fitted["high"]
    assert fitted["later"] == pytest.approx(5 / 100 / 70, rel=1e-3)


def test_fit_outside_its_range_is_withheld(monkeypatch):
    monkeypatch.setattr(rates, "MEDIAN_RANGE", (1.0, 10.0))
    (fit,) = _of(rates.rate_rows(GMM, [1.0]), "fit")
    assert fit["constant"] is None
    assert "not below 1 %" in fit["reason"]


def test_rows_are_json_with_unique_keys(boxes, gauss):
    for rows, _ in (boxes, gauss):
        json.dumps(rows, allow_nan=False)
        assert len({r["key"] for r in rows}) == len(rows)
        assert all(r["kind"] == "rate" for r in rows)


def test_mixtures_without_a_known_law_get_tails_alone():
    t = targets.mixture(
        cond=[(1.0, {"kind": "gaussian", "mean": [1.0], "cov": [[1.0]]})],
        uncond=[
            (0.5, {"kind": "gaussian", "mean": [1.0], "cov": [[1.0]]}),
            (0.5, {"kind": "gaussian", "mean": [-1.0], "cov": [[0.5]]}),
        ],
    )
    rows, _ = rates.rate_rows(t, [2.0])
    assert {r["rate"] for r in rows} == {"tail"}


@pytest.mark.parametrize("w", [[], [0.0], [np.inf], [-1.0]])
def test_bad_weights_are_refused(w):
    with pytest.raises(ValueError, match="finite numbers > 0"):
        rates.rate_rows(GMM, w)
