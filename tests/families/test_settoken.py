"""Set tokens: an exact network's law is reproduced; completions keep what is known."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from assay.families.config import SetTokenConfig
from assay.families.settoken import SetTokens
from assay.families.streams import Streams
from assay.models.config import SetNetConfig, TransformerConfig
from assay.models.setnet import SetNet

WORDS = torch.tensor(list(itertools.product((1, 2, 3), repeat=9)))


class Exact(torch.nn.Module):
    """A network that knows the joint law of nine sets over two bits, in any order.

    The law is exchangeable in its rows: a product of rows, mixed over three hidden rules.
    """

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        rows = rng.dirichlet(np.full(27, 0.3), 3)  # a law of a row for each rule
        index = (WORDS.numpy() - 1).reshape(-1, 3, 3) @ np.array([9, 3, 1])
        joint = sum(rows[k][index].prod(1) / 3 for k in range(3))
        self.law = torch.from_numpy(joint)
        self.config = SimpleNamespace(widths=(2,))

    def step(self, state, seq, places, panel, unit, label=None):
        out = torch.zeros(len(seq), 4, dtype=torch.float64)
        cube = self.law.view((3,) * 9)
        for line, order, sets in zip(out, places.tolist(), seq[..., 0].tolist(), strict=True):
            rest = cube.permute(order)[tuple(value - 1 for value in sets[:panel])]
            line[1:] = rest.flatten(1).sum(1) if panel < 8 else rest
        return (out / out.sum(-1, keepdim=True)).log()

    def begin(self, n):
        return None

    def skip(self, state, seq, places, n_panels, label=None):
        pass

    def log_prob(self, seq, places, label=None, rng=None):
        steps = [self.step(None, seq, places, j, 0).gather(1, seq[:, j]) for j in range(9)]
        return torch.stack(steps, 1)


def lines(x):
    """Each sample's number in WORDS."""
    return (x[..., 0].numpy() - 1) @ 3 ** np.arange(8, -1, -1)


EVERY = SetTokenConfig(orders=(0.4, 0.3, 0.3))


def test_loss_of_an_exact_network_is_its_law_in_every_order():
    net = Exact()
    x = torch.from_numpy(np.random.default_rng(0).integers(1, 4, (40, 9, 1)))
    found = SetTokens(net, EVERY).loss({"x": x}, Streams(1))
    torch.testing.assert_close(found, -net.law[lines(x)].log() / 9)


@pytest.mark.parametrize("sweeps", [0, 1])
def test_samples_of_an_exact_network_follow_its_law(sweeps):
    """3,000 samples: the laws of a row and of two corners, chi-square at p > 1e-4 each.

    Drawing rows anew by the law's own conditionals leaves it as it is.
    """
    net = Exact()
    family = SetTokens(net, EVERY.model_copy(update={"sweeps": sweeps}))
    x = family.sample(3000, Streams(2)).numpy()[..., 0]
    p = net.law.numpy()
    for panels in ((0, 1, 2), (0, 8), (3, 7)):
        weights = 3 ** np.arange(len(panels))
        expected = np.bincount((WORDS.numpy()[:, panels] - 1) @ weights, p) * 3000
        counts = np.bincount((x[:, panels] - 1) @ weights, minlength=len(expected))
        rare = expected < 5
        expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
        counts = np.append(counts[~rare], counts[rare].sum())
        assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("unknown", [(8,), (3,), (1, 2), (0, 4), (6, 7, 8)])
