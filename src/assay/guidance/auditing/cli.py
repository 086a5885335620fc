"""``assay guidance audit``: how hard may a diffusers pipeline be guided?"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from assay.guidance.auditing.audit import Asked, Audit

_LIST = Parameter(allow_leading_hyphen=True, consume_multiple=False, negative=())
_FLAG = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    """How the pipeline is run."""

    seed: Annotated[list[str] | None, _LIST] = None
    """Seeds, one sample of each prompt each, comma list or repeated [default: 0,1,2,3]."""
    batch: int | None = None
    """Samples in one call of the pipeline; divides the number of seeds [default: all]."""
    steps: int | None = None
    """Steps of the pipeline's own scheduler [default: the pipeline's]."""
    height: int | None = None
    """Height of the images in pixels [default: the pipeline's]."""
    width: int | None = None
    """Width of the images in pixels [default: the pipeline's]."""
    images: Path | None = None
    """Folder of real images: the reference of support, in place of the samples at w = 0."""
    no_amplify: Annotated[bool, _FLAG] = False
    """Leave out the second run with planted errors: half the time, no amplification."""
    device: str | None = None
    """cpu, cuda, ... [default: cuda where there is one]."""
    dtype: str | None = None
    """float32, float16, bfloat16 [default: float16 on cuda, else float32]."""


def audit(
    pipeline: str,
    /,
    *,
    prompts: Path,
    out: Path,
    w: Annotated[list[str] | None, _LIST] = None,
    guidance_scale: Annotated[list[str] | None, _LIST] = None,
    flags: Flags | None = None,
    json: Annotated[bool, _FLAG] = False,
) -> Path:
    """Run a diffusers pipeline at several strengths, record it, and say which to use.

    Needs the extra hf. Nothing is downloaded: an id must be in the local cache
    (hf download ID). The same command goes on where it was stopped; the page is OUT/report.html.
    Example: assay guidance audit ./my-pipeline --prompts prompts.txt --w 0,1,2,4,6.5 --out audit

    Parameters
    ----------
    pipeline
        Folder of a diffusers pipeline (model_index.json or modular_model_index.json), or its id.
    prompts
        Text file with one prompt a line; for class-conditional models one class a line.
    out
        Folder of the Run (created; gone on with where it holds the same audit).
    w
        Weights w >= 0, w = 0 the plain conditional model: --w 0,1,2,4,6.5.
    guidance_scale
        The same in the other convention, 1 + w: --guidance-scale 1,2,3,5,7.5.
    json
        Rows on stdout, one JSON object a line.
    """
    from assay.runs import dumps

    found = _run(pipeline, _asked(pipeline, prompts, (w, guidance_scale), flags or Flags()), out,
                 flags or Flags())  # fmt: skip
    if json:
        for row in found.rows:
            sys.stdout.write(dumps(row) + "\n")
    else:
        _print(found)
    return out


def _asked(pipeline: str, prompts: Path, weights: tuple[Any, Any], flags: Flags) -> Asked:
    """What was asked for, read and checked before anything heavy is loaded."""
    from assay.guidance.auditing import config as audit_config
    from assay.guidance.auditing import inputs as audit_inputs
    from assay.guidance.auditing.audit import Asked

    listed = [None if v is None else [p for part in v for p in part.split(",")] for v in weights]
    values = {
        "batch": flags.batch, "steps": flags.steps, "height": flags.height, "width": flags.width,
        "amplify": not flags.no_amplify,
    }  # fmt: skip
    if flags.seed is not None:
        values["seeds"] = _seeds(flags.seed)
    settings = audit_config.settings(values)
    grid = audit_config.grid(listed[0], listed[1])
    if flags.images is not None:
        audit_inputs.read_images(flags.images, (3, 32, 32))
    name = Path(pipeline).resolve().name if Path(pipeline).is_dir() else pipeline
    command = _command(name, prompts, grid, flags)
    return Asked(audit_inputs.read_prompts(prompts), grid, settings, flags.images, name, command)


def _seeds(given: list[str]) -> list[int]:
    parts = [p.strip() for v in given for p in v.split(",")]
    if not all(p.isdecimal() for p in parts):
        raise ValueError(f"seed {','.join(parts)!r} is not a list of integers >= 0")
    return [int(p) for p in parts]


def _command(name: str, prompts: Path, grid: tuple[float, ...], flags: Flags) -> str:
    """The command line that repeats the audit, without the folders that it stood in."""
    words = ["assay", "guidance", "audit", name, "--prompts", prompts.name]
    words += ["--w", ",".join(f"{w:.12g}" for w in grid)]
    words += ["--seed", ",".join(flags.seed)] if flags.seed else []
    for flag in ("batch", "steps", "height", "width", "device", "dtype"):
        value = getattr(flags, flag)
        words += [] if value is None else [f"--{flag}", str(value)]
    words += ["--images", flags.images.name] if flags.images else []
    words += ["--no-amplify"] if flags.no_amplify else []
    return f"{shlex.join(words)} --out DIR"


def _run(pipeline: str, asked: Asked, out: Path, flags: Flags) -> Audit:
    from assay.adapters import loading
    from assay.guidance.auditing import audit as auditing

    return auditing.run_audit(loading.load(pipeline, flags.device, flags.dtype), asked, out)


_COLUMNS = (
    ("w", "w"), ("guidance_scale", "scale"), ("off_support", "off"), ("diversity", "diversity"),
    ("range_error", "range error"), ("overshoot", "overshoot"), ("amplification", "amplified"),
    ("nfe", "nfe"), ("seconds", "s/image"),
)  # fmt: skip


def _print(found: Audit) -> None:
    from assay import terminal

    lines, said = found.of("weight"), found.recommendation
    shown = [c for c in _COLUMNS if any(row.get(c[0]) is not None for row in lines)]
    scale = f"w = {said['w']:g}, guidance_scale = {said['guidance_scale']:g}"
    words = (said["reason"], said["criterion"], *said["warnings"])
    terminal.show(terminal.of_rows("", shown, lines, left=0), f"recommended: {scale}", *words)
