"""Evaluation: the data themselves score 1, copies are found, every share is a count."""

import numpy as np
import pytest

from assay import runs
from assay.core import intervals
from assay.rules import bindings, completion, evaluate, genraven, recipe, recipes

DATA = recipe.Data(per_rule=20)
SEEN = DATA.n_samples
CONFIG = evaluate.EvaluateConfig(n=300, n_any_panel=40)


class Truth:
    """Draws samples of the trained rules (from a seed of its own) and completes by deduction."""

    def __init__(self, seed=77, n_copies=0):
        self.seed, self.n_copies = seed, n_copies
        self.calls = 0

    def sample(self, n, seed=0, temperature=1.0):
        self.calls += 1
        x, _ = genraven.generate(n, DATA.rules, self.seed + seed)
        x[: self.n_copies] = genraven.generate(SEEN, DATA.rules, DATA.seed)[0][: self.n_copies]
        shuffled = np.random.default_rng(0).permutation(9)
        x[: self.n_copies] = x[: self.n_copies][:, ::-1][..., shuffled, :]
        return x

    def complete(self, panels, mask, seed=0, temperature=0.0):
        return completion.complete(panels, mask, np.random.default_rng(seed), range(40))[0]


def rows_of(generator, config=CONFIG, **options):
    found = evaluate.Evaluation(generator, DATA, 0, config, **options).rows()
    assert len({row["key"] for row in found}) == len(found)
    return {row["key"]: row for row in found}


def test_truth_scores_one_everywhere():
    rows = rows_of(Truth())
    row = rows["unconditional/T=1"]
    for name in ("c3", "any_valid", "row1", "row2", "row3", "novel_c3", "novel_set_c3", "implied"):
        assert row[name] == 1, name
    assert row["c2"] == 0
    assert rows["completion/r3c3"]["trained"] == rows["completion/r3c3"]["held_out"] == 1
    assert rows["completion/r3c3"]["marginal_all"] < 0.2
    places = [f"any_panel/r{r}c{c}" for r in (1, 2, 3) for c in (1, 2, 3)]
    assert [rows[place]["all"] for place in places] == [1] * 9
    assert rows["copies/T=1/sample"]["copies"] == 0
    assert rows["copies/T=1/row"]["natural"] == 0
    assert rows["copies/T=1/panel"]["natural"] > 0


def test_copies_are_found_whatever_their_cells_and_rows():
    row = rows_of(Truth(n_copies=120), CONFIG.model_copy(update={"protocols": ("unconditional",)}))
    assert row["unconditional/T=1"]["c3"] == 1
    assert row["unconditional/T=1"]["novel_c3"] == 180 / 300
    copies = rows_of(Truth(n_copies=120), CONFIG.model_copy(update={"protocols": ("copies",)}))
    for level in ("sample", "row", "set_row"):
        assert copies[f"copies/T=1/{level}"]["copies"] == 120 / 300


def test_rule_rows_are_shares_of_the_samples():
    rows = rows_of(Truth(), CONFIG.model_copy(update={"protocols": ("unconditional",)}))
    _, y = genraven.generate(300, DATA.rules, 77)
    for rule in genraven.RULES:
        row = rows[f"unconditional/T=1/rule-{rule.id}"]
        assert row["share"] == row["share_of_c3"] == (y == rule.id).mean()
        assert row["trained"] == (rule.id in DATA.rules)
    assert sum(r["nominal"] for r in rows.values() if r["part"] == "rule") == pytest.approx(1)


def test_measures_by_plain_counting():
    rng = np.random.default_rng(1)
    ok = rng.random((400, 3, 40)) < 0.02
    ok[:150, :, 3] = True
    ok[150:200, 1:, 4] = True
    found = evaluate.measures(ok)
    sets = [[set(np.flatnonzero(row)) for row in sample] for sample in ok]
    c3 = sum(bool(a & b & c) for a, b, c in sets)
    one = sum(bool(a) for a, _, _ in sets)
    pair = sum(bool(a & b) for a, b, _ in sets)
    two = sum(any((r in a) + (r in b) + (r in c) == 2 for r in a | b | c) for a, b, c in sets)
    assert found["c3"] == c3 / 400
    assert found["c2"] == two / 400
    assert (found["row1"], found["row2"], found["row3"]) == (one / 400, pair / one, c3 / pair)
    assert found["row1"] * found["row2"] * found["row3"] == pytest.approx(found["c3"])
    assert found["any_valid"] == sum(bool(r) for s in sets for r in s) / 1200
    low, high = intervals.wilson(c3, 400)
    assert (found["c3_low"], found["c3_high"], found["c3_n"]) == pytest.approx((low, high, 400))


