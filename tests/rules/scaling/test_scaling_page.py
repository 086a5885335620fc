"""The scaling page: claims follow the analysis, figures are there, names are inert."""

import dataclasses
import html.parser
import tomllib

import pytest

from assay.report import page, pages, published
from assay.report.blocks import Gallery, Table
from assay.report.sections import (
    scaling,
    scaling_capacity,
    scaling_read,
    scaling_said,
    scaling_warning,
)
from assay.rules.scaling import analysis, capacity, collapse, early, moments
from assay.rules.scaling.config import ScaleConfig
from assay.runs import Run

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def rows_of_analysis(study_rows, fitted_rows):
    return {"fitted": fitted_rows, "moments": moments.rows(study_rows), "early": _warnings(),
            "capacity": capacity.rows(study_rows)}  # fmt: skip


def _warnings():
    area = {"auroc": 0.9, "auroc_low": 0.7, "auroc_high": 1.0, "within_size": None}
    about = {"definition": "collapse", "n": 20, "n_cells": 10, "n_events": 10, "share": 0.2}
    rows = [
        {
            "key": f"warning/{s}",
            "part": "warning",
            "predictor": "signals",
            "scheme": s,
            **about,
            **area,
        }
        for s in ("cell", "size")
    ]
    rows += [
        {
            "key": "warning_signal/gap",
            "part": "warning_signal",
            "signal": "gap",
            "sign": 1,
            "said": HOSTILE,
            **about,
            **area,
        }
    ]
    return rows + [
        {"key": f"warning_run/{i}", "part": "warning_run", "model": "gpt2-tiny", "seed": 0,
         "rule_set": "mini", "per_rule": 25, "log_odds": float(i), "probability": i / 20,
         "collapse": i > 9} for i in range(20)
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path, study_rows, write_study, rows_of_analysis, monkeypatch):
    """A whole study of two models with its analysis."""
    made = {name: lambda rows, _, found=found: found for name, found in rows_of_analysis.items()}
    monkeypatch.setattr(analysis, "PARTS", made)
    analysis.update(write_study(tmp_path / "study", study_rows))
    return Run.read(tmp_path / "study")


def _blocks(run, kind):
    return [b for s in scaling.sections(run) for b in s.blocks if isinstance(b, kind)]


def test_the_first_sentence_says_who_learns_first_and_what_cannot_be_said(run):
    found = {f.claim: f.sentences for f in scaling.findings(run)}
    (claim,) = [c for c in found if "learns to draw from the least data" in c]
    assert claim.startswith("gpt2-tiny learns to draw from the least data: N50 = 21")
    first, shown, held_out = found[claim]
    assert "gpt2-tiny reaches half with the least data, N50 = 21" in first
    assert "next sit-tiny" in first
    assert "the intervals lie apart" in first
    assert "completing the rules it was shown" in shown.lower()
    assert "no model reaches half within the evidence" in held_out
    assert "gpt2-tiny and sit-tiny: above 12800, or never" in held_out
    (foretold,) = found[scaling_said.FORETOLD]
    assert "24 of 24 lie within 0.07, the aim" in foretold
    (copies,) = found[scaling_said.COPIES]
    assert "gpt2-tiny 1 (0.8" in copies
    orders = found[scaling_said.RULES]
    assert orders[0].startswith("gpt2-tiny at 6,400 samples a rule: number constant after 3,175, ")
    assert orders[0].endswith("position logic after 32,000 samples.")
    (warned,) = found[scaling_said.WARNED]
    assert "AUROC 0.90 (0.70 to 1.00)" in warned
    assert "10 of 20 trainings collapsed, 10 configurations" in warned


def test_every_training_is_a_point_with_its_curve_and_thresholds(run):
    panels = {f.title: f for g in _blocks(run, Gallery)[:1] for f in g.items}
    assert list(panels) == list(scaling_read.METRICS.values())
    traces = panels["novel-C3"].data
    dots = [t for t in traces if t.get("mode") == "markers" and len(t["x"]) == 10]
    curves = [t for t in traces if t.get("mode") == "lines" and t["name"] != "fresh data"]
    (fresh,) = [t for t in traces if t.get("name") == "fresh data"]
    assert fresh["y"] == pytest.approx([0.99**3] * 5, rel=1e-4)
    marks = [t for t in traces if "error_x" in t]
    assert len(dots) == len(curves) == 2
    assert {t["y"][0] for t in marks} == {0.5, 0.9}
    assert len({t["line"]["color"] for t in curves}) == 2


def test_published_figures_stand_apart_on_the_same_axes(run):
    (section,) = [s for s in scaling.sections(run) if s.title == "Beside the published figures"]
    for gallery in section.blocks:
        *paper, ours = gallery.items
        assert all(f.title.startswith("Published") for f in paper)
        assert ours.title == "Measured here"
        assert all("plot_bgcolor" in f.layout and "1 M steps" in f.note for f in paper)
        assert "plot_bgcolor" not in ours.layout
        assert "genraven-mini" in ours.note.lower()
        assert len({str(f.layout[axis]) for f in gallery.items for axis in ("xaxis",)}) == 1
    assert published.SOURCE in section.blocks[-1].caption


def test_figures_of_every_kind_are_there(run):
    titles = [g.title for g in _blocks(run, Gallery)]
    for title in (
        "Can a size be foretold?",
        "Copies beside the natural overlap",
        "What stopping early gives",
        "When each kind of rule is learned (τ_rule)",
        "When copies first appear (τ_mem)",
        "What is got for it",
        "Does the first fifth of a training forecast that it collapses?",
    ):
        assert title in titles  # fmt: skip
    tables = [t.title for t in _blocks(run, Table)]
    assert "Where models turn, and where the rule says" in tables
    (table,) = [t for t in _blocks(run, Table) if "jobs with 95 %" in t.title]
    assert len(table.rows) == 20


