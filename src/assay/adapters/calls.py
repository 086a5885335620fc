"""One call of a pipeline's denoiser: its inputs by name, its prediction, its two halves."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

_STATE = ("timestep",)  # beside the first parameter, what changes from step to step


@dataclass(frozen=True)
class Parts:
    """The parts of a pipeline that are hooked: its network, its scheduler, its VAE or None."""

    denoiser: Any
    scheduler: Any
    vae: Any = None


@dataclass(frozen=True)
class Call:
    """A call of the denoiser.

    inputs: by the names of its parameters; seen (batch, *shape): the latents it was shown;
    prediction (batch, channels, ...): all that it predicted, the variance too where it is learned.
    """

    module: Any
    inputs: Mapping[str, Any]
    seen: torch.Tensor
    prediction: torch.Tensor

    @classmethod
    def of(cls, module: Any, args: Any, kwargs: Any, output: Any) -> Call:
        """From what a forward hook is given. ValueError for a network of another kind."""
        inputs = bound(module, args, kwargs)
        seen = next(iter(inputs.values()), None)
        prediction = prediction_of(output)
        if not torch.is_tensor(seen) or not torch.is_tensor(prediction):
            raise ValueError(
                f"{type(module).__name__} does not map a tensor of latents to a tensor: "
                "its predictions cannot be recorded"
            )
        if not _fits(seen, prediction):
            raise ValueError(
                f"{type(module).__name__} maps {tuple(seen.shape)} to {tuple(prediction.shape)}: "
                "only networks that see the latents alone are recorded, no inpainting or edits"
            )
        return cls(module, inputs, seen, prediction)

    @property
    def batch(self) -> int:
        """Network evaluations in this call."""
        return len(self.seen)

    @property
    def mean(self) -> torch.Tensor:
        """The prediction without a learned variance, in the shape of the latents."""
        return self.prediction[:, : self.seen.shape[1]]

    def shifted(self, error: torch.Tensor) -> Call:
        """With an error (batch, *shape) added to the prediction."""
        moved = self.prediction.clone()
        moved[:, : self.seen.shape[1]] += error.to(moved)
        return Call(self.module, self.inputs, self.seen, moved)

    def put(self, output: Any) -> Any:
        """A module's output with this call's prediction in it."""
        if torch.is_tensor(output):
            return self.prediction
        if isinstance(output, tuple):
            return (self.prediction, *output[1:])
        output.sample = self.prediction
        return output

    def half(self, first: bool) -> Mapping[str, Any]:
        """The inputs of one half of a doubled batch."""
        n = self.batch
        return {k: _halved(v, n, slice(0, n // 2) if first else slice(n // 2, n))
                for k, v in self.inputs.items()}  # fmt: skip

    def other(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """The prediction at this call's latents and time with the other inputs exchanged."""
        state = {next(iter(self.inputs)), *_STATE}
        merged = {k: v if k in state else inputs.get(k, v) for k, v in self.inputs.items()}
        with torch.no_grad():
            output = self.module(**merged)
        return prediction_of(output)[:, : self.seen.shape[1]]


def prediction_of(output: Any) -> Any:
    """The tensor in a denoiser's output: the output, its first entry, or its ``sample``."""
    if torch.is_tensor(output):
        return output
    return output[0] if isinstance(output, tuple) else getattr(output, "sample", None)


def bound(module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Inputs by the names of the module's parameters, the latents first."""
    plain = getattr(module, "_orig_mod", module)  # a compiled module hides the names
    found = inspect.signature(type(plain).forward).bind(plain, *args, **kwargs)
    inputs = dict(found.arguments)
    inputs.pop(next(iter(inputs)))  # self
    extra = inputs.pop("kwargs", {})
    return {**inputs, **extra}


def _fits(seen: torch.Tensor, prediction: torch.Tensor) -> bool:
    """Whether the prediction has the shape of the latents, or twice its channels."""
    if seen.shape == prediction.shape:
        return True
    doubled = (seen.shape[0], 2 * seen.shape[1], *seen.shape[2:]) if seen.ndim == 4 else None
    return doubled == tuple(prediction.shape)


def _halved(value: Any, n: int, part: slice) -> Any:
    """Every tensor with n rows cut to a part of them, in dicts, lists and tuples too."""
    if torch.is_tensor(value):
        return value[part] if value.ndim and len(value) == n else value
    if isinstance(value, Mapping):
        return {k: _halved(v, n, part) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_halved(v, n, part) for v in value)
    return value


def replace(owner: Any, name: str, wrapper: Callable[..., Any]) -> Callable[[], None]:
    """Let ``wrapper(original, ...)`` answer for a method; returns what undoes it."""
    original = getattr(owner, name)
    had = name in vars(owner)

    @functools.wraps(original)  # pipelines read the signature of step
    def answer(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, answer)

    def undo() -> None:
        if had:
            setattr(owner, name, original)
        else:
            delattr(owner, name)

    return undo
