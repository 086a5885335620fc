"""Early warnings on simulated studies: planted signals found, none invented, no group leaks;
`assay rules warn`: its table, its answer for one training, what it refuses.
"""

import json

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from assay import cli, runs
from assay.rules.scaling import auroc, collapse, early, early_answer
from assay.rules.scaling import config as configs

SIZES = (25, 100, 400, 1600, 6400)
FAMILIES = ("edm", "flow", "autoregressive", "masked", "settoken")
STEPS = (20, 40, 80, 160, 500, 1000)
RULES = 8


def probe(step, rng, gap, **changes):
    """A probe without any sign of what will come but the gap."""
    row = {
        "key": f"probe-{step:07d}", "step": step, "validation_loss": 1.0, "gap": gap,
        "train_loss": 1 - gap, "half_empty": 0.0, "natural_row": 0.0, "natural_panel": 0.4,
        "copies_row": 0.0, "copies_panel": 0.4 + 0.01 * rng.standard_normal(),
    }  # fmt: skip
    for name in ("c3", "any_valid", "completion"):
        row[name] = float(special.expit(rng.standard_normal()))
    return row | changes


def training(model, size, seed, rng, lost, signal):
    """A study's row that collapsed or not; signal: how much the gap says so, in its sd."""
    probes = []
    for step in STEPS:
        gap = 0.02 * rng.standard_normal() + 0.02 * signal * (lost - 0.5) * np.log(step)
        last = {"validation_loss": 1.5} if lost and step == STEPS[-1] else {}
        probes.append(probe(step, rng, float(gap), **last))
    return {
        "key": f"{model}-tiny.n{size}.mini.seed{seed}", "status": "done", "model": f"{model}-tiny",
        "recipe": f"{model}-tiny", "family": model, "rule_set": "mini", "per_rule": size,
        "n_rules": RULES, "seed": seed, "n_steps": STEPS[-1], "novel_c3": 0.05 if lost else 0.8,
        "novel_c3_n": 1000, "copies_row_low": 0.0, "natural_row_high": 0.01, "probes": probes,
    }  # fmt: skip


def study(signal, seed=0, by_size=True, sizes=SIZES, families=FAMILIES, seeds=2):
    """Small data collapse; or cells drawn at random, but for the largest size."""
    rng = np.random.default_rng(seed)
    found = []
    for model in families:
        for size in sizes:
            lost = size < 400 if by_size else size < sizes[-1] and rng.random() < 0.55
            for s in range(seeds):
                found.append(training(model, size, s, rng, bool(lost), signal))
    return found


def unfitted(rows):
    """AUROC of the signals on cells that the fits have not seen."""
    made = early.evidence(rows)
    values = early.scores(made.table, made.events, early.folds(made, "cell"))
    return auroc.area(values, made.events, made.cells)


def one(rows, key):
    (row,) = [row for row in rows if row["key"] == key]
    return row


def test_area_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        events = rng.random(40) < 0.4
        scores = rng.integers(0, 8, 40) + events
        found = auroc.area(scores, events, range(40))
        assert found.value == pytest.approx(roc_auc_score(events, scores), abs=1e-12)
        assert 0 <= found.low < found.value < found.high <= 1
        assert found.n_pairs == events.sum() * (~events).sum()


def test_strata_count_their_own_pairs_only():
    scores, events = np.array([0.0, 1, 10, 11]), np.array([False, True, True, False])
    found = auroc.area(scores, events, range(4), ["a", "a", "b", "b"])
    assert (found.value, found.n_pairs) == (0.5, 2)
    apart = auroc.area(scores, events, range(4), ["a", "b", "c", "d"])
    assert (apart.value, apart.n_pairs) == (None, 0)


