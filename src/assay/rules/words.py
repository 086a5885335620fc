"""Operations on machine words that numba lacks, and the one way this room compiles.

All words of bits are int64 with the upper bits zero; streams of random bits are uint64. The high
half of a 64 x 64 bit product turns a random word r into an index below n, floor(r n / 2^64), and
its low half r n mod 2^64 is again uniform given that index, up to n / 2^64 (Lemire, "Fast random
integer generation in an interval", 2019, sections 3-4; Brackett-Rozinsky and Lemire, "Batched
ranged random integer generation", 2024). One word therefore serves several draws.

Compiled functions that are called in a hot loop take the address of an array's data, not the
array: numba counts references to arrays atomically at every call, which halved the speed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

native: Any = intrinsic  # an untyped decorator: what it gives is called with one argument less
SIGNED = types.int64
UNSIGNED = types.uint64
_WIDE = ir.IntType(128)


def _stamp() -> str:
    """Fingerprint of all sources of this room that compile something."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if b"assay.rules.words" in (source := path.read_bytes()) or path == Path(__file__):
            digest.update(path.name.encode() + b"\0" + source)
    return digest.hexdigest()


_STAMP = _stamp()


def jit(function: Callable[..., Any]) -> Any:
    """Compile on first call, without the interpreter lock, and keep the machine code on disk.

    numba itself forgets kept code only when the function's own file changes, although functions of
    other files are compiled into it; here a change of any compiled source of the room counts.
    Where neither the package's folder nor the user's cache can be written, the code is compiled
    anew in every process instead.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
    compiled._cache._cache_file._source_stamp = _STAMP
    return compiled


@native
def popcount(typingctx, word):
    """Number of set bits of a word."""

    def code(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return SIGNED(SIGNED), code


@native
def lowest(typingctx, word):
    """Index of the lowest set bit of a word; 64 for the word 0."""

    def code(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return SIGNED(SIGNED), code


@native
def below(typingctx, random, n):
    """floor(random n / 2^64): an index 0..n-1 from 64 random bits."""

    def code(context, builder, signature, arguments):
        wide = [builder.zext(value, _WIDE) for value in arguments]
        high = builder.lshr(builder.mul(*wide), ir.Constant(_WIDE, 64))
        return builder.trunc(high, ir.IntType(64))

    return SIGNED(UNSIGNED, SIGNED), code


@native
def rest(typingctx, random, n):
    """random n mod 2^64: what ``below`` leaves for the next draw."""

    def code(context, builder, signature, arguments):
        return builder.mul(*arguments)

    return UNSIGNED(UNSIGNED, SIGNED), code


@native
def load(typingctx, address, index):
    """The int64 at an index of the array whose data begin at ``address``."""

    def code(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(pointer, [arguments[1]]))

    return SIGNED(SIGNED, SIGNED), code


@native
def load8(typingctx, address, index):
    """The byte, 0..255, at an index of the array whose data begin at ``address``."""

    def code(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        return builder.zext(builder.load(builder.gep(pointer, [arguments[1]])), ir.IntType(64))

    return SIGNED(SIGNED, SIGNED), code


def _store(width):
    @native
    def store(typingctx, address, index, value):
        """Write the low bits of a value, lowest first, from a byte of the array at ``address``."""

        def code(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
            place = builder.gep(pointer, [arguments[1]])
            place = builder.bitcast(place, ir.IntType(width).as_pointer())
            builder.store(builder.trunc(arguments[2], ir.IntType(width)), place, align=1)
            return context.get_dummy_value()

        return types.void(SIGNED, SIGNED, SIGNED), code

    return store


store8, store32 = _store(8), _store(32)


@jit
def select(word, k):
    """Index of the k-th set bit (k = 0: the lowest) of a word of 16 bits that has more than k."""
    index = 0
    for width in (8, 4, 2, 1):
        lower = popcount(word & ((1 << width) - 1))
        if k >= lower:
            k -= lower
            index += width
            word >>= width
    return index


@jit
def select_long(word, k):
    """``select`` for a word of 64 bits."""
    index = 0
    for width in (32, 16):
        lower = popcount(word & ((1 << width) - 1))
        if k >= lower:
            k -= lower
            index += width
            word >>= width
    return index + select(word & 0xFFFF, k)
