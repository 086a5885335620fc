"""Overlapping exact targets with planted score errors, on which guidance laws are compared.

Every class here overlaps the rest of its marginal, so that log p(z|x) is finite on the class and
guidance has something to buy. Parameters of laws are chosen on TUNING and reported on REPORTING;
no target is in both. Errors are those of :mod:`assay.guidance.error_kinds`, stated by kind, size
and the denoiser that they hit. Class odds of a compact class are read at a noise level of 5 % of
its standard deviation: off both supports p(z|x) is undefined without noise. The size of an error
is one of eps: a bias of size 3 shifts the denoiser by 0.03 at every noise level, which is most of
eps at the lowest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.special import ndtri
from scipy.stats import qmc

from assay.core import stats
from assay.core.guidance import Guided
from assay.guidance import config, error_kinds, laws, targets, tilt
from assay.guidance.control import thrifty as control

BLUR = 0.05  # of the class's standard deviation
DIRECTIONS = 32  # of the sliced distance
_REFERENCE = 1 << 14  # samples of p(x|z) that are compared with


class Place(config._Config):
    """A target by builder and parameters, see :func:`assay.guidance.targets.build`."""

    name: str
    builder: str = "mixture"
    params: dict[str, Any]


class PlantedError(config._Config):
    """A score error: kind, the denoiser it hits, its size on the axis of error_kinds; 0: none."""

    kind: Literal["bias", "field"] = "bias"
    which: Literal["cond", "uncond"] = "uncond"
    size: float = Field(default=0.0, ge=0)

    @property
    def label(self) -> str:
        """A short name, "exact" for none."""
        return f"{self.kind}-{self.which}-{self.size:g}" if self.size else "exact"


def _uniform(weight: float, low: Any, high: Any) -> dict[str, Any]:
    return {"weight": weight, "kind": "uniform", "low": low, "high": high}


def _gaussian(weight: float, mean: Sequence[float], variance: float) -> dict[str, Any]:
    cov = [[variance * (i == j) for j in range(len(mean))] for i in range(len(mean))]
    return {"weight": weight, "kind": "gaussian", "mean": list(mean), "cov": cov}


def _mixture(name: str, cond: Sequence[Mapping[str, Any]], rest: Sequence[Mapping[str, Any]]):
    """Class and rest, each with weights of sum 1, of equal prior."""
    every = [{**part, "weight": part["weight"] / 2} for part in (*cond, *rest)]
    return Place(name=name, params={"cond": list(cond), "uncond": every})


TUNING = (
    _mixture(
        "boxes-a",
        [_uniform(0.7, [0.5], [2.0]), _uniform(0.3, [-1.0], [0.5])],
        [_uniform(0.7, [-2.0], [-0.5]), _uniform(0.3, [-0.5], [2.0])],
    ),
    _mixture(
        "modes-a",
        [_gaussian(0.5, [0.3], 0.04), _gaussian(0.5, [2.0], 0.04)],
        [_gaussian(0.6, [-0.3], 0.09), _gaussian(0.4, [1.2], 0.2)],
    ),
    _mixture(
        "plane-a",
        [_gaussian(0.5, [1.0, 1.0], 0.3), _gaussian(0.5, [1.0, -1.0], 0.3)],
        [_gaussian(0.5, [-0.2, 1.0], 0.3), _gaussian(0.5, [-1.0, -1.0], 0.3)],
    ),
)
REPORTING = (
    Place(name="gaussians", builder="gaussians", params={"mean": 0.7, "sd": 1.0}),
    _mixture(
        "boxes",
        [_uniform(0.6, [0.0], [3.0]), _uniform(0.4, [-1.5], [1.0])],
        [_uniform(0.8, [-3.0], [0.5]), _uniform(0.2, [-1.5], [3.0])],
    ),
    _mixture(
        "modes",
        [
            _gaussian(0.4, [-1.5], 0.1),
            _gaussian(0.3, [0.5], 0.05),
            _gaussian(0.3, [2.5], 0.2),
        ],
        [_gaussian(0.5, [-0.7], 0.15), _gaussian(0.5, [1.4], 0.25)],
    ),
    _mixture(
        "boxes-2d",
        [_uniform(0.5, [0.0, 0.0], [2.0, 1.0]), _uniform(0.5, [-1.0, -1.0], [1.0, 0.5])],
        [_uniform(0.6, [-2.0, -1.0], [0.5, 1.0]), _uniform(0.4, [-1.0, -1.0], [2.0, 1.0])],
    ),
    _mixture(
        "modes-2d",
        [
            _gaussian(0.4, [1.5, 0.0], 0.2),
            _gaussian(0.3, [-0.5, 1.3], 0.15),
            _gaussian(0.3, [-0.5, -1.3], 0.15),
        ],
        [_gaussian(0.5, [0.5, 0.8], 0.2), _gaussian(0.5, [-1.0, -0.5], 0.3)],
    ),
    Place(
        name="nuisance-6d",
        builder="gaussians",
        params={"mean": [0.8, 0.0, 0.0, 0.0, 0.0, 0.0], "sd": 1.0},
    ),
)
MORE = (Place(name="digits", builder="digits", params={"label": 3}),)  # 64-D, on request
ERRORS = (
    PlantedError(),
    PlantedError(kind="bias", which="uncond", size=3.0),
    PlantedError(kind="field", which="uncond", size=0.05),
    PlantedError(kind="field", which="uncond", size=0.1),
    PlantedError(kind="field", which="cond", size=0.05),
)


@dataclass(frozen=True, eq=False)
class Ground:
    """A target with what its comparisons need, built once."""

    target: targets.Target

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.target.dim

    @cached_property
    def reference(self) -> np.ndarray:
        """p(x|z) as (m, d): mid-quantiles on the line, else a sample."""
        if self.dim == 1:
            line = tilt.conditional(self.target)
            return np.asarray(line.quantile((np.arange(_REFERENCE) + 0.5) / _REFERENCE))[:, None]
        return self.target.cond.sample(_REFERENCE, np.random.default_rng(2))

    @cached_property
    def scale(self) -> float:
        """Standard deviation of the class over its coordinates."""
        return control.data_scale(self.reference)

    @property
    def odds_sigma(self) -> float:
        """Noise level at which class odds are read."""
        bounded = bool(np.all(np.isfinite(self.target.support)))
        return BLUR * self.scale if bounded else 0.0

    def odds(self, x: np.ndarray) -> float:
        """Class odds: mean of log p(z|x)/(1 - p(z|x)) over x (n, d)."""
        return float(np.mean(self.target.log_odds(x, self.odds_sigma)))

    def w1(self, x: np.ndarray) -> float:
        """W1 to p(x|z) on the line, sliced W1 over 32 fixed directions else."""
        if self.dim == 1:
            return stats.w1(x[:, 0], self.reference[:, 0])
        rng = np.random.default_rng(0)
        return stats.sliced_w1(x, self.reference, DIRECTIONS, rng=rng)

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Whether x (n, d) lies on the class support, or in its HDR99.9; (n,)."""
        return ~self.target.off_support(x)


