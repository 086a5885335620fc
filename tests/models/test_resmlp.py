"""The residual MLP: full rank through its gains, labels that count, sizes it refuses."""

import pytest
import torch

from assay.models.config import ResMlpConfig
from assay.models.resmlp import ResMlp

CONFIG = ResMlpConfig(size=6, width=8, layers=2, told=16, n_labels=3)


def _woken(seed=0):
    """A network whose last layers no longer start at 0."""
    net = ResMlp(CONFIG, seed)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=rng)
    return net


def test_resmlp_starts_at_zero_and_is_its_seeds():
    x = torch.randn(4, 1, 6, 6)
    net = ResMlp(CONFIG, 5)
    assert torch.equal(net(x, torch.zeros(4)), torch.zeros_like(x))
    same, other = ResMlp(CONFIG, 5).embed.weight, ResMlp(CONFIG, 6).embed.weight
    assert torch.equal(net.embed.weight, same)
    assert not torch.equal(net.embed.weight, other)


def test_resmlp_answers_in_every_direction_though_its_trunk_is_narrow():
    net, x = _woken(), torch.randn(1, 1, 6, 6)
    slope = torch.autograd.functional.jacobian(lambda v: net(v, torch.zeros(1)), x)
    assert torch.linalg.matrix_rank(slope.reshape(36, 36)) == 36  # the trunk alone has rank 8


def test_resmlp_depends_on_level_and_label_and_not_on_the_batch():
    net, x = _woken(), torch.randn(3, 1, 6, 6)
    level, label = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 2, 3])
    whole = net(x, level, label)
    torch.testing.assert_close(net(x[1:2], level[1:2], label[1:2]), whole[1:2])
    assert not torch.allclose(net(x, level, label.flip(0)), whole)
    assert not torch.allclose(net(x, level + 0.2, label), whole)
    torch.testing.assert_close(net(x, level, None), net(x, level, torch.zeros(3).long()))


def test_resmlp_refuses_known_entries():
    with pytest.raises(AssertionError, match="amortised"):
        ResMlp(CONFIG)(torch.zeros(1, 1, 6, 6), torch.zeros(1), None, torch.zeros(1, 2, 6, 6))
