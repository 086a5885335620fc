"""The section on rollouts: figures from the rows, claims by intervals, names stay inert."""

import json
import re

import numpy as np
import pytest

from assay.report import pages
from assay.report.sections import rollout as section
from assay.runs import Run

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'


def share(name, value, spread=0.01):
    return {name: value, f"{name}_low": max(value - spread, 0.0), f"{name}_high": value + spread}


def head(part, scenario, size, **more):
    return {"key": f"{part}/{scenario.split('<')[0] or 'x'}/{size:g}", "part": part,
            "scenario": scenario, "size": size, "w": 1.0, "guidance_scale": 2.0, "n": 1000,
            "seed": 0, "alpha": 0.05, "nfe": 0, **more}  # fmt: skip


def stage(scenario, size, promoted=0.0, delay=None):
    return head("stages", scenario, size, **share("promoted_bad", promoted),
                **share("false_rollback", 0.002), **share("rolled_back", 0.75),
                **share("held", 0.25), **share("passed_all", 0.0), delay_median=delay,
                delay_90=None if delay is None else 2 * delay, rows_to_promote_median=651,
                rows_to_promote_90=1200, budget=4000)  # fmt: skip


def production(scenario, size, false=0.001):
    return head("production", scenario, size, **share("false_alarm", false),
                **share("detected", 0.9), delay_median=321, delay_90=456, before=2000,
                after=4000)  # fmt: skip


def rows(**change):
    return [stage("clean", 0.2), stage("off_support", 1.0, **change),
            stage("off_support", 1.5, delay=7953), stage("quality", 3.0, delay=7),
            production("clean", 0.2)]  # fmt: skip


def trace(name="off_support", key="trace-a"):
    guard = {"name": name, "side": "at most", "limit": 0.01, "low": 0.0, "high": 1.0}
    events = [{"row": 50, "action": "promote", "reason": f"{name} is good", "stage": 0, "w": 0.0}]
    return {**head("trace", "off_support", 1.5), "key": key, "guards": [guard],
            "events": events, "stages": [0.0, 0.5]}  # fmt: skip


PATH = np.array([[25, 50, 75, 100], [0, 0, 1, 1], [25, 50, 25, 50], [0, 0.008, 0.02, 0.03],
                 [0, 0, 0, 0.011], [0.4, 0.009, 0.5, 0.2]])  # fmt: skip


def made(folder, found, arrays=None, kind="guidance.rollout"):
    with Run.open(
        folder / "rollout", {"kind": kind, "command": "assay guidance rollout x"}
    ) as run:
        for name, array in (arrays or {}).items():
            run.save_array(name, array)
        for row in found:
            run.append(row)
    return Run.read(folder / "rollout")


def test_page_shows_rates_with_intervals_and_delays(tmp_path, light):
    made(tmp_path, [*rows(promoted=0.041), trace()], {"guard0.trace-a": PATH})
    page = pages.write_report(tmp_path).read_text(encoding="utf-8")
    for shown in ("4.1 %", "3.1 % to 5.1 %", "7,953", "15,906", "651", "321", "guidance_scale",
                  "2,000 healthy rows, then the fault for 4,000", "Row 50: off_support is good.",
                  "assay guidance rollout x"):  # fmt: skip
        assert shown in page, shown


def test_claim_follows_the_intervals(tmp_path):
    for promoted, claim in ((0.05, section.CLAIM), (0.055, section.UNCLEAR),
                            (0.07, section.BROKEN)):  # fmt: skip
        (found,) = section.findings(made(tmp_path / f"{promoted}", rows(promoted=promoted)))
        assert found.claim == claim
        assert f"{100 * promoted:g} %" in found.sentences[0].replace(".0 %", " %")
    more = {"key": "exact/off_support/1", "part": "exact", "scenario": "off_support",
            "size": 1.0, "promoted": 0.0415, "alpha": 0.05}  # fmt: skip
    (found,) = section.findings(made(tmp_path / "exact", [*rows(promoted=0.055), more]))
    assert found.claim == section.CLAIM
    assert "promoted with probability 4.15 % at one stage" in found.sentences.pop(1)
    assert "slowest to find: off_support at 1.5" in found.sentences[1]
    assert "7,953 rows in the median, within 15,906 in 90 %" in found.sentences[1]
    assert "quality at 3 × its limit" in found.sentences[2]


def test_figure_draws_each_stage_within_the_span(tmp_path):
    run = made(tmp_path, [trace()], {"guard0.trace-a": PATH})
    (drawn,) = section.sections(run)[0].blocks[0].items
    figure = json.loads(drawn.json)
    means = [t for t in figure["data"] if t["mode"] == "lines"]
    assert [t["x"] for t in means] == [[25, 50], [75, 100]]
    assert means[1]["y"] == [0.02, 0.03]
    bands = [t["y"] for t in figure["data"] if t.get("fill") == "toself"]
    assert bands[0] == [0.04, 0.009, 0, 0]  # the upper end is cut at four limits
    assert figure["layout"]["yaxis"]["range"] == [0, 0.04]
    levels = [s for s in figure["layout"]["shapes"] if s.get("y0") == 0.01]
    assert len(levels) == 1
    assert drawn.title == "off_support: at most 0.01"


def test_names_with_markup_stay_inert(tmp_path, light):
    bad = {**trace(), "guards": [{**trace()["guards"][0], "name": "a"}],
           "events": [{"row": 1, "reason": HOSTILE}], "scenario": HOSTILE}  # fmt: skip
    found = [{**r, "scenario": HOSTILE} for r in (stage("clean", 0.2), production("clean", 0.2))]
    made(tmp_path, [*found, bad], {"guard0.trace-a": PATH})
    page = pages.write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("part", ["trace", "stages", "exact", "production"])
def test_rows_that_lack_everything_are_drawn(tmp_path, part):
    odd = {"size": "x", "guards": [3, {"name": "a"}], "events": 7, "stages": 1, "alpha": None}
    thin = {"key": "c", "part": part, "size": 1.0}
    run = made(tmp_path, [{"key": "a", "part": part}, {"key": "b", "part": part, **odd}, thin])
    assert section.findings(run) == []
    assert len(section.sections(run)) == (part != "trace")


def test_rollout_has_its_section():
    assert pages.SECTIONS["guidance.rollout"] == "rollout"
    assert re.fullmatch(r"[a-z_]+", pages.SECTIONS["guidance.rollout"])
