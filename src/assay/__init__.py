"""assay: tests a generative model before anyone relies on it.

A denoiser is a function (x, sigma) -> E[x0 | x]; it may be exact (a mixture), learned (a network),
guided (two denoisers and a weight), clamped (known panels) or borrowed (a diffusers pipeline), and
every solver, measure and sweep takes any of them.

``assay.open(DIR)`` opens a Run; the laboratories are ``assay.guidance`` and ``assay.rules``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.runs import Run

__version__ = "0.1.0"


def open(path: str | os.PathLike[str]) -> Run:
    """Open the Run in a folder for reading: rows, arrays, ``frame()``.

    ValueError where the folder is no Run or cannot be read.
    """
    from assay import runs

    return runs.Run.read(path)
