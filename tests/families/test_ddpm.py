"""DDPM: diffusers' schedulers from the same noise, the hybrid loss, an exact network's law."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from assay.core import mixture, noise, solver
from assay.core.components import Gaussian
from assay.families import ddpm
from assay.families.config import CompletionConfig, DdpmConfig, SamplerConfig
from assay.families.ddpm import Ddpm
from assay.families.streams import Streams
from assay.models.config import DiTConfig
from assay.models.dit import DiT

LAW = mixture.Mixture([0.6, 0.4], [Gaussian([1.0, 0.5], 0.2), Gaussian([-1.0, 1.5], 0.1)])
SIGMAS = ddpm.training_sigmas(DdpmConfig())


class Exact(torch.nn.Module):
    """The noise that a mixture in two dimensions expects; label 2 is its second component."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(channels=2, size=1, n_labels=2)

    def forward(self, x, level, label=None, extra=None, rng=None):
        sigma = np.exp(np.interp(level.double().numpy(), np.arange(1000), np.log(SIGMAS)))
        sigma = torch.from_numpy(sigma)
        at = x.flatten(1).double() * (1 + sigma[:, None] ** 2).sqrt()
        denoised = LAW.denoise(at, sigma)
        if label is not None:
            chosen = LAW.components[1].denoise(at, sigma)
            denoised = torch.where(label[:, None] == 2, chosen, denoised)
        return ((at - denoised) / sigma[:, None]).float().view_as(x)


class Toy(torch.nn.Module):
    """A smooth answer for eps and, with learned, one for the variance."""

    def __init__(self, learned=False):
        super().__init__()
        self.config = SimpleNamespace(channels=2, size=3, learned_sigma=learned)

    def forward(self, x, level, label=None, extra=None, rng=None):
        wave = torch.sin(level / 200)[:, None, None, None]
        eps = 0.8 * x + 0.1 * wave * x.roll(1, -1).tanh()
        said = (x + wave).tanh()
        return torch.cat([eps, said], 1) if self.config.learned_sigma else eps


def family(net, kind="euler", n_steps=20, **options):
    sampler = SamplerConfig(
        kind=kind, grid="ddpm", n_steps=n_steps, clip=options.pop("clip", None)
    )
    return Ddpm(net, DdpmConfig(sampler=sampler, **options))


class Recorded(Streams):
    """Streams whose normal draws are kept, so that another sampler can be given them."""

    def __init__(self, seed):
        super().__init__(seed)
        self.kept = []

    def randn(self, n, *shape):
        self.kept.append(super().randn(n, *shape))
        return self.kept[-1]


def peer_sample(scheduler, net, draws, monkeypatch):
    """diffusers' scheduler over the same network, from the same draws in the same order."""
    from diffusers.schedulers import scheduling_ddpm

    draws = iter(draws)
    scale = (1 - scheduler.alphas_cumprod[scheduler.timesteps[0]]).sqrt()
    x = next(draws).float() * scale

    def given_noise(shape, **_):
        return next(draws, torch.zeros(shape)).float()

    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", given_noise)
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t.expand(len(x)).float()), int(t), x).prev_sample
    return x


@pytest.mark.parametrize(
    ("spacing", "n_steps", "prediction"),
    [("trailing", 20, "eps"), ("leading", 25, "v"), ("linspace", 1000, "eps")],
)
def test_ddim_against_diffusers(spacing, n_steps, prediction, monkeypatch):
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    rng = Recorded(1)
    mine = family(Toy(), n_steps=n_steps, spacing=spacing, prediction=prediction)
    found = mine.sample(5, rng)
    peer = DDIMScheduler(
        beta_schedule="linear",
        clip_sample=False,
        timestep_spacing=spacing,
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
    )
    peer.set_timesteps(n_steps)
    assert ddpm.spaced(n_steps, 1000, spacing).tolist() == peer.timesteps.tolist()
    expected = peer_sample(peer, Toy(), rng.kept, monkeypatch)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
    assert mine.evaluations() == n_steps


