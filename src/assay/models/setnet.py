"""Networks over the sets of nine panels, drawn in an order: log p(sets) = sum of log p(next set).

A panel is U sets, the first its positions; set u of the j-th panel drawn is predicted from all
sets of the panels before it and from sets 0..u-1 of its own. Three kinds share embeddings and
heads:

    trunk    all 9 U set tokens go through one deep trunk
    drawing  nine panel tokens (a panel's sets summed) go through a deep trunk; a second trunk over
             the set tokens, told its answers, attends to every earlier set
    chain    nine panel tokens; then one MLP a set, told the trunk's answer and the panel's sets so
             far (it sees earlier panels only through that answer)

Every input is told place and kind of the set that it reads and of the set that comes next
(Pannatier et al. 2024, "sigma-GPTs", arXiv 2404.09562). Sets are read as their bits, their size
and a table: a structural prior, as the encoding is. Of the law of a set, only sets that a panel
can hold have probability: none empty, none with more values than the panel has objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from assay.models.config import SetNetConfig
from assay.models.transformer import Cache, Transformer, initial

N_PANELS = 9


def features(width: int) -> torch.Tensor:
    """float (2^width, 2 width + 1): a set's bits, then its size as a one-hot."""
    sets = np.arange(1 << width)
    bits = sets[:, None] >> np.arange(width) & 1
    size = np.bitwise_count(sets)[:, None] == np.arange(width + 1)
    return torch.from_numpy(np.concatenate([bits, size], 1).astype(np.float32))


def barred(width: int, most: int) -> torch.Tensor:
    """float (most + 1, 2^width): 0 for sets of 1 to i values in line i, -inf for the others."""
    size = np.bitwise_count(np.arange(1 << width))
    fits = (size >= 1) & (size <= np.arange(most + 1)[:, None])
    return torch.from_numpy(np.where(fits, 0, -np.inf).astype(np.float32))


class Embed(nn.Module):
    """Sets as vectors: linear in bits and size, plus a table."""

    features: torch.Tensor

    def __init__(self, width: int, d: int, rng: torch.Generator):
        super().__init__()
        self.register_buffer("features", features(width), persistent=False)
        self.linear = initial((2 * width + 1, d), width**-0.5, rng)
        self.table = initial((1 << width, d), 0.02, rng)

    def forward(self, sets: torch.Tensor) -> torch.Tensor:
        return F.embedding(sets, self.features @ self.linear + self.table)


