"""Rows that follow from a study: known thresholds and first times, made again as it grows."""

import math

import numpy as np
import pytest

from assay.rules.scaling import analysis, fitted, moments
from assay.runs import Run


@pytest.fixture(scope="module")
def appeared(study_rows):
    return moments.rows(study_rows)


def _still(n=1.0, note=""):
    pass


def _updated(folder):
    found = analysis.update(folder)
    assert found is not None
    return found


def _part(found, part, **where):
    return [r for r in found if r["part"] == part and where.items() <= r.items()]


def test_fitted_rows_find_the_thresholds_the_study_was_made_with(fitted_rows):
    found = [r for r in fitted_rows if r.get("model") in (None, "gpt2-tiny")]
    # p = 0.98 / (1 + (200 / N)^2) is 0.5 at 200 sqrt(0.5 / 0.48)
    (n50,) = _part(found, "threshold", metric="c3", share=0.5)
    assert n50["per_rule"] == pytest.approx(200 * math.sqrt(0.5 / 0.48), rel=0.05)
    assert n50["low"] < n50["per_rule"] < n50["high"]
    assert n50["said"] == ""
    (never,) = _part(found, "threshold", metric="completion_held_out", share=0.9)
    assert never["per_rule"] is None
    assert never["said"].startswith("above")
    (curve,) = _part(found, "curve", metric="c3")
    assert (curve["p_low"] <= curve["p_high"]).all()
    assert (np.diff(curve["p"]) > 0).all()
    assert len(_part(found, "held_out", metric="c3")) == 3
    (every,) = _part(found, "held_out_summary", metric="all")
    assert every["n"] == 24
    assert every["largest_error"] < fitted.AIM
    assert every["within"] == 1


def test_two_sizes_make_no_curve_but_say_so(study_rows):
    found = fitted.rows([r for r in study_rows if r["per_rule"] < 400], _still)
    assert {r["part"] for r in found} == {"threshold", "fresh"}
    assert {r["said"] for r in _part(found, "threshold")} == {
        "2 of the 3 sizes of data that a curve needs"
    }


def test_a_share_that_falls_with_data_has_no_threshold(study_rows):
    copied = [{**r, "c3": 1.0 if r["per_rule"] == 25 else r["c3"]} for r in study_rows]
    copied = [r for r in copied if r["model"] == "gpt2-tiny"]
    for row in copied:
        for metric in set(fitted.METRICS) - {"c3"}:
            row[metric] = None
    found = fitted.rows(copied, _still)
    for row in _part(found, "threshold"):
        assert row["per_rule"] is None
        assert row["said"].startswith("falls from 1.00 at 25 to 0.2")
    assert not any(row["rises"] for row in _part(found, "curve") + _part(found, "held_out"))
    assert _part(found, "held_out_summary", metric="rising") == []


def test_fresh_data_are_new_as_far_as_their_rows_are(fitted_rows):
    found = _part(fitted_rows, "fresh")
    assert [r["per_rule"] for r in found] == [25, 100, 400, 1600, 6400]
    for row in found:  # natural overlap 0.01 of 2,000 rows and two seeds
        assert row["novel_c3"] == pytest.approx(0.99**3)
        assert row["n"] == 4000
        assert row["novel_c3_low"] < row["novel_c3"] < row["novel_c3_high"]


def test_a_training_that_failed_is_no_fall(study_rows):
    rows = [r for r in study_rows if r["model"] == "gpt2-tiny"]
    rows = [{**r, "c3": 0.1} if r["per_rule"] == 1600 and r["seed"] == 1 else r for r in rows]
    counts = [fitted._counts(r, "c3") for r in rows]
    assert fitted._fall(counts) == ""  # 0.79 on average at 400, 0.97 and 0.1 at 1,600
    both = [r for r in rows if r["per_rule"] != 1600 or r["seed"] == 1]
    assert fitted._fall([fitted._counts(r, "c3") for r in both]).startswith("falls from 0.79")


def test_a_crossing_lies_between_probes_or_on_one_side():
    assert moments.crossing([10, 100, 1000], [-1, 1, 1]) == (
        10,
        pytest.approx(31.6, rel=1e-2),
        100,
    )
    assert moments.crossing([10, 100], [0, 1]) == (None, None, 10)
    assert moments.crossing([10, 100], [-1, -1]) == (100, None, None)


