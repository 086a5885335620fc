"""Masked diffusion: the loss is the bound, by enumeration; draws follow exact laws."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core import guidance
from assay.families import masked
from assay.families.config import HeadConfig, MaskedConfig
from assay.families.masked import Masked
from assay.families.streams import Streams
from assay.models.cellnet import CellNet
from assay.models.config import CellNetConfig, TransformerConfig

_spec = importlib.util.spec_from_file_location("cells", Path(__file__).with_name("cells.py"))
cells = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cells)

KINDS = {"cells": (1, 0, 0), "panels": (0, 1, 0), "some": (0, 0, 1)}
BOTH = [("cells", "random"), ("cells", "confidence"), ("cells", "margin"),
        ("panels", "random"), ("panels", "confidence"), ("panels", "margin")]  # fmt: skip


def known_family(net, **options):
    options = {"masks": (1, 1, 1), **options}
    head = HeadConfig(sizes=net.config.sizes)
    return cells.open_head(Masked(net, MaskedConfig(head=head, **options)))


# ---- the loss, against enumeration --------------------------------------------------------------


class Listed:
    """Uniform numbers (k, n_uniforms) handed out as they are."""

    def __init__(self, uniform):
        self.uniform = uniform

    def rand(self, n, k):
        assert self.uniform.shape == (n, k)
        return self.uniform


def middles(n):
    return (np.arange(n) + 0.5) / n


def every_mask(n_panels=2, n_cells=2):
    """Uniform numbers of equal weight that give every outcome its exact share (count)."""
    length = n_panels * n_cells
    panels = [middles(n_panels)[list(p)] for p in itertools.permutations(range(n_panels))]
    inner = [middles(length)[list(p)] for p in itertools.permutations(range(length))]
    axes = ([0.5], middles(n_panels), middles(n_panels), middles(length))
    rows = itertools.product(*axes, panels, inner)
    return torch.tensor(np.array([np.concatenate([r[:4], *r[4:]]) for r in rows]))


def expected_loss(family, x):
    """The mean of the loss over all masks, for one sample x (L,)."""
    uniform = every_mask()
    losses = family.loss({"x": x.expand(len(uniform), -1)}, Listed(uniform))
    return losses.mean()


def tasks(kind):
    """The sets of cells that may be unknown, with their shares: two panels of two cells."""
    if kind == "some":
        return {(0, 1): 1 / 4, (2, 3): 1 / 4, (0, 1, 2, 3): 1 / 2}
    return {(0, 1, 2, 3): 1.0}


def reveals(kind, unknown):
    """The orders in which they are revealed, all of them as likely."""
    orders = list(itertools.permutations(unknown))
    if kind != "panels":
        return orders
    return [o for o in orders if all(o[i] // 2 == o[i + 1] // 2 for i in range(0, len(o), 2))]


def bound(net, kind, x):
    """The same by the definition: over tasks and orders, the mean of -log p in nats a token."""
    total = 0.0
    for unknown, share in tasks(kind).items():
        orders = reveals(kind, unknown)
        lp = torch.stack([net.log_prob(x[None], order)[0] for order in orders])
        total -= share * lp.mean() / len(unknown)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_loss_is_the_bound_of_any_network(kind):
    net = cells.Odd()
    family = known_family(net, masks=KINDS[kind], order="panels")
    for x in cells.words(2, 4)[[0, 5, 14]]:
        torch.testing.assert_close(expected_loss(family, x), bound(net, kind, x))


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_loss_of_an_exact_network_is_its_law(kind):
    """The bound is tight where the conditional laws agree, whatever the order."""
    net = cells.Exact()
    family = known_family(net, masks=KINDS[kind], order="panels")
    for x in net.words[[0, 33, 80]]:
        expected = 0.0
        for unknown, share in tasks(kind).items():
            known = torch.ones(1, 4, dtype=torch.bool)
            known[:, list(unknown)] = False
            p = net.posterior(x[None], known)[0, cells.numbers(x[None], 3)]
            expected -= share * p.log()[0] / len(unknown)
        torch.testing.assert_close(expected_loss(family, x), expected)


@pytest.mark.parametrize("kind", ["cells", "panels"])
def test_rates_and_counts_have_one_mean(kind):
    """The integral over t exactly, by Gauss and Legendre, over every pattern of blanks."""
    net, n = cells.Odd(), 4 if kind == "cells" else 2
    family = known_family(net, masks=KINDS[kind], weight="rate", order="panels")
    counted = known_family(net, masks=KINDS[kind], order="panels")
    nodes, weights = np.polynomial.legendre.leggauss(4)
    pool = [0, 1, 2, 3] if kind == "cells" else [0, 1]
    x, total = cells.words(2, 4)[6], 0.0
    for (node, w), stage, swap in itertools.product(
        zip((1 + nodes) / 2, weights / 2, strict=True), (0.25, 0.75), (0, 1)
    ):
        shift = 0 if kind == "cells" else 2 * swap
        for blanks in itertools.product((False, True), repeat=n):
            keys = np.full(4, 0.5)
            keys[[c + shift for c in pool]] = np.where(blanks, node / 2, (1 + node) / 2)
            row = np.concatenate([[0.5, 0.5, stage, 1 - node], [swap, 1 - swap], keys])
            loss = family.loss({"x": x[None]}, Listed(torch.tensor(row)[None]))
            chance = np.prod(np.where(blanks, node, 1 - node))
            total = total + w * chance * loss[0] / 4
    torch.testing.assert_close(total, expected_loss(counted, x))


def test_hard_tokens_weigh_more_and_waiting_panels_as_told():
    net, x = cells.Odd(), cells.words(2, 4)[[3]]
    row = torch.tensor([[0.5, 0.9, 0.9, 0.3, 0.1, 0.9, 0.2, 0.1, 0.5, 0.6]])  # cell 1 of panel 0
    unknown = torch.tensor([[False, True, True, True]])
    lp = net.fill(x, unknown).gather(2, x[..., None])[0, :, 0]
    cases = (
        ({}, -lp[1]),
        ({"rest": 0.5}, -lp[1] - 0.25 * (lp[2] + lp[3])),
        ({"hard": 2.0}, -lp[1] * (1 - lp[1].exp()) ** 2),
    )
    for options, expected in cases:
        family = known_family(net, masks=(0, 1, 0), **options)
        torch.testing.assert_close(family.loss({"x": x}, Listed(row))[0], expected)


def test_even_weights_are_the_same_for_every_blank():
    uniform = Streams(0).rand(200, masked.n_uniforms(9, 9))
    for rest in (0.0, 1.0):
        config = MaskedConfig(masks=(1, 1, 1), weight="even", rest=rest)
        unknown, weight = masked.draw(config, uniform, 9, 9)
        assert set(weight.unique().tolist()) == {0.0, 1 / 9}
        if rest:
            torch.testing.assert_close(weight * 9, unknown.double())
        else:
            torch.testing.assert_close(
                (weight > 0).double(),
                (masked.draw(MaskedConfig(masks=(1, 1, 1)), uniform, 9, 9)[1] > 0).double(),
            )


def counts(kind, few=1.0):
    """Blank cells of each panel (4000, 9) in masks of a kind."""
    config = MaskedConfig(masks=KINDS[kind], few=few)
    uniform = Streams(0).rand(4000, masked.n_uniforms(9, 9))
    unknown, weight = masked.draw(config, uniform, 9, 9)
    torch.testing.assert_close(weight.sum(1), torch.ones(4000, dtype=torch.float64))
    assert not (weight > 0)[~unknown].any()
    return unknown.view(4000, 9, 9).sum(2)


def test_masks_of_panels_have_one_begun_and_any_set_blank():
    """4,000 masks: shares of the numbers of blank panels within 5 standard errors."""
    left = counts("panels")
    assert (((left > 0) & (left < 9)).sum(1) <= 1).all()
    found = np.bincount((left > 0).sum(1), minlength=10)[1:] / 4000
    assert np.abs(found - 1 / 9).max() < 5 * (8 / 81 / 4000) ** 0.5
    blank = {tuple(line) for line in (left == 9).int().tolist()}
    assert blank >= {tuple(line) for line in torch.eye(9, dtype=torch.int).tolist()}


@pytest.mark.parametrize("few", [1.0, 0.5])
def test_masks_of_some_panels_follow_the_law_of_their_number(few):
    """Blanks are (9 n + 1) / 2 on average: 4,000 masks, within 5 standard errors."""
    number = counts("some", few).sum(1).double()
    law = few ** np.arange(9)
    expected = (9 * (law * np.arange(1, 10)).sum() / law.sum() + 1) / 2
    assert abs(number.mean() - expected) < 5 * number.std() / 4000**0.5
    assert set(counts("cells").sum(1).tolist()) == set(range(1, 82))


# ---- drawing, against exact laws ----------------------------------------------------------------


@pytest.mark.parametrize(("order", "choice"), BOTH)
def test_samples_of_an_exact_network_follow_its_law_in_every_order(order, choice):
    """3,000 samples, chi-square at p > 1e-4."""
    net = cells.Exact()
    family = known_family(net, order=order, choice=choice)
    assert cells.follows(family.sample(3000, Streams(1)), net.law, 3)


@pytest.mark.parametrize("order", ["cells", "panels"])
def test_samples_of_any_network_follow_the_law_of_any_order(order):
    """6,000 samples of conditionals at odds; chi-square at p > 1e-4."""
    net = cells.Odd()
    family = known_family(net, order=order)
    every, orders = cells.words(2, 4), reveals(order, range(4))
    law = torch.stack([net.log_prob(every, o).exp() for o in orders]).mean(0)
    x = family.sample(6000, Streams(2))
    assert cells.follows(x, law, 2)
    other = reveals("panels" if order == "cells" else "cells", range(4))
    wrong = torch.stack([net.log_prob(every, o).exp() for o in other]).mean(0)
    assert not cells.follows(x, wrong, 2)


@pytest.mark.parametrize(("order", "choice"), BOTH)
@pytest.mark.parametrize("unknown", [(2, 3), (0, 1), (0, 2, 3)])
def test_completions_follow_the_conditional_law(order, choice, unknown):
    """2,000 completions at temperature 1, chi-square at p > 1e-4."""
    net = cells.Exact(seed=3)
    family = known_family(net, order=order, choice=choice)
    mask = torch.zeros(2000, 4, dtype=torch.bool)
    mask[:, list(unknown)] = True
    start = net.words[int(net.law.argmax())].expand(2000, 4)
    done = family.complete(start, mask, Streams(3), 1.0)
    assert cells.follows(done, net.posterior(start[:1], ~mask[:1])[0], 3)


def test_all_at_once_draws_each_cell_by_its_own_law():
    """3,000 samples, chi-square at p > 1e-4; one evaluation."""
    net = cells.Exact()
    family = known_family(net, order="cells", at_once=4)
    p = net.fill(net.words[:1], torch.ones(1, 4, dtype=torch.bool))[0].exp()
    law = torch.einsum("a,b,c,d->abcd", *p).flatten()
    x = family.sample(3000, Streams(4))
    assert cells.follows(x, law, 3)
    assert not cells.follows(x, net.law, 3)
    assert family.evaluations() == 1


@pytest.mark.parametrize(("order", "choice"), BOTH[1:3] + BOTH[4:])
def test_confidence_and_margin_reveal_the_surest_first(order, choice):
    """Greedy draws against a loop over cells."""
    net = cells.Exact(n_tokens=3, seed=5)
    family = known_family(net, order=order, choice=choice)
    for line, given in zip(
        family.complete(net.words[:9], net.words[:9] >= 0, Streams(0), 0.0),
        net.words[:9],
        strict=True,
    ):
        x, left, panel = given.clone(), [0, 1, 2, 3], None
        while left:
            unknown = torch.zeros(1, 4, dtype=torch.bool)
            unknown[:, left] = True
            p = net.fill(x[None], unknown)[0].exp()
            allowed = [i for i in left if i // 2 == panel] if order == "panels" else left
            best = max(allowed or left, key=lambda i: _sureness(p[i], choice))
            x[best], panel = p[best].argmax(), best // 2
            left.remove(best)
        assert torch.equal(line, x)


def _sureness(p, choice):
    first, second = p.sort(descending=True).values[:2]
    return float(first - second if choice == "margin" else first)


@pytest.mark.parametrize("w", [-1.0, 0.0, 1.5])
def test_guided_draws_follow_the_combined_law(w):
    """One unknown cell, 3,000 draws, chi-square at p > 1e-4."""
    net = cells.Exact(n_labels=2, seed=6)
    family = known_family(net, order="cells").guided(2, w)
    start, mask = net.words[[40]].expand(3000, 4), torch.zeros(3000, 4, dtype=torch.bool)
    mask[:, 1] = True
    done = family.complete(start, mask, Streams(7), 1.0)
    laws = [net.fill(start[:1], mask[:1], torch.tensor([k]))[0, 1] for k in (2, 0)]
    p = guidance.combine(*laws, w).softmax(-1)
    law = torch.zeros(81, dtype=torch.float64)
    for value in range(3):
        word = start[0].clone()
        word[1] = value
        law[cells.numbers(word[None], 3)] = p[value]
    assert cells.follows(done, law, 3)
    assert family.evaluations() == (8 if w == 1.5 else 4)


# ---- with a network -----------------------------------------------------------------------------


def family(seed=0, n_labels=0, sizes=(2, 3), dropout=0.0, **options):
    trunk = TransformerConfig(width=16, layers=2, heads=2, causal=False, dropout=dropout)
    net = CellNet(CellNetConfig(sizes=sizes, trunk=trunk, n_labels=n_labels), seed)
    options = {"head": HeadConfig(kind="chain", sizes=sizes, rank=4), **options}
    made = Masked(net, MaskedConfig(**options))
    rng = torch.Generator().manual_seed(seed)
    for p in made.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=rng)
    return made.eval()


def panels_mask(n, share, seed=0):
    mask = torch.from_numpy(np.random.default_rng(seed).random((n, 9)) < share)
    return mask.repeat_interleave(9, 1)


@pytest.mark.parametrize(("order", "choice"), BOTH[2:5])
def test_what_is_known_stays_and_what_is_not_is_never_read(order, choice):
    model = family(order=order, choice=choice, at_once=3)
    x = model.sample(12, Streams(0))
    mask = panels_mask(12, 0.4)
    mask[0], mask[1] = True, False
    done = model.complete(x, mask, Streams(1), 1.0)
    assert torch.equal(done[~mask], x[~mask])
    assert torch.equal(model.complete(x.masked_fill(mask, -77), mask, Streams(1), 1.0), done)
    assert (done >= 0).all()
    assert (done < 6).all()
    assert (done != x).any()


@pytest.mark.parametrize(("order", "choice"), BOTH[2:5])
def test_a_sample_depends_on_seed_and_index_alone(order, choice):
    model = family(order=order, choice=choice, at_once=3).double()
    whole = model.sample(10, Streams(3))
    assert torch.equal(model.sample(4, Streams(3).at(6)), whole[6:])
    assert not torch.equal(model.sample(10, Streams(4)), whole)


def test_half_a_batch_has_the_losses_of_its_samples():
    model = family().train()
    x = torch.randint(6, (8, 81))
    whole = model.loss({"x": x}, Streams(5))
    half = model.loss({"x": x[4:]}, Streams(5).at(4))
    torch.testing.assert_close(half, whole[4:], rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_in_training_alone_and_by_the_streams():
    model, x = family(dropout=0.3), torch.randint(6, (4, 81))
    quiet = [model.loss({"x": x}, Streams(1)) for _ in range(2)]
    model.train()
    noisy = [model.loss({"x": x}, Streams(1)) for _ in range(2)]
    assert torch.equal(*quiet)
    assert torch.equal(*noisy)
    assert not torch.equal(quiet[0], noisy[0])


def test_labels_are_dropped_in_their_share():
    """2,000 labels, a tenth dropped: within 5 standard errors."""
    model = family(n_labels=3)
    label = model._label({"label": torch.full((2000,), 2)}, Streams(0))
    assert set(label.tolist()) == {0, 2}
    assert abs((label == 0).float().mean().item() - 0.1) < 5 * (0.09 / 2000) ** 0.5
    assert family()._label({"label": torch.ones(3)}, Streams(0)) is None


def test_guidance_away_from_everything_is_no_label():
    model = family(n_labels=3, choice="confidence", at_once=4)
    plain = model.sample(4, Streams(0))
    assert torch.equal(model.guided(2, -1.0).sample(4, Streams(0)), plain)
    label = torch.full((4,), 2)
    assert not torch.equal(model.guided(2).sample(4, Streams(0)), plain)
    assert model.loss({"x": plain, "label": label}, Streams(0)).isfinite().all()


@pytest.mark.parametrize(("order", "at_once"), [("cells", 1), ("cells", 4), ("panels", 2)])
def test_evaluations_are_the_calls_made(order, at_once):
    model = family(order=order, at_once=at_once)
    calls, fill = [], model.network.fill
    model.network.fill = lambda *args: calls.append(1) or fill(*args)
    for n_unknown in (1, 4):
        calls.clear()
        mask = (torch.arange(9).expand(3, 9) < n_unknown).repeat_interleave(9, 1)
        model.complete(torch.zeros_like(mask).long(), mask, Streams(0))
        assert len(calls) == model.evaluations(n_unknown)
    assert model.evaluations() == model.evaluations(9)


def test_what_cannot_be_done_is_refused():
    model = family(masks=(0, 1, 0))
    x, mask = torch.zeros(3, 81, dtype=torch.long), torch.zeros(3, 81, dtype=torch.bool)
    with pytest.raises(ValueError, match="cell 5 of sample 1"):
        model.complete(x.index_fill(1, torch.tensor(5), 6).where(x.new_tensor([[0], [1], [0]]) > 0,
                                                                 x), mask, Streams(0))  # fmt: skip
    with pytest.raises(ValueError, match="context"):
        model.complete(x[:, :9], mask, Streams(0))
    with pytest.raises(ValueError, match="mask must have shape"):
        model.complete(x, mask[:, :9], Streams(0))
    with pytest.raises(ValueError, match="temperature"):
        model.complete(x, mask, Streams(0), -1.0)
    mask[:, 4] = True
    with pytest.raises(ValueError, match="whole panels"):
        model.complete(x, mask, Streams(0))
    with pytest.raises(ValueError, match="no labels"):
        model.guided(1)
    with pytest.raises(ValueError, match="sizes"):
        family(head=HeadConfig(sizes=(2,)))
    with pytest.raises(ValueError, match="order cells"):
        MaskedConfig(masks=(0, 1, 0), order="cells")
    with pytest.raises(ValueError, match="masks"):
        MaskedConfig(masks=(0, 0, 0))
