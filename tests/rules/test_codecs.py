"""Codecs: every encoding is undone exactly, and means what its description says."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.rules import codecs

PANELS = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        *(hnp.arrays(np.int8, (n, 3, 3, 9), elements=st.integers(-1, m - 1)) for m in (7, 10, 10))
    ).map(lambda parts: np.stack(parts, -1))
)
ANY = hnp.arrays(np.int8, st.tuples(st.integers(1, 2), *map(st.just, codecs.SHAPE)))


@pytest.mark.parametrize("name", list(codecs.CODECS))
@given(x=PANELS)
def test_codec_round_trip(name, x):
    codec = codecs.CODECS[name]
    code = codec.encode(x)
    assert code.shape == (len(x), *codec.shape)
    back = codec.decode(code)
    assert back.dtype == np.int8
    np.testing.assert_array_equal(back, x)


@given(x=ANY)
def test_image_keeps_every_int8(x):
    np.testing.assert_array_equal(codecs.decode_image(codecs.encode_image(x)), x)


def test_image_layout():
    x = np.full((1, 3, 3, 9, 3), -1, np.int8)
    x[0, 2, 1, 5] = 3, 4, 5  # row 2, panel 1, cell y = 1, x = 2
    image = codecs.encode_image(x)
    np.testing.assert_allclose(
        image[0, :, 7, 5], (np.array([3, 4, 5]) - [1.5, 2.5, 2.5]) / [2.5, 3.5, 3.5], rtol=1e-6
    )
    assert (image != image[0, :, :1, :1]).sum() == 3


def test_image_rounds_and_saturates_without_clamping():
    image = codecs.encode_image(np.zeros((1, 3, 3, 9, 3), np.int8)).astype(np.float64)
    for value, decoded in [
        (7.4, 7),
        (12.6, 13),
        (-1.6, -2),
        (1e9, 127),
        (-1e9, -128),
        (np.inf, 127),
        (np.nan, -128),
    ]:
        image[0, 0, 0, 0] = (value - 1.5) / 2.5
        assert codecs.decode_image(image)[0, 0, 0, 0, 0] == decoded


@given(ids=hnp.arrays(np.int64, (2, 81), elements=st.integers(0, 967)))
def test_joint_ids_all_round_trip(ids):
    np.testing.assert_array_equal(codecs.encode_joint(codecs.decode_joint(ids)), ids)


def test_joint_valid_ids_by_enumeration():
    valid = {0} | {
        (s + 1) * 121 + (z + 1) * 11 + c + 1
        for s in range(7)
        for z in range(10)
        for c in range(10)
    }
    assert len(valid) == 701
    assert sorted(valid) == codecs.VALID_JOINT.tolist()


def test_token_order_is_row_panel_y_x():
    x = np.full((1, 3, 3, 9, 3), -1, np.int8)
    x[0, 1, 2, 4] = 6, 9, 9
    ids = codecs.encode_joint(x)[0]
    assert np.flatnonzero(ids).tolist() == [(1 * 3 + 2) * 9 + 4]
    assert ids.max() == 967


def test_one_hot_has_one_class_per_attribute_and_decodes_scores():
    rng = np.random.default_rng(0)
    x = rng.integers(-1, [7, 10, 10], (4, 3, 3, 9, 3)).astype(np.int8)
    code = codecs.encode_one_hot(x)
    for low, high in itertools.pairwise(codecs.STARTS):
        assert (code[:, low:high].sum(1) == 1).all()
    noisy = code + rng.uniform(-0.4, 0.4, code.shape)
    np.testing.assert_array_equal(codecs.decode_one_hot(noisy), x)


def test_context_has_41_entries():
    assert codecs.context(None, 3).tolist() == [0, 0, 0]
    assert codecs.context(np.arange(40)).tolist() == list(range(1, 41))
    with pytest.raises(ValueError, match=r"0\.\.39"):
        codecs.context(np.array([40]))


@pytest.mark.parametrize("name", ["one-hot", "separate", "joint"])
@pytest.mark.parametrize(("attribute", "value"), [(0, 7), (1, 10), (2, -2)])
def test_encoding_names_the_value_without_token(name, attribute, value):
    x = np.zeros((1, 3, 3, 9, 3), np.int8)
    x[0, 0, 0, 0, attribute] = value
    with pytest.raises(ValueError, match=f"holds {value} for"):
        codecs.CODECS[name].encode(x)


@pytest.mark.parametrize("name", list(codecs.CODECS))
def test_wrong_shape_or_dtype_is_named(name):
    codec = codecs.CODECS[name]
    with pytest.raises(ValueError, match="shape"):
        codec.encode(np.zeros((1, 3, 3, 9), np.int8))
    with pytest.raises(ValueError, match="integers"):
        codec.encode(np.zeros((1, 3, 3, 9, 3)))
    with pytest.raises(ValueError, match=r"shape \(n, "):
        codec.decode(np.zeros((2, 5), np.int64))


def test_foreign_tokens_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.967"):
        codecs.decode_joint(np.full((1, 81), 968))
    with pytest.raises(ValueError, match="separate"):
        codecs.decode_separate(np.full((1, 81, 3), 8))
