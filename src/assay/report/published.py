"""Figures published on the forty rules, to stand beside what was measured here.

Wang, Shang and Sompolinsky, "Diverse capability and scaling of diffusion and auto-regressive
models when learning abstract rules", 2024, arXiv 2411.07873: held-out split 0, 1 M training steps,
samples per rule 400 to 400,000. C3: unconditional samples in which some rule holds in all three
rows. Completion: the last panel, all forty rules together, of which 35 were trained. The joint
heads are of the authors' public repository, after the paper. The source states no intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

PER_RULE = (400, 4_000, 40_000, 400_000)
SOURCE = "Wang, Shang and Sompolinsky 2024, arXiv 2411.07873"
SETTING = "forty rules, 1 M steps, split 0"
CONTINUOUS, AUTOREGRESSIVE = "continuous", "autoregressive"


@dataclass(frozen=True)
class Published:
    """A model's shares at PER_RULE; None: not published. family: as recipes are named."""

    name: str
    family: str
    group: str
    c3: tuple[float, ...] | None = None
    any_valid: tuple[float, ...] | None = None
    completion: tuple[float, ...] | None = None
    dash: str = "solid"


MODELS = (
    Published("EDM x2", "edm", CONTINUOUS, (0.020, 0.446, 0.532, 0.536),
              (0.541, 0.714, 0.726, 0.724), dash="dot"),
    Published("EDM x3", "edm", CONTINUOUS, (0.080, 0.410, 0.574, 0.572),
              (0.566, 0.704, 0.726, 0.726)),
    Published("DiT-S", "dit", CONTINUOUS, (0.004, 0.585, 0.602, 0.620),
              (0.415, 0.748, 0.759, 0.769), dash="dot"),
    Published("DiT-B", "dit", CONTINUOUS, (0.032, 0.590, 0.638, 0.627),
              (0.396, 0.758, 0.783, 0.776)),
    Published("SiT-S", "sit", CONTINUOUS, (0.015, 0.709, 0.766, 0.754),
              (0.457, 0.844, 0.885, 0.869), dash="dot"),
    Published("SiT-B", "sit", CONTINUOUS, (0.153, 0.572, 0.771, 0.785),
              (0.517, 0.781, 0.890, 0.896)),
    Published("GPT2-S, separate heads", "gpt2", AUTOREGRESSIVE, (0.360, 0.143, 0.087, 0.040),
              None, (0.105, 0.638, 0.733, 0.773), "dot"),
    Published("GPT2-M, separate heads", "gpt2", AUTOREGRESSIVE, (0.434, 0.345, 0.121, 0.035),
              None, (0.097, 0.624, 0.826, 0.790), "dash"),
    Published("GPT2-S, joint head", "gpt2", AUTOREGRESSIVE, (0.991, 0.410, 0.953, 0.963),
              None, (0.117, 0.560, 0.800, 0.760), "dashdot"),
    Published("GPT2-M, joint head", "gpt2", AUTOREGRESSIVE, (0.997, 0.972, 0.966, 0.980),
              None, (0.101, 0.562, 0.876, 0.876)),
    Published("Mamba medium, separate heads", "mamba", AUTOREGRESSIVE,
              (0.184, 0.203, 0.351, 0.036), None, (0.097, 0.511, 0.851, 0.794), "dash"),
)  # fmt: skip
