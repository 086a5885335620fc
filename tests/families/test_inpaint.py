"""Completion by diffusion against exact conditional laws: Gaussians, their chains, mixtures."""

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from assay.core import noise
from assay.core.components import Gaussian
from assay.core.mixture import Mixture
from assay.families import inpaint, reconstruction, twisted
from assay.families.config import CompletionConfig
from assay.families.streams import Streams

SIGMAS = noise.karras(20, 0.01, 20.0)
KINDS = ("amortised", "replacement", "repaint", "dps", "pgdm", "tds")
EVERY = [CompletionConfig(kind=kind, n_steps=20, resample=3, particles=4) for kind in KINDS]
SD = 0.3


def modes():
    """Four modes in three coordinates; weights of their own."""
    means = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [0.8, -0.2, 1.2]])
    return np.array([0.35, 0.15, 0.3, 0.2]), means


def mixture():
    weights, means = modes()
    return Mixture(weights, [Gaussian(mean, SD**2) for mean in means])


def given(y, n=1):
    """Context with the first coordinate y known, and the mask."""
    context = torch.zeros(n, 3, dtype=torch.float64)
    context[:, 0] = y
    return context, torch.tensor([[False, True, True]])


def posterior(y):
    """Weights of the modes given the first coordinate."""
    weights, means = modes()
    p = weights * np.exp(-((y - means[:, 0]) ** 2) / (2 * SD**2))
    return p / p.sum()


def conditional_denoiser(y):
    """E[x0 | x, first coordinate y], by hand: the modes' own denoisers, weighed by all seen."""
    _, means = modes()
    means, log_p = torch.tensor(means), torch.tensor(posterior(y)).log()

    def denoise(x, sigma):
        v = SD**2 + sigma**2
        gaps = x[:, None, 1:] - means[None, :, 1:]
        p = (log_p - gaps.square().sum(-1) / (2 * v)).softmax(1)
        rest = (p[..., None] * (means[None, :, 1:] + (SD**2 / v) * gaps)).sum(1)
        return torch.cat([torch.full_like(rest[:, :1], y), rest], 1)

    return denoise


def missed(x, y):
    """Standard errors by which means and second moments of the unknown entries miss the truth."""
    _, means = modes()
    p, n = posterior(y), len(x)
    draws = np.random.default_rng(0).choice(len(p), 200_000, p=p)
    truth = means[draws, 1:] + SD * np.random.default_rng(1).standard_normal((200_000, 2))
    found = x[:, 1:].numpy()
    of = lambda z: np.concatenate([z, z**2, z[:, :1] * z[:, 1:]], 1)  # noqa: E731
    error = np.sqrt(of(truth).var(0) * (1 / n + 1 / len(truth)))
    return np.abs(of(found).mean(0) - of(truth).mean(0)) / error


# ---- what every method keeps --------------------------------------------------------------------


@pytest.mark.parametrize("config", EVERY, ids=KINDS)
def test_known_part_is_kept_bit_for_bit_and_hidden_values_are_never_read(config):
    x = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]).bool()[:, None]
    flat = lambda x, sigma: mixture().denoise(x[:, 0], sigma)[:, None]  # noqa: E731
    done = inpaint.complete(flat, SIGMAS, x, mask, Streams(1), config)
    assert done.dtype == x.dtype
    assert torch.equal(done[~mask], x[~mask])
    assert done.isfinite().all()
    assert (done != x)[mask].all()
    other = x.masked_fill(mask, torch.nan)
    assert torch.equal(inpaint.complete(flat, SIGMAS, other, mask, Streams(1), config), done)


