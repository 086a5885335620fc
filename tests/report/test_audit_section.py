"""The page of an audit, from a Run made by hand: both conventions, images, escaped names."""

import base64
import html

import numpy as np
import pytest

from assay.report import pages
from assay.report.sections import audit, audit_pictures
from assay.runs import Run

MARKUP = "</script><script>alert(1)</script>"
W, SEEDS = (0.0, 2.0), (0, 1, 2)


def sample(prompt, index, w, seed):
    return {
        "key": f"p{index}-w{w:g}-s{seed}", "row": "sample", "prompt": prompt,
        "prompt_index": index, "w": w, "guidance_scale": 1 + w, "seed": seed, "n": 1,
        "convention": "the pipeline's scale means 1 + w (measured)", "overshoot": w / 3,
        "clipped": w / 100, "nfe": 4.0 + 2 * w,
    }  # fmt: skip


def weight(w):
    means = {"off_support": w / 10, "diversity": 1 - w / 5, "clipped": w / 100,
             "range_error": w / 50,
             "overshoot": w / 3, "amplification": 2 + 3 * w, "disagreement": 0.2}  # fmt: skip
    ends = {f"{name}_low": 0.9 * v for name, v in means.items()}
    ends |= {f"{name}_high": 1.1 * v for name, v in means.items()}
    return {"key": f"w{w:g}", "row": "weight", "w": w, "guidance_scale": 1 + w, "n": 9,
            "seconds": 1.5, "nfe": 4.0 + 2 * w, **means, **ends}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Ten prompts, of which one is markup, so that not all of their images are shown."""
    prompts = [MARKUP, *(f"prompt {i}" for i in range(1, 10))]
    config = {
        "kind": "guidance.audit", "pipeline": f"my {MARKUP}", "pipeline_class": "AnyPipeline",
        "scheduler": "DDIMScheduler", "prediction": "epsilon", "prompts": prompts, "w": W,
        "settings": {"seeds": SEEDS, "steps": None}, "command": f"assay guidance audit '{MARKUP}'",
        "images": {"name": MARKUP, "n": 12, "digest": "0"},
    }  # fmt: skip
    with Run.open(tmp_path / "run", config) as made:
        for i, prompt in enumerate(prompts):
            for w in W:
                made.save_array(f"thumbs.p{i}-w{w:g}", np.full((3, 8, 8, 3), 20 * i, np.uint8))
                made.save_array(f"path.p{i}-w{w:g}", np.arange(15.0).reshape(5, 3) * (1 + w))
                for seed in SEEDS:
                    made.append(sample(prompt, i, w, seed))
        for w in W:
            made.append(weight(w))
        made.append({
            "key": "recommendation", "row": "recommendation", "w": 0.0, "guidance_scale": 1.0,
            "n": 9, "reason": "w = 0 is kept.", "criterion": "Recommended is what is kept.",
            "sure": False, "monotone_rule_w": 2.0, "warnings": ["Read this."],
        })  # fmt: skip
    return Run.read(tmp_path / "run")


def test_page_escapes_every_name(run):
    page = pages.write_report(run.path).read_text()
    assert MARKUP not in page
    assert "alert(1)</script>" not in page
    assert page.count(html.escape(MARKUP)) >= 5  # pipeline, prompt, command, images, table


def test_findings_say_which_w_and_why_in_both_conventions(run):
    (found,) = audit.findings(run)
    said = " ".join([*found.sentences, *found.more])
    for words in ("recommended is w = 0 (guidance_scale 1)", "w = 0 is kept.", "Read this.",
                  "4 times as far at w = 2 (guidance_scale 3)",
                  "would choose w = 2 (guidance_scale 3)", "n = 9 samples"):  # fmt: skip
        assert words in said


def test_images_stand_in_one_picture_a_weight(run):
    grids = audit_pictures.grids(run, [r for r in run.rows if r["row"] == "sample"])
    assert len(grids) == 8
    assert "2 prompts more" in grids[-1].caption
    assert [item.title for item in grids[0].items] == ["w = 0", "w = 2"]
    assert [item.sub for item in grids[0].items] == ["guidance_scale 1", "guidance_scale 3"]
    source = grids[0].items[0].source
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data)[:8] == b"\x89PNG\r\n\x1a\n"


def test_picture_holds_the_pixels(run):
    from io import BytesIO

    from PIL import Image

    shown = np.zeros((3, 120, 100, 3), np.uint8)
    shown[1, ..., 0], shown[2, ..., 1] = 255, 90
    data = base64.b64decode(audit_pictures.source(shown).split(",")[1])
    pixels = np.asarray(Image.open(BytesIO(data)))
    assert pixels.shape == (244, 204, 3)
    assert pixels[0, 104].tolist() == [255, 0, 0]
    assert pixels[124, 0].tolist() == [0, 90, 0]


def test_table_has_both_conventions_and_intervals(run):
    table = audit.table([r for r in run.rows if r["row"] == "weight"])
    assert list(table.columns)[:2] == ["w", "guidance_scale"]
    at = list(table.columns).index("diversity")
    assert (table.rows[1][at].text, table.rows[1][at].detail) == ("60.0 %", "54.0 % to 66.0 %")


def test_unfinished_audit_has_a_page(tmp_path):
    config = {"kind": "guidance.audit", "pipeline": "p", "prompts": ["a"], "settings": {}}
    with Run.open(tmp_path / "run", config) as made:
        made.append(sample("a", 0, 0.0, 0))
    assert pages.write_report(tmp_path / "run").is_file()