def test_moments_find_when_rules_and_copies_appeared(appeared):
    for name, tau in (("number constant", 3000), ("position logic", 30_000)):
        rows = _part(appeared, "tau_rule", kind=name)
        assert len(rows) == 10
        assert all(r["tau_low"] < tau <= r["tau_high"] for r in rows)
        assert all(r["tau"] == pytest.approx(tau, rel=0.26) for r in rows)
        assert all(r["n_reached"] == r["n_lasting"] == 2 for r in rows)
    (early,) = _part(appeared, "tau_mem", model="sit-tiny", per_rule=100)
    assert early["tau_low"] < 6400 <= early["tau_high"]
    (never,) = _part(appeared, "tau_mem", model="sit-tiny", per_rule=6400)
    assert never["tau"] is None
    assert never["tau_low"] == 64_000
    assert never["n_reached"] == 0
    for row in _part(appeared, "tau_mem_growth"):
        assert row["low"] < 1 < row["high"]
        assert row["slope"] == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_growth_of_first_copies_covers_the_slope_it_was_drawn_with():
    # right-censored at 60,000; 40 studies: fewer than 33 covered has probability 0.3 % at 95 %
    covered, grid = 0, np.geomspace(500, 60_000, 16).tolist()
    for seed in range(40):
        rng, rows = np.random.default_rng(seed), []
        for per_rule in (25, 100, 400, 1600):
            taus = [40 * per_rule**0.8 * math.exp(0.3 * rng.standard_normal()) for _ in range(2)]
            ends = [moments.crossing(grid, [g - tau for g in grid]) for tau in taus]
            lows, _, highs = zip(*ends, strict=True)
            rows.append(
                {
                    "model": "a",
                    "per_rule": per_rule,
                    "taus": taus,
                    "lows": lows,
                    "highs": highs,
                    "n_reached": sum(h is not None for h in highs),
                }
            )
        found = moments.growth(rows)
        covered += found["low"] <= 0.8 <= found["high"]
    assert covered >= 33  # fmt: skip


def test_growth_says_why_there_is_none(study_rows):
    found = moments.rows([r for r in study_rows if r["per_rule"] == 25])
    said = {r["said"] for r in _part(found, "tau_mem_growth")}
    assert said == {"copies at 25 per rule alone"}


def test_stopping_early_takes_the_probe_of_least_validation_loss(appeared):
    for row in _part(appeared, "stopping", model="gpt2-tiny", per_rule=400):
        assert row["samples_stop"] < row["samples_end"] == 64_000
        assert row["copies_row_stop"] < 0.1 < row["copies_row_end"]
        assert row["c3_gain_low"] <= row["c3_gain"] <= row["c3_gain_high"]


def test_analysis_is_made_again_when_the_study_grows_and_not_otherwise(
    tmp_path, study_rows, write_study, monkeypatch
):
    few = {"few": lambda rows, _: [{"key": r["key"]} for r in rows]}
    monkeypatch.setattr(analysis, "PARTS", few)
    folder = write_study(tmp_path / "study", study_rows[:8])
    first = _updated(folder)
    assert first.config["n_jobs"] == 8
    made = (folder / "analysis" / "rows.jsonl").stat().st_mtime_ns
    assert _updated(folder).config == first.config
    assert (folder / "analysis" / "rows.jsonl").stat().st_mtime_ns == made
    monkeypatch.setattr(analysis, "_code", lambda: "other")
    assert _updated(folder).config["code"] == "other"
    write_study(folder, study_rows)
    again = _updated(folder)
    assert again.config["n_jobs"] == len(study_rows)
    assert len(again.rows) > len(first.rows)
    assert sorted(p.name for p in folder.glob(".analysis*")) == []


def test_analysis_stopped_half_way_leaves_the_old_one_and_goes_on(
    tmp_path, study_rows, write_study, monkeypatch
):
    calls = []

    def counted(rows, advance):
        calls.append(len(rows))
        return [{"key": f"a/{len(rows)}", "part": "a"}]

    def stopped(rows, advance):
        raise KeyboardInterrupt

    folder = write_study(tmp_path / "study", study_rows[:4])
    monkeypatch.setattr(analysis, "PARTS", {"a": counted, "b": lambda rows, _: [{"key": "b"}]})
    _updated(folder)
    write_study(folder, study_rows[:8])
    monkeypatch.setattr(analysis, "PARTS", {"a": counted, "b": stopped})
    with pytest.raises(KeyboardInterrupt):
        _updated(folder)
    assert Run.read(folder / "analysis").config["n_jobs"] == 4
    monkeypatch.setattr(analysis, "PARTS", {"a": counted, "b": lambda rows, _: [{"key": "b"}]})
    assert [r["key"] for r in _updated(folder).rows] == ["a/8", "b"]
    assert calls == [4, 8]  # the part that was whole is not made twice


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with Run.open(tmp_path / "other", {"kind": "rules.train"}):
        pass
    with pytest.raises(ValueError, match="is no scaling study"):
        analysis.update(tmp_path / "other")
