"""The study of examples: explanations recomputed from their words, marks, thirds, resumption."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from assay.core import intervals
from assay.rules import bits, codecs, examples, genraven, relations
from assay.runs import Run

SMALL = {**examples.CONFIG, "n_verdict": 2000, "n": 2000, "candidates": 40}
STEPS = {"progression -2": -2, "progression -1": -1, "progression +1": 1, "progression +2": 2}
LOGIC = {"XOR": set.__xor__, "OR": set.__or__, "AND": set.__and__}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with Run.open(tmp_path_factory.mktemp("run") / "rules", SMALL) as run:
        examples.fill(run, run.config)
        yield run


def part(run, name):
    return [row for row in run.rows if row["part"] == name]


def read(value):
    """A set from its words: {a, b}, or one value without braces."""
    return set(re.split(r", ", value.strip("{}")))


def number(value):
    """The number of a value's words: 'pentagon (2)' is 2."""
    return int(re.findall(r"\d+", value)[0])


def holds(relation, text):
    """Whether the words of a row are true by themselves."""
    if relation in LOGIC:
        first, second, third = (read(v) for v in re.split(rf" {relation} | = ", text))
        return third == LOGIC[relation](first, second)
    if relation == "constant":
        return len(set(re.split(r", | → ", text))) == 1
    a, b, c = (number(v) for v in re.split(r", | → | \+ | − | = ", text))
    if relation in STEPS:
        return (b - a, c - b) == (STEPS[relation], STEPS[relation])
    return c == (a + b if relation == "arithmetic +" else a - b)


@pytest.mark.parametrize("rule", range(40))
def test_explanation_is_true_of_its_own_words(rule):
    x, _ = genraven.generate(12, (rule,), seed=rule)
    about = genraven.RULES[rule]
    for sample in x:
        general, rows = examples.explain(rule, sample)
        assert len(rows) == 3
        assert all(holds(about.relation, text) for text in rows), rows
        assert "{" not in general
        assert about.attribute in general or about.relation in LOGIC or "cells" in general


def test_explanation_in_words_for_known_panels():
    x = np.full((3, 3, 9, 3), -1, np.int8)
    for panel, shapes in enumerate(((0, 6), (1, 6), (0, 1))):
        x[:, panel, : len(shapes)] = [(s, 4, 9) for s in shapes]
    general, rows = examples.explain(7, x)
    assert general == "The third panel has the shapes of exactly one of the first two."
    assert rows[0] == "{triangle, circle} XOR {square, circle} = {triangle, square}"
    assert examples.explain(10, x)[1][0] == "4, 4 → 4"
    assert examples.explain(38, x)[1][0] == "{1, 2} OR {1, 2} = {1, 2}"
    x[:, 2, 0, 0] = 2
    assert examples.said("shape", 0b100, code=True) == "pentagon (2)"
    assert examples.explain(13, x)[0] == "From panel to panel the size grows by 1."


def test_examples_show_every_relation_and_pass_the_checker(study):
    found = part(study, "example")
    kinds = [(r["relation"], r["attribute"] in ("shape", "size", "colour")) for r in found]
    assert {r for r, on_attribute in kinds if on_attribute} == set(genraven.RELATIONS)
    assert {r["rule"] for r in found} >= set(range(30, 40))
    for row in found:
        assert row["verdict"] == row["name"]
        assert row["offending"] == []
        assert row["found"] == [[row["name"]]] * 3


def test_pictures_are_svg_of_nine_panels_without_scripts(study):
    drawn = [row for row in study.rows if "svg" in row]
    assert len(drawn) == 20 + 6 + 4
    for row in drawn:
        root = ET.fromstring(row["svg"])
        boxes = [e for e in root.iter() if e.tag.endswith("rect") and e.get("fill") == "#ffffff"]
        assert len([b for b in boxes if b.get("width") == "96"]) == 9
        assert {e.tag.rsplit("}")[-1] for e in root.iter()} <= {
            "svg", "rect", "polygon", "polyline", "circle", "text"
        }  # fmt: skip


