"""Measures of recorded runs, what an audit is asked for, and its recommendation."""

import numpy as np
import pytest

from assay import cli
from assay.guidance.auditing import advice as audit_advice
from assay.guidance.auditing import config as audit_config
from assay.guidance.auditing import inputs as audit_inputs
from assay.guidance.auditing import measures
from assay.guidance.auditing.config import Limits


def test_direction_is_the_mean_difference():
    rng = np.random.default_rng(0)
    uncond = rng.standard_normal((3, 2, 1, 2, 2))
    along = measures.direction(uncond + np.array([[[0.0, 3.0], [0.0, 4.0]]]), uncond)
    assert along == pytest.approx([0.0, 0.6, 0.0, 0.8])
    assert measures.direction(uncond, uncond) is None


def test_paths_that_turn_are_told_from_monotone_ones():
    y = np.array([[0.0, 0.0, 2.0], [1.0, 3.0, 1.0], [2.0, 2.0, 0.0]])
    found = measures.of_path(y, edge=1.5)
    assert found["monotone"].tolist() == [1, 0, 1]
    assert found["turned"] == pytest.approx([0, 0.5, 0])  # 3 there, 1 back: net 2 of 4
    assert found["overshoot"] == pytest.approx([0.5, 1.5, 0.5])
    assert found["returned"] == pytest.approx([0, 1, 0])  # a falling path did not come back


def test_path_is_projected_to_its_end():
    ou, final = np.arange(12.0).reshape(3, 2, 1, 1, 2), np.ones((2, 1, 1, 2))
    y = measures.path(ou, final, np.array([1.0, 0.0]))
    assert y.tolist() == [[0, 2], [4, 6], [8, 10], [1, 1]]


def test_error_size_is_the_root_mean_square_over_ln_sigma():
    """Against the integral of sigma^2 over ln sigma, (s1^2 - s0^2) / (2 ln(s1/s0))."""
    sigma = np.geomspace(0.01, 10, 4001)[::-1]
    exact = np.sqrt((sigma[0] ** 2 - sigma[-1] ** 2) / (2 * np.log(sigma[0] / sigma[-1])))
    assert measures.error_size(sigma, sigma, 0.5) == pytest.approx(0.5 * exact, rel=1e-5)
    with_pure_noise = np.concatenate([[np.inf], sigma])
    kept = np.concatenate([[0.0], sigma])
    assert measures.error_size(with_pure_noise, kept, 0.5) == pytest.approx(0.5 * exact, rel=1e-5)


def test_range_of_decoded_images_is_taken_before_clamping():
    images = np.zeros((2, 1, 2, 2))
    images[1] = [[[1.5, -3.0], [1.0, 0.2]]]
    images[0, 0, 0, 0] = 1.005  # less than a grey level
    found = measures.of_images(images)
    assert found["clipped"] == pytest.approx([0, 0.5])
    assert found["range_error"] == pytest.approx([0.005 / 4, (0.5 + 2.0) / 4])
    images[0, 0, 0, 0] = np.nan
    found = measures.of_images(images)
    assert found["clipped"] == pytest.approx([0.25, 0.5])
    assert np.isinf(found["range_error"][0])
    assert np.isfinite(measures.features(images)).all()


def test_features_and_thumbs_are_averages_of_clamped_pixels():
    images = np.full((1, 3, 4, 6), 9.0)
    images[0, :, :, :3] = -0.5
    rows = measures.features(images, side=2)
    assert rows.reshape(3, 2, 2)[0].tolist() == [[-0.5, 1], [-0.5, 1]]
    shown = measures.thumbs(images, most=2)
    assert shown.shape == (1, 2, 2, 3)
    assert shown[0, 0, :, 0].tolist() == [64, 255]


def test_own_partner_is_no_neighbour():
    """A sample that equals its partner at w = 0 is as far as that one is from the others."""
    reference = np.array([[0.0], [1.0], [5.0]])
    assert measures.apart(reference, reference).tolist() == [1, 1, 4]
    assert measures.apart(reference + 0.1, reference) == pytest.approx([0.9, 1.1, 4.1])


def test_disagreement_is_that_of_predicted_noise():
    sigma = np.array([np.inf, 2.0, 1.0])
    uncond = np.zeros((3, 1, 4))
    cond = np.stack([np.full((1, 4), v) for v in (9.0, 2.0, 3.0)])
    assert measures.disagreement(sigma, cond, uncond) == pytest.approx([(1 + 3) / 2])


# ---- what is asked for -------------------------------------------------------------------------


def test_both_conventions_give_the_same_grid():
    assert audit_config.grid(["4", "1", "2"], None) == (0, 1, 2, 4)
    assert audit_config.grid(None, [1, 2.1, 7.5]) == (0, 1.1, 6.5)
    for given in ((None, None), ([1], [2])):
        with pytest.raises(ValueError, match="give either w or guidance_scale"):
            audit_config.grid(*given)
    for given in (([-0.5], None), (None, [0.5])):
        with pytest.raises(ValueError, match="is below 0: pipelines do not guide"):
            audit_config.grid(*given)
    with pytest.raises(ValueError, match="guidance_scale 'a' is not a list of numbers"):
        audit_config.grid(None, ["a"])


