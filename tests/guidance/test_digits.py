"""Digits: disjoint halves, a fit that generalises, and exactness for what was fitted."""

import numpy as np
import pytest

from assay.core import neighbours
from assay.guidance import digits, targets


@pytest.fixture(scope="module")
def three():
    return targets.build("digits", label=3)


def test_digits_halves_are_disjoint_and_whole():
    halves = digits.images(seed=0)
    assert sum(len(a) + len(b) for a, b in halves) == 1797
    for train, heldout in halves:
        assert abs(len(train) - len(heldout)) <= 1
        together = np.concatenate([train, heldout])
        assert together.min() >= -1
        assert together.max() <= 1
    other = digits.images(seed=1)
    assert not np.array_equal(other[3][0], halves[3][0])


def test_digits_log_likelihood_is_the_mixtures_own():
    fits, _ = digits.fitted(0)
    fit = fits[1]
    part = fit.law.components
    centres = np.stack([c.mean for c in part])
    assert len(part) == fit.n_components
    second = digits.log_likelihood(fit.heldout, centres, fit.law.weights, part[0].cov)
    np.testing.assert_allclose(fit.law.log_prob(fit.heldout, 0.0), second, rtol=1e-9)


def test_digits_cross_validation_beats_less_and_more_shrinkage():
    fits, _ = digits.fitted(0)
    smallest, largest = digits._SHRINKAGE[0], digits._SHRINKAGE[-1]
    assert all(smallest < f.shrinkage < largest for f in fits)
    for row in digits.describe(0):
        # the held-out half, never seen, scores like the validation folds: no overfitting
        assert row["log_likelihood_heldout"] > row["log_likelihood_cv"] - 15


def test_digits_target_is_an_exact_mixture_of_ten_classes(three):
    assert three.dim == 64
    assert three.prior == pytest.approx(0.1016, abs=1e-3)
    x = three.cond.sample(200, np.random.default_rng(0))
    both = np.logaddexp(
        np.log(three.prior) + three.cond.log_prob(x, 0.5),
        np.log1p(-three.prior) + three.rest.log_prob(x, 0.5),
    )
    np.testing.assert_allclose(three.uncond.log_prob(x, 0.5), both, rtol=1e-10)
    # its samples are recognised: nearest held-out image of any class is mostly a three
    halves = digits.images(0)
    own = neighbours.knn_distance(x, three.heldout)
    others = np.min(
        [neighbours.knn_distance(x, h) for d, (_, h) in enumerate(halves) if d != 3], 0
    )
    assert np.mean(own < others) > 0.9


@pytest.mark.parametrize("label", [-1, 10, "three", None])
def test_digits_refuses_other_labels(label):
    with pytest.raises(ValueError, match="must be a digit"):
        targets.build("digits", label=label)
