"""The comparison at equal class odds: matching, resuming, what rows carry, bad input."""

import json
import math
import shutil

import numpy as np
import pytest
from cyclopts import App

from assay.core.guidance import Guided
from assay.guidance import laws, targets
from assay.guidance.control import cli as control_cli
from assay.guidance.control import config as control_config
from assay.guidance.control import match as control_match
from assay.guidance.control import study as control_study
from assay.guidance.control import targets as places
from assay.guidance.control.match import Measured
from assay.report.blocks import Gallery
from assay.report.sections import control as sections
from assay.runs import Run

SMALL = {
    "reporting": [places.REPORTING[0].model_dump()],
    "errors": [{"kind": "field", "which": "uncond", "size": 0.1}],
    "peers_error": {"kind": "field", "which": "uncond", "size": 0.1},
    "tuning": [places.TUNING[0].model_dump()],
    "tuning_errors": [{"size": 0.1}],
    "tuning_weights": [2.0],
    "criterion": "diversity >= 60%",
    "laws": ["constant", "interval", "rescale", "apg", "thrifty"],
    "n": 64, "steps": 8, "seeds": [0, 1], "cap": 128, "front": [1.0, 2.0],
}  # fmt: skip


def asked(**changes):
    return control_config.build(SMALL | changes)


@pytest.fixture(scope="module", autouse=True)
def _short_grids():
    """Three choices of parameters a law instead of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            control_study, "GRIDS", {k: v[1:9:3] for k, v in control_study.GRIDS.items()}
        )
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole study of one target in its own folder: (config, folder, rows)."""
    folder, config = tmp_path_factory.mktemp("control") / "run", asked()
    with Run.open(folder, config) as run:
        for job in control_study.jobs(config):
            control_study.write(run, job)
        return config, folder, list(run.rows)


def only(rows, **wanted):
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


# ---- targets -----------------------------------------------------------------------------------


def test_no_target_is_both_tuned_and_reported_on():
    tuned = {json.dumps(p.params, sort_keys=True) for p in places.TUNING}
    assert not tuned & {json.dumps(p.params, sort_keys=True) for p in places.REPORTING}
    assert not {p.name for p in places.TUNING} & {p.name for p in places.REPORTING}


@pytest.mark.parametrize("place", [*places.TUNING, *places.REPORTING], ids=lambda p: p.name)
def test_every_target_overlaps_and_has_finite_odds_on_its_class(place):
    ground = places.Ground(targets.build(place.builder, **place.params))
    odds = ground.target.log_odds(ground.reference[::64], ground.odds_sigma)
    assert np.all(np.isfinite(odds))
    assert np.mean(odds < 0) > 0.02  # some of the class looks like the rest
    assert np.mean(ground.inside(ground.reference)) > 0.997


@pytest.mark.parametrize("which", ["cond", "uncond"])
def test_planted_error_hits_one_denoiser_and_has_its_size(which):
    ground = places.Ground(targets.gaussians(0.7))
    exact = places.Planted(ground, places.PlantedError())
    error = places.PlantedError(kind="bias", which=which, size=0.1)
    planted = places.Planted(ground, error)
    x = np.linspace(-2, 2, 5)[:, None]
    moved = {
        n: getattr(planted, n)(x, 0.5) - getattr(exact, n)(x, 0.5) for n in ("cond", "uncond")
    }
    other = "uncond" if which == "cond" else "cond"
    np.testing.assert_array_equal(moved[other], 0)
    assert np.ptp(moved[which]) < 1e-12
    assert np.all(moved[which] * (1 if which == "cond" else -1) > 0)


def test_planted_denoisers_answer_for_the_point_they_are_asked():
    planted = places.Planted(places.Ground(targets.gaussians(0.7)), places.PlantedError())
    x = np.ones((3, 1))
    first = planted.cond(x, 1.0).copy()
    planted.cond(x, 2.0)
    planted.uncond(2 * x, 1.0)
    np.testing.assert_array_equal(planted.cond(x, 1.0), first)
    np.testing.assert_allclose(first, targets.gaussians(0.7).cond.denoise(x, 1.0), rtol=1e-12)


