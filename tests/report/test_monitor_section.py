"""The monitor's section: claims follow the bar, figures the rows, markup of strangers is inert."""

import json
from typing import Any

import plotly.graph_objects as go
import pytest

from assay.report import pages
from assay.report.sections import monitor
from assay.runs import Run

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'


def cell(states="held-out", w=None, size=0.1, n=1000):
    """Three levels: one known, one below the resolution, one unknown."""
    levels = {
        "sigma": [10.0, 1.0, 0.1], "true": [size, size / 2, size / 3],
        "error": [size * 1.1, None, None], "error_low": [size * 0.9, 0.0, None],
        "error_high": [size * 1.2, size, None],
        "status": ["known", "below resolution", "unknown"],
        "neighbours": [900.0, 50.0, 1.0], "on_data": [1.0, 1.0, 0.4],
    }  # fmt: skip
    return {
        "key": f"gaussians/n={n}/bias/size={size:g}/{states}{w}", "kind": "cell",
        "target": "gaussians", "dim": 1, "n": n, "seed": 0, "error_kind": "bias", "size": size,
        "amount": 1.0, "states": states, "w": w, "guidance_scale": None if w is None else 1 + w,
        "error": size, "status": "known", "true": size, "levels": levels,
    }  # fmt: skip


def summary(met=True, n=1000, scope="levels", states="held-out", target="all"):
    return {
        "key": f"summary/{target}/{n}/{states}/{scope}", "kind": "summary", "target": target,
        "n": n, "seed": 0, "states": states, "scope": scope, "cells": 60, "known": 20,
        "sizes": "all", "span": 100.0, "bounds_hold": 1.0,
        "errors": 3, "share_known": 1 / 3, "share_below": 1 / 3, "share_unknown": 1 / 3,
        "rank": 0.99 if met else 0.9, "rank_low": 0.97, "rank_high": 0.995, "ratio": 1.02,
        "ratio_low": 1.0, "ratio_high": 1.04, "factor": 1.05, "within": 1.0, "holds": 0.95,
        "false_alarms": 0, "met": met,
    }  # fmt: skip


def trial(met=True):
    cells = [cell(size=s) for s in (0.03, 0.3)] + [cell("visited", 3.0, s) for s in (0.03, 0.3)]
    return [*cells, summary(met), summary(True, states="visited"),
            summary(True, scope="common"), summary(True, 300, "common")]  # fmt: skip


def network():
    fixed = {"kind": "learned", "denoiser": "cond", "digit": 3, "n_data": 45, "seed": 0}
    found = {"error": 1.5, "error_low": 1.2, "error_high": 1.7, "status": "known", "reason": None,
             "covered": 1.0, "nfe": 100}  # fmt: skip
    rows = [{"key": "cond/held-out/all", "states": "held-out", "sigma": None, "w": None}]
    rows += [{"key": "cond/ratio", "states": "ratio", "sigma": None, "w": 3.0,
              "guidance_scale": 4.0}]  # fmt: skip
    rows += [
        {"key": f"cond/{s}", "states": "held-out", "sigma": s, "w": None} for s in (10.0, 0.1)
    ]
    return [fixed | found | r for r in rows]


CONFIG = {"kind": "guidance.monitor", "n": [1000, 300], "seed": 0}
LEARNED = {"kind": "guidance.monitor", "model": "digits8", "seed": 0}


@pytest.fixture
def made(write_run, tmp_path):
    def make(config, rows):
        write_run(tmp_path / "monitor", config, rows)
        return Run.read(tmp_path / "monitor")

    return make


def html(run):
    return pages.write_report(run.path).read_text()


@pytest.mark.parametrize(("met", "claim"), [(True, monitor.FOLLOWS), (False, monitor.PARTLY)])
def test_claim_follows_the_bar(met, claim, made):
    (found,) = monitor.findings(made(CONFIG, trial(met)))
    assert found.claim == claim
    assert "over 20 of 60 cells" in found.sentences[0]
    assert any(s.startswith("Bar missed") for s in found.sentences) is not met


def test_figures_hold_the_known_cells_only(made):
    section: Any = monitor.sections(made(CONFIG, trial()))[0]
    first = section.blocks[0].items[0]
    assert first.data[-1]["x"] == [0.03, 0.3]
    assert first.data[-1]["y"] == pytest.approx([0.033, 0.33])
    titles = [f.title for block in section.blocks[:3] for f in block.items]
    assert titles == [
        "Gaussians", "Gaussians", "Cells that are known", "Typical factor off the truth"
    ]  # fmt: skip


def test_learned_models_have_intervals_and_no_truth(made):
    run = made(LEARNED, network())
    (found,) = monitor.findings(run)
    assert found.claim == monitor.LEARNED
    assert "1.5 (95 % interval 1.2 to 1.7, 45 held-out images)" in found.sentences[0]
    assert "guidance_scale 4" in found.sentences[1]
    section: Any = monitor.sections(run)[0]
    assert section.command == "assay guidance monitor --model digits8 --seed 0 --out DIR"
    assert section.blocks[0].items[0].data[0]["x"] == [10.0, 0.1]


@pytest.mark.parametrize(("config", "rows"), [(CONFIG, trial), (LEARNED, network)])
def test_markup_of_strangers_is_shown_and_never_run(config, rows, made):
    kept = ("key", "kind", "states", "status")
    dirty = [
        {k: HOSTILE if isinstance(v, str) and k not in kept else v for k, v in r.items()}
        for r in rows()
    ]
    run = made({**config, **({"model": HOSTILE} if "model" in config else {})}, dirty)
    page = html(run)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    for section in monitor.sections(run):
        for block in section.blocks:
            items: Any = getattr(block, "items", ())
            for figure in items:
                go.Figure({"data": list(figure.data), "layout": figure.layout})
                assert "<script" not in json.dumps(figure.data)


@pytest.mark.parametrize(("config", "rows"), [(CONFIG, trial), (LEARNED, network)])
def test_missing_columns_and_odd_values_do_not_break_the_page(config, rows, made):
    run = made(config, rows())
    for column in sorted({c for row in run.rows for c in row} - {"key"}):
        for put in ({}, {column: "words"}, {column: None}, {column: [1]}, {column: -1e300}):
            odd = [{k: v for k, v in row.items() if k != column} | put for row in run.rows]
            pages.page([Run(run.path, run.config, odd)])
