"""Leaves of several laws brought into as few stacks as possible, and mixed.

A law is a list of leaves (a stack and the log weights of its members). :func:`pooled` collects
the leaves of M laws, keeps equal ones once, joins those of one kind, and evaluates all M laws from
a single pass: with joint_k = ln w_k + ln p_k(x; sigma),

    ln p(x; sigma) = logsumexp_k joint_k,     E[x0 | x] = sum_k softmax(joint)_k E[x0 | x, k].

Gaussians of equal covariance share one eigenbasis and one stack; those alone with theirs go into
one stack of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from assay.core.special import Array, logsumexp, namespace, param
from assay.core.stacks import BoxStack, GaussianStack, Level, Posterior, Stack

Leaves = list[tuple[Stack, np.ndarray]]  # log weights (size,) of each stack's members
CELLS = 1 << 20  # numbers held at once: 8 MiB, about a core's share of the cache


@dataclass(frozen=True, eq=False)
class Pool:
    """Stacks of different kinds side by side."""

    stacks: tuple[Stack, ...]

    @property
    def size(self) -> int:
        return sum(stack.size for stack in self.stacks)

    @property
    def dim(self) -> int:
        return self.stacks[0].dim

    @property
    def key(self) -> Hashable:
        return "pool", *(stack.key for stack in self.stacks)

    def cells(self, x: Array, sigma: Level) -> int:
        return sum(stack.cells(x, sigma) for stack in self.stacks)

    def density(self, x: Array) -> Array:
        return namespace(x).concat([stack.density(x) for stack in self.stacks], axis=1)

    def at(self, x: Array, sigma: Level) -> Posterior:
        posts = [stack.at(x, sigma) for stack in self.stacks]
        ends = np.cumsum([stack.size for stack in self.stacks]).tolist()
        spans = [slice(end - s.size, end) for s, end in zip(self.stacks, ends, strict=True)]
        pairs = list(zip(posts, spans, strict=True))
        return Posterior(
            namespace(x).concat([post.log_prob for post in posts], axis=1),
            lambda r: sum(post.denoised(r[:, span]) for post, span in pairs),
            lambda r: sum(post.score(r[:, span]) for post, span in pairs),
        )


@dataclass(frozen=True, eq=False)
class ProductStack:
    """K products over the same blocks of coordinates: slot i holds the K parts of block i."""

    slots: tuple[Stack, ...]

    @property
    def size(self) -> int:
        return self.slots[0].size

    @property
    def dim(self) -> int:
        return sum(slot.dim for slot in self.slots)

    @property
    def dims(self) -> tuple[int, ...]:
        """Length of each block."""
        return tuple(slot.dim for slot in self.slots)

    @property
    def key(self) -> Hashable:
        return "product", *(slot.key for slot in self.slots)

    def cells(self, x: Array, sigma: Level) -> int:
        return sum(slot.cells(x, sigma) for slot in self.slots)

    def _blocks(self, x: Array) -> list[tuple[Stack, Array]]:
        ends = np.cumsum(self.dims).tolist()
        pairs = zip(self.slots, ends, strict=True)
        return [(slot, x[:, end - slot.dim : end]) for slot, end in pairs]

    def density(self, x: Array) -> Array:
        return sum(slot.density(block) for slot, block in self._blocks(x))

    def at(self, x: Array, sigma: Level) -> Posterior:
        xp = namespace(x)
        posts = [slot.at(block, sigma) for slot, block in self._blocks(x)]
        return Posterior(
            sum(post.log_prob for post in posts),
            lambda r: xp.concat([post.denoised(r) for post in posts], axis=1),
            lambda r: xp.concat([post.score(r) for post in posts], axis=1),
        )


@dataclass(frozen=True, eq=False)
class Mixed:
    """M laws over one stack, by their log weights (M, K); a law alone serves as a stack of one."""

    stack: Stack
    log_weights: np.ndarray

    size = 1

    @property
    def dim(self) -> int:
        return self.stack.dim

    @property
    def key(self) -> Hashable:
        return "mixed", self.stack.key, self.log_weights.tobytes()

    def cells(self, x: Array, sigma: Level) -> int:
        return self.stack.cells(x, sigma)

    def density(self, x: Array) -> Array:
        return self._totals(self.stack.density(x))

    def at(self, x: Array, sigma: Level) -> Posterior:
        post = self.stack.at(x, sigma)
        shares = _softmax(post.log_prob + param(self.log_weights[0], x))
        return Posterior(
            self._totals(post.log_prob),
            lambda r: r * post.denoised(shares),
            lambda r: r * post.score(shares),
        )

    @cached_property
    def _members(self) -> list[np.ndarray]:
        return [np.flatnonzero(np.isfinite(row)) for row in self.log_weights]

    def _totals(self, log_prob: Array) -> Array:
        """Log densities (batch, M) of the laws from those of the stack."""
        xp = namespace(log_prob)
        members, rows = self._members, self.log_weights
        if all(len(columns) == 1 for columns in members):
            columns = np.concatenate(members)
            weights = rows[np.arange(len(rows)), columns]
            return log_prob[:, columns] + param(weights, log_prob)
        totals = [
            logsumexp(log_prob[:, columns] + param(row[columns], log_prob), axis=-1)
            for columns, row in zip(members, rows, strict=True)
        ]
        return xp.stack(totals, axis=1)

    def log_prob(self, x: Array, sigma: Level) -> Array:
        """(batch, M); sigma = 0.0 is the data density."""
        if isinstance(sigma, float) and sigma == 0.0:
            return self.density(x)
        return self._chunked(x, sigma, lambda y, s: self._totals(self.stack.at(y, s).log_prob))

    def expect(self, x: Array, sigma: Level, what: str) -> Array:
        """``what`` = "denoised" or "score" of each law, (batch, M, d)."""

        def some(y: Array, s: Level) -> Array:
            post = self.stack.at(y, s)
            weights = param(self.log_weights, y)
            shares = [_softmax(post.log_prob + row) for row in weights]
            means = [getattr(post, what)(r) for r in shares]
            return namespace(y).stack(means, axis=1) if len(means) > 1 else means[0][:, None, :]

        return self._chunked(x, sigma, some)

    def _chunked(self, x: Array, sigma: Level, run: Callable[[Any, Any], Array]) -> Array:
        rows = max(1, CELLS // self.stack.cells(x, sigma))
        if x.shape[0] <= rows:
            return run(x, sigma)
        spans = [slice(i, i + rows) for i in range(0, x.shape[0], rows)]
        levels = [sigma] * len(spans)
        if not isinstance(sigma, float) and sigma.shape[0] > 1:
            levels = [sigma[span] for span in spans]
        parts = [run(x[span], level) for span, level in zip(spans, levels, strict=True)]
        return namespace(x).concat(parts, axis=0)


def _softmax(joint: Array) -> Array:
    xp = namespace(joint)
    shares = xp.exp(joint - xp.max(joint, axis=-1, keepdims=True))
    return shares / xp.sum(shares, axis=-1, keepdims=True)


def pooled(laws: Sequence[Leaves]) -> Mixed:
    """The laws over one stack in which equal leaves stand once."""
    unique: dict[Hashable, tuple[Stack, np.ndarray]] = {}
    for row, leaves in enumerate(laws):
        for stack, log_weights in leaves:
            new = stack, np.full((len(laws), stack.size), -np.inf)
            table = unique.setdefault(stack.key, new)[1]
            table[row] = np.logaddexp(table[row], log_weights)
    groups: dict[Hashable, Leaves] = {}
    for leaf in unique.values():
        groups.setdefault(_group(leaf[0]), []).append(leaf)
    whole = _gather_lone(groups)
    stacks = [join([stack for stack, _ in leaves]) for leaves in whole]
    table = np.hstack([weights for leaves in whole for _, weights in leaves])
    return Mixed(stacks[0] if len(stacks) == 1 else Pool(tuple(stacks)), table)


def _group(stack: Stack) -> Hashable:
    if isinstance(stack, GaussianStack):
        return "gaussian", stack.covariance
    if isinstance(stack, ProductStack):
        return "product", stack.dims, *(type(slot) for slot in stack.slots)
    return type(stack)


def _gather_lone(groups: dict[Hashable, Leaves]) -> list[Leaves]:
    """Single Gaussians with a covariance of their own come together, by axis-aligned or not."""
    whole, lone = [], {True: [], False: []}
    for leaves in groups.values():
        first = leaves[0][0]
        if len(leaves) == 1 and isinstance(first, GaussianStack) and first.size == 1:
            lone[first.bases is None] += leaves
        else:
            whole.append(leaves)
    return whole + [leaves for leaves in lone.values() if leaves]


def join(stacks: Sequence[Stack]) -> Stack:
    """The stacks as one, their members in order."""
    if len(stacks) == 1:
        return stacks[0]
    gaussians = [s for s in stacks if isinstance(s, GaussianStack)]
    boxes = [s for s in stacks if isinstance(s, BoxStack)]
    products = [s for s in stacks if isinstance(s, ProductStack)]
    if len(gaussians) == len(stacks):
        return _join_gaussians(gaussians)
    if len(boxes) == len(stacks):
        return BoxStack(
            *(np.concatenate(parts) for parts in zip(*(box.arrays for box in boxes), strict=True))
        )
    if len(products) == len(stacks) and len({p.dims for p in products}) == 1:
        return ProductStack(tuple(join(s) for s in zip(*(p.slots for p in products), strict=True)))
    return Pool(tuple(stacks))


def _join_gaussians(stacks: Sequence[GaussianStack]) -> GaussianStack:
    means = np.concatenate([s.means for s in stacks])
    if len({s.covariance for s in stacks}) == 1 and len(stacks[0].spectra) == 1:
        return GaussianStack(means, stacks[0].spectra, stacks[0].bases)
    spectra = np.concatenate([np.broadcast_to(s.spectra, s.means.shape) for s in stacks])
    if all(s.bases is None for s in stacks):
        return GaussianStack(means, spectra)
    dim = stacks[0].dim
    bases = [np.eye(dim)[None] if s.bases is None else s.bases for s in stacks]
    wide = [np.broadcast_to(b, (s.size, dim, dim)) for b, s in zip(bases, stacks, strict=True)]
    return GaussianStack(means, spectra, np.concatenate(wide))


def side_by_side(stacks: Sequence[Stack]) -> Stack:
    """The product of single components as one component of its kind where there is one."""
    gaussians = [s for s in stacks if isinstance(s, GaussianStack)]
    boxes = [s for s in stacks if isinstance(s, BoxStack)]
    if len(boxes) == len(stacks):
        return BoxStack(
            *(np.hstack(parts) for parts in zip(*(box.arrays for box in boxes), strict=True))
        )
    if len(gaussians) < len(stacks):
        return ProductStack(tuple(stacks))
    means, spectra = (np.hstack([getattr(s, n) for s in gaussians]) for n in ("means", "spectra"))
    if all(s.bases is None for s in gaussians):
        return GaussianStack(means, spectra)
    basis, end = np.eye(means.shape[1])[None], 0
    for s in gaussians:
        end += s.dim
        if s.bases is not None:
            basis[0, end - s.dim : end, end - s.dim : end] = s.bases[0]
    return GaussianStack(means, spectra, basis)
