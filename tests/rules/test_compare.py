"""Evaluations side by side: the right rows are found, and table and picture show them."""

import re

import pytest
from rich.console import Console

from assay import runs
from assay.rules import compare


def shares(**values):
    return {
        key: value
        for name, p in values.items()
        for key, value in ((name, p), (f"{name}_low", p - 0.1), (f"{name}_high", p + 0.1))
    }


def rows(c3):
    drawn = shares(c3=c3, novel_c3=c3 - 0.1, any_valid=0.75)
    facts = {"parameters": 164_816, "samples_seen": 5_000_000, "training_flop": 3.2e15}
    filled = shares(trained=0.9, held_out=0.25) | {"marginal_trained": 0.09}
    return [
        {"key": "unconditional/T=0.5", "part": "unconditional", **shares(c3=0.11)},
        {"key": "unconditional/T=1", "part": "unconditional", "nfe": 36, **drawn, **facts},
        {"key": "completion/r3c3", "part": "completion", **filled},
        {"key": "completion/r3c3/size-XOR", "part": "completion_rule"},
    ]


def evaluation(folder, c3, seen, n):
    config = {"kind": compare.KIND, "n": n, "model": {"samples_seen": seen}}
    with runs.Run.open(folder, config) as run:
        for row in rows(c3):
            run.append(row)


@pytest.fixture
def trained(tmp_path):
    """A training Run with three evaluations, and another folder in it."""
    with runs.Run.open(tmp_path / "run", {"kind": "rules.train"}):
        pass
    evaluation(tmp_path / "run" / "evaluation", 0.3, 100, 5000)
    evaluation(tmp_path / "run" / "evaluation-2", 0.5, 200, 1000)
    evaluation(tmp_path / "run" / "evaluation-3", 0.4, 200, 500)
    with runs.Run.open(tmp_path / "run" / "other", {"kind": "other"}):
        pass
    return tmp_path / "run"


def test_the_longest_trained_then_largest_evaluation_counts(trained):
    assert compare.read(trained).cell("unconditional", "c3") == pytest.approx((0.5, 0.4, 0.6))
    assert compare.read(trained / "evaluation").cell("unconditional", "c3") == pytest.approx(
        (0.3, 0.2, 0.4)
    )
    assert compare.read(trained).cell("completion", "held_out") == pytest.approx(
        (0.25, 0.15, 0.35)
    )
    assert compare.read(trained).cell("unconditional", "row1") is None


def test_without_evaluation_there_is_nothing_to_compare(tmp_path, trained):
    with runs.Run.open(tmp_path / "bare", {"kind": "rules.train"}):
        pass
    with pytest.raises(ValueError, match="has no evaluation yet; run assay rules evaluate"):
        compare.read(tmp_path / "bare")
    with pytest.raises(ValueError, match="no such folder"):
        compare.read(tmp_path / "absent")


def test_tables_show_shares_intervals_and_costs(trained):
    results = [compare.read(trained), compare.read(trained / "evaluation")]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(*compare.tables(results))
    text = captured.get()
    for words in ("0.500", ".400–.600", "0.300", "0.250", "165k", "5M", "3.2e+15", "36"):
        assert words in text


@pytest.mark.parametrize("ending", ["html", "svg", "png"])
def test_pictures_are_written_whole(trained, tmp_path, ending):
    results = [compare.read(trained), compare.read(trained / "evaluation")]
    path = compare.save(tmp_path / "new" / f"picture.{ending}", results)
    data = path.read_bytes()
    if ending == "png":
        assert data.startswith(b"\x89PNG")
        return
    text = data.decode()
    assert text.count('r="4"') == 2 * len(compare.MEASURES)  # a dot for each share
    assert text.count(f'fill="{compare._MUTED}"/>') == 2  # the lines to beat
    assert not re.search(r"(src|href)=|<script|url\(|@import", text)
    if ending == "html":
        assert "0.500<br>.400–.600" in text


def test_dots_and_bars_lie_where_the_shares_are(trained):
    items = compare._dot((0.5, 0.4, 0.6), 100.0, 50.0)
    bar, disc, words = items
    assert (bar.x, bar.width) == pytest.approx((100 + 0.4 * compare._WIDTH, 0.2 * compare._WIDTH))
    assert disc.x == pytest.approx(100 + 0.5 * compare._WIDTH)
    assert words.string == "0.500"


def test_other_endings_are_refused(trained, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.html, \.svg, \.png"):
        compare.save(tmp_path / "a.pdf", [compare.read(trained)])
