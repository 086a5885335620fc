"""Set tokens: a panel as four sets, and the rule-free decoder that fills its cells.

A panel's token is (position, shape, size, colour), each a set written as the bits of an integer:
the occupied positions (9 bits, 511 non-empty sets) and the values present of each attribute
(7, 10, 10 bits; 127, 1023, 1023 sets). Everything a rule can see is in these 36 bits: a rule
holds for x if and only if it holds for decode(encode(x)).

The decoder knows no rule. Within a panel each value of a set is placed once, the other objects
take values uniform over the set, and the values are shuffled over the occupied cells; attributes
are filled independently. An attribute set larger than the panel's number of objects cannot be
placed: `allowed` marks those sets, for a model to mask out of its logits.

This encoding hands a model the notion of a set: a structural prior, to be named as one wherever
a figure uses it.
"""

from __future__ import annotations

import numpy as np

from assay.rules import codecs

WIDTHS = (9, 7, 10, 10)  # bits of position, shape, size, colour
N_BITS = sum(WIDTHS)
NAMES = ("position", "shape", "size", "colour")
COUNT = np.array([m.bit_count() for m in range(1 << 10)], np.int8)
_BITS = (np.arange(1 << 10)[:, None] >> np.arange(10)) & 1 == 1
ELEMENTS = np.argsort(~_BITS, axis=1, kind="stable").astype(np.int8)  # members first, in order
_SHIFTS = np.concatenate([np.arange(width) for width in WIDTHS])
_OWNER = np.repeat(np.arange(4), WIDTHS)


def encode(x: np.ndarray) -> np.ndarray:
    """Panels (n, 3, 3, 9, 3) -> uint16 sets (n, 9, 4): position, shape, size, colour.

    A cell with -1 in any attribute is empty, as for the checker; an empty panel has four empty
    sets. Raises ValueError for values outside -1..M-1, which belong to no set.
    """
    tokens = codecs.encode_separate(x).reshape(len(x), 9, 9, 3)
    full = (tokens > 0).all(-1)
    position = full @ (1 << np.arange(9))
    bits = np.where(full[..., None], 1 << tokens.astype(np.int64) >> 1, 0)
    sets = np.bitwise_or.reduce(bits, axis=2)
    return np.concatenate([position[..., None], sets], -1).astype(np.uint16)


def to_bits(sets: np.ndarray) -> np.ndarray:
    """Sets (..., 4) -> bool (..., 36): 9 positions, 7 shapes, 10 sizes, 10 colours."""
    return np.asarray(sets)[..., _OWNER].astype(np.int64) >> _SHIFTS & 1 == 1


def from_bits(bits: np.ndarray) -> np.ndarray:
    """Bits (..., 36) -> uint16 sets (..., 4), the inverse of `to_bits`."""
    bits = np.asarray(bits, bool)
    if bits.ndim == 0 or bits.shape[-1] != N_BITS:
        raise ValueError(f"bits must have {N_BITS} entries in the last axis, got {bits.shape}")
    weights = np.where(_OWNER[:, None] == np.arange(4), 1 << _SHIFTS[:, None], 0)
    return (bits @ weights).astype(np.uint16)


def allowed(name: str) -> np.ndarray:
    """bool (10, 2^M): may a panel of this number of objects (0..9) hold this set of values?

    True where 1 <= |set| <= number. name is "shape", "size" or "colour"; ValueError for others.
    """
    if name not in NAMES[1:]:
        raise ValueError(f"name must be one of {', '.join(NAMES[1:])}, got {name!r}")
    size = COUNT[: 1 << WIDTHS[NAMES.index(name)]]
    return (size >= 1) & (size <= np.arange(10)[:, None])


def _checked(sets: np.ndarray) -> np.ndarray:
    sets = np.asarray(sets)
    if sets.ndim != 3 or sets.shape[1:] != (9, 4) or sets.dtype.kind not in "iu":
        raise ValueError(
            f"sets must be integers of shape (n, 9, 4), got {sets.dtype} {sets.shape}"
        )
    if ((sets < 0) | (sets >= 1 << np.array(WIDTHS))).any():
        raise ValueError(f"sets must have at most {WIDTHS} bits: position, shape, size, colour")
    size = COUNT[sets]
    if ((size[..., 1:] > size[..., :1]) | ((size[..., 1:] == 0) & (size[..., :1] > 0))).any():
        raise ValueError(
            "a set is empty or larger than its panel's number of objects, so that it cannot be "
            "filled in: mask such sets with settokens.allowed"
        )
    return sets.astype(np.int64)


def decode(sets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill sets (n, 9, 4) into int8 panels (n, 3, 3, 9, 3), cells drawn by the rule-free law.

    encode(decode(sets, rng)) == sets for every draw. A panel with an empty position set comes
    out empty. Raises ValueError for sets that cannot be filled in (see `allowed`).
    """
    sets = _checked(sets)
    n = len(sets)
    position, values = sets[..., :1], sets[..., 1:]
    full = position >> np.arange(9) & 1 == 1  # (n, 9 panels, 9 cells)
    size = COUNT[values][..., None]  # (n, 9, 3, 1)
    slot = np.arange(9)
    spare = (rng.random((n, 9, 3, 9)) * size).astype(np.int64)
    chosen = np.where(slot < size, slot, spare)  # slots 0.. hold each value once
    filled = np.take_along_axis(ELEMENTS[values], chosen, -1)
    key = np.where(full[:, :, None], rng.random((n, 9, 3, 9)), 2.0)
    rank = key.argsort(-1).argsort(-1)  # occupied cells take the first slots, in random order
    cells = np.take_along_axis(filled, rank, -1)
    x = np.where(full[:, :, None], cells, -1)
    return x.swapaxes(2, 3).reshape(n, 3, 3, 9, 3).astype(np.int8)
