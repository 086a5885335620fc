"""Run: a folder that holds one job's configuration, environment, rows and arrays, and resumes.

    DIR/config.json     the whole configuration, enough to repeat the job
    DIR/env.json        versions, processor and accelerator; no paths, no host names
    DIR/rows.jsonl      one JSON object a line, each with a unique "key"
    DIR/arrays/NAME.npy large results, renamed into place before their row is written

A row is flushed before the next is begun. On opening for writing an unterminated last line is cut
off, so that its row is computed again; anything else that cannot be read is a ValueError that
names the file. One writer at a time holds the folder's lock; readers need none.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MadeGroup = tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]  # rows and their arrays
Made = tuple[Mapping[str, Any], Mapping[str, Any]]  # a row and its arrays
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+,@-]{0,199}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+,@/-]{0,199}")
_OURS = {"config.json", "env.json", "rows.jsonl", "arrays", ".lock", "report.html"}
_PACKAGES = (
    "assay", "numpy", "scipy", "torch", "numba", "pandas", "scikit-learn", "pyarrow",
    "transformers", "diffusers",
)  # fmt: skip


def plain(value: Any) -> Any:
    """JSON-able copy of a value: numpy to Python, NaN and infinities to null, tuples to lists."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(v) for v in items]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Path):
        return value.name
    raise ValueError(f"value of type {type(value).__name__} cannot be written as JSON: {value!r}")


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON text of a value by :func:`plain`; never NaN."""
    return json.dumps(plain(value), allow_nan=False, indent=indent, ensure_ascii=False)


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """Versions of Python and of the packages that bear on results; processor and accelerators."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _first_match(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)")
        or platform.processor(),
        "n_cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpus": [
            _first_match(p, r"Model:\s*(.+)")
            for p in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        ],
        "versions": versions,
    }


