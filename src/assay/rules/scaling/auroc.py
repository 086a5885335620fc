"""AUROC with an interval, also within strata, for scores of trainings that come in groups.

The area under the receiver operating characteristic is the share of pairs (a collapsed training
i, another one j) that the score puts in order, ties counted half:

    A = sum_(pairs) [ s_i > s_j ] + 1/2 [ s_i = s_j ]  /  number of pairs.

Within strata only pairs of one stratum count: within sizes of data, A says what a score tells
beyond the size. The interval inverts the score test with Hanley and McNeil's variance as Newcombe
symmetrised it (Statistics in Medicine 25, 2006, 559-573, method 5),

    V(A) = A (1 - A) / (m n) [ 1 + M (1 - A) / (2 - A) + M A / (1 + A) ],   M = (m + n)/2 - 1,

added up over strata by the squared shares of their pairs. It is not a point at A = 1, where a
bootstrap's is. m and n count GROUPS with and without an event, not trainings: seeds of one
configuration are no independent evidence.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

_Z = 1.959963984540054  # of 95 %


@dataclass(frozen=True)
class Area:
    """AUROC with its 95 % interval; all None where no pair can be compared."""

    value: float | None
    low: float | None
    high: float | None
    n_pairs: int

    def row(self, name: str) -> dict[str, float | int | None]:
        """{name, name_low, name_high, name_pairs}."""
        return {
            name: self.value, f"{name}_low": self.low, f"{name}_high": self.high,
            f"{name}_pairs": self.n_pairs,
        }  # fmt: skip


def area(
    scores: np.ndarray,
    events: np.ndarray,
    groups: Sequence[Hashable],
    strata: Sequence[Hashable] | None = None,
) -> Area:
    """AUROC of scores (n,) for events bool (n,), larger scores meaning events.

    groups (n,): what trainings are seeds of; strata (n,): only pairs within one count.
    ValueError for lengths that differ or scores that are not finite.
    """
    scores, events = np.asarray(scores, dtype=np.float64), np.asarray(events, dtype=bool)
    layers = [0] * len(scores) if strata is None else list(strata)
    if not len(scores) == len(events) == len(groups) == len(layers):
        raise ValueError("scores, events, groups and strata must be of one length")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinite entries: leave those trainings out")
    order, pairs, counts = 0.0, [], []
    for layer in dict.fromkeys(layers):
        here = np.array([other == layer for other in layers], dtype=bool)
        yes, no = scores[here & events], scores[here & ~events]
        if len(yes) and len(no):
            order += float(_concordance(yes, no))
            pairs.append(len(yes) * len(no))
            counts.append((_groups(groups, here & events), _groups(groups, here & ~events)))
    if not pairs:
        return Area(None, None, None, 0)
    total = sum(pairs)
    value = order / total
    shares = np.array(pairs) / total
    low = _lower(value, shares, counts)
    high = 1.0 - _lower(1.0 - value, shares, counts)
    return Area(value, low, high, total)


def _concordance(yes: np.ndarray, no: np.ndarray) -> float:
    """Pairs in order, ties counted half."""
    return (np.sign(yes[:, None] - no).sum() + len(yes) * len(no)) / 2


def _groups(groups: Sequence[Hashable], chosen: np.ndarray) -> int:
    return len({group for group, here in zip(groups, chosen, strict=True) if here})


def _variance(a: float, m: int, n: int) -> float:
    half = (m + n) / 2 - 1
    return a * (1 - a) / (m * n) * (1 + half * (1 - a) / (2 - a) + half * a / (1 + a))


def _lower(value: float, shares: np.ndarray, counts: list[tuple[int, int]]) -> float:
    """The lower end: where value - A = z sqrt(V(A))."""

    def excess(a: float) -> float:
        spread = sum(s * s * _variance(a, *c) for s, c in zip(shares, counts, strict=True))
        return value - a - _Z * spread**0.5

    top = min(value, 1 - 1e-12)
    if value <= 0 or excess(top) >= 0:
        return max(0.0, min(value, top))
    found: float = optimize.brentq(excess, 0.0, top)  # pyright: ignore[reportAssignmentType]
    return found
