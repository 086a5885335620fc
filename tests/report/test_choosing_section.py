"""The section on choosing w, from a Run whose page can be foretold."""

import pytest

from assay.report import pages
from assay.report.sections import choosing
from assay.runs import Run

EVIL = "<b>uniforms</b>"
OFF = "off_support < 1%; confidence 95%"


def _choice(case, method, w, regret, seed=None):
    return {
        "key": f"{len(case)}/{method}/s{seed}", "row": "choice", "case": case, "method": method,
        "seed": seed, "w": w, "guidance_scale": 1 + w, "regret": regret, "violates": regret == 1,
        "criterion": OFF,
    }  # fmt: skip


def _summary(case, method, regret, share=None, violations=0.0):
    return {
        "key": f"{len(case)}/{method}/summary", "row": "summary", "case": case, "method": method,
        "n": 2, "cases": 1, "w": 1.5, "guidance_scale": 2.5, "regret": regret,
        "regret_low": regret / 2, "regret_high": min(1.0, regret * 2), "regret_worst": 0.5,
        "regret_exact": regret, "regret_exact_low": regret / 2, "regret_exact_high": regret,
        "regret_exact_worst": 0.5, "violations": violations, "violations_low": 0.0,
        "violations_high": 0.6, "grid_share": share, "grid_share_worst": share, "nfe": 1000.0,
    }  # fmt: skip


def _evidence(i, phase, w, off):
    return {
        "key": f"e/{i}", "row": "evidence", "case": EVIL, "phase": phase, "w": w,
        "guidance_scale": 1 + w, "n": 256, "off_support": off, "off_support_low": off / 2,
        "off_support_high": 2 * off, "off_support_limit": 0.01, "verdict": "held",
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    config = {"kind": "guidance.choosing", "cases": ["uniforms"], "seeds": 2, "cap": 512,
              "steps": 64, "coarse_steps": 16}  # fmt: skip
    made = [
        _choice(EVIL, "criterion", 1.4, 0.1, 0), _choice(EVIL, "criterion", 1.6, 0.05, 1),
        _choice(EVIL, "habit", 6.5, 1.0), _choice(EVIL, "monotone", 0.8, 0.4),
        _summary(EVIL, "criterion", 0.03, 0.12), _summary(EVIL, "habit", 1.0, None, 1.0),
        _summary("all", "criterion", 0.03, 0.12), _summary("all", "habit", 1.0, None, 1.0),
        _evidence(0, "look", 1.0, 0.002), _evidence(1, "test", 1.4, 0.004),
        {"key": "limit", "row": "limit", "case": EVIL, "oracle_w": 1.7, "oracle_w_exact": 1.8,
         "criterion": OFF, "error": "<i>bias</i>", "size": 0.1},
    ]  # fmt: skip
    with Run.open(tmp_path / "choosing", config) as opened:
        for row in made:
            opened.append(row)
    return Run.read(tmp_path / "choosing")


def test_findings_tell_regret_cost_and_the_aim(run):
    (found,) = choosing.findings(run)
    first = found.sentences[0]
    assert "3 % (95 %: 1.5 % to 6 %)" in first
    assert "12.0 % of the grid's evaluations" in first
    assert "met" in first.rsplit(":", 1)[1]
    assert any("habit loses 100 %" in s for s in found.sentences)


@pytest.mark.parametrize(("regret", "share"), [(0.06, 0.12), (0.03, 0.3)])
def test_a_missed_aim_is_said(run, regret, share):
    run.rows[:] = [_summary("all", "criterion", regret, share)]
    assert "missed" in choosing.findings(run)[0].sentences[0].rsplit(":", 1)[1]


def test_section_draws_weights_limit_and_evidence(run):
    (section,) = choosing.sections(run)
    table, weights, evidence = section.blocks
    assert [row[0].text for row in table.rows] == [EVIL, "all cases"]
    (panel,) = weights.items
    hollow = [t for t in panel.data if t["marker"]["color"] == "#ffffff"]
    assert len(hollow) == 1
    assert len(panel.layout["shapes"]) == 1
    (bounds,) = evidence.items
    assert bounds.layout["shapes"][0]["y0"] == 0.01
    assert [len(t["x"]) for t in bounds.data] == [1, 1]
    assert "choose-study --case uniforms --seeds 2 --cap 512" in section.command


def test_names_are_escaped_on_the_page(run):
    page = pages.write_report(run.path.parent).read_text()
    assert "How to choose w?" in page
    assert EVIL not in page
    assert "<i>bias</i>" not in page


def test_a_run_without_summary_still_has_a_page(run):
    run.rows[:] = [r for r in run.rows if r["row"] == "choice"]
    assert choosing.findings(run) == []
    assert choosing.sections(run)[0].blocks