class Planted:
    """The two denoisers of a target with a score error. seed: of the random field.

    Both are computed at once; whoever asks for the second finds it there.
    """

    def __init__(self, ground: Ground, error: PlantedError, seed: int = 0) -> None:
        self.ground, self.error = ground, error
        self._errors = error_kinds.ScoreErrors(ground.target, error.which, seed)
        sizes = self._errors.amounts(error.kind, [error.size]) if error.size else [0.0]
        self._amount = float(sizes[0])
        self._last: tuple[Any, Any, Any] = (None, None, None)

    def cond(self, x: np.ndarray, sigma: Any) -> np.ndarray:
        """D_c with its error."""
        return self._both(x, sigma)[0]

    def uncond(self, x: np.ndarray, sigma: Any) -> np.ndarray:
        """D_u with its error."""
        return self._both(x, sigma)[1]

    def guided(self, law: laws.Law) -> Guided:
        """The law's denoiser; autoguidance's weak model bears the error of uncond."""
        if law.weak_variance is None:
            return Guided(self.cond, self.uncond, law)
        weak = laws.Dilated(self.ground.target.cond.denoise, law.weak_variance)
        return Guided(self.cond, lambda x, sigma: self._changed(x, sigma, weak(x, sigma)), law)

    def _both(self, x: np.ndarray, sigma: Any) -> tuple[np.ndarray, np.ndarray]:
        seen, level, pair = self._last
        if seen is not x or level is not sigma:
            pair = self._errors.pair(x, sigma)
            if self._amount:
                pair = self._errors.change(self.error.kind, self._amount, x, sigma, *pair)
            self._last = x, sigma, pair
        return pair

    def _changed(self, x: np.ndarray, sigma: Any, weak: np.ndarray) -> np.ndarray:
        if not self._amount:
            return weak
        return self._errors.change(self.error.kind, self._amount, x, sigma, weak, weak)[1]


def noise(n: int, dim: int, seed: int) -> np.ndarray:
    """n standard normal points (n, dim), scrambled Sobol, n a power of two."""
    points = qmc.Sobol(dim, rng=np.random.default_rng(seed)).random(n)
    return ndtri(np.clip(points, 1e-12, 1 - 1e-12))
