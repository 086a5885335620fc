"""The rollout's rule: promotes, holds, rolls back and falls back; never a bad w beyond alpha."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.core.anytime import MeanSequence
from assay.guidance import Guard, Rollout
from assay.guidance.rollouts import rule as rollout_rule
from assay.guidance.rollouts.state import Standing

GUARDS = ["off at most 0.1", "quality at least 0.5"]
GOOD, BAD_OFF, BAD_QUALITY = ({"off": 0, "quality": 0.9}, {"off": 1, "quality": 0.9},
                              {"off": 0, "quality": 0.1})  # fmt: skip


def noisy(off, n, rng, quality=0.9):
    scores = rng.beta(8 * quality, 8 - 8 * quality, n)
    return [{"off": int(rng.random() < off), "quality": float(q)} for q in scores]


# ---- decisions ---------------------------------------------------------------------------------


def test_good_rows_promote_through_all_stages_into_production():
    rollout = Rollout([0, 0.5, 2], GUARDS)
    assert (rollout.w, rollout.guidance_scale, rollout.good_w) == (0, 1, None)
    seen = [rollout.observe([GOOD] * 200) for _ in range(3)]
    assert [d.action for d in seen] == ["promote"] * 3
    assert [d.w for d in seen] == [0.5, 2, 2]
    assert (rollout.state, rollout.good_w, rollout.w) == ("production", 2, 2)
    assert "off 0 (between 0 and 0.1, n = " in seen[0].reason
    assert seen[0].reason.endswith("is at least 0.5; next: w = 0.5")
    assert all(g["verdict"] == "inside" for g in seen[0].guards)
    assert rollout.observe(GOOD).action == "watch"


@pytest.mark.parametrize("bad", [BAD_OFF, BAD_QUALITY])
@pytest.mark.parametrize("stages_passed", [0, 1, 2])
def test_bad_rows_roll_back_to_the_last_good_w(bad, stages_passed):
    rollout = Rollout([0, 1, 2], GUARDS, fallback=-0.5)
    for _ in range(stages_passed):
        rollout.observe([GOOD] * 200)
    decision = rollout.observe([bad] * 200)
    assert (decision.action, rollout.state) == ("roll_back", "rolled_back")
    assert decision.w == rollout.w == [-0.5, 0, 1][stages_passed]
    assert decision.used < 200
    name = "off" if bad is BAD_OFF else "quality"
    assert f"w = {stages_passed} is bad: {name}" in decision.reason
    assert ("the fallback" in decision.reason) == (stages_passed == 0)
    after = rollout.observe([GOOD] * 500)
    assert (after.action, after.used, after.w) == ("over", 0, decision.w)


def test_undecided_holds_until_the_budget_is_spent_then_for_good():
    rng = np.random.default_rng(0)
    rollout = Rollout([0, 1], GUARDS, budget=300)
    assert rollout.observe([GOOD] * 200).action == "promote"
    assert rollout.observe(noisy(0.1, 250, rng)).action == "hold"
    decision = rollout.observe(noisy(0.1, 250, rng))
    assert (decision.action, decision.used, rollout.state) == ("hold_for_good", 50, "held")
    assert (rollout.w, rollout.good_w) == (0, 0)
    assert "holds for good after 300 rows: off" in decision.reason


def test_every_guard_must_be_inside_at_once():
    rollout = Rollout([0, 1], GUARDS)
    decision = rollout.observe([{"off": 0}] * 500)
    assert decision.action == "hold"
    assert "quality has not been measured" in decision.reason
    verdicts = {g["name"]: g["verdict"] for g in decision.guards}
    assert verdicts == {"off": "inside", "quality": "undecided"}
    assert rollout.observe([{"quality": 0.9, "off": None}] * 50).action == "promote"


def test_rows_after_the_deciding_one_do_not_count():
    rollout = Rollout([0, 1], GUARDS)
    decision = rollout.observe([GOOD] * 100 + [BAD_OFF] * 1000)
    assert (decision.action, decision.used) == ("promote", decision.guards[0]["n"])
    assert decision.used < 100
    assert rollout.decide().guards[0]["n"] == 0


def test_drift_in_production_falls_back():
    rng = np.random.default_rng(1)
    rollout = Rollout([0, 1], GUARDS)
    for _ in range(2):
        rollout.observe([GOOD] * 200)
    assert rollout.observe(noisy(0.02, 2000, rng)).action == "watch"
    decision = rollout.observe(noisy(0.4, 500, rng))
    assert (decision.action, rollout.state, rollout.w) == ("fall_back", "rolled_back", 0)
    assert decision.used < 200
    assert "w = 1 has drifted: off" in decision.reason


def test_production_may_begin_at_the_last_good_stage():
    rollout = Rollout([0, 1, 2], GUARDS)
    with pytest.raises(ValueError, match="no stage good yet"):
        rollout.production()
    rollout.observe([GOOD] * 200)
    decision = rollout.production("enough for us")
    assert (decision.action, decision.w, rollout.state) == ("watch", 0, "production")
    assert rollout.observe([BAD_OFF] * 300).action == "fall_back"
    with pytest.raises(ValueError, match="is over"):
        rollout.production()


def test_metrics_measure_samples():
    guards = [Guard("off", at_most=0.1, metric=lambda x: abs(x).max(1) > 1),
              Guard("quality", at_least=0.5, metric=lambda x: 1 - x.std(1))]  # fmt: skip
    rollout = Rollout([0, 1], guards)
    decision = rollout.measure(np.zeros((200, 3)))
    assert (decision.action, rollout.w) == ("promote", 1)
    short = Guard("a", at_most=0.5, metric=lambda x: x[:1, 0])
    with pytest.raises(ValueError, match="one value a sample"):
        Rollout([0], [short]).measure(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="has no metric"):
        Rollout([0], GUARDS).measure(np.zeros((5, 2)))


# ---- what the theorem says ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", [0.1, 0.13])
def test_bad_stage_is_promoted_in_at_most_alpha_of_the_rollouts(fault):
    # 500 streams of 1,000 rows at the limit, then beyond it; error probability 1e-4
    alpha, n = 0.1, 500
    plan = rollout_rule.plan([0, 1, 2], GUARDS, alpha)
    rng = np.random.default_rng(11)
    gate, promoted = rollout_rule.Gate(plan, (n,)), np.zeros(n, bool)
    rolled = np.zeros(n, bool)
    for _ in range(10):
        off = (rng.random((100, n)) < fault).astype(float)
        inside, outside = gate.update([off, np.full((100, n), 0.9)])
        promoted |= inside.all(-1).any(0)
        rolled |= outside.any(-1).any(0)
    assert promoted.sum() <= stats.binom.ppf(1 - 1e-4, n, alpha)
    if fault == 0.1:  # at the limit and not beyond it: a rollback would have no cause
        assert rolled.sum() <= stats.binom.ppf(1 - 1e-4, n, alpha / 2)
        assert promoted.sum() > 0.01 * n  # the budget is used, not idle
    else:
        assert rolled.mean() > 0.2


def test_error_budgets_add_up():
    plan = rollout_rule.plan([0, 1, 2, 4], [*GUARDS, "x at most 0.2"], 0.05)
    assert 4 * 3 * plan.beta + 3 * plan.watch_alpha == pytest.approx(0.05)
    off, quality = plan.guards[:2]
    assert plan.alphas(off) == (plan.beta, 0.05)
    assert plan.alphas(quality) == (0.05, plan.beta)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=80), st.integers(1, 7))
def test_decision_is_where_the_confidence_sequences_leave_their_limits(values, step):
    # the second route: intervals at single looks, from a fresh sequence each
    guard = Guard("x", at_most=0.4)
    rollout = Rollout([0, 1], [guard], 0.3)
    acts = []
    for start in range(0, len(values), step):
        acts.append(rollout.observe([{"x": v} for v in values[start : start + step]]))
        if acts[-1].action != "hold":
            break
    expected, plan = "hold", rollout.plan
    for n in range(1, len(values) + 1):
        test = MeanSequence(plan.alphas(guard), means=[0.4]).update(values[:n])
        lower, upper = test.interval()
        expected = "roll_back" if lower == 0.4 else "promote" if upper == 0.4 else "hold"
        if expected != "hold":
            assert sum(a.used for a in acts) == n
            break
    assert acts[-1].action == expected


def test_gate_of_many_streams_decides_as_single_rollouts_do():
    rng = np.random.default_rng(4)
    plan = rollout_rule.plan([0, 1], GUARDS, 0.1)
    n, streams = 300, 12
    off = (rng.random((n, streams)) < np.linspace(0, 0.3, streams)).astype(float)
    quality = rng.beta(6, 4, (n, streams))
    gate = rollout_rule.Gate(plan, (streams,))
    verdicts, rows = rollout_rule.first_verdict(*gate.update([off, quality]))
    assert set(verdicts) == {-1, 0, 1}
    action = {1: "promote", 0: "hold", -1: "roll_back"}
    for i in range(streams):
        rollout = Rollout([0, 1], GUARDS, 0.1)
        data = zip(off[:, i], quality[:, i], strict=True)
        decision = rollout.observe([{"off": a, "quality": b} for a, b in data])
        assert decision.action == action[verdicts[i]]
        assert decision.used == min(rows[i] + 1, n)


# ---- the log carries everything ----------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_log_replays_to_the_same_standing(tmp_path_factory, seed, size):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    rollout = Rollout([0, 1, 2], GUARDS, log=path, budget=200)
    off = rng.choice([0.0, 0.02, 0.1, 0.4], 12)
    for p in off:
        rollout.observe(noisy(p, size, rng))
    again = Rollout.read(path)
    assert again.standing().row() == rollout.standing().row()
    resumed = Rollout([0, 1, 2], GUARDS, log=path, budget=200)
    assert resumed.standing().row() == rollout.standing().row()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    standing = Standing(rollout.plan)
    for entry in entries:
        standing.apply(entry["kind"], entry["data"])
    assert (standing.w, standing.phase) == (resumed.w, resumed.state)


def test_log_of_another_plan_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "log.jsonl"
    Rollout([0, 1], GUARDS, log=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"another plan \(stages differ\)"):
        Rollout([0, 2], GUARDS, log=path)
    with pytest.raises(ValueError, match=r"\(guards, alpha differ\)"):
        Rollout([0, 1], ["off at most 0.2"], 0.1, log=path)
    assert path.read_bytes() == before


def test_every_entry_with_a_weight_has_its_guidance_scale(tmp_path):
    path = tmp_path / "log.jsonl"
    rollout = Rollout([0, 1], GUARDS, log=path)
    rollout.observe([GOOD] * 200)
    rollout.observe([BAD_OFF] * 200)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = [e["kind"] for e in entries]
    assert kinds == ["opened", "observed", "promoted", "observed", "rolled_back"]
    for e in entries[1:]:
        for at in [e["data"]] if e["kind"] == "observed" else [e["data"]["from"], e["data"]["to"]]:
            assert at["guidance_scale"] == 1 + at["w"]


# ---- input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "words"), [
    ({"of": 1}, "'of', which is no guard"), ({"off": 2}, "outside its range 0 to 1"),
    ({"off": math.nan}, "outside its range"), ({"off": "x"}, "no number"), (3, "must map guards"),
])  # fmt: skip
def test_bad_rows_are_refused_before_any_is_taken(tmp_path, row, words):
    path = tmp_path / "log.jsonl"
    rollout = Rollout([0, 1], GUARDS, log=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=words):
        rollout.observe([GOOD, row])
    assert path.read_bytes() == before
    assert rollout.standing().guards[0]["n"] == 0


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Rollout([], GUARDS), "stages"), (lambda: Rollout([0, 0], GUARDS), "must increase"),
    (lambda: Rollout([-2, 0], GUARDS), "w >= -1"), (lambda: Rollout([0], []), "one guard"),
    (lambda: Rollout([0, math.inf], GUARDS), "finite"),
    (lambda: Rollout([0], GUARDS, 0), "alpha"), (lambda: Rollout([0], GUARDS, budget=0), "budget"),
    (lambda: Rollout([0], GUARDS, fallback=math.nan), "fallback"),
    (lambda: Rollout([0], ["a at most 0.1"] * 2), "comes twice"),
    (lambda: Guard("a"), "one of at_most and at_least"),
    (lambda: Guard("a\x1b[31m", 0.1), "printable"),
    (lambda: Guard("a", 0.1, 0.2), "one of at_most"), (lambda: Guard("", 0.1), "name"),
    (lambda: Guard("w", at_most=0.1), 'cannot be named "w"'),
    (lambda: Guard("a", at_most=0), "strictly between"),
    (lambda: Guard("a", at_most=0.1, high=math.inf), "finite"),
    (lambda: Guard.parse("a below 3"), "is not understood"),
    (lambda: Guard.parse("a at most x"), "'x' is not a number"),
])  # fmt: skip
def test_plans_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


names = (
    st.text(min_size=1, max_size=20)
    .map(str.strip)
    .filter(lambda s: s and s != "w" and s.isprintable())
)


@settings(max_examples=50, deadline=None)
@given(names, st.booleans(), st.floats(-5, 5), st.floats(1e-3, 5), st.floats(1e-3, 5))
def test_guards_are_read_back_from_their_words_and_data(name, most, limit, down, up):
    sides = {"at_most" if most else "at_least": limit}
    guard = Guard(name, **sides, low=limit - down, high=limit + up)
    assert Guard.of(guard.data()) == guard
    if " at " not in name and "\n" not in name:
        assert Guard.parse(guard.words) == guard
    means = guard.means()
    assert (np.diff(means) > 0).all()
    assert limit in means
