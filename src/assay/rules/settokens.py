"""Set tokens: a panel as four sets, and the rule-free decoder that fills its cells.

A panel's token is (position, shape, size, colour), each a set written as the bits of an integer:
the occupied positions (9 bits, 511 non-empty sets) and the values present of each attribute
(7, 10, 10 bits; 127, 1023, 1023 sets). Everything a rule can see is in these 36 bits: a rule
holds for x if and only if it holds for decode(encode(x)).

The decoder knows no rule: it is the fill law of the data (`bits.fill_panels`). Each value of a
set is placed once, the other objects take values uniform over the set, and the values are
shuffled over the occupied cells; attributes are filled independently. A set larger than the
panel's number of objects cannot be placed: `allowed` marks those, to be masked out of logits.

This encoding hands a model the notion of a set: a structural prior, to be named as one wherever
a figure uses it.
"""

from __future__ import annotations

import numpy as np

from assay.rules import bits, codecs

N_BITS = sum(bits.WIDTHS)
_SHIFTS = np.concatenate([np.arange(width) for width in bits.WIDTHS])
_OWNER = np.repeat(np.arange(4), bits.WIDTHS)
_WEIGHTS = np.where(_OWNER[:, None] == np.arange(4), 1 << _SHIFTS[:, None], 0)


def encode(x: np.ndarray) -> np.ndarray:
    """Panels (n, 3, 3, 9, 3) -> int16 sets (n, 9, 4): position, shape, size, colour.

    A cell with -1 in any attribute is empty, as for the checker; an empty panel has four empty
    sets. Raises ValueError for values outside -1..M-1, which belong to no set.
    """
    return bits.panel_masks(codecs.in_range(x).reshape(-1, 9, 9, 3))


def decode(sets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill sets (n, 9, 4) into int8 panels (n, 3, 3, 9, 3), cells drawn by the rule-free law.

    encode(decode(sets, rng)) == sets for every draw. A panel of four empty sets comes out empty.
    Raises ValueError for sets that cannot be filled in (see `allowed`), or of another shape.
    """
    sets = np.asarray(sets)
    if sets.ndim != 3 or sets.shape[1:] != (9, 4):
        raise ValueError(f"sets must have shape (n, 9, 4), got {sets.shape}")
    seed = int(rng.integers(1 << 63))
    return bits.fill_panels(sets, seed).reshape(-1, *codecs.SHAPE)


def to_bits(sets: np.ndarray) -> np.ndarray:
    """Sets (..., 4) -> bool (..., 36): 9 positions, 7 shapes, 10 sizes, 10 colours."""
    return np.asarray(sets)[..., _OWNER].astype(np.int64) >> _SHIFTS & 1 == 1


def from_bits(flags: np.ndarray) -> np.ndarray:
    """Bits (..., 36) -> int16 sets (..., 4), the inverse of `to_bits`."""
    flags = np.asarray(flags, bool)
    if flags.ndim == 0 or flags.shape[-1] != N_BITS:
        raise ValueError(f"bits must have {N_BITS} entries in the last axis, got {flags.shape}")
    return (flags @ _WEIGHTS).astype(np.int16)


def allowed(name: str) -> np.ndarray:
    """bool (10, 2^M): may a panel of this number of objects (0..9) hold this set of values?

    True where 1 <= |set| <= number. name is "shape", "size" or "colour"; ValueError for others.
    """
    if name not in bits.MASKS[1:]:
        raise ValueError(f"name must be one of {', '.join(bits.MASKS[1:])}, got {name!r}")
    size = np.bitwise_count(np.arange(1 << bits.WIDTHS[bits.MASKS.index(name)]))
    return (size >= 1) & (size <= np.arange(10)[:, None])