# ---- matching ----------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("aim", [0.5, 2.0, 2.9])
def test_matching_finds_the_weight_of_given_odds(aim, guess):
    def at(w):
        return Measured(w, 3 * (1 - math.exp(-w / 4)), 0.0, 0.0, 0.0, 1)

    found, held = control_match.matched(at, aim, 0.01, guess)
    assert held
    assert abs(found.odds - aim) <= 0.01


def test_matching_says_where_no_weight_gives_the_odds():
    found, held = control_match.matched(
        lambda w: Measured(w, math.tanh(w), 0.0, 0.0, 0.0, 1), 1.5, 0.01, 1.0
    )
    assert not held
    assert found.odds == pytest.approx(1.0)


def test_lengths_of_a_law_are_in_standard_deviations_of_the_class():
    place = places.Place(name="wide", builder="gaussians", params={"mean": 5.0, "sd": 4.0})
    (case,) = control_match.cases([place], [places.PlantedError()], asked())
    ours, peer = case.law("thrifty", 2.0, {}), case.law("interval", 2.0, {"low": 0.1, "high": 1})
    assert ours.scale == pytest.approx(4.0, rel=1e-3)  # pyright: ignore
    assert peer.breaks == pytest.approx((4.0, 0.4), rel=1e-3)


def test_scaled_targets_give_scaled_samples_under_every_tuned_law():
    small = places.Place(name="one", builder="gaussians", params={"mean": 0.7, "sd": 1.0})
    large = places.Place(name="three", builder="gaussians", params={"mean": 2.1, "sd": 3.0})
    config = asked(n=256, steps=32)
    one, three = control_match.cases([small, large], [places.PlantedError()], config)
    for name in ("constant", "interval", "thrifty"):
        a, b = (case.measure(case.law(name, 3.0, {}), 0) for case in (one, three))
        assert b.odds == pytest.approx(a.odds, rel=0.02)  # one grid of sigma for both
        assert b.w1 == pytest.approx(3 * a.w1, rel=0.02)


def test_constant_law_and_thrifty_without_limits_draw_the_same_samples():
    (case,) = control_match.cases([places.REPORTING[0]], [places.PlantedError()], asked())
    free = laws.build("thrifty", 2.0, threshold=0.0, limit=math.inf)
    ours, plain = (case.measure(law, 0) for law in (free, laws.build("constant", 2.0)))
    np.testing.assert_allclose(ours, plain, rtol=1e-9)


def test_laws_with_a_step_of_their_own_get_as_many_evaluations():
    (case,) = control_match.cases([places.REPORTING[0]], [places.PlantedError()], asked())
    own, heun = (case.measure(case.law(n, 2.0, {}), 0).nfe for n in ("cfg_plus_plus", "constant"))
    assert own == heun == 2 * (2 * 8 + 2)


# ---- the study ---------------------------------------------------------------------------------


def test_every_row_says_what_it_was_made_with(whole):
    _, _, rows = whole
    for row in only(rows, stage="law"):
        assert {"n", "seeds", "steps", "error", "w", "guidance_scale"} <= set(row)
        if row["w"] is not None:
            assert row["guidance_scale"] == pytest.approx(1 + row["w"])
        if row.get("matched"):
            assert row["off_support_low"] <= row["off_support"] <= row["off_support_high"]
            assert row["w1_low"] <= row["w1"] <= row["w1_high"]
            assert len(row["w1_by_seed"]) == 2
    undefined = only(rows, stage="law", law="rescale")[0]
    assert undefined["w"] is None
    assert "standard deviation over one coordinate" in undefined["reason"]
    never = only(rows, stage="law", law="apg")[0]  # on one coordinate it does nothing
    assert never["reason"].startswith("no w found gives these class odds on seed 0")
    assert not never["matched"]
    assert "ratio" not in never
    assert never["gain"] == pytest.approx(0, abs=1e-9)
    assert only(rows, stage="summary", law="apg")[0]["ratio"] is None
    json.dumps(rows, allow_nan=False)


