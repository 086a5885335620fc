"""The public face: rules and splits, reproducible generation, verdicts, summaries, budgets."""

import hashlib
import itertools
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

from assay.core import intervals
from assay.rules import genraven, parallel

FROZEN = {
    # (n, rules, seed): sha256 of the panels' bytes followed by the labels' (little-endian int64)
    (1000, range(40), 0): "b5419ead3bbb4651efab5691203c351277d357f83a09402c6d80f6864a326cd6",
    (300, range(30, 40), 7): "1b1669996c08adfb29c698df57ae0d56965b6a552e2566f09229e4971dd97e17",
    (300, (8, 17, 29), 2**63): "874a4947506c328aca576c6c5aecd768ee5cb7a6008ff5117ced63252c4a2706",
}


def digest(x, y):
    return hashlib.sha256(x.tobytes() + y.astype("<i8").tobytes()).hexdigest()


def test_rules_are_relation_by_attribute_in_order():
    assert [rule.id for rule in genraven.RULES] == list(range(40))
    assert len({rule.name for rule in genraven.RULES}) == 40
    for rule in genraven.RULES:
        assert rule.name == f"{rule.attribute} {rule.relation}"
    assert genraven.RULES[17].name == "size XOR"
    assert genraven.RULES[21].name == "colour progression -2"
    assert genraven.RULES[36].name == "number arithmetic -"
    assert [r.name for r in genraven.RULES[37:]] == ["position XOR", "position OR", "position AND"]


def test_splits_hold_out_five_rules_each():
    assert len(genraven.SPLITS) == 10
    assert genraven.SPLITS[0] == (1, 16, 20, 34, 37)
    for split, held_out in enumerate(genraven.SPLITS):
        assert len(set(held_out)) == 5
        assert set(genraven.trained(split)) == set(range(40)) - set(held_out)
    assert set(itertools.chain(*genraven.SPLITS)) == set(range(40))
    assert genraven.MINI.rules == tuple(range(30, 40))
    assert genraven.MINI.held_out == (34, 37)
    for wrong in (-1, 10, "a"):
        with pytest.raises(ValueError, match="split"):
            genraven.trained(wrong)


def test_select_by_attribute_and_relation():
    assert genraven.select() == tuple(range(40))
    assert genraven.select(["size"], ["XOR", "constant"]) == (10, 17)
    assert genraven.select(relations=["AND"]) == (9, 19, 29, 39)
    assert genraven.select(attributes=("number",)) == tuple(range(30, 37))
    for wrong in ({"attributes": ["hue"]}, {"relations": ["NAND"]}):
        with pytest.raises(ValueError, match="choose from"):
            genraven.select(**wrong)
    with pytest.raises(ValueError, match="no rule"):
        genraven.select(["number"], ["XOR"])


@pytest.mark.parametrize("rule", range(40))
def test_every_row_obeys_exactly_its_rule(rule):
    x, y = genraven.generate(1500, rules=[rule], seed=rule)
    ok = genraven.check(x)
    assert (y == rule).all()
    assert ok[..., rule].all()
    assert ok.sum() == ok.shape[0] * 3


def test_ground_truth_has_c3_one_and_c2_zero():
    x, y = genraven.generate(20_000, seed=11)
    assert (genraven.check(x).all(axis=1).argmax(axis=1) == y).all()
    summary = genraven.summary(genraven.check(x))
    assert summary["c3"]["estimate"] == summary["any_valid"]["estimate"] == 1
    assert summary["c2"]["estimate"] == 0


def test_samples_are_well_formed():
    x, y = genraven.generate(5000, seed=2)
    assert (x.dtype, x.shape) == (np.int8, (5000, 3, 3, 9, 3))
    assert (y.dtype, y.shape) == (np.int64, (5000,))
    empty = x == -1
    assert (empty.all(-1) == empty.any(-1)).all()
    assert x.min() == -1
    assert (x.max(axis=(0, 1, 2, 3)) == (6, 9, 9)).all()
    assert (~empty.all(-1)).any(-1).all()


