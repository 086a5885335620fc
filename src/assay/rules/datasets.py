"""Fixed data sets: written once, whole or not at all, and known by a fingerprint.

A split holds five rules out. The parts are train (samples_per_rule of each trained rule),
validation (500 more of each) and held_out (500 of each held-out rule), each interleaved: sample i
is of the part's rule i mod n_rules, so that its first k * n_rules samples are the part of a
smaller set. Rule r's samples are the sequence of `genraven.generate` for the seed
`rule_seed(seed, r)`, validation first. Parts are disjoint by rows in the canonical form: a
training sample with a row of validation or held_out is passed over. (Rows of different rules never
agree, for every row obeys exactly one.)

    dataset.json          what it is, counts, and the sha256 of each part
    PART.npy              int8 (n, 3, 3, 9, 3)       or, as parquet,
    PART_rules.npy        int64 (n,)                 PART.parquet: panels int8[243], rule int8

Both formats hold the same samples under the same fingerprint.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay import runs
from assay.rules import codecs, folders, genraven
from assay.rules.memorisation import Index
from assay.rules.panelfile import cell_counts, load_panels

__all__ = [
    "FORMATS", "PARTS", "Dataset", "again", "cell_counts", "load_panels", "rule_seed", "write",
]  # fmt: skip

FORMATS = ("npy", "parquet")
PARTS = ("train", "validation", "held_out")
KIND = "GenRAVEN data set"
VALIDATION = 500  # samples a rule in validation and in held_out
MANIFEST = "dataset.json"
_BLOCK = 1024  # samples a rule written at a time


def rule_seed(seed: int, rule: int) -> int:
    """The seed of a rule's own sequence, so that rules do not share their random streams."""
    return int(np.random.SeedSequence((seed, rule)).generate_state(1, np.uint64)[0])


class _Source:
    """One rule's samples in order; those with a row of the barred index are passed over."""

    def __init__(self, seed: int, rule: int):
        self.seed, self.rule, self.at, self.dropped = rule_seed(seed, rule), rule, 0, 0

    def take(self, n: int, barred: Index | None = None) -> np.ndarray:
        """The next n samples, int8 (n, 3, 3, 9, 3)."""
        kept = np.empty((0, *codecs.SHAPE), np.int8)
        while len(kept) < n:
            wanted = n - len(kept)
            x, _ = genraven.generate(wanted, [self.rule], self.seed, first=self.at)
            self.at += wanted
            novel = np.ones(wanted, bool) if barred is None else barred.novel(x)
            self.dropped += int(wanted - novel.sum())
            kept = np.concatenate([kept, x[novel]])
        return kept


def write(
    folder: str | os.PathLike[str],
    samples_per_rule: int = 4000,
    split: int = 0,
    seed: int = 0,
    format: str = "npy",
    advance: Callable[[float], None] = lambda n: None,
) -> Dataset:
    """Write a data set, or find it already there; advance(n) is called as samples are done.

    ValueError for arguments out of range, and where folder holds anything else, another data set
    included; nothing is changed then.
    """
    path = Path(folder)
    about = _about(samples_per_rule, split, seed, format)
    if (path / MANIFEST).is_file():
        return _same(path, about)
    with folders.written(path, MANIFEST) as part:
        sources, sums = _sources(about), {}
        for name, n, blocks in _parts(about, sources):
            with _writer(part, name, format, n) as writer:
                for x, y in blocks:
                    writer(x, y)
                    advance(len(x))
                sums[name] = writer.sums()
        about["passed_over"] = sum(source.dropped for source in sources.values())
        about["parts"] = {name: sums[name] for name in PARTS}
        about["fingerprint"] = _fingerprint(sums)
        folders.write_json(part / MANIFEST, about)
    return Dataset(path, about)


