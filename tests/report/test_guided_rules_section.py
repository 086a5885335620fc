"""The section on guided rules: claims follow intervals, figures the rows, names are inert."""

import html.parser

import numpy as np
import pytest

from assay.report import pages
from assay.report.blocks import Gallery, Table
from assay.report.sections import guided_rules, guided_said
from assay.runs import Run

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'
W = (0.0, 3.0, 20.0)
SIT = ((0.0, 0.2, 0.0), (3.0, 0.5, 0.1), (20.0, 0.01, 1.0))  # w, intended, off
CONFIG = {"kind": "studies.guided-rules", "rules": [30, 38], "seeds": [0, 1], "shown": [30],
          "sampler": {"n_steps": 20},
          "command": "assay studies guided-rules --out DIR"}  # fmt: skip


def _key(family):
    return family if family.isalnum() else "hostile"


def _share(name, value, half=0.02):
    return {name: value, f"{name}_low": max(value - half, 0), f"{name}_high": min(value + half, 1)}


def _pooled(family, w, intended, off=None):
    row = {"key": f"{_key(family)}/w={w:g}/pooled", "part": "pooled", "family": family, "w": w,
           "guidance_scale": 1 + w, "n": 1000, "nfe": 20 if w == 0 else 40, "seed": [0, 1],
           **_share("intended", intended), **_share("any_rule", intended),
           **_share("row_intended", intended), **_share("novel_intended", intended / 2),
           **_share("vendi_kept", 1 - w / 40, 0.01), "vendi_of_data": 0.9 - w / 40,
           "novel": 0.5, "distinct_rows": 0.9, "copied_row": 0.2, "empty_panels": 0.0}  # fmt: skip
    if off is not None:
        row |= {**_share("off_support", 1.0), **_share("off_support_denoised", off)}
    return row


def _best(family, w, at_0, at, half):
    change = at - at_0
    return {"key": f"{_key(family)}/best", "part": "best", "family": family, "w": w,
            "guidance_scale": 1 + w, "n": 500, "nfe": 40, "seed": [1], "chosen_on": [0],
            "same_samples": False, **_share("intended", at), "intended_at_0": at_0,
            "change": change, "change_low": change - half, "change_high": change + half,
            "vendi_kept": 0.875}  # fmt: skip


@pytest.fixture
def run(tmp_path, write_run):
    """A family that gains and then breaks, one that gains nothing, and the exact law."""
    rows = [_pooled("exact", w, 1.0, 0.0) for w in W]
    rows += [_pooled("sit", w, p, off) for w, p, off in SIT]
    rows += [_pooled(HOSTILE, w, p) for w, p in zip(W, (0.9, 0.4, 0.0), strict=True)]
    rows += [_best("exact", 0.0, 1.0, 1.0, 0.01), _best("sit", 3.0, 0.2, 0.5, 0.05)]
    rows += [_best(HOSTILE, 0.0, 0.9, 0.9, 0.03)]
    rows.append({"key": "sit/model", "part": "model", "family": "sit", "samples_seen": 2560,
                 "family_kind": "continuous", "parameters": 1000, "loss_told": 1.1,
                 "loss_told_se": 0.01, "natural_row": 0.25, "n": 2000})  # fmt: skip
    for where, size, grown in (("data", 2.0, 0.0), ("guided", 6.0, 1.0)):
        rows += [{"key": f"twin/error/w={w:g}/{where}", "part": "error", "family": "twin", "w": w,
                  "guidance_scale": 1 + w, "where": where, "n": 128,
                  **_share("size_uncond", size, 1), **_share("size_guided", size * (1 + w), 1),
                  **{f"size_cond{end}": size + grown * w + half
                     for end, half in (("", 0), ("_low", -1), ("_high", 1))}}
                 for w in W]  # fmt: skip
    arrays = {f"shown.sit-w{w:g}-s0": np.linspace(-3, 3, 4 * 81).reshape(4, 9, 9) for w in W}
    return write_run(tmp_path / "guided", CONFIG, rows, arrays)


