"""The section on learned digits: figures are the rows', claims follow them, names are inert."""

import json
import subprocess
import sys

import numpy as np
import pytest

from assay.report import pages
from assay.report.sections import imagestudy
from assay.runs import Run

W = (0.0, 1.0, 8.0)
HOSTILE = '<script>alert("x")</script>'
CONFIG = {
    "kind": "guidance.digits-study", "data": "digits8", "samplers": ["ddpm", "heun"],
    "w": list(W), "blocks": [{"digits": [3, 8], "n": 8, "seeds": [0, 1]}],
    "command": f"assay guidance digits {HOSTILE}",
}  # fmt: skip


def _measures(w, **more):
    row = {}
    for i, name in enumerate(imagestudy.MEASURES):
        value = 1 + i + w
        row |= {name: value, f"{name}_low": value - 0.5, f"{name}_high": value + 0.5}
    return {**row, "n_data": 45, **more}


def _rows(holds, literal):
    rows = []
    for sampler in CONFIG["samplers"]:
        for digit in (3, 8):
            for w in W:
                shared = {"sampler": sampler, "digit": digit, "w": w, "guidance_scale": 1 + w,
                          "nfe": 400 * (1 + (w > 0))}  # fmt: skip
                rows += [
                    {"key": f"{sampler}-d{digit}-w{w:g}-s{s}", "kind": "quality", "seed": s,
                     **shared, **_measures(w, n=8)} for s in (0, 1)
                ]  # fmt: skip
                rows.append({"key": f"pooled-{sampler}-{digit}-{w:g}", "kind": "pooled",
                             "seed": None, **shared, **_measures(w, n=16)})  # fmt: skip
            for measure in imagestudy.MEASURES:
                rows.append({
                    "key": f"claim-{sampler}-d{digit}-{measure}", "kind": "claim",
                    "sampler": sampler, "digit": digit, "measure": measure, "n": 16,
                    "block_n": 8, "seeds": [0, 1], "w_rule": 1.0, "w_largest": 8.0,
                    "w_rules": [0.0, None], "w_best": 1.0, "as_good": [0.0, 1.0],
                    "holds": holds, "close": True, "largest_holds": literal,
                    "paper_holds": False,
                })  # fmt: skip
        rows.append({
            "key": f"verdict-{sampler}", "kind": "verdict", "sampler": sampler, "measure": "knn",
            "block_n": 8, "seeds": [0, 1], "n": 2, "holds": 0.5, "holds_low": 0.1,
            "holds_high": 0.9, "close": 1.0, "largest_holds": 0.0, "paper_holds": 0.5,
            "n_as_good": 2.0,
        })  # fmt: skip
    real = {"key": "real-d3", "kind": "real", "digit": 3, "nfe": 0, **_measures(0, n=16)}
    return [*rows, real]


def _made(path, holds=True, literal=False):
    with Run.open(path, CONFIG) as run:
        for sampler in CONFIG["samplers"]:
            for w in W:
                for seed in (0, 1):
                    key = f"{sampler}-n8-w{w:g}-s{seed}"
                    run.save_array(f"samples.{key}", np.full((2, 2, 8, 64), w - 1))
                    run.save_array(f"q.{key}", np.full((2, 5, 8), w + seed))
                    run.save_array(f"sigmas.{key}", np.geomspace(20, 0.05, 5))
        for row in _rows(holds, literal):
            run.append(row)
    return Run.read(path)


def test_claim_says_that_the_literal_rule_fails_and_with_which_figures(tmp_path):
    run = _made(tmp_path / "run")
    (found,) = imagestudy.findings(run)
    assert found.claim == imagestudy.CLAIM
    assert len(found.sentences) == 2
    assert "w = 1 (guidance_scale 2)" in found.sentences[0]
    assert "as good as the best w by 16 of 16 pairs" in found.sentences[0]  # 8 measures, 2 digits
    assert "w = 8 (guidance_scale 9), as good as the best by 0 of 16" in found.sentences[0]


def test_no_claim_where_the_rule_does_well(tmp_path):
    (found,) = imagestudy.findings(_made(tmp_path / "run", literal=True))
    assert found.claim == imagestudy.NEUTRAL


def test_figures_are_those_of_the_rows(tmp_path):
    run = _made(tmp_path / "run")
    (section,) = imagestudy.sections(run)
    galleries = {block.title: block for block in section.blocks if block.title}
    assert len(galleries["Guided digits"].items) == len(W)
    paths = galleries["Trajectories, DDPM"].items
    assert [panel.title for panel in paths] == ["Digit 3", "Digit 8"]
    assert [trace["y"][0] for trace in paths[0].data] == [0.5, 1.5, 8.5]  # mean over seeds
    knn = next(p for p in galleries["Measured quality"].items if "held-out" in p.title)
    assert knn.data[0]["y"] == [2, 3, 10]
    assert "800 network evaluations" in section.method
    assert "8 samples of a digit from each of 2 seeds" in section.method
    table = galleries["Does the monotone rule find the best w?"]
    assert table.rows[0][3].text == "1 of 2"


def test_page_is_inert_and_valid(tmp_path):
    _made(tmp_path / "run")
    page = pages.write_report(tmp_path / "run").read_text()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "guidance_scale" in page


@pytest.mark.parametrize("kinds", [set(), {"quality"}, {"quality", "pooled"}])
def test_a_run_that_is_not_finished_has_a_page(tmp_path, kinds):
    with Run.open(tmp_path / "run", CONFIG) as run:
        for row in _rows(True, False):
            if row["kind"] in kinds:
                run.append(row)
    run = Run.read(tmp_path / "run")
    assert imagestudy.findings(run) == []
    (section,) = imagestudy.sections(run)
    assert json.dumps([block.kind for block in section.blocks]) is not None


def test_section_never_imports_torch():
    code = (
        "import sys, assay.report.sections.imagestudy; sys.exit('torch' in sys.modules or "
        "any(m.startswith('assay.guidance') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
