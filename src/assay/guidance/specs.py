"""Components of targets from numbers and mappings, checked, and back to JSON-able mappings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import components, mixture

KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "gaussian": (components.Gaussian, ("mean", "cov")),
    "uniform": (components.Uniform, ("low", "high")),
    "truncated": (components.TruncatedGaussian, ("mean", "sd", "low", "high")),
    "points": (components.Points, ("points", "weights")),
}


@dataclass(frozen=True, eq=False)
class Part:
    """A component with its normalised weight; spec is both as a JSON-able mapping."""

    weight: float
    component: Any
    spec: dict[str, Any]

    @property
    def key(self) -> str:
        """Equal for components of equal parameters."""
        return json.dumps({k: v for k, v in self.spec.items() if k != "weight"})


def parts(name: str, entries: Sequence[Any]) -> list[Part]:
    """Components with normalised weights. ValueError where one is not understood."""
    if isinstance(entries, (str, bytes)) or not isinstance(entries, Sequence) or not len(entries):
        raise ValueError(f"{name} must be a list of one or more (weight, component) pairs")
    pairs = [flat for entry in entries for flat in _flat(*_pair(name, entry))]
    total = sum(weight for weight, _ in pairs)
    return [Part(w / total, c, {"weight": w / total, **describe(c)}) for w, c in pairs]


def weights(found: Sequence[Part]) -> dict[str, float]:
    """Total weight of each distinct component, by key."""
    totals: dict[str, float] = {}
    for part in found:
        totals[part.key] = totals.get(part.key, 0.0) + part.weight
    return totals


def describe(component: Any) -> dict[str, Any]:
    """The component as a mapping that :func:`parts` reads again; infinite ends are None."""
    if isinstance(component, components.Product):
        return {"kind": "product", "parts": [describe(p) for p in component.parts]}
    for kind, (of, names) in KINDS.items():
        if isinstance(component, of):
            return {"kind": kind, **{n: _listed(getattr(component, n)) for n in names}}
    raise ValueError(f"component {component!r} is none of {', '.join(KINDS)}, product")


def vector(name: str, value: Any) -> np.ndarray:
    """A finite number or vector as (d,). ValueError otherwise."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.asarray(np.nan)
    if array.ndim > 1 or array.size == 0 or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} {shown(value)} must be a finite number or a vector of them")
    return np.atleast_1d(array)


def number(name: str, value: Any) -> float:
    """A finite number as a float. ValueError otherwise."""
    array = vector(name, value)
    if array.size != 1:
        raise ValueError(f"{name} {shown(value)} must be one number")
    return float(array[0])


def plain(value: Any) -> float | list[float]:
    """A number or vector as JSON has it."""
    return np.asarray(value, dtype=np.float64).tolist()


def shown(value: Any) -> str:
    """A value on one line, not too long."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _pair(name: str, entry: Any) -> tuple[float, Any]:
    if isinstance(entry, Mapping):
        given = dict(entry)
        weight, component = given.pop("weight", 1.0), given
    elif isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == 2:
        weight, component = entry
    else:
        raise ValueError(f"{name}: {shown(entry)} must be a pair (weight, component)")
    value = number(f"{name} weight", weight)
    if value <= 0:
        raise ValueError(f"{name} weight {shown(weight)} must be > 0")
    return value, _component(name, component) if isinstance(component, Mapping) else component


def _flat(weight: float, component: Any) -> list[tuple[float, Any]]:
    """A mixture among the components stands for its own components."""
    if not isinstance(component, mixture.Mixture):
        return [(weight, component)]
    inner = zip(component.weights.tolist(), component.components, strict=True)
    return [flat for share, part in inner if share > 0 for flat in _flat(weight * share, part)]


def _component(name: str, spec: Mapping[str, Any]) -> Any:
    given = dict(spec)
    kind = given.pop("kind", None)
    if kind == "product" and set(given) == {"parts"}:
        return components.Product([_component(name, part) for part in given["parts"]])
    if kind not in KINDS:
        raise ValueError(f"{name}: kind {kind!r} is unknown; take {', '.join(KINDS)}, product")
    of, names = KINDS[kind]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"{name}: {kind} has no {unknown[0]!r}; it takes {', '.join(names)}")
    ends = {"low": -np.inf, "high": np.inf}
    values = {k: _unlisted(v, ends.get(k, v)) for k, v in given.items()}
    try:
        return of(**values)
    except TypeError as error:
        raise ValueError(f"{name}: {kind}: {error}") from None


def _listed(values: Any) -> Any:
    """Nested lists; None stands for what is not finite."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list):
        return [_listed(v) for v in values]
    return values if np.isfinite(values) else None


def _unlisted(values: Any, end: Any) -> Any:
    if isinstance(values, (list, tuple)):
        return [end if v is None else v for v in values]
    return end if values is None else values
