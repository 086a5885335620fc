"""SiT: diffusers' Euler from the same noise, orders of the solvers, an exact network's law."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from assay.core import mixture, noise, solver
from assay.core.components import Gaussian
from assay.core.reference import reference
from assay.families import adaptive, flow
from assay.families.config import CompletionConfig, FlowConfig, SamplerConfig
from assay.families.flow import Flow
from assay.families.streams import Streams
from assay.models.config import DiTConfig
from assay.models.dit import DiT

LAW = mixture.Mixture([0.6, 0.4], [Gaussian([1.0, 0.5], 0.2), Gaussian([-1.0, 1.5], 0.1)])


class Exact(torch.nn.Module):
    """The velocity that a mixture in two dimensions expects."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(channels=2, size=1)

    def forward(self, x, level, label=None, extra=None, rng=None):
        t = (level.double() / flow.CLOCK)[:, None]
        at = x.flatten(1).double()
        denoised = LAW.denoise(at / (1 - t), (t / (1 - t))[:, 0])
        return ((at - denoised) / t).float().view_as(x)


class Toy(torch.nn.Module):
    """A smooth velocity."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(channels=2, size=3)

    def forward(self, x, level, label=None, extra=None, rng=None):
        wave = torch.sin(level / 300)[:, None, None, None]
        return 0.7 * x + wave * x.roll(1, -1).tanh()


class Says(torch.nn.Module):
    """What it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.config = SimpleNamespace(channels=1, size=1)
        self.answer = answer.float().view(-1, 1, 1, 1)

    def forward(self, *_):
        return self.answer


def family(net, kind="euler", n_steps=20, **options):
    sampler = SamplerConfig(kind=kind, grid="flow", n_steps=n_steps)
    return Flow(net, FlowConfig(sampler=sampler, **options))


@pytest.mark.parametrize("n_steps", [1, 10, 50])
def test_euler_against_diffusers(n_steps):
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    found = family(Toy(), n_steps=n_steps).sample(5, Streams(1))
    peer = FlowMatchEulerDiscreteScheduler()
    peer.set_timesteps(sigmas=np.linspace(1, 1 / n_steps, n_steps))
    x = Streams(1).randn(5, 2, 3, 3).float()
    for t in peer.timesteps:
        x = peer.step(Toy()(x, t.expand(len(x))), t, x).prev_sample
    torch.testing.assert_close(found, x, rtol=2e-5, atol=2e-5)


def test_heun_is_the_trapezium_in_t():
    found = family(Toy(), "heun", 10).sample(5, Streams(1))
    x, net, t = Streams(1).randn(5, 2, 3, 3).float(), Toy(), np.linspace(1, 0, 11)
    for here, there in itertools.pairwise(t):
        v = net(x, torch.full((5,), 1000 * here))
        ahead = x + (there - here) * v
        if there > 0:
            ahead = x + (there - here) / 2 * (v + net(ahead, torch.full((5,), 1000 * there)))
        x = ahead.float()
    torch.testing.assert_close(found, x, rtol=5e-5, atol=5e-5)
    assert family(Toy(), "heun", 10).evaluations() == 19


@pytest.mark.parametrize(("step", "order"), [(solver.euler, 1), (flow.heun, 2)])
def test_solvers_have_their_order(step, order):
    """Slope of the error from 40 to 160 steps, from t = 0.9 to 0.05, within 0.3 of the order."""
    x = torch.tensor([[4.0, -6.0], [-3.0, 8.0], [5.0, 5.0]], dtype=torch.float64)
    ends = [noise.sigma_from_flow(t) for t in (0.9, 0.05)]
    exact = reference(LAW.denoise, x, *ends).x
    errors = []
    for n in (40, 160):
        grid = noise.sigma_from_flow(np.linspace(0.9, 0.05, n + 1))
        found = solver.last(solver.solve(LAW.denoise, x, grid, step)).x
        errors.append((found - exact).abs().max().item())
    assert np.log(errors[0] / errors[1]) / np.log(4) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize(
    ("kind", "options"), [("euler", {}), ("heun", {}), ("sde", {}), ("heun", {"tolerance": 1e-3})]
)
def test_samples_of_an_exact_network_follow_the_mixture(kind, options):
    """4,000 samples; means and variances within 5 standard errors and one per cent."""
    n_steps = 20 if options else 250
    x = family(Exact(), kind, n_steps, **options).sample(4000, Streams(3))
    x = x.flatten(1).double().numpy()
    expected = LAW.sample(400_000, np.random.default_rng(0))
    se = expected.std(0) / 4000**0.5
    assert (abs(x.mean(0) - expected.mean(0)) < 5 * se + 0.01).all()
    np.testing.assert_allclose(np.cov(x.T), np.cov(expected.T), rtol=0.05, atol=0.02)
    assert abs((x[:, 0] < 0).mean() - 0.4) < 5 * (0.24 / 4000) ** 0.5 + 0.01


