"""Networks over the sets of nine panels, drawn in an order: log p(sets) = sum of log p(next set).

A panel is U sets, the first its positions; set u of the j-th panel drawn is predicted from all
sets of the panels before it and from sets 0..u-1 of its own. Two kinds share embeddings and heads:

    trunk  all 9 U set tokens go through the trunk
    chain  nine panel tokens (a panel's sets summed) do, at a quarter of the cost; then MLPs for
           each set, told the trunk's answer, the panel's sets so far and how well each of those
           was foretold: its log probability, component by component of the law below

What was foretold completes a rule of its row, as far as the model knows; so the chain's last sets
can tell whether an earlier one did, which a row whose rule nothing names depends on.

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
from assay.models.transformer import Cache, Norm, Transformer, initial

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
        return self.joint(hidden, number, sets).logsumexp(1)

    def joint(self, hidden, number, sets) -> torch.Tensor:
        """log p(component, set), (m, k), of sets (m,)."""
        logits, weights = self._components(hidden, number)
        index = sets[:, None].expand(-1, self.components).flatten()
        chosen = -F.cross_entropy(logits.flatten(0, 1), index, reduction="none")
        return chosen.view_as(weights) + weights


class Link(nn.Module):
    """A residual MLP: x + mlp(norm(x))."""

    def __init__(self, d: int, rng: torch.Generator):
        super().__init__()
        self.norm = Norm(d)
        self.up, self.down = initial((4 * d, d), d**-0.5, rng), initial((d, 4 * d), 0.0, rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.linear(self.norm(x), self.up)).square()
        return x + F.linear(hidden, self.down)


class State:
    """What drawing keeps: the trunk's cache, its answer for this panel, the last vector."""

    def __init__(self, cache: Cache):
        self.cache = cache
        self.answer: Any = None
        self.hidden: Any = None