@pytest.mark.parametrize("config", EVERY, ids=KINDS)
def test_samples_depend_on_seed_and_number_alone(config):
    """The whole batch, its second half, and its lines in another order; other seeds differ."""
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0], [1, 1, 1], [0, 1, 0]]).bool()

    def denoise(x, sigma):  # a line's own, to the last bit
        scale = 1 + torch.as_tensor(sigma).reshape(-1, 1) ** 2
        return torch.tanh((x + x.roll(1, 1)) / scale)

    def done(lines, rng):
        return inpaint.complete(denoise, SIGMAS, x[lines], mask[lines], rng, config)

    whole = done(slice(None), Streams(1))
    assert torch.equal(done(slice(3, None), Streams(1).at(3)), whole[3:])
    lines = np.array([4, 0, 3])
    assert torch.equal(done(lines, Streams(1).take(lines)), whole[lines])
    assert (done(slice(None), Streams(2)) != whole)[mask].all()


OTHERS = [
    CompletionConfig(kind="replacement", solver="heun"),
    CompletionConfig(kind="pgdm", solver="dpmpp_2m"),
    CompletionConfig(kind="repaint", resample=3, jump=4),
]


@pytest.mark.parametrize("config", [*EVERY, *OTHERS])
def test_evaluations_are_those_made(config):
    lines = 0

    def counted(x, sigma):
        nonlocal lines
        lines += len(x)
        return x / (1 + torch.as_tensor(sigma) ** 2).reshape(-1, 1)

    inpaint.complete(counted, SIGMAS, *given(0.5, 5), Streams(0), config)
    assert lines == 5 * inpaint.evaluations(SIGMAS, config)


def test_evaluations_as_the_issue_counts_them():
    at = lambda **kw: inpaint.evaluations(np.arange(kw["n_steps"], -1, -1), CompletionConfig(**kw))  # noqa: E731
    assert at(kind="tds", n_steps=100, particles=25) == 2500
    assert at(kind="amortised", n_steps=25) == 49
    assert at(kind="repaint", n_steps=250, jump=10, resample=10) == 250 + 24 * 9 * 10


# ---- amortised, replacement, RePaint ------------------------------------------------------------


@pytest.mark.parametrize("solver", ["heun", "sde"])
def test_amortised_with_the_exact_denoiser_is_exact(solver):
    """5 moments within 5 standard errors: fails for 1 seed in 300,000 (n = 3,000)."""
    y, n_steps = 0.7, 60 if solver == "heun" else 250
    config = CompletionConfig(kind="amortised", solver=solver)
    sigmas = noise.karras(n_steps, 0.005, 40.0)
    x = inpaint.complete(conditional_denoiser(y), sigmas, *given(y, 3000), Streams(0), config)
    assert missed(x, y).max() < 5


COV = np.array([[1.0, 0.8], [0.8, 1.0]])


def linear(cov, mean=None):
    """The denoiser of N(mean, cov), m + C (C + sigma^2)^-1 (x - m); sigma one number."""
    mean = np.zeros(len(cov)) if mean is None else mean

    def gain(sigma):
        return cov @ np.linalg.inv(cov + sigma**2 * np.eye(len(cov)))

    def denoise(x, sigma):
        level = float(torch.as_tensor(sigma).flatten()[0])
        return torch.tensor(mean) + (x - torch.tensor(mean)) @ torch.tensor(gain(level)).T

    return denoise, gain