@pytest.mark.parametrize(
    ("spacing", "n_steps", "variance", "clip"),
    [
        ("trailing", 20, "small", None),
        ("leading", 30, "large", None),
        ("linspace", 37, "small", 0.5),
        ("linspace", 37, "learned", None),
        ("leading", 50, "learned", 0.5),
    ],
)
def test_ancestral_against_diffusers(spacing, n_steps, variance, clip, monkeypatch):
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    net, rng = Toy(variance == "learned"), Recorded(2)
    options = {"spacing": spacing, "variance": variance, "clip": clip}
    found = family(net, "sde", n_steps, **options).sample(5, rng)
    peer = DDPMScheduler(
        beta_schedule="linear",
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        timestep_spacing=spacing,
        variance_type={"learned": "learned_range"}.get(variance, f"fixed_{variance}"),
    )
    peer.set_timesteps(n_steps)
    expected = peer_sample(peer, net, rng.kept, monkeypatch)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["euler", "sde", "heun"])
def test_samples_of_an_exact_network_follow_the_mixture(kind):
    """4,000 samples; means and variances within 5 standard errors and one per cent."""
    x = family(Exact(), kind, 250).sample(4000, Streams(3)).flatten(1).double().numpy()
    expected = LAW.sample(400_000, np.random.default_rng(0))
    se = expected.std(0) / 4000**0.5
    assert (abs(x.mean(0) - expected.mean(0)) < 5 * se + 0.01).all()
    np.testing.assert_allclose(np.cov(x.T), np.cov(expected.T), rtol=0.05, atol=0.02)
    left = (x[:, 0] < 0).mean()
    assert abs(left - 0.4) < 5 * (0.24 / 4000) ** 0.5 + 0.01


@pytest.mark.parametrize("grid", ["ddpm", "karras"])
def test_the_denoiser_is_the_exact_one_on_any_grid(grid):
    mine = family(Exact())
    x = torch.randn(6, 2, 1, 1, generator=torch.Generator().manual_seed(0)) * 3
    for sigma in noise.ddpm(7)[:-1] if grid == "ddpm" else noise.karras(7, 0.02, 100)[:-1]:
        found = mine.denoiser()(x, float(sigma)).flatten(1)
        expected = LAW.denoise(x.flatten(1).double(), float(sigma)).float()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_guided_variances_are_the_conditions_and_means_are_guided():
    class Both(Exact):
        def __init__(self):
            super().__init__()
            self.config.learned_sigma = True

        def forward(self, x, level, label=None, extra=None, rng=None):
            eps = super().forward(x, level, label)
            return torch.cat(
                [eps, torch.full_like(eps, -1.0) * (label == 2)[:, None, None, None]], 1
            )

    for w in (0.0, 1.5):
        drawn = [
            family(net, "sde", 20, variance=variance).guided(2, w).sample(50, Streams(0))
            for net, variance in ((Both(), "learned"), (Exact(), "small"))
        ]
        torch.testing.assert_close(*drawn)


def test_the_posterior_is_one_normal_law_conditioned_on_two():
    """small is Var[x_r | x_s, x0]; large is beta, brought into the coordinate of x."""
    s, r = SIGMAS[500], SIGMAS[420]
    small, large = ddpm.variances(s, r)
    assert small == pytest.approx(1 / (1 / r**2 + 1 / (s**2 - r**2)))
    a_s, a_r = noise.alpha_bar_from_sigma(s), noise.alpha_bar_from_sigma(r)
    assert large == pytest.approx((1 - a_s / a_r) / a_r)
    betas = np.linspace(1e-4, 0.02, 1000)
    _, steps = ddpm.variances(SIGMAS[1:], SIGMAS[:-1])
    np.testing.assert_allclose(steps / (1 + SIGMAS[:-1] ** 2), betas[1:], rtol=1e-9)
    np.testing.assert_allclose(SIGMAS, noise.ddpm(1000)[-2::-1], rtol=1e-9)


def test_the_divergence_is_that_of_two_normal_laws():
    from torch.distributions import Normal, kl_divergence

    rng = torch.Generator().manual_seed(0)
    t = torch.tensor([1, 7, 200, 999])
    x0, eps, off, said = torch.randn(4, 4, 2, 3, 3, generator=rng, dtype=torch.float64)
    s, r = (torch.from_numpy(SIGMAS)[t - k].view(-1, 1, 1, 1) for k in (0, 1))
    x, keep = x0 + s * eps, (r / s) ** 2
    small, large = ddpm.variances(s, r)
    denoised = x - s * (eps + off)
    share = (said + 1) / 2
    spread = (small ** (1 - share) * large**share).sqrt()
    step = Normal(denoised + keep * (x - denoised), spread)
    expected = kl_divergence(Normal(x0 + keep * (x - x0), small.sqrt()), step)
    table = torch.from_numpy(ddpm.divergence_table(SIGMAS))[:, t]
    torch.testing.assert_close(ddpm.divergence(table, off.square(), said), expected)
    span, weight = ddpm.divergence_table(SIGMAS)[:, 0]  # the last step, to sigma = 0
    clean = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    blur = (1 - clean[1] / clean[0]) * (1 - clean[0]) / (1 - clean[1])
    assert span == pytest.approx(np.log(1e-4 / blur))
    assert weight == pytest.approx(SIGMAS[0] ** 2 / blur)


