"""genraven-mini: occupancy alone, and the checker's own verdicts on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from assay.rules import genraven, mini


@given(image=hnp.arrays(np.uint8, (2, 9, 9), elements={"min_value": 0, "max_value": 1}))
def test_images_round_trip(image):
    x = mini.decode(image)
    assert (x.shape, x.dtype) == ((2, 3, 3, 9, 3), np.int8)
    assert set(np.unique(x)) <= {-1, 0}
    np.testing.assert_array_equal(mini.encode(x), image)


def test_layout_is_rows_down_panels_right():
    x = np.full((1, 3, 3, 9, 3), -1, np.int8)
    x[0, 2, 1, 5] = 3, 4, 5
    x[0, 0, 0, 0] = -1, 4, 5  # half empty is empty
    assert np.argwhere(mini.encode(x)[0]).tolist() == [[7, 5]]


def test_benchmark_is_number_and_position_less_two():
    assert tuple(range(30, 40)) == mini.RULES
    assert mini.HELD_OUT == (34, 37)
    assert mini.TRAINED == (30, 31, 32, 33, 35, 36, 38, 39)


def test_verdicts_are_those_of_the_panels():
    x, y = genraven.generate(500, mini.RULES, seed=4)
    ok = mini.check(mini.encode(x))
    np.testing.assert_array_equal(ok, genraven.check(x)[..., 30:])
    assert ok[np.arange(500), :, y - 30].all()
    other, _ = genraven.generate(200, range(30), seed=4)
    assert not mini.check(mini.encode(other)).any()


def test_generate_is_the_occupancy_of_genraven():
    image, y = mini.generate(100, mini.TRAINED, seed=7)
    x, rules = genraven.generate(100, mini.TRAINED, seed=7)
    np.testing.assert_array_equal(image, mini.encode(x))
    np.testing.assert_array_equal(y, rules)
    with pytest.raises(ValueError, match=r"30\.\.39"):
        mini.generate(1, [29])


def test_real_images_are_cut_at_one_half():
    image, _ = mini.generate(50, seed=1)
    noisy = image + np.random.default_rng(0).uniform(-0.49, 0.49, image.shape)
    np.testing.assert_array_equal(mini.encode(mini.decode(noisy)), image)
    noisy[0, 0, 0] = np.nan
    assert mini.encode(mini.decode(noisy))[0, 0, 0] == 0
    with pytest.raises(ValueError, match=r"\(n, 9, 9\)"):
        mini.decode(np.zeros((9, 9)))