@pytest.mark.parametrize(("resample", "jump"), [(1, 1), (4, 1), (3, 5)])
def test_replacement_and_repaint_follow_their_own_linear_recursion(resample, jump):
    """Mean and variance of the unknown coordinate of a Gaussian, by hand, within 5 errors."""
    denoise, gain = linear(COV)
    y, n = 1.5, 4000
    config = CompletionConfig(kind="repaint", n_steps=20, resample=resample, jump=jump)
    m, v = 0.0, SIGMAS[0] ** 2
    for t, then in itertools.pairwise(inpaint.visits(20, config)):
        sigma, after = SIGMAS[20 - t], SIGMAS[20 - then]
        if after > sigma:
            v += after**2 - sigma**2
            continue
        keep, g = (after / sigma) ** 2, gain(sigma)[1]
        a, b = (1 - keep) * g[1] + keep, (1 - keep) * g[0]
        m, v = a * m + b * y, a**2 * v + (b * sigma) ** 2 + after**2 * (1 - keep)
    context, mask = torch.tensor([[y, 0.0]] * n, dtype=torch.float64), torch.tensor([False, True])
    kinds = ["repaint", "replacement"] if resample == 1 else ["repaint"]
    for kind in kinds:
        found = config.model_copy(update={"kind": kind})
        x = inpaint.complete(denoise, SIGMAS, context, mask, Streams(3), found)[:, 1]
        assert abs(x.mean() - m) < 5 * math.sqrt(v / n)
        assert abs(x.var() - v) < 5 * v * math.sqrt(2 / n)


def test_repaint_path_is_algorithm_1():
    """With jumps of one step: each level but the last gone through ``resample`` times."""
    config = CompletionConfig(kind="repaint", n_steps=5, resample=3)
    expected = [5]
    for t in (5, 4, 3, 2, 1):
        for u in range(3 if t > 1 else 1):
            expected += [t - 1] if u == 0 else [t, t - 1]
    assert list(inpaint.visits(5, config)) == expected
    config = CompletionConfig(kind="repaint", n_steps=6, resample=2, jump=2)
    assert list(inpaint.visits(6, config)) == [6, 5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1, 0]


def test_repaint_lessens_the_bias_of_replacement():
    """The worst moment's standard errors at n = 2,000 on the mixture, fixed seeds."""
    y, sigmas = 0.7, noise.karras(25, 0.01, 20.0)
    found = []
    for resample in (1, 4, 16):
        config = CompletionConfig(kind="repaint", n_steps=25, resample=resample)
        x = inpaint.complete(mixture().denoise, sigmas, *given(y, 2000), Streams(0), config)
        found.append(missed(x, y).max())
    print(found)
    assert found[0] > 2 * found[1]
    assert found[1] > found[2]


# ---- guidance through the denoiser --------------------------------------------------------------


def test_pgdm_with_the_right_variance_is_exact_on_a_gaussian():
    """One known coordinate and r^2 = Var[x0_known | x]: the denoiser given it, in closed form."""
    rng = np.random.default_rng(0)
    root, mean, y = rng.standard_normal((3, 3)), rng.standard_normal(3), 0.4
    cov = root @ root.T
    denoise, gain = linear(cov, mean)
    context, mask = given(y, 7)
    known = reconstruction.Given(context, mask.expand(7, 3), 3)
    x = torch.tensor(rng.standard_normal((7, 3)))
    for sigma in (0.05, 0.7, 6.0):
        r2 = sigma**2 * gain(sigma)[0, 0]
        guided = reconstruction.PseudoinverseGuided(denoise, known, lambda s, r2=r2: r2)
        # x0 given the noisy x and the exact first coordinate: a Gaussian seen through 4 numbers
        see = np.vstack([np.eye(3), np.eye(3)[:1]])
        joint = see @ cov @ see.T + np.diag([sigma**2] * 3 + [0])
        seen = np.hstack([x.numpy(), np.full((7, 1), y)]) - see @ mean
        exact = mean + seen @ np.linalg.solve(joint, see @ cov)
        np.testing.assert_allclose(guided(x, sigma).numpy(), exact, rtol=1e-9, atol=1e-9)


def test_pgdm_on_independent_entries_is_the_conditional_law():
    """Data N(0, tau^2 I): its own r^2 is right, what is unknown keeps its prior law."""
    tau, n = 0.8, 4000
    config = CompletionConfig(kind="pgdm", tau=tau, n_steps=60, solver="heun", piece=n)
    denoise, _ = linear(tau**2 * np.eye(3))
    sigmas = noise.karras(60, 0.005, 40.0)
    x = inpaint.complete(denoise, sigmas, *given(0.5, n), Streams(0), config)[:, 1:]
    assert x.mean(0).abs().max() < 5 * tau / math.sqrt(n)
    assert (x.var(0) - tau**2).abs().max() < 5 * tau**2 * math.sqrt(2 / n)