def test_sample_depends_only_on_seed_index_and_rules():
    x, y = genraven.generate(60_000, seed=5)
    for n in (0, 1, 17, parallel.SPAN, parallel.SPAN + 1):
        part = genraven.generate(n, seed=5)
        assert (part[0] == x[:n]).all()
        assert (part[1] == y[:n]).all()
    for threads in (1, 2, 5):
        again = genraven.generate(60_000, seed=5, threads=threads)
        assert (again[0] == x).all()
        assert (again[1] == y).all()
    later = genraven.generate(1000, seed=5, first=40_000)
    assert (later[0] == x[40_000:41_000]).all()
    assert (genraven.generate(100, seed=6)[0] != x[:100]).any(axis=(1, 2, 3, 4)).all()


def test_order_of_rules_is_irrelevant():
    x, y = genraven.generate(500, rules=(3, 17, 38), seed=1)
    again = genraven.generate(500, rules=np.array([38, 3, 17]), seed=1)
    assert (again[0] == x).all()
    assert (again[1] == y).all()
    assert set(y.tolist()) == {3, 17, 38}


def test_stream_is_generate_in_batches():
    x, y = genraven.generate(700, rules=[4, 33], seed=9)
    batches = list(itertools.islice(genraven.stream(200, rules=[33, 4], seed=9), 4))
    assert (np.concatenate([b[0] for b in batches])[:700] == x).all()
    assert (np.concatenate([b[1] for b in batches])[:700] == y).all()
    once = genraven.stream(50, rules=iter([4, 33]), seed=9)
    assert (np.concatenate([next(once)[0], next(once)[0]]) == x[:100]).all()


def test_rules_of_samples_are_uniform_and_independent():
    """Fails by chance with probability 3e-6."""
    for rules in (range(40), (0, 5, 39)):
        y = genraven.generate(150_000, rules=rules, seed=21)[1]
        ids = np.searchsorted(list(rules), y)
        m = len(rules)
        assert stats.chisquare(np.bincount(ids, minlength=m)).pvalue > 1e-6
        pairs = np.bincount(ids[1:] * m + ids[:-1], minlength=m * m)
        assert stats.chisquare(pairs).pvalue > 1e-6


def test_rows_of_a_sample_are_independent():
    """The governed triples of rows 1 and 2 of one sample; fails by chance at 1e-6."""
    x = genraven.generate(60_000, rules=[10], seed=3)[0]
    value = x[..., 1].max(axis=(2, 3)).astype(int)
    table = np.bincount(value[:, 0] * 10 + value[:, 1], minlength=100).reshape(10, 10)[1:, 1:]
    assert table.sum() == 60_000
    assert stats.chi2_contingency(table).pvalue > 1e-6


@pytest.mark.parametrize("law", FROZEN)
def test_law_is_frozen(law):
    assert genraven.LAW_VERSION == 1
    n, rules, seed = law
    assert digest(*genraven.generate(n, rules, seed)) == FROZEN[law]


