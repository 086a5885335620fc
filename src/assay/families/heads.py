"""Heads: from a hidden state to the law of one token, whatever made the hidden state.

A token is one number, t = (.. a_1 * size_2 + a_2) * size_3 + .., the mixed-radix number of its
parts a_1, a_2, ...: of a cell its shape, size and colour, each + 1 with 0 for empty, so that sizes
(8, 11, 11) give the 968 ids of the joint codes. Sizes (2,) are occupied cells. The kinds, which
are one and the same where a token has one part:

    joint      one softmax over every token: p(t) any law
    separate   a softmax for each part: p(t) = p(a_1) p(a_2) p(a_3), as in Wang, Shang and
               Sompolinsky 2024 (arXiv 2411.07873). Parts are independent given the hidden state,
               so that cells empty in one part alone have positive probability
    chain      p(t) = p(a_1) p(a_2 | a_1) p(a_3 | a_1, a_2), exact, each softmax's logits linear
               in the hidden state and in ``rank`` features relu(U h + sum_j E_j[a_j])^2

Temperature and guidance act on the law of the whole token, so that they mean the same for every
kind; temperature 0 is the most probable token.
"""

from __future__ import annotations

import abc
import math

import torch
import torch.nn.functional as F
from torch import nn

from assay.core import guidance, tokens
from assay.families.config import HeadConfig
from assay.models.transformer import initial


def split(token: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """int64 parts (..., k) of tokens (...); part j lies in 0..sizes[j]-1."""
    parts = []
    for size in reversed(sizes):
        parts.append(token % size)
        token = token // size
    return torch.stack(parts[::-1], -1)


def join(parts: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """Tokens (...) of parts (..., k), the inverse of `split`."""
    token = torch.zeros_like(parts[..., 0])
    for j, size in enumerate(sizes):
        token = token * size + parts[..., j]
    return token


class Head(nn.Module, abc.ABC):
    """The law of a token given a hidden state (..., width)."""

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.config, self.sizes = config, config.sizes
        self.n_tokens = math.prod(config.sizes)

    @abc.abstractmethod
    def log_prob(self, hidden: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """(...) log p of the tokens (...) given hidden (..., width), float32 at least."""

    @abc.abstractmethod
    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., n_tokens) log p of every token given hidden (..., width), float32 at least."""

    def draw(
        self,
        hidden: torch.Tensor,
        uniform: torch.Tensor,
        temperature: float = 1.0,
        uncond: torch.Tensor | None = None,
        w: float = 0.0,
    ) -> torch.Tensor:
        """int64 tokens (...) from hidden (..., width) and uniform numbers (...), one each.

        uncond: the hidden state without the condition, to guide away from with weight w as
        `core.guidance.combine` does. ValueError for a temperature below 0.
        """
        log_p = self.log_probs(hidden)
        if uncond is not None:
            log_p = guidance.combine(log_p, self.log_probs(uncond), w)
        return tokens.draw(log_p, uniform, temperature)


class Joint(Head):
    """One softmax over every token."""

    def __init__(self, config: HeadConfig, width: int, rng: torch.Generator):
        super().__init__(config)
        self.out = initial((self.n_tokens, width), 0.0, rng)
        self.bias = initial((self.n_tokens,), 0.0, rng)

    def log_prob(self, hidden: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        return _taken(F.linear(hidden, self.out, self.bias), token)

    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(_wide(F.linear(hidden, self.out, self.bias)), -1)


class Separate(Head):
    """A softmax for each part, independent of the others given the hidden state."""

    def __init__(self, config: HeadConfig, width: int, rng: torch.Generator):
        super().__init__(config)
        self.out = initial((sum(config.sizes), width), 0.0, rng)
        self.bias = initial((sum(config.sizes),), 0.0, rng)

    def log_prob(self, hidden: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        logits, parts = self._logits(hidden), split(token, self.sizes)
        each = [_taken(part, parts[..., j]) for j, part in enumerate(logits)]
        return torch.stack(each, -1).sum(-1)

    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        total, *rest = (torch.log_softmax(_wide(part), -1) for part in self._logits(hidden))
        for part in rest:
            total = (total[..., :, None] + part[..., None, :]).flatten(-2)
        return total

    def _logits(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return F.linear(hidden, self.out, self.bias).split(self.sizes, -1)


class Chain(Head):
    """Each part given those before it, through features of the hidden state and these."""

    def __init__(self, config: HeadConfig, width: int, rng: torch.Generator):
        super().__init__(config)
        later, rank = config.sizes[1:], config.rank
        self.out = initial((sum(config.sizes), width), 0.0, rng)
        self.bias = initial((sum(config.sizes),), 0.0, rng)
        self.features = initial((len(later) * rank, width), width**-0.5, rng)
        self.earlier = nn.ParameterList(
            initial((sum(config.sizes[: j + 1]), rank), 1.0, rng) for j in range(len(later))
        )
        self.readouts = nn.ParameterList(initial((size, rank), 0.0, rng) for size in later)

    def log_prob(self, hidden: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        parts = split(token, self.sizes)
        logits, features = self._start(hidden)
        total = _taken(logits[0], parts[..., 0])
        for j, shared in enumerate(features):
            feature = shared + self._told(j, parts[..., : j + 1]).to(shared.dtype)
            total = total + _taken(
                logits[j + 1] + F.linear(F.relu(feature).square(), self.readouts[j]),
                parts[..., j + 1],
            )
        return total

    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        logits, features = self._start(hidden)
        total = torch.log_softmax(_wide(logits[0]), -1)
        for j, shared in enumerate(features):
            before = torch.arange(total.shape[-1], device=hidden.device)
            told = self._told(j, split(before, self.sizes[: j + 1]))
            feature = shared[..., None, :] + told.to(shared.dtype)
            conditional = F.linear(F.relu(feature).square(), self.readouts[j])
            conditional = conditional + logits[j + 1][..., None, :]
            total = total[..., None] + torch.log_softmax(_wide(conditional), -1)
            total = total.flatten(-2)
        return total

    def _start(self, hidden):
        """The parts of the logits and of the features that the hidden state gives alone."""
        logits = F.linear(hidden, self.out, self.bias).split(self.sizes, -1)
        return logits, F.linear(hidden, self.features).split(self.config.rank, -1)

    def _told(self, j: int, parts: torch.Tensor) -> torch.Tensor:
        """What parts 0..j (..., j + 1) add to the features of part j + 1."""
        starts = [sum(self.sizes[:i]) for i in range(j + 1)]
        return F.embedding(parts + parts.new_tensor(starts), self.earlier[j]).sum(-2)


_KINDS = {"joint": Joint, "separate": Separate, "chain": Chain}


def build(config: HeadConfig, width: int, seed: int = 0) -> Head:
    """The head of a configuration over hidden states of a width; logits start at 0."""
    kind = config.kind if len(config.sizes) > 1 else "joint"
    return _KINDS[kind](config, width, torch.Generator().manual_seed(seed))


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _taken(logits: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """log softmax of logits (..., V) at the tokens (...), without the rest in memory."""
    flat = _wide(logits).flatten(0, -2) if logits.ndim > 1 else _wide(logits)[None]
    loss = F.cross_entropy(flat, token.reshape(-1).to(flat.device), reduction="none")
    return -loss.view(token.shape)
