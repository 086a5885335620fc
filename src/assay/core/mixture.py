"""Mixtures of components, exact at every sigma, and several mixtures in one pass.

With joint_k = ln w_k + ln p_k(x; sigma), everything is a log-sum-exp or a softmax of joint:

    ln p(x; sigma)     = logsumexp_k joint_k
    ln P(k | x; sigma) = joint_k - ln p(x; sigma)
    E[x0 | x]          = sum_k P(k | x; sigma) E[x0 | x, k],     likewise the score.

A mixture is itself a component, so mixtures nest; weighted leaves are evaluated together, never in
a loop over components. Conventions: :mod:`assay.core.components`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from assay.core.components import Component, Support
from assay.core.pool import Leaves, Mixed, pooled
from assay.core.special import Array, Rng, logsumexp, namespace, param, rand
from assay.core.validation import check_points, clip_to, noise_level, pick, shares


@dataclass(frozen=True, eq=False, init=False)
class Mixture(Component):
    """sum_k weights_k components_k. weights: (K,), >= 0, divided by their sum.

    ValueError: weights negative, all 0 or not one for each component; dimensions that differ.
    """

    weights: np.ndarray
    components: tuple[Component, ...]

    def __init__(self, weights: Any, components: Sequence[Component]) -> None:
        components = tuple(components)
        _check_components(components, "components")
        weights = shares(weights, len(components))
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "components", components)

    @property
    def dim(self) -> int:
        return self.components[0].dim

    @cached_property
    def _held(self) -> list[tuple[float, Component]]:
        """Components of positive weight."""
        pairs = zip(self.weights.tolist(), self.components, strict=True)
        return [(weight, component) for weight, component in pairs if weight > 0]

    @cached_property
    def support(self) -> Support:
        lows, highs = zip(*(component.support for _, component in self._held), strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def contains(self, x: Array) -> Array:
        """Whether some component of positive weight contains each row of x."""
        xp = namespace(x)
        inside = [component.contains(x) for _, component in self._held]
        return xp.any(xp.stack(inside, axis=1), axis=1)

    def log_responsibilities(self, x: Array, sigma: Array | float) -> Array:
        """ln P(component k | x; sigma), (batch, K); -inf for weight 0.

        sigma = 0 compares data densities; rows outside every support are then NaN.
        """
        check_points(x, self.dim)
        parts = self._parts.log_prob(x, noise_level(sigma, x, zero=True))
        with np.errstate(divide="ignore"):
            joint = parts + param(np.log(self.weights), x)
        return joint - logsumexp(joint)[:, None]

    @cached_property
    def _parts(self) -> Mixed:
        return pooled([component._leaves() for component in self.components])

    def _leaves(self) -> Leaves:
        return [
            (stack, np.log(weight) + log_weights)
            for weight, component in self._held
            for stack, log_weights in component._leaves()
        ]

    def _draw(self, n: int, rng: Rng) -> Array:
        u = rand(rng, (n,))
        index, x = pick(self.weights, u), param(np.zeros((n, self.dim)), u)
        for k, component in enumerate(self.components):
            chosen = index == k
            count = int(namespace(x).count_nonzero(chosen))
            if count:
                x[chosen] = component.sample(count, rng)
        return x


class Together:
    """Several components over one pool: leaves they share are evaluated once.

    ``Together([cond, uncond])`` serves guidance: both denoisers for little more than one.
    """

    def __init__(self, members: Sequence[Component]) -> None:
        self.members = tuple(members)
        _check_components(self.members, "members")
        self.dim = self.members[0].dim
        self._mixed = pooled([member._leaves() for member in self.members])

    def log_prob(self, x: Array, sigma: Array | float) -> tuple[Array, ...]:
        """Each member's log_prob, (batch,)."""
        check_points(x, self.dim)
        values = self._mixed.log_prob(x, noise_level(sigma, x, zero=True))
        return tuple(values[:, m] for m in range(len(self.members)))

    def denoise(self, x: Array, sigma: Array | float) -> tuple[Array, ...]:
        """Each member's denoise, (batch, d)."""
        check_points(x, self.dim)
        values = self._mixed.expect(x, noise_level(sigma, x), "denoised")
        return tuple(clip_to(m.support, values[:, i]) for i, m in enumerate(self.members))

    def score(self, x: Array, sigma: Array | float) -> tuple[Array, ...]:
        """Each member's score, (batch, d)."""
        check_points(x, self.dim)
        values = self._mixed.expect(x, noise_level(sigma, x), "score")
        return tuple(values[:, m] for m in range(len(self.members)))

    __call__ = denoise


def _check_components(components: tuple[Any, ...], name: str) -> None:
    if not components or not all(isinstance(c, Component) for c in components):
        raise ValueError(f"{name}: give one or more components")
    dims = [component.dim for component in components]
    if len(set(dims)) > 1:
        raise ValueError(f"{name} have dimensions {sorted(set(dims))}: give all the same")
