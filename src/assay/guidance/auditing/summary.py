"""From the samples of an audit to a line a weight, and to a recommendation.

Means are over prompts and seeds; their intervals (95 %) resample whole prompts where there are
three or more, else single samples. Shares have Wilson intervals. With d the distance to the
nearest reference (:func:`audit_measures.apart` against w = 0 of the same prompt, over the median
of that prompt's own; or against a folder of real images), a sample is off the support where d
exceeds the 95th percentile of the reference's own distances: about 5 % of w = 0 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import intervals, neighbours, stats
from assay.guidance.auditing import measures
from assay.guidance.auditing.advice import Row, recommend
from assay.guidance.auditing.config import AuditConfig
from assay.guidance.auditing.inputs import read_images
from assay.runs import Run

MEANS = (
    "overshoot", "returned", "turned", "amplification", "displacement", "clipped", "range_error",
    "disagreement", "final_gap", "w_measured", "residual", "knn_distance",
)  # fmt: skip
QUANTILE = 0.95
ENOUGH = 20  # samples of w = 0, so that a share beyond their 95th percentile means something
_FEW = 3  # prompts from which on whole prompts are resampled; seeds that have neighbours


def group(index: int, w: float) -> str:
    """Name of the rows and arrays of one prompt and w."""
    return f"p{index}-w{w:.12g}"


def key(index: int, w: float, seed: int) -> str:
    """Key of one sample's row."""
    return f"{group(index, w)}-s{seed}"


def write(run: Run, config: AuditConfig, images: Path | None) -> None:
    """A row for each w and the recommendation, where they are not there yet."""
    found = Summary(run, config, images)
    for w in config.w:
        run.compute(f"w{w:.12g}", lambda w=w: (found.of(w), {}))
    lines = [row for row in run.rows if row.get("row") == "weight"]
    run.compute("recommendation", lambda: (recommend(lines, config.settings.limits), {}))


