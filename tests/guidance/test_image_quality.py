"""Measures of guided digits: known cases, intervals that hold their value, the judge."""

import numpy as np
import pytest

from assay.guidance.images import data as image_data
from assay.guidance.images import quality as image_quality


@pytest.fixture(scope="module")
def three():
    return image_quality.reference("digits8", 3)


def _flat(x):
    return x.reshape(len(x), -1)


def test_judge_is_good_and_never_saw_heldout_images():
    judge = image_quality.judge("digits8")
    assert judge.accuracy_low > 0.88
    assert judge.n_train == len(image_data.load("digits8").judge.y)


def test_log_odds_are_those_of_the_classifiers_probabilities():
    judge = image_quality.judge("digits8")
    x = _flat(image_data.load("digits8").heldout.x[:40])
    p = judge.net.predict_proba(x)[:, 4]
    np.testing.assert_allclose(judge.log_odds(x, 4), np.log(p) - np.log1p(-p), atol=1e-6)


def test_frechet_of_gaussians_in_closed_form():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 3))
    turned = x @ np.diag([2.0, 1.0, 0.5]) + np.array([1.0, 2.0, 0.0])
    cov = np.cov(x.T)
    root = _root(_root(cov) @ np.cov(turned.T) @ _root(cov))
    apart = np.sum((x.mean(0) - turned.mean(0)) ** 2)
    closed = apart + np.trace(cov + np.cov(turned.T) - 2 * root)
    assert image_quality.frechet(x, turned) == pytest.approx(closed, rel=1e-9)
    assert image_quality.frechet(x, x) == pytest.approx(0, abs=1e-9)


def _root(a):
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.sqrt(values)) @ vectors.T


def test_quality_of_real_images_and_of_noise(three):
    real = _flat(image_data.load("digits8").train.of(3)[:40])
    noise = 2 * np.random.default_rng(0).standard_normal((40, 64))
    good = image_quality.quality(real, real, three)
    bad = image_quality.quality(noise, noise, three)
    for measure, more in image_quality.BETTER.items():
        if measure not in ("recall", "vendi"):  # these reward what scatters
            assert (good[measure] > bad[measure]) == more, measure
    assert good["knn"] == pytest.approx(1, abs=0.2)
    assert good["range_amount"] == 0
    beyond = np.maximum(np.abs(noise) - 1, 0).mean()
    assert bad["range_amount"] == pytest.approx(beyond)
    assert bad["far"] == 1
    assert bad["vendi"] > 35


def test_every_interval_holds_its_value(three):
    x = _flat(image_data.load("digits8").judge.of(3))
    row = image_quality.quality(x, np.clip(x, -0.9, 0.9), three)
    named = [name for name in row if f"{name}_low" in row]
    assert set(image_quality.BETTER) <= set(named)
    assert all(row[f"{n}_low"] - 1e-9 <= row[n] <= row[f"{n}_high"] + 1e-9 for n in named)
    assert (row["n"], row["n_data"]) == (len(x), len(three.real))


def test_precision_and_coverage_are_the_published_ones(three):
    from assay.core import stats

    x = _flat(image_data.load("digits8").train.of(8)[:30])
    row, own = image_quality.quality(x, x, three), stats.prdc(three.real, x, image_quality.K)
    for name in ("precision", "recall", "density", "coverage"):
        assert row[name] == pytest.approx(own[name])
