"""Small grey images as one PNG, written here so that a report needs no imaging library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

_SCALE, _GAP = 6, 4  # pixels of the picture to a pixel of an image, and between images
_FREE, _FULL = 1.25, 2.0  # |value| where colour begins, and where it is full
ABOVE, BELOW = "#b4451f", "#2457a6"


def grid(images: np.ndarray, columns: int) -> str:
    """Images (n, height, width), -1 white to 1 black, in rows of ``columns``, as a data URI.

    Pixels beyond that range turn to the colours ABOVE and BELOW, gradually.
    """
    n, height, width = images.shape
    lines = -(-n // columns)
    step_y, step_x = height * _SCALE + _GAP, width * _SCALE + _GAP
    canvas = np.full((lines * step_y - _GAP, columns * step_x - _GAP, 3), 244, np.uint8)
    for i, image in enumerate(colored(enlarged(images))):
        y, x = i // columns * step_y, i % columns * step_x
        canvas[y : y + height * _SCALE, x : x + width * _SCALE] = image.astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(png(canvas)).decode("ascii")


def colored(images: np.ndarray) -> np.ndarray:
    """Values (...) as colours (..., 3), 0 to 255."""
    grey = 255 * (1 - np.clip(images, -1, 1)[..., None]) / 2 * np.ones(3)
    beyond = np.clip((np.abs(images) - _FREE) / (_FULL - _FREE), 0, 1)[..., None]
    tint = np.where((images > 0)[..., None], _rgb(ABOVE), _rgb(BELOW))
    return np.rint((1 - beyond) * grey + beyond * tint)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Images (n, height, width) with _SCALE pixels to each, linear between the centres."""
    for axis in (1, 2):
        size = images.shape[axis]
        at = np.clip((np.arange(size * _SCALE) + 0.5) / _SCALE - 0.5, 0, size - 1)
        left = np.minimum(at.astype(int), max(size - 2, 0))
        share = (at - left).reshape([-1 if k == axis else 1 for k in range(3)])
        right = np.minimum(left + 1, size - 1)
        images = (1 - share) * images.take(left, axis) + share * images.take(right, axis)
    return images


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])


def png(pixels: np.ndarray) -> bytes:
    """A PNG of 8-bit colours (height, width, 3)."""
    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
