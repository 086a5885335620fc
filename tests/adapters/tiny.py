"""Tiny random diffusers pipelines, made here: no weights are downloaded.

Also a network whose prediction is exact: the denoiser of a Gaussian mixture in latent space,
inside a real Stable Diffusion pipeline with a real scheduler.
"""

import json

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from assay.core.components import Gaussian
from assay.core.mixture import Mixture

LETTERS = "abcdefghijklmnopqrstuvwxyz<>/'.,;()-0123456789"
SIDE, CHANNELS = 8, 4  # of the latents


def tokenizer(folder):
    """A CLIP tokenizer over single letters, from files written here."""
    entries = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{c}</w>" for c in LETTERS)]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({entry: i for i, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    made = CLIPTokenizer(
        vocab=str(vocab), merges=str(folder / "merges.txt"), unk_token="<|endoftext|>"
    )
    made.model_max_length = 16
    return made


def text_config(size, **more):
    return CLIPTextConfig(
        vocab_size=2 * len(LETTERS) + 2, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
        pad_token_id=1, projection_dim=size, **more,
    )  # fmt: skip


def vae():
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(4, 4), in_channels=3, out_channels=3, latent_channels=CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2, sample_size=2 * SIDE,
    ).eval()  # fmt: skip


def unet(**more):
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, layers_per_block=1,
        block_out_channels=(4, 8), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=2,
        attention_head_dim=2, **{"cross_attention_dim": 8, **more},
    ).eval()  # fmt: skip


def ddim(**more):
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=True, steps_offset=1, **more,
    )  # fmt: skip


def stable_diffusion(folder, network=None, scheduler=None):
    torch.manual_seed(3)
    return StableDiffusionPipeline(
        vae=vae(), text_encoder=CLIPTextModel(text_config(8)).eval(),
        tokenizer=tokenizer(folder), unet=network or unet(), scheduler=scheduler or ddim(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def xl_parts(folder):
    """Components of Stable Diffusion XL: two text encoders, added conditions."""
    torch.manual_seed(4)
    one, two = text_config(8), text_config(8)
    network = unet(
        cross_attention_dim=16, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8, transformer_layers_per_block=(1, 1),
    )  # fmt: skip
    return {
        "vae": vae(), "text_encoder": CLIPTextModel(one).eval(),
        "text_encoder_2": CLIPTextModelWithProjection(two).eval(),
        "tokenizer": tokenizer(folder / "1"), "tokenizer_2": tokenizer(folder / "2"),
        "unet": network, "scheduler": EulerDiscreteScheduler(),
    }  # fmt: skip


def stable_diffusion_xl(folder):
    return StableDiffusionXLPipeline(**xl_parts(folder), add_watermarker=False)


def dit():
    torch.manual_seed(5)
    network = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=CHANNELS,
        out_channels=2 * CHANNELS, num_layers=1, sample_size=SIDE, patch_size=2,
        num_embeds_ada_norm=1000, norm_num_groups=2,
    ).eval()  # fmt: skip
    return DiTPipeline(network, vae(), ddim(), id2label={1: "white shark", 2: "tench, <b>"})


class Exact(torch.nn.Module):
    """The exact prediction for a mixture of two Gaussians in latent space, as a denoiser.

    Conditional: N(mean, sd^2) in each entry; unconditional: its even mixture with N(-mean, sd^2).
    ``scheduler`` says what noise level a timestep is, ``empty`` which condition is none.
    """

    def __init__(self, scheduler, mean=0.05, sd=0.6):
        super().__init__()
        dim = CHANNELS * SIDE * SIDE
        self.cond = Gaussian(np.full(dim, mean), sd**2)
        self.uncond = Mixture([1, 1], [self.cond, Gaussian(np.full(dim, -mean), sd**2)])
        self.scheduler, self.empty, self.nfe = scheduler, None, 0
        self.config = unet().config
        self.add_module("anchor", torch.nn.Linear(1, 1).double())
        kept = scheduler.alphas_cumprod.double()
        self.table = torch.sqrt((1 - kept) / kept).numpy()

    dtype, device = torch.float64, torch.device("cpu")

    def forward(
        self, sample, timestep, encoder_hidden_states, timestep_cond=None,
        cross_attention_kwargs=None, added_cond_kwargs=None, return_dict=True,
    ):  # fmt: skip
        self.nfe += len(sample)
        sigma = float(np.interp(float(timestep), np.arange(len(self.table)), self.table))
        a = 1 / np.hypot(1, sigma)
        flat = sample.reshape(len(sample), -1)
        none = torch.stack([(row == self.empty).all() for row in encoder_hidden_states])
        x = flat / a
        both = [law.denoise(x, sigma) for law in (self.uncond, self.cond)]
        denoised = torch.where(none[:, None], *both)
        eps = (flat - a * denoised) / (sigma * a)
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            eps = a * eps - sigma * a * denoised
        if kind == "sample":
            eps = denoised
        return (eps.reshape(sample.shape),)


def exact(folder, scheduler):
    """A Stable Diffusion pipeline in float64 whose network is :class:`Exact`."""
    pipe = stable_diffusion(folder, scheduler=scheduler).to(torch.float64)
    network = Exact(scheduler)
    network.empty = pipe.encode_prompt("", "cpu", 1, False)[0][0]
    pipe.unet = network
    return pipe


def modular_xl(folder, guider=None):
    """A modular Stable Diffusion XL pipeline; its guider is plain guidance unless given."""
    from diffusers.modular_pipelines.stable_diffusion_xl import StableDiffusionXLAutoBlocks

    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    pipe.update_components(**xl_parts(folder), force_zeros_for_empty_prompt=True)
    if guider is not None:
        pipe.update_components(guider=guider)
    return pipe


def stable_diffusion_3(folder):
    """A flow transformer: three text encoders, of which the third is left out."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    torch.manual_seed(6)
    network = SD3Transformer2DModel(
        sample_size=SIDE, patch_size=1, in_channels=CHANNELS, num_layers=1, attention_head_dim=4,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=8,
        pooled_projection_dim=16, out_channels=CHANNELS, pos_embed_max_size=SIDE,
    ).eval()  # fmt: skip
    encoders = [CLIPTextModelWithProjection(text_config(8)).eval() for _ in range(2)]
    return StableDiffusion3Pipeline(
        transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(), vae=flow_vae(),
        text_encoder=encoders[0], tokenizer=tokenizer(folder / "1"), text_encoder_2=encoders[1],
        tokenizer_2=tokenizer(folder / "2"), text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


def flow_vae():
    made = vae()
    made.register_to_config(shift_factor=0.0)
    return made


def flux(folder, guidance_embeds=False):
    """A flow transformer over packed latents, guided by true_cfg_scale through two calls."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(7)
    network = FluxTransformer2DModel(
        patch_size=1, in_channels=4 * CHANNELS, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=8,
        pooled_projection_dim=8, axes_dims_rope=(4, 4, 8), guidance_embeds=guidance_embeds,
    ).eval()  # fmt: skip
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    encoder = T5EncoderModel(T5Config(vocab_size=2 * len(LETTERS) + 2, **sizes)).eval()
    return FluxPipeline(
        transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(), vae=flow_vae(),
        text_encoder=CLIPTextModel(text_config(8)).eval(), tokenizer=tokenizer(folder / "1"),
        text_encoder_2=encoder, tokenizer_2=tokenizer(folder / "2"),
    )  # fmt: skip
