"""EDM: what preconditioning keeps, and the mixture that an exact network samples."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from assay.core import mixture
from assay.core.components import Gaussian
from assay.families import edm
from assay.families.config import EdmConfig, SamplerConfig
from assay.families.edm import Edm
from assay.families.streams import Streams
from assay.models.config import UNetConfig
from assay.models.unet import UNet
from assay.rules import recipe, recipes

LAW = mixture.Mixture([0.6, 0.4], [Gaussian([1.0, 0.5], 0.2), Gaussian([-1.0, 1.5], 0.1)])
SIGMAS = torch.logspace(-3, 3, 25, dtype=torch.float64)


class Known(torch.nn.Module):
    """The network whose denoiser is a law's own, its preconditioning undone from outside."""

    def __init__(self, law: Any = LAW, sigma_data=0.5):
        super().__init__()
        self.law, self.d = law, sigma_data
        self.config: Any = SimpleNamespace(channels=law.dim, size=1, n_labels=0)

    def forward(self, x, level, label=None, extra=None, rng=None):
        sigma = torch.exp(4 * level.double())
        c_skip, c_out, c_in = edm.preconditioning(sigma[:, None], self.d)
        at = x.flatten(1).double() / c_in
        denoised = self.law.denoise(at, sigma)
        return ((denoised - c_skip * at) / c_out).float().view_as(x)


def test_preconditioning_keeps_input_and_target_at_variance_1():
    d = 0.7
    c_skip, c_out, c_in = edm.preconditioning(SIGMAS, d)
    one = torch.ones_like(SIGMAS)
    torch.testing.assert_close(c_in**2 * (SIGMAS**2 + d**2), one)
    target = ((1 - c_skip) ** 2 * d**2 + c_skip**2 * SIGMAS**2) / c_out**2
    torch.testing.assert_close(target, one)
    # c_skip is the one that lets the network's errors count least: c_out^2 has its minimum there
    step = 1e-4
    for other in (c_skip + step, c_skip - step):
        out = (1 - other) ** 2 * d**2 + other**2 * SIGMAS**2
        assert (out > c_out**2).all()


def test_an_answer_of_0_has_loss_1_at_every_sigma():
    """For data of deviation sigma_data; 40,000 entries, 5 standard errors: fails below 1e-6."""
    family = Edm(Known(), EdmConfig(sigma_data=0.5))
    family.network.forward = lambda x, *_: torch.zeros_like(x)
    x = 0.5 * Streams(1).randn(20_000, 2, 1, 1)
    losses = family.loss({"x": x}, Streams(2))
    assert abs(losses.mean() - 1) < 5 * losses.std() / 20_000**0.5


@pytest.mark.parametrize("d", [0.5, 1.5])
def test_the_least_loss_of_normal_data_is_known(d):
    """E[(s^2/d^2) (sigma^2 + d^2) / (sigma^2 + s^2)] by quadrature; fails below 1e-6."""
    s, config = 0.8, EdmConfig(sigma_data=d, p_mean=-0.5, p_std=1.0)
    law = Gaussian([0.0, 0.0], s)
    x = s * Streams(3).randn(20_000, 2, 1, 1)
    losses = Edm(Known(law, d), config).loss({"x": x}, Streams(4))
    at, weight = np.polynomial.hermite_e.hermegauss(80)
    square = np.exp(2 * (-0.5 + at))
    least = (s / d) ** 2 * (square + d**2) / (square + s**2) @ weight / weight.sum()
    assert abs(losses.mean().item() - least) < 5 * losses.std().item() / 20_000**0.5


@pytest.mark.parametrize(
    "sampler",
    [SamplerConfig(n_steps=18), SamplerConfig(n_steps=60, churn=20, churn_range=(0.05, 50))],
    ids=["heun-18", "churn"],
)
def test_samples_of_an_exact_network_follow_the_mixture(sampler):
    """3,000 samples; Kolmogorov's distance of each coordinate and of their sum below 0.045.

    By its exact law the distance of 3,000 draws exceeds 0.036 with probability 1e-3 / 1.4 and
    0.045 with 1e-5; the rest is the solver's.
    """
    x = Edm(Known(), EdmConfig(sampler=sampler)).sample(3000, Streams(5)).flatten(1).numpy()
    exact = LAW.sample(200_000, np.random.default_rng(0))
    for direction in ([1.0, 0.0], [0.0, 1.0], [0.7, 0.7]):
        found: Any = stats.ks_2samp(x @ np.array(direction), exact @ np.array(direction))
        assert found.statistic < 0.045


def test_churn_and_heun_draw_differently_from_one_seed():
    plain = Edm(Known(), EdmConfig())
    other = plain.using(sampler=SamplerConfig(churn=10))
    assert (plain.sample(3, Streams(0)) != other.sample(3, Streams(0))).all()
    assert plain.evaluations() == other.evaluations() == 35


def test_a_network_learns_what_is_told_to_it():
    """A few steps on bright images labelled 1 and dark ones: the loss falls by more than half."""
    config = UNetConfig(
        channels=1, width=8, multipliers=(1, 2), blocks=1, n_labels=2, amortised=True
    )
    family = Edm(UNet(config, 0), EdmConfig(sigma_data=1.0)).train()
    label = 1 + torch.arange(32) % 2
    x = (3 - 2 * label).float()[:, None, None, None].expand(32, 1, 9, 9)
    batch = {"x": x, "label": label}
    optimizer = torch.optim.Adam(family.parameters(), 1e-2)
    losses = []
    for step in range(25):
        loss = family.loss(batch, Streams(1).child(step)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.3)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize("preset", recipes.RECIPES["edm"][1])
@pytest.mark.parametrize("conditional", [False, True])
def test_presets_are_whole(preset, conditional):
    made = recipes.get(f"edm-{preset}", conditional)
    with torch.device("meta"):
        family = recipe.build_family(made)
    assert family.n_labels == 40 * conditional
    assert recipe.resolved(made) == made
