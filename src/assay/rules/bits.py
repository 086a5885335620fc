"""Panels as four bit masks, and back to cells.

A panel is 9 cells x 3 attributes (shape 0..6, size 0..9, colour 0..9; int8), a cell with ANY
attribute -1 is empty. Its masks, in this order everywhere: position (bit c: cell c, in raster
order, is occupied; 9 bits), shape (7 bits), size (10), colour (10): bit v of an attribute's mask
is set when an object of the panel has the value v. Number is the popcount of the position mask.

A panel with an occupied cell whose value of some attribute is out of range has no set of that
attribute: its mask is 0, which satisfies no relation; the cell still counts as occupied. The
attributes of an empty cell are not looked at.

Back from masks to cells by the fill distribution: each value of a set is placed once, the other
objects take values uniformly from the set, all shuffled over the occupied cells; attributes
independently (GenRAVEN; arXiv 2411.07873).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np

from assay.rules import streams
from assay.rules.words import below, jit, load, load8, lowest, popcount, rest, store8, store32

N_CELLS = 9
EMPTY = -1
POSITION, SHAPE, SIZE, COLOUR = range(4)
MASKS = ("position", "shape", "size", "colour")
WIDTHS = (9, 7, 10, 10)

# One packed word per panel: shape from bit 0, size from 10, colour from 20, position from 30;
# then one flag for each attribute with a value out of range, and one for an empty cell.
_OUT, _VOID = 40, 43


def _value_words() -> np.ndarray:
    """uint8 view of a value -> its contribution to the packed word, one line per attribute."""
    words = np.empty((3, 256), np.int64)
    for attribute, n_values in enumerate(WIDTHS[1:]):
        words[attribute] = 1 << (_OUT + attribute)
        words[attribute, :n_values] = 1 << (10 * attribute + np.arange(n_values))
        words[attribute, 255] = 1 << _VOID
    return words.ravel()


VALUE_WORDS = _value_words()


@jit
def pack_at(address, words):
    """The packed word of the panel whose 27 bytes begin at an address; ``unpack`` reads it."""
    packed = 0
    for cell in range(9):
        shape = load(words, load8(address, 3 * cell))
        size = load(words, 256 + load8(address, 3 * cell + 1))
        colour = load(words, 512 + load8(address, 3 * cell + 2))
        word = shape | size | colour
        packed |= (word | 1 << (30 + cell)) & (((word >> 43) & 1) - 1)
    return packed


@jit
def pack(cells, offset, words):
    """``pack_at`` for bytes that lie in an array from ``offset`` on."""
    return pack_at(cells.ctypes.data + offset, words.ctypes.data)


@jit
def unpack(packed):
    """Masks (position, shape, size, colour) of a packed word; 0 where a value is out of range."""
    shape = packed & 127 & (((packed >> 40) & 1) - 1)
    size = (packed >> 10) & 1023 & (((packed >> 41) & 1) - 1)
    colour = (packed >> 20) & 1023 & (((packed >> 42) & 1) - 1)
    return (packed >> 30) & 511, shape, size, colour


@jit
def _panel_masks(cells, words, out):
    for panel in range(out.shape[0]):
        packed = pack_at(cells.ctypes.data + 27 * panel, words.ctypes.data)
        position, shape, size, colour = unpack(packed)
        out[panel, 0], out[panel, 1] = position, shape
        out[panel, 2], out[panel, 3] = size, colour


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Integers of any type as contiguous int8, saturated: out of range stays out of range.

    ValueError where ``x`` does not hold integers.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        raise ValueError(f"panels must hold integers, got {x.dtype}; round and convert them first")
    if x.dtype != np.int8:
        x = np.minimum(x, 127) if x.dtype.kind == "u" else np.clip(x, -128, 127)
    return np.require(x, np.int8, ["C", "W"])


def panel_masks(panels: np.ndarray) -> np.ndarray:
    """Masks of panels: integers (..., 9, 3) -> int16 (..., 4): position, shape, size, colour.

    Values out of range are those of the module's convention, never an error; ValueError for a
    type that is not integer or a shape that does not end in (9, 3).
    """
    panels = np.asarray(panels)
    if panels.shape[-2:] != (N_CELLS, 3):
        raise ValueError(f"panels must end in shape (9, 3) (cell, attribute), got {panels.shape}")
    cells = as_bytes(panels)
    out = np.empty((*panels.shape[:-2], 4), np.int16)
    _panel_masks(cells.view(np.uint8).reshape(-1), VALUE_WORDS, out.reshape(-1, 4))
    return out


@jit
def spread(values, n, state):
    """Values of n objects from a set, packed by four bits; ``state`` is its word of a stream.

    Inside-out shuffle (Durstenfeld) of the list: every value of the set, then uniform draws,
    which take at most 24 of 64 random bits.
    """
    if values & (values - 1) == 0:
        return lowest(values) * 0x111111111
    random = streams.mix(state)
    objects = size = 0
    while values:
        place = 4 * below(random, size + 1)
        random = rest(random, size + 1)
        objects |= ((objects >> place) & 15) << (4 * size)
        objects = (objects & ~(15 << place)) | (lowest(values) << place)
        values &= values - 1
        size += 1
    once = objects
    for k in range(size, n):
        value = (once >> (4 * below(random, size))) & 15
        random = rest(random, size)
        place = 4 * below(random, k + 1)
        random = rest(random, k + 1)
        objects |= ((objects >> place) & 15) << (4 * k)
        objects = (objects & ~(15 << place)) | (value << place)
    return objects


@jit
def fill(address, position, shapes, sizes, colours):
    """Write a panel's 27 bytes at an address, from its position mask and packed values."""
    for cell in range(9):
        occupied = (position >> cell) & 1
        value = (shapes & 15) | (sizes & 15) << 8 | (colours & 15) << 16 | (occupied - 1)
        if cell < 8:
            store32(address, 3 * cell, value)
        else:
            store8(address, 24, value)
            store8(address, 25, value >> 8)
            store8(address, 26, value >> 16)
        step = 4 * occupied
        shapes >>= step
        sizes >>= step
        colours >>= step