def _first_match(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return None
    return found.group(1).strip() if found else None


class Run:
    """One job's folder. Open with :meth:`open` (write, resume) or :meth:`read` (no lock)."""

    def __init__(self, path: Path, config: dict[str, Any], rows: list[dict[str, Any]]):
        self.path, self.config, self.rows = path, config, rows
        self._keys = {row["key"] for row in rows}
        self._lock: Any = None
        self._file: Any = None

    # ---- opening ---------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Run:
        """Open for reading. ValueError where the folder is no Run or cannot be read."""
        folder = Path(path)
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; name the folder of a Run")
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder}: is not a Run (it holds no config.json)")
        return cls(folder, _read_config(folder), _read_rows(folder / "rows.jsonl")[0])

    @classmethod
    def open(cls, path: str | os.PathLike[str], config: Any) -> Run:
        """Create the Run, or resume it where the folder holds one of the same configuration.

        Takes the folder's lock until :meth:`close` (use it as a context manager). ValueError
        where the folder cannot be written, holds something else, holds a Run of another
        configuration, or is being written by another process; nothing is changed then.
        """
        folder, wanted = Path(path), json.loads(dumps(config))
        _make_folder(folder)
        lock = _lock(folder)
        try:
            if (folder / "config.json").exists():
                _same_config(folder, wanted)
            else:
                write_aside(folder / "env.json", dumps(environment(), indent=1).encode() + b"\n")
                write_aside(folder / "config.json", dumps(wanted, indent=1).encode() + b"\n")
            (folder / "arrays").mkdir(exist_ok=True)
            rows, good = _read_rows(folder / "rows.jsonl")
            run = cls(folder, wanted, rows)
            run._file = (folder / "rows.jsonl").open("ab")
            run._file.truncate(good)  # an unterminated last line is computed again
            run._lock = lock
        except BaseException:
            lock.release()
            raise
        return run

    def close(self) -> None:
        """Close the rows and give the folder's lock back."""
        if self._file is not None:
            self._file.close()
            self._lock.release()
            self._file = self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- writing ---------------------------------------------------------------------------

    def done(self, key: str) -> bool:
        """Whether the row of this key is there."""
        return key in self._keys

    def append(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Write one row, with its unique "key", and flush it; returns it as written."""
        key = row.get("key")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"row key {key!r} must be letters, digits and ._=+,@/- (1 to 200)")
        if key in self._keys:
            raise ValueError(f"row {key!r} is already in {self.path}")
        assert self._file is not None, "the Run is open for reading only"
        written = plain(row)
        self._file.write(dumps(written).encode() + b"\n")
        self._file.flush()
        self.rows.append(written)
        self._keys.add(key)
        return written

    def save_array(self, name: str, array: Any) -> Path:
        """Write arrays/NAME.npy aside and rename it into place; call it before the row."""
        assert self._file is not None, "the Run is open for reading only"
        path = self._array_path(name)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with aside.open("wb") as file:
                np.save(file, np.asarray(array), allow_pickle=False)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return path

    def compute(self, key: str, make: Callable[[], Made]) -> dict[str, Any]:
        """The row of this key, made and written where it is not there yet.

        make() returns (row without key, arrays by name); the arrays are saved as NAME.KEY first.
        """
        if self.done(key):
            return next(row for row in self.rows if row["key"] == key)
        row, arrays = make()
        for name, array in arrays.items():
            self.save_array(f"{name}.{key}", array)
        return self.append({"key": key, **row})

    def fill(self, group: str, make: Callable[[], MadeGroup]) -> list[dict[str, Any]]:
        """The rows of a group that is made in one go, where they are not all there yet.

        make() returns (rows with keys, arrays by name); the arrays are saved as NAME.GROUP first.
        Each row gets "group", and "last" on the one that completes it.
        """
        if not any(row.get("group") == group and row.get("last") for row in self.rows):
            rows, arrays = make()
            for name, array in arrays.items():
                self.save_array(f"{name}.{group}", array)
            for i, row in enumerate(rows):
                if not self.done(row["key"]):
                    self.append({**row, "group": group, "last": i == len(rows) - 1})
        return [row for row in self.rows if row.get("group") == group]

    # ---- reading ---------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, Any]:
        """What env.json says: versions, processor, accelerators."""
        return _read_json(self.path / "env.json")

    def array(self, name: str) -> np.ndarray:
        """arrays/NAME.npy, memory-mapped, read-only. ValueError where there is none."""
        path = self._array_path(name)
        if not path.is_file():
            raise ValueError(f"{self.path} holds no array {name!r}; it has {self.array_names()}")
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def array_names(self) -> list[str]:
        """Names of the arrays there, sorted."""
        return sorted(p.stem for p in (self.path / "arrays").glob("[!.]*.npy"))

    def frame(self) -> Any:
        """The rows as a pandas DataFrame, in the order in which they were written."""
        import pandas as pd

        return pd.DataFrame.from_records(self.rows)

    def _array_path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"array name {name!r} must be letters, digits and ._=+,@- (1 to 200)")
        return self.path / "arrays" / f"{name}.npy"

    def __repr__(self) -> str:
        return f"Run({self.path.name!r}, {len(self.rows)} rows, kind={self.config.get('kind')!r})"

    def _repr_html_(self) -> str:
        import html

        config = html.escape(dumps(self.config))
        table = self.frame().to_html(max_rows=12, max_cols=12, index=False, border=0)
        return f"<b>{html.escape(repr(self))}</b><br><code>{config}</code>{table}"


def reconfigure(path: str | os.PathLike[str], config: Any) -> None:
    """Give the Run in a folder another configuration, under its lock; its rows stay.

    For what goes on from there: the new configuration must say what was done before too.
    """
    folder = Run.read(path).path
    lock = _lock(folder)
    try:
        write_aside(folder / "config.json", dumps(config, indent=1).encode() + b"\n")
    finally:
        lock.release()


def find(path: str | os.PathLike[str]) -> list[Run]:
    """The Run in this folder, or all Runs in its direct subfolders, by name.

    ValueError where there is none.
    """
    folder = Path(path)
    if (folder / "config.json").is_file() or not folder.is_dir():
        return [Run.read(folder)]
    found = [Run.read(p.parent) for p in sorted(folder.glob("*/config.json"))]
    if not found:
        raise ValueError(f"{folder}: holds no Run, nor does any folder in it")
    return found


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{folder}: a part of this path is a file; name a folder") from None
    except OSError as error:
        raise ValueError(f"{folder}: cannot be made ({error.strerror})") from None
    if not writable:
        raise ValueError(f"{folder}: cannot be written; choose another folder")
    strangers = sorted(p.name for p in folder.iterdir() if not _ours(p.name))
    if strangers and not (folder / "config.json").exists():
        raise ValueError(
            f"{folder}: holds other files ({', '.join(strangers[:3])}) and no Run; "
            "choose a new or empty folder"
        )


def _ours(name: str) -> bool:
    return name in _OURS or name.endswith(".part")


def _lock(folder: Path) -> Any:
    import filelock

    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"{folder}: another process is writing this Run") from None
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror})") from None
    return lock


def _same_config(folder: Path, wanted: dict[str, Any]) -> None:
    there = _read_config(folder)
    differing = [k for k in sorted({*there, *wanted}) if there.get(k) != wanted.get(k)]
    if differing:
        k = differing[0]
        raise ValueError(
            f"{folder}: holds a Run of another configuration ({', '.join(differing)} differ; "
            f"{k}: {_short(there.get(k))} there, {_short(wanted.get(k))} asked for); "
            "choose another folder"
        )


def _short(value: Any) -> str:
    text = dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); restore it or start anew") from None


def _read_config(folder: Path) -> dict[str, Any]:
    config = _read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'}: must hold a JSON object")
    return config


def _read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole rows and the length in bytes of what holds them."""
    data = path.read_bytes() if path.exists() else b""
    good = data.rfind(b"\n") + 1
    return list(_parse(path, data[:good].splitlines())), good


def _parse(path: Path, lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            key = row["key"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path}: line {number} is corrupt; remove that line to compute its row again"
            ) from None
        if key in seen:
            raise ValueError(f"{path}: line {number} repeats row {key!r}; remove one of them")
        seen.add(key)
        yield row
