"""Pipelines of every kind, made tiny: what their scale means, what is recorded or refused."""

import numpy as np
import pytest

pytest.importorskip("diffusers")

from assay.adapters import conventions, loading, pipelines
from assay.adapters.calls import Parts
from assay.adapters.levels import Level

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning"),
]
STEPS, SEEDS, W = 3, [0, 1], 2.5


def recorded(pipe, prompt="a cat", **options):
    """(convention, run at w = 0, run at W)."""
    subject = pipelines.subject(pipe, {"num_inference_steps": STEPS, **options})
    convention, halves = conventions.how_it_guides(subject, prompt, SEEDS)
    runs = [subject.record(prompt, convention.setting(w), SEEDS, halves) for w in (0.0, W)]
    return convention, *runs


def agrees(convention, zero, guided, rough=2e-3):
    """What must hold for every pipeline that guides plainly."""
    assert convention.measured
    assert zero.nfe == STEPS
    assert guided.nfe == 2 * STEPS
    assert guided.scale == pytest.approx(1 + W, abs=rough)
    # both start from the same noise, so the added unconditional call is the pipeline's own
    assert zero.ou[0] == pytest.approx(guided.ou[0], abs=1e-6)
    assert zero.uncond[0] == pytest.approx(guided.uncond[0], rel=1e-4, abs=1e-4)
    assert zero.cond[0] == pytest.approx(guided.cond[0], rel=1e-4, abs=1e-4)
    assert np.abs(zero.uncond - zero.cond).max() > 0
    assert guided.decoded.shape == (len(SEEDS), 3, 16, 16)


def test_stable_diffusion_is_recorded(tiny, words):
    convention, *runs = recorded(tiny.stable_diffusion(words))
    assert convention.offset == 0
    agrees(convention, *runs)


def test_dit_is_recorded_with_its_learned_variance_left_out(tiny):
    """Conditional first, twice the channels, the scheduler given a doubled batch."""
    convention, *runs = recorded(tiny.dit(), "white shark")
    agrees(convention, *runs)
    assert runs[1].final.shape == (len(SEEDS), 4, 8, 8)


@pytest.mark.slow
def test_stable_diffusion_xl_is_recorded(tiny, words):
    agrees(*recorded(tiny.stable_diffusion_xl(words)))


@pytest.mark.slow
def test_flow_transformer_is_recorded_from_pure_noise(tiny, words):
    convention, zero, guided = recorded(tiny.stable_diffusion_3(words))
    agrees(convention, zero, guided)
    assert np.isinf(guided.sigma[0])
    assert np.isfinite(guided.guided).all()


@pytest.mark.slow
def test_flux_is_recorded_by_its_two_calls(tiny, words):
    """Guided by true_cfg_scale, conditional first, latents packed; with embeddings, refused."""
    options = {"max_sequence_length": 16, "height": 16, "width": 16}
    convention, zero, guided = recorded(tiny.flux(words), **options)
    agrees(convention, zero, guided)
    assert guided.ou.shape[2:] == (16, 16)
    with pytest.raises(ValueError, match="FluxPipeline has a distilled guidance embedding"):
        pipelines.subject(tiny.flux(words, guidance_embeds=True))


@pytest.mark.slow
@pytest.mark.parametrize(("original", "offset"), [(False, 0.0), (True, 1.0)])
def test_modular_pipelines_say_what_their_guider_means(tiny, words, original, offset):
    from diffusers.guiders import ClassifierFreeGuidance

    guider = ClassifierFreeGuidance(guidance_scale=5.0, use_original_formulation=original)
    pipe = tiny.modular_xl(words, guider)
    convention, *runs = recorded(pipe)
    assert convention.offset == offset
    agrees(convention, *runs)
    assert pipe.guider.guidance_scale == 5.0


@pytest.mark.slow
def test_law_guider_does_what_a_law_says_inside_a_modular_pipeline(tiny, words):
    """The constant law is plain guidance; another law sees the recorded x, sigma, predictions."""
    from assay.adapters.guider import LawGuidance
    from assay.guidance import laws

    pipe = tiny.modular_xl(words)
    _, _, plain = recorded(pipe)
    asked = []

    def law(x, sigma, d_cond, d_uncond, memory):
        asked.append((x.numpy().copy(), sigma, d_cond.numpy().copy(), memory))
        return d_cond + W * (d_cond - d_uncond), (memory or 0) + 1

    import torch

    for given in (W, law):
        pipe.update_components(guider=LawGuidance(given, pipe.scheduler))
        draws = [torch.Generator().manual_seed(s) for s in SEEDS]
        state = pipe(prompt=["a cat"] * 2, generator=draws, num_inference_steps=STEPS,
                     output_type="pt")  # fmt: skip
        shown = (np.clip(plain.decoded, -1, 1) + 1) / 2
        assert state.get("images").numpy() == pytest.approx(shown, abs=1e-4)
    for name in ("interval", "apg", "rescale", "thrifty"):
        pipe.update_components(guider=LawGuidance(laws.build(name, W), pipe.scheduler))
        draws = [torch.Generator().manual_seed(s) for s in SEEDS]
        state = pipe(prompt=["a cat"] * 2, generator=draws, num_inference_steps=STEPS,
                     output_type="pt")  # fmt: skip
        assert np.isfinite(state.get("images").numpy()).all(), name
    assert [memory for *_, memory in asked] == [None, 1, 2]
    for (x, sigma, cond, _), level, ou, d in zip(asked, plain.level, plain.ou, plain.cond,
                                                 strict=True):  # fmt: skip
        assert sigma == level.sigma
        assert x / np.hypot(1, sigma) == pytest.approx(ou, abs=1e-3)
        assert cond == pytest.approx(d, rel=1e-3, abs=2e-2)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_predictions_and_denoised_values_are_inverses(kind):
    """Against the definitions of the predictions for known x0 and noise."""
    rng = np.random.default_rng(0)
    x0, noise = rng.standard_normal((2, 5, 3))
    t = 0.3
    a, b = (1 - t, t) if kind == "flow" else (1 / np.hypot(1, 0.8), 0.8 / np.hypot(1, 0.8))
    level = Level(b / a, a, b, kind)
    seen = a * x0 + b * noise
    meant = {"epsilon": noise, "v_prediction": a * noise - b * x0, "sample": x0,
             "flow": noise - x0}[kind]  # fmt: skip
    assert level.denoised(seen, meant) == pytest.approx(x0)
    assert level.predicted(seen, x0) == pytest.approx(meant)
    assert level.x(seen) == pytest.approx(x0 + b / a * noise)
    # an error e of the prediction, as one of eps = (x - D) / sigma
    moved = level.denoised(seen, meant + 1e-6)
    change = (level.denoised(seen, meant) - moved) / (b / a) / 1e-6
    assert np.abs(change) == pytest.approx(np.full_like(change, level.eps_per_prediction))


