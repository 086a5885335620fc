"""What the page concludes, from rows whose answer is known."""

import pytest

from assay.report import pages, summary
from assay.report.sections import (
    curves,
    digits,
    dynamics,
    error_said,
    samplers,
    sentences,
    sweep,
)


@pytest.fixture
def told(kinds, write_run, tmp_path):
    """told(kind) -> {claim: sentences} of the Run of that kind."""

    def of(name):
        run = write_run(tmp_path / name, *kinds[name])
        return {f.claim: list(f.sentences) for f in pages._module(run).findings(run)}

    return of


def test_sweep_says_which_w_is_inside(told):
    (said,) = told("sweep")[sentences.INSIDE]
    assert said == (
        "Gaussians: inside up to w = 3 (guidance_scale 4), 0.4 % (exact) outside HDR99.9; no "
        "longer at w = 7 (guidance_scale 8), 5 % (exact). At w = 7 (guidance_scale 8) only "
        "41.7 % of its spread at w = 0 (guidance_scale 1) is left (sd 0.417, from 1)."
    )


def test_sweep_tells_artefacts_from_damage(told):
    (said,) = told("sweep")[sentences.ARTEFACT]
    assert said.startswith("Gaussians, heun, stopped at σ = 0.002: at w = 7 (guidance_scale 8) ")
    assert "40.0 % (95 % interval 36.0 % to 44.0 %, n = 400) lie off the class" in said
    assert "after one final denoise 0 % (95 % interval 0 % to 0.95 %, n = 400)" in said


def test_sweep_says_how_far_guidance_is_from_the_tilt(told):
    assert told("sweep")[sentences.MISSES] == [
        "Gaussians, at w = 7 (guidance_scale 8): guided mean 2.75, tilted mean 1.875, W1 distance "
        "0.875 (exact)."
    ]


def test_sampled_distances_stand_beside_their_floor(told):
    (said,) = told("digits")[sentences.MISSES]
    assert "sliced W1 distance 0.25, against 0.05 at w = 0 (guidance_scale 1)" in said
    assert "(n = 400)" in said


def test_claims_follow_the_rows(kinds, write_run, tmp_path):
    config, rows, _ = kinds["digits"]
    same = [r | {"coverage": 0.8, "w1_to_tilted": 0.05} for r in rows]
    claims = [f.claim for f in digits.findings(write_run(tmp_path / "digits", config, same))]
    assert claims == [sentences.INSIDE, digits.NEUTRAL]
    config, rows, _ = kinds["sweep"]
    tilted = [r | {"w1_to_tilted": 1e-13} for r in rows]
    found = sweep.findings(write_run(tmp_path / "sweep", config, tilted))
    assert sentences.MISSES not in {f.claim for f in found}
    config, rows, _ = kinds["dynamics"]
    short = [r | {"overshoot": -0.1 if r["overshoot"] else None} for r in rows]
    (finding,) = dynamics.findings(write_run(tmp_path / "dynamics", config, short))
    assert finding.claim == dynamics.NEUTRAL


def test_a_share_that_n_cannot_decide_is_called_so(kinds, write_run, tmp_path):
    config, rows, _ = kinds["digits"]
    unsure = [r | {"off_support_denoised": 0.0, "off_support_denoised_low": 0.0} for r in rows]
    unsure[-1] |= {"off_support_denoised": 0.012}
    run = write_run(tmp_path / "run", config, unsure)
    (said,) = next(f.sentences for f in digits.findings(run) if f.claim == sentences.INSIDE)
    assert "inside up to w = 3 (guidance_scale 4), 0 % (95 % interval 0 % to 6 %, n = 400)" in said
    assert "; undecided at w = 7 (guidance_scale 8), 1.2 %" in said


def test_digits_drift_beside_training_images_and_w_0(told):
    drift, diversity, exact = told("digits")[digits.CLAIM]
    assert drift == (
        "Median distance to the nearest held-out image: 3.2 at w = 7 (guidance_scale 8), against "
        "2.5 at w = 0 (guidance_scale 1) and 2.25 for training images (n = 400 samples, 92 "
        "images)."
    )
    assert "Samples cover 20.0 % of the held-out images at w = 7" in diversity
    assert "goes from 3.5 to 2" in diversity
    assert exact == digits.EXACT_FOR
    assert "exact for the mixture of Gaussians fitted" in exact


def test_dynamics_say_overshoot_and_the_last_monotone_w(told):
    (sentences_,) = told("dynamics").values()
    assert len(sentences_) == 3
    over, gaussians, last = sentences_
    assert "stays monotone between σ = 80 and 0.002 at every w measured, up to w = 7" in gaussians
    assert "goes 1.25 beyond the far edge 2" in over
    assert "50.0 % of the paths leave the class and return (exact)" in over
    assert "up to w = 1 (guidance_scale 2); at w = 3 (guidance_scale 4) it turns back" in last


