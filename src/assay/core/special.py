"""One definition for numpy and torch: array namespaces, special functions, random draws.

Everything in ``core`` computes in the backend of the arrays it is given, so that the exact
laboratories run without torch and a network's tensors never leave their device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp
from array_api_compat import array_namespace, is_torch_array

Array = Any  # numpy.ndarray or torch.Tensor
Rng = Any  # numpy.random.Generator, torch.Generator or assay.families.streams.Streams


def namespace(*arrays: Array) -> Any:
    """Array-API namespace of the arrays (Python numbers are passed over)."""
    return array_namespace(*[a for a in arrays if not isinstance(a, (int, float))])


def param(value: Any, like: Array) -> Array:
    """A parameter as an array of the backend, dtype and device of ``like``."""
    if not is_torch_array(like):
        return np.asarray(value, dtype=like.dtype)
    # a copy: torch warns of numpy arrays that are read-only, as frozen parameters are
    return namespace(like).asarray(np.array(value), dtype=like.dtype, device=like.device)


def as_float64(value: Any) -> np.ndarray:
    """A user's array (numpy, list, torch tensor on any device) as numpy float64."""
    if is_torch_array(value):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def _call(name: str, x: Array) -> Array:
    if is_torch_array(x):
        import torch

        return getattr(torch.special, name)(x)
    return getattr(sp, name)(x)


def log_ndtr(x: Array) -> Array:
    """ln Phi(x), accurate in the far lower tail."""
    return _call("log_ndtr", x)


def ndtr(x: Array) -> Array:
    """Phi(x), the standard normal distribution function, to relative precision in the tail."""
    if is_torch_array(x):  # torch's own ndtr is (1 + erf)/2, which loses the lower tail
        import torch

        return torch.special.erfc(-x * 0.5**0.5) / 2
    return sp.ndtr(x)


def ndtri(q: Array) -> Array:
    """Phi^-1(q), the standard normal quantile."""
    return _call("ndtri", q)


def erfcx(x: Array) -> Array:
    """exp(x^2) erfc(x)."""
    return _call("erfcx", x)


def logsumexp(x: Array, axis: int = -1) -> Array:
    """ln sum exp(x) along one axis; -inf where every entry is -inf."""
    if is_torch_array(x):
        return x.logsumexp(dim=axis)
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.squeeze(top, axis) + np.log(np.sum(np.exp(x - top), axis=axis))


def randn(rng: Rng, shape: tuple[int, ...], like: Array | None = None) -> Array:
    """Standard normal draws; the generator decides the backend, ``like`` dtype and device."""
    if isinstance(rng, np.random.Generator):
        draws = rng.standard_normal(shape)
        return draws if like is None else param(draws, like)
    import torch

    dtype = torch.float64 if like is None else like.dtype
    if isinstance(rng, torch.Generator):
        draws = torch.randn(shape, generator=rng, dtype=dtype, device=rng.device)
    else:  # one stream a line, as `assay.families.streams` has them
        draws = rng.randn(*shape).to(dtype)
    return draws if like is None else draws.to(like.device)


def rand(rng: Rng, shape: tuple[int, ...], like: Array | None = None) -> Array:
    """Uniform draws on [0, 1); the generator decides the backend, ``like`` dtype and device."""
    if isinstance(rng, np.random.Generator):
        draws = rng.random(shape)
        return draws if like is None else param(draws, like)
    import torch

    dtype = torch.float64 if like is None else like.dtype
    if isinstance(rng, torch.Generator):
        draws = torch.rand(shape, generator=rng, dtype=dtype, device=rng.device)
    else:
        draws = rng.rand(*shape).to(dtype)
    return draws if like is None else draws.to(like.device)
