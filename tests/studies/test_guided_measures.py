"""Measures of guided draws against brute force, closed forms and samples made for the purpose."""

import itertools
import math

import numpy as np
import pytest

from assay.core import intervals
from assay.rules import bindings, genraven, memorisation
from assay.studies import guided_measures as measures
from assay.studies.guided_models import Draws

CELLS = bindings.get("cells")


def _draws(x, **more):
    return Draws(CELLS.project(x), 5, **more)


def _number_progression_plus_1(panels):
    """Rule 33 on a row of three panels (3, 9, 3), told in words: counts n, n + 1, n + 2."""
    counts = [sum(cell.min() >= 0 for cell in panel) for panel in panels]
    return counts[0] >= 2 and counts[1:] == [counts[0] + 1, counts[0] + 2]


def test_the_intended_rule_against_brute_force():
    wanted, _ = genraven.generate(30, [33], 0)
    others, _ = genraven.generate(30, [30, 39], 1)
    mixed = wanted.copy()
    mixed[:, 2] = others[:, 2]  # the rule holds in two rows of three
    x = np.concatenate([wanted, others, mixed])
    row = measures.of_draws(_draws(x), 33, None)
    rows = [[_number_progression_plus_1(r) for r in sample] for sample in x]
    assert row["row_intended"] == pytest.approx(np.mean(rows)) == 50 / 90
    assert row["intended"] == pytest.approx(np.mean([all(r) for r in rows])) == 1 / 3
    assert row["any_rule"] == pytest.approx(2 / 3)
    assert row["row_intended_tally"] == [30, 0, 30, 30]
    low, high = intervals.wilson(30, 90)
    assert (row["intended_low"], row["intended_high"]) == pytest.approx((low, high))


def test_diversity_against_brute_force_and_of_one_sample_repeated():
    x, _ = genraven.generate(12, [30, 38], 3)
    row = measures.diversity(CELLS.project(x))
    cells = (x[..., 0] >= 0).reshape(12, 81)
    apart = [np.mean(a != b) for a, b in itertools.combinations(cells, 2)]
    assert row["hamming"] == pytest.approx(np.mean(apart))
    counts = [tuple(r.reshape(3, 9).sum(1)) for r in cells.reshape(36, 27)]
    shares = np.unique(counts, axis=0, return_counts=True)[1] / 36
    assert row["counts"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert row["distinct_rows"] == len({r.tobytes() for r in cells.reshape(36, 27)}) / 36
    same = measures.diversity(CELLS.project(x[:1].repeat(12, axis=0)))
    assert same["hamming"] == 0
    assert same["vendi"] == pytest.approx(1)
    assert same["distinct_rows"] == 3 / 36
    assert 1 < row["vendi"] <= 12


def test_pixels_off_the_support_are_counted_before_and_after_the_final_denoise():
    x, _ = genraven.generate(4, [30], 0)
    pixels = bindings.get("occupancy").encode(x)
    before, after = pixels.copy(), pixels.copy()
    before[:2, 0, 0, 0] = 0.2  # between the two values
    after[0, 0, 0, 0] = -1.51  # beyond them
    after[1, 0, 0, 0] = 1.5  # half the way out is still on the support
    row = measures.support(_draws(x, pixels=after, before=before))
    assert row["off_support"] == 0.5
    assert row["off_support_denoised"] == 0.25
    assert row["pixels_beyond"] == pytest.approx(1 / 324)
    assert row["pixels_between"] == 0
    after[2] = np.nan
    assert measures.support(_draws(x, pixels=after, before=before))["off_support_denoised"] == 0.5
    assert measures.support(_draws(x)) == {}


def test_novelty_tells_copies_from_new_rows():
    x, _ = genraven.generate(20, [30], 0)
    fresh, _ = genraven.generate(20, [38], 1)
    index = memorisation.Index(("sample", "row", "panel"), "plain")
    index.add(CELLS.project(x))
    half = np.concatenate([x, fresh])
    mixed = fresh.copy()
    mixed[:, 0] = x[:, 0]
    row = measures.of_draws(_draws(np.concatenate([half, mixed])), 30, index)
    assert row["copied_sample"] == pytest.approx(1 / 3)
    assert row["copied_row_tally"][3] == 20
    assert row["copied_row_tally"][1] == 20
    assert row["novel"] == pytest.approx(1 / 3)
    assert row["novel_intended"] == 0


def test_pooled_rows_are_those_of_all_samples_at_once():
    x, _ = genraven.generate(40, [30, 33], 5)
    parts = [measures.of_draws(_draws(part), 30, None) for part in (x[:10], x[10:])]
    whole, pooled = measures.of_draws(_draws(x), 30, None), measures.pooled(parts)
    for name in ("n", "nfe", "intended", "intended_low", "any_rule_high", "row_intended_low"):
        assert pooled[name] == pytest.approx(whole[name])
    assert pooled["vendi"] == pytest.approx((parts[0]["vendi"] + parts[1]["vendi"]) / 2)


def test_what_is_kept_is_in_pairs_of_rule_and_seed():
    base = [{"rule": r, "seed": 0, **dict.fromkeys(measures.DIVERSITY, 2.0 + r)} for r in (0, 1)]
    rows = [{**row, "vendi": row["vendi"] / 2, "hamming": row["hamming"] * 2} for row in base]
    found = measures.kept(rows[::-1], base, "kept")
    assert found["vendi_kept"] == found["vendi_kept_low"] == found["vendi_kept_high"] == 0.5
    assert found["hamming_kept"] == 2
    assert math.isnan(measures.kept(rows[:1], base, "kept")["vendi_kept_low"])


def test_newcombe_change_against_the_published_example():
    # Newcombe 1998, table II, example (a), method 10: 56/70 less 48/80 is 0.0524 to 0.3339
    change, low, high = measures.change(56, 70, 48, 80)
    assert change == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
