"""Exact round trips between panels and what a network reads: images, one-hots and tokens.

Panels x are integers (n, 3 rows, 3 panels, 9 positions, 3 attributes): shape 0..6, size 0..9,
colour 0..9, and -1 in all three where a position is empty. Every codec keeps half-empty cells
(-1 in some attributes only), so that what a model drew is judged as it drew it.

    image     (n, 3, 9, 9) float32: attributes as channels, rows downwards, panels to the right,
              3x3 cells inside each; standardised by IMAGE_MEAN and IMAGE_STD. Decoding rounds and
              saturates to int8; it never clamps to the valid range, so a wrong value stays wrong.
    one-hot   (n, 30, 9, 9) uint8 in the same layout: 8 + 11 + 11 classes, class 0 is empty.
    tokens    81 in the order row, panel, y, x; every attribute + 1. `separate`: (n, 81, 3) uint8
              below (8, 11, 11). `joint`: (n, 81) int64, id = s*121 + z*11 + c below 968, of which
              701 are valid (0, the empty cell, and the 700 with no attribute at 0).

Source: Wang, Shang and Sompolinsky, "Diverse capability and scaling of diffusion and
auto-regressive models when learning abstract rules", 2024 (arXiv 2411.07873), appendix.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SHAPE = (3, 3, 9, 3)  # rows, panels, positions, attributes of one sample
LEVELS = np.array([7, 10, 10])  # values of shape, size and colour
CLASSES = (8, 11, 11)  # the same with the empty value in front
N_JOINT = 968  # 8 * 11 * 11
IMAGE_MEAN = np.array([1.5, 2.5, 2.5], np.float32)
IMAGE_STD = np.array([2.5, 3.5, 3.5], np.float32)
PLACES = np.array([121, 11, 1])  # weight of each attribute in a joint id
STARTS = (0, 8, 19, 30)  # one-hot channels of each attribute
_IDS = np.stack(np.unravel_index(np.arange(N_JOINT), CLASSES), -1)
VALID_JOINT = np.flatnonzero((_IDS > 0).all(-1) | (_IDS == 0).all(-1))


@dataclass(frozen=True)
class Codec:
    """A pair of inverse maps: encode(x) -> (n, *shape), decode(code) -> x, int8."""

    name: str
    shape: tuple[int, ...]
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


def as_panels(x: np.ndarray) -> np.ndarray:
    """x itself, if it holds integers of shape (n, 3, 3, 9, 3); ValueError otherwise."""
    x = np.asarray(x)
    if x.ndim != 5 or x.shape[1:] != SHAPE:
        raise ValueError(
            f"panels must have shape (n, 3, 3, 9, 3): rows, panels, positions, attributes; "
            f"got {x.shape}"
        )
    if x.dtype.kind not in "iu":
        raise ValueError(
            f"panels must be integers, got dtype {x.dtype}: decode images with "
            "codecs.decode_image, or round and cast to int8"
        )
    return x


def in_range(x: np.ndarray) -> np.ndarray:
    """x itself, if it is panels with values in -1..M-1; ValueError naming the first other."""
    x = as_panels(x)
    bad = (x < -1) | (x >= LEVELS)
    if bad.any():
        *_, attribute = np.argwhere(bad)[0]
        raise ValueError(
            f"x holds {x[bad][0]} for {('shape', 'size', 'colour')[attribute]}, which has no "
            f"token: values run from -1 (empty) to {LEVELS[attribute] - 1}"
        )
    return x


def _code(name: str, code: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    code = np.asarray(code)
    if code.ndim != len(shape) + 1 or code.shape[1:] != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name} must have shape (n, {expected}), got {code.shape}")
    return code


def to_grid(x: np.ndarray) -> np.ndarray:
    """(n, 3, 3, 9, k) -> (n, k, 9, 9): rows downwards, panels to the right."""
    n, k = len(x), x.shape[-1]
    cells = x.reshape(n, 3, 3, 3, 3, k)  # row, panel, y, x
    return cells.transpose(0, 5, 1, 3, 2, 4).reshape(n, k, 9, 9)


def from_grid(grid: np.ndarray) -> np.ndarray:
    """(n, k, 9, 9) -> (n, 3, 3, 9, k), the inverse of `to_grid`."""
    n, k = grid.shape[:2]
    cells = grid.reshape(n, k, 3, 3, 3, 3)  # row, y, panel, x
    return cells.transpose(0, 2, 4, 3, 5, 1).reshape(n, 3, 3, 9, k)


def encode_image(x: np.ndarray) -> np.ndarray:
    """Panels (n, 3, 3, 9, 3) -> float32 (n, 3, 9, 9), standardised; any integer is kept."""
    grid = to_grid(as_panels(x)).astype(np.float32)
    return (grid - IMAGE_MEAN[:, None, None]) / IMAGE_STD[:, None, None]


def decode_image(image: np.ndarray) -> np.ndarray:
    """Images (n, 3, 9, 9), any real dtype -> int8 panels: rounded and saturated, never clamped.

    Values beyond int8 become -128 or 127, and NaN becomes -128: no rule admits either.
    Raises ValueError for another shape.
    """
    image = _code("image", image, (3, 9, 9))
    real = image * IMAGE_STD[:, None, None].astype(np.float64) + IMAGE_MEAN[:, None, None]
    real = np.nan_to_num(np.rint(real), nan=-128.0)
    return from_grid(np.clip(real, -128, 127).astype(np.int8))


def encode_one_hot(x: np.ndarray) -> np.ndarray:
    """Panels -> uint8 (n, 30, 9, 9). Raises ValueError for values outside -1..M-1."""
    classes = to_grid(in_range(x)).astype(np.int64) + 1
    parts = [np.arange(m)[:, None, None] == classes[:, [a]] for a, m in enumerate(CLASSES)]
    return np.concatenate(parts, 1).astype(np.uint8)


def decode_one_hot(code: np.ndarray) -> np.ndarray:
    """Scores (n, 30, 9, 9) -> int8 panels by the largest of each attribute (first of equals)."""
    code = _code("one-hot", code, (30, 9, 9))
    spans = itertools.pairwise(STARTS)
    classes = np.stack([code[:, low:high].argmax(1) for low, high in spans], 1)
    return (from_grid(classes) - 1).astype(np.int8)


def encode_separate(x: np.ndarray) -> np.ndarray:
    """Panels -> uint8 (n, 81, 3), value + 1. Raises ValueError for values outside -1..M-1."""
    return (in_range(x).reshape(-1, 81, 3) + 1).astype(np.uint8)


def decode_separate(tokens: np.ndarray) -> np.ndarray:
    """Tokens (n, 81, 3) below (8, 11, 11) -> int8 panels; ValueError for other tokens."""
    tokens = _code("separate tokens", tokens, (81, 3))
    if ((tokens < 0) | (tokens > LEVELS)).any():
        raise ValueError("separate tokens must lie in 0..7, 0..10 and 0..10: check the heads")
    return (tokens.astype(np.int64) - 1).astype(np.int8).reshape(-1, *SHAPE)


def encode_joint(x: np.ndarray) -> np.ndarray:
    """Panels -> int64 ids (n, 81) in 0..967. Raises ValueError for values outside -1..M-1."""
    return encode_separate(x).astype(np.int64) @ PLACES


def decode_joint(tokens: np.ndarray) -> np.ndarray:
    """Ids (n, 81) in 0..967 -> int8 panels; ValueError for other ids.

    The 267 ids outside VALID_JOINT are half-empty cells and decode as such.
    """
    tokens = _code("joint tokens", tokens, (81,))
    if tokens.dtype.kind not in "iu" or ((tokens < 0) | (tokens >= N_JOINT)).any():
        raise ValueError(f"joint tokens must be integers in 0..{N_JOINT - 1}: drop other tokens")
    return (_IDS[tokens] - 1).astype(np.int8).reshape(-1, *SHAPE)


def context(rules: np.ndarray | None, n: int = 1) -> np.ndarray:
    """The context token (n,) in front of 81: 0 for no rule, else the rule's id + 1 (41 entries).

    Raises ValueError for ids outside 0..39.
    """
    if rules is None:
        return np.zeros(n, np.int64)
    rules = np.asarray(rules)
    if rules.dtype.kind not in "iu" or ((rules < 0) | (rules > 39)).any():
        raise ValueError("rules must be integers in 0..39, or None for no context")
    return rules.astype(np.int64) + 1


CODECS = {
    codec.name: codec
    for codec in (
        Codec("image", (3, 9, 9), encode_image, decode_image),
        Codec("one-hot", (30, 9, 9), encode_one_hot, decode_one_hot),
        Codec("separate", (81, 3), encode_separate, decode_separate),
        Codec("joint", (81,), encode_joint, decode_joint),
    )
}