def test_broken_samples_are_marked_where_they_were_spoilt(study):
    marks = {row["key"]: row["offending"] for row in part(study, "broken")}
    assert marks["broken-intact"] == []
    assert marks["broken-row"] == [3]
    assert marks["broken-mixed"] == [1, 2, 3]
    for name in ("object", "half-empty", "out-of-range"):
        assert len(marks[f"broken-{name}"]) == 1
    found = {row["key"]: row["found"] for row in part(study, "broken")}
    assert found["broken-row"][2] == ["size XOR"]
    assert found["broken-mixed"] == [["shape XOR"], ["colour progression +2"],
                                     ["number arithmetic -"]]  # fmt: skip


@pytest.mark.parametrize(("attribute", "value"), [(0, -1), (2, 11)])
def test_spoil_changes_one_value_and_breaks_its_row(attribute, value):
    x = genraven.generate(1, (33 if value < 0 else 25,), seed=5)[0][0]
    spoilt = examples.spoil(x, attribute, lambda _: value)
    ((row, _, _, changed),) = np.argwhere(spoilt != x).tolist()
    assert changed == attribute
    ok = genraven.check(spoilt[None])[0]
    assert not ok[row].any()
    assert (ok.sum(axis=1) == 1).sum() == 2


def test_spoil_refuses_a_change_that_breaks_nothing():
    x = genraven.generate(1, (39,), seed=0)[0][0]
    with pytest.raises(ValueError, match="breaks its row"):
        examples.spoil(x, 1, lambda size: size)


def test_thirds_against_the_lists_of_triples():
    """Single values: the triples' thirds; sets: XOR, OR, AND in their domain."""
    masks = np.array([[0b111, 0b1, 1 << 5, 1 << 8], [0b1111, 0b1, 1 << 4, 1 << 8], [1, 1, 1, 1]])
    size = {(10 + r, 1 << c) for r, rows in enumerate(relations.triples(relations.TEN))
            for a, b, c in rows if (a, b) == (5, 4)}  # fmt: skip
    number = {(30 + r, c) for r, rows in enumerate(relations.triples(relations.NUMBER))
              for a, b, c in rows if (a, b) == (3, 4)}  # fmt: skip
    assert (
        set(examples.thirds(masks, "size")) == size == {(12, 1 << 3), (15, 1 << 9), (16, 1 << 1)}
    )
    assert set(examples.thirds(masks, "number")) == number
    assert examples.thirds(masks, "colour") == [(20, 1 << 8), (26, 1 << 0)]
    masks[:2, 3] = 0b11, 0b110
    assert examples.thirds(masks, "colour") == [(27, 0b101), (28, 0b111), (29, 0b10)]
    masks[:2, 3] = 0b11, 0b1100
    assert examples.thirds(masks, "colour") == []


def test_decoys_avoid_every_third_and_the_rule_meets_its_own():
    x, y = genraven.generate(30, seed=3)
    for sample, rule in zip(x, y, strict=True):
        masks, shown = bits.panel_masks(sample).astype(int), examples.values(sample)
        for row in range(3):
            for u, unit in enumerate(examples.UNITS):
                met = [r for r, t in examples.thirds(masks[row], unit) if t == shown[row, 2, u]]
                assert met == ([rule] if genraven.RULES[rule].attribute == unit else [])


def test_anatomy_names_the_rule_once_a_row_and_counts_every_object(study):
    rule = genraven.RULES[SMALL["anatomy"]]
    obeyed = [(r["row"], r["quantity"], r["obeys"]) for r in part(study, "anatomy")]
    assert [o for o in obeyed if o[2]] == [(k, rule.attribute, rule.name) for k in (1, 2, 3)]
    assert len(obeyed) == 15
    for row in part(study, "fill"):
        for column in ("shape", "size", "colour"):
            counts = [int(part.split(" × ")[1]) for part in row[column].split(", ")]
            assert sum(counts) == row["objects"] == row["cells"].count(",") + 1
            assert min(counts) >= 1


