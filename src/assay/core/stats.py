"""Distances between samples, and the intervals of `assay.core.intervals` under one name."""

from assay.core.intervals import (
    bootstrap,
    bootstrap_counts,
    effective_sample_size,
    jackknife,
    mean_se,
    spearman,
    wilson,
)

__all__ = [
    "bootstrap",
    "bootstrap_counts",
    "effective_sample_size",
    "jackknife",
    "mean_se",
    "spearman",
    "wilson",
]
