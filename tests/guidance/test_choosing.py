"""Choosing w: the guarantee where the truth is known, honest answers where there is no choice."""

import math

import numpy as np
import pytest

from assay.core import anytime, intervals
from assay.guidance import Criterion, choose, targets
from assay.guidance.choosing import bounds, rules
from assay.guidance.choosing import draw as drawing
from assay.guidance.choosing.cases import Case, denoisers
from assay.guidance.choosing.choose import Settings, choose_from
from assay.guidance.choosing.search import SPEND, SPEND_ZERO
from assay.guidance.choosing.table import TableSampler, keeps
from assay.guidance.config import Simulation

STEPS = 24
GAUSSIANS = targets.gaussians()


def _settings(seed=0, cap=1024, **more):
    return Settings(cap=cap, simulation=Simulation(steps=STEPS, seed=seed), **more)


@pytest.fixture(scope="module")
def line():
    """The mirrored Gaussians' tabulated map."""
    return Case("c", "gaussians", "diversity >= 80%").sampler(Simulation(steps=STEPS), 12)


# ---- bounds ------------------------------------------------------------------------------------


def test_rate_evidence_is_that_of_the_confidence_sequence():
    x = (np.arange(200) % 9 == 0).astype(float)
    fed = anytime.MeanSequence(means=[0.05, 0.2]).update(x).log_evidence()
    for side, below in enumerate((False, True)):
        own = [bounds.log_evidence(x.sum(), 200, m, below) for m in (0.05, 0.2)]
        np.testing.assert_allclose(fed[side], own, rtol=1e-9)


@pytest.mark.parametrize(("rate", "cap"), [(0.01, 2048), (0.2, 512)])
def test_bounds_are_wrong_no_oftener_than_they_say_at_any_look(rate, cap):
    """500 runs of rate bounds at level 5 % a side, looked at after every doubling: more than 41
    wrong ones have probability 3e-4 at 5 %."""
    rng = np.random.default_rng(1)
    wrong = np.zeros(2, dtype=int)
    for _ in range(500):
        count = np.cumsum(rng.random(cap) < rate)
        looks = [n for n in (128, 256, 512, 1024, 2048) if n <= cap]
        wrong[0] += any(bounds.rate_upper(int(count[n - 1]), n, 0.05, cap) < rate for n in looks)
        wrong[1] += any(bounds.rate_lower(int(count[n - 1]), n, 0.05, cap) > rate for n in looks)
    assert (wrong <= 41).all()
    assert (wrong >= 1).all()  # and they are no wider than they need be


