"""Early warnings on simulated studies: planted signals found, none invented, no group leaks."""

import json

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score

from assay.rules.scaling import auroc, collapse, early

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
    events = made.events()
    values = early.scores(made.table, events, early.folds(made, "cell", events))
    return auroc.area(values, events, made.cells)


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
    slow = next(r for r in rows if r["key"] == "flow-tiny.n400.mini.seed0")
    slow["novel_c3"] = 0.1
    copying = next(r for r in rows if r["key"] == "flow-tiny.n25.mini.seed0")
    copying["copies_row_low"], copying["probes"][-1]["validation_loss"] = 0.5, 1.0
    found = {t.row["per_rule"]: t.outcomes for t in collapse.trainings(rows)}
    assert len(found) == len(SIZES)  # masked is left out
    assert found[25] == {"collapse": True, "poor": True, "memorised": True}
    assert found[400] == {"collapse": False, "poor": True, "memorised": False}
    assert found[6400] == {"collapse": False, "poor": False, "memorised": False}
    streamed = dict(rows[0], per_rule=None, novel_c3=0.2, key="s")
    reach = {t.reach for t in collapse.trainings([*rows, streamed])}
    assert reach == {0.2}
    assert not collapse.trainings(rows[:2])  # two sizes say nothing about ample data


def test_signals_see_the_first_fifth_only():
    rng = np.random.default_rng(0)
    probes = [probe(step, rng, 0.01 * np.log(step)) for step in STEPS]
    found = dict(zip(collapse.NAMES, collapse.signals(probes, 1000), strict=True))
    assert found["gap"] == pytest.approx(0.01 * np.log(160))
    assert found["gap_slope"] == pytest.approx(0.01)
    assert found["rise"] == 0
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
    events, sizes = made.events(), early.predictors(made)["per_rule"]
    values = early.scores(sizes, events, early.folds(made, "family", events))
    assert auroc.area(values, events, made.cells).value == 1
    assert unfitted(study(0.0)).value < 0.8
    within = auroc.area(values, events, made.cells, made.column("per_rule"))
    assert within.value is None  # no size has both outcomes


def test_groups_never_lie_on_both_sides():
    made = early.evidence(study(1.0))
    for scheme in early.SCHEMES:
        for fold in early.folds(made, scheme, made.events()):
            for group in set(made.groups(scheme)):
                inside = {
                    int(f) for f, g in zip(fold, made.groups(scheme), strict=True) if g == group
                }
                assert len(inside) == 1
    seen = early.folds(made, "cell", made.events())
    assert all(len(set(fold.tolist())) == 5 for fold in seen)
    # a table that names the cell: every score must come from fits that have never seen it
    which = np.array([made.cells.index(c) for c in made.cells])
    named = np.eye(len(made.cells))[which]
    events = which % 4 == 0
    values = early.scores(named, events, early.folds(made, "cell", events))
    assert abs(auroc.area(values, events, made.cells).value - 0.5) < 0.3


def test_absent_and_constant_signals_do_no_harm():
    table = np.array([[0.0, np.nan, 5.0], [1.0, np.nan, 5.0], [2.0, np.nan, 5.0], [np.nan] * 3])
    found = early.Warner(table, np.array([False, False, True, True]))
    assert np.isfinite(found.log_odds(table)).all()
    assert found.parts(table[3]).tolist() == [0, 0, 0]
    assert found.parts(table[2]).sum() + found.offset == pytest.approx(found.log_odds(table)[2])


def test_too_little_evidence_is_said():
    few = study(1.0, families=("flow",), seeds=1)
    (row,) = early.rows(few)
    assert row["part"] == "warning_said"
    assert "only 5 of 5 trainings" in row["said"]
    with pytest.raises(ValueError, match="0 of 25 configurations show collapse"):
        early.evidence([dict(r, novel_c3=0.8) for r in study(1.0)])
