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

from collections.abc import Iterable

import numpy as np

from assay.rules import streams
from assay.rules.words import below, jit, lowest, popcount, rest

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
def pack(cells, offset, words):
    """The packed word of the panel whose 27 bytes start at ``offset``; ``unpack`` reads it."""
    packed = 0
    for cell in range(9):
        at = offset + 3 * cell
        word = words[cells[at]] | words[256 + cells[at + 1]] | words[512 + cells[at + 2]]
        occupied = ((word >> 43) & 1) - 1
        packed |= (word | (1 << (30 + cell))) & occupied
    return packed


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
        position, shape, size, colour = unpack(pack(cells, 27 * panel, words))
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
    return np.ascontiguousarray(x, np.int8)


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
def spread(values, n, random):
    """Values of n objects from a set, packed by four bits; uses at most 24 of 64 random bits.

    Inside-out shuffle (Durstenfeld) of the list: every value of the set, then uniform draws.
    """
    if values & (values - 1) == 0:
        return lowest(values) * 0x111111111
    size = popcount(values)
    todo = values
    ordered = 0
    for k in range(size):
        ordered |= lowest(todo) << (4 * k)
        todo &= todo - 1
    objects = 0
    for k in range(n):
        pick = k
        if k >= size:
            pick = below(random, size)
            random = rest(random, size)
        value = (ordered >> (4 * pick)) & 15
        place = 4 * below(random, k + 1)
        random = rest(random, k + 1)
        objects |= ((objects >> place) & 15) << (4 * k)
        objects = (objects & ~(15 << place)) | (value << place)
    return objects


@jit
def fill(out, offset, position, shapes, sizes, colours):
    """Write a panel's 27 bytes from its position mask and its objects' packed values."""
    for cell in range(9):
        occupied = (position >> cell) & 1
        void = occupied - 1
        at = offset + 3 * cell
        out[at] = (shapes & 15) | void
        out[at + 1] = (sizes & 15) | void
        out[at + 2] = (colours & 15) | void
        step = 4 * occupied
        shapes >>= step
        sizes >>= step
        colours >>= step


@jit
def _fill_panels(masks, key, first, out):
    for panel in range(masks.shape[0]):
        state, step = streams.start(key, first + panel)
        position = np.int64(masks[panel, 0])
        n = popcount(position)
        shapes = spread(np.int64(masks[panel, 1]), n, streams.mix(state + step))
        sizes = spread(np.int64(masks[panel, 2]), n, streams.mix(state + step + step))
        colours = spread(np.int64(masks[panel, 3]), n, streams.mix(state + step + step + step))
        fill(out, 27 * panel, position, shapes, sizes, colours)


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
    if ((masks < 0) | (masks >= 1 << np.array(WIDTHS))).any():
        raise ValueError("masks have bits beyond their widths (9, 7, 10, 10); clear those bits")
    n = np.bitwise_count(masks)
    if (n[..., 1:] > n[..., :1]).any() or ((n[..., 1:] == 0) != (n[..., :1] == 0)).any():
        raise ValueError(
            "masks need sets of 1 to as many values as the panel has objects; drop values or add "
            "positions"
        )
    out = np.empty((*masks.shape[:-1], N_CELLS, 3), np.int8)
    flat = np.ascontiguousarray(masks.reshape(-1, 4), np.int16)
    _fill_panels(flat, streams.key(seed), first, out.reshape(-1))
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