def test_interval_counts_groups_and_is_no_point_at_one():
    scores, events = np.arange(20.0), np.arange(20) >= 10
    alone = auroc.area(scores, events, range(20))
    pairs = auroc.area(scores, events, np.arange(20) // 2)
    assert alone.value == pairs.value == pairs.high == 1
    assert pairs.low < alone.low < 0.95
    mirrored = auroc.area(-scores, events, range(20))
    assert (mirrored.low, mirrored.high) == pytest.approx((0, 1 - alone.low), abs=1e-9)


def test_interval_covers_at_its_level():
    """Normal scores 1 apart: A = Phi(1 / sqrt 2) = 0.760; 12 against 18."""
    rng, covered = np.random.default_rng(1), 0
    events = np.arange(30) < 12
    for _ in range(400):
        found = auroc.area(rng.standard_normal(30) + events, events, range(30))
        covered += found.low <= special.ndtr(2**-0.5) <= found.high
    assert 0.92 <= covered / 400 <= 0.99


@pytest.mark.parametrize(
    ("scores", "words"), [([0.0], "of one length"), ([0.0, np.nan], "leave those trainings out")]
)
def test_area_refuses_what_it_cannot_rank(scores, words):
    with pytest.raises(ValueError, match=words):
        auroc.area(np.array(scores), np.array([True, False]), ["a", "b"])


def test_collapse_needs_both_halves_and_a_model_that_can():
    rows = study(1.0, families=("flow", "masked"), seeds=1)
    for row in rows:
        if row["family"] == "masked":
            row["novel_c3"] = 0.04  # reaches nothing with ample data either
    next(r for r in rows if r["key"] == "flow-tiny.n400.mini.seed0")["novel_c3"] = 0.1
    copying = next(r for r in rows if r["key"] == "flow-tiny.n25.mini.seed0")
    copying["copies_row_low"], copying["probes"][-1]["validation_loss"] = 0.5, 1.0
    every = collapse.trainings(rows)
    found = {t.row["per_rule"]: t.outcomes for t in every if t.row["family"] == "flow"}
    slow = [t for t in every if t.row["family"] == "masked"]
    assert {(t.outcomes["poor"], t.outcomes["collapse"], t.reach) for t in slow} == {(None,) * 3}
    assert [t.outcomes["memorised"] for t in slow] == [True, True, False, False, False]
    assert found[25] == {"collapse": True, "poor": True, "memorised": True}
    assert found[400] == {"collapse": False, "poor": True, "memorised": False}
    assert found[6400] == {"collapse": False, "poor": False, "memorised": False}
    streamed = dict(rows[0], per_rule=None, novel_c3=0.2, key="s")
    reach = {t.reach for t in collapse.trainings([*rows, streamed])}
    assert reach == {0.2, None}
    two = collapse.trainings(rows[:2])  # two sizes say nothing about ample data
    assert [t.outcomes["collapse"] for t in two] == [None, None]


def test_signals_see_the_first_fifth_only():
    rng = np.random.default_rng(0)
    probes = [probe(step, rng, 0.01 * np.log(step)) for step in STEPS]
    found = dict(zip(collapse.NAMES, collapse.signals(probes, 1000), strict=True))
    assert found["gap"] == pytest.approx(0.01 * np.log(160))
    assert found["gap_slope"] == pytest.approx(0.01)
    assert found["rise"] == 0
    assert found["copies"] == 0
    lacking = [dict(p, copies_row=0.0, natural_row=0.3, copies_panel=0.9) for p in probes]
    found = dict(zip(collapse.NAMES, collapse.signals(lacking, 1000), strict=True))
    assert (found["copies"], found["panels"]) == (0, pytest.approx(0.5))
    later = [dict(p, gap=9.0, c3=1.0) if p["step"] > 200 else p for p in probes]
    assert np.array_equal(collapse.signals(later, 1000), collapse.signals(probes, 1000))
    assert collapse.signals(probes, 150) is None  # one probe in its first fifth
    del probes[3]["completion"]
    gone = dict(zip(collapse.NAMES, collapse.signals(probes, 1000), strict=True))
    assert np.isnan(gone["completion"])
    assert np.isnan(gone["completion_slope"])


def test_a_planted_signal_is_found_beyond_the_size():
    rows = early.rows(study(3.0, by_size=False))
    for scheme in early.SCHEMES:
        found = one(rows, f"warning/collapse/signals/{scheme}/share=0.2")
        assert found["auroc"] > 0.95
        assert found["auroc_low"] > 0.75
    assert found["n"] == 50
    assert found["n_cells"] == 25
    assert found["within_size"] > 0.9
    assert found["within_size_low"] < found["within_size"]
    assert one(rows, "warning_signal/collapse/gap_slope")["auroc"] > 0.95
    told = [row for row in rows if row["part"] == "warning_run"]
    assert len(told) == 50
    assert all(0 <= row["probability"] <= 1 for row in told)
    assert all(row["signals"]["gap"] is not None for row in told)
    assert {row["share"] for row in rows if row["part"] == "warning"} >= {0.05, 0.1, 0.2, 0.5}
    assert len({row["key"] for row in rows}) == len(rows)
    json.dumps(rows, allow_nan=False)


def test_without_a_signal_the_interval_holds_one_half():
    found = [unfitted(study(0.0, seed, by_size=False)) for seed in range(5)]
    assert sum(area.low <= 0.5 <= area.high for area in found) >= 4
    assert 0.35 < np.mean([area.value for area in found]) < 0.65


def test_a_study_that_only_the_size_decides_is_said_to_be_one():
    made = early.evidence(study(0.0))
    events, sizes = made.events, early.predictors(made)["per_rule"]
    values = early.scores(sizes, events, early.folds(made, "family"))
    assert auroc.area(values, events, made.cells).value == 1
    assert unfitted(study(0.0)).value < 0.8
    within = auroc.area(values, events, made.cells, made.column("per_rule"))
    assert within.value is None  # no size has both outcomes


def test_groups_never_lie_on_both_sides():
    made = early.evidence(study(1.0))
    for scheme in early.SCHEMES:
        for fold in early.folds(made, scheme):
            for group in set(made.groups(scheme)):
                inside = {
                    int(f) for f, g in zip(fold, made.groups(scheme), strict=True) if g == group
                }
                assert len(inside) == 1
    seen = early.folds(made, "cell")
    assert all(len(set(fold.tolist())) == 5 for fold in seen)
    # a table that names the cell: every score must come from fits that have never seen it
    which = np.array([made.cells.index(c) for c in made.cells])
    named = np.eye(len(made.cells))[which]
    events = which % 4 == 0
    values = early.scores(named, events, early.folds(made, "cell"))
    assert auroc.area(values, events, made.cells).value < 0.7


def test_the_fit_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    for n, shift in ((12, 0.0), (40, 5.0)):
        events = np.arange(n) % 3 == 0
        x = rng.standard_normal((n, 6)) + shift * events[:, None]
        weights, offset = early.logistic(x, events)
        theirs = LogisticRegression(C=early.PENALTY, class_weight="balanced", tol=1e-10)
        theirs.fit(x, events)
        assert weights == pytest.approx(theirs.coef_[0], abs=1e-5)
        assert offset == pytest.approx(theirs.intercept_[0], abs=1e-5)


def test_absent_and_constant_signals_do_no_harm():
    table = np.array([[0.0, np.nan, 5.0], [1.0, np.nan, 5.0], [2.0, np.nan, 5.0], [np.nan] * 3])
    found = early.Warner(table, np.array([False, False, True, True]))
    assert np.isfinite(found.log_odds(table)).all()
    assert found.parts(table[3]).tolist() == [0, 0, 0]
    assert found.parts(table[2]).sum() + found.offset == pytest.approx(found.log_odds(table)[2])


def test_too_little_evidence_is_said():
    few = study(1.0, families=("flow",), seeds=1)
    said = [row for row in early.rows(few) if "said" in row]
    assert [row["part"] for row in said] == ["warning_said", *["warning_lacking"] * 2]
    assert [row["definition"] for row in said] == list(collapse.DEFINITIONS)
    assert said[0]["said"].startswith("collapse: only 5 of 5 trainings")
    with pytest.raises(ValueError, match="0 of 25 configurations show collapse"):
        early.evidence([dict(r, novel_c3=0.8) for r in study(1.0)])


# ---- assay rules warn ------------------------------------------------------------------------


@pytest.fixture
def few_draws(monkeypatch):
    """Intervals from fewer refits than users get."""
    monkeypatch.setattr(early_answer, "_DRAWS", 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study in which gaps announce collapse."""
    path = tmp_path_factory.mktemp("warn") / "study"
    config = configs.ScaleConfig(recipes=("edm-tiny",), per_rule=(25, 100), rule_sets=("mini",))
    with runs.Run.open(path, config) as run:
        for row in study(3.0, by_size=False):
            run.append(row)
        run.append({"key": "failed/x/1", "status": "failed", "job": "x", "reason": "none"})
    return path


def job(path, lost, family="edm", steps=STEPS, seed=9):
    """A training Run with probes, as `assay rules scale` leaves it."""
    rng = np.random.default_rng(5)
    row = training(family, 100, seed, rng, lost, 3.0)
    config = {
        "kind": "rules.train", "name": family, "preset": "tiny", "family": family, "seed": seed,
        "data": {"per_rule": 100, "rules": list(range(8))}, "fit": {"n_steps": STEPS[-1]},
    }  # fmt: skip
    with runs.Run.open(path, config) as run:
        for found in row["probes"]:
            if found["step"] in steps:
                run.append(found)
    return path


@pytest.mark.usefixtures("few_draws")
def test_a_training_that_collapses_is_told_from_one_that_does_not(folder, tmp_path, capsys):
    paths = [str(job(tmp_path / name, name == "lost")) for name in ("lost", "kept")]
    answers = []
    for path in paths:
        assert cli.main(["rules", "warn", str(folder), "--run", path, "--json"]) in (None, 0)
        answers.append(json.loads(capsys.readouterr().out))
    lost, kept = answers
    assert kept["probability"] < 0.3 < 0.6 < lost["probability"]
    for row in answers:
        assert row["probability_low"] <= row["probability"] <= row["probability_high"]
    assert lost["parts"][0]["signal"] in ("gap", "gap_slope")
    assert lost["parts"][0]["adds"] > 0
    assert lost["n"] == 50
    rows = early_answer.study_rows(folder)
    said = early_answer.answer(rows, early_answer.read(tmp_path / "lost")[0]).said()
    assert said.startswith("lost: collapse with probability 0.")
    assert "For it: " in said
    half = early_answer.answer(rows, early_answer.read(tmp_path / "kept")[0], "memorised")
    assert half.said().startswith("kept: memorised with probability 0.")
    assert half.row()["definition"] == "memorised"


@pytest.mark.usefixtures("few_draws")
def test_a_training_that_has_just_begun_is_judged_by_evidence_as_young(folder, tmp_path):
    rows = early_answer.study_rows(folder)
    (asked,) = early_answer.read(job(tmp_path / "young", True, steps=STEPS[:3]))
    assert asked.share == pytest.approx(0.084)
    assert early_answer.answer(rows, asked).share == asked.share
    (whole,) = early_answer.read(job(tmp_path / "whole", True))
    assert whole.share == 0.2


@pytest.mark.usefixtures("few_draws")
def test_a_training_is_no_evidence_on_itself(folder, tmp_path):
    rows = early_answer.study_rows(folder)
    (asked,) = early_answer.read(job(tmp_path / "own", True, seed=0))
    assert sum(asked.same(row) for row in rows) == 1
    assert early_answer.answer(rows, asked).n == 49


def test_a_whole_study_is_answered_job_by_job(folder, tmp_path):
    config = configs.ScaleConfig(recipes=("edm-tiny",), per_rule=(25, 100))
    runs.Run.open(tmp_path / "new", config).close()
    with pytest.raises(ValueError, match="none of its trainings has come to two probes yet"):
        early_answer.read(tmp_path / "new")
    for name in ("a", "b"):
        job(tmp_path / "new" / "jobs" / name, True, steps=STEPS if name == "a" else STEPS[:1])
    assert [asked.name for asked in early_answer.read(tmp_path / "new")] == ["a"]


def test_table_and_rows(folder, capsys, monkeypatch):
    monkeypatch.setattr(early, "SHARES", (early.FIFTH,))
    monkeypatch.setattr(early, "_REPEATS", 1)
    assert cli.main(["rules", "warn", str(folder), "--json"]) in (None, 0)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["part"] for row in rows} == {"warning", "warning_signal", "warning_run"}
    assert cli.main(["rules", "warn", str(folder)]) in (None, 0)
    out = capsys.readouterr().out
    assert "of 50 trainings (25 configurations" in out
    assert "known before" in out
    assert "gap_slope" in out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda p: job(p, True, family="ddpm"),
            "'ddpm' is not in the evidence on collapse",
        ),
        (lambda p: job(p, True, steps=STEPS[4:]), "has 0 probes in the first fifth of its 1000"),
        (lambda p: job(p, True, steps=STEPS[:1]), "has 1 probes in the first fifth of its 1000"),
        (lambda p: p, "no such folder"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(folder, tmp_path, capsys, make, words):
    path = make(tmp_path / "run")
    assert cli.main(["rules", "warn", str(folder), "--run", str(path)]) == 2
    err = capsys.readouterr().err.strip()
    assert words in err
    assert len(err.splitlines()) == 1


def test_what_is_no_study_or_no_training_is_refused(folder, tmp_path, capsys):
    path = job(tmp_path / "run", True)
    assert cli.main(["rules", "warn", str(path)]) == 2
    assert "is no scaling study" in capsys.readouterr().err
    runs.Run.open(tmp_path / "other", {"kind": "x"}).close()
    assert cli.main(["rules", "warn", str(folder), "--run", str(tmp_path / "other")]) == 2
    assert "is no training; name a job of assay rules scale" in capsys.readouterr().err


def test_too_little_evidence_is_refused(tmp_path, capsys):
    config = configs.ScaleConfig(recipes=("edm-tiny",), per_rule=(25,))
    with runs.Run.open(tmp_path / "few", config) as run:
        for row in study(1.0, families=("edm",), seeds=1):
            run.append(row)
    assert cli.main(["rules", "warn", str(tmp_path / "few")]) == 2
    assert "only 5 of 5 trainings have a known outcome" in capsys.readouterr().err
