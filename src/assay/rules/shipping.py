"""Models exported from a Run, shipped with the package, loaded by name or file (`modelfile`).

Exported weights are the final ones in bfloat16; they are read into float32.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from assay.rules import modelfile
from assay.rules.generator import Generator

FOLDER = Path(__file__).parent / "shipped"
LIMIT = 25_000_000  # bytes of a shipped file
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def names() -> list[str]:
    """The shipped models, those first that complete trained rules best, then by name."""
    found = [p for p in FOLDER.glob("*.json") if p.with_suffix(".safetensors").exists()]
    return [p.stem for p in sorted(found, key=lambda p: (-_completed(p), p.stem))]


def _completed(path: Path) -> float:
    """The share of trained rules completed, by the rows beside the weights; 0 without."""
    rows = {row.get("part"): row for row in modelfile.about(path)["rows"]}
    return float(rows.get("completion", {}).get("trained") or 0.0)


def load(
    source: str | os.PathLike[str],
    averaged: bool | None = None,
    device: str | None = None,
    bf16: bool = False,
) -> Generator:
    """The generator of a shipped model's name, a Run's folder or a .safetensors file.

    A name that is shipped comes before a folder; write ./NAME for the folder. averaged: a Run's
    averaged or raw weights [default: averaged ones where it has them]; device: where to compute,
    such as "cuda:1" [default: a GPU where there is one]; bf16: draw with matrices in bfloat16.
    ValueError naming what can be loaded.
    """
    generator = _found(source, averaged, device)
    generator.bf16 = bf16
    return generator


def _found(source: str | os.PathLike[str], averaged: bool | None, device: str | None) -> Generator:
    from assay.rules import train

    path = Path(source)
    if isinstance(source, str) and source in names():
        return _read(FOLDER / f"{source}.safetensors", averaged, device)
    if path.name == train.CHECKPOINT:
        path = path.parent
    if path.is_dir():
        return train.load(path, averaged, device)
    if path.suffix == ".safetensors":
        return _read(path, averaged, device)
    there = ", ".join(names()) or "none"
    raise ValueError(
        f"{os.fspath(source)!r} is no shipped model ({there}), no folder of a Run and no "
        ".safetensors file"
    )


def _read(path: Path, averaged: bool | None, device: str | None) -> Generator:
    """The generator in a file; its weights are of one kind only."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from assay.rules import bindings, train
    from assay.rules.recipe import build_family, load_config

    said = modelfile.about(path)
    if averaged not in (None, said.get("averaged")):
        kind = "averaged" if said.get("averaged") else "raw"
        raise ValueError(f"{path}: holds {kind} weights alone; leave averaged out")
    try:
        data = path.read_bytes()
        tensors = load_tensors(data)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if hashlib.sha256(data).hexdigest() != said["sha256"]:
        raise ValueError(f"{path}: is not the file that its .json describes; save the model again")
    recipe = load_config(said["recipe"])
    family = build_family(recipe)
    try:
        family.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: is of another model ({first})") from None
    facts = {key: value for key, value in said.items() if key not in ("kind", "recipe", "rows")}
    return Generator(
        family.eval().to(train.device(device)),
        bindings.get(recipe.binding),
        {**recipe.model_dump(mode="json"), **facts},
    )


def export(
    run: str | os.PathLike[str],
    name: str,
    folder: str | os.PathLike[str] = FOLDER,
    averaged: bool | None = None,
) -> Path:
    """Write the final weights of a training Run as NAME.safetensors in bfloat16, with NAME.json.

    averaged: as for `load`. Evaluate the file (`load` it) and hand the rows to `add_rows`.
    ValueError for a name of other than small letters, digits and dashes, a Run whose training
    has not ended, and a file above 25 MB.
    """
    import torch

    from assay.rules import train

    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r} must be small letters, digits and dashes")
    model = train.load(run, averaged, "cpu")
    fit, first = model.about["fit"], model.about["data"]["first"]
    if model.about["samples_seen"] < first + fit["n_steps"] * fit["batch"]:
        raise ValueError(f"{Path(run)}: training has not ended; go on with it first")
    if (size := len(modelfile.weights(model, torch.bfloat16))) > LIMIT:
        raise ValueError(f"{name} takes {size:,} bytes; a shipped model at most {LIMIT:,}")
    return modelfile.save(model, Path(folder) / f"{name}.safetensors", torch.bfloat16)
