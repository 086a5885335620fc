"""The section on the rules: the page holds what the Run says; a stranger's SVG stays inert."""

import base64
import re

import numpy as np
import pytest

from assay.report import pages
from assay.report.sections import rules as section
from assay.rules import examples
from assay.runs import Run

SMALL = {**examples.CONFIG, "n_verdict": 500, "n": 500, "candidates": 20}
HOSTILE = (
    '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>'
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    with Run.open(folder / "rules", SMALL) as run:
        examples.fill(run, run.config)
    page = pages.write_report(folder).read_text(encoding="utf-8")
    return Run.read(folder / "rules"), page


def made(tmp_path, *rows, kind="rules.examples"):
    with Run.open(tmp_path / "rules", {"kind": kind}) as run:
        for row in rows:
            run.append(row)
    return Run.read(tmp_path / "rules")


def page_of(run):
    return pages.write_report(run.path.parent).read_text(encoding="utf-8")


def test_page_shows_every_picture_and_every_explanation(study):
    run, page = study
    sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    shown = [base64.b64decode(s).decode() for s in sources]
    drawn = [row["svg"] for row in run.rows if "svg" in row]
    assert sorted(s for s in shown if s in drawn) == sorted(drawn)
    assert shown[:20] == drawn[:20]
    assert len(shown) == len(drawn) + 10
    text = page.replace("−", "-")
    for row in run.rows:
        if row["part"] == "example":
            assert f"{row['name'][0].upper()}{row['name'][1:]} <small>rule {row['rule']}<" in text
            assert row["explanation"].replace("'", "&#39;") in page
            assert row["rows"][2] in page


def test_page_holds_shares_with_n_and_intervals(study):
    run, page = study
    (verdict,) = (r for r in run.rows if r["part"] == "verdict")
    assert "Of 500 fresh samples over all 40 rules, every one has a rule common" in page
    assert f"at least {100 * verdict['c3_low']:.1f} %" in page
    for row in run.rows:
        if row["part"] == "overlap" and row["level"] == "panel":
            assert f"{100 * row['overlap']:.1f} %" in page


def test_sections_come_in_the_order_of_the_page(study):
    run, page = study
    ids = [s.id for s in section.sections(run)]
    assert ids == ["rules-rules", "rules-rules-sample", "rules-rules-checks"]
    places = [page.index(f'id="{name}"') for name in ids]
    assert places == sorted(places)
    assert {f.anchor for f in section.findings(run)} == {"rules-rules-checks"}


def test_svg_and_words_of_a_stranger_stay_inert(tmp_path):
    bad = "<script>alert(3)</script>"
    run = made(
        tmp_path,
        {"key": "a", "part": "example", "rule": bad, "name": bad, "explanation": bad,
         "rows": [bad], "verdict_note": bad, "svg": HOSTILE},
        {"key": "b", "part": "broken", "title": bad, "note": bad, "svg": f'"><img src=x>{bad}'},
        {"key": "c", "part": "anatomy", "quantity": bad, "panels": [bad], "thirds": [bad]},
    )  # fmt: skip
    page = page_of(run)
    assert "alert(2)" not in page
    assert "<script>alert" not in page
    assert "<svg" not in page
    assert "<img src=x" not in page
    assert base64.b64encode(HOSTILE.encode()).decode() in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert "default-src 'none'" in policy[1]


@pytest.mark.parametrize("part", ["example", "broken", "sample", "view", "anatomy", "fill",
                                  "verdict", "completion", "overlap", "mini"])  # fmt: skip
def test_rows_that_lack_everything_are_drawn(tmp_path, part):
    odd = {"rows": 3, "n": "many", "c3": "x", "all": None, "overlap": [], "thirds": None}
    run = made(tmp_path, {"key": "a", "part": part}, {"key": "b", "part": part, **odd})
    assert "<section" in page_of(run) or part == "mini"
    assert section.findings(run) == []


def test_rows_of_no_part_make_no_section(tmp_path):
    assert section.sections(made(tmp_path, {"key": "a"})) == []


def test_claim_is_made_only_where_it_is_true(tmp_path):
    row = {"key": "v", "part": "verdict", "n": 10, "n_rules": 40, "c3": 1.0, "c2": 0.0,
           "any_valid": 1.0, "c3_low": 0.7, "c3_high": 1.0, "c2_low": 0.0,
           "c2_high": 0.3}  # fmt: skip
    (found,) = section.findings(made(tmp_path / "true", row))
    assert found.claim == section.CLAIM
    assert found.sentences[0].endswith("C3 at least 70.0 %, C2 at most 30.0 %.")
    for column, value in (("c3", 0.9), ("c2", 0.1), ("any_valid", 0.99)):
        assert section.findings(made(tmp_path / column, {**row, column: value})) == []


def test_images_of_another_shape_are_left_out(tmp_path):
    with Run.open(tmp_path / "rules", {"kind": "rules.examples"}) as run:
        run.save_array("images.mini", np.zeros((10, 3, 8, 8)))
        run.append({"key": "a", "part": "mini", "rule": 30, "index": 0})
    assert section.mini(run) == []


def test_occupancy_draws_each_occupied_cell_inside_its_panel():
    images = np.random.default_rng(0).random((3, 9, 9)) < 0.4
    svg = section.occupancy_svg(images, columns=2)
    frames = re.findall(r"M([\d.]+) ([\d.]+)h3v3h-3z", svg)
    cells = np.array(re.findall(r"M([\d.]+) ([\d.]+)h1v1h-1z", svg), float)
    assert len(frames) == 27
    assert len(cells) == images.sum() == len(np.unique(cells, axis=0))
    corners = np.array(frames, float)
    inside = (cells[:, None] >= corners - 1e-9) & (cells[:, None] + 1 <= corners + 3 + 1e-9)
    np.testing.assert_array_equal(inside.all(axis=2).sum(axis=1), 1)
    third = cells[(cells[:, 1] > 11) & (cells[:, 0] < 11)]
    assert len(third) == images[2].sum()