def test_completions_of_an_exact_network_follow_the_conditional_law(unknown):
    """2,000 completions of one sample at temperature 1; chi-square at p > 1e-4."""
    net = Exact()
    start = WORDS[int(net.law.argmax())]
    mask = torch.zeros(2000, 9, dtype=torch.bool)
    mask[:, list(unknown)] = True
    context = start.expand(2000, 9)[..., None]
    done = SetTokens(net, EVERY).complete(context, mask, Streams(3), 1.0)
    known = [i for i in range(9) if i not in unknown]
    assert (done[:, known] == context[:, known]).all()
    p = torch.where((WORDS[:, known] == start[known]).all(1), net.law, 0.0).numpy()
    expected = p / p.sum() * 2000
    counts = np.bincount(lines(done), minlength=len(p))
    assert counts[expected == 0].sum() == 0
    often = expected >= 5
    expected = np.append(expected[often], expected[~often].sum() + 1e-9)
    counts = np.append(counts[often], counts[~often].sum())
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_greedy_completion_is_the_conditional_mode():
    net = Exact()
    x = WORDS[torch.from_numpy(np.random.default_rng(4).integers(0, 3**9, 30))][..., None]
    mask = torch.zeros(30, 9, dtype=torch.bool)
    mask[:, 5] = True
    done = SetTokens(net, EVERY).complete(x, mask, Streams(5))
    for line, given in zip(done, x, strict=True):
        others = [i for i in range(9) if i != 5]
        same = (WORDS[:, others] == given[others, 0]).all(1)
        assert line[5, 0] == WORDS[same][net.law[same].argmax(), 5]


def test_last_panels_weigh_as_told():
    net = Exact()
    x = torch.from_numpy(np.random.default_rng(6).integers(1, 4, (10, 9, 1)))
    natural = SetTokenConfig(orders=(1, 0, 0), last_weight=4.0)
    family = SetTokens(net, natural)
    lp = family.log_prob(x)[..., 0]
    weight = torch.tensor([1.0, 1, 4] * 3, dtype=torch.float64)
    expected = -(lp * weight).sum(1) / weight.sum()
    torch.testing.assert_close(family.loss({"x": x}, Streams(0)), expected)


# ---- with a network -----------------------------------------------------------------------------

SIZE = TransformerConfig(width=16, layers=2, heads=2, dropout=0.3)


def family(widths=(9, 7, 10, 10), seed=0, orders=(0.4, 0.3, 0.3), **options):
    config = SetNetConfig(trunk=SIZE, widths=widths, rank=4, components=2, **options)
    net = SetNet(config, seed)
    rng = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=rng)
    return SetTokens(net, SetTokenConfig(orders=orders)).eval()


@pytest.mark.parametrize("widths", [(9, 7, 10, 10), (9,)])
def test_samples_are_sets_that_panels_can_hold(widths):
    x = family(widths).sample(50, Streams(0)).numpy()
    size = np.bitwise_count(x)
    assert x.shape == (50, 9, len(widths))
    assert (size >= 1).all()
    assert (size <= size[..., :1]).all()
    assert (x < 1 << np.array(widths)).all()


def test_a_sample_depends_on_seed_and_index_alone():
    model = family()
    whole = model.sample(30, Streams(3))
    torch.testing.assert_close(model.sample(10, Streams(3).at(20)), whole[20:], rtol=0, atol=0)
    assert not torch.equal(model.sample(30, Streams(4)), whole)


def test_what_lies_under_the_mask_is_never_read():
    model = family()
    x = model.sample(20, Streams(0))
    mask = torch.from_numpy(np.random.default_rng(0).random((20, 9)) < 0.4)
    mask[0], mask[1] = True, False
    done = model.complete(x, mask, Streams(1), 1.0)
    torch.testing.assert_close(done[~mask], x[~mask], rtol=0, atol=0)
    dirty = x.masked_fill(mask[..., None], -77)
    torch.testing.assert_close(model.complete(dirty, mask, Streams(1), 1.0), done, rtol=0, atol=0)
    assert (done[mask] > 0).all()