def test_claims_follow_the_intervals(run):
    claims = {f.claim: f.sentences for f in guided_rules.findings(run)}
    assert list(claims) == [
        guided_said.GAINS, guided_said.BREAKS, guided_said.EXACT, guided_said.GROWS
    ]  # fmt: skip
    (error,) = claims[guided_said.GROWS]
    assert "errs by 2 on noisy data" in error
    assert "by 6 at w = 0 (guidance_scale 1); 26 at w = 20 (guidance_scale 21)" in error
    gain, rest = claims[guided_said.GAINS]
    assert gain.startswith("sit: best at w = 3 (guidance_scale 4)")
    assert "50.0 % of samples, 20.0 % at w = 0: +30.0 points" in gain
    assert "88 % of the diversity" in gain or "87.5 % of the diversity" in gain
    assert rest.startswith("No certain gain at any w tried: ")
    assert "1 % (20.0 % at w = 0; 100 % of samples off" in claims[guided_said.BREAKS][0]


def test_without_a_certain_gain_or_break_nothing_of_the_kind_is_claimed(tmp_path, write_run):
    rows = [_pooled("sit", w, 0.2) for w in W] + [_best("sit", 3.0, 0.2, 0.22, 0.05)]
    run = write_run(tmp_path / "flat", CONFIG, rows)
    claims = [f.claim for f in guided_rules.findings(run)]
    assert claims == [guided_said.NOTHING, guided_said.BEARS]


def test_where_some_models_bear_strong_guidance_the_claim_says_so(tmp_path, write_run):
    rows = [_pooled("sit", w, p) for w, p, _ in SIT] + [_pooled("gpt2", w, 0.7) for w in W]
    run = write_run(tmp_path / "some", CONFIG, rows)
    assert [f.claim for f in guided_rules.findings(run)] == [guided_said.SOME]


def test_every_family_and_w_is_drawn_with_its_guidance_scale(run):
    (section,) = guided_rules.sections(run)
    galleries = [b for b in section.blocks if isinstance(b, Gallery)]
    panels = {p.title: p for p in galleries[0].items}
    curves = panels["The intended rule holds"].data
    assert [len(t["x"]) for t in curves] == [3, 3, 3]
    assert curves[1]["y"] == [0.2, 0.5, 0.01]
    assert "21" in panels["The intended rule holds"].layout["xaxis"]["ticktext"][-1]
    pictures = next(g for g in galleries if g.title == "Samples: sit")
    assert [p.sub for p in pictures.items] == [f"guidance_scale {1 + w:g}" for w in W]
    (error,) = [g for g in galleries if g.title.startswith("The score error")]
    assert [t["y"] for t in error.items[0].data] == [[2.0] * 3, [6.0, 9.0, 26.0]]
    tables = [b for b in section.blocks if isinstance(b, Table)]
    assert len(tables[-1].rows) == 9
    assert section.command == "assay studies guided-rules --out DIR"


class _Seen(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.handlers = []

    def handle_starttag(self, tag, attrs):
        self.handlers += [(tag, k) for k, _ in attrs if k.startswith("on")]
        self.handlers += [(tag, v) for k, v in attrs if tag == "img" and v == "x"]


def test_names_are_shown_as_they_are_written(run, light):
    page = pages.write_report(run.path).read_text(encoding="utf-8")
    seen = _Seen()
    seen.feed(page)
    assert not seen.handlers
    assert "<script>alert(" not in page
    assert "&lt;script&gt;alert(" in page


def test_a_run_that_has_only_begun_has_no_section_yet(tmp_path, write_run):
    rows = [{"key": "data/n=4/rule=30/seed=0", "part": "data", "vendi": 2.0}]
    run = write_run(tmp_path / "begun", CONFIG, rows)
    assert guided_rules.sections(run) == []
    assert guided_rules.findings(Run.read(run.path)) == []


def test_pictures_have_a_line_around_each_panel():
    framed = guided_rules.framed(np.full((2, 9, 9), 1.0))
    assert framed.shape == (2, 22, 22)
    assert (framed[:, [0, 7, 14, 21]] == 0).all()
    assert framed.sum() == 2 * 18 * 18
    assert guided_rules.framed(np.full((1, 9, 9), np.nan)).max() == 9
