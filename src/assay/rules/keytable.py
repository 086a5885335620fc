"""Sets of 64-bit keys: a sorted array and a directory of its leading bits.

Eight bytes a key, and one to three for the directory. Keys are hashes, hence uniform, so that the
few keys that share a bucket of leading bits lie in one or two cache lines: a question costs two
reads of memory, whatever the number of keys. New keys wait in a buffer as large as the table,
then are sorted and merged in: every key is moved a bounded number of times on average, and the
peak is two tables.
"""

from __future__ import annotations

import numpy as np

from assay.rules.words import jit

_SMALLEST = 1 << 20  # keys in the first buffer


@jit
def compact(keys):
    """Move the distinct entries of sorted keys to the front; their number."""
    n = min(len(keys), 1)
    for i in range(1, len(keys)):
        if keys[i] != keys[i - 1]:
            keys[n] = keys[i]
            n += 1
    return n


@jit
def merge(left, right):
    """The sorted union of two sorted arrays without duplicates of their own."""
    out = np.empty(len(left) + len(right), np.uint64)
    i, j, n = 0, 0, 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        out[n] = min(a, b)
        i += a <= b
        j += b <= a
        n += 1
    while i < len(left):
        out[n] = left[i]
        i += 1
        n += 1
    while j < len(right):
        out[n] = right[j]
        j += 1
        n += 1
    return out[:n]


@jit
def directory(keys, bits):
    """uint32 (2^bits + 1,): where the keys with each leading `bits` begin.

    Empty if the keys are not strictly increasing.
    """
    shift = np.uint64(64 - bits)
    starts = np.zeros((1 << bits) + 1, np.uint32)
    bucket = 0
    for i in range(len(keys)):
        if i > 0 and keys[i] <= keys[i - 1]:
            return starts[:0]
        here = np.int64(keys[i] >> shift) if bits else 0
        while bucket < here:
            bucket += 1
            starts[bucket] = i
    starts[bucket + 1 :] = len(keys)
    return starts


@jit
def contains(keys, starts, bits, asked):
    """bool (m,): which of the asked keys are in the table."""
    shift = np.uint64(64 - bits)
    out = np.empty(len(asked), np.bool_)
    for k in range(len(asked)):
        h = asked[k]
        bucket = np.int64(h >> shift) if bits else 0
        i, end = np.int64(starts[bucket]), np.int64(starts[bucket + 1])
        while i < end and keys[i] < h:
            i += 1
        out[k] = i < end and keys[i] == h
    return out


class KeyTable:
    """A growing set of uint64 keys, fewer than 2^32. Asking after adding settles it first."""

    def __init__(self, keys: np.ndarray | None = None):
        self._keys = np.empty(0, np.uint64) if keys is None else keys
        self._buffer = np.empty(0, np.uint64)
        self._waiting = 0
        self._starts = np.empty(0, np.uint32)

    def add(self, keys: np.ndarray) -> None:
        """Add uint64 keys (m,), duplicates allowed."""
        while len(keys):
            if self._waiting == len(self._buffer):
                self._merge()
                self._buffer = np.empty(max(_SMALLEST, len(self._keys)), np.uint64)
            taken = keys[: len(self._buffer) - self._waiting]
            self._buffer[self._waiting : self._waiting + len(taken)] = taken
            self._waiting += len(taken)
            keys = keys[len(taken) :]

    def _merge(self) -> None:
        """Sort the waiting keys into the table, and drop the buffer."""
        new = self._buffer[: self._waiting]
        new.sort()
        new = new[: compact(new)]
        self._keys = merge(self._keys, new) if len(self._keys) else new.copy()
        self._buffer, self._waiting = np.empty(0, np.uint64), 0
        self._starts = np.empty(0, np.uint32)

    def settle(self) -> None:
        """Make the table ready to be asked, from several threads too.

        ValueError if the keys are not increasing, which only those of a damaged file can be.
        """
        if self._waiting:
            self._merge()
        if not len(self._starts):
            self._starts = directory(self._keys, self._bits)
            if not len(self._starts):
                raise ValueError("keys are not strictly increasing: the file is damaged")

    @property
    def _bits(self) -> int:
        return max(0, len(self._keys).bit_length() - 2)

    @property
    def keys(self) -> np.ndarray:
        """The distinct keys, increasing."""
        self.settle()
        return self._keys

    @property
    def nbytes(self) -> int:
        """Bytes of the settled table and its directory."""
        self.settle()
        return self._keys.nbytes + self._starts.nbytes

    def contains(self, asked: np.ndarray) -> np.ndarray:
        """bool of the shape of asked (uint64): which of these keys are in the table."""
        self.settle()
        flat = contains(self._keys, self._starts, self._bits, np.ascontiguousarray(asked).ravel())
        return flat.reshape(asked.shape)