def test_rates_give_constants_with_intervals(told):
    (said,) = (s for s in told("rates").values())
    assert said[1] == (
        "Gaussians: 0.4355 √w (interval 0.4354 to 0.4356, exact, fitted for w from 100 to 300, "
        "guidance_scale from 101 to 301)."
    )


def test_errors_say_what_leaves_what_is_amplified_and_what_is_repaired(told):
    found = told("error")
    (breaking,), (amplified,) = found[error_said.CLAIM], found[error_said.AMPLIFIED]
    assert (
        "at w = 3 (guidance_scale 4): an error of size 0.01 (constant bias) puts 6 %" in breaking
    )
    assert breaking.endswith("stopped early did at no size measured.")
    assert (
        "by 14 at w = 7 (guidance_scale 8), by 2 at w = 1 (guidance_scale 2) (exact)" in amplified
    )
    (repaired,) = found[sentences.ARTEFACT]
    assert repaired == (
        "Uniforms, stopped early (last sigma 0.1): at w = 7 (guidance_scale 8) 100 % are off the "
        "class without the final denoise, 0 % after it (exact)."
    )


def test_samplers_miss_or_reach_by_standard_errors(told, kinds, write_run, tmp_path):
    missing, reaching = told("samplers")[samplers.REACH]
    assert "guided ODE 2.3 ± 0.039 (40 standard errors off)" in missing
    assert "guided SDE 1.9 ± 0.039 (20 standard errors off)" in missing
    assert "within 4 standard errors of it in 2 of 2 cases" in reaching
    config, rows, _ = kinds["samplers"]
    bad = [r | {"mean": 1.9} if r["sampler"] == "Feynman-Kac" else r for r in rows]
    run = write_run(tmp_path / "bad", config, bad)
    (finding,) = samplers.findings(run)
    assert finding.claim == samplers.MISS
    assert "in 0 of 2 cases" in finding.sentences[1]


def test_peers_compare_at_the_same_push(told):
    ((gaussians, uniforms),) = told("peers").values()
    assert gaussians.startswith("Gaussians, 16-D: constant guidance at w = 3 (guidance_scale 4)")
    assert "moves the mean by 2 and leaves sd 0.5 of 1" in gaussians
    assert "apg leaves most (0.8, moved by 1.5), beta least (0.4); n = 512 a law." in gaussians
    assert uniforms.startswith("Uniforms, 16-D")


def test_equal_claims_become_one(kinds, write_run, tmp_path):
    found = [write_run(tmp_path / n, *kinds[n]) for n in ("sweep", "digits", "error")]
    told = [(run, pages._module(run).findings(run)) for run in found]
    section = summary.section(told)
    claims = [f.claim for b in section.blocks if b.kind == "findings" for f in b.items]
    assert len(claims) == len(set(claims))
    assert claims.count(sentences.INSIDE) == 1
    (table,) = (b for b in section.blocks if b.kind == "table")
    states = {row[0].text + ", " + row[0].detail: [c.state for c in row[1:]] for row in table.rows}
    assert states == {
        "Gaussians, constant, exact": ["inside", "inside", "inside", "outside"],
        "Gaussians, constant, heun": ["inside", "inside", "inside", "artefact"],
        "Digits (label 3), constant, heun": ["inside", "outside", "outside", "outside"],
    }
    assert [(h.text, h.detail) for h in table.heads[1:]] == [
        (f"w = {w}", f"guidance_scale {w + 1}") for w in (0, 1, 3, 7)
    ]


def test_several_seeds_are_judged_by_the_worst(kinds, write_run, tmp_path):
    config, rows, _ = kinds["digits"]
    second = [
        r | {"key": r["key"].replace("s0", "s1"), "seed": 1, "off_support_denoised": 0.5,
             "off_support_denoised_low": 0.4}
        for r in rows
    ]  # fmt: skip
    run = write_run(tmp_path / "seeds", config, rows + second)
    (line,) = summary.verdicts([run]).rows
    assert [c.state for c in line[1:]] == ["outside"] * 4
    assert {r["seed"] for r in curves.main(run.rows)} == {0}


def test_laws_with_parameters_are_lines_of_their_own():
    keys = ("gaussians-interval+low=0.3+high=3-w-1-heun-s0", "gaussians-constant-w1e-05-exact")
    first = {"key": keys[0], "target": "gaussians", "law": "interval", "solver": "heun", "w": -1.0}
    second = {
        "key": keys[1],
        "target": "gaussians",
        "law": "constant",
        "solver": "exact",
        "w": 1e-5,
    }
    assert list(curves.groups([first, second])) == ["interval+low=0.3+high=3, heun",
                                                    "constant, exact"]  # fmt: skip


def test_nothing_to_conclude_makes_no_section(kinds, write_run, tmp_path):
    run = write_run(tmp_path / "other", *kinds["other"])
    assert summary.section([(run, [])]) is None
    assert [s.title for s in pages.page([run])] == ["other"]
