"""What an audit reads: prompts, one a line, and a folder of real images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.guidance.auditing.config import Pictures

_KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def prompts_of(given: Sequence[str] | str) -> tuple[str, ...]:
    """Prompts, stripped, empty ones left out. ValueError where none is left or one is twice."""
    listed = [given] if isinstance(given, str) else [str(p) for p in given]
    kept = tuple(p.strip() for p in listed if p.strip())
    if not kept:
        raise ValueError("there are no prompts: give one or more, none of them empty")
    doubled = [p for i, p in enumerate(kept) if p in kept[:i]]
    if doubled:
        raise ValueError(f"prompt {doubled[0]!r} is there twice: give each once")
    return kept


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a text file, one a line. ValueError where it cannot be read or has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text; write one prompt a line") from None
    try:
        return prompts_of(lines)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_images(folder: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, Pictures]:
    """Rows (n, d) of the images of a folder as :func:`audit_measures.features` gives them.

    shape: (channels, height, width) that features have. ValueError where the folder holds fewer
    than two images or a file of it is none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of images")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _KINDS)
    if len(files) < 2:
        raise ValueError(
            f"{folder}: holds {len(files)} images ({', '.join(_KINDS[:3])}, ...); "
            "give two or more, better hundreds"
        )
    rows = np.stack([_row(path, shape) for path in files])
    digest = hashlib.sha256(rows.tobytes()).hexdigest()[:16]
    return rows, Pictures(name=folder.resolve().name, n=len(files), digest=digest)


def _row(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """One image, -1 to 1, averaged to the features' size."""
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    try:
        with Image.open(path) as image:
            seen = image.convert("RGB" if channels == 3 else "L")
            seen = seen.resize((width, height), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "is no image" if isinstance(error, UnidentifiedImageError) else f"({error})"
        raise ValueError(f"{path}: cannot be read as an image: {reason}") from None
    values = np.asarray(seen, dtype=np.float32).reshape(height, width, -1)
    return (values.transpose(2, 0, 1) / 127.5 - 1).ravel()
