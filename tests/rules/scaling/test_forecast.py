"""Forecasts from simulated studies: the right model, the right switch, nothing beyond evidence."""

import json
import math

import numpy as np
import pytest
from scipy import special

from assay import cli, runs
from assay.rules.scaling import config as configs
from assay.rules.scaling import forecast as forecasts
from assay.rules.scaling.cli import per_month

SIZES = (25, 100, 400, 1600, 6400)
# of samples per rule N: early is ahead below 800, where late passes it
MODELS = {
    "early": lambda n: 0.6 * special.expit(1.5 * (np.log(n) - math.log(60))),
    "late": lambda n: 0.98 * special.expit(2.0 * (np.log(n) - math.log(650))),
}


def rows(trials=4000, seeds=2, sizes=SIZES):
    rng, found = np.random.default_rng(0), []
    for name, curve in MODELS.items():
        for size in sizes:
            for seed in range(seeds):
                share = rng.binomial(trials, curve(size)) / trials
                found.append({
                    "key": f"{name}.n{size}.mini.seed{seed}", "status": "done", "model": name,
                    "rule_set": "mini", "per_rule": size, "seed": seed, "novel_c3": share,
                    "novel_c3_n": trials, "training_seconds": 90.0, "sampling_seconds": 7.2,
                })  # fmt: skip
    return found


@pytest.fixture(scope="module")
def families():
    return forecasts.families(rows())


def crossing():
    grid = np.geomspace(25, 6400, 20001)
    return grid[(MODELS["late"](grid) > MODELS["early"](grid)).argmax()]


def test_best_now_switch_and_reach_are_those_of_the_truth(families):
    found = forecasts.forecast(families, have=200, grow=100, want=0.9)
    assert found.best == "early"
    assert found.value == pytest.approx(MODELS["early"](200), abs=0.02)
    assert found.interval[0] < MODELS["early"](200) < found.interval[1]
    assert found.sure > 0.99
    (switch,) = found.switches
    assert switch.to == "late"
    assert switch.per_rule == pytest.approx(crossing(), rel=0.08)
    assert switch.months == pytest.approx((crossing() - 200) / 100, rel=0.12)
    assert switch.low <= switch.months <= switch.high
    at = np.exp(math.log(650) + special.logit(0.9 / 0.98) / 2)
    assert found.reached == pytest.approx((at - 200) / 100, rel=0.1)


def test_answers_are_monotone_in_data(families):
    values = [forecasts.forecast(families, have=n).value for n in np.geomspace(13, 12000, 25)]
    assert (np.diff(values) >= -1e-12).all()


def test_nothing_is_answered_outside_the_evidence(families):
    for have in (5.0, 30_000.0):
        with pytest.raises(ValueError, match="outside the evidence"):
            forecasts.forecast(families, have=have)
    few = rows(sizes=(25, 400))
    with pytest.raises(ValueError, match="three sizes"):
        forecasts.families(few)


def test_a_model_without_evidence_there_is_left_out_by_name():
    small = [r for r in rows() if r["model"] == "early" or r["per_rule"] <= 400]
    found = forecasts.forecast(forecasts.families(small), have=5000)
    assert found.best == "early"
    assert list(found.left_out) == ["late"]
    assert "late" in found.said()


def test_costs_are_by_the_stated_rates(families):
    rates = forecasts.Rates(watts=100, per_hour=0.4, per_kwh=0.25)
    cost = forecasts.forecast(families, have=200, rates=rates).costs["training"]
    assert cost["seconds"] == 90
    assert cost["kwh"] == pytest.approx(0.0025)
    assert cost["money"] == pytest.approx(0.4 / 40 + 0.25 * 0.0025)


@pytest.mark.parametrize(
    ("text", "value"), [("200/month", 200), ("10/day", 304.375), ("1200/year", 100), ("0/week", 0)]
)
def test_growth_is_read_by_the_month(text, value):
    assert per_month(text) == pytest.approx(value)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study's folder as `assay rules scale` writes it."""
    path = tmp_path_factory.mktemp("study") / "run"
    config = configs.ScaleConfig(recipes=("settoken-tiny",), per_rule=SIZES, rule_sets=("mini",))
    with runs.Run.open(path, config) as run:
        for row in rows():
            run.append(row)
    return path


def test_command_says_a_paragraph_and_draws(study, tmp_path, capsys):
    for ending in ("svg", "png"):
        picture = tmp_path / f"forecast.{ending}"
        asked = ["rules", "forecast", str(study), "--have", "200", "--grow", "100/month"]
        assert cli.main([*asked, "--picture", str(picture)]) == 0
        assert picture.stat().st_size > 2000
    said = capsys.readouterr().out
    assert "take early" in said
    assert "Switch to late" in said
    assert cli.main([*asked, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["best"] == "early"
    assert row["switches"][0]["to"] == "late"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--have", "200", "--grow", "many"], "--grow 'many'"),
        (["--have", "200", "--want", "1.5"], "--want"),
        (["--have", "200", "--per-kwh", "1"], "needs --watts"),
        (["--have", "-3"], "have must be a positive number"),
        (["--have", "200", "--metric", "fid"], "metric 'fid' is unknown"),
        (["--have", "200", "--picture", "x.gif"], "ends in .png or .svg"),
    ],
)
def test_command_refuses_in_one_line(study, capsys, flags, said):
    assert cli.main(["rules", "forecast", str(study), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
