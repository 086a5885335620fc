"""The average in closed form; applied and given back."""

import contextlib

import pytest
import torch

from assay.training.ema import Average


def test_average_is_the_recursion_in_closed_form():
    net = torch.nn.Linear(1, 1, bias=False)
    average = Average(net, 0.5)
    expected = net.weight.item()
    for step in range(20):
        with torch.no_grad():
            net.weight.fill_(step**0.5)
        average.update(net, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step**0.5
    assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_applied_swaps_and_gives_back():
    net = torch.nn.Linear(2, 2)
    average = Average(net, 0.9)
    own = net.weight.detach().clone()
    average.tensors["weight"].fill_(3.0)
    with contextlib.suppress(RuntimeError), average.applied(net):
        assert (net.weight == 3).all()
        raise RuntimeError
    assert torch.equal(net.weight, own)
