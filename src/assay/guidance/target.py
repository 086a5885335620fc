"""A target: a class z, the marginal it is part of, and what both are exactly.

A target holds three mixtures: ``cond`` = p(x|z), ``uncond`` = p(x), and, where the marginal
contains the class, ``rest`` = p(x|not z) with

    p(x) = prior p(x|z) + (1 - prior) p(x|not z),   prior = P(z).

That identity is worth keeping: D_c - D_u = (1 - P(z|x, sigma)) (D_c - D_rest) has relative
precision where the plain difference of the two denoisers has none left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from assay.core import mixture
from assay.guidance import regions


@dataclass(frozen=True, eq=False)
class Target:
    """A class and its marginal as exact mixtures.

    name, params: what :func:`build` needs to make it again (params are JSON-able).
    cond, uncond: p(x|z) and p(x). prior, rest: P(z) and p(x|not z), None where ``uncond`` does
    not contain ``cond``.
    """

    name: str
    params: dict[str, Any]
    cond: mixture.Mixture
    uncond: mixture.Mixture
    prior: float | None = None
    rest: mixture.Mixture | None = None

    @property
    def dim(self) -> int:
        """Number of coordinates of x."""
        return self.cond.dim

    @property
    def support(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends (low (d,), high (d,)) of the class support, infinite where it is unbounded."""
        return self.cond.support

    def log_odds(self, x: Any, sigma: Any = 0.0) -> Any:
        """log p(z|x)/(1 - p(z|x)) at noise level sigma; x (batch, d) -> (batch,).

        sigma 0 means the data itself. ValueError where the marginal does not contain the class.
        """
        if self.rest is None or self.prior is None:
            raise ValueError(
                "log_odds: uncond does not contain cond, so p(z|x) is undefined; "
                "give uncond the components of cond"
            )
        offset = float(np.log(self.prior) - np.log1p(-self.prior))
        with np.errstate(invalid="ignore"):  # outside both supports at sigma 0: no number
            return offset + self.cond.log_prob(x, sigma) - self.rest.log_prob(x, sigma)

    @cached_property
    def _region(self) -> regions.Region:
        return regions.region(self.cond)

    @property
    def off_support_name(self) -> str:
        """What :meth:`off_support` tests: the class support, or its highest-density region."""
        return self._region.name

    def off_support(self, x: Any) -> np.ndarray:
        """Whether x (batch, d) lies outside the class; (batch,) of bool.

        Compact class: outside the class support. Unbounded class: outside the region of highest
        density that holds 99.9 % of the class. ``off_support_name`` says which.
        """
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x of shape {x.shape} must be (batch, {self.dim})")
        return self._region.outside(x)