def test_batches_divide_the_seeds():
    made = audit_config.settings({"seeds": [3, 1, 4, 5], "batch": 2})
    assert made.chunks == [(3, 1), (4, 5)]
    with pytest.raises(ValueError, match="batch is 3 with 4 seeds"):
        _ = audit_config.settings({"seeds": [3, 1, 4, 5], "batch": 3}).chunks
    with pytest.raises(ValueError, match="seeds"):
        audit_config.settings({"seeds": []})


def test_images_are_read_and_others_refused(tmp_path):
    from PIL import Image

    for i in range(2):
        Image.fromarray(np.full((8, 8, 3), 255 * i, np.uint8)).save(tmp_path / f"{i}.png")
    rows, said = audit_inputs.read_images(tmp_path, (3, 2, 2))
    assert rows.tolist() == [[-1.0] * 12, [1.0] * 12]
    assert said.n == 2
    bad = tmp_path / "<script>.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"<script>\.png: cannot be read as an image: is no"):
        audit_inputs.read_images(tmp_path, (3, 2, 2))


BAD = {
    "both": (["--w", "1", "--guidance-scale", "2"], "both are given"),
    "neither": ([], "neither is given"),
    "no prompts": (["--w", "1", "--prompts", "EMPTY"], "there are no prompts"),
    "prompts not there": (["--w", "1", "--prompts", "NONE"], "cannot be read"),
    "prompts no text": (["--w", "1", "--prompts", "BINARY"], "is not UTF-8 text"),
    "twice": (["--w", "1", "--prompts", "TWICE"], "is there twice"),
    "no images": (["--w", "1", "--images", "."], "holds 0 images"),
    "images not there": (["--w", "1", "--images", "NONE"], "no such folder of images"),
    "seed": (["--w", "1", "--seed", "a"], "is not a list of integers"),
    "no number": (["--w", "x"], "is not a list of numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_before_anything_is_loaded(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for file, held in (("P", b"a <b>cat</b>\n"), ("EMPTY", b"\n \n"), ("BINARY", b"\xff\xfe\x9f"),
                       ("TWICE", b"a\nb\na\n")):  # fmt: skip
        (tmp_path / file).write_bytes(held)
    flags, said = BAD[name]
    prompts = [] if "--prompts" in flags else ["--prompts", "P"]
    done = cli.main(["guidance", "audit", "pipe", *prompts, *flags, "--out", "out"])
    shown = capsys.readouterr()
    assert done == 2
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---- the recommendation ------------------------------------------------------------------------


def line(w, off=0.05, diversity=1.0, error=0.0, **more):
    return {
        "w": w, "guidance_scale": 1 + w, "setting": 1 + w, "n": 200, "n_prompts": 50, "nfe": 8.0,
        "off_support": off, "off_support_low": 0.0, "off_support_high": off + 0.02,
        "diversity": diversity, "diversity_low": diversity - 0.05, "range_error": error,
        "range_error_high": error, "monotone_means": 1.0, "reference": "w = 0", "w_measured": w,
        "residual": 0.0, **more,
    }  # fmt: skip


def test_largest_weight_up_to_which_all_limits_hold_is_recommended():
    lines = [line(0), line(1), line(2, diversity=0.7), line(4)]
    found = audit_advice.recommend(lines, Limits())
    assert (found["w"], found["guidance_scale"], found["stopped_at"]) == (1, 2, 2)
    assert "at w = 2 (guidance_scale 3) the diversity" in found["reason"]
    assert "70 % of that at w = 0 (limit 80 %)" in found["reason"]
    assert found["sure"]
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [({"off": 0.2}, "20 % of its samples lie off the support"),
     ({"error": 0.03}, "are 0.03 beyond [-1, 1] on average, 0 at w = 0 (limit 0.02 more)"),
     ({"error": None}, "some of its decoded values are no numbers")],
)  # fmt: skip
def test_each_limit_stops(broken, said):
    found = audit_advice.recommend([line(0), line(3, **broken)], Limits())
    assert found["w"] == 0
    assert said in found["reason"]


def test_kept_limits_without_kept_intervals_are_not_sure():
    found = audit_advice.recommend([line(0), line(1, off=0.14)], Limits())
    assert found["w"] == 1
    assert not found["sure"]
    assert "a larger one may do as well" in found["reason"]


def test_unknown_measures_are_said():
    lines = [line(w, off_support=None) for w in (0, 1)]
    found = audit_advice.recommend(lines, Limits())
    assert "off support could not be judged" in found["reason"]
    assert not found["sure"]


def test_paper_rule_is_reported_beside():
    lines = [line(0), line(1), line(2, monotone_means=0.5), line(3)]
    assert audit_advice.recommend(lines, Limits())["monotone_rule_w"] == 1
    silent = [line(w, monotone_means=0.0) for w in (0, 1)]
    assert audit_advice.recommend(silent, Limits())["monotone_rule_w"] is None


def test_weights_that_were_not_applied_are_warned_of():
    lines = [line(0), line(2, w_measured=3.0, residual=0.2)]
    said = " ".join(audit_advice.recommend(lines, Limits())["warnings"])
    assert "3 for w = 2" in said
    assert "20 % of them is something else" in said
