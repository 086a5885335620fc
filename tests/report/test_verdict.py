"""Whether a row is inside, by its limits, its intervals and its spread."""

import pytest

from assay.report import rows, verdict


def row(after, before=None, n=None, ends=None, **more):
    found = {"off_support_denoised": after, "off_support": after if before is None else before}
    if ends:
        found |= {"off_support_denoised_low": ends[0], "off_support_denoised_high": ends[1]}
    return found | {"n": n, "w": 3.0} | more


PLAIN = {"w": 0.0, "sd": 1.0}


@pytest.mark.parametrize(
    ("found", "state"),
    [(row(0.0, sd=0.8), "inside"), (row(0.01, sd=0.8), "inside"), (row(0.011), "outside"),
     (row(0.0, sd=0.49), "narrow"), (row(0.0, sd=0.5), "inside"),
     (row(0.0, before=0.5, sd=0.1), "artefact"), (row(0.0, before=0.01), "inside"),
     (row(0.005, n=100, ends=(0.001, 0.03)), "unclear"),
     (row(0.02, n=100, ends=(0.009, 0.05)), "unclear"),
     (row(0.02, n=9999, ends=(0.015, 0.025)), "outside"),
     (row(0.0, n=9999, ends=(0.0, 0.0004), sd=1.0), "inside"),
     ({"w": 1.0}, ""), ({"off_support": 0.5}, "outside"), ({"off_support": 0.0}, "inside")],
)  # fmt: skip
def test_state_follows_its_limits(found, state):
    assert verdict.state(found, PLAIN) == state


def test_artefact_needs_an_interval_above_the_limit():
    found = row(0.0, before=0.02, n=50, off_support_low=0.004, off_support_high=0.1)
    assert verdict.state(found, PLAIN) == "inside"
    assert verdict.state(found | {"off_support_low": 0.011}, PLAIN) == "artefact"


def test_spread_of_images_is_their_coverage():
    plain = {"sd": 1.0, "coverage": 0.8}
    assert verdict.kept({"sd": 1.0, "coverage": 0.2}, plain) == pytest.approx(0.25)
    assert verdict.state(row(0.0, sd=1.0, coverage=0.2), plain) == "narrow"
    assert verdict.kept({"sd": 0.5}, {"sd": 0.0}) is None
    assert verdict.kept({"sd": 0.5}, None) is None


def test_cell_says_the_share_and_what_is_left():
    cell = verdict.cell(row(0.0036, sd=0.596), PLAIN)
    assert (cell.text, cell.state, cell.detail) == ("0.36 % off", "inside", "spread 59.6 %")
    cell = verdict.cell(row(0.0, before=0.738, sd=0.003), PLAIN)
    assert (cell.text, cell.state) == ("0 % off", "artefact")
    assert cell.detail == "73.8 % before denoise"
    assert verdict.cell({}, PLAIN).text == "–"


def test_worst_seed_speaks():
    assert verdict.worst([row(0.0), row(0.02), row(None)])["off_support_denoised"] == 0.02


@pytest.mark.parametrize(
    ("given", "value"),
    [(1, 1.0), (0.5, 0.5), (True, 1.0), (None, None), ("1", None), (float("nan"), None),
     (float("inf"), None), ([1], None)],
)  # fmt: skip
def test_values_are_finite_numbers_or_none(given, value):
    assert rows.value({"x": given}, "x") == value
    assert rows.value({}, "x") is None


def test_rows_are_ordered_and_grouped():
    found = [{"w": 3, "a": "x"}, {"w": None}, {"w": 0, "a": "y"}, {"w": 1, "a": "x", "b": 2.0}]
    assert [r["w"] for r in rows.by_w(found)] == [0, 1, 3]
    assert rows.series(found, "b") == ([1.0], [2.0])
    assert list(rows.groups(found, "a")) == [("x",), (None,), ("y",)]
    assert rows.groups([{"a": [1]}, {"a": [1]}], "a").keys() == {("[1]",)}
    assert rows.at(found, 3.0) is found[0]
    assert rows.at(found, 9.0) is None
    assert rows.constant(found, "w") is None
    assert rows.constant(found[:1], "a") == "x"


def test_shares_carry_interval_and_n():
    found = {"s": 0.5, "s_low": 0.45, "s_high": 0.55, "n": 400}
    assert rows.share(found, "s") == "50.0 % (95 % interval 45.0 % to 55.0 %, n = 400)"
    assert rows.share({"s": 0.5, "n": 1000}, "s") == "50.0 % (n = 1,000)"
    assert rows.share({"s": 0.5, "n": None}, "s") == "50.0 %"