def test_adaptive_samples_are_the_references_and_stand_alone():
    mine = family(Exact(), tolerance=1e-4)
    found, spent = mine._adaptive(12, Streams(2))
    start = Streams(2).randn(12, 2, 1, 1).flatten(1) * noise.sigma_from_flow(flow.FIRST)
    high, low = noise.sigma_from_flow(flow.FIRST), noise.sigma_from_flow(flow.LAST)
    exact = reference(LAW.denoise, start, high, low, "denoise").x.float()
    torch.testing.assert_close(found.flatten(1), exact, rtol=2e-3, atol=2e-3)
    part, alone = mine._adaptive(5, Streams(2).at(4))
    torch.testing.assert_close(part, found[4:9])
    assert spent[4:9].tolist() == alone.tolist()
    assert len(set(spent.tolist())) > 1
    coarse = family(Exact(), tolerance=1e-2)
    assert 5 < coarse.evaluations() < mine.evaluations() < 1000


def test_the_adaptive_pair_is_scipys():
    """One sample of a linear equation: the steps taken are those of RK45 at equal tolerance."""
    from scipy.integrate import solve_ivp

    def slope(x, t):
        return -2 * x * torch.cos(5 * t)[:, None]

    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    found, spent = adaptive.integrate(slope, x, (2.0, 0.0), 1e-7)
    for line in (0, 1):
        peer = solve_ivp(
            lambda t, y: -2 * y * np.cos(5 * t), (2, 0), x[line].numpy(), rtol=1e-7, atol=1e-7
        )
        np.testing.assert_allclose(found[line].numpy(), peer.y[:, -1], rtol=1e-5)
        assert abs(spent[line].item() - peer.nfev) <= 0.1 * peer.nfev + 6
    with pytest.raises(ValueError, match="larger"):
        adaptive.integrate(slope, x, (2.0, 0.0), 1e-7, max_steps=3)
    with pytest.raises(ValueError, match="not finite"):
        adaptive.integrate(lambda x, t: x * torch.nan, x, (2.0, 0.0), 1e-3)


def test_losses_are_the_velocity_s_squared_error_and_samples_stand_alone():
    net = Flow(Toy())
    batch = {"x": torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0))}
    whole = net.loss(batch, Streams(5))
    halves = [net.loss({"x": batch["x"][i : i + 4]}, Streams(5).at(i)) for i in (0, 4)]
    torch.testing.assert_close(whole, torch.cat(halves))
    rng = Streams(5)
    t = rng.rand(8).float().view(-1, 1, 1, 1)
    eps = rng.randn(8, 2, 3, 3).float()
    found = net.network((1 - t) * batch["x"] + t * eps, 1000 * t.flatten())
    expected = (found - (eps - batch["x"])).square().flatten(1).mean(1)
    torch.testing.assert_close(whole, expected, rtol=1e-3, atol=1e-4)


def test_times_follow_the_law_asked_for():
    """20,000 draws: five standard errors."""
    t = [
        noise.flow_from_sigma(
            Flow(Toy(), FlowConfig(time=law, **rest))._levels(20_000, Streams(0))
        )
        for law, rest in (("uniform", {}), ("logit-normal", {"time_mean": 1.0, "time_std": 0.5}))
    ]
    assert abs(t[0].mean() - 0.5) < 5 * (1 / 12 / 20_000) ** 0.5
    logit = t[1].logit()
    assert abs(logit.mean() - 1) < 5 * 0.5 / 20_000**0.5
    assert logit.std().item() == pytest.approx(0.5, rel=0.03)


def test_completions_keep_what_is_known_and_training_learns_from_it():
    net = DiT(DiTConfig(channels=1, size=6, width=16, layers=1, heads=2, amortised=True))
    completion = CompletionConfig(kind="amortised", n_steps=4)
    mine = Flow(net, FlowConfig(completion=completion, tolerance=1e-2))
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 1, 6, 6, dtype=torch.bool)
    mask[:, :, 4:, 2:4] = True
    done = mine.complete(x, mask, Streams(0))
    assert torch.equal(done[~mask], x[~mask])
    assert torch.equal(mine.complete(x.masked_fill(mask, torch.nan), mask, Streams(0)), done)
    assert mine.evaluations(1) == 7
    loss = mine.loss({"x": x}, Streams(0))
    assert loss.isfinite().all()


def test_with_skip_the_network_learns_what_a_linear_guess_leaves():
    """On 200,000 normal numbers its target has variance 1 at every t, and no part along x_t."""
    rng = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 200_000, generator=rng, dtype=torch.float64)
    for t in (0.1, 0.5, 0.9):
        x, c = (1 - t) * x0 + t * eps, t**2 + (1 - t) ** 2
        left = c**0.5 * (eps - x0 - (2 * t - 1) / c * x)
        assert left.var().item() == pytest.approx(1, abs=0.02)
        assert abs((left * x).mean().item()) < 0.02
        net = Flow(Says(left), FlowConfig(skip=True))
        sigma = torch.full((1,), t / (1 - t)).expand(len(x))
        found = net._denoise((x / (1 - t)).float().view(-1, 1, 1, 1), sigma)
        torch.testing.assert_close(found.flatten(), x0.float(), rtol=1e-4, atol=1e-4)


def test_churn_is_refused():
    with pytest.raises(ValueError, match="churn"):
        FlowConfig(sampler=SamplerConfig(kind="heun", grid="flow", churn=1.0))