def test_generate_refuses_what_it_cannot_do():
    for rules, message in [
        ([1, 1], "duplicates"),
        ([], "empty"),
        ([40], "40"),
        ([-1, 3], "-1"),
        (["a"], "integers"),
        ([1.5], "integers"),
        (7, "integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            genraven.generate(1, rules=rules)
        with pytest.raises(ValueError, match=message):
            genraven.stream(1, rules=rules)
    for n in (-1, 1.0, "3", 1 << 63):
        with pytest.raises(ValueError, match="n must"):
            genraven.generate(n)
        with pytest.raises(ValueError, match="batch must"):
            genraven.stream(n)
    with pytest.raises(ValueError, match="first"):
        genraven.generate(1, first=-1)
    with pytest.raises(ValueError, match="batch"):
        genraven.stream(0)
    for seed in (-1, 1 << 64, 0.5):
        with pytest.raises(ValueError, match="seed"):
            genraven.generate(1, seed=seed)
        with pytest.raises(ValueError, match="seed"):
            genraven.stream(1, seed=seed)
    with pytest.raises(ValueError, match="threads"):
        genraven.generate(1, threads=0)
    assert genraven.generate(1, seed=(1 << 64) - 1)[0].shape == (1, 3, 3, 9, 3)


def verdicts(rng, n):
    return rng.random((n, 3, 40)) < rng.choice([0.005, 0.3], (n, 1, 40))


def test_summary_against_a_plain_count():
    ok = verdicts(np.random.default_rng(8), 3000)
    summary = genraven.summary(ok)
    c3 = sum(any(s[:, r].sum() == 3 for r in range(40)) for s in ok)
    c2 = sum(any(s[:, r].sum() == 2 for r in range(40)) for s in ok)
    valid = np.array([[row.any() for row in sample] for sample in ok])
    assert summary["n"] == 3000
    for name, k in (("c3", c3), ("c2", c2)):
        low, high = intervals.wilson(k, 3000)
        assert summary[name] == {"estimate": k / 3000, "low": low, "high": high}
    assert list(summary["per_rule"]) == [rule.name for rule in genraven.RULES]
    for rule in genraven.RULES:
        k = int(ok[:, :, rule.id].all(axis=1).sum())
        low, high = intervals.wilson(k, 3000)
        assert summary["per_rule"][rule.name] == {"estimate": k / 3000, "low": low, "high": high}
    assert summary["any_valid"]["estimate"] == pytest.approx(valid.mean(), abs=1e-12)
    assert c2 + c3 > 3000 > max(c2, c3)  # a sample may count in both


def test_any_valid_interval_counts_samples_not_rows():
    """Rows that agree within a sample: the interval is sqrt(3) wider than that of single rows."""
    rng = np.random.default_rng(0)
    ok = np.zeros((4000, 3, 40), bool)
    ok[:, :, 7] = (rng.random(4000) < 0.5)[:, None]
    alike = genraven.summary(ok)["any_valid"]
    error = math.sqrt(0.25 / 4000)
    assert alike["high"] - alike["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    ok[:, :, 7] = rng.random((4000, 3)) < 0.5
    mixed = genraven.summary(ok)["any_valid"]
    assert mixed["high"] - mixed["low"] == pytest.approx(2 * 1.96 * error / math.sqrt(3), rel=0.1)
    assert genraven.summary(ok) == genraven.summary(ok)
    assert genraven.summary(ok, level=0.5)["any_valid"]["low"] > mixed["low"]


def test_summary_without_samples_knows_nothing():
    summary = genraven.summary(np.zeros((0, 3, 40), bool))
    for part in (summary["c3"], summary["any_valid"], summary["per_rule"]["size OR"]):
        assert part == {"estimate": None, "low": 0.0, "high": 1.0}


def test_summary_refuses_what_check_never_returns():
    for wrong in (np.zeros((2, 3, 39), bool), np.zeros((3, 40), bool), np.zeros((2, 3, 40))):
        with pytest.raises(ValueError, match="ok must be"):
            genraven.summary(wrong)
    with pytest.raises(ValueError, match="level"):
        genraven.summary(np.zeros((2, 3, 40), bool), level=1.0)


def test_summary_of_a_million_samples_is_quick():
    ok = np.zeros((1_000_000, 3, 40), bool)
    ok[::3, :, 4] = True
    begin = time.process_time()
    summary = genraven.summary(ok)
    assert time.process_time() - begin < 5
    assert summary["c3"]["estimate"] == pytest.approx(1 / 3, abs=1e-6)


def test_import_is_quick_and_small():
    code = """
import resource, sys, time
import numba, numpy
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.process_time()
import assay.rules.genraven
seconds = time.process_time() - begin
unit = 1024 ** (2 if sys.platform == "darwin" else 1)
megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit
assert seconds < 0.3, seconds
assert megabytes < 100, megabytes
assert not {"torch", "pandas", "scipy.stats"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def rate(work, count):
    """Best of seven: things done per second of one core."""
    best = math.inf
    for _ in range(7):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return count / best


@pytest.mark.slow
def test_speed_is_above_the_floors():
    x, _ = genraven.generate(100_000, threads=1)
    genraven.check(x[:10])
    assert rate(lambda: genraven.generate(100_000, threads=1), 300_000) > 1.5e6
    assert rate(lambda: genraven.check(x, threads=1), 100_000) > 1.5e6