@jit
def fill_packed(address, packed, state, step):
    """Write the panel of a packed word by the fill distribution; returns the stream's state."""
    position = packed >> 30
    n = popcount(position)
    shapes = spread(packed & 127, n, state + step)
    sizes = spread((packed >> 10) & 1023, n, state + step + step)
    state += step + step + step
    fill(address, position, shapes, sizes, spread((packed >> 20) & 1023, n, state))
    return state


@jit
def _fill_panels(masks, key, first, out):
    address = out.ctypes.data
    for panel in range(masks.shape[0]):
        state, step = streams.start(key, first + panel)
        packed = 0
        for mask in range(4):
            packed = (packed << 10) | masks[panel, (4 - mask) & 3]
        fill_packed(address + 27 * panel, packed, state, step)


def require_widths(masks: np.ndarray) -> None:
    """ValueError where masks (..., 4) have bits beyond their widths."""
    if ((masks < 0) | (masks >= 1 << np.array(WIDTHS))).any():
        raise ValueError("masks have bits beyond their widths (9, 7, 10, 10); clear those bits")


def fill_panels(masks: np.ndarray, seed: int, first: int = 0) -> np.ndarray:
    """Cells drawn by the fill distribution: masks (..., 4) -> int8 (..., 9, 3).

    Panel j (in flat order) depends on its masks, the seed and ``first`` + j alone, and its masks
    are exactly those given; an empty position mask with empty sets gives an empty panel.
    ValueError where a mask has bits beyond its width, a set is empty in an occupied panel (or the
    reverse), or has more values than the panel has objects.
    """
    masks = np.asarray(masks)
    if masks.dtype.kind not in "iu" or masks.shape[-1:] != (4,):
        raise ValueError(
            f"masks must be integers (..., 4): position, shape, size, colour; got {masks.dtype} "
            f"{masks.shape}"
        )
    require_widths(masks)
    n = np.bitwise_count(masks)
    if (n[..., 1:] > n[..., :1]).any() or ((n[..., 1:] == 0) != (n[..., :1] == 0)).any():
        raise ValueError(
            "masks need sets of 1 to as many values as the panel has objects; drop values or add "
            "positions"
        )
    out = np.empty((*masks.shape[:-1], N_CELLS, 3), np.int8)
    flat = np.require(masks.reshape(-1, 4), np.int16, ["C", "W"])
    _fill_panels(flat, streams.key(seed), operator.index(first), out.reshape(-1))
    return out


def mask_of(values: Iterable[int]) -> int:
    """The mask of a set of values (or of cells): sum of 2^v."""
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


def values_of(mask: int) -> tuple[int, ...]:
    """The values (or cells) of a mask, ascending."""
    return tuple(value for value in range(int(mask).bit_length()) if mask >> value & 1)