def test_implied_completion_is_exact_where_the_joint_is_known():
    """Rows agree on a rule but the last panel of one is wrong with chance 1 - q: implied q."""
    q, n = 0.8, 200_000
    wrong = np.random.default_rng(2).random((n, 3)) > q
    c3, c2 = ~wrong.any(1), wrong.sum(1) == 1
    found = evaluate.implied(c3, c2)
    # C3 = q^3 and C2 = 3 q^2 (1 - q): C3/(C3 + C2/3) = q; within 5 standard errors
    assert abs(found["implied"] - q) < 5 * (q * (1 - q) / found["implied_n"]) ** 0.5
    assert found["implied_low"] < q < found["implied_high"]
    none = evaluate.implied(np.zeros(5, bool), np.zeros(5, bool))
    assert none["implied"] is None
    assert (none["implied_low"], none["implied_high"]) == (0, 1)


def test_nothing_valid_has_no_stages():
    class Noise(Truth):
        def sample(self, n, seed=0, temperature=1.0):
            return np.full((n, 3, 3, 9, 3), -1, np.int8)

    row = rows_of(Noise(), CONFIG.model_copy(update={"protocols": ("unconditional",)}))
    row = row["unconditional/T=1"]
    assert row["c3"] == row["row1"] == 0
    assert "row2" not in row
    assert row["implied"] is None


def test_streamed_training_rows_are_made_again():
    data = recipe.Data()

    class Copier(Truth):
        def sample(self, n, seed=0, temperature=1.0):
            return genraven.generate(n, data.rules, data.seed, first=100)[0]

    config = CONFIG.model_copy(update={"protocols": ("unconditional",)})
    found = evaluate.Evaluation(Copier(), data, 250, config).rows()[0]
    assert found["n_trained"] == 250
    assert found["novel_c3"] == 150 / 300


def test_mini_counts_plain_copies_of_occupancy():
    mini = recipes.get("settoken-tiny").data

    class Mini(Truth):
        def sample(self, n, seed=0, temperature=1.0):
            x, _ = genraven.generate(n, mini.rules, 5)
            return bindings.get("positions").project(x)

    binding = bindings.get("positions")
    config = CONFIG.model_copy(update={"protocols": ("unconditional", "copies")})
    rows = evaluate.Evaluation(Mini(), mini, 1000, config, binding).rows()
    first = rows[0]
    assert first["c3"] == 1
    assert first["novel_c3"] > 0.8
    assert "novel_set_c3" not in first
    assert {r["level"] for r in rows if r["part"] == "copies"} >= {"row", "sample", "panel"}


def test_temperatures_are_a_product_and_runs_are_resumed(tmp_path):
    config = CONFIG.model_copy(
        update={"temperatures": (0.5, 1.0), "protocols": ("unconditional", "copies")}
    )
    one, two = Truth(), Truth()
    with runs.Run.open(tmp_path, config) as run:
        evaluation = evaluate.Evaluation(one, DATA, 0, config)
        first = evaluation.rows(run)
    assert one.calls == 2
    with runs.Run.open(tmp_path, config) as run:
        again = evaluate.Evaluation(two, DATA, 0, config).rows(run)
    assert two.calls == 0
    strip = [{k: v for k, v in row.items() if k not in ("group", "last")} for row in first]
    again = [{k: v for k, v in row.items() if k not in ("group", "last")} for row in again]
    assert strip == again
    assert {row["temperature"] for row in first} == {0.5, 1.0}


def test_configs_are_refused_in_words():
    with pytest.raises(ValueError, match="any_panel"):
        evaluate.EvaluateConfig(protocols=("everything",))
    assert evaluate.EvaluateConfig(levels=("panel",)).levels == ("row", "set_row", "panel")
    usual = evaluate.EvaluateConfig()
    assert evaluate.EvaluateConfig(levels=usual.levels[::-1]) == usual
    with pytest.raises(ValueError, match="level 'cell' is unknown"):
        evaluate.EvaluateConfig(levels=("cell",))
