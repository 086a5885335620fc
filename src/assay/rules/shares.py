"""Shares of samples' parts, with intervals that treat the samples as the independent units."""

from __future__ import annotations

import numpy as np

from assay.core import intervals


def share(flags: np.ndarray) -> dict[str, float]:
    """The share of True among flags (n, ...): {n, k, estimate, low, high}, see `ratio`.

    Of one flag a sample the interval is Wilson's itself.
    """
    return ratio(flags, np.ones_like(flags))


def ratio(flags: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """The share of True among the counted flags, bool (n, ...) both: {n, k, estimate, low, high}.

    n is the number of flags counted, k of those True; flags imply counted. Samples (the first
    axis) are independent, the flags of one sample need not be. The 95 % interval is Wilson's at
    the effective number of trials, p (1 - p) over the linearised variance of the ratio (Kish's
    design effect), at most n; and one trial a sample where that variance is 0.
    ValueError where no flag is counted.
    """
    hits = flags.reshape(len(flags), -1).sum(1) if len(flags) else np.zeros(0)
    tries = counted.reshape(len(counted), -1).sum(1) if len(counted) else np.zeros(0)
    n, k = int(tries.sum()), int(hits.sum())
    if n == 0:
        raise ValueError("a share needs one flag or more, got none: give at least one sample")
    p = k / n
    variance = float(((hits - p * tries) ** 2).sum()) / n**2
    trials = min(p * (1 - p) / variance, n) if variance > 0 else int((tries > 0).sum())
    low, high = intervals.wilson(p * trials, trials)
    return {"n": n, "k": k, "estimate": p, "low": low, "high": high}
