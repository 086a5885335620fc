"""Continuous diffusion: exact laws in the network's place; what is known is told, and kept."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assay.core import guidance, noise
from assay.families import continuous
from assay.families.config import CompletionConfig, ContinuousConfig, SamplerConfig
from assay.families.continuous import Continuous
from assay.families.streams import Streams
from assay.rules import bindings

# a mixture of three isotropic Gaussians over images of nine cells, each of them a panel
MEANS = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 9))).double()
SPREAD = torch.tensor([0.3, 0.5, 0.4]).double()
WEIGHTS = torch.tensor([0.5, 0.3, 0.2]).double()


def denoised(x, sigma, known):
    """(E[x0 | x], P(component | x)) of lines x (n, 9); known cells bool (n, 9), without noise."""
    level = torch.where(known, 0.0, sigma[:, None].double())[:, None]
    variance = SPREAD[:, None] ** 2 + level**2
    off = x[:, None] - MEANS
    joint = WEIGHTS.log() - (off**2 / variance + variance.log()).sum(-1) / 2
    share = joint.softmax(-1)
    return (share[..., None] * (x[:, None] - level**2 / variance * off)).sum(1), share


class Exact(Continuous):
    """The mixture's own denoiser; label 1 is its first component, alone."""

    def __init__(self, config=None, amortised=True, n_labels=0):
        net: Any = torch.nn.Linear(1, 1)
        net.config = SimpleNamespace(channels=1, size=3, n_labels=n_labels, amortised=amortised)
        kind = "amortised" if amortised else "replacement"
        own = CompletionConfig(kind=kind, n_steps=40)
        super().__init__(net, config or ContinuousConfig(completion=own))
        self.calls: Any = 0
        self.seen: Any = None

    def _denoise(self, x, sigma, label=None, extra=None, rng=None):
        self.calls += 1
        self.seen = (x, label, extra)
        known = torch.zeros(x.shape, dtype=torch.bool) if extra is None else extra[:, -1:] > 0
        told = x if extra is None else torch.where(known, extra[:, :-1], x)
        found, _ = denoised(told.flatten(1).double(), sigma, known.flatten(1))
        if label is not None:
            variance = SPREAD[0] ** 2 + sigma.double()[:, None] ** 2
            one = x.flatten(1) - (1 - SPREAD[0] ** 2 / variance) * (x.flatten(1) - MEANS[0])
            found = torch.where(label[:, None] == 1, one, found)
        return found.view_as(x).to(x)

    def _weight(self, sigma):
        return 1 / sigma**2

    def _levels(self, n, rng):
        return noise.lognormal(rng, n, 0.0, 1.0)


def drawn(n, seed=0):
    """n images of the mixture."""
    rng = torch.Generator().manual_seed(seed)
    which = torch.multinomial(WEIGHTS, n, True, generator=rng)
    x = MEANS[which] + SPREAD[which, None] * torch.randn(n, 9, generator=rng).double()
    return x.float().view(n, 1, 3, 3)


def mask_of(n, *unknown):
    mask = torch.zeros(n, 9, dtype=torch.bool)
    mask[:, list(unknown)] = True
    return continuous.panel_image(mask, 3)


def sampler(kind: Any = "heun", n_steps=40, **options):
    return SamplerConfig(kind=kind, n_steps=n_steps, sigma_min=0.01, **options)


SAMPLERS = [
    sampler(),
    sampler("euler", 200),
    sampler("dpmpp_2m", 60, grid="exponential"),
    sampler("sde", 200),
    sampler(churn=10, churn_range=(0.05, 10.0)),
]


def same_law(x, expected, share):
    """Means, spreads and the first component's share, each within 5 standard errors and 2 %.

    39 comparisons at 5 standard errors: an honest sampler fails with probability below 3e-5.
    """
    n = len(x)
    se = expected.std(0) / n**0.5
    assert (abs(x.mean(0) - expected.mean(0)) < 5 * se + 0.02).all()
    np.testing.assert_allclose(x.std(0), expected.std(0), rtol=5 / (n / 2) ** 0.5 + 0.02)
    p = share(expected).mean()
    assert abs(share(x).mean() - p) < 5 * (p * (1 - p) / n) ** 0.5 + 0.02


