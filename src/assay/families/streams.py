"""Per-sample random streams: what sample i draws depends on the seed and on i alone.

Not on its batch, nor on the device, nor on how many processes share the work. Word k of stream i
is SplitMix64 with a start and an odd increment of the stream's own (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014; finaliser: Stafford's variant 13),

    word(seed, i, k) = mix(start_i + (k + 1) step_i)  mod 2^64.

A `Streams` has a place: it hands out the words of its streams in turn, the same number to each
sample, whatever the order in which samples are asked for.
"""

from __future__ import annotations

import math
import operator

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11 = (np.uint64(s) for s in (27, 30, 31, 11))


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


def _hash(*values: int) -> int:
    """One 64-bit word from several integers, by folding each into the mixed last."""
    word = np.zeros(1, np.uint64)
    for value in values:
        word = _mix(word + np.uint64((value + 1) * int(_GOLDEN) % (1 << 64)))
    return int(word[0])


class Streams:
    """Streams first, first + 1, ... of a seed, from their beginning.

    seed: integer >= 0; first: the stream of sample 0; ValueError for a negative one of either.
    """

    def __init__(self, seed: int, first: int = 0):
        self.seed, self.first, self.drawn = operator.index(seed), operator.index(first), 0
        self.lines: np.ndarray | None = None
        if self.seed < 0 or self.first < 0:
            raise ValueError(f"seed and first must be >= 0, got {seed} and {first}")

    def at(self, offset: int) -> Streams:
        """The same streams from sample ``offset`` on, from their beginning."""
        return Streams(self.seed, self.first + offset)

    def take(self, lines: np.ndarray) -> Streams:
        """The streams of these samples (n,), integers >= 0, from their beginning."""
        taken = Streams(self.seed, self.first)
        taken.lines = np.asarray(lines).astype(np.uint64) + np.uint64(self.first)
        return taken

    def child(self, *key: int) -> Streams:
        """Other streams, of a seed made from this one and the key; same first sample."""
        return Streams(_hash(self.seed, len(key), *key), self.first)

    def words(self, n: int, k: int) -> np.ndarray:
        """uint64 (n, k): the next k words of each of the first n streams."""
        index = np.arange(self.first, self.first + n, dtype=np.uint64)
        if self.lines is not None:
            index = self.lines[:n]
        counter = np.uint64(_hash(self.seed)) + index * np.uint64(2) * _GOLDEN
        start = _mix(counter + _GOLDEN)
        step = _mix(counter + _GOLDEN + _GOLDEN) | np.uint64(1)
        count = np.arange(self.drawn + 1, self.drawn + k + 1, dtype=np.uint64)
        self.drawn += k
        return _mix(start[:, None] + count * step[:, None])

    def rand(self, n: int, *shape: int) -> torch.Tensor:
        """float64 (n, *shape), uniform on [0, 1) in steps of 2^-53; on the CPU."""
        words = self.words(n, math.prod(shape)) >> _S11
        return torch.from_numpy((words.astype(np.float64) * 2.0**-53).reshape(n, *shape))

    def randn(self, n: int, *shape: int) -> torch.Tensor:
        """float64 (n, *shape), standard normal by inversion (|x| < 8.3); on the CPU."""
        words = self.words(n, math.prod(shape)) >> _S11
        middle = torch.from_numpy((words.astype(np.float64) + 0.5) * 2.0**-53)
        return torch.special.ndtri(middle).reshape(n, *shape)

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A torch generator for what need not be a sample's own, such as dropout masks."""
        rng = torch.Generator(device)
        rng.manual_seed(_hash(self.seed, self.first, self.drawn) >> 1)
        return rng