def test_dps_against_the_paper_s_own_coordinate():
    """Algorithm 1 for x / sqrt(1 + sigma^2), with DDPM's posterior and difference quotients."""
    denoise, _ = linear(COV)
    y, scale = 0.9, 0.4
    config = CompletionConfig(kind="dps", scale=scale)
    mask = torch.tensor([False, True])
    context = torch.tensor([[y, 0.0]] * 3, dtype=torch.float64)
    sigmas = noise.karras(8, 0.05, 10.0)
    ours = inpaint.complete(denoise, sigmas, context, mask, Streams(4), config)
    rng = Streams(4)
    bar = 1 / (1 + sigmas**2)
    z = math.sqrt(bar[0]) * (context + sigmas[0] * rng.randn(3, 2))
    for a, b in itertools.pairwise(bar):

        def clean(z, a=a):
            return denoise(z / math.sqrt(a), math.sqrt(1 / a - 1))

        def gap(z):
            return (y - clean(z)[:, 0]).square()

        h = 1e-5 * torch.eye(2, dtype=torch.float64)
        slope = torch.stack([(gap(z + d) - gap(z - d)) / 2e-5 for d in h], 1)
        beta = 1 - a / b
        mean = (math.sqrt(b) * beta * clean(z) + math.sqrt(a / b) * (1 - b) * z) / (1 - a)
        ahead = mean
        if b < 1:
            ahead = mean + math.sqrt((1 - b) / (1 - a) * beta) * rng.randn(3, 2)
        z = ahead - scale * slope / gap(z).sqrt()[:, None]
    torch.testing.assert_close(ours[:, 1], z[:, 1], rtol=1e-6, atol=1e-6)


def test_shift_is_bounded_in_norm_and_keeps_its_direction():
    pull = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    missed = torch.tensor([[0.3, 0, 0], [0, 1, 2], [9, 9, 9], [0, 0, 0], [1, 0, 0]]).double()
    found = reconstruction.Pulled(pull, missed, pull)
    free, cut = (reconstruction.shift(found, 7.0, bound) for bound in (None, 2.0))
    torch.testing.assert_close(free, 7 * pull)
    ratio = (cut / free)[:, :1]
    torch.testing.assert_close(cut, ratio * free)
    most = torch.minimum(free.norm(dim=1), 2 * missed.norm(dim=1))
    torch.testing.assert_close(cut.norm(dim=1), most)


