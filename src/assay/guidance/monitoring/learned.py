"""The monitor on a learned model of digits, whose truth nobody has.

The model's denoisers, conditional on a digit and unconditional, are measured with the images that
were held out of its training: the unconditional one with all of them, a conditional one with those
of its digit. Visited are the trajectories of (1+w) cond - w uncond. Grey levels of real images are
whole numbers, so that below the distance between two of them the true D* is a staircase that no
smooth network has: each image gets uniform noise of one level, as for the mixtures of
:mod:`assay.guidance.digits`, and the law that is meant is that of the dequantised images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from assay import refusal
from assay.core.guidance import Guided
from assay.guidance.images import data as image_data
from assay.guidance.images import models as image_models
from assay.guidance.monitoring import monitor
from assay.progress import track
from assay.runs import Run

_LEVELS = {"digits8": 2 / 16, "digits28": 2 / 255}  # one grey level on [-1, 1]

Row = dict[str, Any]


class LearnedStudy(BaseModel):
    """A model of digits, the digit whose trajectories are guided, the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: Literal["guidance.monitor"] = "guidance.monitor"
    model: str
    digit: int = Field(default=3, ge=0, le=9)
    w: tuple[float, ...] = (0.0, 1.0, 3.0, 7.0)
    seed: int = Field(default=0, ge=0)


def study(**values: Any) -> LearnedStudy:
    """The study from plain values; ValueError in one line where one is refused."""
    return refusal.checked(LearnedStudy, values, given=True)


def write(run: Run, config: LearnedStudy) -> None:
    """Append the rows of each denoiser that are not there yet."""
    for name in track(("uncond", "cond"), "denoisers", 2):
        if run.done(f"{name}/end"):
            continue
        for row in rows(name, config):
            if not run.done(row["key"]):
                run.append(row)
        run.append({"key": f"{name}/end", "kind": "end", "denoiser": name})


def rows(name: str, config: LearnedStudy) -> Iterator[Row]:
    """Rows of one denoiser, "cond" or "uncond": totals first, then the levels, for each w."""
    model = image_models.load(config.model)
    images = image_data.load(model.recipe.data)
    part = images.heldout
    x = part.x if name == "uncond" else part.of(config.digit)
    rng = np.random.default_rng(config.seed)
    grey = _LEVELS[images.name] / 2
    data = x + rng.uniform(-grey, grey, x.shape)
    cond, uncond = model.cond(config.digit), model.uncond()
    few = monitor.MonitorConfig(seed=config.seed, paths=128, substeps=2)
    prepared = monitor.prepare(data, None, few).keep()
    seen = [monitor.visit(Guided(cond, uncond, float(w)), prepared) for w in config.w]
    own = uncond if name == "uncond" else cond
    reports = monitor.measure(own, prepared, [monitor.States({}), *seen])
    fixed = {
        "kind": "learned", "denoiser": name, "digit": config.digit, "n_data": len(data),
        "seed": config.seed,
    }  # fmt: skip
    for i, report in enumerate(reports):
        w = config.w[i - 1] if i else None
        every = [*report.total.values(), *report.rows]
        for row in (r for r in every if i == 0 or r["states"] != "held-out"):
            stem = name if w is None else f"{name}/w={w:g}"
            yield fixed | row | {"key": f"{stem}/{row['key']}"}
