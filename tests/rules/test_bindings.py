"""Bindings: round trips, and masks that fall exactly on the codes of their panels."""

import numpy as np
import pytest

from assay.rules import bindings, genraven, settokens

X, _ = genraven.generate(12, seed=5)


@pytest.mark.parametrize("name", bindings.BINDINGS)
def test_shapes_and_round_trips(name):
    binding = bindings.get(name)
    code = binding.encode(X)
    assert code.shape == (12, *binding.shape)
    back = binding.decode(code, 0)
    assert back.dtype == np.int8
    np.testing.assert_array_equal(binding.encode(back), code)
    if name != "sets":
        np.testing.assert_array_equal(back, binding.project(X))


@pytest.mark.parametrize("name", bindings.BINDINGS)
def test_masks_fall_on_the_codes_that_a_panel_changes(name):
    """Another panel in place of one changes codes under its mask alone."""
    binding = bindings.get(name)
    for place in range(9):
        mask = np.zeros((12, 3, 3), np.bool_)
        mask.reshape(12, 9)[:, place] = True
        changed = X.copy()
        changed.reshape(12, 9, 9, 3)[:, place] = np.roll(X.reshape(12, 9, 9, 3)[:, place], 1, 0)
        where = binding.place(mask)
        code = binding.encode(X)
        where = where.reshape(*where.shape, *[1] * (code.ndim - where.ndim))
        differs = binding.encode(changed) != code
        assert differs.any()
        assert not (differs & ~where).any()
        assert np.broadcast_to(where, code.shape).mean() == pytest.approx(1 / 9)


@pytest.mark.parametrize("name", ["positions", "cells", "occupancy"])
def test_three_bindings_are_occupancy_alone(name):
    binding = bindings.get(name)
    panels = binding.decode(binding.encode(X), 0)
    np.testing.assert_array_equal(panels, binding.project(X))
    np.testing.assert_array_equal((panels < 0).all(-1), (X < 0).any(-1))
    ok = genraven.check(panels)
    np.testing.assert_array_equal(ok[..., 30:], genraven.check(X)[..., 30:])
    assert not ok[..., :30].any()
    assert bindings.get("sets").project(X) is X


def test_cells_come_from_the_sample_and_the_seed():
    binding, sets = bindings.get("sets"), settokens.encode(X)
    whole = binding.decode(sets, 3)
    np.testing.assert_array_equal(binding.decode(sets[:4], 3), whole[:4])
    assert (binding.decode(sets, 4) != whole).any()


def test_unknown_bindings_are_refused():
    with pytest.raises(ValueError, match="sets, positions"):
        bindings.get("pixels")
