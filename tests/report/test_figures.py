"""Axes, traces, pictures and the labels beside dots."""

import base64
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.report import axes, blocks, images
from assay.report import figures as fig
from assay.report.sections import peers

GRIDS = st.lists(st.floats(-0.99, 1e4), min_size=2, max_size=40, unique=True)


@given(GRIDS)
def test_places_rise_with_w(grid):
    ordered = sorted(grid)
    at = axes.places(ordered, grid)
    assert all(a <= b for a, b in itertools.pairwise(at))
    assert np.all(np.isfinite(at))


@given(GRIDS)
def test_ticks_of_w_stand_apart_and_name_both_conventions(grid):
    axis = axes.of_w(grid)
    at = axis["tickvals"]
    room = 0.11 * (at[-1] - at[0])
    assert all(b - a >= room * 0.999 for a, b in itertools.pairwise(at))
    assert len(at) == len(axis["ticktext"])
    assert all(label.count("<br>") == 1 for label in axis["ticktext"])


def test_axis_of_w_spreads_the_usual_grid_evenly():
    assert axes.places([0, 1, 3, 7, 15], [0, 1, 3, 7, 15]) == [0, 1, 2, 3, 4]
    labels = axes.of_w([0, 1, 3, 7, 15])["ticktext"]
    assert labels[2] == "3<br><span style='color:#8a94a0'>4</span>"


def test_axis_of_w_holds_the_unconditional_model():
    at = axes.places([-1, 0, 1, 3], [-1, 0, 1, 3])
    assert at[0] == 0.0
    assert at == sorted(at)
    assert axes.places([-1, 0], [-1, 0]) == [-1, 0]


def test_axis_of_many_w_has_round_ticks():
    texts = axes.of_w(np.geomspace(1, 1000, 25).tolist())["ticktext"]
    assert [t.split("<br>")[0] for t in texts] == ["1", "3", "10", "30", "100", "300", "1,000"]


def test_noise_falls_to_the_right():
    axis = axes.of_noise(0.002, 80.0)
    assert axis["range"][0] > axis["range"][1]
    assert axis["tickvals"] == [10, 1, 0.1, 0.01]


def test_compact_numbers_are_json_and_close():
    values = np.array([[np.pi, np.nan], [np.inf, -1e-300]])
    found = fig.compact(values)
    assert found[0] == [3.1416, None]
    assert found[1] == [None, -1e-300]


def test_marks_become_shapes_and_never_traces():
    marks = [fig.across(2.0, "<edge>"), fig.upright(1.0)]
    figure = fig.figure([fig.line([0, 1], [0, 1], "a", fig.GUIDED), *marks], {}, {}, "t")
    assert len(figure.data) == 1
    assert len(figure.layout["shapes"]) == 2
    assert [a["text"] for a in figure.layout["annotations"]] == ["&lt;edge&gt;"]


def test_points_show_their_intervals():
    trace = fig.points([0, 1], [0.5, 0.2], "a", fig.GUIDED, low=[0.4, 0.1], high=[0.7, 0.2])
    assert trace["error_y"]["array"] == [0.2, 0.0]
    assert trace["error_y"]["arrayminus"] == [0.1, 0.1]


@given(st.integers(1, 500), st.integers(2, 100))
def test_thinning_keeps_both_ends(n, most):
    kept = fig.thinned(n, most)
    assert kept[0] == 0
    assert kept[-1] == n - 1
    assert len(kept) <= most
    assert np.all(np.diff(kept) > 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_names_beside_dots_keep_order_and_distance(places):
    ordered, gap = sorted(places), 0.066
    found = peers.spaced(ordered, gap)
    assert all(b - a >= gap * (1 - 1e-9) for a, b in itertools.pairwise(found))
    assert min(found) >= 0.02 - 1e-9
    assert max(found) <= 0.98 + 1e-9


def test_names_with_room_stay_where_their_dots_are():
    assert peers.spaced([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])


def decoded(uri):
    """Pixels of a PNG, read by its specification: 8-bit colours, filter 0."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (check,) = struct.unpack(">I", data[at + 8 + size : at + 12 + size])
        assert check == zlib.crc32(name + body)
        parts[name] = body
        at += 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (depth, colour) == (8, 2)
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_grid_of_images_is_a_png_of_their_pixels():
    shades = np.array([-1.0, 1.0, 0.0, 9.0, -9.0])
    pixels = decoded(images.grid(np.ones((5, 8, 8)) * shades[:, None, None], 2))
    assert pixels.shape == (3 * 52 - 4, 2 * 52 - 4, 3)
    centres = [pixels[52 * (i // 2) + 24, 52 * (i % 2) + 24].tolist() for i in range(5)]
    assert centres == [[255] * 3, [0] * 3, [128] * 3, [180, 69, 31], [36, 87, 166]]


def test_enlarged_images_are_linear_between_pixels():
    image = np.arange(4.0)[None, :, None] + 10 * np.arange(3.0)[None, None, :]
    large = images.enlarged(image)
    assert large.shape == (1, 24, 18)
    inner = large[0, 3:-3, 3:-3]
    np.testing.assert_allclose(np.diff(inner, axis=0), 1 / 6, rtol=1e-9)
    np.testing.assert_allclose(np.diff(inner, axis=1), 10 / 6, rtol=1e-9)
    assert large.min() == image.min()
    assert large.max() == image.max()
    np.testing.assert_array_equal(
        images.enlarged(np.full((1, 1, 1), 0.5)), np.full((1, 6, 6), 0.5)
    )


@given(st.integers(1, 60))
def test_galleries_fill_their_rows(n):
    assert blocks.beside(n) in (blocks.TWO, blocks.THREE, blocks.FOUR, blocks.FIVE)


def test_bars_compare_within_a_column():
    cells = blocks.bars([1.0, None, -4.0])
    assert [c.bar for c in cells] == [0.25, None, 1.0]
    assert [c.text for c in cells] == ["1", "–", "−4"]
    assert blocks.bars([None])[0].bar is None


def test_json_in_a_script_cannot_close_it():
    found = blocks.script_json({"a": "</script><!--&"})
    assert "<" not in found
    assert "&" not in found
    with pytest.raises(ValueError, match="JSON"):
        blocks.script_json(float("nan"))
