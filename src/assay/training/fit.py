"""fit(): the one loop. It learns anything with ``loss(batch, rng) -> (batch,)`` and yields steps.

    for step in fit(model, batches, config):
        ...                       # the caller saves, evaluates, draws

Everything a step does is a function of the weights, the optimiser and the step's number: the
batch is ``batches(number)``, its randomness stream ``number`` of the seed, the learning rate a
schedule of the number. So a run that goes on from a saved state repeats, bit for bit, what it
would have done.

Several processes (torch.distributed, started by torchrun) share each batch: each computes its
part of the samples with those samples' own streams, and gradients are averaged before clipping.
The losses are those of one process, up to the order of sums. Losses and gradients that are not
finite stop the loop before the weights are touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from assay.training import optim
from assay.training.config import FitConfig
from assay.training.ema import Average

Batch = Mapping[str, torch.Tensor]
Batches = Callable[[int], Batch]
"""batches(step) -> the step's samples, one a line of each tensor; a function of step alone."""


class Diverged(ValueError):
    """The loss or its gradient is not finite; the weights are those before the step."""

    def __init__(self, step: int, loss: float, norm: float):
        what = f"loss {loss:g}, gradient norm {norm:g}"
        super().__init__(
            f"training stopped at step {step}: {what} not finite; lower the learning rate, "
            "lengthen the warm-up or train without bf16"
        )
        self.step = step


@dataclass
class State:
    """What training changes. ``step`` counts the steps done."""

    model: torch.nn.Module
    optimizers: list[torch.optim.Optimizer]
    average: Average | None
    step: int = 0


@dataclass(frozen=True)
class Step:
    """One step done: number (1 for the first), mean loss before it, and what it took."""

    number: int
    loss: float
    grad_norm: float
    rate: float
    samples: int  # seen so far
    seconds: float
    state: State


def begin(model: torch.nn.Module, config: FitConfig) -> State:
    """The state before the first step."""
    average = Average(model, config.ema) if config.ema is not None else None
    if config.compile:
        for module in model.modules():
            translate: Any = getattr(module, "translate", None)
            if translate is not None:
                translate()
    return State(model, optim.build(model, config.optim, config.bf16), average)


def fit(
    model: Any, batches: Batches, config: FitConfig, state: State | None = None
) -> Iterator[Step]:
    """Train the model in place, yielding after every step.

    model: a module with loss(batch, rng) and ``streams(seed)`` (see `assay.families.base`).
    batches: see `Batches`. state: from `begin` or a checkpoint, to go on from. Raises `Diverged`,
    a ValueError, where loss or gradient is not finite, and ValueError where the batch has another
    size than the config says or cannot be shared among the processes.
    """
    state = state or begin(model, config)
    assert state.model is model, "the state belongs to another model"
    while state.step < config.n_steps:
        start = time.perf_counter()
        was_training = model.training
        model.train()
        loss, norm = _step(model, batches(state.step), config, state)
        model.train(was_training)
        seconds = time.perf_counter() - start
        rate = optim.factor(state.step - 1, config.n_steps, config.optim.schedule)
        samples = state.step * config.batch
        yield Step(state.step, loss, norm, rate, samples, seconds, state)


def _step(model: Any, batch: Batch, config: FitConfig, state: State) -> tuple[float, float]:
    """One step; the mean loss and the gradient's norm before clipping."""
    loss = _backward(model, batch, config, state.step)
    parameters = [p for p in model.parameters() if p.grad is not None]
    loss = _averaged(parameters, loss)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.optim.clip)
    values = torch.stack([loss, norm.to(loss.device)]).tolist()  # one wait for the device
    if not all(math.isfinite(value) for value in values):
        model.zero_grad(set_to_none=True)
        raise Diverged(state.step + 1, *values)
    optim.set_rate(
        state.optimizers, optim.factor(state.step, config.n_steps, config.optim.schedule)
    )
    for optimizer in state.optimizers:
        optimizer.step()
    model.zero_grad(set_to_none=True)
    if state.average is not None:
        state.average.update(model, state.step)
    state.step += 1
    return values[0], values[1]


def _backward(model: Any, batch: Batch, config: FitConfig, step: int) -> torch.Tensor:
    """Add the gradients of this process's part of the mean loss; returns that part's mean."""
    n = len(next(iter(batch.values())))
    rank, world = processes()
    parts = world * config.split
    if n != config.batch or n % parts:
        raise ValueError(
            f"batches({step}) has {n} samples; it needs batch = {config.batch}, divisible by "
            f"{world} processes times split {config.split}"
        )
    size, device = n // parts, next(model.parameters()).device
    rng = model.streams(config.seed).child(step)
    total = torch.zeros((), device=device)
    for part in range(rank * config.split, (rank + 1) * config.split):
        first = part * size
        lines = {name: values[first : first + size] for name, values in batch.items()}
        with (
            _noise_of(config.seed, step * parts + part),
            torch.autocast(device.type, torch.bfloat16, enabled=config.bf16),
        ):
            losses = model.loss(lines, rng.at(first))
        mean = losses.float().mean() / config.split
        mean.backward()
        total += mean.detach()
    return total


@contextmanager
def _noise_of(seed: int, part: int) -> Iterator[None]:
    """torch's own generator set for this part of this step, for layers that draw from it.

    Given back as it was afterwards: nothing outside notices.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.random.manual_seed((seed * 0x9E3779B97F4A7C15 + part) % (1 << 63))
        yield


def processes() -> tuple[int, int]:
    """(this process's rank, how many share the training); (0, 1) alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _averaged(parameters: list[torch.Tensor], loss: torch.Tensor) -> torch.Tensor:
    """Average gradients and loss over the processes, in one exchange."""
    if processes()[1] == 1:
        return loss
    flat = torch.cat([loss.reshape(1)] + [p.grad.reshape(-1) for p in parameters])  # type: ignore
    dist.all_reduce(flat)
    flat /= processes()[1]
    start = 1
    for p in parameters:
        p.grad = flat[start : start + p.numel()].view_as(p).clone()
        start += p.numel()
    return flat[0]


def seconds_per_step(model: Any, batches: Batches, config: FitConfig, n: int = 50) -> float:
    """Median wall time of n steps, the first five left out; the model is trained by it."""
    steps = fit(model, batches, config.model_copy(update={"n_steps": n + 5}))
    times = sorted(step.seconds for step in list(steps)[5:])
    return times[len(times) // 2]
