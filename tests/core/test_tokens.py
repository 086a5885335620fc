"""Draws from logits: the law, exclusions, the mode, one answer from numpy and torch."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from scipy import stats

from assay.core import tokens

LOGITS = np.array([0.3, -np.inf, 1.2, -0.7, -np.inf])


def test_draw_inverts_the_cumulative_law_exactly():
    """An even grid of uniform numbers falls on each token in the share of its probability."""
    n = 100_000
    u = (np.arange(n) + 0.5) / n
    for temperature in (0.5, 1.0, 2.0):
        p = np.exp(LOGITS / temperature)
        counts = np.bincount(
            tokens.draw(np.broadcast_to(LOGITS, (n, 5)), u, temperature), minlength=5
        )
        np.testing.assert_allclose(counts / n, p / p.sum(), atol=1.01 / n)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.floats(0, 1, exclude_max=True), st.floats(-800, 800))
def test_excluded_tokens_are_never_drawn(u, shift):
    assert tokens.draw(LOGITS[None] + shift, np.array([u]))[0] in (0, 2, 3)
    largest = np.nextafter(1.0, 0.0)
    assert tokens.draw(LOGITS[None] + shift, np.array([largest]))[0] == 3
    assert tokens.draw(LOGITS[None] + shift, np.zeros(1))[0] == 0


def test_numpy_and_torch_agree():
    rng = np.random.default_rng(0)
    logits, u = rng.normal(size=(500, 7)), rng.random(500)
    for temperature in (0.0, 0.7, 1.0):
        ours = tokens.draw(torch.from_numpy(logits), torch.from_numpy(u), temperature)
        np.testing.assert_array_equal(ours.numpy(), tokens.draw(logits, u, temperature))


def test_temperature_zero_is_the_first_mode():
    logits = np.array([[0.0, 2.0, 2.0, -1.0]])
    assert tokens.draw(logits, np.array([0.99]), 0.0)[0] == 1


def test_draws_follow_the_law():
    """20,000 draws; chi-square at p > 1e-4."""
    rng = np.random.default_rng(2)
    drawn = tokens.draw(np.broadcast_to(LOGITS, (20_000, 5)), rng.random(20_000))
    p = tokens.probabilities(LOGITS)
    counts = np.bincount(drawn, minlength=5)[p > 0]
    assert stats.chisquare(counts, 20_000 * p[p > 0]).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [-0.1, float("inf"), float("nan")])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        tokens.draw(LOGITS[None], np.zeros(1), temperature)
