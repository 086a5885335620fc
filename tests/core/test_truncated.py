"""Truncated normal moments against mpmath, in the bulk and far in either tail."""

import mpmath as mp
import numpy as np
import pytest

from assay.core import truncated

CASES = [
    (-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0), (-1.9, 1.9), (-40.0, 2.0), (0.3, 0.3 + 1e-6),
    (5.0, 6.0), (9.9, 30.0), (10.1, 10.2), (12.0, 80.0), (50.0, 51.0), (50.0, 50.01),
    (200.0, 201.0), (-51.0, -50.0), (-6.0, -5.0), (-2.0, 70.0), (1e-9, 4.0), (-8.0, 8.0),
    (-60.0, 60.0), (2.0, 5.7), (1.9, 4.9), (-0.0125, 0.0), (3.0, 3.0125),
]  # fmt: skip


def _exact(a, b):
    with mp.workdps(60):
        a, b = mp.mpf(a), mp.mpf(b)
        root = mp.sqrt(2)
        half = lambda z: mp.erfc(z / root) / 2  # noqa: E731
        mass = half(a) - half(b) if a > 0 else half(-b) - half(-a)
        phi = lambda z: mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)  # noqa: E731
        mean = (phi(a) - phi(b)) / mass
        var = 1 + (a * phi(a) - b * phi(b)) / mass - mean**2
        return [float(v) for v in (mp.log(mass), mean - a, b - mean, mean, var)]


@pytest.mark.parametrize(("a", "b"), CASES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_moments_against_mpmath(a, b, backend):
    convert = np.asarray
    if backend == "torch":
        torch = pytest.importorskip("torch")
        convert = lambda z: torch.tensor(z, dtype=torch.float64)  # noqa: E731
    got = truncated.moments(convert([a]), convert([b]))
    expected = _exact(a, b)
    for name, value, want in zip(got._fields, got, expected, strict=True):
        scale = 1.0 if name == "mean" and abs(a + b) < 1e-12 else abs(want)
        # Distances and variance carry the rounding of b - a itself, no more.
        slack = 4e-12 + 4e-16 * max(abs(a), abs(b)) / (b - a)
        assert abs(float(value[0]) - want) <= slack * scale + 1e-300, name


def test_moments_infinite_edges_are_half_and_whole_normals():
    got = truncated.moments(np.array([-np.inf, 0.0, -np.inf, 20.0]),
                            np.array([np.inf, np.inf, 0.0, np.inf]))  # fmt: skip
    np.testing.assert_allclose(got.mean[:3], [0, np.sqrt(2 / np.pi), -np.sqrt(2 / np.pi)])
    np.testing.assert_allclose(got.var[:3], [1, 1 - 2 / np.pi, 1 - 2 / np.pi])
    np.testing.assert_allclose(got.log_mass[:3], [0, np.log(0.5), np.log(0.5)], atol=1e-15)
    np.testing.assert_allclose(got.to_low[3], _exact(20.0, 200.0)[1], rtol=1e-12)
    assert got.to_low[0] == np.inf
    assert got.to_high[1] == np.inf


def test_log_mass_gradient_is_the_truncated_score():
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.0, 1.0, 7.0, 60.0, -60.0, 1e3], dtype=torch.float64, requires_grad=True)
    total = truncated.log_mass(-1.0 - x, 1.0 - x, torch.full_like(x, 2.0)).sum()
    (grad,) = torch.autograd.grad(total, x)
    mean = truncated.moments(-1.0 - x.detach(), 1.0 - x.detach()).mean
    np.testing.assert_allclose(grad.numpy(), mean.numpy(), rtol=1e-9, atol=1e-14)