@pytest.mark.parametrize("kind", ["pgdm", "tds"])
def test_bound_keeps_a_network_s_jacobian_at_high_noise_harmless(kind):
    """A denoiser whose Jacobian falls as 1/sigma alone, along a grid from 1e6, as flows have."""

    def denoise(x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
        told = mixture().denoise(x, level[:, 0].expand(len(x)).clamp_max(50))
        return told + 0.1 * torch.tanh(x.flip(1) / (1 + level))

    sigmas = noise.sigma_from_flow(np.minimum(np.linspace(1, 0, 51), 1 - 1e-6))
    found = {}
    for bound in (None, 10.0):
        config = CompletionConfig(kind=kind, n_steps=50, particles=4, bound=bound)
        x = inpaint.complete(denoise, sigmas, *given(-1.0, 100), Streams(0), config)
        found[bound] = (x[:, 1:].sign() == torch.tensor([1.0, -1.0])).all(1).double().mean()
    print(kind, found)
    assert found[10.0] > 0.95
    assert found[None] < 0.7


def test_pieces_do_not_change_what_is_pulled():
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    context, mask = given(0.3, 7)
    found = [
        reconstruction.pulled(
            mixture().denoise, x, 0.7, reconstruction.Given(context, mask.expand(7, 3), piece)
        )
        for piece in (2, 100)
    ]
    for few, all_ in zip(*found, strict=True):
        torch.testing.assert_close(few, all_, rtol=1e-12, atol=1e-12)


# ---- Twisted Diffusion Sampler ------------------------------------------------------------------


def chain_given(cov, mean, y, sigmas, tau):
    """Mean and covariance of D_unknown(x) at the last sigma > 0 in the linear chain, given y."""
    d, known = len(mean), len(y)
    _, gain = linear(cov)
    m, v = np.zeros(d), sigmas[0] ** 2 * np.eye(d)
    for sigma, after in itertools.pairwise(sigmas[:-1]):
        keep, g = (after / sigma) ** 2, gain(sigma)
        a = keep * np.eye(d) + (1 - keep) * g
        m = a @ m + (1 - keep) * (mean - g @ mean)
        v = a @ v @ a.T + after**2 * (1 - keep) * np.eye(d)
    g = gain(sigmas[-2])
    m, v = mean + g @ (m - mean), g @ v @ g.T
    r2 = sigmas[-2] ** 2 * tau**2 / (sigmas[-2] ** 2 + tau**2)
    to = v[known:, :known] @ np.linalg.inv(v[:known, :known] + r2 * np.eye(known))
    return m[known:] + to @ (y - m[:known]), v[known:, known:] - to @ v[:known, known:]


@pytest.mark.parametrize("ess", [1.0, 0.5])
def test_tds_is_exact_on_a_gaussian_chain_of_few_steps(ess):
    """Against the chain's own conditional law, in closed form: 5 steps, 100 particles, n = 1,500.

    5 standard errors for each of 2 means and 2 variances: fails for 1 seed in 400,000. The
    particle alone (no weights) misses by far more.
    """
    rng = np.random.default_rng(3)
    root, mean = rng.standard_normal((4, 4)), rng.standard_normal(4)
    cov, y, n = root @ root.T / 4, np.array([0.8, -0.5]), 1500
    sigmas, tau = noise.karras(5, 0.3, 4.0), 2.0
    m, v = chain_given(cov, mean, y, sigmas, tau)
    context = torch.zeros(n, 4, dtype=torch.float64)
    context[:, :2] = torch.tensor(y)
    mask = torch.tensor([False, False, True, True])
    errors = {}
    for particles in (1, 100):
        config = CompletionConfig(
            kind="tds", n_steps=5, particles=particles, tau=tau, ess=ess, piece=10**6
        )
        x = inpaint.complete(linear(cov, mean)[0], sigmas, context, mask, Streams(0), config)
        x = x[:, 2:].numpy()
        z = np.abs(x.mean(0) - m) / np.sqrt(np.diag(v) / n)
        spread = np.abs(x.var(0) / np.diag(v) - 1) / math.sqrt(2 / n)
        errors[particles] = max(z.max(), spread.max())
    print(errors)
    assert errors[100] < 5 < errors[1] / 3


def test_tds_tends_to_the_exact_law_of_a_mixture():
    """Errors of 5 moments, n = 250: 40 particles within 5 standard errors, one far out.

    Fails for 1 seed in 300,000, or somewhat more since the chain's 60 steps have a bias too.
    """
    y, n, sigmas = 0.0, 250, noise.karras(60, 0.02, 20.0)
    errors = []
    for particles in (1, 40):
        config = CompletionConfig(kind="tds", particles=particles, tau=1.0, piece=10**6)
        x = inpaint.complete(mixture().denoise, sigmas, *given(y, n), Streams(0), config)
        errors.append(missed(x, y).max())
    print(errors)
    assert errors[1] < 5 < errors[0] / 2


@pytest.mark.slow
def test_tds_error_falls_with_particles():
    """n = 1,000 on the mixture, 100 steps: with 64 particles nothing is left that 5 errors see."""
    y, n, sigmas = 0.0, 1000, noise.karras(100, 0.02, 20.0)
    errors = []
    for particles in (1, 8, 64):
        config = CompletionConfig(kind="tds", particles=particles, tau=1.0, piece=10**6)
        x = inpaint.complete(mixture().denoise, sigmas, *given(y, n), Streams(1), config)
        errors.append(missed(x, y).max())
    print(errors)
    assert errors[2] < 5 < errors[1] < errors[0]


def test_systematic_resampling_copies_floor_or_ceiling_and_keeps_the_sum():
    rng = torch.Generator().manual_seed(0)
    log_w = 2 * torch.randn(500, 16, generator=rng, dtype=torch.float64) - 700
    log_w[:100] = -700.0  # equal weights need none
    uniform = torch.rand(500, 1, generator=rng, dtype=torch.float64)
    index, after = twisted.resampled(log_w, uniform, 0.9)
    copies = torch.nn.functional.one_hot(index, 16).sum(1)
    assert ((copies - 16 * log_w.softmax(1)).abs()[100:].amax(1) < 1 + 1e-9).all()
    assert (index[:100] == torch.arange(16)).all()
    torch.testing.assert_close(after.logsumexp(1), log_w.logsumexp(1))
    poor = 1 / log_w.softmax(1).square().sum(1) < 0.9 * 16
    assert (after[poor].diff(dim=1) == 0).all()
    assert torch.equal(after[~poor], log_w[~poor])


def test_particle_is_drawn_by_its_weight():
    """Frequencies of 60,000 draws within 5 standard errors; weight 0 never."""
    w = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0], dtype=torch.float64)
    uniform = (torch.arange(60_000, dtype=torch.float64)[:, None] + 0.5) / 60_000
    one = twisted.drawn(w.log().expand(60_000, -1), uniform)[:, 0]
    share = torch.bincount(one, minlength=6) / 60_000
    torch.testing.assert_close(share.double(), w, rtol=0, atol=2e-5)
    edge = torch.tensor([[0.0], [1 - 2.0**-53]], dtype=torch.float64)
    assert twisted.drawn(w.log().expand(2, -1), edge)[:, 0].tolist() == [1, 4]


