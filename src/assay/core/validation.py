"""What components accept: parameters as frozen float64 vectors, points, noise levels, weights.

Every refusal is one ValueError that names the argument, its value and the remedy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from assay.core.special import Array, as_float64, namespace, param


def number(value: Any, name: str) -> np.ndarray:
    """A numpy float64 copy without NaN; infinities may stand."""
    try:
        array = as_float64(value).copy()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: give real numbers ({error})") from None
    if np.isnan(array).any():
        raise ValueError(f"{name} holds NaN: give real numbers")
    return array


def finite(value: Any, name: str) -> np.ndarray:
    """A finite numpy float64 copy."""
    array = number(value, name)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite: give finite numbers")
    return array


def vectors(**given: np.ndarray) -> list[np.ndarray]:
    """The arrays as vectors (d,) of one length; numbers stand for every coordinate."""
    for name, array in given.items():
        if array.ndim > 1 or array.size == 0:
            raise ValueError(f"{name} of shape {array.shape}: give a vector (d,) or a number")
    sizes = {name: array.size for name, array in given.items() if array.ndim == 1}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"lengths differ: {sizes}; give every vector the same length d")
    d = next(iter(sizes.values()), 1)
    return [np.array(np.broadcast_to(array, (d,))) for array in given.values()]


def freeze(target: Any, **arrays: np.ndarray) -> None:
    """Set read-only parameters on a frozen dataclass."""
    for name, array in arrays.items():
        array.flags.writeable = False
        object.__setattr__(target, name, array)


def shares(weights: Any, n: int) -> np.ndarray:
    """Weights (n,), >= 0, divided by their sum; None is equal weights."""
    given = np.ones(n) if weights is None else finite(weights, "weights")
    if given.shape != (n,):
        raise ValueError(f"weights of shape {given.shape}: give one for each of {n}")
    if given.min() < 0:
        raise ValueError(f"weights: {given.min():g} is negative; give weights >= 0")
    if not given.max() > 0:
        raise ValueError("weights sum to 0: give at least one weight > 0")
    given = given / given.max()  # a sum of huge weights would overflow
    return given / given.sum()


def pick(weights: np.ndarray, u: Array) -> Array:
    """Indices (n,) drawn by weights from uniform u (n,); never one of weight 0."""
    steps = np.cumsum(weights)
    last = int(np.flatnonzero(weights)[-1])
    index = namespace(u).searchsorted(param(steps / steps[-1], u), u, side="right")
    return namespace(u).clip(index, None, last)


def check_points(x: Array, dim: int) -> None:
    """Refuse what is no floating array (batch, dim)."""
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) != 2 or shape[1] != dim:
        raise ValueError(f"x of shape {shape}: give a numpy or torch array (batch, {dim})")
    if not namespace(x).isdtype(x.dtype, "real floating"):
        raise ValueError(f"x holds {x.dtype}: give floating-point numbers")


def noise_level(sigma: Any, x: Array, zero: bool = False) -> Array | float:
    """sigma as a float, or as a column (batch or 1, 1) beside x; > 0, or with ``zero`` all 0."""
    if isinstance(sigma, int | float | np.generic):
        level = float(sigma)
        if not (0 < level < np.inf or (zero and level == 0)):
            raise ValueError(f"sigma={level}: give a finite noise level {'>=' if zero else '>'} 0")
        return level
    return _column(sigma, x, zero)


def _column(sigma: Any, x: Array, zero: bool) -> Array | float:
    shape = tuple(getattr(sigma, "shape", (None, None)))
    if shape not in ((), (1,), (x.shape[0],)):
        raise ValueError(f"sigma of shape {shape}: give a number or an array ({x.shape[0]},)")
    xp = namespace(x)
    both_torch = is_torch_array(sigma) and is_torch_array(x)
    sigma = sigma.to(x) if both_torch else param(as_float64(sigma), x)
    if zero and bool(xp.all(sigma == 0)):
        return 0.0
    if not bool(xp.all((sigma > 0) & xp.isfinite(sigma))):
        raise ValueError("sigma: give finite noise levels > 0 (or all 0 for the data density)")
    return xp.reshape(sigma, (-1, 1))


def clip_to(support: tuple[np.ndarray, np.ndarray], x: Array) -> Array:
    """x (batch, d) moved by rounding's width back into the box; untouched where unbounded."""
    if not np.isfinite(support).any():
        return x
    low, high = (param(np.array(edge), x) for edge in support)
    return namespace(x).clip(x, low, high)
