"""Panels from files of other people's making, and a count of what is odd about their cells.

    .npy      integers (n, 3, 3, 9, 3), memory-mapped
    .npz      the same under the key x
    .parquet  a column panels of lists of 243 integers
    .json     a nested list of integers (n, 3, 3, 9, 3)

Only a wrong shape or dtype is an error, always one line; wrong values are for the checker. Nothing
is ever unpickled.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from assay.rules import codecs

N_CELLS = 81
_CHUNK = 1 << 14  # samples
_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


def load_panels(path: str | os.PathLike[str]) -> np.ndarray:
    """The panels in a file: integers (n, 3, 3, 9, 3), of the file's dtype.

    Raises ValueError, in one line that names the file, where it cannot be read or holds another
    shape or dtype.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file in it, such as train.npy")
    if reader is None:
        raise ValueError(f"{path}: unknown ending; panels come in {', '.join(_READERS)}")
    try:
        x = reader(path)
    except (*_BROKEN, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({_reason(error)})") from None
    try:
        return codecs.as_panels(x)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _reason(error: BaseException) -> str:
    """One line for an error: system errors by their cause, others by their first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read_npy(path: Path) -> np.ndarray:
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # arrays without entries cannot be mapped
        return np.load(path, allow_pickle=False)


def _read_npz(path: Path) -> np.ndarray:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("it is no .npz archive")
    with archive:
        if "x" not in archive.files:
            raise ValueError(f"it has no array x, only {', '.join(archive.files) or 'none'}")
        return archive["x"]


def _read_parquet(path: Path) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if "panels" not in file.schema_arrow.names:
        raise ValueError(f"it has no column panels, only {', '.join(file.schema_arrow.names)}")
    column = file.read(["panels"]).column("panels").combine_chunks()
    kind = column.type
    if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind)):
        raise ValueError(f"column panels must hold lists of 243 integers, not {kind}")
    values = column.flatten()
    if column.null_count or values.null_count or len(values) != 243 * len(column):
        raise ValueError("column panels must hold 243 integers in every line")
    if pa.types.is_list(kind) and len(set(np.diff(column.offsets.to_numpy()))) > 1:
        raise ValueError("column panels must hold 243 integers in every line")
    return values.to_numpy(zero_copy_only=False).reshape(-1, *codecs.SHAPE)


def _read_json(path: Path) -> np.ndarray:
    value: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, list):
        raise ValueError("it holds no nested list")
    try:
        return np.array(value) if value else np.zeros((0, *codecs.SHAPE), np.int64)
    except ValueError:
        raise ValueError("its lists are of unequal length") from None


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet, ".json": _read_json}


def cell_counts(x: np.ndarray) -> dict[str, int]:
    """How many of the cells of x (n, 3, 3, 9, 3) are odd: {cells, half_empty, out_of_range}.

    half_empty: -1 in one or two attributes (read as empty); out_of_range: an attribute that is
    neither -1 nor a value of its range. A cell may be both. ValueError for a shape or dtype.
    """
    x = codecs.as_panels(x)
    half = out = 0
    for start in range(0, len(x), _CHUNK):
        part = np.asarray(x[start : start + _CHUNK])
        void = part == -1
        missing = void.sum(-1)
        half += int(((missing > 0) & (missing < 3)).sum())
        wrong = ~void & ((part < 0) | (part >= codecs.LEVELS))
        out += int(wrong.any(-1).sum())
    return {"cells": len(x) * N_CELLS, "half_empty": half, "out_of_range": out}
