"""The targets by name: textbook classes, any mixture, real digits.

The textbook targets are those of Chidambaram, Gatmiry, Chen, Lee and Lu, "What does guidance do?"
(NeurIPS 2024, arXiv 2409.13074): two mirrored Gaussians, two mirrored uniform boxes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.core import components
from assay.core import mixture as mixtures
from assay.guidance import specs
from assay.guidance.target import Target

_SHARE = 1e-12  # weights closer than this are equal


def gaussians(mean: Any = 1.0, sd: Any = 1.0, prior: float = 0.5) -> Target:
    """Class N(mean, sd^2) against its mirror image N(-mean, sd^2), P(class) = prior.

    mean: number, or (d,) in d > 1 dimensions, not zero. sd > 0: number or (d,).
    """
    mean_, sd_ = specs.vector("mean", mean), specs.vector("sd", sd)
    if np.size(sd_) not in (1, np.size(mean_)):
        raise ValueError(
            f"sd has {np.size(sd_)} entries and mean {np.size(mean_)}; give one sd, or one each"
        )
    if not np.all(sd_ > 0):
        raise ValueError(f"sd {specs.shown(sd)} must be > 0")
    if not np.any(mean_):
        raise ValueError(f"mean {specs.shown(mean)} makes both classes equal; take another mean")
    variances = np.broadcast_to(sd_, mean_.shape) ** 2
    params = {"mean": specs.plain(mean), "sd": specs.plain(sd), "prior": _prior(prior)}
    one = components.Gaussian(mean_, variances)
    return _mirrored("gaussians", params, one, components.Gaussian(-mean_, variances))


def uniforms(low: Any = 1.0, high: Any = 2.0, prior: float = 0.5) -> Target:
    """Class uniform on [low, high] against its mirror [-high, -low], P(class) = prior.

    0 <= low < high: numbers, or both (d,) for boxes in d > 1 dimensions (the mirror is -x).
    """
    low_, high_ = specs.vector("low", low), specs.vector("high", high)
    if low_.shape != high_.shape:
        raise ValueError(f"low has {low_.size} entries and high {high_.size}; give as many")
    if not np.all(low_ >= 0):
        raise ValueError(f"low {specs.shown(low)} must be >= 0, or the classes overlap")
    if not np.all(low_ < high_):
        raise ValueError(f"low {specs.shown(low)} must be below high {specs.shown(high)}")
    params = {"low": specs.plain(low), "high": specs.plain(high), "prior": _prior(prior)}
    one = components.Uniform(low_, high_)
    return _mirrored("uniforms", params, one, components.Uniform(-high_, -low_))


def mixture(cond: Sequence[Any], uncond: Sequence[Any]) -> Target:
    """Any class and marginal: lists of (weight, component), or of mappings as in ``params``.

    Weights are positive and get normalised; ``uncond`` is the full marginal INCLUDING the class.
    Where every component of ``cond`` is among those of ``uncond`` (equal parameters), prior is
    the largest P(z) that the weights allow and rest what remains; else both are None.
    """
    class_parts, all_parts = specs.parts("cond", cond), specs.parts("uncond", uncond)
    dims = {p.component.dim for p in class_parts + all_parts}
    if len(dims) > 1:
        raise ValueError(f"components of {sorted(dims)} dimensions do not mix; give one dimension")
    params = {
        "cond": [p.spec for p in class_parts],
        "uncond": [p.spec for p in all_parts],
    }
    prior, rest = _decompose(class_parts, all_parts)
    return Target("mixture", params, _mix(class_parts), _mix(all_parts), prior, rest)


def digits(label: int = 3, **options: Any) -> Target:
    """Real handwritten digits, class = one label; see :mod:`assay.guidance.digits`."""
    from assay.guidance import digits as real

    return real.target(label, **options)


BUILDERS: dict[str, Callable[..., Target]] = {
    "gaussians": gaussians,
    "uniforms": uniforms,
    "mixture": mixture,
    "digits": digits,
}


def build(name: str, **params: Any) -> Target:
    """The target of that name. ValueError for an unknown name or parameter."""
    if name not in BUILDERS:
        raise ValueError(f"target {name!r} is unknown; choose from {', '.join(BUILDERS)}")
    try:
        inspect.signature(BUILDERS[name]).bind(**params)
    except TypeError as error:
        raise ValueError(f"target {name!r}: {error}") from None
    return BUILDERS[name](**params)


def _prior(prior: Any) -> float:
    value = specs.number("prior", prior)
    if not 0 < value < 1:
        raise ValueError(f"prior {specs.shown(prior)} must lie between 0 and 1, both excluded")
    return value


def _mirrored(name: str, params: Mapping[str, Any], one: Any, other: Any) -> Target:
    prior = params["prior"]
    uncond = mixtures.Mixture([prior, 1 - prior], [one, other])
    cond, rest = mixtures.Mixture([1.0], [one]), mixtures.Mixture([1.0], [other])
    return Target(name, dict(params), cond, uncond, prior, rest)


def _mix(parts: Sequence[specs.Part]) -> mixtures.Mixture:
    return mixtures.Mixture([p.weight for p in parts], [p.component for p in parts])


def _decompose(
    class_parts: Sequence[specs.Part], all_parts: Sequence[specs.Part]
) -> tuple[float | None, mixtures.Mixture | None]:
    """prior and rest with uncond = prior cond + (1 - prior) rest, or (None, None)."""
    ours, every = specs.weights(class_parts), specs.weights(all_parts)
    if not ours.keys() <= every.keys():
        return None, None
    prior = min(every[key] / weight for key, weight in ours.items())
    left = {key: weight - prior * ours.get(key, 0.0) for key, weight in every.items()}
    left = {key: weight for key, weight in left.items() if weight > _SHARE * every[key]}
    if not left:
        return None, None
    component = {p.key: p.component for p in all_parts}
    return prior, mixtures.Mixture(list(left.values()), [component[key] for key in left])
