"""Causal networks over tokens on the backbones of transformers: GPT-2, Mamba-2 and Mamba.

A sequence of L tokens is read as a context token (0 for none, else a label) and its first L - 1
tokens; the hidden state at place i is what is known before token i. A token's embedding is the
sum of one table for each of its parts (shape, size and colour of a cell) and, where ``places`` are
given, of tables for the row, panel and cell where it lies and where the next one does; GPT-2 adds
its own table of positions.

    gpt2    Radford et al. 2019: attention. On a CPU training takes the plain masked product, half
            as fast again as the fused one in bfloat16 on sequences as short as these; the tanh
            GELU is GPT-2's function in one kernel. Drawing keeps keys and values in tensors made
            once and attends to as many as there are
    mamba2  Dao and Gu 2024 (arXiv 2405.21060), a recurrence of matrix states with one decay a head
    mamba   Gu and Dao 2023 (arXiv 2312.00752), with one decay a channel and state, by the parallel
            scan of mambapy

transformers is imported where a network is built. Dropout (GPT-2 alone has any) is drawn from
torch's own generator, as its modules do.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import TokenNetConfig


class TokenNet(nn.Module):
    """Embeddings and a backbone: tokens (n, L) -> hidden states (n, L, width), causal."""

    def __init__(self, config: TokenNetConfig, seed: int = 0):
        super().__init__()
        self.config, self.seed = config, seed
        rng = torch.Generator().manual_seed(seed)
        with _seeded(seed):
            self.backbone: Any = _BACKBONES[config.backbone](config)
        self.context = _table(config.n_labels + 1, config, rng)
        self.tables = nn.ParameterList(_table(size, config, rng) for size in config.sizes)
        self.here = nn.ParameterList(_table(size, config, rng) for size in config.places)
        self.next = nn.ParameterList(_table(size, config, rng) for size in config.places)

    def forward(self, token: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(n, L, width): what is known before each token (n, L), int64, given a label (n,)."""
        return self.backbone(self._start(token[:, :-1], label))

    def begin(self, n: int) -> Any:
        """The state of n sequences of which nothing has been seen."""
        return self.backbone.begin(n)

    def step(
        self, state: Any, token: torch.Tensor, label: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(n, width): what is known after the tokens seen and these (n, t); the state moves on.

        The first call puts the context token in front of any number of tokens, none included;
        each one after takes one token.
        """
        seen = state.length
        assert seen == 0 or token.shape[1] == 1, "one token at a time, after the first"
        x = self._embed(token, seen) if seen else self._start(token, label)
        return self.backbone.step(state, x)

    def _start(self, token: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        """The context token in front of the tokens (n, t), told that place 0 is next."""
        label = token.new_zeros(len(token)) if label is None else label
        first = self.context[label][:, None] + _summed(self.next, token.new_zeros(1))
        return torch.cat([first, self._embed(token, 1)], 1)

    def _embed(self, token: torch.Tensor, place: int) -> torch.Tensor:
        """Tokens (n, t) of which the one after the first lies at the place."""
        after = torch.arange(place, place + token.shape[1], device=token.device)
        told = _summed(self.here, after - 1) + _summed(self.next, after)
        return _summed(self.tables, token) + told


class _State:
    """What a backbone keeps of the ``length`` positions seen so far."""

    def __init__(self, kept: Any = None):
        self.kept, self.length = kept, 0


class GPT2(nn.Module):
    """transformers' GPT2Model, and its steps with a static cache of keys and values."""

    def __init__(self, config: TokenNetConfig):
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        self.config = config
        options: dict[str, Any] = {
            **_NO_VOCABULARY,
            "n_positions": config.length,
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "activation_function": "gelu_pytorch_tanh",
            "attn_implementation": "eager",
        }
        options |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
        self.model: Any = GPT2Model(GPT2Config(**options))
        self.model.wte = nn.Identity()  # tokens come as embeddings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (n, t, width), the first t positions."""
        self.model.config._attn_implementation = "eager" if x.device.type == "cpu" else "sdpa"
        return self.model(inputs_embeds=x, use_cache=False).last_hidden_state

    def begin(self, n: int) -> _State:
        return _State()

    def step(self, state: _State, x: torch.Tensor) -> torch.Tensor:
        """The last hidden state (n, width) after the positions x (n, t, width) that come next."""
        seen, stop = state.length, state.length + x.shape[1]
        x = x + self.model.wpe.weight[seen:stop]
        for layer, block in enumerate(self.model.h):
            x = x + block.attn.c_proj(self._attend(block, layer, state, x))
            x = x + block.mlp(block.ln_2(x))
        state.length = stop
        return self.model.ln_f(x[:, -1])

    def _attend(self, block: Any, layer: int, state: _State, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        heads, seen = self.config.heads, state.length
        qkv = block.attn.c_attn(block.ln_1(x)).view(n, t, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if state.kept is None:
            size = (2, self.config.layers, n, heads, self.config.length, width // heads)
            state.kept = k.new_zeros(size)
        keys, values = state.kept[0, layer], state.kept[1, layer]
        keys[:, :, seen : seen + t], values[:, :, seen : seen + t] = k, v
        k, v = keys[:, :, : seen + t], values[:, :, : seen + t]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        return mixed.transpose(1, 2).reshape(n, t, width)


class Mamba(nn.Module):
    """transformers' Mamba2Model or MambaModel, and its steps with a recurrent state."""

    def __init__(self, config: TokenNetConfig):
        super().__init__()
        self.config = config
        logging.getLogger("transformers.integrations.hub_kernels").addFilter(_no_fallback_notice)
        self.model: Any = _mamba2(config) if config.backbone == "mamba2" else _mamba(config)
        self.model.embeddings = nn.Identity()  # tokens come as embeddings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (n, t, width), the first t positions."""
        return self.model(inputs_embeds=x, use_cache=False).last_hidden_state

    def begin(self, n: int) -> _State:
        from transformers import DynamicCache

        return _State(DynamicCache(config=self.model.config))

    def step(self, state: _State, x: torch.Tensor) -> torch.Tensor:
        """The last hidden state (n, width) after the positions x (n, t, width) that come next."""
        found = self.model(inputs_embeds=x, cache_params=state.kept, use_cache=True)
        state.length += x.shape[1]
        return found.last_hidden_state[:, -1]


_NO_VOCABULARY: dict[str, Any] = {
    "vocab_size": 1,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def _no_fallback_notice(record: logging.LogRecord) -> bool:
    """Not the notice that kernels for GPUs are not installed: what runs without them is meant."""
    return "falling back to its reference PyTorch implementation" not in record.getMessage()


def _mamba2(config: TokenNetConfig) -> Any:
    from transformers import Mamba2Config, Mamba2Model

    return Mamba2Model(
        Mamba2Config(
            **_NO_VOCABULARY,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_heads=config.heads,
            head_dim=2 * config.width // config.heads,
            state_size=config.state,
            n_groups=1,
            chunk_size=min(config.length, config.chunk),
        )
    )


def _mamba(config: TokenNetConfig) -> Any:
    from transformers import MambaConfig, MambaModel

    return MambaModel(
        MambaConfig(
            **_NO_VOCABULARY,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            state_size=config.state,
            use_mambapy=True,
        )
    )


_BACKBONES = {"gpt2": GPT2, "mamba2": Mamba, "mamba": Mamba}


def _table(n: int, config: TokenNetConfig, rng: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(n, config.width, generator=rng) * config.std)


def _summed(tables: Iterable[torch.Tensor], index: torch.Tensor) -> Any:
    """The sum of each table's line for its part of a mixed-radix number; 0 without tables."""
    total: Any = 0
    for table in reversed(list(tables)):
        total = total + F.embedding(index % len(table), table)
        index = index // len(table)
    return total


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's own generator from a seed, given back as it was: transformers draws from it."""
    with torch.random.fork_rng([]):
        torch.random.manual_seed(seed)
        yield
