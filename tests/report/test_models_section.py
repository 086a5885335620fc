"""Sections on models and training: claims follow intervals, figures the rows, all is inert."""

import base64
import html.parser
import json
import re
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest

from assay.report import pages
from assay.report.sections import measured, models, training
from assay.runs import Run

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>'
RECIPE = {
    "kind": "rules.train", "name": "settoken", "preset": "tiny", "family": "settoken",
    "binding": "sets", "seed": 0,
    "data": {"rules": list(range(35)), "held_out": [1, 16], "per_rule": None, "seed": 0},
    "fit": {"n_steps": 100, "batch": 64, "ema": None, "optim": {"kind": "muon", "lr": 0.002}},
}  # fmt: skip


def share(name, value, spread=0.05, n=200):
    return {name: value, f"{name}_low": max(value - spread, 0.0),
            f"{name}_high": min(value + spread, 1.0), f"{name}_n": n}  # fmt: skip


def unconditional(t=1.0, **shares):
    given = {"c3": 0.8, "novel_c3": 0.8, "c2": 0.05, "any_valid": 0.9, "row1": 0.875, "row2": 0.95,
             "row3": 0.96, **shares}  # fmt: skip
    row = {"key": f"unconditional/T={t:g}", "part": "unconditional", "temperature": t, "n": 200,
           "nfe": 36, "samples_per_s": 150.0, "parameters": 1000,
           "samples_seen": 6400}  # fmt: skip
    for name, value in given.items():
        row |= share(name, value)
    return row


def completion(**shares):
    given = {"trained": 0.9, "marginal_trained": 0.07, "held_out": 0.05, "marginal_held_out": 0.06,
             **shares}  # fmt: skip
    row = {"key": "completion/r3c3", "part": "completion", "mask": "r3c3", "n": 200,
           "temperature": 0.0}  # fmt: skip
    for name, value in given.items():
        row |= share(name, value)
    return row


def evaluation(**shares):
    """The rows of an evaluation."""
    rows = [unconditional(), completion(**shares)]
    for rule, trained in (("shape constant", True), ("size arithmetic -", False)):
        rows.append({"key": f"rule/{rule[:4]}", "part": "rule", "rule": rule, "temperature": 1.0,
                     "trained": trained, **share("share", 0.1), **share("share_of_c3", 0.2),
                     "nominal": 0.5})  # fmt: skip
        rows.append({"key": f"completion_rule/{rule[:4]}", "part": "completion_rule",
                     "mask": "r3c3", "rule": rule, **share("correct", 0.25, n=20)})  # fmt: skip
    for k in range(9):
        name = f"r{k // 3 + 1}c{k % 3 + 1}"
        rows.append({**completion(trained=(k + 1) / 10), "key": f"any_panel/{name}",
                     "part": "any_panel", "mask": name})  # fmt: skip
    for level, copies in (("row", 0.0), ("panel", 0.5)):
        rows.append({"key": f"copies/{level}", "part": "copies", "level": level,
                     "temperature": 1.0, **share("copies", copies),
                     **share("natural", copies)})  # fmt: skip
    return rows


def pictures():
    sample = {"part": "sample_picture", "svg": SVG, "right": True, "verdict": "size XOR",
              "verdict_note": "rule 17 in all three rows"}  # fmt: skip
    asked = {"part": "completion_picture", "mask": "r3c3", "rule": 17, "name": "size XOR",
             "held_out": False, "right": False, "verdict": "no common rule",
             "verdict_note": "row 3 breaks size XOR (obeys none)", "svg": SVG}  # fmt: skip
    two = {"right": True, "verdict": "size OR", "mask": "r1c2,r3c3"}
    return [
        {"key": "sample_picture/0", **sample}, {"key": "completion_picture/0", **asked},
        {"key": "any_mask/a/picture", **asked, **two},
        {"key": "any_mask/a", "part": "any_mask", "mask": "r1c2,r3c3", "n": 128,
         **share("trained", 0.6), **share("marginal_trained", 0.02)},
        {"key": "any_mask/b", "part": "any_mask", "mask": "r1c1,r2c2", "refused": "cannot"},
    ]  # fmt: skip


