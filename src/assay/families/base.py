"""The three verbs of every generator, and how a mask is grouped for them.

    loss(batch, rng) -> (batch,)                what training lowers, one number a sample
    sample(n, rng, temperature) -> (n, *shape)  n draws from the model
    complete(context, mask, rng, temperature)   draws of the unknown part given the known part

A family is a network (its argument) and a corruption; data are tensors of the family's own codes
(set tokens, 81 tokens, images), never panels. Randomness comes from `streams.Streams`: sample i
uses stream i, so that the same seed gives the same sample whatever the batch around it, and half
a batch with half the streams has the same losses as those samples in the whole batch.
"""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Mapping
from typing import Any

import torch

from assay.core import tokens
from assay.families.streams import Streams

Batch = Mapping[str, torch.Tensor]
"""One sample a line of each tensor: "x" the codes, "label" (n,) rule ids + 1, 0 for none."""


class Family(torch.nn.Module, abc.ABC):
    """A network and a corruption. ``shape`` is that of one sample's codes."""

    network: Any
    config: Any
    shape: tuple[int, ...]
    bound: tuple[int, float] | None = None  # label and w, where `guided` has bound them

    @abc.abstractmethod
    def loss(self, batch: Batch, rng: Streams) -> torch.Tensor:
        """(n,) losses of the samples batch["x"] (n, *shape); sample i draws from stream i."""

    @abc.abstractmethod
    def sample(self, n: int, rng: Streams, temperature: float = 1.0) -> torch.Tensor:
        """(n, *shape) draws from the model; temperature 1 is its own law."""

    @abc.abstractmethod
    def complete(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        rng: Streams,
        temperature: float = 0.0,
    ) -> torch.Tensor:
        """(n, *shape): context with the masked part drawn given the rest, which stays as it is.

        mask: bool, broadcastable to (n, *shape) from the right as each family says, True where
        unknown; what lies there is never read. ValueError naming the masks that can be completed,
        where this one cannot.
        """

    @abc.abstractmethod
    def evaluations(self, n_unknown: int | None = None) -> int:
        """Network evaluations for a sample, or for a completion of so many unknown panels."""

    @property
    def n_labels(self) -> int:
        """How many labels the network knows; 0 for a model without."""
        return getattr(self.network.config, "n_labels", 0)

    def _label(self, batch: Batch, rng: Streams) -> torch.Tensor | None:
        """The labels, a share config.label_drop of them 0, for a network that has any."""
        if not self.n_labels:
            return None
        label = batch["label"].to(self.device)
        dropped = rng.rand(len(label)).to(self.device) < self.config.label_drop
        return label.masked_fill(dropped, 0)

    def guided(self, label: int, w: float = 0.0) -> Family:
        """The same parameters with a condition bound: `sample` and `complete` draw given it.

        label: 1..n_labels (a rule id + 1); w: guidance weight as in `core.guidance`, 0 for the
        plain conditional law. ValueError where the model has no such label.
        """
        if not 1 <= label <= self.n_labels:
            has = f"labels 1 to {self.n_labels}" if self.n_labels else "no labels"
            raise ValueError(f"label {label} is unknown: the model has {has}")
        if not math.isfinite(w):
            raise ValueError(f"w must be finite, got {w!r}")
        bound = copy.copy(self)
        bound.bound = (label, w)
        return bound

    @staticmethod
    def streams(seed: int) -> Streams:
        """The streams that `loss`, `sample` and `complete` draw from."""
        return Streams(seed)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU for a family without any."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))


def check_context(context: torch.Tensor, mask: torch.Tensor, shape: tuple[int, ...]) -> None:
    """ValueError where context is not (n, *shape), or mask is not bool with n lines."""
    if context.shape[1:] != shape:
        raise ValueError(f"context must have shape (n, {shape}), got {tuple(context.shape)}")
    if mask.dtype != torch.bool or len(mask) != len(context):
        raise ValueError(
            f"mask must be bool with {len(context)} lines, True where unknown; "
            f"got {mask.dtype} {tuple(mask.shape)}"
        )


def check_sets(x: torch.Tensor, unknown: torch.Tensor, widths: tuple[int, ...]) -> None:
    """ValueError where a known panel of set tokens (n, 9, U) holds sets that no panel can hold.

    unknown: bool (n, 9); widths: bits of each set, the first the occupied positions.
    """
    size = (x[..., None] >> torch.arange(16, device=x.device) & 1).sum(-1)
    limit = x.new_tensor([1 << width for width in widths])
    wrong = ((x < 0) | (x >= limit) | (size < 1) | (size > size[..., :1])).any(-1) & ~unknown
    if wrong.any():
        sample, panel = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"context has no valid panel at r{panel // 3 + 1}c{panel % 3 + 1} of sample "
            f"{sample}: a known panel needs objects with values in range; mask it instead"
        )


check_temperature = tokens.check_temperature
