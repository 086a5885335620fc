"""Criteria: text, TOML and sentence; what is refused."""

import pytest

from assay.guidance.choosing.criterion import EXAMPLE, Criterion, coerced

FULL = "off_support < 1% @ 95%; diversity >= 80%; returned before sigma 0.1; odds_gain >= 2"


def test_parse_reads_words_and_numbers():
    made = Criterion.parse(FULL)
    assert made.off_support == 0.01
    assert made.diversity == 0.8
    assert made.returned == 0.1
    assert made.odds_gain == 2.0
    assert made.confidence == 0.95
    assert made.alpha == pytest.approx(0.05)
    assert made.names == ("off_support", "diversity", "returned", "odds_gain")


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        EXAMPLE,
        "Off-support <= 0.004 with 99 % confidence",
        "diversity >= .5 of w = 0\nconfidence: 90%",
        "overshoot returned before sigma = 1e-2",
        'off_support = "3%"\nconfidence = 0.8',
        "# limits\ndiversity = 0.7",
        "off_support < 0.123456789%; confidence 97.5%",
    ],
)
def test_text_round_trip(text):
    made = Criterion.parse(text)
    assert Criterion.parse(made.text) == made
    assert Criterion.parse(made.text).text == made.text
    assert coerced(made.model_dump()) == made


def test_it_prints_itself_as_a_sentence():
    assert str(Criterion.parse(EXAMPLE)) == (
        "Off the support after the final denoise in fewer than 1 % of samples and diversity at "
        "least 80 % of that at w = 0, with 95 % confidence each."
    )
    assert str(Criterion(off_support=0.005)) == (
        "Off the support after the final denoise in fewer than 0.5 % of samples, with 95 % "
        "confidence."
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "criterion is empty"),
        ("no rubbish", "clause 'no rubbish' is not understood"),
        ("off_support < 1%; off_support < 2%", "states off_support twice"),
        ("off_support < 1% @ 95%; diversity >= 80% @ 90%", "states confidence twice"),
        ("off_support < 150%", "off_support: .*less than 1"),
        ("off_support < 0%", "off_support: .*greater than 0"),
        ("diversity >= 100%", "diversity: .*less than 1"),
        ("returned before sigma 0", "returned: .*greater than 0"),
        ("confidence 95%", "without a constraint"),
        ("off_support < 1%; confidence 40%", "confidence: .*greater than 0.5"),
        ("shape = 3", "shape: Extra inputs"),
        ("off_support = ", "is not TOML"),
    ],
)
def test_what_cannot_be_read_is_one_line(text, said):
    with pytest.raises(ValueError, match=said) as error:
        Criterion.parse(text)
    assert "\n" not in str(error.value)


def test_toml_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('off_support = "1%"\ndiversity = 0.8\n')
    assert Criterion.read(path) == Criterion(off_support=0.01, diversity=0.8)
    with pytest.raises(ValueError, match="cannot be read"):
        Criterion.read(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="must be a Criterion or text"):
        coerced(3)