def test_mean_radius_covers_at_every_look():
    """400 runs of a skewed mean at level 5 %, five looks: more than 35 wrong ones have
    probability 1e-3 at 5 %."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        x = rng.exponential(size=2048)
        for n in (128, 256, 512, 1024, 2048):
            part = x[:n]
            if part.mean() - part.std(ddof=1) * bounds.radius(n, 0.05, 2048) > 1.0:
                wrong += 1
                break
    assert wrong <= 35


def test_the_share_of_alpha_that_is_spent_is_the_whole():
    assert sum(SPEND) + SPEND_ZERO == pytest.approx(1.0)


def test_log_ratio_against_a_bootstrap():
    rng = np.random.default_rng(3)
    plain = rng.standard_normal((2000, 2))
    x = plain * 0.8 + 0.1 * rng.standard_normal((2000, 2))
    value, sd = bounds.log_ratio(x, plain)
    both = np.concatenate([x, plain], axis=1)
    estimate, low, high = intervals.bootstrap(
        both, lambda a: bounds.log_ratio(a[:, :2], a[:, 2:])[0], 300, rng=rng
    )
    assert estimate == value
    assert (high - low) / 3.92 == pytest.approx(sd / math.sqrt(2000), rel=0.15)


# ---- the guarantee -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["diversity >= 80%", "off_support < 2%"])
def test_never_above_the_truth_in_95_percent_of_seeds(line, text):
    """60 seeds at confidence 95 %: more than 8 violations have probability 2e-3 at 5 %."""
    criterion = Criterion.parse(text)
    best, exact = rules.oracle(line, criterion)
    found = [choose_from(line, criterion, _settings(seed)) for seed in range(60)]
    violated = [not keeps(criterion, line.truth(criterion, c.w)) for c in found]
    assert sum(violated) <= 8
    assert all(c.verdict == "satisfied" for c in found)
    # the search is no mere caution: most of log(1 + w) is reached, at a fraction of the cost
    assert np.mean([math.log1p(c.w) for c in found]) > 0.75 * math.log1p(exact)
    assert np.mean([c.grid_share for c in found]) < 0.2
    assert best <= exact


def test_same_seed_same_answer_and_complete_evidence():
    given = (
        GAUSSIANS.cond.denoise,
        GAUSSIANS.uncond.denoise,
        "off_support < 2%; diversity >= 70%",
    )
    support = drawing.of_target(GAUSSIANS)
    one, two = (choose(*given, support=support, settings=_settings(5)) for _ in range(2))
    assert one == two
    assert one.verdict == "satisfied"
    assert one.guidance_scale == 1 + one.w
    tested = [r for r in one.rows if r["phase"] == "test"]
    accepted = max((r for r in tested if r["verdict"] == "held"), key=lambda r: r["w"])
    assert accepted["w"] == one.w
    assert accepted["off_support_high"] < 0.02
    assert accepted["diversity_low"] >= 0.7
    assert one.nfe == one.rows[-1]["nfe"]
    for row in one.rows:
        assert row["guidance_scale"] == 1 + row["w"]
        assert row["n"] >= 32
        assert row["nfe_sample"] > 0
        assert row["off_support_low"] <= row["off_support"] <= row["off_support_high"]
        assert row["off_support_plain_low"] <= row["off_support_plain"]
        assert row["seed"] == 5
        assert row["verdict"] in ("held", "violated", "not shown")
        assert (row["alpha"] is None) == (row["phase"] != "test")
    assert "w = " in one._repr_html_()
    assert "network evaluations" in str(one)


def test_a_stricter_criterion_never_gives_more(line):
    by_limit = [
        choose_from(line, Criterion(diversity=d), _settings(7)).w for d in (0.6, 0.7, 0.8, 0.9)
    ]
    assert by_limit == sorted(by_limit, reverse=True)
    assert by_limit[0] > 2 * by_limit[-1]
    rates = [
        choose_from(line, Criterion(off_support=p), _settings(7)).w for p in (0.01, 0.03, 0.1)
    ]
    assert rates == sorted(rates)


def test_everything_allowed_gives_the_largest_weight():
    sampler = Case("c", "uniforms", "off_support < 2%").sampler(Simulation(steps=STEPS), 12)
    found = choose_from(sampler, "off_support < 2%", _settings(w_max=12.0))
    assert found.w == 12.0
    assert "largest weight considered" in found.reason


def test_where_w_0_violates_it_says_so():
    """Off [-1, 3] lie 4.6 % of the class N(1, 1) itself."""
    found = choose(
        GAUSSIANS.cond.denoise, GAUSSIANS.uncond.denoise, "off_support < 1%",
        support=(-1.0, 3.0), settings=_settings(w_max=0.5),
    )  # fmt: skip
    assert found.w == 0.0
    assert found.verdict == "violated"
    assert "Even w = 0 violates" in found.reason


def test_where_only_w_0_satisfies_it_is_returned():
    """Any bias of the unconditional denoiser throws every guided sample off this support."""
    pair = denoisers(targets.uniforms(), "bias", 30.0)
    found = choose(
        lambda x, sigma: pair(x, sigma)[0], lambda x, sigma: pair(x, sigma)[1],
        "off_support < 2%", support=(1.0, 2.0), settings=_settings(),
    )  # fmt: skip
    assert found.w == 0.0
    assert found.verdict == "satisfied"
    assert "Only w = 0" in found.reason


def test_a_violation_below_the_choice_is_told():
    """cond leaks by itself, guidance mends it: the criterion fails at 0 and holds above."""

    def cond(x, sigma):
        return GAUSSIANS.cond.denoise(x, sigma)

    found = choose(
        cond, GAUSSIANS.uncond.denoise, "off_support < 10%", support=lambda x: x[:, 0] > 0,
        settings=_settings(w_max=6.0),
    )  # fmt: skip
    assert found.w == 6.0
    assert any("Not monotone" in note for note in found.notes)


def test_odds_gain_is_a_lower_limit():
    found = choose(
        GAUSSIANS.cond.denoise, GAUSSIANS.uncond.denoise, "diversity >= 50%; odds_gain >= 1",
        support=drawing.of_target(GAUSSIANS), odds=GAUSSIANS.log_odds, settings=_settings(),
    )  # fmt: skip
    assert found.verdict == "satisfied"
    last = [r for r in found.rows if r["w"] == found.w][-1]
    assert last["odds_gain_low"] >= 1
    # the odds of N(1, 1) against N(-1, 1) are 2x, and means grow with w: 1 nat at +0.5
    assert found.w > 0.5


# ---- support from data -------------------------------------------------------------------------


def test_support_from_data_states_its_false_alarms():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((400, 2))
    found = drawing.support_of(None, data, 0.02)
    share, low, high = found.false_rate
    assert low <= share <= high
    assert low < 0.02 < high + 0.02
    assert "held-out samples themselves off" in found.name
    fresh = rng.standard_normal((4000, 2))
    assert np.mean(~found.inside(fresh)) == pytest.approx(share, abs=0.02)
    assert not found.inside(np.array([[9.0, 9.0]]))[0]
    assert found.edge(np.array([1.0, 0.0])) == pytest.approx(3.0, abs=0.6)


def test_choice_on_held_out_data_alone():
    data = GAUSSIANS.cond.sample(500, np.random.default_rng(1))
    found = choose(
        GAUSSIANS.cond.denoise, GAUSSIANS.uncond.denoise, "off_support < 10%; diversity >= 60%",
        data=data, settings=_settings(w_max=8.0),
    )  # fmt: skip
    assert found.verdict == "satisfied"
    assert 0.3 < found.w < 4
    assert "held-out" in found.support


def test_torch_denoisers_of_images_get_torch_tensors():
    """N(1, I) against 1/2 N(1, I) + 1/2 N(-1, I) on images of 2 x 2."""
    torch = pytest.importorskip("torch")

    def cond(x, sigma):
        return torch.ones_like(x) + (x - 1) / (1 + sigma**2)

    def uncond(x, sigma):
        side = torch.tanh(x.sum(dim=(1, 2), keepdim=True) / (1 + sigma**2))
        return side + (x - side) / (1 + sigma**2)

    data = 1 + np.random.default_rng(2).standard_normal((60, 2, 2))
    found = choose(cond, uncond, "diversity >= 90%", data=data, settings=_settings())
    assert found.verdict == "satisfied"
    assert found.w > 0


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"criterion": "rubbish"}, "is not understood"),
        ({"criterion": "off_support < 1%"}, "needs a support"),
        ({"criterion": "odds_gain >= 1"}, "odds_gain needs odds"),
        ({"criterion": "returned before sigma 0.1"}, "no far edge is known"),
        (
            {"criterion": "returned before sigma 0.0001", "support": (-9.0, 9.0)},
            "no noise level of the solver",
        ),
        (
            {"criterion": "off_support < 0.1%", "support": (-9.0, 9.0)},
            "cap 1024 is too few samples",
        ),
        ({"criterion": "off_support < 5%", "support": (2.0, 1.0)}, "low < high"),
        ({"criterion": "off_support < 5%", "data": np.zeros((5, 1))}, "data has 5 samples"),
    ],
)
def test_bad_input_is_one_line(given, said):
    with pytest.raises(ValueError, match=said) as error:
        choose(GAUSSIANS.cond.denoise, GAUSSIANS.uncond.denoise, settings=_settings(), **given)
    assert "\n" not in str(error.value)


def test_tables_refuse_three_dimensions_and_agree_with_the_solver(line):
    sampler = drawing.PairSampler(
        GAUSSIANS.cond.denoise, GAUSSIANS.uncond.denoise, (1,), Simulation(steps=STEPS),
        drawing.of_target(GAUSSIANS), 12,
    )  # fmt: skip
    assert sampler.nfe(2.0) == line.nfe(2.0)
    assert sampler.nfe(0.0, True) == line.nfe(0.0, True)
    drawn = sampler.draw(2.0, 20_000, (1,))
    criterion = Criterion(off_support=0.1, diversity=0.5)
    truth = line.truth(criterion, 2.0)
    plain = sampler.draw(0.0, 20_000, (1,))
    value, sd = bounds.log_ratio(drawn.x, plain.x)
    assert abs(value - math.log(truth["diversity"])) < 4 * sd / math.sqrt(20_000)
    low, high = intervals.wilson(drawn.off.sum(), 20_000, 0.9999)
    assert low <= truth["off_support"] <= high
    with pytest.raises(ValueError, match="d = 1 or 2"):
        TableSampler(line.pair, line.support, Simulation(), np.ones(3))
