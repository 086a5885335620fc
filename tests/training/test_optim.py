"""Schedules in closed form; Muon against its definition by singular values and against a peer."""

import numpy as np
import pytest
import torch

from assay.training import optim
from assay.training.config import OptimConfig, Schedule


def test_factor_is_warm_up_plateau_and_line():
    schedule = Schedule(warmup=9, hold=0.5, floor=0.1)
    found = [optim.factor(step, 101, schedule) for step in range(101)]
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(found[10:51], 1)
    line = 1 - 0.9 * (np.arange(51, 101) - 50.5) / 49.5
    np.testing.assert_allclose(found[51:], line)
    assert found[-1] == pytest.approx(0.1)


def test_factor_by_cosine_and_none():
    cosine = Schedule(warmup=0, hold=0.0, decay="cosine", floor=0.2)
    steps = np.arange(11)
    expected = 0.2 + 0.8 * (1 + np.cos(np.pi * steps / 10)) / 2
    np.testing.assert_allclose([optim.factor(int(s), 11, cosine) for s in steps], expected)
    assert optim.factor(10**6, 11, Schedule(warmup=3, decay="none")) == 1


@pytest.mark.parametrize("shape", [(20, 20), (30, 10), (8, 40)])
def test_orthogonal_keeps_singular_vectors_and_levels_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ optim.orthogonal(matrix) @ v.T
    values = inner.diagonal()
    well = s > 0.05 * s[0]  # values far below the largest need more than five steps
    assert ((values[well] > 0.5) & (values[well] < 1.3)).all()
    assert (inner - torch.diag(values)).abs().max() < 1e-3
    rough = optim.orthogonal(matrix, bf16=True).float()
    assert (rough - optim.orthogonal(matrix)).norm() < 0.05 * rough.norm()


def test_muon_against_torch():
    """Ten steps on three matrices; the peer iterates in bfloat16, which is the tolerance."""
    peer_class = getattr(torch.optim, "Muon", None)
    if peer_class is None:
        pytest.skip("this torch has no Muon")
    rng = torch.Generator().manual_seed(1)
    start = [torch.randn(s, generator=rng) for s in ((16, 16), (24, 8), (8, 24))]
    ours = [torch.nn.Parameter(p.clone()) for p in start]
    theirs = [torch.nn.Parameter(p.clone()) for p in start]
    one = optim.Muon(ours, 0.02, 0.95, 0.1, bf16=True)
    two = peer_class(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    for _ in range(10):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=rng)
            b.grad = a.grad.clone()
        one.step()
        two.step()
    for a, b, p in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.03 * (a - p).norm()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Parameter(torch.ones(4, 3))
        self.table = torch.nn.Parameter(torch.ones(5, 3))
        self.gain = torch.nn.Parameter(torch.ones(3))


def test_build_gives_each_parameter_to_one_optimiser():
    net = Net()
    config = OptimConfig(kind="muon", lr=0.1, muon_lr=0.3, weight_decay=0.2)
    adam, muon = optim.build(net, config)
    assert [p is net.up for g in muon.param_groups for p in g["params"]] == [True]
    decays = {id(p): g["weight_decay"] for g in adam.param_groups for p in g["params"]}
    assert decays == {id(net.table): 0.2, id(net.gain): 0.0}
    (only,) = optim.build(net, OptimConfig())
    assert sum(len(g["params"]) for g in only.param_groups) == 3
    optim.set_rate([adam, muon], 0.5)
    assert [g["lr"] for g in adam.param_groups + muon.param_groups] == [0.05, 0.05, 0.15]
    optim.set_rate([adam, muon], 1.0)  # of the base, not of what it was
    assert [g["lr"] for g in adam.param_groups + muon.param_groups] == [0.1, 0.1, 0.3]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_optimisers_lower_a_quadratic(kind):
    net, target = Net(), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = optim.build(net, OptimConfig(kind=kind, lr=0.05, muon_lr=0.05, weight_decay=0.0))
    losses = []
    for step in range(200):
        loss = (net.up - target).square().sum() + net.table.square().sum() + net.gain.sum() ** 2
        net.zero_grad()
        loss.backward()
        losses.append(loss.item())
        optim.set_rate(found, optim.factor(step, 200, Schedule(warmup=0, hold=0.3)))
        for optimizer in found:
            optimizer.step()
    assert losses[-1] < 0.01 * losses[0]


def test_factor_of_an_extended_plan_follows_each_length_in_turn():
    plain, longer = Schedule(warmup=3, hold=0.5), Schedule(warmup=3, hold=0.5, ends=(10, 40))
    assert [optim.factor(i, 100, longer) for i in range(100)] == [
        optim.factor(i, 10 if i < 10 else 40 if i < 40 else 100, plain) for i in range(100)
    ]
