"""Memorisation: which generated rows, panels or samples are copies of training data.

A row is a copy if its nine cell columns (the 3 panels x 3 attributes of one position), SORTED,
occur in training; at set level, if its nine attribute sets and the eight Venn counts of its
position sets do. The canonical form treats the other levels alike: contents agree up to an order
of the cells, and samples also up to the order of their rows. Plain equality (form "plain") is
blind to copies under such permutations; it is kept for comparison with published figures.

    level            one verdict for each
    sample           sample            (n,)
    row              row               (n, 3)
    set_row          row at set level  (n, 3)
    panel            panel             (n, 3 rows, 3 panels)
    attribute_row    row and attribute (n, 3 rows, 3 attributes)
    attribute_panel  panel, attribute  (n, 3 rows, 3 panels, 3 attributes)

Contents are held as 64-bit hashes (`hashing`): N stored and Q asked ones give a false copy with
probability N Q / 2^64. A row costs eight bytes and one to three for the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from assay.rules import bits, codecs, folders, genraven, hashing, parallel, shares
from assay.rules.keytable import KeyTable

SHAPES: dict[str, tuple[int, ...]] = {
    "sample": (),
    "row": (3,),
    "set_row": (3,),
    "panel": (3, 3),
    "attribute_row": (3, 3),
    "attribute_panel": (3, 3, 3),
}
LEVELS = tuple(SHAPES)
FORMS = ("canonical", "plain")
KIND = "memorisation index"
_CHUNK = 1 << 17  # samples hashed or generated at a time
_KERNELS = {
    "row": hashing.rows,
    "panel": hashing.panels,
    "attribute_row": hashing.attribute_rows,
    "attribute_panel": hashing.attribute_panels,
}


def hashes(
    x: np.ndarray, level: str = "row", form: str = "canonical", threads: int | None = None
) -> np.ndarray:
    """uint64 hashes of panels x (n, 3, 3, 9, 3) at a level, shaped as in the module's table.

    Any integers are accepted; those beyond int8 saturate. threads: cores unless given. Raises
    ValueError for another shape or dtype, an unknown level or form, the set level in plain form
    (sets have no order), or threads below 1.
    """
    _check((level,), form)
    x = codecs.as_panels(x)
    out = np.empty((len(x), *SHAPES[level]), np.uint64)

    def run(start: int, stop: int) -> None:
        out[start:stop] = _hashes(bits.as_bytes(x[start:stop]), level, form)

    parallel.over(len(x), run, threads)
    return out


def _hashes(x: np.ndarray, level: str, form: str) -> np.ndarray:
    """Hashes of contiguous int8 panels, shaped as in the module's table."""
    n, step = len(x), hashing.GOLDEN if form == "plain" else hashing.ZERO
    rows = x.reshape(3 * n, 3, 9, 3)
    if level == "set_row":
        found = hashing.set_rows(x.view(np.uint8).reshape(-1), bits.VALUE_WORDS)
    elif level == "sample":
        found = hashing.samples(hashing.rows(rows, step).reshape(n, 3), step)
    else:
        found = _KERNELS[level](rows, step)
    return found.reshape(n, *SHAPES[level])


def _check(levels: Iterable[str], form: str) -> tuple[str, ...]:
    levels = tuple(levels)
    for level in levels:
        if level not in LEVELS:
            raise ValueError(f"levels must be among {', '.join(LEVELS)}, got {level!r}")
    if form not in FORMS:
        raise ValueError(f"form must be 'canonical' or 'plain', got {form!r}")
    if form == "plain" and "set_row" in levels:
        raise ValueError("level 'set_row' has no plain form: ask for it in the canonical form")
    return levels


