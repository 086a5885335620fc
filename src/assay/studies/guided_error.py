"""The score error of the twin, measured: under the data, and where guided trajectories go.

With e_c and e_u the errors of the denoiser given the rule and without it, at x and sigma, the
size of an error e is that of `assay.guidance.error_kinds`, over the solver's own grid,

    size = sqrt(mean over ln sigma of E[|e|^2 / sigma^2])   (|score error| sigma, all 81 cells),

and the guided denoiser's error is (1 + w) e_c - w e_u. ``data``: x = x0 + sigma noise of the exact
law, the states that training has seen. ``guided``: the states of the twin's own trajectories at
w, where nothing was trained. Intervals: 1.96 standard errors over samples of the mean square.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from assay.core import guidance, intervals, solver
from assay.families import continuous
from assay.families.config import SamplerConfig
from assay.studies import guided_twin
from assay.studies.guided_models import TWIN, Model

States = list[tuple[float, torch.Tensor]]
KINDS = ("cond", "uncond", "guided")


class Errors:
    """The twin beside the exact law, under the same labels and from the same noise."""

    def __init__(self, twin: Model, exact: Model, sampler: SamplerConfig, n: int, seed: int):
        self.twin, self.exact, self.sampler = twin.family, exact.family, sampler
        config = exact.family.network.config
        tables = exact.family.network.rows.float()
        drawn = guided_twin.draw(
            tables, torch.tensor(config.rules), n, np.random.default_rng((seed, n))
        )
        self.x0, self.label, self.seed = drawn["x"], drawn["label"], seed
        self.sigmas = continuous.grid(sampler)

    def noise(self) -> torch.Tensor:
        """float32 (n, 1, 9, 9), the same at every w and sigma."""
        return self.twin.streams(self.seed).randn(*self.x0.shape).float()

    def data(self) -> States:
        """(sigma, x) of noisy data."""
        return [(float(s), self.x0 + float(s) * self.noise()) for s in self.sigmas[:-1]]

    @torch.no_grad()
    def guided(self, w: float) -> States:
        """(sigma, x) of the twin's trajectories, from the same noise."""
        pair = self.twin.denoiser(self.label), self.twin.denoiser()
        start = self.noise() * float(self.sigmas[0])
        step = continuous.solver_step(self.sampler, len(self.sigmas) - 1)
        found = solver.solve(guidance.Guided(*pair, w), start, self.sigmas, step)
        return [(state.sigma, state.x) for state in found if state.sigma > 0]

    @torch.no_grad()
    def squares(self, states: States, w: float) -> dict[str, np.ndarray]:
        """(n,) of each kind: the mean over ln sigma of |e|^2 / sigma^2."""
        weight = np.gradient(np.log([sigma for sigma, _ in states]))
        total = {kind: np.zeros(len(self.x0)) for kind in KINDS}
        for (sigma, x), share in zip(states, weight / weight.sum(), strict=True):
            cond, uncond = (
                (self.twin.denoiser(label)(x, sigma) - self.exact.denoiser(label)(x, sigma))
                for label in (self.label, None)
            )
            for kind, e in zip(KINDS, (cond, uncond, (1 + w) * cond - w * uncond), strict=True):
                total[kind] += share * e.double().square().flatten(1).sum(1).numpy() / sigma**2
        return total

    def rows(self, w: float) -> Iterator[dict[str, Any]]:
        """A row for noisy data and one for guided states."""
        for where, states in (("data", self.data()), ("guided", self.guided(w))):
            row = {"key": f"{TWIN}/error/w={w:g}/{where}", "part": "error", "family": TWIN,
                   "w": w, "guidance_scale": guidance.guidance_scale(w), "where": where,
                   "n": len(self.x0), "seed": self.seed,
                   "nfe": len(states) * (1 if w in (0, -1) else 2)}  # fmt: skip
            for kind, squares in self.squares(states, w).items():
                mean, se = intervals.mean_se(squares)
                ends = (mean, mean - 1.96 * se, mean + 1.96 * se)
                sizes = [float(np.sqrt(max(v, 0.0))) for v in ends]
                names = (f"size_{kind}", f"size_{kind}_low", f"size_{kind}_high")
                row |= dict(zip(names, sizes, strict=True))
            yield row
