"""Generators: same seed, same bytes; known panels untouched; what is invalid refused."""

import numpy as np
import pytest

from assay.families.config import SetTokenConfig
from assay.families.settoken import SetTokens
from assay.models.config import SetNetConfig, TransformerConfig
from assay.models.setnet import SetNet
from assay.rules import bindings, genraven
from assay.rules.generator import Generator


def generator(binding="sets", orders=(0.4, 0.3, 0.3)):
    widths = {"sets": (9, 7, 10, 10), "positions": (9,)}[binding]
    size = TransformerConfig(width=16, layers=1, heads=2)
    net = SetNet(SetNetConfig(tokens=size, widths=widths, rank=4, components=2))
    made = Generator(SetTokens(net, SetTokenConfig(orders=orders)).eval(), bindings.get(binding))
    made.batch = 16
    return made


X, _ = genraven.generate(40, seed=8)
RNG = np.random.default_rng(0)
MASK = RNG.random((40, 3, 3)) < 0.4
MASK[0], MASK[1] = True, False


@pytest.mark.parametrize("binding", ["sets", "positions"])
def test_samples_are_panels(binding):
    x = generator(binding).sample(37, seed=2)
    assert x.shape == (37, 3, 3, 9, 3)
    assert x.dtype == np.int8
    empty = (x == -1).all(-1)
    assert ((x >= 0).all(-1) | empty).all()
    assert not empty.all(-1).any()


def test_same_seed_same_bytes_whatever_n_and_the_internal_batch():
    model = generator()
    whole = model.sample(37, seed=2)
    np.testing.assert_array_equal(model.sample(37, seed=2), whole)
    np.testing.assert_array_equal(model.sample(20, seed=2), whole[:20])
    assert (model.sample(37, seed=3) != whole).any()
    model.batch = 5
    np.testing.assert_array_equal(model.sample(37, seed=2), whole)
    assert model.sample(0).shape == (0, 3, 3, 9, 3)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_depend_on_seed_and_sample_alone(temperature):
    model = generator()
    whole = model.complete(X, MASK, 4, temperature)
    np.testing.assert_array_equal(model.complete(X[:13], MASK[:13], 4, temperature), whole[:13])
    model.batch = 7
    np.testing.assert_array_equal(model.complete(X, MASK, 4, temperature), whole)


@pytest.mark.parametrize("binding", ["sets", "positions"])
def test_known_panels_are_untouched_and_unknown_ones_never_read(binding):
    model = generator(binding)
    done = model.complete(X, MASK, 1, 1.0)
    np.testing.assert_array_equal(done[~MASK], X[~MASK])
    assert done.dtype == np.int8
    dirty = X.astype(np.int64)
    dirty[MASK] = RNG.integers(-(2**40), 2**40, dirty[MASK].shape)
    np.testing.assert_array_equal(model.complete(dirty, MASK, 1, 1.0), done)
    assert (done[MASK] >= 0).any(-1).any(-1).all()


def test_nothing_unknown_is_a_copy_and_all_unknown_samples():
    model = generator()
    same = model.complete(X, np.zeros((3, 3), np.bool_))
    np.testing.assert_array_equal(same, X)
    assert not np.shares_memory(same, X)
    every = np.ones((3, 3), np.bool_)
    np.testing.assert_array_equal(
        model.complete(np.full_like(X, 99), every, 6, 1.0), model.sample(40, 6, 1.0)
    )


def test_what_is_invalid_is_refused():
    model = generator()
    last = np.arange(9).reshape(3, 3) == 8
    for value in (-1, 7, -2):  # half empty, no shape, no value
        bad = X.copy()
        cell = int((X[3, 1, 0, :, 0] >= 0).argmax())
        bad[3, 1, 0, cell, 0] = value
        with pytest.raises(ValueError, match=rf"r2c1, position {cell} of sample 3"):
            model.complete(bad, last)
    bad = X.copy()
    bad[17, 0, 2] = -1
    with pytest.raises(ValueError, match="no object at r1c3 of sample 17"):
        model.complete(bad, last)
    with pytest.raises(ValueError, match="mask"):
        model.complete(X, last.astype(int))
    with pytest.raises(ValueError, match="panels"):
        model.complete(X[0], last)
    with pytest.raises(ValueError, match="n must"):
        model.sample(-1)
    with pytest.raises(ValueError, match="seed"):
        model.sample(1, seed=-1)
    with pytest.raises(ValueError, match="r1c1"):
        generator(orders=(1, 0, 0)).complete(X, np.arange(9).reshape(3, 3) == 0)