def first(x):
    """Whether each line is the first component's, as its own density says."""
    lines = torch.from_numpy(np.ascontiguousarray(x))
    return denoised(lines, torch.full((len(x),), 1e-3), torch.zeros(x.shape) > 0)[1][:, 0].numpy()


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda c: f"{c.kind}-{c.churn:g}")
def test_samples_of_an_exact_denoiser_follow_the_mixture(config):
    x = Exact().using(sampler=config).sample(2000, Streams(1)).flatten(1).double().numpy()
    same_law(x, drawn(100_000).flatten(1).double().numpy(), first)


@pytest.mark.parametrize("unknown", [(4,), (0, 5, 8), (1, 2, 3, 4, 5, 6, 7)])
def test_amortised_completion_of_an_exact_denoiser_is_the_conditional_law(unknown):
    """Against the conditional mixture, drawn from its closed form; 2,000 samples, as above."""
    n, rng = 2000, torch.Generator().manual_seed(2)
    one = (MEANS[0] + MEANS[1]).div(2).float().view(1, 1, 3, 3)
    x = Exact().complete(one.expand(n, 1, 3, 3), mask_of(n, *unknown), Streams(3))
    lines = list(unknown)
    kept = [i for i in range(9) if i not in unknown]
    off = one.flatten(1).double()[:, kept] - MEANS[:, kept]
    joint = WEIGHTS.log() - (off**2 / SPREAD[:, None] ** 2).sum(1) / 2 - len(kept) * SPREAD.log()
    which = torch.multinomial(joint.softmax(0), 100_000, True, generator=rng)
    law = torch.randn(100_000, len(lines), generator=rng).double() * SPREAD[which, None]
    expected = (MEANS[which][:, lines] + law).numpy()
    same_law(
        x.flatten(1)[:, lines].double().numpy(),
        expected,
        lambda v: v[:, 0] > MEANS[0, lines[0]].item(),
    )


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda c: f"{c.kind}-{c.churn:g}")
def test_a_sample_depends_on_its_seed_and_place_alone(config):
    family = Exact().using(sampler=config)
    whole = family.sample(7, Streams(5))
    part = family.sample(3, Streams(5).at(4))
    torch.testing.assert_close(whole[4:], part, rtol=0, atol=0)
    x, mask = drawn(7), mask_of(7, 2, 6)
    whole = family.complete(x, mask, Streams(5))
    part = family.complete(x[4:], mask[4:], Streams(5).at(4))
    torch.testing.assert_close(whole[4:], part, rtol=0, atol=0)


def test_losses_are_those_of_the_samples_whatever_the_batch():
    family, x = Exact(), drawn(8)
    whole = family.loss({"x": x}, Streams(0).child(3))
    part = family.loss({"x": x[5:]}, Streams(0).child(3).at(5))
    torch.testing.assert_close(whole[5:], part, rtol=1e-6, atol=0)


def test_loss_of_an_exact_denoiser_is_what_no_other_has_less_of():
    """E[lambda Var(x0 | x)] in the mean of 20,000, within 5 standard errors: fails below 1e-6.

    The expectation is that of the conditional variance, which the loss never computes.
    """
    family, n, x = Exact(amortised=False), 20_000, drawn(20_000, 1)
    rng = Streams(9)
    losses = family.loss({"x": x}, rng)
    sigma = noise.lognormal(Streams(10), n, 0.0, 1.0)
    lines = x.flatten(1).double() + sigma[:, None] * Streams(11).randn(n, 9)
    _, share = denoised(lines, sigma, torch.zeros(n, 9) > 0)
    level = sigma[:, None, None] ** 2
    variance = SPREAD[:, None] ** 2 + level
    mean = lines[:, None] - level / variance * (lines[:, None] - MEANS)
    within = (share[..., None] * (SPREAD[:, None] ** 2 * level / variance + mean**2)).sum(1)
    least = (within - (share[..., None] * mean).sum(1) ** 2).mean(1) / sigma**2
    se = ((losses.var() + least.var()) / n) ** 0.5
    assert abs(losses.mean() - least.mean()) < 5 * se
    worse: Any = Exact(amortised=False)
    worse._denoise = lambda *a: 0.9 * Exact._denoise(worse, *a)
    assert worse.loss({"x": x}, Streams(9)).mean() > losses.mean()


