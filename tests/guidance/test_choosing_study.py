"""The comparison of ways to choose w: rows, regret, resumption, command line."""

import json

import numpy as np
import pytest

from assay import cli
from assay.guidance import targets
from assay.guidance.choosing import cases, rules, study
from assay.guidance.choosing import draw as drawing
from assay.guidance.choosing import pool as choosing_pool
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.table import keeps
from assay.guidance.config import Simulation
from assay.runs import Run

CONFIG = study.StudyConfig(cases=("gaussians",), seeds=2, cap=1024, steps=24, coarse_steps=12)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "run"
    with Run.open(folder, CONFIG) as opened:
        study.fill(opened, CONFIG.model_dump(mode="json"))
    return Run.read(folder)


def test_regret_is_the_share_of_the_logarithm_and_1_where_it_violates():
    assert rules.regret(3.0, False, 3.0) == 0.0
    assert rules.regret(1.0, False, 3.0) == pytest.approx(0.5)
    assert rules.regret(4.0, False, 3.0) == 0.0
    assert rules.regret(1.0, True, 3.0) == 1.0
    assert rules.regret(None, None, 3.0) == 1.0
    assert rules.regret(0.0, False, 0.0) == 0.0
    assert len(rules.GRID) == 26
    assert rules.GRID[0] == 0.0
    assert (rules.GRID[1], rules.GRID[-1]) == pytest.approx((0.1, 30.0))


def test_rows_are_judged_by_the_truth(run):
    made = [r for r in run.rows if r["row"] == "choice"]
    assert {r["method"] for r in made} == set(study.METHODS)
    criterion = Criterion.parse(cases.BOTH)
    for row in made:
        values = {name: row[f"true_{name}"] for name in criterion.names}
        assert row["violates"] == (not keeps(criterion, values))
        assert row["regret"] == rules.regret(row["w"], row["violates"], row["oracle_w"])
        assert row["guidance_scale"] == 1 + row["w"]
    limit = next(r for r in run.rows if r["row"] == "limit")
    truth = {r["w"]: r for r in run.rows if r["row"] == "truth"}
    assert len(truth) == 26
    held = [w for w, r in truth.items() if keeps(criterion, r)]
    assert limit["oracle_w"] == max(held)
    assert limit["oracle_w"] <= limit["oracle_w_exact"]
    habit = next(r for r in made if r["method"] == "habit")
    assert habit["guidance_scale"] == 7.5
    assert habit["regret"] == 1.0  # w = 6.5 leaves half the spread


def test_summaries_cover_cases_and_all(run):
    made = {(r["case"], r["method"]): r for r in run.rows if r["row"] == "summary"}
    own = made["all", "criterion"]
    assert own["n"] == 2
    assert own["regret_low"] <= own["regret"] <= own["regret_high"] <= own["regret_worst"] + 1e-12
    assert 0 < own["grid_share"] < 0.25
    assert made["gaussians", "grid"]["grid_share"] == pytest.approx(25.5 / 26, abs=1e-3)
    assert made["gaussians", "habit"]["n"] == 1


def test_a_stopped_study_goes_on_to_the_same_rows(run, tmp_path):
    with Run.open(tmp_path / "part", CONFIG) as part:
        for job in list(study.jobs(CONFIG))[:2]:
            job.make(part)
    with Run.open(tmp_path / "part", CONFIG) as part:
        study.fill(part, CONFIG.model_dump(mode="json"))
        by_key = {r["key"]: r for r in part.rows}
    assert by_key == {r["key"]: r for r in run.rows}


def test_the_map_of_a_table_is_the_exact_flow_at_many_steps():
    """P(off HDR99.9) at w = 6.5 against the exact threshold values of u."""
    from assay.guidance import error_exact, error_kinds

    case = cases.Case("c", "gaussians", cases.OFF, error="bias", size=0.5)
    sampler = case.sampler(Simulation(steps=200), None)
    errors = error_kinds.ScoreErrors(targets.gaussians(), seed=cases.FIELD_SEED)
    amount = errors.amounts("bias", [0.5])
    exact = error_exact.off_support(
        error_exact.Cells(errors, "bias", np.array([6.5]), np.array(amount))
    )
    found = sampler.truth(Criterion(off_support=0.5), 6.5)["off_support"]
    assert found == pytest.approx(float(exact["unbiased", True].probability[0]), rel=0.03)


def test_a_pool_draws_what_it_knows(monkeypatch):
    monkeypatch.setattr(choosing_pool, "POOL", 300)
    target = targets.gaussians(mean=[1.0, 0.5, 0.2])
    sampler = choosing_pool.PoolSampler(
        target.cond.denoise, target.uncond.denoise, (3,), drawing.of_target(target),
        Simulation(steps=16), 8,
    )  # fmt: skip
    criterion = Criterion(off_support=0.05, diversity=0.5)
    truth = sampler.truth(criterion, 5.0)
    drawn, plain = (sampler.draw(w, 30_000, (1,)) for w in (5.0, 0.0))
    assert drawn.off.mean() == pytest.approx(truth["off_support"], abs=0.005)
    ratio = np.sqrt(np.trace(np.cov(drawn.x.T)) / np.trace(np.cov(plain.x.T)))
    assert ratio == pytest.approx(truth["diversity"], rel=0.02)
    one = drawing.PairSampler(
        target.cond.denoise, target.uncond.denoise, (3,), Simulation(steps=16), sampler.support, 8
    )
    assert one.nfe(5.0) == sampler.nfe(5.0)
    assert one.nfe(0.0, True) == sampler.nfe(0.0, True)
    far = one.draw(5.0, 4000, (2,))
    assert far.off.mean() == pytest.approx(truth["off_support"], abs=0.06)
    assert rules.monotone(sampler) > 0


# ---- command line ------------------------------------------------------------------------------


def test_choose_on_the_command_line(capsys):
    given = ["guidance", "choose", "--criterion", "diversity >= 70%", "--cap", "512",
             "--steps", "16", "--seed", "3"]  # fmt: skip
    assert cli.main([*given, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["row"] for r in rows] == ["evidence"] * (len(rows) - 1) + ["choice"]
    assert rows[-1]["guidance_scale"] == 1 + rows[-1]["w"] > 1
    assert cli.main(given) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "satisfied" in said
    assert "Diversity at least 70 % of that at w = 0" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["choose", "--criterion", "rubbish"], "is not understood"),
        (["choose", "--criterion", "diversity >= 80%", "--error", "field"], "KIND:SIZE"),
        (["choose", "--criterion", "diversity >= 80%", "--error", "no:1"], "is unknown"),
        (["choose", "--criterion", "diversity >= 80%", "--error", "stop:1"], "one of the solver"),
        (["choose", "--criterion", "diversity >= 80%", "--cap", "5"], "cap: Input should be"),
        (["choose", "--criterion", "diversity >= 80%", "--solver", "exact"], "draws no samples"),
        (["choose", "--criterion", "no.toml"], "cannot be read"),
        (["choose-study", "--case", "x", "--out", "there"], "case x: choose from"),
        (["choose-study", "--seeds", "1", "--out", "there"], "seeds: Input should be"),
    ],
)
def test_bad_input_is_one_line_and_2(given, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["guidance", *given]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
