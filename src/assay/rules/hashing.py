"""Canonical 64-bit hashes of rows, panels and their attributes.

A row's content under permutation of its nine cells is the multiset of its nine cell columns (the
3 panels x 3 attributes of one position). Its hash is that of a multiset,

    H = mix(sum over positions p of mix(column_p) mod 2^64),

which equals the hash of the SORTED columns in meaning, without sorting: mix is the finaliser of
splitmix64, a bijection that behaves as a random function, so two different contents meet with
probability about 2^-64. Among N stored and Q asked contents a false copy has probability
N Q / 2^64: 3e-6 for 48 million rows and a million questions. The plain form adds the position to
each column first, and so tells contents apart by order too.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (splitmix64);
Clarke et al., "Incremental multiset hash functions", 2003.
"""

from __future__ import annotations

import numpy as np

from assay.rules.bits import pack
from assay.rules.streams import mix
from assay.rules.words import jit, popcount

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
NINTH = np.uint64(0xD6E8FEB86659FD93)  # spreads a column's ninth byte over the other eight
S8, S16, S24, S48 = (np.uint64(s) for s in (8, 16, 24, 48))
BYTE = np.uint64(0xFF)
ONE, ZERO = np.uint64(1), np.uint64(0)


@jit
def _cell(x, g, q, p):
    """One cell's three attributes in 24 bits."""
    return (
        (np.uint64(x[g, q, p, 0]) & BYTE)
        | (np.uint64(x[g, q, p, 1]) & BYTE) << S8
        | (np.uint64(x[g, q, p, 2]) & BYTE) << S16
    )


@jit
def rows(x, step):
    """int8 (m, 3, 9, 3) -> uint64 (m,): hashes of whole rows. step: 0, or GOLDEN for plain."""
    out = np.empty(len(x), np.uint64)
    for g in range(len(x)):
        total, salt = ZERO, ONE
        for p in range(9):
            third = _cell(x, g, 2, p)
            word = _cell(x, g, 0, p) | _cell(x, g, 1, p) << S24 | third << S48
            total += mix((word ^ (third >> S16) * NINTH) + salt)
            salt += step
        out[g] = mix(total + ONE)
    return out


@jit
def panels(x, step):
    """int8 (m, 3, 9, 3) -> uint64 (m, 3): hashes of each panel."""
    out = np.empty((len(x), 3), np.uint64)
    for g in range(len(x)):
        for q in range(3):
            total, salt = ZERO, ONE
            for p in range(9):
                total += mix(_cell(x, g, q, p) + salt)
                salt += step
            out[g, q] = mix(total + np.uint64(2))
    return out


@jit
def attribute_rows(x, step):
    """int8 (m, 3, 9, 3) -> uint64 (m, 3): hashes of each attribute's row, told apart by salt."""
    out = np.empty((len(x), 3), np.uint64)
    for g in range(len(x)):
        for a in range(3):
            total, salt = ZERO, ONE
            for p in range(9):
                word = ZERO
                for q in range(3):
                    word = word << S8 | (np.uint64(x[g, q, p, a]) & BYTE)
                total += mix(word + salt)
                salt += step
            out[g, a] = mix(total + np.uint64(3 + a))
    return out


@jit
def attribute_panels(x, step):
    """int8 (m, 3, 9, 3) -> uint64 (m, 3 panels, 3 attributes), told apart by salt."""
    out = np.empty((len(x), 3, 3), np.uint64)
    for g in range(len(x)):
        for q in range(3):
            for a in range(3):
                total, salt = ZERO, ONE
                for p in range(9):
                    total += mix((np.uint64(x[g, q, p, a]) & BYTE) + salt)
                    salt += step
                out[g, q, a] = mix(total + np.uint64(6 + a))
    return out


@jit
def set_rows(cells, words):
    """uint8 bytes of m rows and bits.VALUE_WORDS -> uint64 (m,): what every rule sees, unordered.

    Nine attribute sets and the eight Venn counts of the three position sets, of which seven
    determine the eighth. Panels with values out of range match no valid panel.
    """
    out = np.empty(len(cells) // 81, np.uint64)
    for g in range(len(out)):
        first = pack(cells, 81 * g, words)
        second = pack(cells, 81 * g + 27, words)
        third = pack(cells, 81 * g + 54, words)
        p, q, r = (first >> 30) & 511, (second >> 30) & 511, (third >> 30) & 511
        venn = popcount(p) | popcount(q) << 4 | popcount(r) << 8 | popcount(p & q) << 12
        venn |= popcount(p & r) << 16 | popcount(q & r) << 20 | popcount(p & q & r) << 24
        total = mix(np.uint64(venn))
        for word in (first, second, third):
            total = mix((total ^ np.uint64(word & ~(511 << 30))) + GOLDEN)
        out[g] = total
    return out


@jit
def samples(row_hashes, step):
    """uint64 (n, 3) hashes of rows -> uint64 (n,): of three rows, in any order unless plain."""
    out = np.empty(len(row_hashes), np.uint64)
    for i in range(len(row_hashes)):
        total, salt = ZERO, ONE
        for r in range(3):
            total += mix(row_hashes[i, r] + salt)
            salt += step
        out[i] = mix(total + np.uint64(10))
    return out
