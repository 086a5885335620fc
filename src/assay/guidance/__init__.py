"""Laboratory 1: what guidance really does.

Convention throughout: guided = (1 + w) cond - w uncond; w = 0 is the plain conditional model,
w = -1 the unconditional one.

    from assay.guidance import targets, Pushforward, tilted, conditional, measure

Everything loads on first use and none of the exact 1-D names needs torch. ``tilted`` and
``measure`` are modules that may be called: each stands for its function of the same name.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.guidance import measure, targets, tilted
    from assay.guidance.distribution import conditional
    from assay.guidance.pushforward import Pushforward

__all__ = ["Pushforward", "conditional", "measure", "targets", "tilted"]

_MODULES = ("measure", "targets", "tilted")
_NAMES = {"Pushforward": "pushforward", "conditional": "distribution"}


class _Callable(ModuleType):
    """A module that stands for its function of the same name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Room(ModuleType):
    """This package: a submodule named like its function becomes callable when it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("measure", "tilted") and type(value) is ModuleType:
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
