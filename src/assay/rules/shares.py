"""Shares of samples' parts, with intervals that treat the samples as the independent units."""

from __future__ import annotations

import numpy as np

from assay.core import intervals


def share(flags: np.ndarray) -> dict[str, float]:
    """The share of True among flags (n, ...): {n, k, estimate, low, high}.

    n counts all flags and k the True ones; samples (n >= 1, the first axis) are independent, the
    flags of one sample need not be. The 95 % interval is Wilson's at the effective number of
    trials, p (1 - p) over the variance of the mean of the samples' own shares (Kish's design
    effect), never more than n flags; one trial a sample where all own shares are alike. Of one
    flag a sample this is Wilson's interval itself.
    """
    if not len(flags):
        raise ValueError("a share needs one sample or more, got none")
    own = flags.reshape(len(flags), -1).mean(1)
    p = float(own.mean())
    spread = float(own.var()) / len(own)
    trials = min(p * (1 - p) / spread, flags.size) if spread > 0 else len(own)
    low, high = intervals.wilson(p * trials, trials)
    return {"n": flags.size, "k": int(flags.sum()), "estimate": p, "low": low, "high": high}