class Summary:
    """The lines of a finished audit; images: the folder of real images, or None."""

    def __init__(self, run: Run, config: AuditConfig, images: Path | None):
        self.run, self.config = run, config
        self.prompts = range(len(config.prompts))
        self.seeds = len(config.settings.seeds)
        self._images = images
        self._limits: tuple[np.ndarray | None, float] | None = None

    def of(self, w: float) -> Row:
        """The row of one weight."""
        rows = [r for r in self.run.rows if r.get("row") == "sample" and r["w"] == w]
        found: Row = {"row": "weight", "w": w, "guidance_scale": 1 + w, "n": len(rows)}
        found |= {"n_prompts": len(self.prompts), "n_seeds": self.seeds, "seed": 0}
        for name in ("setting", "convention"):
            found[name] = rows[0][name]
        for name in MEANS:
            found |= self._mean(name, [r.get(name) for r in rows])
        if any(r.get("range_error") is None for r in rows):  # values that are no numbers
            found |= _interval("range_error", np.array([]))
        found |= _share("monotone", [bool(r["monotone"]) for r in rows])
        found["monotone_means"] = self._monotone_means(w)
        found["overshoot_of_mean"] = self._overshoot_of_mean(w)
        found |= self._support(w) | self._diversity(w)
        cost = {name: measures.mean_finite([r[name] for r in rows]) for name in ("nfe", "seconds")}
        return {**found, **cost}

    def _mean(self, name: str, values: Sequence[Any]) -> Row:
        """Mean with its interval over prompts, or over samples where prompts are few."""
        kept = np.array([np.nan if v is None else float(v) for v in values])
        kept = kept.reshape(len(self.prompts), self.seeds)
        units = kept.mean(1) if len(self.prompts) >= _FEW else kept.ravel()
        return _interval(name, units[np.isfinite(units)])

    # ---- along the direction of guidance ---------------------------------------------------

    def _mean_paths(self, w: float) -> list[np.ndarray]:
        return [np.asarray(self._array("path", p, w), float).mean(1) for p in self.prompts]

    def _monotone_means(self, w: float) -> float:
        """Share of prompts whose mean path over the seeds is monotone."""
        paths = self._mean_paths(w)
        return float(np.mean([measures.of_path(y[:, None], 0.0)["monotone"][0] for y in paths]))

    def _overshoot_of_mean(self, w: float) -> float:
        """Peak of the mean path beyond the far edge of w = 0, mean over prompts."""
        edges = [float(np.asarray(self._array("path", p, 0.0))[-1].max()) for p in self.prompts]
        peaks = [float(y.max()) for y in self._mean_paths(w)]
        return float(np.mean(np.subtract(peaks, edges)))

    # ---- beside a reference ----------------------------------------------------------------

    def _support(self, w: float) -> Row:
        """off_support with its interval, and what the reference is."""
        real, limit = self._reference()
        found: Row = {"reference": "w = 0" if real is None else "images"}
        if real is not None:
            found["n_reference"] = len(real)
            every = np.concatenate([self._array("features", p, w) for p in self.prompts])
            return found | _share("off_support", neighbours.knn_distance(every, real) > limit)
        if not self._enough:
            why = f"fewer than {ENOUGH} samples of w = 0, or fewer than {_FEW} seeds"
            return found | {"off_support": None, "off_support_why": why}
        found["n_reference"] = len(self.prompts) * self.seeds
        return found | _share("off_support", self._ratios(w) > limit)

    def _reference(self) -> tuple[np.ndarray | None, float]:
        """(features of the images or None, largest distance that counts as on the support)."""
        if self._limits is None:
            if self._images is not None:
                shape = tuple(int(s) for s in self._array("shape", 0, 0.0))
                real = read_images(self._images, shape)[0]  # pyright: ignore[reportArgumentType]
                own = neighbours.knn_distance(real)
                self._limits = real, float(np.quantile(own, QUANTILE))
            else:
                enough = self._enough
                limit = float(np.quantile(self._ratios(0.0), QUANTILE)) if enough else np.inf
                self._limits = None, limit
        return self._limits

    @property
    def _enough(self) -> bool:
        """Whether w = 0 has samples enough for a 95th percentile of its own distances."""
        return self.seeds >= _FEW and len(self.prompts) * self.seeds >= ENOUGH

    def _ratios(self, w: float) -> np.ndarray:
        """Distances to w = 0 of other seeds, over the median of each prompt's own."""
        found = []
        for p in self.prompts:
            reference = self._array("features", p, 0.0)
            own = measures.apart(reference, reference)
            usual = float(np.median(own)) or 1.0
            found.append(measures.apart(self._array("features", p, w), reference) / usual)
        return np.concatenate(found)

    def _diversity(self, w: float) -> Row:
        """diversity and vendi: within each prompt, over the seeds."""
        if self.seeds < 2:
            return {"diversity": None, "vendi": None, "diversity_why": "one seed: no spread"}
        shares, scores = [], []
        for p in self.prompts:
            rows, reference = (np.asarray(self._array("features", p, v), float) for v in (w, 0.0))
            usual = measures.spread(reference)
            if usual > 0:
                shares.append(measures.spread(rows) / usual)
                width = stats.median_distance(reference)
                scores.append(stats.vendi(rows, "rbf", width))
        return _interval("diversity", np.array(shares)) | _interval("vendi", np.array(scores))

    def _array(self, name: str, index: int, w: float) -> np.ndarray:
        return np.asarray(self.run.array(f"{name}.{group(index, w)}"))


def _interval(name: str, values: np.ndarray) -> Row:
    """A mean with its bootstrap interval; null ends where one value is all there is."""
    if len(values) == 0:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    if len(values) == 1:
        return {name: float(values[0]), f"{name}_low": None, f"{name}_high": None}
    mean, low, high = intervals.bootstrap(values, rng=np.random.default_rng(0))
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _share(name: str, hits: Any) -> Row:
    """A share with its Wilson interval."""
    flags = np.asarray(hits, dtype=bool)
    low, high = intervals.wilson(int(flags.sum()), len(flags))
    return {name: float(flags.mean()), f"{name}_low": low, f"{name}_high": high}