class Index:
    """The contents of training samples at one or more levels, to find copies of them."""

    def __init__(
        self,
        levels: Iterable[str] = ("row",),
        form: str = "canonical",
        threads: int | None = None,
    ):
        """levels: see the module; form: "canonical" or "plain"; threads: cores unless given.

        ValueError for unknown levels or forms.
        """
        self.levels, self.form = _check(levels, form), form
        self.threads = threads
        self.n_samples = 0
        self._tables = {level: KeyTable() for level in self.levels}

    @classmethod
    def build(cls, x: np.ndarray, levels: Iterable[str] = ("row",), **options: Any) -> Index:
        """An index of the panels x (n, 3, 3, 9, 3); a memory-mapped array is read in chunks."""
        index = cls(levels, **options)
        index.add(x)
        return index

    @classmethod
    def stream(
        cls,
        n: int,
        rules: Iterable[int],
        seed: int,
        levels: Iterable[str] = ("row",),
        **options: Any,
    ) -> Index:
        """An index of the first n samples of (rules, seed), regenerated and never held at once."""
        index = cls(levels, **options)
        for x, _ in genraven.stream(min(max(n, 1), _CHUNK), rules, seed):
            index.add(x[: n - index.n_samples])
            if index.n_samples >= n:
                break
        return index

    def add(self, x: np.ndarray) -> None:
        """Add the panels x (n, 3, 3, 9, 3). ValueError for another shape or dtype."""
        codecs.as_panels(x)
        for start in range(0, len(x), _CHUNK):
            part = x[start : start + _CHUNK]
            for level, table in self._tables.items():
                table.add(hashes(part, level, self.form, self.threads).ravel())
        self.n_samples += len(x)

    def query(self, x: np.ndarray, levels: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """For each level bool, shaped as in the module's table: is this one a copy?

        x (n, 3, 3, 9, 3); levels: all of the index unless given. ValueError for another shape or
        dtype, or a level that the index does not have.
        """
        x, levels = codecs.as_panels(x), tuple(levels) or self.levels
        for level in levels:
            if level not in self._tables:
                raise ValueError(f"level {level!r} is not in this index, which has {self.levels}")
            self._tables[level].settle()
        out = {level: np.empty((len(x), *SHAPES[level]), np.bool_) for level in levels}

        def run(start: int, stop: int) -> None:
            part = bits.as_bytes(x[start:stop])
            for level, copies in out.items():
                keys = _hashes(part, level, self.form)
                copies[start:stop] = self._tables[level].contains(keys)

        parallel.over(len(x), run, self.threads)
        return out

    def novel(self, x: np.ndarray, level: str = "row") -> np.ndarray:
        """bool (n,): samples none of whose rows (or parts, at another level) is a copy."""
        copies = self.query(x, (level,))[level]
        return np.logical_not(np.any(copies.reshape(len(x), -1), axis=1))

    def overlap(self, x: np.ndarray) -> dict[str, dict[str, float]]:
        """The share of copies in x (n >= 1, 3, 3, 9, 3) at each level, by `shares.share`.

        For fresh data of the law of the training samples this is the natural overlap.
        """
        return {level: shares.share(copies) for level, copies in self.query(x).items()}

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes held at each level."""
        return {level: table.nbytes for level, table in self._tables.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder: index.json and LEVEL.npy; an index at path is replaced.

        ValueError where path holds anything else or cannot be written.
        """
        with folders.written(Path(path), "index.json") as part:
            for level, table in self._tables.items():
                np.save(part / f"{level}.npy", table.keys, allow_pickle=False)
            about = {
                "kind": KIND,
                "form": self.form,
                "n_samples": self.n_samples,
                "levels": {level: len(table.keys) for level, table in self._tables.items()},
            }
            folders.write_json(part / "index.json", about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], threads: int | None = None) -> Index:
        """Read what `save` wrote, memory-mapped. ValueError where it is no index or damaged."""
        folder = Path(path)
        about = folders.read_json(folder / "index.json", KIND)
        index = cls(about["levels"], about["form"], threads)
        index.n_samples = int(about["n_samples"])
        for level, n in about["levels"].items():
            index._tables[level] = KeyTable(_keys(folder / f"{level}.npy", n))
        return index


def _keys(path: Path, n: int) -> np.ndarray:
    try:
        keys = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); build the index again") from None
    if keys.dtype != np.uint64 or keys.shape != (n,):
        raise ValueError(f"{path}: holds {keys.dtype} {keys.shape} instead of {n} uint64 keys")
    return np.asarray(keys)