def shipped(rows, name="small"):
    about = {"key": "model", "part": "model", "family": "settoken", "binding": "sets",
             "parameters": 1000, "samples_seen": 6400, "trained_rules": list(range(35)),
             "held_out_rules": [1, 16], "per_rule": None, "averaged": False,
             "seed": 1}  # fmt: skip
    stored = [unconditional(0.5, c3=0.95), unconditional(1.0, c3=0.81), completion(trained=0.91)]
    rows = [{"source": "here", **r} for r in (about, *rows, *pictures())]
    rows += [{"source": "file", **r, "key": f"file/{r['key']}"} for r in stored]
    return [{**r, "key": f"{name}/{r['key']}", "model": name} for r in rows]


def steps(n=60):
    return [
        {"key": f"step-{i:07d}", "step": i, "loss": 6 - i / 20 + i % 2 / 10, "grad_norm": 1.0,
         "rate": 1 - i / 100, "samples": 64 * i, "samples_per_s": 100.0}
        for i in range(1, n + 1)
    ]  # fmt: skip


KINDS = {
    "models": ({"kind": "rules.models"}, lambda: shipped(evaluation())),
    "evaluate": ({"kind": "rules.evaluate", "n": 200, "n_any_panel": 50, "seed": 0,
                  "temperatures": [1.0], "completion_temperature": 0.0,
                  "model": {**RECIPE, "averaged": True}}, evaluation),
    "train": (RECIPE, steps),
}  # fmt: skip


@pytest.fixture
def made(tmp_path, write_run, light):
    """made(kind, rows) -> the Run of that kind."""

    def make(kind, rows=None, **config):
        usual, default = KINDS[kind]
        return write_run(tmp_path / kind, {**usual, **config}, default() if rows is None else rows)

    return make


def page_of(run):
    return pages.write_report(run.path).read_text(encoding="utf-8")


def figures(text):
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    return [json.loads(f) for f in found]


def table_of(section, title):
    (found,) = (b for b in section.blocks if b.kind == "table" and b.title == title)
    return {row[0]: [found.cell(v) for v in row[1:]] for row in found.rows}