# ---- clipping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_cuts_off_data_beyond_it(kind):
    """A mode at 1.86 that the known entry asks for: reached without clipping, never with it."""
    means = np.array([[1.0, 1.86], [-1.0, 0.0]])
    law = Mixture([0.5, 0.5], [Gaussian(m, 1e-3) for m in means])
    context = torch.tensor([[1.0, 0.0]] * 8, dtype=torch.float64)
    mask = torch.tensor([False, True])
    found = {}
    for clip in (None, 1.0):
        config = CompletionConfig(kind=kind, n_steps=20, particles=4, resample=3, clip=clip)
        x = inpaint.complete(law.denoise, SIGMAS, context, mask, Streams(0), config)
        found[clip] = x[:, 1]
    print(kind, found)
    assert (found[None].median() - 1.86).abs() < 0.15
    assert found[1.0].median() < 1.3


# ---- errors -------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    context, mask = given(0.0, 2)
    with pytest.raises(ValueError, match="last one must be 0"):
        inpaint.complete(lambda x, s: x, [2.0, 1.0], context, mask, Streams(0))
    with pytest.raises(ValueError, match="mask has dtype"):
        inpaint.complete(lambda x, s: x, [1.0, 0.0], context, mask.int(), Streams(0))
    wrong = torch.ones(3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="does not broadcast"):
        inpaint.complete(lambda x, s: x, [1.0, 0.0], context, wrong, Streams(0))
    with pytest.raises(ValidationError, match="ancestral"):
        CompletionConfig(kind="dps", solver="heun")
    with pytest.raises(ValidationError, match="jump"):
        CompletionConfig(kind="repaint", n_steps=5, jump=5)
