"""A data law whose two denoisers are known exactly: rows of each rule, drawn from a fixed set.

A sample's three rows are drawn, uniformly and independently, from a fixed set R_r of M rows of the
rule r, and the rule uniformly. With rows x_k of the noisy sample and s over rows of a rule,

    Z_r(x_k) = sum over s in R_r of exp(s . x_k / sigma^2)       (cells are -1 or 1: |s| is one)
    E[x0_k | x, r] = sum_s s exp(s . x_k / sigma^2) / Z_r(x_k)
    P(r | x) proportional to Z_r(x_1) Z_r(x_2) Z_r(x_3)
    E[x0_k | x] = sum_r P(r | x) E[x0_k | x, r],

both denoisers in closed form: given the rule, and without it. The law is a family like the learned
ones, with tables in the network's place, so that the same sampler, guidance and measures run on it
and no figure of it carries any score error. Computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from assay.core import denoiser as denoisers
from assay.families.config import EdmConfig, SamplerConfig
from assay.families.continuous import Continuous
from assay.families.streams import Streams
from assay.models.config import Config
from assay.rules import bindings, genraven, mini

ROWS_SEED = 2_000_003  # of the rows; no learned family's samples
_SIZE = 9  # cells a side of the image, three of them a row of panels


class TableConfig(Config):
    """What a continuous family asks of its network, and which rows the tables hold."""

    channels: int = 1
    size: int = _SIZE
    n_labels: int = len(genraven.RULES)
    rules: tuple[int, ...] = mini.TRAINED
    n_rows: int = 300
    seed: int = ROWS_SEED


class Tables(torch.nn.Module):
    """M rows of each rule as the "network": (n_rules, M, 27), cells -1 or 1."""

    rows: torch.Tensor

    def __init__(self, config: TableConfig):
        super().__init__()
        self.config = config
        tables = [rule_rows(rule, config.n_rows, config.seed) for rule in config.rules]
        self.register_buffer("rows", torch.from_numpy(np.stack(tables)), persistent=False)


def rule_rows(rule: int, n: int, seed: int) -> np.ndarray:
    """float64 (n, 27): n rows of a rule's samples of a seed, cells -1 or 1; n a multiple of 3."""
    x, _ = genraven.generate(n // 3, [rule], seed)
    images = bindings.get("occupancy").encode(x)
    return images.reshape(n, 3 * _SIZE).astype(np.float64)


class Exact(Continuous):
    """The family of that law: `sample` and `guided` as of any other; there is nothing to learn."""

    network: Tables

    def __init__(self, network: Tables, config: EdmConfig | None = None):
        super().__init__(network, config or EdmConfig())

    def _denoise(self, x, sigma, label=None, extra=None, rng=None) -> torch.Tensor:
        noisy = x.double().reshape(len(x), 3, -1)  # (n, 3 rows, 27)
        level = denoisers.per_sample(torch.as_tensor(sigma, dtype=torch.float64), noisy)
        means, weights = [], []
        for table in self.network.rows:
            log_w = noisy @ table.T / level**2  # (n, 3, M)
            weights.append(torch.logsumexp(log_w, -1).sum(1))
            means.append(torch.softmax(log_w, -1) @ table)
        log_z, mean = torch.stack(weights, 1), torch.stack(means, 1)
        posterior = torch.softmax(log_z + self._allowed(label, len(x)), 1)
        denoised = (posterior[:, :, None, None] * mean).sum(1)
        return denoised.reshape(x.shape).to(x)

    def _allowed(self, label: torch.Tensor | None, n: int) -> torch.Tensor:
        """(n, n_rules): 0 for a rule that the label leaves, -inf for the others."""
        rules = torch.tensor(self.network.config.rules) + 1
        told = torch.zeros(n, dtype=torch.int64) if label is None else label.cpu()
        fits = (told[:, None] == 0) | (told[:, None] == rules)
        return torch.where(fits, 0.0, -math.inf).double()

    def _weight(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(sigma)

    def _levels(self, n: int, rng: Streams) -> torch.Tensor:
        raise AssertionError("the exact law is not trained")


def family(sampler: SamplerConfig, n_rows: int) -> Exact:
    """The exact law with a sampler; n_rows of each rule, a multiple of 3."""
    if n_rows < 3 or n_rows % 3:
        raise ValueError(f"n_rows is {n_rows}: give a multiple of 3, three rows a sample")
    return Exact(Tables(TableConfig(n_rows=n_rows)), EdmConfig(sampler=sampler))


def samples(n_rows: int) -> Iterator[np.ndarray]:
    """The samples that the tables' rows come from, panels of one rule at a time."""
    config = TableConfig(n_rows=n_rows)
    for rule in config.rules:
        yield genraven.generate(config.n_rows // 3, [rule], config.seed)[0]