def test_views_leave_the_verdict_but_the_swap_renames_it():
    rows = examples.anatomy_rows({**SMALL, "anatomy": 17})
    found = {r["key"]: r["found"] for r in rows if r["part"] == "view"}
    assert found.pop("view-swap") == [["colour XOR"]] * 3
    assert set(found) == {"view-fill", "view-cells"}
    assert all(rules == [["size XOR"]] * 3 for rules in found.values())


def test_verdict_row_has_the_closed_intervals(study):
    (row,) = part(study, "verdict")
    assert (row["c3"], row["c2"], row["any_valid"], row["one_rule"], row["own_rule"]) == (
        1, 0, 1, 1, 1
    )  # fmt: skip
    assert (row["c3_low"], row["c3_high"]) == pytest.approx(intervals.wilson(2000, 2000))
    assert (row["c2_low"], row["c2_high"]) == pytest.approx(intervals.wilson(0, 2000))
    # 40 shares of 1/40 of 2,000: all within 6 standard errors (probability above 1 - 1e-7)
    assert 0.025 - 6 * 0.0035 < row["least_share"] <= row["largest_share"] < 0.025 + 6 * 0.0035


def test_reference_lines_hold_the_published_figures(study):
    rows = {r["key"]: r for r in part(study, "completion")}
    assert rows["completion-symbolic"]["all"] == 1
    uniform, everything = rows["completion-uniform"], rows["completion-uniform-all"]
    assert uniform["all_low"] < uniform["all_published"] < uniform["all_high"]
    assert everything["any_valid"] == pytest.approx(everything["any_valid_published"], abs=0.02)
    assert rows["completion-marginal"]["all"] == pytest.approx(0.07, abs=0.025)
    for row in rows.values():
        mixed = row["trained"] * row["trained_n"] + row["held_out"] * row["held_out_n"]
        assert mixed / row["n"] == pytest.approx(row["all"])


def test_overlap_holds_the_published_figures(study):
    rows = {(r["level"], r["form"]): r for r in part(study, "overlap")}
    assert len(rows) == 11
    for level, tolerance in (("row", 1e-3), ("panel", 0.01), ("attribute_panel", 0.02)):
        row = rows[level, "plain"]
        assert row["overlap"] == pytest.approx(row["published"], abs=tolerance)
    for (level, form), row in rows.items():
        if form == "plain":
            assert row["overlap"] <= rows[level, "canonical"]["overlap"]


def test_mini_images_are_the_occupied_cells_of_the_image_codec(study):
    images = study.array("images.mini")
    assert images.shape == (10, SMALL["mini"], 9, 9)
    for row in part(study, "mini"):
        x, _ = genraven.generate(SMALL["mini"], (row["rule"],), SMALL["seed"])
        shape = codecs.encode_image(x)[:, 0] * codecs.IMAGE_STD[0] + codecs.IMAGE_MEAN[0]
        np.testing.assert_array_equal(images[row["index"]], np.rint(shape) >= 0)
    held_out = {r["rule"] for r in part(study, "mini") if r["held_out"]}
    assert held_out == set(genraven.MINI.held_out)


def test_study_resumes_to_the_same_rows(study, tmp_path):
    lines = (study.path / "rows.jsonl").read_text().splitlines(keepends=True)
    with Run.open(tmp_path / "rules", SMALL) as run:
        pass
    (tmp_path / "rules" / "rows.jsonl").write_text("".join(lines[:23]) + lines[23][:40])
    with Run.open(tmp_path / "rules", SMALL) as run:
        examples.fill(run, run.config)
        examples.fill(run, run.config)
        assert run.rows == study.rows
    np.testing.assert_array_equal(run.array("images.mini"), study.array("images.mini"))