@pytest.mark.parametrize("kind", ["amortised", "replacement", "repaint", "dps", "pgdm", "tds"])
def test_completion_keeps_the_context_and_never_reads_under_the_mask(kind: Any):
    config = CompletionConfig(kind=kind, n_steps=6, resample=2, particles=3)
    family, x, mask = Exact().using(completion=config), drawn(4), mask_of(4, 1, 8)
    found = family.complete(x, mask, Streams(0))
    hidden = x.masked_fill(mask, float("nan"))
    again = family.complete(hidden, mask, Streams(0), temperature=1.0)
    torch.testing.assert_close(found, again, rtol=0, atol=0)
    torch.testing.assert_close(found[~mask], x[~mask], rtol=0, atol=0)
    assert found.isfinite().all()
    every = family.complete(hidden, torch.ones_like(mask), Streams(0))
    none = family.complete(x, torch.zeros_like(mask), Streams(0))
    assert every.isfinite().all()
    torch.testing.assert_close(none, x, rtol=0, atol=0)


def test_training_shows_known_panels_without_noise_and_learns_the_others():
    family, n = Exact(), 64
    x0 = drawn(n)
    losses = family.loss({"x": x0}, Streams(4))
    x, _, extra = family.seen
    known = extra[:, -1:] > 0
    assert 0.1 < known.float().mean() < 0.6
    assert (x[known] == 0).all()
    torch.testing.assert_close(extra[:, :1][known], x0[known])
    assert (extra[:, :1][~known] == 0).all()
    rng = Streams(4)
    rng.rand(n, continuous.N_UNIFORMS)
    sigma = family._levels(n, rng).float().view(-1, 1, 1, 1)
    eps = rng.randn(n, 1, 3, 3).float()
    told = torch.where(known, x0, x0 + sigma * eps)
    found, _ = denoised(told.flatten(1).double(), sigma.flatten(), known.flatten(1))
    off = ((found.view_as(x0) - x0) / sigma).square().masked_fill(known, 0)
    expected = off.flatten(1).sum(1) / (~known).flatten(1).sum(1)
    torch.testing.assert_close(losses, expected.float(), rtol=1e-4, atol=1e-5)


def test_training_masks_have_the_shares_said():
    """20,000 masks, five standard errors: fails with probability below 2e-5."""
    n = 20_000
    unknown = continuous.draw_unknown(0.5, Streams(0).rand(n, continuous.N_UNIFORMS))
    number = unknown.sum(1)
    shares = torch.bincount(number, minlength=10).double() / n
    expected = torch.tensor([0, 1 / 4 + 1 / 32, *[1 / 32] * 7, 1 / 2]).double()
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt()).all()
    one = unknown[number == 1].double()
    assert ((one.mean(0) - 1 / 9).abs() < 5 * (8 / 81 / len(one)) ** 0.5).all()
    some = unknown[number == 4].double()
    assert ((some.mean(0) - 4 / 9).abs() < 5 * (20 / 81 / len(some)) ** 0.5).all()
    assert continuous.draw_unknown(0.0, Streams(0).rand(50, continuous.N_UNIFORMS)).all()


def test_panels_of_an_image_are_those_of_the_codes():
    masks = Streams(1).rand(20, 9) < 0.5
    placed = bindings.get("image").place(masks.view(-1, 3, 3).numpy())
    np.testing.assert_array_equal(continuous.panel_image(masks, 9).numpy(), placed)


# ---- labels ------------------------------------------------------------------------------------


def test_labels_are_dropped_at_their_rate():
    """2,000 labels at a rate of 0.1, five standard errors: fails below 1e-6."""
    family = Exact(n_labels=3)
    batch = {"x": drawn(2000), "label": torch.full((2000,), 2)}
    family.loss(batch, Streams(0))
    label = family.seen[1]
    assert set(label.tolist()) == {0, 2}
    assert abs((label == 0).double().mean() - 0.1) < 5 * (0.09 / 2000) ** 0.5


