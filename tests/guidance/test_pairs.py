"""measure(): the same row for exact, numpy and torch denoisers, with and without support."""

import numpy as np
import pytest

from assay.guidance import targets
from assay.guidance.config import Simulation
from assay.guidance.pairs import measure

SMALL = Simulation(n=2000, steps=48)


def test_measure_linear_gaussians_have_their_closed_variance():
    row = measure(lambda x, s: x / (1 + s**2), lambda x, s: 2 * x / (2 + s**2), 3.0,
                  simulation=SMALL)  # fmt: skip
    # variance A (A/B)^w = 1/8; sd of an sd at n = 2000 is 1.6 %, five of them 8 %
    assert row["sd"] == pytest.approx(np.sqrt(0.125), rel=0.08)
    assert row["guidance_scale"] == 4
    assert row["off_support"] is None
    assert row["nfe"] == 2 * (2 * SMALL.steps + 2)


def test_measure_tells_the_artefact_from_the_support():
    t = targets.uniforms()
    row = measure(t.cond.denoise, t.uncond.denoise, w=15.0, support=(1, 2), simulation=SMALL)
    # stopped at sigma 0.002, 73 % are off the support; the final denoise puts them back
    # (exact flow; 48 steps of Heun add a few per cent)
    assert row["off_support"] == pytest.approx(0.73, abs=0.06)
    assert row["off_support_denoised"] == 0
    assert row["overshoot"] == pytest.approx(3.7882 - 2, abs=0.05)


def test_measure_takes_torch_denoisers_and_data():
    torch = pytest.importorskip("torch")

    def network(variance):
        return lambda x, s: x * variance / (variance + torch.as_tensor(s, dtype=x.dtype) ** 2)

    data = torch.randn(400, 2, 2, generator=torch.Generator().manual_seed(1))
    row = measure(network(1.0), network(2.0), w=1.0, data=data, simulation=SMALL)
    assert row["n_data"] == 400
    assert row["knn_distance"] > 0
    assert 0 <= row["coverage"] <= 1
    again = measure(network(1.0), network(2.0), w=1.0, data=data, simulation=SMALL)
    assert row == again


def test_measure_at_w_zero_is_the_conditional_and_costs_one_network():
    t = targets.gaussians(mean=[1.0, 0.0, 0.0])
    row = measure(t.cond.denoise, t.uncond.denoise, w=0.0, support=t.support, simulation=SMALL)
    assert row["mean"] == pytest.approx(1.0, abs=5 * row["mean_se"])
    assert row["nfe"] == 2 * SMALL.steps + 2
    # distances of two samples of one law: five times the scale n^-1/2
    assert row["w1_to_cond"] < 5 / np.sqrt(SMALL.n)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"w": float("nan")}, "not finite"),
        ({"support": (2, 1)}, "low < high"),
        ({"data": np.zeros(5)}, "must be"),
    ],
)
def test_measure_refuses(words, message):
    t = targets.gaussians()
    with pytest.raises(ValueError, match=message):
        measure(t.cond.denoise, t.uncond.denoise, **words)
