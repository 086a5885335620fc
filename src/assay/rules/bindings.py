"""What binds panels to a family's codes: encode, decode, and where a mask of panels falls.

    sets       int64 (n, 9, 4): position, shape, size, colour of each panel (`settokens`)
    positions  int64 (n, 9, 1): occupied positions alone, for genraven-mini
    cells      int64 (n, 81): the same, cell by cell, 1 where occupied
    occupancy  float32 (n, 1, 9, 9): the same as an image of -1 and 1, decoded by its sign
    joint      int64 (n, 81), separate uint8 (n, 81, 3), image float32 (n, 3, 9, 9),
               one-hot uint8 (n, 30, 9, 9): as in `codecs`

Panels decoded from occupancy alone have value 0 in every attribute, which obeys no attribute rule.
Only the set bindings draw cells on decoding; sample i's come from streams of (seed, i).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from assay.rules import bits, codecs, settokens


@dataclass(frozen=True)
class Binding:
    """encode(x) -> codes; decode(codes, seed) -> int8 panels; place(mask (n, 3, 3)) -> mask."""

    name: str
    shape: tuple[int, ...]
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray, int], np.ndarray]
    place: Callable[[np.ndarray], np.ndarray]
    occupancy_only: bool = False

    def project(self, x: np.ndarray) -> np.ndarray:
        """x as far as the codes tell: what a model of these codes can copy."""
        if not self.occupancy_only:
            return x
        return np.where((x < 0).any(-1, keepdims=True), -1, 0).astype(np.int8).repeat(3, -1)


def _encode_sets(x: np.ndarray) -> np.ndarray:
    return settokens.encode(x).astype(np.int64)


def _encode_positions(x: np.ndarray) -> np.ndarray:
    return _encode_sets(x)[..., :1]


def _decode_sets(sets: np.ndarray, seed: int) -> np.ndarray:
    return bits.fill_panels(np.asarray(sets), seed).reshape(-1, *codecs.SHAPE)


def _decode_positions(sets: np.ndarray, seed: int) -> np.ndarray:
    return _occupied(np.asarray(sets)[..., 0, None] >> np.arange(9) & 1)


def _occupied(cells: np.ndarray) -> np.ndarray:
    """Panels with value 0 where a cell is occupied, from 81 numbers 0 or 1 a sample."""
    x = (cells.astype(np.int8) - 1).reshape(-1, *codecs.SHAPE[:-1], 1)
    return x.repeat(3, -1)


def _encode_cells(x: np.ndarray) -> np.ndarray:
    return (x >= 0).all(-1).reshape(-1, 81).astype(np.int64)


def _encode_occupancy(x: np.ndarray) -> np.ndarray:
    occupied = np.asarray((x >= 0).all(-1, keepdims=True))
    return (2 * codecs.to_grid(occupied) - 1.0).astype(np.float32)


def _decode_occupancy(image: np.ndarray, seed: int) -> np.ndarray:
    return _occupied(codecs.from_grid(np.asarray(image) > 0))


def _panels(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, 9)


def _cells(mask: np.ndarray) -> np.ndarray:
    return _panels(mask).repeat(9, 1)


def _grid(mask: np.ndarray) -> np.ndarray:
    return mask.repeat(3, 1).repeat(3, 2)[:, None]


_PLACES = {"joint": _cells, "separate": lambda mask: _cells(mask)[..., None]}

BINDINGS = {
    "sets": Binding("sets", (9, 4), _encode_sets, _decode_sets, _panels),
    "positions": Binding(
        "positions", (9, 1), _encode_positions, _decode_positions, _panels, occupancy_only=True
    ),
    "cells": Binding(
        "cells",
        (81,),
        _encode_cells,
        lambda cells, seed: _occupied(cells),
        _cells,
        occupancy_only=True,
    ),
    "occupancy": Binding(
        "occupancy",
        (1, 9, 9),
        _encode_occupancy,
        _decode_occupancy,
        _grid,
        occupancy_only=True,
    ),
    **{
        name: Binding(
            name,
            codec.shape,
            codec.encode,
            lambda codes, seed, decode=codec.decode: decode(codes),
            _PLACES.get(name, _grid),
        )
        for name, codec in codecs.CODECS.items()
    },
}


def get(name: str) -> Binding:
    """The binding of this name; ValueError with the names there are."""
    if name not in BINDINGS:
        raise ValueError(f"binding {name!r} is unknown; choose from {', '.join(BINDINGS)}")
    return BINDINGS[name]