def again(
    samples_per_rule: int, split: int, seed: int, fingerprint: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The train part of a data set once more, in blocks (x, y), without its files.

    ValueError, after the last block, where it is not the data set of this fingerprint.
    """
    about, sums = _about(samples_per_rule, split, seed, "npy"), {}
    for name, n, blocks in _parts(about, _sources(about)):
        with _Sums(n) as sum_up:
            for x, y in blocks:
                sum_up(x, y)
                if name == "train":
                    yield x, y
            sums[name] = sum_up.sums()
    if _fingerprint(sums) != fingerprint:
        raise ValueError(
            f"the data set {fingerprint[:12]}... cannot be made again: it was written under "
            "another version of the law or other settings; name its folder where it is asked for"
        )


def _sources(about: dict[str, Any]) -> dict[int, _Source]:
    return {r: _Source(about["seed"], r) for r in (*about["trained"], *about["held_out"])}


def _parts(
    about: dict[str, Any], sources: dict[int, _Source]
) -> Iterator[tuple[str, int, Iterator[tuple[np.ndarray, np.ndarray]]]]:
    """(name, samples, blocks) of each part in the order in which they are drawn."""
    barred = Index()
    for name in ("validation", "held_out", "train"):
        n = about["samples_per_rule"] if name == "train" else VALIDATION
        chosen = [sources[r] for r in about["held_out" if name == "held_out" else "trained"]]
        yield name, n * len(chosen), _blocks(chosen, n, barred, name == "train")


def _fingerprint(sums: dict[str, dict[str, Any]]) -> str:
    parts = {name: sums[name] for name in PARTS}
    return hashlib.sha256(runs.dumps(parts).encode()).hexdigest()


def _about(samples_per_rule: int, split: int, seed: int, format: str) -> dict[str, Any]:
    if not 1 <= samples_per_rule <= 1 << 32:
        raise ValueError(f"samples per rule must be 1 or more, got {samples_per_rule}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must lie in 0..2^64-1, got {seed}")
    if format not in FORMATS:
        raise ValueError(f"format must be npy or parquet, got {format!r}")
    return {
        "kind": KIND,
        "law_version": genraven.LAW_VERSION,
        "samples_per_rule": samples_per_rule,
        "validation_per_rule": VALIDATION,
        "split": split,
        "seed": seed,
        "format": format,
        "trained": list(genraven.trained(split)),
        "held_out": list(genraven.SPLITS[split]),
    }


def _same(path: Path, about: dict[str, Any]) -> Dataset:
    found = Dataset.read(path)
    for key, value in about.items():
        if found.about.get(key) != value:
            raise ValueError(
                f"{path}: holds another data set ({key} {found.about.get(key)}, not {value}); "
                "choose another folder"
            )
    return found


def _blocks(
    sources: list[_Source], n: int, barred: Index, heed: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """n samples of each source, interleaved, in blocks (x, y); they heed the barred or join it."""
    rules = np.array([source.rule for source in sources])
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        taken = [source.take(size, barred if heed else None) for source in sources]
        x = np.stack(taken, 1).reshape(-1, *codecs.SHAPE)
        if not heed:
            barred.add(x)
        yield x, np.tile(rules, size)


class _Writer(ExitStack, ABC):
    """Appends blocks of one part to its files and sums them up."""

    def __init__(self, n: int):
        super().__init__()
        self.n, self.at = n, 0
        self.panels, self.rules = hashlib.sha256(), hashlib.sha256()

    @abstractmethod
    def append(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write one block."""

    def __call__(self, x: np.ndarray, y: np.ndarray) -> None:
        x, y = np.ascontiguousarray(x, np.int8), np.ascontiguousarray(y, np.int64)
        self.append(x, y)
        self.at += len(x)
        self.panels.update(x.data)
        self.rules.update(y.astype("<i8").data)

    def sums(self) -> dict[str, Any]:
        """What the manifest says of a part."""
        assert self.at == self.n
        sums = {"sha256_panels": self.panels, "sha256_rules": self.rules}
        return {"n": self.n, **{name: digest.hexdigest() for name, digest in sums.items()}}


class _Sums(_Writer):
    """Sums up without writing."""

    def append(self, x: np.ndarray, y: np.ndarray) -> None:
        pass


class _NpyWriter(_Writer):
    def __init__(self, folder: Path, name: str, n: int):
        super().__init__(n)
        make = np.lib.format.open_memmap
        self.x = make(folder / f"{name}.npy", "w+", np.int8, (n, *codecs.SHAPE))
        self.y = make(folder / f"{name}_rules.npy", "w+", np.int64, (n,))
        self.callback(self.y.flush)
        self.callback(self.x.flush)

    def append(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x[self.at : self.at + len(x)] = x
        self.y[self.at : self.at + len(y)] = y


class _ParquetWriter(_Writer):
    def __init__(self, folder: Path, name: str, n: int):
        import pyarrow as pa
        import pyarrow.parquet as pq

        super().__init__(n)
        self.schema = pa.schema([("panels", pa.list_(pa.int8(), 243)), ("rule", pa.int8())])
        file = pq.ParquetWriter(folder / f"{name}.parquet", self.schema, compression="zstd")
        self.file = self.enter_context(file)

    def append(self, x: np.ndarray, y: np.ndarray) -> None:
        import pyarrow as pa

        panels = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 243)
        columns = [panels, pa.array(y.astype(np.int8))]
        self.file.write_table(pa.table(columns, schema=self.schema))


def _writer(folder: Path, name: str, format: str, n: int) -> _Writer:
    return (_NpyWriter if format == "npy" else _ParquetWriter)(folder, name, n)


@dataclass(frozen=True)
class Dataset:
    """A data set in a folder; about is what its dataset.json says."""

    path: Path
    about: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Open a data set. ValueError where there is none, or it cannot be read."""
        path = Path(folder)
        about = folders.read_json(path / MANIFEST, KIND)
        try:
            counts = [about["parts"][name]["n"] for name in PARTS]
            known = about["format"] in FORMATS and len(about["fingerprint"]) == 64
        except (KeyError, TypeError):
            counts, known = [], False
        if not known or not all(isinstance(n, int) for n in counts):
            raise ValueError(f"{path / MANIFEST}: is incomplete; write the data set again")
        return cls(path, about)

    @property
    def fingerprint(self) -> str:
        """sha256 of the parts' counts and sums: the same for the same samples."""
        return self.about["fingerprint"]

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(panels int8 (n, 3, 3, 9, 3), rules int64 (n,)) of train, validation or held_out.

        Arrays are memory-mapped where the format is npy. ValueError for another name, or files
        that are missing or of another size than dataset.json says.
        """
        if name not in PARTS:
            raise ValueError(f"name must be train, validation or held_out, got {name!r}")
        ending = self.about["format"]
        x = load_panels(self.path / f"{name}.{ending}")
        y = _rules(self.path, name, ending)
        n = self.about["parts"][name]["n"]
        if len(x) != n or y.shape != (n,) or x.dtype != np.int8:
            raise ValueError(f"{self.path}: {name} does not hold {n} samples; write it again")
        return x, y

    def verify(self) -> None:
        """Compare every part with its sha256; ValueError naming the first that differs."""
        for name in PARTS:
            x, y = self.part(name)
            said = self.about["parts"][name]
            for key, array in (("sha256_panels", x), ("sha256_rules", y.astype("<i8"))):
                if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != said[key]:
                    raise ValueError(f"{self.path}: {name} is not what was written ({key})")


def _rules(folder: Path, name: str, ending: str) -> np.ndarray:
    file = folder / (f"{name}_rules.npy" if ending == "npy" else f"{name}.parquet")
    try:
        if ending == "npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        import pyarrow.parquet as pq

        return pq.read_table(file, columns=["rule"]).column("rule").to_numpy().astype(np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None
