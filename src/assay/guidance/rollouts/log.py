"""Append-only audit log: JSON lines, each chained to the one before it by its hash.

    {"data": {...}, "hash": H_k, "kind": "...", "prev": H_{k-1}, "seq": k, "time": "..."}
    H_k = SHA-256(H_{k-1} + canonical JSON of the entry without "prev" and "hash"),  H_{-1} = 0...0

Every line is the canonical JSON of its entry (sorted keys, no spaces, ASCII), so any changed byte
shows; the chain shows removed, inserted and moved entries; and the last hash, the *head*, noted
elsewhere, shows what was cut off at the end. Entries after a noted head are only as safe as the
next head that is noted.

An append is one write and an fsync, under a lock on LOG.lock, after whatever others appended was
read: two processes may append to one log. An unterminated last line is what a kill in the middle
of a write leaves; it was never acknowledged, readers pass over it and the next append cuts it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

START = "0" * 64
_HASH = re.compile(r"[0-9a-f]{64}")
_KEYS = {"data", "hash", "kind", "prev", "seq", "time"}
_PATIENCE = 30.0  # seconds to wait for another writer

Entry = dict[str, Any]


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def chained(prev: str, seq: int, kind: str, data: dict[str, Any]) -> Entry:
    """The entry that follows the one whose hash is prev."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {"seq": seq, "time": now, "kind": kind, "data": data}
    return {**entry, "prev": prev, "hash": _hash(prev, entry)}


def _hash(prev: str, entry: Entry) -> str:
    text = canonical({k: v for k, v in entry.items() if k not in ("prev", "hash")})
    return hashlib.sha256((prev + text).encode("ascii")).hexdigest()


class Memory:
    """A log that is kept in memory only."""

    def __init__(self) -> None:
        self.head, self.n, self.dropped = START, 0, 0
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The right to append."""
        with self._lock:
            yield

    def read(self) -> list[Entry]:
        """Entries that others appended: none."""
        return []

    def append(self, items: Sequence[tuple[str, dict[str, Any]]]) -> list[Entry]:
        """Append entries of (kind, data), and return them."""
        made = []
        for kind, data in items:
            entry = chained(self.head, self.n, kind, json.loads(canonical(data)))
            made.append(entry)
            self.head, self.n = entry["hash"], self.n + 1
        return made


class Log(Memory):
    """A log in a file. :meth:`read` and :meth:`append` go on from what was read so far."""

    def __init__(self, path: str | os.PathLike[str], writable: bool = True):
        super().__init__()
        self.writable = writable
        self.path = Path(path)
        self._size = 0  # bytes read so far: whole entries

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The right to append, held by one process at a time.

        ValueError where the lock's file cannot be made or another holds it for 30 seconds.
        """
        import filelock

        if not self.writable:
            raise ValueError(f"{self.path}: was opened for reading; use Rollout.open to go on")
        name = self.path.with_name(self.path.name + ".lock")
        with self._lock:
            try:
                lock = filelock.FileLock(name, timeout=_PATIENCE)
                with lock:
                    yield
            except filelock.Timeout:
                raise ValueError(
                    f"{self.path}: another process has held {name.name} for {_PATIENCE:.0f} "
                    "seconds; try again, or see what it is doing"
                ) from None

    def read(self) -> list[Entry]:
        """Whole entries that are new since the last call. ValueError where the chain is broken."""
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                if end < self._size:
                    raise ValueError(f"{self.path}: was cut off while in use; verify it")
                file.seek(self._size)
                data = file.read()
        except FileNotFoundError:
            if self._size:
                raise ValueError(f"{self.path}: was removed while in use") from None
            return []
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be read ({error.strerror})") from None
        good = data.rfind(b"\n") + 1
        self.dropped = len(data) - good
        found = list(entries(str(self.path), data[:good], self.n, self.head))
        if found:
            self._size, self.n, self.head = (
                self._size + good,
                self.n + len(found),
                found[-1]["hash"],
            )
        return found

    def append(self, items: Sequence[tuple[str, dict[str, Any]]]) -> list[Entry]:
        """Append entries in one write, on disk before this returns; under :meth:`locked`, after
        :meth:`read`. ValueError where the file cannot be written."""
        made, prev = [], self.head
        for i, (kind, data) in enumerate(items):
            made.append(chained(prev, self.n + i, kind, data))
            prev = made[-1]["hash"]
        lines = "".join(canonical(entry) + "\n" for entry in made).encode("ascii")
        try:
            self._write(lines)
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._size, self.n, self.head = self._size + len(lines), self.n + len(made), prev
        return [json.loads(canonical(entry)) for entry in made]

    def _write(self, lines: bytes) -> None:
        new = not self.path.exists()
        with self.path.open("ab") as file:
            file.truncate(self._size)  # an unterminated last line was never acknowledged
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(self.path.parent)


def _sync_folder(folder: Path) -> None:
    """The name of a new file survives a crash too, where folders can be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def entries(name: str, data: bytes, seq: int = 0, prev: str = START) -> Iterator[Entry]:
    """The entries of whole lines that follow the hash prev. ValueError at the first bad one."""
    for line in data.split(b"\n")[:-1]:
        entry = _parse(line)
        if entry is None or entry["hash"] != _hash(entry["prev"], entry):
            raise ValueError(f"{name}: entry {seq} (line {seq + 1}) was edited or is damaged")
        if entry["prev"] != prev or entry["seq"] != seq:
            raise ValueError(
                f"{name}: line {seq + 1} holds entry {entry['seq']}, which does not follow the "
                "one before it: entries were removed, inserted or moved"
            )
        yield entry
        seq, prev = seq + 1, entry["hash"]


def _parse(line: bytes) -> Entry | None:
    """The entry of a line, where the line is its canonical text."""
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict) or set(entry) != _KEYS:
            return None
        whole = canonical(entry).encode("ascii") == line
    except (ValueError, RecursionError):
        return None
    typed = isinstance(entry["prev"], str) and isinstance(entry["kind"], str)
    return entry if whole and typed and type(entry["seq"]) is int else None


@dataclass(frozen=True)
class Verified:
    """A log whose chain is whole: its entries, its head, how many came after the head given,
    and the bytes of an unterminated last line (a write that a kill cut short)."""

    n: int
    head: str
    after: int
    unfinished: int


def verify(path: str | os.PathLike[str], head: str) -> Verified:
    """Check a log against the last head that was noted (64 hexadecimal digits).

    Finds every edit, removal, insertion, reordering, and truncation before that head. ValueError
    in one line that says what is wrong and where, or that the file cannot be read.
    """
    head = head.strip().lower()
    if not _HASH.fullmatch(head):
        raise ValueError(f"head {head!r} must be 64 hexadecimal digits, as status prints it")
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such log; the head says that there was one")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    return verified(str(path), data, head)


def verified(name: str, data: bytes, head: str) -> Verified:
    """:func:`verify` of a log's bytes."""
    good = data.rfind(b"\n") + 1
    hashes = [entry["hash"] for entry in entries(name, data[:good])]
    if head not in hashes:
        raise ValueError(
            f"{name}: its {len(hashes)} entries are chained, but the head {head[:12]}... is not "
            "among them: the log was cut off, replaced or rewritten"
        )
    after = len(hashes) - 1 - hashes.index(head)
    return Verified(len(hashes), hashes[-1], after, len(data) - good)