def test_guided_at_w_0_is_conditional_and_at_minus_1_unconditional():
    family: Any = Exact(n_labels=1)
    cond = family.guided(1, 0.0).sample(500, Streams(2)).flatten(1).double()
    # one component alone: 18 comparisons at 5 standard errors, which fail below 2e-5
    assert ((cond.mean(0) - MEANS[0]).abs() < 5 * SPREAD[0] / 500**0.5 + 0.01).all()
    np.testing.assert_allclose(cond.std(0).numpy(), SPREAD[0].item(), rtol=5 / 1000**0.5 + 0.02)
    given = family.denoiser(1)
    x, sigma = drawn(5), 0.7
    torch.testing.assert_close(family.guided(1, 0.0).denoiser()(x, sigma), given(x, sigma))
    plain = family.sample(5, Streams(2))
    torch.testing.assert_close(family.guided(1, -1.0).sample(5, Streams(2)), plain)
    strong = family.guided(1, 2.0).denoiser()
    assert isinstance(strong, guidance.Guided)
    expected = 3 * given(x, sigma) - 2 * family.denoiser()(x, sigma)
    torch.testing.assert_close(strong(x, sigma), expected)
    known = family.guided(1, 2.0).complete(x, mask_of(5, 0), Streams(0))
    assert known.isfinite().all()


def test_labels_may_differ_by_sample():
    family = Exact(n_labels=1)
    x, sigma = drawn(4), torch.tensor([0.5, 1.0, 0.5, 1.0])
    found = family.denoiser(torch.tensor([0, 0, 1, 1]))(x, sigma)
    torch.testing.assert_close(found[:2], family.denoiser()(x[:2], sigma[:2]))
    torch.testing.assert_close(found[2:], family.denoiser(1)(x[2:], sigma[2:]))


# ---- counting and refusing ---------------------------------------------------------------------


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda c: f"{c.kind}-{c.churn:g}")
@pytest.mark.parametrize("w", [None, 0.0, 1.5])
def test_evaluations_are_counted(config, w):
    family: Any = Exact(n_labels=1).using(sampler=config)
    family = family if w is None else family.guided(1, w)
    family.calls = 0
    family.sample(2, Streams(0))
    assert family.calls == family.evaluations()
    family.calls = 0
    family.complete(drawn(2), mask_of(2, 3), Streams(0))
    assert family.calls == family.evaluations(1)
    assert family.evaluations(0) == 0


def test_what_cannot_be_is_refused():
    family, x, mask = Exact(), drawn(2), mask_of(2, 3)
    with pytest.raises(ValueError, match="temperature is 0"):
        family.sample(2, Streams(0), 0.0)
    with pytest.raises(ValueError, match="temperature"):
        family.complete(x, mask, Streams(0), 0.5)
    with pytest.raises(ValueError, match="not finite"):
        family.complete(x * float("inf"), mask, Streams(0))
    with pytest.raises(ValueError, match="context must have shape"):
        family.complete(x[:, 0], mask, Streams(0))
    with pytest.raises(ValueError, match="amortised"):
        Exact(amortised=False).denoiser(known=x, mask=mask)
    with pytest.raises(ValueError, match="amortised"):
        Exact(amortised=False).using(completion=CompletionConfig(kind="amortised"))
    with pytest.raises(ValueError, match="sigma_min"):
        SamplerConfig(sigma_min=3.0, sigma_max=1.0)
    with pytest.raises(ValueError, match="churn"):
        SamplerConfig(kind="sde", churn=1.0)


def test_using_leaves_the_original_alone():
    family = Exact()
    other = family.using(sampler=sampler("euler", 3))
    assert other.evaluations() == 3
    assert family.evaluations() == 35
    assert other.network is family.network


def test_clipping_is_off_unless_asked_for():
    family, x = Exact(), drawn(50)
    free = family.complete(x, mask_of(50, 0, 1, 2), Streams(0))
    clip = CompletionConfig(kind="amortised", n_steps=10, clip=0.1)
    cut = family.using(completion=clip).complete(x, mask_of(50, 0, 1, 2), Streams(0))
    mask = mask_of(50, 0, 1, 2)
    assert cut[mask].abs().max() <= 0.1 < free[mask].abs().max()
    torch.testing.assert_close(cut[~mask], x[~mask], rtol=0, atol=0)


def test_grids_are_those_of_the_noise_module():
    own = continuous.grid(sampler(grid="karras", n_steps=5, sigma_max=30.0), 7)
    np.testing.assert_array_equal(own, noise.karras(7, 0.01, 30.0))
    assert len(continuous.grid(sampler(grid="flow", n_steps=5))) == 6
    assert continuous.grid(sampler(grid="ddpm", n_steps=9))[0] == noise.ddpm(9)[0]
