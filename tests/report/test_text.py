"""Numbers, shares, weights and commands as the page writes them."""

import math
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import cli
from assay.guidance import config as configs
from assay.report import text
from assay.runs import Run


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (float("inf"), "–"), (0, "0"), (0.0, "0"), (True, "yes"),
     (1234567, "1,234,567"), (10841.3, "10,841"), (2.34848, "2.348"), (0.5, "0.5"),
     (-0.0251, "−0.0251"), (0.00012345, "0.0001234"), (9.21e-6, "9.21 × 10⁻⁶"),
     (-1.5e12, "−1.5 × 10¹²"), (99999.6, "100,000"), ("words", "words"), ([1, 2.5], "1, 2.5"),
     ({"a": 1.0, "b": None}, "a 1, b –"), ({}, "–")],
)  # fmt: skip
def test_number_is_short_and_readable(value, shown):
    assert text.number(value) == shown


@given(st.floats(min_value=1e-4, max_value=9.9e6), st.integers(2, 6))
def test_number_keeps_its_digits(value, digits):
    shown = float(text.number(value, digits).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=0.5001 * 10 ** (1 - digits))


@given(st.floats(min_value=1e-300, max_value=1e-5), st.booleans())
def test_small_numbers_keep_their_power(value, negative):
    mantissa, power = text.number(-value if negative else value).split(" × 10")
    digits = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    found = float(mantissa.replace("−", "-")) * 10.0 ** int(digits)
    assert math.isclose(abs(found), value, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(None, "–"), (0.0, "0 %"), (1.0, "100 %"), (1e-9, "< 0.0001 %"), (0.99996, "> 99.9 %"),
     (4.1e-5, "0.0041 %"), (0.0036, "0.36 %"), (0.0994, "9.9 %"), (0.0995, "10.0 %"),
     (0.7384, "73.8 %")],
)  # fmt: skip
def test_percent_keeps_what_matters_near_0_and_1(share, shown):
    assert text.percent(share) == shown


@given(st.floats(0, 1))
def test_percent_is_right_to_a_twentieth(share):
    shown = text.percent(share)
    if shown[0] not in "<>":
        assert math.isclose(float(shown.removesuffix(" %")) / 100, share, rel_tol=0.051)


def test_ratio_may_exceed_100_per_cent():
    assert [text.ratio(v) for v in (1.04, 0.5, None)] == ["104 %", "50.0 %", "–"]


@given(st.floats(-100, 1e4))
def test_weight_gives_both_conventions(w):
    assert text.weight(w) == f"w = {text.number(w)} (guidance_scale {text.number(1 + w)})"


def test_sentences_join():
    assert [text.listed(p) for p in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip
    assert text.weights([0.0, 1.0]) == "w = 0 (guidance_scale 1) and w = 1 (guidance_scale 2)"
    assert text.plural(1, "row") == "1 row"
    assert text.plural(2000, "row") == "2,000 rows"
    assert text.capital("gaussians") == "Gaussians"


@given(st.text())
def test_slug_is_an_anchor(name):
    assert text.slug(name)
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in text.slug(name))


@given(st.text())
def test_safe_labels_hold_no_markup(label):
    assert "<" not in text.safe(label)


def test_target_names_its_parameters():
    config = {"target": "gaussians", "params": {"mean": 1.5, "prior": 0.25}}
    assert text.target(config) == "Gaussians (mean 1.5, prior 0.25)"
    assert text.target({"target": "mixture", "params": {"cond": []}}) == "Mixture"
    assert text.target({}) == "Target"


@pytest.mark.parametrize(
    "given_",
    [{"target": "gaussians", "w": [0], "params": {"mean": -2.0, "prior": 0.25}},
     {"target": "gaussians", "w": [-1, 0.5], "solvers": ["euler"], "seeds": [0, 3],
      "particles": {"n": 16, "steps": 4}},
     {"target": "gaussians", "w": [1], "laws": [{"name": "constant"}, {"name": "low_high_low"}],
      "particles": {"n": 16, "steps": 4}}],
)  # fmt: skip
def test_command_makes_a_run_of_the_same_configuration(given_, tmp_path, capsys):
    asked = configs.build(given_)
    command = text.command(asked.model_dump(mode="json"))
    assert command.endswith(" --out DIR")
    tokens = shlex.split(command)[1:-1]
    assert cli.main([*tokens, str(tmp_path / "run")]) == 0
    capsys.readouterr()
    Run.open(tmp_path / "run", asked).close()  # refuses any other configuration


@pytest.mark.parametrize(
    "config",
    [{"target": "mixture", "params": {"cond": [], "uncond": []}},
     {"target": "gaussians", "params": {"mean": [1.0, 2.0]}},
     {"target": "gaussians", "laws": [{"name": "interval", "params": {"low": 0.1}}]},
     {"target": "gaussians", "particles": {"n": 5, "sigma_min": 0.1}},
     {"target": "digits", "params": {"label": 3, "seed": 2}}],
)  # fmt: skip
def test_command_names_a_file_where_flags_cannot_say_it(config):
    assert text.command({"kind": "guidance.sweep", **config}) == (
        "assay guidance sweep FILE.toml --out DIR"
    )


def test_command_of_other_kinds():
    assert text.command({"kind": "guidance.peers"}) == "assay demo --out DIR"
    assert text.command({"command": "python -m bench"}) == "python -m bench"
