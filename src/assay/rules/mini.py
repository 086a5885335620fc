"""genraven-mini: number and position rules only, on one binary 9x9 image.

Rules 30-39 see nothing but which cells are occupied, so a sample is its occupancy: uint8
(n, 9, 9), rows downwards, panels to the right, 3x3 cells inside each. Rules 34 and 37 are held
out. Every tiny model learns the rest in about a minute, which makes it the first benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from assay.rules import codecs, genraven

RULES, HELD_OUT = genraven.MINI
TRAINED = tuple(rule for rule in RULES if rule not in HELD_OUT)


def encode(x: np.ndarray) -> np.ndarray:
    """Panels (n, 3, 3, 9, 3) -> uint8 (n, 9, 9): 1 where a cell has no attribute at -1."""
    full = np.all(codecs.as_panels(x) != -1, axis=-1, keepdims=True)
    return codecs.to_grid(full)[:, 0].astype(np.uint8)


def decode(image: np.ndarray) -> np.ndarray:
    """Images (n, 9, 9), of any real dtype -> int8 panels: attributes 0 where occupied, else -1.

    A cell is occupied from 1/2 upwards, and empty where it is NaN. ValueError for another shape.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[1:] != (9, 9):
        raise ValueError(f"images must have shape (n, 9, 9), got {image.shape}")
    cells = codecs.from_grid((image >= 0.5)[:, None])
    return np.repeat(cells.astype(np.int8) - 1, 3, axis=-1)


def generate(n: int, rules: Iterable[int] = RULES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n images uint8 (n, 9, 9) and their rules int64 (n,), as `genraven.generate`.

    ValueError for rules outside 30..39, and as `genraven.generate`.
    """
    rules = list(rules)
    if set(rules) - set(RULES):
        raise ValueError(f"rules of genraven-mini lie in 30..39, got {sorted(set(rules))}")
    x, y = genraven.generate(n, rules, seed)
    return encode(x), y


def check(image: np.ndarray) -> np.ndarray:
    """Images (n, 9, 9) -> bool (n, 3 rows, 10 rules): rules 30..39, thresholded as by `decode`."""
    return genraven.check(decode(image))[..., RULES[0] :]
