"""The section on control: claims follow the summary, fronts the rows, names are inert."""

import html.parser

import pytest

from assay.report import pages
from assay.report.blocks import Figure, Gallery, Table
from assay.report.sections import control

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'
CONFIG = {"kind": "guidance.control", "n": 1024, "steps": 32, "seeds": [0, 1, 2, 3],
          "tolerance": 0.02, "criterion": "off_support < 3%", "tuning": [{"name": "boxes-a"}],
          "command": "assay guidance control --out DIR"}  # fmt: skip


def law(name, w, odds, w1, ratio, off=0.0, **more):
    place = {"target": "modes", "error": "field-uncond-0.1", "law": name, "dim": 1}
    return {"key": f"law/modes/{name}", "stage": "law", **place, "w": w, "guidance_scale": 1 + w,
            "matched": True, "reason": None, "class_odds": odds, "gain": odds - 1.0, "w1": w1,
            "w1_low": w1 - 0.01, "w1_high": w1 + 0.01, "ratio": ratio, "ratio_low": ratio - 0.05,
            "ratio_high": ratio + 0.05, "off_support": off, "off_support_denoised": off / 2,
            "nfe": 132, **more}  # fmt: skip


def front(name, scale, target="modes"):
    return {"key": f"front/{len(name)}{scale:g}", "stage": "front", "target": target,
            "error": "field-uncond-0.1", "law": name, "w": 2.0, "guidance_scale": 3.0,
            "reason": None, "weights": [1.0, 2.0], "class_odds": [1.5, 2.0],
            "w1": [scale, 2 * scale], "off_support": [0.0, 0.1],
            "off_support_denoised": [0.0, 0.05]}  # fmt: skip


def summary(name, ratio, halved, worse=0):
    return {"key": f"summary/{len(name)}{name[:4].strip('<')}", "stage": "summary", "law": name,
            "cases": 30, "matched": 28, "ratio": ratio, "ratio_least": ratio / 2,
            "ratio_most": 1.0, "halved": halved, "worse_off_support": worse,
            "worse_off_support_denoised": worse}  # fmt: skip


def rows(ours=0.45):
    return [
        {"key": "tune/thrifty/0", "stage": "tune", "law": "thrifty", "ratio": 0.4,
         "params": {"threshold": 2.0, "limit": 4.0}, "off_excess": -0.01, "unmatched": 0},
        law("conditional", 0.0, 1.0, 0.02, 0.1), law("constant", 2.0, 2.0, 0.4, 1.0, 0.02),
        law("interval", 5.0, 2.0, 0.2, 0.5), law("thrifty", 8.0, 2.0, 0.18, ours),
        law(HOSTILE, 3.0, 2.0, 0.1, 0.2, key="law/modes/hostile"),
        front("constant", 0.2), front("thrifty", 0.1), front(HOSTILE, 0.3),
        summary("interval", 0.6, 10), summary("thrifty", ours, 20, 1), summary(HOSTILE, 0.9, 0),
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path, write_run):
    return write_run(tmp_path / "control", CONFIG, rows(), {})


def test_claim_is_halved_only_where_the_mean_says_so(run, tmp_path, write_run):
    (found,) = control.findings(run)
    assert found.claim == control.CLAIM
    assert "0.45 of the constant law's" in found.sentences[0]
    assert "28 cases, 0.225 to 1)" in found.sentences[0]
    assert "at most half in 20" in found.sentences[0]
    assert found.sentences[0].endswith("after the final denoise in 1.")
    other = write_run(tmp_path / "more", CONFIG, rows(0.7), {})
    assert control.findings(other)[0].claim == control.NO_GAIN


def test_losses_are_told_where_intervals_are_apart(run):
    (found,) = control.findings(run)
    assert found.more == [f"Ours loses on modes (field-uncond-0.1) to {HOSTILE}."]
    assert "interval" not in found.more[0]  # 0.5 with an interval that overlaps


def test_fronts_are_the_rows_with_ours_above_and_no_guidance_as_a_dot(run):
    (section,) = control.sections(run)
    gallery = next(b for b in section.blocks if isinstance(b, Gallery))
    (figure,) = gallery.items
    assert isinstance(figure, Figure)
    assert [t["name"] for t in figure.data][1:] == ["constant", "thrifty", "conditional"]
    ours = figure.data[2]
    assert (ours["x"], ours["y"]) == ([1.5, 2.0], [0.1, 0.2])
    assert "scale 3" in ours["text"][1]
    assert figure.data[3]["mode"] == "markers"
    assert (figure.data[3]["x"], figure.data[3]["y"]) == ([1.0], [0.02])


def test_tables_show_both_numbers_of_w_and_off_support_both_ways(run):
    (section,) = control.sections(run)
    tables = [b for b in section.blocks if isinstance(b, Table)]
    matched = next(t for t in tables if "guidance_scale" in t.columns)
    (line,) = matched.rows
    shown = [Table.cell(value).text for value in line]
    assert shown[2:4] == ["2", "3"]
    assert shown[-2:] == ["1 % (2 %)", "0 % (0 %)"]
    assert line[7].detail == "0.17 to 0.19"


def test_page_shows_hostile_names_as_text(run, light):
    page = pages.write_report(run.path).read_text()
    tags = []

    class Seen(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append((tag, {name for name, _ in attrs}))

    Seen().feed(page)
    assert not any("onerror" in names or tag == "img" for tag, names in tags)
    assert "<script>alert" not in page
    assert "What does guidance pay for class odds?" in page


def test_a_run_without_summary_or_fronts_still_makes_a_section(tmp_path, write_run):
    few = write_run(tmp_path / "few", CONFIG, rows()[:3], {})
    (section,) = control.sections(few)
    assert control.findings(few) == []
    assert not [b for b in section.blocks if isinstance(b, Gallery)]
