"""Bits of the data against enumeration and the generator; thresholds of simulated studies."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from assay import cli, runs
from assay.rules import genraven, mini, relations
from assay.rules.scaling import capacity, databits
from assay.rules.scaling import config as configs

H = databits.sample_bits(mini.TRAINED)
MODELS = {"gpt2-tiny": 157506, "settoken-tiny": 164816, "edm-tiny": 1177345, "sit-tiny": 255765}
SIZES = (25, 100, 400, 1600, 6400)


def enumerated(rule):
    """H(row) of a number rule from every pair of panels; the third panel counted."""
    sets = np.arange(1, 512)
    x1, x2 = (grid.ravel() for grid in np.meshgrid(sets, sets, indexing="ij"))
    n1, n2 = np.bitwise_count(x1), np.bitwise_count(x2)
    both, either = np.bitwise_count(x1 & x2), np.bitwise_count(x1 | x2)
    thirds = {7: either - both, 8: either, 9: both}
    ends = set(itertools.chain(*relations.triples(relations.NUMBER)))
    triples = relations.triples(relations.NUMBER)[rule - 30]
    bits = 0.0
    for a, b, c in triples:
        here = (n1 == a) & (n2 == b) & (both > 0) & (x1 != x2)
        kept = [e for e in range(1, 10) if (a, b, e) not in ends]
        found = [sum((here & (third == e)) for third in thirds.values()) for e in kept]
        found = [rows / rows.sum() for rows in found if rows.sum()]
        weight = sum(found) / len(found)  # of each pair, over third numbers that are kept
        p = weight[weight > 0] / len(triples) / math.comb(9, c)
        bits -= (p * np.log2(p)).sum() * math.comb(9, c)
    return bits


def test_bits_of_a_row_are_those_of_its_enumerated_law():
    assert databits.row_bits(34) == pytest.approx(enumerated(34), abs=1e-9)


def test_position_rows_are_counted_as_published():
    lengths = [round(2 ** databits.row_bits(rule)) for rule in (37, 38, 39)]
    assert lengths == [168372, 184092, 171126]
    assert databits.sample_bits([37]) == pytest.approx(3 * math.log2(168372))
    assert databits.sample_bits([37, 39, 39]) == pytest.approx(
        1 + 1.5 * math.log2(168372) + 1.5 * math.log2(171126)
    )


def test_shared_cells_follow_the_law_in_generated_rows():
    x, _ = genraven.generate(6000, [30, 31, 32, 33, 34, 35, 36], 5)
    full = (x >= 0).all(-1).reshape(-1, 3, 9)
    numbers = full.sum(-1)
    shared = (full[:, 0] & full[:, 1]).sum(-1)
    for pair in ((2, 2), (3, 4), (5, 3)):
        law = databits.shared_law(*pair)
        here = shared[(numbers[:, 0] == pair[0]) & (numbers[:, 1] == pair[1])]
        assert len(here) > 200
        assert set(here.tolist()) <= set(law)
        if len(law) > 1:
            counts = [(here == s).sum() for s in law]
            assert stats.chisquare(counts, len(here) * np.array(list(law.values()))).pvalue > 1e-4


def test_bits_of_a_set_and_back():
    assert databits.set_bits(1, H) == pytest.approx(H)
    assert databits.set_bits(2, H) == pytest.approx(2 * H - 1)
    for n in (7.0, 1234.5, 51200.0):
        assert databits.samples_for(databits.set_bits(n, H), H) == pytest.approx(n, rel=1e-9)
    assert databits.samples_for(1e9, 3.0) is None
    with pytest.raises(ValueError, match=r"rules 30 to 39 \(occupancy alone\), got \[12\]"):
        databits.sample_bits([12])


def row(model, size, seed, copies, novel):
    last = {"key": "probe-0000300", "step": 300, "train_loss": 0.5}
    shares = {}
    for name, value in (("copies_row", copies), ("natural_row", 0.002), ("novel_c3", novel)):
        shares |= {name: value, f"{name}_low": max(0, value - 0.001),
                   f"{name}_high": value + 0.001, f"{name}_n": 1000}  # fmt: skip
    return {
        "key": f"{model}.n{size}.mini.seed{seed}", "status": "done", "model": model,
        "recipe": model, "family": {"gpt2": "autoregressive"}.get(model[:4], model[:-5]),
        "rule_set": "mini", "per_rule": size, "n_rules": 8, "seed": seed, "n_steps": 300,
        "parameters": MODELS[model], "samples_seen": 300 * 256, "probes": [last], **shares,
    }  # fmt: skip


def study(threshold, models=tuple(MODELS)):
    """Below the threshold (samples per rule, by model) all is copied, above nothing."""
    found = []
    for model, size, seed in itertools.product(models, SIZES, (0, 1)):
        below = size < threshold(model)
        found.append(row(model, size, seed, 0.9 if below else 0.002, 0.01 if below else 0.8))
    return found


def part(rows, key):
    (found,) = [r for r in rows if r["key"] == key]
    return found


def test_a_study_that_capacity_decides_is_found_to_be_one():
    def threshold(model):
        return databits.samples_for(0.3 * MODELS[model], H) / 8

    rows = capacity.rows(study(threshold))
    first = part(rows, "capacity/gpt2-tiny.mini")
    assert (first["copies_low"], first["copies_high"]) == (100, 400)
    assert (first["novel_low"], first["novel_high"]) == (100, 400)
    assert first["kappa_copies_low"] < 0.3 < first["kappa_copies_high"]
    assert first["copies_at_2"] == "too many"
    fit = part(rows, "capacity_fit/copies/bits_per_parameter")
    plain = part(rows, "capacity_fit/copies/samples_per_rule")
    assert fit["n_models"] == 4
    assert fit["factor"] < plain["factor"]
    assert fit["said"].startswith("predicts models left out")
    assert plain["said"].startswith("does not predict")
    assert fit["spearman_low"] <= fit["spearman"] < -0.5
    assert len({r["key"] for r in rows}) == len(rows)
    json.dumps(rows, allow_nan=False)


def test_a_study_that_capacity_does_not_decide_is_found_to_be_one():
    rows = capacity.rows(study(lambda model: 200))
    fit = part(rows, "capacity_fit/novel/bits_per_parameter")
    assert fit["said"].startswith("does not predict: off by a factor of")
    plain = part(rows, "capacity_fit/novel/samples_per_rule")
    assert plain["factor"] == pytest.approx(1, abs=1e-6)


def test_what_was_not_crossed_is_open():
    rows = capacity.rows(study(lambda model: 10 if model == "gpt2-tiny" else 1e9))
    never, always = (part(rows, f"capacity/{m}.mini") for m in ("gpt2-tiny", "edm-tiny"))
    assert (never["copies_low"], never["copies_high"], never["copies"]) == (None, 25, None)
    assert (always["copies_low"], always["copies_high"]) == (6400, None)
    assert (always["novel_low"], always["novel_high"]) == (None, None)
    assert (always["copies_at_2"], always["novel_at_2"]) == ("within", "not told")
    fit = part(rows, "capacity_fit/copies/bits_per_parameter")
    assert fit["said"] == "cannot be tested: 0 of 3 models needed cross between two sizes"


def test_bits_held_come_from_the_loss_of_families_with_a_likelihood():
    gpt2, edm = (capacity.rows([row(m, 100, 0, 0.5, 0.1)])[0] for m in ("gpt2-tiny", "edm-tiny"))
    assert gpt2["held_bits"] == pytest.approx(800 * (H - 0.5 * 81 / math.log(2)))
    assert gpt2["held_per_parameter"] == gpt2["held_bits"] / 157506
    assert gpt2["passes"] == 96
    assert edm["held_bits"] is None


def test_data_of_unknown_bits_are_said_to_be():
    other = row("gpt2-tiny", 100, 0, 0.5, 0.1) | {"rule_set": "split0"}
    (said,) = capacity.rows([other, other | {"recipe": "nothing"}])
    assert said["part"] == "capacity_said"
    assert capacity.sample_bits(other | {"rule_set": "37"}) == databits.sample_bits([37])


def test_capacity_rule_on_the_command_line(tmp_path, capsys):
    config = configs.ScaleConfig(recipes=("edm-tiny",), per_rule=(25,))
    with runs.Run.open(tmp_path / "study", config) as run:
        for made in study(lambda model: 200):
            run.append(made)
    assert cli.main(["rules", "capacity-rule", str(tmp_path / "study")]) in (None, 0)
    out = capsys.readouterr().out
    assert "59.02 bits" in out
    assert "100 to" in out
    assert "does not predict" in " ".join(out.split())
    assert cli.main(["rules", "capacity-rule", str(tmp_path / "study"), "--json"]) in (None, 0)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {r["part"] for r in rows} == {"capacity_run", "capacity", "capacity_fit"}
    with runs.Run.open(tmp_path / "forty", config) as run:
        run.append(row("gpt2-tiny", 100, 0, 0.5, 0.1) | {"rule_set": "split0"})
    assert cli.main(["rules", "capacity-rule", str(tmp_path / "forty")]) == 2
    assert "bits are known for rules 30 to 39" in capsys.readouterr().err
