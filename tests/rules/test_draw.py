"""Pictures show what the panels hold, and the caption what the checker says."""

import io
import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from assay.rules import canvas, draw, genraven

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def samples():
    return genraven.generate(6, seed=0)[0]


def one_cell(shape, size, colour):
    x = np.full((1, 3, 3, 9, 3), -1, np.int8)
    x[0, 0, 0, 4] = shape, size, colour
    return x


def objects(x):
    """The items that stand for objects: outlined discs and polygons."""
    return [
        item
        for item in draw.scene(x).items
        if isinstance(item, (canvas.Disc, canvas.Polygon)) and item.style.stroke == draw.INK
    ]


@pytest.mark.parametrize("sides", range(3, 9))
def test_polygons_are_regular_with_a_flat_base_and_centred(sides):
    points = np.array(draw.corners(sides, 10.0, 20.0, 5.0))
    edges = np.linalg.norm(points - np.roll(points, 1, 0), axis=1)
    np.testing.assert_allclose(edges, 10 * math.sin(math.pi / sides), rtol=1e-12)
    assert (points.max(0) + points.min(0)) / 2 == pytest.approx([10, 20])
    assert (np.abs(points[:, 1] - points[:, 1].max()) < 1e-9).sum() == 2


def test_every_object_is_drawn_once_and_stays_in_its_cell(samples):
    assert len(objects(samples)) == (samples[..., 0] >= 0).sum()
    for shape, size in itertools.product(range(7), range(10)):
        (item,) = objects(one_cell(shape, size, 4))
        if shape == 6:
            low, high = (item.x - item.radius, item.y - item.radius), (
                item.x + item.radius, item.y + item.radius)  # fmt: skip
        else:
            assert len(item.points) == shape + 3
            low, high = np.min(item.points, 0), np.max(item.points, 0)
        middle = draw.MARGIN + draw.PANEL / 2
        half = draw.PANEL * 0.92 / 6
        assert middle - half < min(low)
        assert max(high) < middle + half


def test_size_grows_and_colour_darkens():
    radii = [objects(one_cell(6, size, 0))[0].radius for size in range(10)]
    assert np.diff(radii).min() > 0.5
    greys = [int(objects(one_cell(0, 0, c))[0].style.fill[1:3], 16) for c in range(10)]
    assert (greys[0], greys[9]) == (255, 0)
    assert np.diff(greys).max() < -25


def test_png_has_the_colours_at_their_places():
    x = one_cell(1, 9, 3)
    image = Image.open(io.BytesIO(draw.png(x, scale=3.0)))
    scene = draw.scene(x)
    assert image.size == (round(scene.width * 3), round(scene.height * 3))
    centre = round((draw.MARGIN + draw.PANEL / 2) * 3)
    assert image.getpixel((centre, centre)) == (170, 170, 170)
    assert image.getpixel((5, 5)) == (255, 255, 255)
    edge = round(draw.MARGIN * 3)
    assert max(image.getpixel((edge, centre))) < 60
    tint = tuple(int(draw.TINT[i : i + 2], 16) for i in (1, 3, 5))
    gap = round((draw.MARGIN + draw.PANEL + draw.GAP / 2) * 3)
    assert image.getpixel((gap, centre)) == tint  # no rule: the row is marked


def test_png_does_not_depend_on_its_bands(samples, monkeypatch):
    whole = np.asarray(Image.open(io.BytesIO(draw.png(samples[:2]))))
    monkeypatch.setattr(canvas, "BAND", 64)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(draw.png(samples[:2])))), whole)


def test_svg_is_well_formed_and_escaped(samples):
    root = ElementTree.fromstring(draw.svg(samples, title='<b>&"rules"</b>'))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[0] == '<b>&"rules"</b>'
    names = [genraven.RULES[r].name for r in genraven.check(samples).all(1).argmax(1)]
    assert [t for t in texts if t in {rule.name for rule in genraven.RULES}] == names
    shapes = {f"{SVG}{name}" for name in ("rect", "circle", "polygon", "polyline", "text")}
    assert {item.tag for item in root} == shapes - {f"{SVG}polyline"}


def checks(*rows):
    ok = np.zeros((3, 40), bool)
    for row, rules in enumerate(rows):
        ok[row, list(rules)] = True
    return ok


def test_verdict_of_a_common_rule():
    words = draw.verdict(checks([15, 3], [15], [15, 38]))
    assert words == draw.Verdict("size arithmetic +", "rule 15 in all three rows", ())


@pytest.mark.parametrize("odd", range(3))
def test_verdict_marks_the_row_that_breaks_the_rule(odd):
    rows = [[13], [13], [13]]
    rows[odd] = []
    words = draw.verdict(checks(*rows))
    assert words.offending == (odd,)
    assert words.note == f"row {odd + 1} breaks size progression +1 (obeys none)"
    rows[odd] = [39]
    assert "(obeys position AND)" in draw.verdict(checks(*rows)).note


def test_verdict_without_agreement_marks_rows_without_rule_or_all():
    words = draw.verdict(checks([], [7], []))
    assert words.offending == (0, 2)
    assert words.note.replace("\u00a0", " ") == "row 1: none; row 2: shape XOR; row 3: none"
    assert draw.verdict(checks([0], [1], [2])).offending == (0, 1, 2)


def test_faulty_cells_are_marked_in_red():
    x = one_cell(1, 1, 1)
    x[0, 0, 1, 0] = -1, 3, 3
    x[0, 0, 2, 0] = 7, 3, 3
    items = draw.scene(x).items
    crosses = [i for i in items if isinstance(i, canvas.Polygon) and i.style.stroke == draw.BAD]
    marks = [i for i in items if isinstance(i, canvas.Text) and i.string == "?"]
    assert (len(crosses), len(marks), len(objects(x))) == (2, 1, 1)


def test_grid_holds_all_samples_in_columns(samples):
    scene = draw.scene(samples, columns=4)
    panels = [i for i in scene.items if isinstance(i, canvas.Box) and i.width == draw.PANEL]
    assert len(panels) == 6 * 9
    assert len({p.x for p in panels}) == 4 * 3
    assert len({p.y for p in panels}) == 2 * 3
    assert max(p.x for p in panels) + draw.PANEL + draw.MARGIN == pytest.approx(scene.width)


def test_save_writes_whole_files_only(samples, tmp_path):
    for name in ("a.png", "sub/a.SVG"):
        path = draw.save(tmp_path / name, samples[:1])
        assert path.stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "sub"]
    with pytest.raises(ValueError, match=r"ends in \.png or \.svg"):
        draw.save(tmp_path / "a.jpg", samples)
    with pytest.raises(ValueError, match="cannot be written"):
        draw.save(tmp_path / "a.png" / "b.png", samples[:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "sub"]


def test_wrong_arguments_are_named(samples):
    with pytest.raises(ValueError, match="1 to 1000"):
        draw.scene(samples[:0])
    with pytest.raises(ValueError, match="columns"):
        draw.scene(samples, columns=0)
    with pytest.raises(ValueError, match="integers"):
        draw.scene(samples.astype(float))
