"""Models as files: saved, exported from a Run, shipped with the package, loaded by name.

    NAME.safetensors  weights alone, final ones, in bfloat16 where exported
    NAME.json         the Run's recipe, raw or averaged weights, samples seen, the sha256 of the
                      weights' file and the rows of an evaluation of that very file

The JSON is written last and names the weights it belongs to. Weights are read into float32.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assay import runs
from assay.rules.generator import Generator

KIND = "assay model"
FOLDER = Path(__file__).parent / "shipped"
LIMIT = 25_000_000  # bytes of a shipped file
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def names() -> list[str]:
    """The shipped models, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.json") if p.with_suffix(".safetensors").exists())


def about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the .json beside a .safetensors file says; ValueError where it says nothing fit."""
    file = Path(path).with_suffix(".json")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file}: cannot be read ({error}); a model is a .safetensors file with its .json"
        ) from None
    wanted = {"recipe": dict, "samples_seen": int, "sha256": str, "rows": list}
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise ValueError(f"{file}: does not describe an {KIND}")
    for key, kind in wanted.items():
        if not isinstance(found.get(key), kind):
            raise ValueError(f"{file}: is incomplete ({key}); save the model again")
    return found


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

    said = about(path)
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


def save(generator: Generator, path: str | os.PathLike[str], dtype: Any = None) -> Path:
    """Write a generator's weights and what they are; returns the .safetensors file.

    dtype: of the weights in the file, a torch dtype [default: as they are]. ValueError where
    the name ends otherwise or the file cannot be written.
    """
    file = Path(path)
    if file.suffix != ".safetensors":
        raise ValueError(f"{file}: a model's file ends in .safetensors")
    data = weights(generator, dtype)
    said = description(generator, data)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        runs.write_aside(file, data)
        _write_json(file, said)
    except OSError as error:
        raise ValueError(f"{file}: cannot be written ({error.strerror or error})") from None
    return file


def weights(generator: Generator, dtype: Any = None) -> bytes:
    """The generator's weights as a safetensors file."""
    from safetensors.torch import save as save_tensors

    def kept(tensor: Any) -> Any:
        changed = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        return changed.detach().cpu().clone().contiguous()

    state = generator.family.state_dict()
    return save_tensors({name: kept(tensor) for name, tensor in state.items()})


def description(generator: Generator, data: bytes) -> dict[str, Any]:
    """What the JSON says of the weights in data, before any evaluation."""
    from assay.rules.recipe import Recipe

    recipe = {k: v for k, v in generator.about.items() if k in Recipe.model_fields}
    return {
        "kind": KIND,
        "averaged": bool(generator.about.get("averaged")),
        "samples_seen": int(generator.about.get("samples_seen", 0)),
        "parameters": sum(p.numel() for p in generator.family.parameters()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "env": runs.environment(),
        "recipe": recipe,
        "rows": [],
    }


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
    if (size := len(weights(model, torch.bfloat16))) > LIMIT:
        raise ValueError(f"{name} takes {size:,} bytes; a shipped model at most {LIMIT:,}")
    return save(model, Path(folder) / f"{name}.safetensors", torch.bfloat16)


def add_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Put the rows of an evaluation of this very file into its JSON, in place of others."""
    _write_json(Path(path), {**about(path), "rows": [dict(row) for row in rows]})


def _write_json(file: Path, said: Mapping[str, Any]) -> None:
    data = runs.dumps(said, indent=1).encode() + b"\n"
    runs.write_aside(file.with_suffix(".json"), data)
