"""Relations: the law sums to one over every row, draws obey it, completions keep what is known."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from assay.families.config import RelationsConfig
from assay.families.relationgap import Gap
from assay.families.relations import Relations
from assay.families.streams import Streams
from assay.models.config import RelationNetConfig
from assay.models.relationnet import RelationNet
from assay.rules import genraven, settokens

TINY = RelationNetConfig(widths=(2, 3), relations=2, own=0.5)


def stirred(config=TINY, seed=0, std=0.7):
    """A network with every parameter off its start, so that no term is silent."""
    net = RelationNet(config, seed).double()
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in net.parameters():
            p += std * torch.randn(p.shape, generator=rng)
    return net


def panels():
    """Every panel of two positions and three values, (n, 2): at most a value an object."""
    fits = [(p, s) for p in (1, 2, 3) for s in range(1, 8) if s.bit_count() <= p.bit_count()]
    return torch.tensor(fits)


def tuples(n):
    """Every n panels, (-1, n, 2)."""
    every = panels()
    return every[torch.tensor(list(itertools.product(range(len(every)), repeat=n)))]


def row_law(net):
    """log p of every row given unit and relation, (rows, A, K)."""
    read, laws = net.read(tuples(3)), net.laws()
    return (net.first(read, laws) + net.third(read, laws)).detach()


def test_rows_have_total_probability_one_whatever_governs_them():
    law = row_law(stirred())
    torch.testing.assert_close(law.exp().sum(0), torch.ones_like(law[0]))


def test_first_two_panels_have_total_probability_one():
    net = stirred()
    pairs = torch.stack(
        [panels()[list(i)] for i in itertools.product(range(len(panels())), repeat=2)]
    )
    x = torch.cat([pairs, pairs[:, :1]], 1)
    total = net.first(net.read(x), net.laws()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_log_prob_is_that_of_the_mixture_written_out():
    net = stirred()
    family, law, every = Relations(net), row_law(net), tuples(3)
    where = torch.randint(0, len(every), (50, 3), generator=torch.Generator().manual_seed(3))
    x = every[where].reshape(50, 9, 2)
    prior = net.prior.detach().flatten().softmax(0).view(3, 2)
    wanted = (prior * law[where].sum(1).exp()).sum((1, 2)).log()
    torch.testing.assert_close(family.log_prob(x), wanted)
    torch.testing.assert_close(-family.loss({"x": x}, Streams(0)), wanted)


def test_draws_obey_the_law():
    net = stirred(std=0.4)
    family, law = Relations(net), row_law(net)
    prior = net.prior.detach().flatten().softmax(0).view(3, 2)
    wanted = (prior * law.exp()).sum((1, 2)).numpy()
    drawn = family.sample(8000, Streams(1)).view(-1, 3, 3, 2)
    assert_rows_obey(drawn[:, 1], wanted)


def assert_rows_obey(drawn, wanted):
    """Chi-squared at 1e-4, of rows with at least five expected each; the rest as one."""
    code = [3, 7, 3, 7, 3, 7]

    def number(x):
        return np.ravel_multi_index(tuple((x.reshape(-1, 6).numpy() - 1).T), code)

    counts = np.bincount(number(drawn), minlength=math.prod(code))[number(tuples(3))]
    assert counts.sum() == len(drawn)
    often = wanted * len(drawn) >= 5
    seen = np.append(counts[often], counts[~often].sum())
    expected = np.append(wanted[often], wanted[~often].sum()) * len(drawn)
    if expected[-1] == 0:
        assert seen[-1] == 0
        seen, expected = seen[:-1], expected[:-1]
    assert stats.chisquare(seen, expected * len(drawn) / expected.sum()).pvalue > 1e-4


HIDDEN = [(8,), (2, 8), (3, 4, 5), (2, 3, 4, 5, 8), (6,), (7,), (0, 2), (1, 2), (2, 4, 5), (5, 6)]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_completions_obey_the_law_given_the_known_panels(hidden):
    net = stirred(std=0.6)
    family = Relations(net, RelationsConfig(floor=0.0))
    x = family.sample(1, Streams(5)).expand(6000, -1, -1)
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, list(hidden)] = True
    mask = mask.expand(6000, -1)
    made = family.complete(x, mask, Streams(2), 1.0)
    assert torch.equal(made[~mask], x[~mask])
    row = hidden[-1] // 3  # its law: over every row that agrees with the known panels of it
    every = tuples(3)
    known = ~mask[0].view(3, 3)[row]
    agree = (every == x[0].view(3, 3, 2)[row])[:, known].all((1, 2))
    candidates = x[:1].repeat(int(agree.sum()), 1, 1)
    candidates[:, 3 * row : 3 * row + 3] = every[agree]
    others = torch.tensor([[[r != row and not mask[0, 3 * r], r != row and not mask[0, 3 * r + 2]]
                            for r in range(3)]])  # fmt: skip
    others[:, row] = True
    lp = (net.evidence(candidates, others) + net.log_prior()).flatten(1).logsumexp(1)
    wanted = np.zeros(len(every))
    wanted[agree] = lp.detach().softmax(0).numpy()
    assert_rows_obey(made.view(-1, 3, 3, 2)[:, row], wanted)


def test_samples_do_not_depend_on_their_batch():
    family = Relations(stirred(RelationNetConfig(relations=3)))
    every = family.sample(40, Streams(3))
    torch.testing.assert_close(family.sample(8, Streams(3, 16)), every[16:24])
    mask = torch.zeros(40, 9, dtype=torch.bool)
    mask[:, [0, 8]] = True
    whole = family.complete(every, mask, Streams(4), 1.0)
    part = family.complete(every[16:24], mask[:8], Streams(4, 16), 1.0)
    torch.testing.assert_close(part, whole[16:24])
    size = (whole[..., None] >> torch.arange(10) & 1).sum(-1)
    assert (size >= 1).all()
    assert (size <= size[..., :1]).all()


@pytest.mark.parametrize(("side", "third"), list(itertools.product((0, 1), (True, False))))
def test_evidence_with_a_gap_sums_over_everything_that_could_fill_it(side, third):
    net = stirred()
    every, law = tuples(3), row_law(net)
    x = every[torch.randint(0, len(every), (20,), generator=torch.Generator().manual_seed(4))]
    known = [i for i in range(3) if i != side and (third or i < 2)]
    agree = (every[:, known] == x[:, None, known]).all((2, 3))[..., None, None]
    wanted = law.masked_fill(~agree, -math.inf).logsumexp(1)
    found = Gap(net, net.laws(), x, side, third).evidence().logsumexp(1)
    torch.testing.assert_close(found, wanted)


def test_gaps_in_two_rows_are_weighed_together():
    net = stirred()
    family, every, law = Relations(net, RelationsConfig(floor=0.0)), tuples(3), row_law(net)
    x = family.sample(1, Streams(5))
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, [0, 4, 5]] = True
    wanted = net.log_prior()
    for row, shown in enumerate(~mask.view(3, 3)):
        agree = (every == x.view(3, 3, 2)[row])[:, shown].all((1, 2))
        wanted = wanted + law[agree].logsumexp(0)
    found = family.posterior(x, mask)[0]
    torch.testing.assert_close(found, wanted.flatten().softmax(0).view_as(found))


def test_two_panels_before_a_known_third_are_refused_by_name():
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, [3, 4]] = True
    family = Relations(stirred())
    x = family.sample(1, Streams(0))
    with pytest.raises(ValueError, match="r2c1, r2c2 cannot be completed"):
        family.complete(x, mask, Streams(0))


def test_known_panels_that_no_panel_can_be_are_refused():
    family = Relations(stirred())
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, 8] = True
    with pytest.raises(ValueError, match="r1c1 of sample 0"):
        family.complete(torch.zeros(1, 9, 2, dtype=torch.int64), mask, Streams(0))
    with pytest.raises(ValueError, match="labels"):
        family.guided(1)


def planted():
    """A network whose four relations are constant, XOR, OR and AND, all governing any unit."""
    net = RelationNet(RelationNetConfig(relations=4, own=0.0))
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        taken = [(0, 0, 0, 0), (0, 1, 1, 0), (0, 1, 1, 1), (0, 0, 0, 1)]
        net.local += 60.0 * torch.tensor(taken).T - 30.0
        value = torch.arange(10)
        net.products[0].view(10, 10, 10, 4)[value, value, value, 0] = 60.0
        singles = torch.arange(net.cells.shape[1]) < 100
        net.cells[0] = torch.where(singles[:, None] == (torch.arange(4) == 0), 0.0, -30.0)
    return net


def test_planted_relations_complete_every_sample():
    family = Relations(planted())
    rules = [0, 7, 8, 9, 10, 17, 18, 19, 20, 27, 28, 29, 30, 37, 38, 39]
    panels, rule = genraven.generate(160, rules, 5)
    x = torch.from_numpy(settokens.encode(panels).astype(np.int64))
    mask = torch.zeros(160, 9, dtype=torch.bool)
    mask[:, 8] = True
    made = family.complete(x, mask, Streams(0))
    filled = settokens.decode(made.numpy(), np.random.default_rng(0))
    ok: Any = genraven.check(filled).all(1)
    assert ok[np.arange(160), rule].all()
    believed = family.posterior(x).sum(2).max(1).values
    assert (believed > 0.99).all()


def test_a_floor_lets_relations_govern_units_they_never_did():
    net = planted()
    with torch.no_grad():
        net.prior[0, 1] = -200.0  # position XOR
    panels, _ = genraven.generate(20, [37], 6)
    x = torch.from_numpy(settokens.encode(panels).astype(np.int64))
    shares = [
        Relations(net, RelationsConfig(floor=floor)).posterior(x)[:, 0, 1] for floor in (0, 0.1)
    ]
    assert (shares[0] < 0.01).all()
    assert (shares[1] > 0.99).all()


def test_gradients_reach_every_parameter():
    net = stirred(RelationNetConfig(relations=2))
    panels, _ = genraven.generate(16, range(40), 1)
    x = torch.from_numpy(settokens.encode(panels).astype(np.int64))
    Relations(net).loss({"x": x}, Streams(0)).mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_configurations_are_refused_in_words():
    with pytest.raises(ValueError, match="one bit more"):
        RelationNetConfig(widths=(4, 7))
    with pytest.raises(ValueError, match="1 to 9"):
        RelationNetConfig(widths=(10,))


def test_labels_say_what_governs_and_guidance_raises_it():
    net = stirred(RelationNetConfig(relations=3, n_labels=2))
    family = Relations(net, RelationsConfig(label_drop=0.0))
    x = family.sample(200, Streams(1))
    rng = torch.Generator().manual_seed(2)
    label = torch.randint(0, 3, (200,), generator=rng)
    loss = family.loss({"x": x, "label": label}, Streams(0))
    none = label == 0
    torch.testing.assert_close(-loss[none], family.log_prob(x)[none])
    assert (loss[~none] + family.log_prob(x)[~none]).abs().max() > 0.1
    told = net.log_prior(0.0, torch.tensor([2]))[0]
    torch.testing.assert_close(told.exp().sum(), torch.tensor(1.0).double())
    likeliest = (told - net.log_prior()).flatten().argmax()
    drawn = family.guided(2, 200.0).sample(50, Streams(0))
    believed = (net.evidence(drawn) + net.log_prior()).flatten(1).argmax(1)
    assert (believed == likeliest).float().mean() > 0.8
