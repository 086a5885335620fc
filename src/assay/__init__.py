"""assay: tests a generative model before anyone relies on it.

A denoiser is a function (x, sigma) -> E[x0 | x]; it may be exact (a mixture), learned (a network),
guided (two denoisers and a weight), clamped (known panels) or borrowed (a diffusers pipeline), and
every solver, measure and sweep takes any of them.

``assay.open(DIR)`` opens a Run, ``assay.load(NAME)`` a trained model; the laboratories are
``assay.guidance`` and ``assay.rules``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.rules.generator import Generator
    from assay.runs import Run

__version__ = "0.1.0"


def open(path: str | os.PathLike[str]) -> Run:
    """Open the Run in a folder for reading: rows, arrays, ``frame()``.

    ValueError where the folder is no Run or cannot be read.
    """
    from assay import runs

    return runs.Run.read(path)


def load(
    source: str | os.PathLike[str],
    averaged: bool | None = None,
    device: str | None = None,
    bf16: bool = False,
) -> Generator:
    """A trained model: a shipped one by name, or that of a Run's folder or .safetensors file.

    ``model.sample(n)`` and ``model.complete(panels, mask)`` give int8 panels (n, 3, 3, 9, 3).
    averaged: averaged or raw weights of a Run [default: averaged where it has them]; device: a
    torch device [default: a GPU where there is one]; bf16: draw with matrices in bfloat16, faster
    where the processor has it, other draws of nearly the same law. ValueError naming what can be
    loaded.
    """
    from assay.rules import shipping

    return shipping.load(source, averaged, device, bf16)
