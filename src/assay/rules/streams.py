"""Counter-based random streams: word k of sample i under a seed, whatever else was drawn.

Stream i is SplitMix64 with its own start and its own odd increment (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014; finaliser: Stafford's variant 13),

    word(seed, i, k) = mix(start_i + (k + 1) step_i)  mod 2^64,

where start_i and step_i | 1 are two outputs of the SplitMix64 sequence that the seed begins. Two
streams share a run of words only if both start and step agree, 127 bits.
"""

from __future__ import annotations

import operator

import numpy as np

from assay.rules.words import jit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_ONE, _TWO = np.uint64(1), np.uint64(2)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


@jit
def mix(z):
    """Bijection of 64-bit words in which every output bit depends on every input bit."""
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@jit
def start(key, index):
    """First state of a stream and its increment; then ``state += step; word = mix(state)``."""
    counter = key + np.uint64(index) * _TWO * _GOLDEN
    return mix(counter + _GOLDEN), mix(counter + _GOLDEN + _GOLDEN) | _ONE


def key(seed: int) -> np.uint64:
    """The key of a seed, an integer 0 <= seed < 2^64. ValueError otherwise."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer, got {seed!r}") from None
    if not 0 <= value < 1 << 64:
        raise ValueError(f"seed must lie in 0..2^64-1, got {value}; take it modulo 2**64")
    z = (value + int(_GOLDEN)) % (1 << 64)
    z = (z ^ (z >> 30)) * int(_FIRST) % (1 << 64)
    z = (z ^ (z >> 27)) * int(_SECOND) % (1 << 64)
    return np.uint64(z ^ (z >> 31))
