"""What is recorded of a pipeline, against exact denoisers inside it."""

import numpy as np
import pytest

pytest.importorskip("diffusers")

import itertools

from assay.adapters import conventions, pipelines
from assay.adapters.recording import Recorder
from assay.adapters.trajectory import Errors

# diffusers reads its own tables through numpy in a way that numpy deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS, SEEDS = 5, [3, 8]
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # "scaled_linear"
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpm": ("DPMSolverMultistepScheduler", {}),
    "v": ("DDIMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}),
    "euler v": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm sample": ("DPMSolverMultistepScheduler", {"prediction_type": "sample"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "ancestral": ("EulerAncestralDiscreteScheduler", {}),
}
FAST = {"ddim", "euler", "dpm", "v"}


def scheduler(name):
    import diffusers

    kind, more = SCHEDULERS[name]
    usual = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return getattr(diffusers, kind)(**usual, steps_offset=1, **more)


def recorded(pipe, w, errors=None):
    subject = pipelines.subject(pipe, {"num_inference_steps": STEPS})
    convention, halves = conventions.how_it_guides(subject, "a cat", SEEDS)
    assert convention.offset == 0
    assert convention.measured
    return subject.record("a cat", convention.setting(w), SEEDS, halves, errors)


def exactly(law, seen):
    """The law's denoised values at the recorded latents."""
    x = seen.ou * np.sqrt(1 + seen.sigma**2).reshape(-1, 1, 1, 1, 1)
    pairs = zip(x, seen.sigma, strict=True)
    return np.stack([law.denoise(z.reshape(len(z), -1), s).reshape(z.shape) for z, s in pairs])


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in SCHEDULERS]
)
@pytest.mark.parametrize("w", [0.0, 2.5])
def test_recorded_predictions_are_the_exact_denoisers(tiny, words, name, w):
    pipe = tiny.exact(words, scheduler(name))
    seen = recorded(pipe, w)
    rough = 1e-6  # tables of sigmas are float32
    assert np.abs(seen.cond - exactly(pipe.unet.cond, seen)).max() < rough
    assert np.abs(seen.uncond - exactly(pipe.unet.uncond, seen)).max() < rough
    guided = (1 + w) * seen.cond - w * seen.uncond
    assert np.abs(seen.guided - guided).max() < rough
    assert np.abs(seen.cond - seen.uncond).max() > 1e-3, "nothing to guide by"


def test_recorded_sigmas_are_those_of_the_betas(tiny, words):
    made = scheduler("ddim")
    seen = recorded(tiny.exact(words, made), 1.0)
    kept = np.cumprod(1 - BETAS)[made.timesteps.numpy()]
    assert seen.sigma == pytest.approx(np.sqrt((1 - kept) / kept), rel=1e-5)


def test_recording_solves_for_the_weight_that_was_used(tiny, words):
    for name in ("ddim", "euler"):
        seen = recorded(tiny.exact(words, scheduler(name)), 2.5)
        assert seen.scale == pytest.approx(3.5, abs=1e-9)
        assert seen.residual.max() < 1e-12
        assert seen.nfe == 2 * STEPS


def test_recording_ends_where_ddim_says(tiny, words):
    """The last step to sigma 0 is the final denoise; the pipeline is left as it was."""
    pipe = tiny.exact(words, tiny.ddim())
    seen = recorded(pipe, 2.5)
    assert seen.final == pytest.approx(seen.guided[-1], abs=1e-6)
    assert "step" not in vars(pipe.scheduler)
    assert "decode" not in vars(pipe.vae)
    assert not pipe.unet._forward_hooks


def test_missing_unconditional_call_is_made_and_not_counted(tiny, words):
    pipe = tiny.exact(words, tiny.ddim())
    subject = pipelines.subject(pipe, {"num_inference_steps": STEPS})
    convention, halves = conventions.how_it_guides(subject, "a cat", SEEDS)
    pipe.unet.nfe = 0
    seen = subject.record("a cat", convention.setting(0.0), SEEDS, halves)
    assert seen.nfe == STEPS
    assert pipe.unet.nfe == 2 * STEPS * len(SEEDS)
    plain = subject.ask("a cat", convention.setting(0.0), SEEDS)
    again = subject.record("a cat", convention.setting(0.0), SEEDS, halves).output
    assert np.array_equal(plain.images.numpy(), again.images.numpy())


def test_planted_errors_displace_a_linear_denoiser_as_calculated(tiny, words):
    """With one Gaussian for both classes DDIM is linear: displacement has a closed form.

    A constant error e of eps moves D by -sigma e, and x at sigma' by (sigma' - sigma) times the
    error of the slope; with D = s^2 x / (s^2 + sigma^2), slope = x sigma / (s^2 + sigma^2) + e.
    """
    pipe = tiny.exact(words, tiny.ddim())
    pipe.unet.uncond = pipe.unet.cond  # guidance has nothing to add, its errors have
    w, size = 2.0, 1e-3
    subject = pipelines.subject(pipe, {"num_inference_steps": STEPS})
    halves = conventions.how_it_guides(subject, "a cat", SEEDS)[1]
    plain = subject.record("a cat", 1 + w, SEEDS, halves)
    errors = Errors(size, tuple(SEEDS))
    moved = subject.record("a cat", 1 + w, SEEDS, halves, errors)
    cond, uncond = (e.numpy() for e in errors.draw(plain.final.shape[1:]))
    error, total = (1 + w) * cond - w * uncond, 0.0
    levels = [*plain.sigma, 0.0]
    for sigma, ahead in itertools.pairwise(levels):
        total += (ahead - sigma) * (total * sigma / (0.36 + sigma**2) + 1)
    assert moved.final - plain.final == pytest.approx(total * error, abs=1e-7)


def test_predictions_of_two_calls_are_told_apart():
    """k = 1 + w where the first is unconditional, -w where it is conditional."""
    import torch

    from assay.adapters.recording import _fit

    rng = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 3, 4, generator=rng, dtype=torch.float64)
    used = 4 * cond - 3 * uncond
    assert _fit(uncond, cond, used) == pytest.approx((4.0, 0.0), abs=1e-12)
    assert _fit(cond, uncond, used) == pytest.approx((-3.0, 0.0), abs=1e-12)
    k, _ = _fit(cond, cond, cond)
    assert np.isnan(k)


def test_guidance_with_three_predictions_is_refused(tiny, words):
    pipe = tiny.exact(words, tiny.ddim())
    subject = pipelines.subject(pipe, {"num_inference_steps": STEPS})
    with pytest.raises(ValueError, match="one conditional and one unconditional"), \
            Recorder(subject.parts, 1):  # fmt: skip
        subject.ask("a cat", 4.0, [1, 2, 3])