def test_laws_have_the_constant_laws_odds_where_they_say_so(whole):
    config, _, rows = whole
    base = only(rows, stage="law", law="constant")[0]
    plain = only(rows, stage="law", law="conditional")[0]
    ours = only(rows, stage="law", law="thrifty")[0]
    assert ours["matched"]
    own, theirs, none = (np.array(r["class_odds_by_seed"]) for r in (ours, base, plain))
    assert np.all(np.abs(own - theirs) <= config.tolerance * np.abs(theirs - none) + 1e-12)
    assert ours["ratio"] == pytest.approx(
        math.exp(np.mean(np.log(ours["w1_by_seed"]) - np.log(base["w1_by_seed"])))
    )
    chosen = only(rows, stage="choice")[0]
    assert base["w"] == chosen["w"] > 0


def test_parameters_are_those_of_the_tuning_targets(whole):
    _, _, rows = whole
    for name in ("thrifty", "interval"):
        tried = only(rows, stage="tune", law=name)
        assert len(tried) == len(control_study.GRIDS[name])
        params = only(rows, stage="law", law=name)[0]["params"]
        best = min((r for r in tried if not r["unmatched"]), key=lambda r: r["ratio"])
        if best["off_excess"] <= 0:
            assert params == best["params"]


def test_a_study_that_was_stopped_goes_on_and_ends_the_same(whole, tmp_path):
    config, folder, rows = whole
    other = tmp_path / "again"
    shutil.copytree(folder, other)
    lines = (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    kept = next(i for i, row in enumerate(rows) if row["key"].startswith("law/")) + 2
    (other / "rows.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:7])
    with Run.open(other, config) as run:
        assert run.rows == rows[:kept]
        for job in control_study.jobs(config):
            control_study.write(run, job)
    assert (other / "rows.jsonl").read_bytes() == (folder / "rows.jsonl").read_bytes()


def test_rows_make_tables_and_a_section(whole, capsys):
    _, folder, rows = whole
    control_cli._print(rows, folder)
    shown = capsys.readouterr().out
    assert "gaussians, field-uncond-0.1" in shown
    assert "W1 over the constant law's at equal class odds" in shown
    (section,) = sections.sections(Run.read(folder))
    (gallery,) = (block for block in section.blocks if isinstance(block, Gallery))
    assert len(gallery.items) == 1
    assert section.command == "assay guidance control --out DIR"


def test_the_command_that_makes_a_run_again_says_every_flag():
    flags = control_cli.Flags(targets=["boxes", "modes,digits"], n=256, criterion="diversity > 9%")
    assert control_cli._command(flags) == (
        "assay guidance control --targets boxes,modes,digits --criterion 'diversity > 9%' "
        "--n 256 --out DIR"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 100}, "n: n 100 must be a power of two"),
        ({"seeds": [1]}, "seeds: seeds .* two or more"),
        ({"laws": ["constant", "best"]}, "laws: law 'best' is unknown"),
        ({"laws": ["constant"]}, "laws: laws lacks 'thrifty'"),
        ({"criterion": "nice"}, "criterion"),
        ({"peers_error": {"size": 0.3}}, "peers_error bias-uncond-0.3 must be one of the errors"),
        ({"tuning": SMALL["reporting"]}, "'gaussians' is both tuned and reported on"),
    ],
)
def test_configurations_that_compare_nothing_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        asked(**changes)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--targets", "moon"], "target 'moon' is unknown; choose from gaussians"),
        (["--errors", "exact,,"], "errors has an empty entry"),
        (["--laws", "thrifty"], "laws lacks 'constant'"),
        (["--n", "1000"], "n 1000 must be a power of two"),
    ],
)
def test_command_line_says_what_it_does_not_understand(words, said, tmp_path):
    app = App(result_action="return_value")
    app.command(control_cli.control)
    with pytest.raises(ValueError, match=said):
        app(["control", *words, "--out", str(tmp_path / "run")], exit_on_error=False)
    assert not (tmp_path / "run").exists()


def test_autoguidance_bears_the_error_of_uncond():
    ground = places.Ground(targets.gaussians(0.7))
    law, x = laws.build("autoguidance", 2.0), np.ones((2, 1))
    exact, wrong = (
        places.Planted(ground, places.PlantedError(size=size)).guided(law) for size in (0.0, 3.0)
    )
    assert isinstance(wrong, Guided)
    moved = wrong.uncond(x, 0.5) - exact.uncond(x, 0.5)  # pyright: ignore
    assert np.all(moved < -0.01)
