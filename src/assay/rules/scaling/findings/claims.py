"""What is claimed, what it takes to test it, and what was published.

Published figures: Wang, Shang and Sompolinsky 2024 (arXiv 2411.07873) and the authors' later runs,
forty rules, split 0; completion over all forty rules unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A claim; it takes ``needs`` to test it."""

    title: str
    needs: str
    published: str


CLAIMS = {
    "collapse": Claim(
        "Diffusion collapses at small data",
        "a model by diffusion at two or more amounts of data (examples/diffusion.toml)",
        "C3 at 400 and 40,000 a rule: EDM x2 0.020 and 0.532, DiT-S 0.004 and 0.602, "
        "SiT-S 0.015 and 0.766",
    ),
    "stopping": Claim(
        "Early stopping avoids the collapse",
        "a model by diffusion that collapses, with probes (examples/diffusion.toml)",
        "not tried: a million steps, 4,600 epochs, at 400 a rule",
    ),
    "stable": Claim(
        "Autoregressive completion is stable from little data",
        "an autoregressive model at two or more amounts of data",
        "GPT2-S completes 0.105, 0.638, 0.733 and 0.773 at 400, 4,000, 40,000 and 400,000 a rule",
    ),
    "heads": Claim(
        "C3 falls with data with separate heads, not with a joint one",
        "autoregressive models of all attributes, with separate and joint heads, at two or more "
        "amounts of data (examples/heads-rule.toml)",
        "GPT2-S, C3 at 400, 4,000, 40,000 and 400,000 a rule: 0.360, 0.143, 0.087 and 0.040 with "
        "separate heads, 0.991, 0.410, 0.953 and 0.963 with a joint one",
    ),
    "half-empty": Claim(
        "Half-empty cells are why separate heads draw few samples with a rule",
        "checkpoints of autoregressive models of all attributes, with separate and joint heads "
        "(examples/heads-rule.toml)",
        "not measured",
    ),
    "correlation": Claim(
        "Rules that are completed better are drawn more often",
        "five or more trained rules, and the jobs' evaluations",
        "Pearson 0.84 over rules (DiT-S, completion by Twisted Diffusion Sampler)",
    ),
    "memorisation": Claim(
        "Copies beyond nature are made from little data and not from much",
        "the protocol copies at two or more amounts of data",
        "at 400 a rule SiT-B copies 0.093 of samples, 0.145 of rows and 0.228 of panels (natural "
        "overlap of panels 0.124); none beyond nature from 4,000 on",
    ),
    "held-out": Claim(
        "Held-out rules are completed no better than by chance",
        "a rule set with held-out rules",
        "0.040 by GPT2-M with a joint head, 0.148 by Twisted Diffusion Sampler on DiT-S; chance "
        "0.07",
    ),
    "weights": Claim(
        "Averaged weights (EMA) draw more samples with a rule than raw ones",
        "checkpoints of a model trained with EMA",
        "DiT-S at 4,000 a rule: C3 0.585 raw, 0.64 EMA",
    ),
    "clip": Claim(
        "Clipping denoised values costs completion",
        "a checkpoint of a model by diffusion of all attributes (examples/clip.toml)",
        "DiT-S by replacement, clipped to [-1, 1]: 0.26, trained rules' ceiling 0.636",
    ),
    "samplers": Claim(
        "More network evaluations draw more samples with a rule",
        "a checkpoint of a model by diffusion",
        "EDM x2, Heun in 10, 20, 50 and 100 steps: C3 0.296, 0.441, 0.474 and 0.477; DiT-S: "
        "DDIM-200 0.613, DDPM-200 0.678, DDPM-500 0.700",
    ),
}