def test_half_a_batch_has_the_losses_of_its_samples():
    model = family().train()
    model.network.trunk.config = SIZE.model_copy(update={"dropout": 0.0})
    for block in model.network.trunk.blocks:
        block.config = model.network.trunk.config
    x = model.sample(8, Streams(0))
    whole = model.loss({"x": x}, Streams(5))
    half = model.loss({"x": x[4:]}, Streams(5).at(4))
    torch.testing.assert_close(half, whole[4:], rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_in_training_alone_and_by_the_streams():
    model = family()
    x = model.sample(4, Streams(0))
    quiet = [model.loss({"x": x}, Streams(1)) for _ in range(2)]
    model.train()
    noisy = [model.loss({"x": x}, Streams(1)) for _ in range(2)]
    assert torch.equal(*quiet)
    assert torch.equal(*noisy)
    assert not torch.equal(quiet[0], noisy[0])


def test_guidance_tilts_the_law_of_the_first_set():
    """p_w(v) ~ p(v | label)^(1 + w) / p(v)^w: 5,000 draws of the first set, chi-square p > 1e-4.

    Strong labels, so that the three laws differ.
    """
    model = family((2,), n_labels=2)
    model.network.label.data *= 20
    n, start = 5_000, torch.arange(9)[None]
    with torch.no_grad():
        lp = [
            model.network.step(
                model.network.begin(1), torch.zeros(1, 9, 1).long(), start, 0, 0, torch.tensor([k])
            )[0]
            for k in (0, 2)
        ]
    assert (lp[1].exp() - lp[0].exp()).abs().max() > 0.05
    for w in (0.0, 1.5):
        tilted = (lp[1] + w * (lp[1] - lp[0]).nan_to_num(0)).softmax(-1)[1:].double()
        drawn = model.guided(2, w).sample(n, Streams(4))[:, 0, 0]
        counts = np.bincount(drawn.numpy(), minlength=4)[1:]
        expected = (tilted / tilted.sum() * n).numpy()
        assert stats.chisquare(counts, expected).pvalue > 1e-4
    with pytest.raises(ValueError, match="labels 1 to 2"):
        model.guided(3)


def test_labels_are_dropped_in_their_share():
    """2,000 labels, a tenth dropped: within 5 standard errors."""
    model = family((2,), n_labels=3)
    label = model._label({"label": torch.full((2000,), 2)}, Streams(0))
    assert set(label.tolist()) == {0, 2}
    assert abs((label == 0).float().mean().item() - 0.1) < 5 * (0.09 / 2000) ** 0.5
    assert family((2,))._label({"label": torch.ones(3)}, Streams(0)) is None


def test_evaluations_are_the_calls_made():
    model = family()
    x = model.sample(3, Streams(0))
    calls = []
    for name in ("step", "skip"):
        inner = getattr(model.network, name)

        def counted(*args, inner=inner, name=name):
            if name == "step" or args[3] > 0:
                calls.append(name)
            return inner(*args)

        setattr(model.network, name, counted)
    for n_unknown in (1, 4, 9):
        calls.clear()
        mask = torch.arange(9).expand(3, 9) >= 9 - n_unknown
        model.complete(x, mask, Streams(0))
        assert len(calls) == model.evaluations(n_unknown)
    assert model.evaluations() == model.evaluations(9) == 36


def test_what_cannot_be_completed_is_refused():
    model = family()
    x = model.sample(3, Streams(0))
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[:, 0] = True
    bad = x.clone()
    bad[1, 4, 0] = 0
    with pytest.raises(ValueError, match=r"r2c2 of sample 1"):
        model.complete(bad, mask, Streams(0))
    bad[1, 4] = torch.tensor([1, 3, 1, 1])  # two shapes, one object
    with pytest.raises(ValueError, match=r"r2c2 of sample 1"):
        model.complete(bad, mask, Streams(0))
    with pytest.raises(ValueError, match="mask"):
        model.complete(x, mask.long(), Streams(0))
    with pytest.raises(ValueError, match="context"):
        model.complete(x[:, :4], mask, Streams(0))
    with pytest.raises(ValueError, match="temperature"):
        model.complete(x, mask, Streams(0), -1.0)
    natural = family(orders=(1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="r1c1"):
        natural.complete(x, mask, Streams(0))
    with pytest.raises(ValueError, match="orders"):
        SetTokenConfig(orders=(0, 0, 0))
