"""Feynman-Kac correctors reach the tilted law; the plain guided SDE and ODE do not.

Errors come from 20 independent islands, so a value 4 standard errors off has, with Student's t on
19 degrees of freedom, probability 8e-4 under the law claimed.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from assay.guidance import correctors, targets


def _grid(n_steps, high=10.0, low=0.02):
    return np.linspace(high ** (1 / 7), low ** (1 / 7), n_steps + 1) ** 7


def _tilted(w):
    """Mean, sd and ln Z of p(x|z)^(1+w) p(x)^(-w) on 1/2 N(1,1) + 1/2 N(-1,1), by quadrature."""

    def moment(k):
        def density(x):
            odds = np.logaddexp(0, -2 * x) - np.log(2)
            return x**k * np.exp(-((x - 1) ** 2) / 2 - w * odds) / np.sqrt(2 * np.pi)

        return integrate.quad(density, -15, 20, epsabs=1e-13, limit=400)[0]

    norm, first, second = (moment(k) for k in range(3))
    return first / norm, np.sqrt(second / norm - (first / norm) ** 2), np.log(norm)


def _exact_start(target):
    return correctors.Correction(log_probs=(target.cond.log_prob, target.uncond.log_prob))


def _along(direction):
    """Weighted mean, sd of the class coordinate, largest |mean| of the other ones."""

    def statistic(x, weights):
        share = weights / weights.sum()
        line = x @ direction
        mean = share @ line
        return np.array([mean, np.sqrt(share @ (line - mean) ** 2)])

    return statistic


@pytest.mark.parametrize("dim", [1, 8])
@pytest.mark.parametrize("w", [1, 3, 7])
def test_correctors_reach_the_tilted_moments_that_the_guided_sde_misses(dim, w):
    rng = np.random.default_rng(100 * dim + w)
    direction = np.arange(1.0, dim + 1) / np.linalg.norm(np.arange(1.0, dim + 1))
    target = targets.gaussians(mean=direction if dim > 1 else 1.0)
    mean, sd, log_norm = _tilted(w)
    pair = target.cond.denoise, target.uncond.denoise
    noise = rng.standard_normal((5000, dim))
    found = correctors.feynman_kac(*pair, w, noise, _grid(200), rng, _exact_start(target))
    value, error = found.estimate(_along(direction))
    np.testing.assert_array_less(error, [0.04, 0.03])
    np.testing.assert_array_less(np.abs(value - [mean, sd]), 4 * error)
    norm, norm_error = found.log_norm()
    assert norm_error < 0.06
    assert abs(norm - log_norm) < 4 * norm_error
    across, across_error = found.mean()
    nuisance = across - (across @ direction) * direction
    np.testing.assert_array_less(np.abs(nuisance), 5 * across_error + 1e-12)

    plain = correctors.guided_sde(*pair, w, noise[:4000], _grid(100), rng)
    value, error = plain.estimate(_along(direction))
    assert abs(value[0] - mean) > 8 * error[0]


def test_tilted_mean_of_the_quadrature_is_the_frozen_one():
    expected = {1: 1.2899892717, 3: 1.5394758197, 7: 1.7701026954}
    for w, mean in expected.items():
        assert _tilted(w)[0] == pytest.approx(mean, abs=1e-9)


def _wide(variance):
    return lambda x, sigma: x * variance / (variance + sigma**2)


@pytest.mark.parametrize("noise_scale", [0.5, 1.0, 2.0])
def test_correctors_of_two_zero_mean_gaussians_need_the_same_weights_at_any_noise(noise_scale):
    # Variances 1 and 2 at w = 1: tilted precision 2 - 1/2, Z = sqrt(2) / sqrt(3/2).
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((40_000, 1))
    correction = correctors.Correction(noise_scale=noise_scale)
    found = correctors.feynman_kac(_wide(1), _wide(2), 1, noise, _grid(300, 80), rng, correction)
    value, error = found.sd()
    assert error < 0.01
    assert abs(value - np.sqrt(2 / 3)) < 4 * error
    norm, norm_error = found.log_norm()
    assert norm_error < 0.01
    assert abs(norm - np.log(2 / 3**0.5)) < 4 * norm_error


def test_guided_ode_and_sde_of_two_zero_mean_gaussians_have_their_own_variances():
    # Closed forms at w = 1: ODE A(A/B)^w = 1/2, SDE 7/12; neither is the tilted 2/3.
    rng = np.random.default_rng(8)
    noise = rng.standard_normal((20_000, 1))
    sde = correctors.guided_sde(_wide(1), _wide(2), 1, noise, _grid(200, 80), rng)
    value, error = sde.sd()
    assert error < 0.008
    assert abs(value - np.sqrt(7 / 12)) < 4 * error
    ode = correctors.guided_ode(_wide(1), _wide(2), 1, noise, _grid(400, 80, 0.002), rng)
    ratio = (ode.x - ode.x.mean()) / (noise - noise.mean())
    np.testing.assert_allclose(ratio, np.sqrt(0.5), rtol=3e-4)
    assert (ode.log_weights == 0).all()
    assert (sde.ess == 1).all()


def test_guided_ode_follows_the_closed_form_map_with_order_two():
    # Mirrored unit Gaussians: dg/dalpha = 1 + w (1 - tanh(alpha g)), g(0) = u, x = g(1).
    target, w = targets.gaussians(), 3
    u = special.ndtri((np.arange(20) + 0.5) / 20)
    path = integrate.solve_ivp(
        lambda a, g: 1 + w * (1 - np.tanh(a * g)), (0, 1), u, rtol=1e-11, atol=1e-12
    )
    misses = []
    for n_steps in (100, 200, 400):
        found = correctors.guided_ode(
            target.cond.denoise,
            target.uncond.denoise,
            w,
            u[:, None],
            _grid(n_steps, 200, 2e-5),
            np.random.default_rng(0),
        )
        misses.append(np.abs(found.x[:, 0] - path.y[:, -1]).max())
    assert misses[-1] < 2e-3
    slopes = np.log2(np.array(misses[:-1]) / misses[1:])
    np.testing.assert_allclose(slopes, 2, atol=0.25)


def test_correctors_steps_have_weak_order_two():
    # The SDE at w = 0 on N(0, 1): sds of 250,000 draws have se 0.0014, the slope then 0.19; the
    # exact recursion of the variance has slopes 1.75, 1.86, 1.87 from 20 steps on.
    sde, misses = correctors.Correction(noise_scale=1.0), []
    for n_steps in (20, 40):
        rng = np.random.default_rng(9)
        noise = rng.standard_normal((250_000, 1))
        found = correctors.feynman_kac(_wide(1), _wide(1), 0, noise, _grid(n_steps), rng, sde)
        misses.append(1 - found.sd()[0][0])
    assert misses[1] > 5 * 0.0014
    assert np.log2(misses[0] / misses[1]) == pytest.approx(1.8, abs=0.75)


def test_correctors_without_a_tilt_need_no_weights():
    target = targets.gaussians(prior=0.3)
    pair = target.cond.denoise, target.uncond.denoise
    for w, mean in ((0, 1.0), (-1, -0.4)):
        rng = np.random.default_rng(11)
        found = correctors.feynman_kac(*pair, w, rng.standard_normal((4000, 1)), _grid(100), rng)
        value, error = found.mean()
        assert abs(value[0] - mean) < 4 * error[0]
        np.testing.assert_array_equal(found.log_weights, 0.0)
        assert not found.resampled.any()
        assert found.nfe == 402


def test_correctors_start_exactly_at_a_small_sigma_max_given_log_densities():
    # At sigma_max = 1 the tilted noisy law is far from Gaussian. Noise mends the particles of a
    # wrong start on their way down, never the weight it began with.
    target = targets.gaussians()
    pair = target.cond.denoise, target.uncond.denoise
    mean, sd, log_norm = _tilted(3)
    rng = np.random.default_rng(12)
    noise = rng.standard_normal((6000, 1))
    given = correctors.feynman_kac(*pair, 3, noise, _grid(100, 1.0), rng, _exact_start(target))
    value, error = given.estimate(_along(np.ones(1)))
    np.testing.assert_array_less(np.abs(value - [mean, sd]), 4 * error)
    norm, norm_error = given.log_norm()
    assert abs(norm - log_norm) < 4 * norm_error
    unknown = correctors.feynman_kac(*pair, 3, noise, _grid(100, 1.0), rng)
    assert abs(unknown.log_norm()[0] - log_norm) > 6 * norm_error


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_resampling_is_systematic_and_keeps_each_islands_mean_weight(seed, size):
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(0, 3, size=(3, size)) + 1000
    hit = np.array([True, False, True])
    chosen, kept = correctors._resample(log_weights, hit, rng)
    chosen = chosen.reshape(3, size)
    np.testing.assert_array_equal(chosen[1], np.arange(size, 2 * size))
    np.testing.assert_array_equal(kept[1], log_weights[1])
    for i in (0, 2):
        counts = np.bincount(chosen[i] - i * size, minlength=size)
        weights = np.exp(log_weights[i] - 1000)
        expected = size * weights / weights.sum()
        assert (np.abs(counts - expected) < 1 + 1e-9).all()
        np.testing.assert_allclose(np.exp(kept[i] - 1000), weights.mean())


def test_correctors_take_torch_pairs_of_any_sample_shape():
    shape = (2, 3)
    noise = np.random.default_rng(13).standard_normal((400, *shape))
    args = _wide(1), _wide(2), 1
    ours = correctors.guided_ode(*args, noise, _grid(30), np.random.default_rng(0))
    theirs = correctors.guided_ode(*args, torch.tensor(noise), _grid(30), torch.Generator())
    np.testing.assert_allclose(theirs.x.numpy(), ours.x, rtol=1e-10)
    rng = torch.Generator().manual_seed(3)
    draws = torch.randn((4000, *shape), generator=rng)
    often = correctors.Correction(resample_below=0.95)
    found = correctors.feynman_kac(*args, draws, _grid(100), rng, often)
    assert found.x.dtype == torch.float32
    assert found.x.shape == (4000, *shape)
    assert found.resampled.any()
    value, error = found.sd()
    np.testing.assert_array_less(np.abs(value - np.sqrt(2 / 3)), 5 * error + 0.01)
    assert found.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": np.nan}, "w must be finite"),
        ({"sigmas": [1.0]}, "sigmas must"),
        ({"sigmas": [1.0, 0.0]}, "sigmas must"),
        ({"sigmas": [1.0, 2.0]}, "sigmas must"),
        ({"sigmas": [np.inf, 2.0]}, "sigmas must"),
        ({"noise": np.zeros((30, 1))}, "islands"),
        ({"noise": np.zeros(40)}, "islands"),
        ({"correction": correctors.Correction(islands=1)}, "islands"),
        ({"correction": correctors.Correction(noise_scale=-1)}, "noise_scale"),
    ],
)
def test_correctors_refuse_bad_input_by_name(change, message):
    good = {
        "cond": _wide(1),
        "uncond": _wide(2),
        "w": 1.0,
        "noise": np.zeros((40, 1)),
        "sigmas": [2.0, 1.0],
        "rng": np.random.default_rng(0),
    }
    with pytest.raises(ValueError, match=message):
        correctors.feynman_kac(**(good | change))


@pytest.mark.slow
def test_correctors_errors_are_honest_over_repetitions():
    # 25 runs: the standardised misses of mean and sd have sd near 1 (t on 19 degrees: 1.06; the
    # sd of 25 has se 0.15) and their mean lies within 4/sqrt(25) of 0: no bias beyond 0.8 se.
    target = targets.gaussians()
    mean, sd, _ = _tilted(7)
    scores = []
    for seed in range(25):
        rng = np.random.default_rng(500 + seed)
        found = correctors.feynman_kac(
            target.cond.denoise,
            target.uncond.denoise,
            7,
            rng.standard_normal((10_000, 1)),
            _grid(300),
            rng,
            _exact_start(target),
        )
        value, error = found.estimate(_along(np.ones(1)))
        scores.append((value - [mean, sd]) / error)
    assert (np.abs(np.mean(scores, axis=0)) < 0.8).all()
    assert (np.std(scores, axis=0) < 1.06 + 4 * 0.15).all()


@pytest.mark.slow
def test_correctors_reach_the_conditional_on_hard_edges():
    # U[1,2] against U[-2,-1]: the tilted law is the conditional for every w, ln Z = w ln 2.
    target = targets.uniforms()
    rng = np.random.default_rng(17)
    found = correctors.feynman_kac(
        target.cond.denoise,
        target.uncond.denoise,
        3,
        rng.standard_normal((6000, 1)),
        _grid(800, 10, 0.005),
        rng,
        _exact_start(target),
    )
    value, error = found.estimate(_along(np.ones(1)))
    np.testing.assert_array_less(np.abs(value - [1.5, 12**-0.5]), 4 * error)
    norm, norm_error = found.log_norm()
    assert abs(norm - 3 * np.log(2)) < 4 * norm_error