class Balanced(html.parser.HTMLParser):
    """Fails where a tag is not closed as it should be."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_valid_and_figures_are_what_plotly_takes(kind, made):
    text = page_of(made(kind))
    Balanced(text)
    found = figures(text)
    assert len(found) == {"models": 4, "evaluate": 3, "train": 4}[kind]
    for figure in found:
        go.Figure(figure)
    assert "Which rules there are to learn, and what models learn of them" in text
    assert "guidance_scale" not in text


def test_pictures_come_first_with_ticks_and_crosses(made):
    run = made("models")
    text = page_of(run)
    sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert [base64.b64decode(s).decode() for s in sources] == [SVG] * 3
    assert "alert(2)" not in text
    assert "✓ size XOR" in text
    assert "✗ size XOR <small>trained rule</small>" in text
    assert "Checker: row 3 breaks size XOR (obeys none)." in text
    assert "Checker: another rule, size OR, in all three rows." in text
    assert "r1c2, r3c3 unknown: 60.0 % (55.0 % to 65.0 %) right on trained rules" in text
    assert "Not trained for, and refused: r1c1, r2c2." in text
    assert text.index("What it draws") < text.index("What it completes") < text.index("<table")


def test_table_sets_shares_beside_the_lines_to_beat_and_the_file(made):
    (section,) = models.sections(made("models"))
    table = table_of(section, "Measured, with the lines to beat")
    here, n, fill, stored, stored_n = table["completion, row 3, panel 3: trained rules"]
    assert (here.text, here.detail, here.bar) == ("90.0 %", "85.0 % to 95.0 %", 0.9)
    assert (n.text, stored_n.text) == ("200", "200")
    assert (fill.text, fill.detail) == ("7 %", "fill: 2 % to 12.0 %")
    assert stored.text == "91.0 %"
    assert table["C3: some rule in all three rows"][3].text == "81.0 %"
    assert table["panels found in training"][2].detail == "natural: 45.0 % to 55.0 %"
    assert table["completion, r1c2, r3c3: trained rules"][3].text == "–"
    (single,) = models.sections(made("evaluate"))
    assert len(table_of(single, "Measured, with the lines to beat")["row 1 obeys some rule"]) == 3


def test_map_of_panels_and_curve_of_temperatures_hold_the_rows(made):
    curve, nine, *_ = figures(page_of(made("models")))
    assert nine["data"][0]["z"] == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]]
    c3 = [t for t in curve["data"] if t["name"] == "C3"]
    assert [(t["x"], t["y"], t["mode"]) for t in c3] == [
        ([0.5, 1.0], [0.95, 0.81], "lines+markers"), ([1.0], [0.8], "markers"),
    ]  # fmt: skip
    np.testing.assert_allclose(c3[0]["error_y"]["array"], 0.05)
    (only,) = {f["data"][0]["type"] for f in figures(page_of(made("evaluate")))[:1]}
    assert only == "heatmap"  # one temperature makes no curve


def test_rules_stand_one_by_one_held_out_ones_open(made):
    shape, size = figures(page_of(made("models")))[2:]
    assert [t["x"] for t in (*shape["data"], *size["data"])] == [["="], ["a−b"]]
    names = [t["name"] for t in (*shape["data"], *size["data"])]
    assert names == ["trained rule", "held-out rule"]


@pytest.mark.parametrize(
    ("shares", "claim"),
    [
        ({}, models.LEARNS),
        ({"held_out": 0.4}, models.CARRIES),
        ({"trained": 0.3}, models.BEGINS),
        ({"trained": 0.1}, models.GUESSES),
    ],
)
def test_claims_on_completion_follow_the_intervals(shares, claim, made):
    first, _ = models.findings(made("evaluate", evaluation(**shares)))
    assert first.claim == claim
    (said,) = first.sentences
    assert said.startswith("settoken-tiny (set tokens: a structural prior), row 3, panel 3, ")
    assert "panels of other samples, 7 % (2 % to 12.0 %)." in said


@pytest.mark.parametrize(
    ("c3", "copies", "claim"),
    [
        (0.8, 0.0, models.NEW),
        (0.8, 0.5, models.COPIED),
        (0.8, None, models.DRAWS),
        (0.5, 0.0, models.SOMETIMES),
        (0.2, 0.0, models.FAILS),
    ],
)
def test_claims_on_samples_follow_the_intervals(c3, copies, claim, made):
    rows = [unconditional(c3=c3)]
    if copies is not None:
        rows.append({"key": "copies/row", "part": "copies", "level": "row", "temperature": 1.0,
                     **share("copies", copies), **share("natural", 0.0)})  # fmt: skip
    (found,) = models.findings(made("evaluate", rows))
    assert found.claim == claim
    assert "Row 1 obeys some rule in 87.5 % (82.5 % to 92.5 %)" in found.sentences[0]


def test_other_temperatures_stand_behind_and_make_no_claim(made):
    low = [{**unconditional(0.5, c3=0.99), "key": "low"},
           {"key": "copied", "part": "copies", "level": "row", "temperature": 0.5,
            **share("copies", 0.9), **share("natural", 0.0)}]  # fmt: skip
    run = made("evaluate", low + evaluation())
    assert models.NEW in {f.claim for f in models.findings(run)}
    (section,) = models.sections(run)
    first = table_of(section, "Measured, with the lines to beat")
    assert first["C3: some rule in all three rows"][0].text == "80.0 %"
    assert not [label for label in first if "T = 0.5" in label]
    others = set(table_of(section, "Table: 10 further measures"))
    named = {"rows found in training, T = 0.5", "C3: some rule in all three rows, T = 0.5"}
    assert named <= others


def test_models_have_sections_of_their_own_and_say_what_they_are(made):
    run = made("models", shipped(evaluation()) + shipped(evaluation(), "other"))
    found = models.sections(run)
    assert [s.id for s in found] == ["models-models-small", "models-models-other"]
    assert "a structural prior" in found[0].lead
    assert "1,000 parameters" in found[0].lead
    assert "of 35 rules; rules 1, 16 were kept from it" in found[0].lead
    assert found[0].command == "assay demo --out DIR"
    (single,) = models.sections(made("evaluate"))
    assert "averaged weights" in single.lead
    assert single.command == (
        "assay rules evaluate MODEL --temperature 1 --n 200 --n-any-panel 50 "
        "--completion-temperature 0.0 --seed 0 --out DIR"
    )


def test_training_says_how_far_it_has_come_and_shows_its_evaluations(made, write_run):
    run = made("train")
    (found,) = training.findings(run)
    assert "after 60 of 100 steps and 3,840 samples the loss is 3.0" in found.sentences[0]
    (own,) = training.sections(run)
    assert own.command == "assay rules train train/config.json --out DIR"
    assert "rules 1, 16 are kept from it" in own.lead
    loss = figures(page_of(run))[0]
    assert loss["data"][0]["x"] == [64 * i for i in range(1, 61)]
    write_run(run.path / "evaluation", *(KINDS["evaluate"][0], evaluation()))
    titles = [s.title for s in training.sections(run)]
    assert titles == ["Training settoken-tiny", "What the model settoken-tiny has learned"]
    assert models.LEARNS in {f.claim for f in training.findings(run)}
    assert titles[1] in page_of(run)


def test_smoothing_keeps_lines_and_constants():
    np.testing.assert_allclose(training.smooth(np.full(500, 3.0)), 3.0)
    line = np.arange(400.0)
    np.testing.assert_allclose(training.smooth(line)[20:-20], line[20:-20])


@pytest.mark.parametrize("kind", KINDS)
def test_markup_of_strangers_is_shown_and_never_run(kind, made):
    kept = ("key", "part", "source")

    def dirty(row):
        return {k: HOSTILE if isinstance(v, str) and k not in kept else v for k, v in row.items()}

    rows = [dirty(row) | {HOSTILE: HOSTILE} for row in KINDS[kind][1]()]
    config = dict.fromkeys(("name", "family", "binding"), HOSTILE)
    text = page_of(made(kind, rows, **config))
    Balanced(text)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    for figure in figures(text):
        go.Figure(figure)
        assert "<script" not in json.dumps(figure)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_columns_and_odd_values_do_not_break_the_page(kind, made):
    run = made(kind)
    for column in sorted({c for row in run.rows for c in row} - {"key"}):
        for put in ({}, {column: "words"}, {column: None}, {column: [1]}, {column: -1e300}):
            rows = [{k: v for k, v in row.items() if k != column} | put for row in run.rows]
            pages.page([Run(run.path, run.config, rows)])
    for config in ({"kind": run.config["kind"]}, {**run.config, "model": 3, "data": [], "fit": 1}):
        pages.page([Run(run.path, config, run.rows)])
    for row in run.rows:
        pages.page([Run(run.path, run.config, [row])])


def test_share_of_a_row_is_read_with_its_interval():
    row = {"c3": 1.0, "c3_low": 0.98, "c3_high": 1.0}
    assert measured.interval(row, "c3") == "100 % (at least 98.0 %)"
    assert measured.interval({"c3": 0.5}, "c3") == "50.0 %"
    assert measured.panels("r3c3") == "row 3, panel 3"


def test_report_of_models_imports_neither_torch_nor_the_laboratory(made):
    code = (
        "import sys; from assay.report import pages; pages.write_report(sys.argv[1]); "
        "sys.exit(str([m for m in sys.modules if m == 'torch' or "
        "m.startswith(('assay.rules', 'assay.core'))] or '') or None)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made("models").path)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
