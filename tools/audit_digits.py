"""An audit of a pipeline whose network has learned real digits, beside held-out images of them.

    python tools/audit_digits.py --out out/audit-digits

diffusers' own DiTPipeline and scheduler around the shipped denoiser of 8x8 digits: its class
labels are the digits, its "VAE" hands pixels on. The audit sees a pipeline like any other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from assay.guidance.auditing.audit import Audit, audit
from assay.guidance.auditing.config import settings
from assay.guidance.images import data as image_data
from assay.guidance.images import models as image_models
from assay.report import pages

NULL = 1000  # DiTPipeline's class of none
FIRST = 100  # seed; the limits were looked at with seeds below it
W = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)


class Pixels(torch.nn.Module):
    """A decoder that hands its latents on."""

    config = SimpleNamespace(scaling_factor=1.0)
    dtype, device = torch.float32, torch.device("cpu")

    def decode(self, latents: torch.Tensor) -> Any:
        return SimpleNamespace(sample=latents)


class Network(torch.nn.Module):
    """The learned denoiser as a network that predicts eps of variance-preserving latents."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, model: image_models.ImageModel, kept: torch.Tensor):
        super().__init__()
        self.model, self.kept = model, kept
        side = model.shape[0]
        self.config = _Config(
            sample_size=side, in_channels=1, out_channels=1, num_embeds_ada_norm=10
        )

    def forward(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor
    ) -> Any:
        kept = self.kept[timestep.long()].reshape(-1, 1, 1, 1)
        x, sigma = hidden_states / kept.sqrt(), ((1 - kept) / kept).sqrt()
        label = torch.where(class_labels == NULL, 0, class_labels + 1)
        denoised = image_models.Denoise(self.model.family, label)(x, sigma.ravel())
        return SimpleNamespace(sample=(x - denoised) / sigma)


class _Config(dict):
    __getattr__ = dict.__getitem__


def pipeline() -> DiTPipeline:
    """The pipeline, under DDIM with Stable Diffusion's noise levels (0.03 to 14.6)."""
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        timestep_spacing="trailing",
    )  # fmt: skip
    pipe = DiTPipeline.__new__(DiTPipeline)
    super(DiTPipeline, pipe).__init__()
    network = Network(image_models.load("digits8"), scheduler.alphas_cumprod)
    pipe.register_modules(transformer=network, vae=Pixels(), scheduler=scheduler)
    pipe.labels = {}
    return pipe


def held_out(folder: Path) -> Path:
    """Images that no training saw, as PNG files."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(image_data.load("digits8").heldout.x):
        grey = np.rint((np.clip(image.reshape(8, 8), -1, 1) + 1) * 127.5).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{i:04d}.png")
    return folder


def run(out: Path | None, digits: int = 10, seeds: int = 4, steps: int = 15, w: Any = W) -> Audit:
    """The audit of so many digits; off_support is beside held-out images of all digits."""
    asked = settings({"steps": steps, "seeds": list(range(FIRST, FIRST + seeds))})
    names = [str(d) for d in range(digits)]
    with tempfile.TemporaryDirectory() as folder:
        real = held_out(Path(folder) / "held-out-digits")
        return audit(pipeline(), names, w, settings=asked, images=real, out=out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    found = run(given.out, seeds=given.seeds)
    names = ("w", "guidance_scale", "off_support", "diversity", "range_error", "overshoot",
             "monotone_means", "amplification", "nfe", "n")  # fmt: skip
    print(" | ".join(names))
    for row in found.of("weight"):
        print(" | ".join(f"{row[name]:.3g}" for name in names))
    print(found.recommendation["reason"])
    print(found.recommendation["warnings"], found.recommendation["monotone_rule_w"])
    print(pages.write_report(given.out))


if __name__ == "__main__":
    main()
