"""The network over cells: what each vector may see, cached and uncached alike."""

import itertools

import pytest
import torch

from assay.models.cellnet import CellNet, parts_of
from assay.models.config import CellNetConfig, TransformerConfig


def net(causal, grid=(3, 3, 2), sizes=(2, 3), n_labels=0, seed=0):
    """A network in float64, none of whose matrices is zero."""
    trunk = TransformerConfig(width=16, layers=2, heads=2, causal=causal)
    made = CellNet(CellNetConfig(grid=grid, sizes=sizes, trunk=trunk, n_labels=n_labels), seed)
    rng = torch.Generator().manual_seed(seed)
    for p in made.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=rng)
    return made.double()


def tokens(n=4, length=18, top=6, seed=0):
    return torch.randint(top, (n, length), generator=torch.Generator().manual_seed(seed))


def orders(n=4, length=18, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, length, generator=rng).argsort(1)


def test_parts_of_tokens_are_those_of_their_mixed_radix_number():
    for row, digits in zip(
        parts_of((2, 3, 4)), itertools.product(*map(range, (2, 3, 4))), strict=True
    ):
        expected = torch.zeros(9)
        expected[[digits[0], 2 + digits[1], 5 + digits[2]]] = 1
        assert torch.equal(row, expected)


def test_places_differ_by_row_column_and_cell():
    made = net(False)
    places = made._places()[0]
    assert places.shape == (18, 16)
    sums = places - made.place[0]
    at = sums.view(3, 3, 2, 16)
    torch.testing.assert_close(at[0, 0, 0] - at[1, 0, 0], at[0, 2, 1] - at[1, 2, 1])
    torch.testing.assert_close(at[0, 0, 0] - at[0, 1, 0], at[2, 0, 1] - at[2, 1, 1])
    assert len(torch.unique(places.float(), dim=0)) == 18


def test_fill_sees_all_that_is_known_and_nothing_else():
    made, x = net(False), tokens()
    unknown = torch.zeros(4, 18, dtype=torch.bool)
    unknown[:, [2, 3, 11]] = True
    hidden = made.fill(x, unknown)
    other = x.clone()
    other[unknown] = -77
    assert torch.equal(made.fill(other, unknown), hidden)
    for cell in (0, 17):
        other = x.clone()
        other[:, cell] = (x[:, cell] + 1) % 6
        assert ((made.fill(other, unknown) - hidden).abs().amax(-1) > 1e-9).all()
    assert (made.fill(x, ~unknown) - hidden).abs().max() > 1e-3


def test_ahead_sees_the_tokens_before_and_their_places_alone():
    made, x, places = net(True), tokens(), orders()
    hidden = made.ahead(x, places)
    for j in (0, 5, 17):
        other = x.clone()
        other[:, j] = (x[:, j] + 1) % 6
        changed = (made.ahead(other, places) - hidden).abs().amax(-1) > 1e-9
        assert not changed[:, : j + 1].any()
        assert changed[:, j + 1 :].all()
    swapped = places.clone()
    swapped[:, [3, 8]] = places[:, [8, 3]]
    changed = (made.ahead(x, swapped) - hidden).abs().amax(-1) > 1e-9
    assert not changed[:, :3].any()
    assert changed[:, 3].all()


@pytest.mark.parametrize("cuts", [(0, 1, 18), (0, 7, 8, 9, 18), tuple(range(19))])
def test_cached_and_uncached_vectors_agree(cuts):
    made, x, places = net(True), tokens(), orders()
    cache = made.begin(4)
    parts = []
    for span in itertools.pairwise(cuts):
        seen = x.clone()
        seen[:, span[1] - 1 :] = -77  # not read yet
        parts.append(made.ahead(seen, places, span=span, cache=cache))
    torch.testing.assert_close(torch.cat(parts, 1), made.ahead(x, places), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
def test_labels_change_every_vector_and_none_is_zero(causal):
    made, x = net(causal, n_labels=3), tokens()

    def run(label):
        if causal:
            return made.ahead(x, orders(), label)
        return made.fill(x, torch.zeros(4, 18, dtype=torch.bool), label)

    plain = run(None)
    assert torch.equal(run(torch.zeros(4, dtype=torch.long)), plain)
    label = torch.tensor([0, 1, 2, 3])
    changed = (run(label) - plain).abs().amax(-1) > 1e-9
    assert changed[1:].all()
    assert not changed[0].any()


@pytest.mark.parametrize("causal", [False, True])
def test_every_parameter_learns(causal):
    made, x = net(causal, n_labels=1), tokens()
    label = torch.tensor([0, 1, 1, 0])
    hidden = made.ahead(x, orders(), label) if causal else made.fill(x, x == 0, label)
    (hidden**3).sum().backward()
    for name, p in made.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_configs_are_refused():
    with pytest.raises(ValueError, match="grid"):
        CellNetConfig(grid=(3, 0, 9))
    with pytest.raises(ValueError, match="sizes"):
        CellNetConfig(sizes=())
