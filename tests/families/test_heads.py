"""Heads: one law in two ways, drawn as it is; separate softmaxes make half-empty cells."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from assay.core import guidance
from assay.families import heads
from assay.families.config import HeadConfig
from assay.rules import codecs

KINDS = ("joint", "separate", "chain")
CELL = (8, 11, 11)


def head(kind, sizes=CELL, width=6, seed=0, std=0.7):
    """A head in float64, none of whose matrices is zero."""
    made = heads.build(HeadConfig(kind=kind, sizes=sizes, rank=5), width, seed).double()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in made.parameters():
            p += std * torch.randn(p.shape, generator=rng)
    return made


def hidden(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_tokens_are_the_codes_of_cells():
    rng = np.random.default_rng(0)
    x = rng.integers(-1, codecs.LEVELS, (20, *codecs.SHAPE))
    token = torch.from_numpy(codecs.encode_joint(x))
    parts = heads.split(token, CELL)
    np.testing.assert_array_equal(parts.numpy(), codecs.encode_separate(x))
    assert torch.equal(heads.join(parts, CELL), token)
    assert torch.equal(heads.split(token % 2, (2,))[..., 0], token % 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [CELL, (2,), (3, 1, 4)])
def test_log_prob_is_the_whole_law_at_the_token(kind, sizes):
    made, h = head(kind, sizes), hidden(4, 3, 6)
    log_p = made.log_probs(h)
    assert log_p.shape == (4, 3, made.n_tokens)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(4, 3, dtype=torch.float64))
    every = torch.arange(made.n_tokens)
    found = made.log_prob(h[..., None, :].expand(4, 3, made.n_tokens, 6), every.expand(4, 3, -1))
    torch.testing.assert_close(found, log_p)


def test_separate_parts_are_independent_and_a_chain_s_are_not():
    """p(a, b, c) against the product of its marginal laws."""
    for kind in KINDS:
        p = head(kind).log_probs(hidden(2, 6)).exp().view(2, *CELL)
        marginals = [p.sum(axes) for axes in ((2, 3), (1, 3), (1, 2))]
        product = torch.einsum("na,nb,nc->nabc", *marginals)
        independent = torch.allclose(product, p)
        assert independent == (kind == "separate")


@pytest.mark.parametrize("kind", KINDS)
def test_any_law_of_a_cell_is_learned_but_by_separate_heads(kind):
    """Two equal parts, each 0 or 1 with equal chance: log 2, or twice that when separate."""
    torch.manual_seed(0)
    made = heads.build(HeadConfig(kind=kind, sizes=(2, 2), rank=8), 3)
    h, token = torch.ones(2, 3), torch.tensor([0, 3])
    optimizer = torch.optim.Adam(made.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -made.log_prob(h, token).mean()
        loss.backward()
        optimizer.step()
    wanted = np.log(2) * (2 if kind == "separate" else 1)
    assert loss.item() == pytest.approx(wanted, abs=0.02)
    half_empty = made.log_probs(h[0]).exp()[1:3].sum().item()
    assert half_empty == pytest.approx(0.5 if kind == "separate" else 0, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_the_law(kind):
    """20,000 draws of 24 tokens; chi-square at p > 1e-5, three kinds."""
    made, h = head(kind, (2, 3, 4)), hidden(6)
    uniform = torch.from_numpy(np.random.default_rng(2).random(20_000))
    counts = np.bincount(made.draw(h.expand(20_000, 6), uniform), minlength=24)
    expected = made.log_probs(h).exp().detach().numpy() * 20_000
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
    counts = np.append(counts[~rare], counts[rare].sum())
    assert stats.chisquare(counts, expected).pvalue > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_mode_and_guided_draws(kind):
    made, h, away = head(kind), hidden(50, 6), hidden(50, 6, seed=3)
    uniform = torch.full((50,), 0.5, dtype=torch.float64)
    log_p = made.log_probs(h)
    assert torch.equal(made.draw(h, uniform, 0.0), log_p.argmax(-1))
    guided = guidance.combine(log_p, made.log_probs(away), 1.5)
    assert torch.equal(made.draw(h, uniform, 0.0, away, 1.5), guided.argmax(-1))
    assert torch.equal(made.draw(h, uniform, 1.0, away, 0.0), made.draw(h, uniform))
    with pytest.raises(ValueError, match="temperature"):
        made.draw(h, uniform, -1.0)


def test_valid_share_is_that_of_the_ids_of_whole_cells():
    """The uniform law puts 701 of 968 on valid cells, whatever the kind."""
    for kind in KINDS:
        made = heads.build(HeadConfig(kind=kind), 6)
        p = made.log_probs(hidden(2, 6).float()).exp()
        share = p[:, codecs.VALID_JOINT].sum(-1)
        torch.testing.assert_close(share, torch.full((2,), 701 / 968))


def test_every_parameter_of_a_chain_has_a_gradient():
    made = head("chain")
    tokens = torch.tensor(list(itertools.product(range(8), range(11), range(11)))[::50])
    made.log_prob(hidden(len(tokens), 6), heads.join(tokens, CELL)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="sizes"):
        HeadConfig(sizes=())
    with pytest.raises(ValueError, match="sizes"):
        HeadConfig(sizes=(2, 0))
    with pytest.raises(ValueError, match="joint"):
        HeadConfig(kind="both")  # type: ignore[arg-type]
