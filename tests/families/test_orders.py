"""Orders of nine panels: permutations in their shares; every mask's unknown panels come last."""

import itertools

import numpy as np
import pytest
import torch

from assay.families import orders
from assay.families.streams import Streams

MASKS = list(itertools.product((False, True), repeat=9))


def drawn(shares, n=20_000, seed=0):
    return orders.draw(shares, Streams(seed).rand(n, orders.N_UNIFORMS)).numpy()


def test_orders_are_permutations_in_their_shares():
    """Shares of 20,000 draws within 5 standard errors."""
    found = drawn((0.5, 0.3, 0.2))
    assert (np.sort(found, 1) == np.arange(9)).all()
    column = (found[:, None] == np.array(orders.COLUMNS)[1:]).all(-1).any(1).mean()
    # natural: its own share, a third of column's, and of `any` the tails 9, 8..9, ..., all
    tails = sum(1 / 9 / len(list(itertools.combinations(range(9), k))) for k in range(1, 10))
    natural = (found == np.arange(9)).all(1).mean()
    assert abs(natural - (0.5 + 0.1 + 0.2 * tails)) < 5 * np.sqrt(0.25 / 20_000)
    assert abs(column - 0.2) < 5 * np.sqrt(0.25 / 20_000)


def test_any_draws_every_subset_of_a_number_alike():
    """One panel last: a ninth each of its ninth; 9 counts within 5 standard errors."""
    found = drawn((0, 0, 1.0))
    rises = (np.diff(found, axis=1) > 0).all(1)
    assert ((np.diff(found, axis=1) < 0).sum(1) <= 1).all()  # two ascending stretches
    last = found[(np.diff(found[:, :8], axis=1) > 0).all(1) & ~rises][:, 8]
    counts = np.bincount(last, minlength=9)[:8]
    expected = 20_000 / 81
    assert (abs(counts - expected) < 5 * np.sqrt(expected) + 1).all()


@pytest.mark.parametrize("kinds", [(True, True, True), (False, False, True)])
def test_plans_put_the_unknown_panels_last(kinds):
    for mask in MASKS:
        plan = orders.plan(mask, kinds)
        assert sorted(plan.panels) == sorted(plan.places) == list(range(9))
        unknown = [mask[panel] for panel in plan.panels]
        assert unknown == [False] * plan.n_known + [True] * (9 - plan.n_known)


def test_plans_relabel_whole_rows_and_keep_columns():
    for mask in MASKS:
        plan = orders.plan(mask, (True, True, True))
        pairs = list(zip(plan.panels, plan.places, strict=True))
        assert all(panel % 3 == place % 3 for panel, place in pairs)
        assert len({(panel // 3, place // 3) for panel, place in pairs}) == 3


def test_column_orders_cover_every_single_panel():
    for panel in range(9):
        mask = tuple(i == panel for i in range(9))
        plan = orders.plan(mask, (True, True, False))
        assert plan.panels[-1] == panel
        assert plan.n_known == 8
        assert plan.places in orders.COLUMNS


def test_masks_not_covered_are_refused_by_name():
    first = tuple(i == 0 for i in range(9))
    with pytest.raises(ValueError, match=r"r1c1 .*the last panel"):
        orders.plan(first, (True, False, False))
    diagonal = tuple(i in (0, 4, 8) for i in range(9))
    with pytest.raises(ValueError, match="r1c1, r2c2, r3c3"):
        orders.plan(diagonal, (True, True, False))
    with pytest.raises(ValueError, match="any"):
        orders.plan(diagonal, (True, True, False))


def test_last_of_row_by_enumeration():
    places = drawn((0.3, 0.3, 0.4), 200)
    found = orders.last_of_row(torch.from_numpy(places)).numpy()
    for line, flags in zip(places, found, strict=True):
        for i, flag in enumerate(flags):
            assert flag == all(line[j] // 3 != line[i] // 3 for j in range(i + 1, 9))