class SetNet(nn.Module):
    """The network of a `SetNetConfig`, initialised from a seed."""

    def __init__(self, config: SetNetConfig, seed: int = 0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.config, self.n_units = config, len(config.widths)
        self.chained, d = config.kind == "chain", config.trunk.width
        self.trunk = Transformer(config.trunk, rng)
        self.sets: Any = nn.ModuleList([Embed(w, d, rng) for w in config.widths])
        self.unit = initial((2 * self.n_units, d), 0.5, rng)  # of the set read, of the set next
        self.source, self.target = initial((10, d), 0.5, rng), initial((9, d), 0.5, rng)
        self.rows, self.columns = initial((6, d), 0.5, rng), initial((6, d), 0.5, rng)
        self.label = initial((config.n_labels + 1, d), 0.02, rng)
        if self.chained:
            self.foretold = initial((self.n_units, d, 2 * config.components), 0.1, rng)
            self.links: Any = nn.ModuleList([
                nn.Sequential(*[Link(d, rng) for _ in range(config.links)], Norm(d))
                for _ in config.widths
            ])  # fmt: skip
        self.heads: Any = nn.ModuleList([Head(config, u, d, rng) for u in range(self.n_units)])

    # ---- all positions at once ---------------------------------------------------------------

    def log_prob(self, seq, places, label=None, rng=None) -> torch.Tensor:
        """(n, 9, U) log p of each set given those before it.

        seq (n, 9, U): sets in the order drawn; places (n, 9): the panels' places in that order;
        label (n,): 0 for none, else a label + 1; rng: a generator for dropout in training.
        """
        answers = self._answers(seq, places, label, N_PANELS, None, rng)
        if not self.chained:
            joints = [self._joint(u, answers[:, :, u], seq) for u in range(self.n_units)]
            return torch.stack(joints, -2).logsumexp(-1)
        told, joints = self._told(places, label, 0, N_PANELS), []
        for unit in range(self.n_units):
            hidden = self.links[unit](answers + told[:, :, unit])
            joints.append(self._joint(unit, hidden, seq))
            answers = answers + self._came(unit, seq[..., unit], joints[-1])
        return torch.stack(joints, -2).logsumexp(-1)

    def _joint(self, unit: int, hidden, seq) -> torch.Tensor:
        """(..., k): log p(component, set ``unit``) of seq (..., U) from hidden (..., d)."""
        most, sets = self._most(seq[..., 0], unit), seq[..., unit]
        lp = self.heads[unit].joint(hidden.flatten(0, -2), most.reshape(-1), sets.reshape(-1))
        return lp.view(*sets.shape, -1)

    def _most(self, positions, unit: int) -> torch.Tensor:
        """The most values that a set may have in panels of these positions."""
        number = popcount(positions)
        return torch.full_like(number, self.config.widths[0]) if unit == 0 else number

    def _came(self, unit: int, sets, joint) -> torch.Tensor:
        """(..., d): a set that came, and how well it was foretold."""
        lp = joint.detach().to(self.foretold.dtype)
        told = torch.cat([lp.clamp(min=-16) / 8, lp.exp()], -1)
        return self.sets[unit](sets) + F.linear(told, self.foretold[unit])

    def _answers(self, seq, places, label, last, cache, rng):
        """The trunk's vectors for panels 0..last-1, (n, last, d); kind trunk: (n, last, U, d)."""
        embedded = [embed(seq[..., u]) for u, embed in enumerate(self.sets)]  # U times (n, 9, d)
        if self.chained:
            before = F.pad(torch.stack(embedded).sum(0), (0, 0, 1, 0))[:, :last]
            return self.trunk(before + self._led(places, label, 0, last), cache, rng)
        flat = F.pad(torch.stack(embedded, 2).flatten(1, 2), (0, 0, 1, 0))
        x = flat[:, : last * self.n_units] + self._told(places, label, 0, last).flatten(1, 2)
        return self.trunk(x, cache, rng).unflatten(1, (last, self.n_units))

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

    # ---- drawing -----------------------------------------------------------------------------

    def begin(self, n: int) -> State:
        """An empty state for n sequences."""
        return State(self.trunk.cache(n, N_PANELS * (1 if self.chained else self.n_units)))

    def skip(self, state: State, seq, places, n_panels: int, label=None) -> None:
        """Take in the first n_panels panels of seq, which are known."""
        if n_panels:
            self._answers(seq, places, label, n_panels, state.cache, None)

    def step(self, state: State, seq, places, panel: int, unit: int, label=None) -> torch.Tensor:
        """log p (n, sets) of set ``unit`` of the panel drawn next, given seq up to there.

        Calls go through panels and units in turn, after `begin` or `skip`; what seq holds from
        this set on is not read.
        """
        advance = self._step_chain if self.chained else self._step_trunk
        hidden = advance(state, seq, places, panel, unit, label)
        return self.heads[unit](hidden, self._most(seq[:, panel, 0], unit))

    def _step_trunk(self, state, seq, places, panel, unit, label):
        x = self._told(places, label, panel, panel + 1)[:, 0, unit]
        before = divmod(panel * self.n_units + unit - 1, self.n_units)  # the set before this one
        if before[0] >= 0:
            x = x + self.sets[before[1]](seq[:, before[0], before[1]])
        return self.trunk(x[:, None], state.cache)[:, 0]

    def _step_chain(self, state, seq, places, panel, unit, label):
        if unit == 0:
            x = self._led(places, label, panel, panel + 1)[:, 0]
            if panel:
                x = x + sum(embed(seq[:, panel - 1, u]) for u, embed in enumerate(self.sets))
            state.answer = self.trunk(x[:, None], state.cache)[:, 0]
        else:
            joint = self._joint(unit - 1, state.hidden, seq[:, panel])
            state.answer = state.answer + self._came(unit - 1, seq[:, panel, unit - 1], joint)
        told = self._told(places, label, panel, panel + 1)[:, 0, unit]
        state.hidden = self.links[unit](state.answer + told)
        return state.hidden


def popcount(sets: torch.Tensor) -> torch.Tensor:
    """int64: how many bits of each set of up to 16 are 1."""
    return (sets[..., None] >> torch.arange(16, device=sets.device) & 1).sum(-1)
