"""A model's two files: weights, and what they are.

    NAME.safetensors  weights alone
    NAME.json         the Run's recipe, raw or averaged weights, samples seen, the sha256 of the
                      weights' file and the rows of an evaluation of that very file

The JSON is written last and names the weights it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assay import runs
from assay.rules.recipe import Recipe

KIND = "assay model"


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


def save(generator: Any, path: str | os.PathLike[str], dtype: Any = None) -> Path:
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


def weights(generator: Any, dtype: Any = None) -> bytes:
    """The generator's weights as a safetensors file."""
    from safetensors.torch import save as save_tensors

    def kept(tensor: Any) -> Any:
        changed = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        return changed.detach().cpu().clone().contiguous()

    state = generator.family.state_dict()
    return save_tensors({name: kept(tensor) for name, tensor in state.items()})


def description(generator: Any, data: bytes) -> dict[str, Any]:
    """What the JSON says of the weights in data, before any evaluation."""
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


def add_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Put the rows of an evaluation of this very file into its JSON, in place of others."""
    _write_json(Path(path), {**about(path), "rows": [dict(row) for row in rows]})


def _write_json(file: Path, said: Mapping[str, Any]) -> None:
    data = runs.dumps(said, indent=1).encode() + b"\n"
    runs.write_aside(file.with_suffix(".json"), data)
