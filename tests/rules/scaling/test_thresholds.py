"""Thresholds from simulated trainings: known ones are recovered, intervals cover, ranges hold."""

import numpy as np
import pytest
from scipy import special

from assay.rules.scaling.thresholds import Counts, Curve, held_out

MIDDLE = np.log(300)
SIZES = (25, 100, 400, 1600, 6400)


def truth(per_rule, ceiling=0.97, slope=1.2, middle=MIDDLE):
    return ceiling * special.expit(slope * (np.log(per_rule) - middle))


def simulated(seed, trials=500, seeds=2, spread=0.0, **params):
    """Trainings at every size; spread: intraclass correlation of a training's trials."""
    rng, found = np.random.default_rng(seed), []
    for size in SIZES:
        for _ in range(seeds):
            p = truth(size, **params)
            if spread:
                weight = (1 - spread) / spread
                p = rng.beta(p * weight, (1 - p) * weight)
            found.append(Counts(size, int(rng.binomial(trials, p)), trials))
    return found


def exact(share, ceiling=0.97, slope=1.2, middle=MIDDLE):
    return float(np.exp(middle + special.logit(share / ceiling) / slope))


def test_curve_recovers_known_thresholds_from_many_trials():
    curve = Curve(simulated(0, trials=200_000))
    for share in (0.5, 0.9):
        found = curve.threshold(share)
        assert found.value == pytest.approx(exact(share), rel=0.02)
    np.testing.assert_allclose(curve(np.array(SIZES)), truth(np.array(SIZES)), atol=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_intervals_cover_the_true_threshold(spread):
    # 40 studies: fewer than 33 covered has probability 0.3 % at 95 % coverage
    n, covered = 40, 0
    for seed in range(n):
        found = Curve(simulated(seed, spread=spread)).threshold(0.5)
        covered += (found.low or 0) <= exact(0.5) <= (found.high or np.inf)
    assert covered >= 33


def test_dispersion_is_seen_and_widens():
    plain = Curve(simulated(3, seeds=4))
    spread = Curve(simulated(3, seeds=4, spread=0.03))
    assert plain.phi < 3 < spread.phi
    widths = [np.log(f.high / f.low) for f in (c.threshold(0.5) for c in (plain, spread))]
    assert widths[1] > 2 * widths[0]


def test_more_data_never_does_worse():
    # even from counts that fall
    falling = [Counts(n, k, 100) for n, k in zip(SIZES, (90, 80, 70, 60, 50), strict=True)]
    values = Curve(falling)(np.geomspace(12.5, 12800, 40))
    assert (np.diff(values) >= 0).all()


def test_nothing_is_said_beyond_what_was_measured():
    curve = Curve(simulated(1))
    for size in (12, 12_900):
        with pytest.raises(ValueError, match="outside what was measured"):
            curve(size)
    assert Curve(simulated(1, ceiling=0.4)).threshold(0.5).said.startswith("above")
    assert Curve(simulated(1, middle=np.log(3))).threshold(0.5).said.startswith("below")


def test_held_out_sizes_are_predicted():
    rows = held_out(simulated(5, trials=2000))
    assert [row["per_rule"] for row in rows] == [100, 400, 1600]
    assert max(abs(row["error"]) for row in rows) < 0.07


def test_interval_of_the_curve_holds_the_truth_and_narrows():
    few, many = Curve(simulated(2, trials=100)), Curve(simulated(2, trials=5000))
    low, high = few.interval(400, n_draws=60)
    assert low < truth(400) < high
    assert np.ptp(many.interval(400, n_draws=60)) < 0.5 * (high - low)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([Counts(1, 1, 2), Counts(2, 1, 2)], "three sizes"),
        ([Counts(1, 3, 2), Counts(2, 1, 2), Counts(3, 1, 2)], "no count"),
    ],
)
def test_counts_that_are_none_are_refused(counts, said):
    with pytest.raises(ValueError, match=said):
        Curve(counts)