# ---- what is refused ---------------------------------------------------------------------------


class Config(dict):
    __getattr__ = dict.get


def fake(**parts):
    """A pipeline of nothing but the parts that are looked at."""
    import torch

    class Pipe:
        def __call__(self, prompt, guidance_scale=5.0, num_inference_steps=50): ...

    pipe = Pipe()
    pipe.unet = torch.nn.Linear(1, 1)
    pipe.unet.config = Config()
    pipe.scheduler = Parts(None, None)
    for name, value in parts.items():
        setattr(pipe, name, value)
    return pipe


def test_pipeline_without_hookable_denoiser_is_refused():
    with pytest.raises(ValueError, match="no denoiser that can be hooked"):
        pipelines.subject(fake(unet="weights on a server"))


@pytest.mark.parametrize("entry", [{"guidance_embeds": True}, {"time_cond_proj_dim": 256}])
def test_distilled_guidance_is_refused(tiny, words, entry):
    pipe = fake(scheduler=tiny.ddim())
    pipe.unet.config = Config(entry)
    with pytest.raises(ValueError, match="distilled guidance embedding"):
        pipelines.subject(pipe)


def test_pipeline_without_guidance_is_refused(tiny):
    from diffusers import DDPMPipeline, UNet2DModel

    network = UNet2DModel(
        sample_size=8, block_out_channels=(8,), norm_num_groups=2, layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    with pytest.raises(ValueError, match="has no guidance"):
        pipelines.subject(DDPMPipeline(network, tiny.ddim()))


def test_scale_without_effect_is_no_guidance(tiny, words, monkeypatch):
    """A pipeline that takes a scale and never uses it."""
    pipe = tiny.stable_diffusion(words)
    monkeypatch.setattr(type(pipe), "do_classifier_free_guidance", False)
    subject = pipelines.subject(pipe, {"num_inference_steps": 1})
    with pytest.raises(ValueError, match="no step uses an unconditional prediction"):
        conventions.how_it_guides(subject, "a cat", [0])


def test_schedulers_of_another_kind_are_refused(tiny, words):
    from diffusers import EDMEulerScheduler

    pipe = tiny.stable_diffusion(words)
    pipe.scheduler = EDMEulerScheduler()
    with pytest.raises(ValueError, match="EDMEulerScheduler scales its network"):
        pipelines.subject(pipe)
    with pytest.raises(ValueError, match="does not take colour"):
        pipelines.subject(tiny.stable_diffusion(words), {"colour": "red"})


def test_classes_are_numbers_or_names(tiny):
    pipe = tiny.dit()
    assert pipelines.label_of(pipe, "7") == 7
    assert pipelines.label_of(pipe, "white shark") == 1
    for unknown in ("1000", "-1", "a <b>cat</b>"):
        with pytest.raises(ValueError, match="is unknown to DiTPipeline"):
            pipelines.label_of(pipe, unknown)


def test_pipelines_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no diffusers pipeline"):
        loading.load(str(tmp_path))
    with pytest.raises(ValueError, match="run 'hf download nobody/nothing' first"):
        loading.load("nobody/nothing")
    with pytest.raises(ValueError, match="neither a folder nor an id"):
        loading.load("./nothing")
    with pytest.raises(ValueError, match="dtype 'int8' is unknown"):
        loading.load(str(tmp_path), dtype="int8")
    (tmp_path / "model_index.json").write_text("{not json")
    with pytest.raises(ValueError, match="cannot load this pipeline"):
        loading.load(str(tmp_path), "cpu")


@pytest.mark.slow
def test_saved_pipelines_are_loaded_as_they_were(tiny, words, tmp_path):
    pipe = tiny.stable_diffusion(words)
    pipe.save_pretrained(tmp_path / "sd")
    again = loading.load(str(tmp_path / "sd"), "cpu")
    assert loading.fingerprint(again.unet) == loading.fingerprint(pipe.unet)
