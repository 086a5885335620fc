"""Panel order: an exact network's law is reproduced; cached draws are those of a plain loop."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core import guidance, tokens
from assay.families.config import HeadConfig, PanelOrderConfig
from assay.families.panelorder import PanelOrder
from assay.families.streams import Streams
from assay.models.cellnet import CellNet
from assay.models.config import CellNetConfig, TransformerConfig

_spec = importlib.util.spec_from_file_location("cells", Path(__file__).with_name("cells.py"))
cells = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cells)

GRID = (3, 3, 1)
EVERY = (0.4, 0.3, 0.3)


def exact(n_labels=0, seed=0):
    """A network that knows a law of nine binary cells which is exchangeable in its rows."""
    net = cells.Exact(GRID, 2, n_labels, seed)
    rows = net.words.view(-1, 3, 3)
    swapped = [
        cells.numbers(rows[:, list(p)].flatten(1), 2) for p in itertools.permutations(range(3))
    ]
    net.laws = torch.stack([net.laws[:, index] for index in swapped]).mean(0)
    net.law = net.laws[0]
    return net


def known_family(net, **options):
    options = {"orders": EVERY, **options}
    head = HeadConfig(sizes=net.config.sizes)
    return cells.open_head(PanelOrder(net, PanelOrderConfig(head=head, **options)))


def test_loss_of_an_exact_network_is_its_law_in_every_order():
    net = exact()
    x = net.words[torch.from_numpy(np.random.default_rng(0).integers(0, 512, 40))]
    found = known_family(net).loss({"x": x}, Streams(1))
    torch.testing.assert_close(found, -net.law[cells.numbers(x, 2)].log() / 9)


def test_last_panels_weigh_as_told():
    net = exact()
    family = known_family(net, orders=(1, 0, 0), last_weight=4.0)
    x = net.words[100:110]
    weight = torch.tensor([1.0, 1, 4] * 3, dtype=torch.float64)
    expected = -(family.log_prob(x) * weight).sum(1) / weight.sum()
    torch.testing.assert_close(family.loss({"x": x}, Streams(0)), expected)


def test_samples_of_an_exact_network_follow_its_law():
    """3,000 samples, chi-square at p > 1e-4."""
    net = exact()
    assert cells.follows(known_family(net).sample(3000, Streams(2)), net.law, 2)


@pytest.mark.parametrize("unknown", [(8,), (3,), (1, 2), (0, 4), (6, 7, 8)])
def test_completions_of_an_exact_network_follow_the_conditional_law(unknown):
    """2,000 completions of one sample at temperature 1; chi-square at p > 1e-4."""
    net = exact()
    start = net.words[int(net.law.argmax())].expand(2000, 9)
    mask = torch.zeros(2000, 9, dtype=torch.bool)
    mask[:, list(unknown)] = True
    done = known_family(net).complete(start, mask, Streams(3), 1.0)
    assert torch.equal(done[~mask], start[~mask])
    assert cells.follows(done, net.posterior(start[:1], ~mask[:1])[0], 2)


def test_greedy_completion_is_the_conditional_mode():
    net = exact()
    x = net.words[torch.from_numpy(np.random.default_rng(4).integers(0, 512, 30))]
    mask = torch.zeros(30, 9, dtype=torch.bool)
    mask[:, 5] = True
    done = known_family(net).complete(x, mask, Streams(5))
    best = net.posterior(x, ~mask).argmax(1)
    assert torch.equal(done, net.words[best])


@pytest.mark.parametrize("w", [-1.0, 0.0, 1.5])
def test_guided_draws_follow_the_combined_law(w):
    """The last cell unknown, 2,000 draws, chi-square at p > 1e-4."""
    net = exact(n_labels=2, seed=6)
    family = known_family(net).guided(2, w)
    start, mask = net.words[[400]].expand(2000, 9), torch.zeros(2000, 9, dtype=torch.bool)
    mask[:, 8] = True
    done = family.complete(start, mask, Streams(7), 1.0)
    laws = [net.fill(start[:1], mask[:1], torch.tensor([k]))[0, 8] for k in (2, 0)]
    law = torch.zeros(512, dtype=torch.float64)
    law[400:402] = guidance.combine(*laws, w).softmax(-1)
    assert cells.follows(done, law, 2)
    assert family.evaluations() == (18 if w == 1.5 else 9)


# ---- with a network -----------------------------------------------------------------------------


def family(seed=0, n_labels=0, dropout=0.0, kind="chain", orders=EVERY):
    trunk = TransformerConfig(width=16, layers=2, heads=2, dropout=dropout)
    net = CellNet(CellNetConfig(sizes=(2, 3), trunk=trunk, n_labels=n_labels), seed)
    head = HeadConfig(kind=kind, sizes=(2, 3), rank=4)
    made = PanelOrder(net, PanelOrderConfig(head=head, orders=orders))
    rng = torch.Generator().manual_seed(seed)
    for p in made.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=rng)
    return made.eval()


def panels_mask(*unknown, n=6):
    mask = torch.zeros(n, 9, dtype=torch.bool)
    mask[:, list(unknown)] = True
    return mask.repeat_interleave(9, 1)


@pytest.mark.parametrize("kind", ["joint", "separate", "chain"])
def test_cached_draws_are_those_of_a_plain_loop(kind):
    """Each token from the whole law of the whole sequence, without a cache."""
    model, n = family(kind=kind).double(), 6
    x, uniform = model.sample(n, Streams(0)), Streams(0).rand(n, 81)
    places = torch.arange(81).expand(n, 81)
    seq = torch.zeros_like(x)
    for j in range(81):
        log_p = model.head.log_probs(model.network.ahead(seq, places))[:, j]
        seq[:, j] = tokens.draw(log_p, uniform[:, j])
    assert torch.equal(x, seq)


@pytest.mark.parametrize("unknown", [(8,), (0,), (1, 5), (3, 4, 5), tuple(range(9)), ()])
def test_what_is_known_stays_and_what_is_not_is_never_read(unknown):
    model = family()
    x, mask = model.sample(6, Streams(0)), panels_mask(*unknown)
    done = model.complete(x, mask, Streams(1), 1.0)
    assert torch.equal(done[~mask], x[~mask])
    assert torch.equal(model.complete(x.masked_fill(mask, -77), mask, Streams(1), 1.0), done)
    assert (done >= 0).all()
    assert (done < 6).all()


def test_masks_may_differ_from_line_to_line():
    model = family().double()
    x = model.sample(6, Streams(0))
    mask = torch.from_numpy(np.random.default_rng(0).random((6, 9)) < 0.5)
    mask = mask.repeat_interleave(9, 1)
    done = model.complete(x, mask, Streams(1), 1.0)
    for i in range(6):
        alone = model.complete(x[[i]], mask[[i]], Streams(1).at(i), 1.0)
        assert torch.equal(alone[0], done[i])


def test_a_sample_depends_on_seed_and_index_alone():
    model = family().double()
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


def test_guidance_away_from_everything_is_no_label():
    model = family(n_labels=3)
    plain = model.sample(4, Streams(0))
    assert torch.equal(model.guided(2, -1.0).sample(4, Streams(0)), plain)
    assert not torch.equal(model.guided(2).sample(4, Streams(0)), plain)
    label = torch.full((4,), 2)
    assert model.loss({"x": plain, "label": label}, Streams(0)).isfinite().all()


def test_evaluations_are_the_calls_made():
    model = family()
    calls, ahead = [], model.network.ahead
    model.network.ahead = lambda *args: calls.append(1) or ahead(*args)
    for n_unknown in (1, 4, 9):
        calls.clear()
        mask = panels_mask(*range(9 - n_unknown, 9), n=2)
        model.complete(torch.zeros_like(mask).long(), mask, Streams(0))
        assert len(calls) == model.evaluations(n_unknown)
    assert model.evaluations() == model.evaluations(9) == 81


def test_what_cannot_be_completed_is_refused():
    model = family(orders=(1, 0, 0))
    x = model.sample(6, Streams(0))
    with pytest.raises(ValueError, match="r1c1"):
        model.complete(x, panels_mask(0), Streams(0))
    mask = panels_mask(8)
    mask[2, 80] = False
    with pytest.raises(ValueError, match="whole panels"):
        model.complete(x, mask, Streams(0))
    bad = x.clone()
    bad[3, 7] = 6
    with pytest.raises(ValueError, match="cell 7 of sample 3"):
        model.complete(bad, panels_mask(8), Streams(0))
    with pytest.raises(ValueError, match="grid"):
        known_family(cells.Exact((1, 2, 2)))
    with pytest.raises(ValueError, match="orders"):
        PanelOrderConfig(orders=(0, 0, 0))