class Head(nn.Module):
    """log p(set) from a hidden vector: a mixture of softmaxes over the sets that are possible."""

    features: torch.Tensor
    barred: torch.Tensor

    def __init__(self, config: SetNetConfig, unit: int, d: int, rng: torch.Generator):
        super().__init__()
        width, k = config.widths[unit], config.components
        self.components, self.width = k, 2 * width + 1 + config.rank
        self.register_buffer("features", features(width), persistent=False)
        most = width if unit == 0 else config.widths[0]
        self.register_buffer("barred", barred(width, most), persistent=False)
        self.table = initial((1 << width, config.rank), 1.0, rng)
        self.weight = initial((k * (self.width + 1), d), 0.2 * d**-0.5, rng)
        self.bias = nn.Parameter(torch.zeros(k * (self.width + 1)))

    def _components(self, hidden, number):
        """Logits (m, k, sets) of each component and log weights (m, k)."""
        with torch.autocast(hidden.device.type, enabled=False):  # logits keep single precision
            raw = F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
            raw = raw.view(-1, self.components, self.width + 1)
            logits = raw[..., :-1] @ torch.cat([self.features, self.table], 1).T
        return logits + self.barred[number][:, None], raw[..., -1].log_softmax(-1)

    def forward(self, hidden: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """log p (m, sets) from hidden (m, d) and the most values a set may have, (m,)."""
        logits, weights = self._components(hidden, number)
        return (logits.log_softmax(-1) + weights[..., None]).logsumexp(1)

    def log_prob(self, hidden, number, sets) -> torch.Tensor:
        """log p (m,) of sets (m,); one pass less than picking from `forward`."""
        logits, weights = self._components(hidden, number)
        index = sets[:, None].expand(-1, self.components).flatten()
        chosen = -F.cross_entropy(logits.flatten(0, 1), index, reduction="none")
        return (chosen.view_as(weights) + weights).logsumexp(1)


class Chain(nn.Module):
    """A residual MLP for one set: hidden + mlp(norm(hidden))."""

    def __init__(self, d: int, rng: torch.Generator):
        super().__init__()
        self.up, self.down = initial((4 * d, d), d**-0.5, rng), initial((d, 4 * d), 0.0, rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.linear(F.layer_norm(x, x.shape[-1:]), self.up)).square()
        return x + F.linear(hidden, self.down)


class State:
    """What drawing keeps: caches of the two trunks and the panel trunk's last answer."""

    def __init__(self, panels: Cache | None, tokens: Cache | None):
        self.panels, self.tokens = panels, tokens
        self.answer: torch.Tensor | None = None


class SetNet(nn.Module):
    """The network of a `SetNetConfig`, initialised from a seed."""

    def __init__(self, config: SetNetConfig, seed: int = 0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.config, self.n_units = config, len(config.widths)
        has_panels, has_tokens = config.kind != "trunk", config.kind != "chain"
        self.panels = Transformer(config.panels, rng) if has_panels else None
        self.tokens = Transformer(config.tokens, rng) if has_tokens else None
        d = (config.tokens if has_tokens else config.panels).width
        self.sets: Any = nn.ModuleList([Embed(w, d, rng) for w in config.widths])
        self.unit = initial((2 * self.n_units, d), 0.5, rng)  # of the set read, of the set next
        self.source, self.target = initial((10, d), 0.5, rng), initial((9, d), 0.5, rng)
        self.rows, self.columns = initial((6, d), 0.5, rng), initial((6, d), 0.5, rng)
        self.label = initial((config.n_labels + 1, d), 0.02, rng)
        if has_panels:
            e = config.panels.width
            self.enter = initial((e, d), d**-0.5, rng)
            self.leave = initial((d, e), e**-0.5, rng)
        if not has_tokens:
            self.chains = nn.ModuleList([Chain(d, rng) for _ in config.widths])
        self.heads: Any = nn.ModuleList([Head(config, u, d, rng) for u in range(self.n_units)])

    # ---- all positions at once ---------------------------------------------------------------

    def log_prob(self, seq, places, label=None, rng=None) -> torch.Tensor:
        """(n, 9, U) log p of each set given those before it.

        seq (n, 9, U): sets in the order drawn; places (n, 9): the panels' places in that order;
        label (n,): 0 for none, else a label + 1; rng: a generator for dropout in training.
        """
        hidden = self._hidden(seq, places, label, 0, N_PANELS, None, rng)
        number = popcount(seq[..., 0])
        out = []
        for unit, head in enumerate(self.heads):
            most = torch.full_like(number, self.config.widths[0]) if unit == 0 else number
            flat = hidden[:, :, unit].reshape(-1, hidden.shape[-1])
            lp = head.log_prob(flat, most.reshape(-1), seq[..., unit].reshape(-1))
            out.append(lp.view(number.shape))
        return torch.stack(out, -1)

    def _hidden(self, seq, places, label, first, last, state, rng):
        """(n, last - first, U, d): the vectors that predict panels first..last-1."""
        n, t, units = len(seq), last - first, self.n_units
        answers: torch.Tensor | None = None
        embedded = [e(seq[..., u]) for u, e in enumerate(self.sets)]  # U times (n, 9, d)
        if self.panels is not None:
            x = self._panel_inputs(embedded, first, last) + self._led(places, label, first, last)
            cache = state.panels if state else None
            answers = F.linear(self.panels(F.linear(x, self.enter), cache, rng), self.leave)
        told = self._told(places, label, first, last)
        if self.tokens is None:
            return self._chained(embedded, answers, told, first, last)
        x = self._token_inputs(embedded, first, last) + told
        if answers is not None:
            x = x + answers[:, :, None]
        cache = state.tokens if state else None
        return self.tokens(x.reshape(n, t * units, -1), cache, rng).view(n, t, units, -1)

    def _tables(self):
        """Vectors (10, d) of a place read from (the first: none) and (9, d) of one drawn next."""
        read, drawn = ((self.rows[i : i + 3, None] + self.columns[i : i + 3]) for i in (0, 3))
        return self.source + F.pad(read.flatten(0, 1), (0, 0, 1, 0)), self.target + drawn.flatten(
            0, 1
        )

    def _led(self, places, label, first, last):
        """(n, t, d): the place of each panel's predecessor and its own, and the label."""
        source, target = self._tables()
        before = F.pad(places + 1, (1, 0))[:, first:last]
        return source[before] + target[places[:, first:last]] + self._labelled(places, label)

    def _told(self, places, label, first, last):
        """(n, t, U, d): place and kind of the set that each token reads and of the one next."""
        source, target = self._tables()
        own = source[places[:, first:last] + 1]
        before = source[F.pad(places + 1, (1, 0))[:, first:last]]
        read = torch.stack([before] + [own] * (self.n_units - 1), 2)
        ahead = target[places[:, first:last]] + self._labelled(places, label)
        return read + ahead[:, :, None] + self.unit[: self.n_units] + self.unit[self.n_units :]

    def _labelled(self, places, label):
        label = torch.zeros_like(places[:, 0]) if label is None else label
        return self.label[label][:, None]

    def _panel_inputs(self, embedded, first, last):
        """The panel before each of first..last-1, its sets summed; nothing before the first."""
        return F.pad(torch.stack(embedded).sum(0), (0, 0, 1, 0))[:, first:last]

    def _token_inputs(self, embedded, first, last):
        """(n, t, U, d): the set before each one; nothing before the first."""
        flat = torch.stack(embedded, 2).flatten(1, 2)
        start, stop = first * self.n_units, last * self.n_units
        shifted = F.pad(flat, (0, 0, 1, 0))[:, start:stop]
        return shifted.unflatten(1, (-1, self.n_units))

    def _chained(self, embedded, answers, told, first, last):
        so_far, out = answers, []
        for unit, chain in enumerate(self.chains):
            out.append(chain(so_far + told[:, :, unit]))
            so_far = so_far + embedded[unit][:, first:last]
        return torch.stack(out, 2)

    # ---- drawing -----------------------------------------------------------------------------

    def begin(self, n: int) -> State:
        """An empty state for n sequences."""
        tokens = self.tokens.cache(n, N_PANELS * self.n_units) if self.tokens else None
        return State(self.panels.cache(n, N_PANELS) if self.panels else None, tokens)

    def skip(self, state: State, seq, places, n_panels: int, label=None) -> None:
        """Take in the first n_panels panels of seq, which are known."""
        if n_panels:
            self._hidden(seq, places, label, 0, n_panels, state, None)

    def step(self, state: State, seq, places, panel: int, unit: int, label=None) -> torch.Tensor:
        """log p (n, sets) of set ``unit`` of the panel drawn next, given seq up to there.

        Calls go through panels and units in turn, after `begin` or `skip`; what seq holds from
        this set on is not read.
        """
        if unit == 0 and self.panels is not None:
            x = self._led(places, label, panel, panel + 1)[:, 0]
            if panel:
                x = x + sum(e(seq[:, panel - 1, u]) for u, e in enumerate(self.sets))
            x = self.panels(F.linear(x[:, None], self.enter), state.panels)[:, 0]
            state.answer = F.linear(x, self.leave)
        told = self._told(places, label, panel, panel + 1)[:, 0, unit]
        hidden = self._step_hidden(state, seq, told, panel, unit)
        number = popcount(seq[:, panel, 0])
        most = torch.full_like(number, self.config.widths[0]) if unit == 0 else number
        return self.heads[unit](hidden, most)

    def _step_hidden(self, state, seq, told, panel, unit):
        x = told if state.answer is None else told + state.answer
        if self.tokens is None:
            parts = [self.sets[u](seq[:, panel, u]) for u in range(unit)]
            return self.chains[unit](x + sum(parts))
        at = panel * self.n_units + unit - 1  # the set before this one
        if at >= 0:
            x = x + self.sets[at % self.n_units](seq.flatten(1)[:, at])
        return self.tokens(x[:, None], state.tokens)[:, 0]


def popcount(sets: torch.Tensor) -> torch.Tensor:
    """int64: how many bits of each set of up to 16 are 1."""
    return (sets[..., None] >> torch.arange(16, device=sets.device) & 1).sum(-1)
