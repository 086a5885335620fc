"""How cost grows: evaluations and seconds as samples, dimension, components and w grow.

Each row changes one of the four from the base case (10,000 samples, 2 dimensions, 2 components,
w = 3): adaptive reference to 1e-6, float64 torch, Gaussian mixtures of unit variance.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from assay.core import components, mixture, reference
from assay.core.guidance import Guided
from assay.guidance import targets
from assay.guidance.pushforward import Pushforward
from bench import timing

BASE = {"n": 10_000, "dim": 2, "n_components": 2, "w": 3.0}
GROWTH: dict[str, tuple[float, ...]] = {
    "n": (1_000, 10_000, 100_000),
    "dim": (1, 2, 8, 32, 64),
    "n_components": (2, 8, 32, 128),
    "w": (0.0, 1.0, 3.0, 10.0, 30.0, 100.0),
}


def rows(done: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Rows of both kinds: batches of particles, and exact pushforwards as w grows."""
    for name, values in GROWTH.items():
        for value in values:
            if done(f"cost-{name}-{value:g}"):
                continue
            yield _batch(name, BASE | {name: value})
    for target in ("gaussians", "uniforms"):
        for w in (0.0, 3.0, 30.0, 300.0, 3000.0):
            if not done(f"cost-exact-{target}-{w:g}"):
                yield _exact(target, w)


def _batch(grown: str, case: dict[str, Any]) -> dict[str, Any]:
    n, dim, k = int(case["n"]), int(case["dim"]), int(case["n_components"])
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((k, dim))
    parts = [components.Gaussian(c, 1.0) for c in centres]
    cond = mixture.Mixture([1.0] * (k // 2), parts[: k // 2])
    uncond = mixture.Mixture([1.0] * k, parts)
    guided = Guided(cond.denoise, uncond.denoise, case["w"])
    u = torch.randn((n, dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = reference.Adaptive(rtol=1e-6, atol=1e-6)
    calls = reference.reference(guided, u[:100], config=config).evaluations
    times = [timing.seconds(lambda: reference.reference(guided, u, config=config)) for _ in "abc"]
    return {
        "key": f"cost-{grown}-{case[grown]:g}", "study": "cost of a batch", "grown": grown,
        **case, "nfe": calls, "seconds": statistics.median(times),
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def _exact(target: str, w: float) -> dict[str, Any]:
    built = targets.build(target)
    law = Pushforward(built, w)
    law.mean()
    times = [timing.seconds(lambda: Pushforward(built, w).mean()) for _ in "abc"]
    return {
        "key": f"cost-exact-{target}-{w:g}", "study": "cost of an exact pushforward",
        "target": target, "w": w, "nfe": law.nfe, "seconds": statistics.median(times),
    }  # fmt: skip
