"""Several processes that train one model, as torchrun starts them; alone, all this is nothing.

    with processes.joined():        # reads RANK, WORLD_SIZE, ... that torchrun sets
        value = processes.shared(make)

Only the first process touches files. What it alone can know, and the errors it meets, it tells
the others, so that all go on or all stop.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from assay import runs

T = TypeVar("T")


def expected() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, 0 for the first or only one."""
    return int(os.environ.get("RANK", "0")) if expected() > 1 else 0


@contextmanager
def joined() -> Iterator[int]:
    """Inside, torch.distributed is set up (nccl with GPUs, else gloo); yields the rank."""
    if expected() == 1:
        yield 0
        return
    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def first(make: Callable[[], T]) -> T | None:
    """make() in the first process, None in the others; its ValueError is raised in all."""
    if expected() == 1:
        return make()
    made, error = None, None
    if rank() == 0:
        try:
            made = make()
        except (ValueError, OSError) as caught:
            error = str(caught)
    if (said := _told(error)) is not None:
        raise ValueError(said)
    return made


def shared(make: Callable[[], Any]) -> Any:
    """The JSON-able value of make() in the first process, told to all; errors as for `first`."""
    value = first(make)
    return value if expected() == 1 else _told(value)


def _told(value: Any) -> Any:
    """The first process's value, in every process."""
    import torch
    import torch.distributed as dist

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    data = runs.dumps(value).encode()
    size = torch.tensor([len(data)], device=device)
    dist.broadcast(size, 0)
    text = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if rank() == 0:
        text.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(text, 0)
    return json.loads(bytes(text.cpu().tolist()))
