"""The images of an audit by w and prompt, and the ways of their latents."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from assay.report import axes, images, rows, text
from assay.report import figures as fig
from assay.report.blocks import Block, Figure, Gallery, Mark, Picture, beside
from assay.report.rows import Row
from assay.report.sections import curves
from assay.runs import Run

_PROMPTS, _IMAGES, _LEAST, _GAP = 8, 4, 96, 4
_WORDS = 140  # characters of a prompt in a heading

LEGEND = (
    Mark("single samples", fig.faint(fig.GUIDED, 0.35)),
    Mark("their mean", fig.GUIDED),
    Mark("far edge of the samples at w = 0", fig.CONDITIONAL, "dash"),
)


def grids(run: Run, found: Sequence[Row]) -> list[Block]:
    """For each prompt a picture a weight, the same seeds in each."""
    by_prompt = rows.groups(found, "prompt_index")
    made: list[Block] = []
    for (index,), held in list(by_prompt.items())[:_PROMPTS]:
        items = [
            item
            for (w,), samples in rows.groups(rows.by_w(held), "w").items()
            if (item := _picture(run, f"thumbs.p{index}-w{w:.12g}", samples)) is not None
        ]
        if items:
            prompt = str(held[0].get("prompt"))
            made.append(Gallery(items, title=f"“{_short(prompt)}”", width=beside(len(items))))
    left = len(by_prompt) - len(made)
    if made and left > 0:
        last = made[-1]
        assert isinstance(last, Gallery)
        words = f"The images of {text.plural(left, 'prompt')} more are in the Run, not here."
        made[-1] = Gallery(last.items, words, title=last.title, width=last.width)
    return made


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= _WORDS else prompt[: _WORDS - 1] + "…"


def _picture(run: Run, name: str, samples: Sequence[Row]) -> Picture | None:
    shown = rows.array(run, name)
    if shown is None:
        return None
    w, shown = float(samples[0]["w"]), shown[:_IMAGES]
    clipped = [v for r in samples if (v := rows.value(r, "clipped")) is not None]
    note = f"clipped {text.percent(float(np.mean(clipped)))}" if clipped else ""
    alt = f"{text.plural(len(shown), 'image')} at {curves.title(w)}, prompt {samples[0]['prompt']}"
    return Picture(source(shown), alt, **curves.heading(w), note=note)


def source(shown: np.ndarray) -> str:
    """Images (n, height, width, 3) of bytes, two in a row, as a data URI."""
    times = -(-_LEAST // max(shown.shape[1:3]))
    shown = shown.repeat(times, axis=1).repeat(times, axis=2)
    n, height, width, _ = shown.shape
    across = min(n, 2)
    step_y, step_x = height + _GAP, width + _GAP
    lines = -(-n // across)
    canvas = np.full((lines * step_y - _GAP, across * step_x - _GAP, 3), 244, np.uint8)
    for i, image in enumerate(shown):
        y, x = i // across * step_y, i % across * step_x
        canvas[y : y + height, x : x + width] = image
    return "data:image/png;base64," + base64.b64encode(images.png(canvas)).decode("ascii")


def trajectories(run: Run, found: Sequence[Row]) -> list[Block]:
    """For the first prompt a panel a weight: projected latents over the scheduler's steps."""
    if not found:
        return []
    held = rows.groups(found, "prompt_index")
    (index,), first = next(iter(held.items()))
    paths = {w: rows.array(run, f"path.p{index}-w{w:.12g}")
             for (w,) in rows.groups(rows.by_w(first), "w")}  # fmt: skip
    drawn = {w: np.asarray(y, float) for w, y in paths.items() if y is not None}
    if 0.0 not in drawn:
        return []
    edge = float(drawn[0.0][-1].max())
    every = np.concatenate([y.ravel() for y in drawn.values()])
    room = 0.05 * (float(np.ptp(every)) or 1.0)
    span = [float(every.min()) - room, float(every.max()) + room]
    panels = [_panel(w, y, edge, span) for w, y in drawn.items()]
    caption = (
        f"The latents of “{_short(str(first[0].get('prompt')))}” from noise (left) to sample, as "
        "x/√(1 + σ²) along the mean of the conditional minus the unconditional prediction at "
        "w = 0."
    )
    return [Gallery(panels, caption, LEGEND, beside(len(panels)))]


def _panel(w: float, y: np.ndarray, edge: float, span: list[float]) -> Figure:
    steps = list(range(len(y)))
    pale = fig.faint(fig.GUIDED, 0.35)
    single = [fig.line(steps, path, "sample", pale, width=1) for path in y.T[:12]]
    mean = fig.line(steps, y.mean(1), "mean", fig.GUIDED, width=2.4)
    traces = [*single, mean, fig.across(edge, "", fig.CONDITIONAL)]
    x = axes.axis("step of the scheduler")
    up = axes.axis("latents along guidance", range=span)
    return fig.figure(traces, x, up, **curves.heading(w))
