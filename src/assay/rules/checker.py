"""Which of the forty rules hold in each row of a sample.

A rule holds in a row when its relation holds on the three panels' sets (``relations``), read from
the cells as ``bits`` says: a cell with any -1 is empty, a row with an empty panel obeys nothing, a
panel with another value out of range obeys no rule of that attribute. At most one relation holds
for each of shape, size, colour, number and position, so a row obeys at most five rules.
"""

from __future__ import annotations

import numpy as np

from assay.rules import bits, parallel
from assay.rules.bits import VALUE_WORDS, as_bytes, pack_at, unpack
from assay.rules.relations import (
    NUMBER,
    SEVEN,
    TABLES,
    TEN,
    attribute_relation,
    position_relation,
    single_relation,
)
from assay.rules.words import jit, popcount, store8

N_RULES = 40
SAMPLE_SHAPE = (3, 3, 9, 3)


@jit
def mark(out, panels, tables):
    """Set byte r of the 40 at ``out`` for each rule r that three packed panels obey."""
    position1, shape1, size1, colour1 = unpack(panels[0])
    position2, shape2, size2, colour2 = unpack(panels[1])
    position3, shape3, size3, colour3 = unpack(panels[2])
    if position1 == 0 or position2 == 0 or position3 == 0:
        return
    shape = attribute_relation(SEVEN, shape1, shape2, shape3, tables)
    if shape >= 0:
        store8(out, shape, 1)
    size = attribute_relation(TEN, size1, size2, size3, tables)
    if size >= 0:
        store8(out, 10 + size, 1)
    colour = attribute_relation(TEN, colour1, colour2, colour3, tables)
    if colour >= 0:
        store8(out, 20 + colour, 1)
    n1, n2, n3 = popcount(position1), popcount(position2), popcount(position3)
    number = single_relation(NUMBER, n1, n2, n3, tables)
    if number >= 0:
        store8(out, 30 + number, 1)
    position = position_relation(position1, position2, position3, tables)
    if position >= 0:
        store8(out, 30 + position, 1)


@jit
def _check_rows(cells, out, words, tables):
    address, words, tables = cells.ctypes.data, words.ctypes.data, tables.ctypes.data
    verdicts = out.ctypes.data
    for _ in range(len(out)):
        panels = (
            pack_at(address, words),
            pack_at(address + 27, words),
            pack_at(address + 54, words),
        )
        mark(verdicts, panels, tables)
        address += 81
        verdicts += 40


@jit
def _check_masks(masks, out, tables):
    verdicts, tables = out.ctypes.data, tables.ctypes.data
    for row in range(len(out)):
        panel1, panel2, panel3 = 0, 0, 0
        for mask in range(4):
            column = (4 - mask) & 3
            panel1 = panel1 << 10 | masks[row, 0, column]
            panel2 = panel2 << 10 | masks[row, 1, column]
            panel3 = panel3 << 10 | masks[row, 2, column]
        mark(verdicts, (panel1, panel2, panel3), tables)
        verdicts += 40


def check(x: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Integers (n, 3 rows, 3 panels, 9 positions, 3 attributes) -> bool (n, 3 rows, 40 rules).

    Any values are accepted (-1 is empty, the rest as the module says). ValueError for another
    shape or a type that is not integer. ``threads``: cores unless given.
    """
    x = np.asarray(x)
    if x.ndim != 5 or x.shape[1:] != SAMPLE_SHAPE:
        raise ValueError(
            f"x must have shape (n, 3, 3, 9, 3) (row, panel, position, attribute), got {x.shape}"
        )
    as_bytes(x[:0])
    out = np.zeros((len(x), 3, N_RULES), np.bool_)

    def run(start: int, stop: int) -> None:
        cells = as_bytes(x[start:stop]).view(np.uint8).reshape(-1)
        _check_rows(cells, out[start:stop].reshape(-1, N_RULES), VALUE_WORDS, TABLES)

    parallel.over(len(x), run, threads)
    return out


def check_masks(masks: np.ndarray) -> np.ndarray:
    """Masks (..., 3 panels, 4) of ``bits.panel_masks`` -> bool (..., 40), for rows of panels.

    A set of 0 in an occupied panel obeys no rule of that attribute. ValueError where masks are
    not integers of that shape or have bits beyond their widths.
    """
    masks = np.asarray(masks)
    if masks.dtype.kind not in "iu" or masks.shape[-2:] != (3, 4):
        raise ValueError(
            f"masks must be integers (..., 3, 4) (panel; position, shape, size, colour); got "
            f"{masks.dtype} {masks.shape}"
        )
    bits.require_widths(masks)
    out = np.zeros((*masks.shape[:-2], N_RULES), np.bool_)
    flat = np.require(masks.reshape(-1, 3, 4), np.int16, ["C", "W"])
    _check_masks(flat, out.reshape(-1, N_RULES), TABLES)
    return out
