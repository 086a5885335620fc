"""Checkpoints: weights, optimiser, average in one safetensors file, the rest in its JSON header.

The file is written aside and renamed: it is there whole or not at all, and a killed process leaves
the last good one. A state read back goes on bit for bit.

    steps = checkpoint.kept(fit(model, batches, config, state), path, every=200)

writes the state after every 200th and the last step, before the caller sees that step: so before
any evaluation of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from assay import runs
from assay.training.fit import Diverged, State, Step, processes

KIND = "assay checkpoint"


def write(path: Path, state: State, **about: Any) -> None:
    """Write a state; ``about`` (JSON-able) is handed back by `read`."""
    tensors = {f"model.{name}": p for name, p in state.model.state_dict().items()}
    groups = []
    for i, optimizer in enumerate(state.optimizers):
        saved = optimizer.state_dict()
        groups.append(saved["param_groups"])
        for j, values in saved["state"].items():
            for name, value in values.items():
                tensors[f"optim.{i}.{j}.{name}"] = torch.as_tensor(value)
    if state.average is not None:
        tensors |= {f"average.{name}": t for name, t in state.average.tensors.items()}
    header = {"kind": KIND, "step": state.step, "groups": groups, "about": about}
    flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    runs.write_aside(path, save(flat, {"json": runs.dumps(header)}))


def read(path: Path, state: State) -> dict[str, Any]:
    """Put a saved state into ``state`` (from `fit.begin`), in place; returns what was ``about``.

    ValueError where the file cannot be read, is no checkpoint, or is of another model.
    """
    header, tensors = _load(path)
    _fill_model(path, state, _part(tensors, "model."))
    if (state.average is None) != (not _part(tensors, "average.")):
        raise ValueError(f"{path}: was saved with another setting of ema; use the same config")
    if state.average is not None:
        for name, value in _part(tensors, "average.").items():
            state.average.tensors[name].copy_(value)
    saved = _part(tensors, "optim.")
    if len(header["groups"]) != len(state.optimizers):
        raise ValueError(f"{path}: was saved with another optimiser; use the same config")
    for i, optimizer in enumerate(state.optimizers):
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _part(saved, f"{i}.").items():
            j, key = name.split(".", 1)
            entries.setdefault(int(j), {})[key] = value
        optimizer.load_state_dict({"state": entries, "param_groups": header["groups"][i]})
    state.step = int(header["step"])
    return header["about"]


def weights(path: Path, averaged: bool = False) -> tuple[dict[str, torch.Tensor], int]:
    """The model's state dict, with the averaged weights where asked for, and the steps done.

    ValueError as for `read`, and where there is no average.
    """
    header, tensors = _load(path)
    found = _part(tensors, "model.")
    if averaged:
        average = _part(tensors, "average.")
        if not average:
            raise ValueError(f"{path}: holds no averaged weights; ask for the raw ones")
        found |= average
    return found, int(header["step"])


def kept(steps: Iterator[Step], path: Path, every: int, n_steps: int = 0) -> Iterator[Step]:
    """The steps, the state saved every so many and after the n_steps-th, before they are seen.

    A `Diverged` is raised on with the last good checkpoint named.
    """
    good = 0
    try:
        for step in steps:
            if step.number % every == 0 or step.number == n_steps:
                if processes()[0] == 0:  # of several processes one writes
                    write(path, step.state)
                good = step.number
            yield step
    except Diverged as error:
        there = f"; the last good checkpoint is {path.name} of step {good}" if good else ""
        error.args = (f"{error}{there}",)
        raise


def _fill_model(path: Path, state: State, values: dict[str, torch.Tensor]) -> None:
    own = state.model.state_dict()
    wrong = [
        name
        for name in sorted({*own, *values})
        if name not in own or name not in values or own[name].shape != values[name].shape
    ]
    if wrong:
        raise ValueError(f"{path}: is of another model ({wrong[0]} differs); use its own config")
    state.model.load_state_dict(values)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _load(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("json", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint ({error})") from None
    if header.get("kind") != KIND:
        raise ValueError(f"{path}: is not an assay checkpoint")
    return header, tensors