def test_an_early_warning_refused_says_why_and_another_outcome_is_drawn(run):
    study = scaling_read.read(run)
    rows = [{**r, "definition": "memorised"} for part in ("warning", "warning_signal")
            for r in study.parts[part]]  # fmt: skip
    rows += [{**r, "memorised": r["collapse"], "log_odds_memorised": r["log_odds"],
              "probability_memorised": r["probability"], "collapse": None, "log_odds": None}
             for r in study.parts["warning_run"]]  # fmt: skip
    rows.append({"part": "warning_said", "definition": "collapse", "said": "too few"})
    parts = {p: [r for r in rows if r["part"] == p] for p in {r["part"] for r in rows}}
    refused, gallery, *_ = scaling_warning.warnings(dataclasses.replace(study, parts=parts))
    assert refused.text == "No early warning of collapse: too few."
    assert gallery.title.endswith("that it memorises?")
    assert gallery.items[0].note == "10 of 20 trainings memorised"


def test_heat_map_says_what_was_never_learned(tmp_path, run, study_rows):
    blank = next(r for r in Run.read(run.path / "analysis").rows if r["part"] == "tau_rule")
    study = scaling_read.read(run)
    never = {**blank, "taus": [None, None], "highs": [None, None], "lows": [64e3, 64e3],
             "n_reached": 0, "tau_low": 64e3, "tau_high": None}  # fmt: skip
    study.parts["tau_rule"][0] = never  # pyright: ignore[reportIndexIssue]
    grey, heat = next(g for g in _gallery(study) if "τ_rule" in g.title).items[0].data
    assert grey["text"][0][0] == "–"
    assert heat["z"][0][0] is None
    assert "not by 64,000 samples" in heat["customdata"][0][0]


def _gallery(study):
    from assay.report.sections import scaling_first

    return scaling_first.first_rules(study)


def test_without_analysis_points_are_drawn_and_what_to_do_is_said(
    tmp_path, study_rows, write_study
):
    folder = write_study(tmp_path / "study", study_rows[:6])
    sections = scaling.sections(Run.read(folder))
    words = [b.text for b in sections[0].blocks if b.kind == "words"]
    assert words == ["No curves yet: `assay rules scale` writes the analysis at its end."]
    assert scaling.findings(Run.read(folder)) == []
    assert any(isinstance(b, Gallery) for b in sections[0].blocks)


def test_an_analysis_of_fewer_jobs_is_said_to_be_old(run, study_rows, write_study):
    more = [{**study_rows[0], "key": "more"}]
    write_study(run.path, more)
    words = [b.text for b in scaling.sections(Run.read(run.path))[0].blocks if b.kind == "words"]
    assert words == ["The analysis is of 20 of the 21 jobs done: run `assay rules scale` again "
                     "to renew it."]  # fmt: skip


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.alerts = 0, []

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img" and ("src", "x") in attrs
        self.alerts += [v for name, v in attrs if name.startswith("on")]


def test_names_with_markup_are_inert(tmp_path, study_rows, write_study, monkeypatch):
    rows = [{**r, "model": HOSTILE, "recipe": HOSTILE, "rule_set": HOSTILE} for r in study_rows]
    rows.append({"key": "failed/a/1", "status": "failed", "job": HOSTILE, "reason": HOSTILE})
    parts = {"moments": lambda found, _: [
        {**row, "key": f"a/{i}"} for i, row in enumerate(moments.rows(found))
        if row["part"] != "tau_mem_growth"]}  # fmt: skip
    monkeypatch.setattr(analysis, "PARTS", parts)
    monkeypatch.setattr(page, "_plotly", lambda: "var Plotly;")
    folder = write_study(tmp_path / "study", rows)
    analysis.update(folder)
    written = pages.write_report(folder).read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(written)
    assert "<script>alert" not in written
    assert tags.images == 0
    assert not tags.alerts
    assert "&lt;script&gt;alert" in written


def test_a_page_with_nothing_done_says_so(tmp_path, write_study):
    folder = write_study(tmp_path / "study", [
        {"key": "failed/a/1", "status": "failed", "job": "a", "reason": "out of memory"}
    ])  # fmt: skip
    (section,) = scaling.sections(Run.read(folder))
    assert section.blocks[1].rows == [["a", "out of memory"]]


def test_the_study_is_shown_as_toml_that_reads_back():
    config = ScaleConfig.model_validate({
        "recipes": ["gpt2-tiny"], "per_rule": [25, "stream"], "seeds": [0, 1], "steps": 40,
        "models": [{"name": "wide", "recipe": "gpt2-tiny", "network": {"width": 128}}],
    })  # fmt: skip
    lines = scaling.toml(config.model_dump(mode="json"))
    again = ScaleConfig.model_validate(tomllib.loads("\n".join(lines)))
    assert set(again.evaluate.levels) == set(config.evaluate.levels)  # their order is no matter
    same = {"evaluate": config.evaluate}
    assert again.model_copy(update=same) == config
    assert again.evaluate.protocols == config.evaluate.protocols


def test_parts_of_the_analysis_are_those_the_page_reads():
    assert list(analysis.PARTS) == ["fitted", "moments", "early", "capacity"]
    assert early.MAIN == scaling_warning._MAIN
    assert set(scaling_warning._MEANT) == set(collapse.DEFINITIONS)
    assert capacity.KAPPAS == scaling_capacity._KAPPAS