def test_the_hybrid_loss_teaches_eps_and_the_variance_apart():
    config = DiTConfig(channels=1, size=3, width=16, layers=1, heads=2)
    plain, learned = (DiT(config.model_copy(update={"learned_sigma": f})) for f in (False, True))
    for p in learned.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    for name, p in plain.named_parameters():
        p.data = learned.get_parameter(name).data[: len(p)].clone()
    nets = {
        "plain": Ddpm(plain),
        "learned": Ddpm(learned),
        "none": Ddpm(learned, DdpmConfig(vlb=0.0)),
    }
    batch = {"x": torch.randn(64, 1, 3, 3, generator=torch.Generator().manual_seed(2))}
    losses = {name: net.loss(batch, Streams(4)) for name, net in nets.items()}
    torch.testing.assert_close(losses["plain"], losses["none"], rtol=1e-4, atol=1e-5)
    assert (losses["learned"] > losses["none"]).all()
    grads = {}
    for name in ("learned", "none"):
        grads[name] = torch.autograd.grad(losses[name].mean(), learned.head.weight)[0]
    # rows of one patch: eps first, then the variance
    torch.testing.assert_close(grads["learned"][0], grads["none"][0])
    assert (grads["none"][1] == 0).all()
    assert (grads["learned"][1] != 0).any()


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_losses_are_squared_errors_and_samples_stand_alone(prediction):
    net = Ddpm(Toy(), DdpmConfig(prediction=prediction))
    batch = {"x": torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0))}
    whole = net.loss(batch, Streams(5))
    halves = [net.loss({"x": batch["x"][i : i + 4]}, Streams(5).at(i)) for i in (0, 4)]
    torch.testing.assert_close(whole, torch.cat(halves))
    rng = Streams(5)
    sigma = net._levels(8, rng).float()
    eps = rng.randn(8, 2, 3, 3).float()
    scale = (1 + sigma.view(-1, 1, 1, 1) ** 2) ** -0.5
    x = scale * batch["x"] + (1 - scale**2).sqrt() * eps
    t = torch.from_numpy(np.searchsorted(SIGMAS, sigma.double().numpy() * (1 - 1e-6)))
    np.testing.assert_allclose(SIGMAS[t], sigma, rtol=1e-6)
    wanted = scale * eps - (1 - scale**2).sqrt() * batch["x"] if prediction == "v" else eps
    expected = (net.network(x, t.float()) - wanted).square().flatten(1).mean(1)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)


def test_completions_keep_what_is_known():
    config = DiTConfig(channels=1, size=6, width=16, layers=1, heads=2, amortised=True)
    options = DdpmConfig(
        sampler=SamplerConfig(kind="sde", grid="ddpm", n_steps=5),
        completion=CompletionConfig(kind="amortised", n_steps=5),
        variance="learned",
    )
    net = DiT(config.model_copy(update={"learned_sigma": True}))
    mine = Ddpm(net, options)
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 1, 6, 6, dtype=torch.bool)
    mask[:, :, 4:, 2:4] = True
    done = mine.complete(x, mask, Streams(0))
    assert torch.equal(done[~mask], x[~mask])
    assert torch.equal(mine.complete(x.masked_fill(mask, torch.nan), mask, Streams(0)), done)
    assert mine.sample(2, Streams(0)).shape == (2, 1, 6, 6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="learned_sigma"):
        Ddpm(Toy(), DdpmConfig(variance="learned"))
    with pytest.raises(ValueError, match="n_steps"):
        family(Toy(), n_steps=1001)
    with pytest.raises(ValueError, match="n_steps"):
        family(Toy()).sigmas(1001)
    with pytest.raises(ValueError, match="beta_start"):
        DdpmConfig(beta_start=0.5)
    assert solver.check_sigmas(family(Toy()).sigmas(7))[-1] == 0
