"""Folders that are there whole or not at all.

A folder is written under the name .NAME.part beside its place and renamed when it is complete; a
lock in it tells a write that goes on from one that was killed, whose remains the next write
removes. The lock travels with the rename and is removed last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from assay import runs

_LOCK = ".lock"


def check(path: Path, marker: str) -> None:
    """ValueError unless path is absent, an empty folder, or one that holds the marker file."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: is a file; name a folder")
    if path.is_dir() and not (path / marker).is_file() and any(path.iterdir()):
        raise ValueError(
            f"{path}: holds other files and no {marker}; choose a new or empty folder"
        )


@contextmanager
def written(path: Path, marker: str) -> Iterator[Path]:
    """A folder to write into, renamed to path on leaving; on an error nothing is left behind.

    A folder at path that holds the marker file is replaced; ValueError where it holds anything
    else, where it cannot be made, or where another process is writing it.
    """
    check(path, marker)
    if path.name in ("", ".."):  # the working folder and the like have their name elsewhere
        path = path.resolve()
    part = path.with_name(f".{path.name}.part")
    lock = _claim(part)
    try:
        for stale in part.iterdir():
            if stale.name != _LOCK:
                stale.unlink()
        yield part
        _rename(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        (path / _LOCK).unlink(missing_ok=True)
        lock.release()


def _claim(part: Path) -> filelock.BaseFileLock:
    try:
        part.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(part / _LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"{part}: another process is writing this folder; wait for it") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{part.parent}: cannot be written ({reason})") from None
    return lock


def _rename(part: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.is_dir():
        os.replace(path, old)
    os.replace(part, path)
    shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path, kind: str) -> dict:
    """The JSON object in a file whose "kind" is as given; ValueError with one line otherwise."""
    import json

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise ValueError(f"{path}: does not describe a {kind}")
    return value


def write_json(path: Path, value: dict) -> None:
    """Write a JSON object, aside and then renamed."""
    runs.write_aside(path, runs.dumps(value, indent=1).encode() + b"\n")
