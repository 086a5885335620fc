"""Networks over sets: a law on every order, causal, cached as uncached, possible sets only."""

import itertools

import numpy as np
import pytest
import torch

from assay.models import setnet
from assay.models.config import SetNetConfig, TransformerConfig

SMALL = TransformerConfig(width=16, layers=2, heads=2)
KINDS = ("trunk", "chain")


def network(kind, widths, seed=0, **options):
    """A network in float64, none of whose matrices is zero."""
    config = SetNetConfig(kind=kind, widths=widths, trunk=SMALL, rank=3, components=3, **options)
    net = setnet.SetNet(config, seed)
    rng = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data += 0.5 * torch.randn(p.shape, generator=rng)
    return net.double()


def random_sets(n, widths, seed=0):
    """Sets that panels can hold, by rejection; and random orders."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, 9, len(widths)), np.int64)
    for panel in out.reshape(-1, len(widths)):
        panel[0] = rng.integers(1, 1 << widths[0])
        for u, width in enumerate(widths[1:], 1):
            while not 1 <= int(panel[u]).bit_count() <= int(panel[0]).bit_count():
                panel[u] = rng.integers(1, 1 << width)
    places = rng.permuted(np.tile(np.arange(9), (n, 1)), axis=1)
    return torch.from_numpy(out), torch.from_numpy(places)


@pytest.mark.parametrize("kind", KINDS)
def test_law_sums_to_one_by_enumeration(kind):
    """Sets over two bits: the 3^4 beginnings, and the 3^5 endings of one beginning."""
    net = network(kind, (2,))
    for order in (range(9), (2, 8, 0, 1, 7, 5, 4, 3, 6)):
        starts = torch.tensor(list(itertools.product((1, 2, 3), repeat=4)))
        ends = torch.tensor(list(itertools.product((1, 2, 3), repeat=5)))
        for seq, part in (
            (torch.cat([starts, ends[:1].expand(81, 5)], 1), slice(0, 4)),
            (torch.cat([starts[7:8].expand(243, 4), ends], 1), slice(4, 9)),
        ):
            places = torch.tensor(list(order)).expand(len(seq), 9)
            with torch.no_grad():
                lp = net.log_prob(seq[..., None], places)[:, part]
            assert lp.sum((1, 2)).exp().sum().item() == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_caches_equal_all_at_once(kind):
    net = network(kind, (3, 2, 4))
    seq, places = random_sets(5, (3, 2, 4))
    with torch.no_grad():
        expected = net.log_prob(seq, places)
        for known in (0, 1, 5):
            state = net.begin(5)
            net.skip(state, seq, places, known)
            for panel, unit in itertools.product(range(known, 9), range(3)):
                hidden = seq.clone()  # what lies ahead is not read
                hidden[:, panel, unit:] = 0
                hidden[:, panel, 0] = seq[:, panel, 0] if unit else 0
                hidden[:, panel + 1 :] = 0
                logits = net.step(state, hidden, places, panel, unit)
                found = logits.gather(1, seq[:, panel, unit, None])[:, 0]
                torch.testing.assert_close(found, expected[:, panel, unit], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_depends_on_those_before_it_only(kind):
    net = network(kind, (3, 2, 4))
    seq, places = random_sets(4, (3, 2, 4))
    with torch.no_grad():
        before = net.log_prob(seq, places).reshape(4, 27)
        for at in range(27):
            changed = seq.clone().reshape(4, 27)
            if at % 3 == 0:  # another set of as many positions, so that sizes stay possible
                changed[:, at] = _rotated(changed[:, at])
            else:
                changed[:, at] = torch.where(changed[:, at] == 1, 2, 1)
            after = net.log_prob(changed.view(4, 9, 3), places).reshape(4, 27)
            torch.testing.assert_close(after[:, :at], before[:, :at], rtol=0, atol=1e-12)
            if at < 26:  # and what follows does notice
                assert (after[:, at + 1 :] - before[:, at + 1 :]).abs().max() > 1e-6


def _rotated(sets):
    return (sets << 1 | sets >> 2) & 7


@pytest.mark.parametrize("kind", KINDS)
def test_only_possible_sets_have_probability(kind):
    net = network(kind, (3, 4))
    seq, places = random_sets(6, (3, 4))
    state = net.begin(6)
    with torch.no_grad():
        first = net.step(state, seq, places, 0, 0).exp()
        second = net.step(state, seq, places, 0, 1).exp()
    assert (first[:, 0] == 0).all()
    assert (first[:, 1:] > 0).all()
    size = np.bitwise_count(np.arange(16))
    for line, number in zip(second, np.bitwise_count(seq[:, 0, 0].numpy()), strict=True):
        assert ((line > 0).numpy() == ((size >= 1) & (size <= number))).all()
        assert line.sum().item() == pytest.approx(1)


def test_head_is_the_mixture_it_says():
    head = network("trunk", (3, 4)).heads[1]
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(1)).double()
    number = torch.tensor([1, 2, 3, 1, 2])
    with torch.no_grad():
        raw = (hidden @ head.weight.T + head.bias).view(5, 3, -1)
        basis = torch.cat([head.features, head.table], 1)
        total = torch.zeros(5, 16, dtype=torch.float64)
        for k in range(3):
            p = (raw[:, k, :-1] @ basis.T + head.barred[number]).softmax(-1)
            total += raw[:, :, -1].softmax(-1)[:, k, None] * p
        found = head(hidden, number)
        torch.testing.assert_close(found.exp(), total)
        sets = torch.tensor([1, 3, 7, 8, 5])
        torch.testing.assert_close(
            head.log_prob(hidden, number, sets), found.gather(1, sets[:, None])[:, 0]
        )


def test_labels_reach_every_set():
    net = network("trunk", (2,), n_labels=2)
    seq, places = random_sets(3, (2,))
    with torch.no_grad():
        plain = net.log_prob(seq, places)
        zero = net.log_prob(seq, places, torch.zeros(3, dtype=torch.int64))
        labelled = net.log_prob(seq, places, torch.tensor([1, 2, 2]))
    assert torch.equal(plain, zero)
    assert ((plain - labelled).abs() > 1e-9).all()


def test_same_seed_same_weights():
    one, two, other = (network("chain", (2, 2), s) for s in (1, 1, 2))
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.unit, other.unit)


def test_configs_are_refused_in_words():
    with pytest.raises(ValueError, match="widths"):
        SetNetConfig(widths=())
    with pytest.raises(ValueError, match="causal"):
        SetNetConfig(trunk=TransformerConfig(causal=False))
