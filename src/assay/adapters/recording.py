"""What a diffusers pipeline does, written down while it does it: forward hooks, no re-sampling.

A forward hook on the denoiser sees every network evaluation, and the scheduler's ``step`` the
prediction that was really used. Between two calls of ``step`` lie either one evaluation of a
doubled batch, two evaluations, or, without guidance, one. With A and B the two predictions in
their order and P the one used, least squares solves

    P = A + k (B - A),      k = 1 + w where A is unconditional,   k = -w where A is conditional,

so that for w > 0 the sign of k alone tells which is which, and w is measured, not assumed.
Where a pipeline skips the unconditional evaluation (w = 0), the recorder adds it, without
gradients and without counting it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from assay.adapters import calls as called
from assay.adapters import levels
from assay.adapters.calls import Call
from assay.adapters.levels import Level
from assay.adapters.trajectory import Errors, Halves, Trajectory

_SAME = 1e-12  # squared relative difference below which two predictions are one


class Stopped(BaseException):
    """Ends a pipeline after its first guided step; no error, so no handler takes it for one."""


class Recorder:
    """Records one run of a pipeline: ``with Recorder(...) as seen: pipe(...)``.

    denoiser: its network; scheduler, vae: its own; n: samples in the batch. halves: what the
    first guided step showed (None: find it out; ``stop`` then ends the run there with
    :class:`Stopped`). errors: planted in the predictions. ValueError for a pipeline whose steps
    are no guidance with two predictions.
    """

    def __init__(
        self,
        parts: called.Parts,
        n: int,
        halves: Halves | None = None,
        errors: Errors | None = None,
        stop: bool = False,
    ):
        assert errors is None or halves is not None, "first find out how the pipeline guides"
        self.parts, self.n, self.halves, self.errors, self.stop = parts, n, halves, errors, stop
        self.seen = Trajectory()
        self._calls: list[Call] = []
        self._decoded: list[torch.Tensor] = []
        self._planted: tuple[torch.Tensor, torch.Tensor] | None = None
        self._own = False  # while the recorder itself asks the network
        self._spent = 0.0
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Trajectory:
        hook = self.parts.denoiser.register_forward_hook(self._after_forward, with_kwargs=True)
        self._undo.append(hook.remove)
        self._undo.append(called.replace(self.parts.scheduler, "step", self._step))
        if self.parts.vae is not None:
            self._undo.append(called.replace(self.parts.vae, "decode", self._decode))
        self._begun = time.perf_counter()
        return self.seen

    def __exit__(self, kind: Any, *rest: Any) -> bool:
        self.seen.seconds = time.perf_counter() - self._begun - self._spent
        for undo in reversed(self._undo):
            undo()
        if kind is None:
            self._finish()
        return kind is Stopped

    def _finish(self) -> None:
        seen = self.seen
        if not seen.level:
            raise ValueError("the pipeline made no step of its scheduler: nothing was recorded")
        for name in ("ou", "cond", "uncond", "guided"):
            kept = getattr(seen, name)
            setattr(seen, name, torch.stack(kept).numpy() if kept[0] is not None else None)
        seen.scale, seen.residual = np.array(seen.scale), np.array(seen.residual)
        seen.final = _kept(seen.final).numpy()
        if self._decoded:
            seen.decoded = torch.cat(self._decoded).numpy()

    # ---- what is hooked --------------------------------------------------------------------

    def _after_forward(self, module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        if self._own:
            return None
        call = Call.of(module, args, kwargs, output)
        self.seen.nfe += call.batch / self.n
        if self.errors is not None:
            call = call.shifted(self._error(call))
            output = call.put(output)
        self._calls.append(call)
        return output if self.errors is not None else None

    def _error(self, call: Call) -> torch.Tensor:
        """The planted error of a call, in the order of its halves."""
        assert self.errors is not None
        assert self.halves is not None
        if self._planted is None:
            self._planted = self.errors.draw(tuple(call.seen.shape[1:]))
        cond, uncond = self._planted
        if not self.errors.guided:
            return cond
        pair = (uncond, cond) if self.halves.uncond_first else (cond, uncond)
        return torch.cat(pair) if call.batch == 2 * self.n else pair[len(self._calls) % 2]

    def _step(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        begun = time.perf_counter()
        names = dict(zip(("model_output", "timestep", "sample"), args, strict=False)) | kwargs
        self._close(names["model_output"], names["timestep"], names["sample"])
        self.seen.final = (result[0] if isinstance(result, tuple) else result.prev_sample)[
            : self.n
        ]
        self._spent += time.perf_counter() - begun
        return result

    def _decode(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        images = result[0] if isinstance(result, tuple) else result.sample
        self._decoded.append(_kept(images))
        return result

    # ---- one step --------------------------------------------------------------------------

    def _close(self, used: torch.Tensor, timestep: Any, sample: torch.Tensor) -> None:
        """Write down the step whose evaluations were collected."""
        made, self._calls = self._calls, []
        used, sample = used[: self.n].detach(), sample[: self.n].detach()
        pair = self._pair(made)
        first = made[0]
        seen = first.seen[: self.n].detach()
        found = self._level(timestep, seen, sample)
        if len(pair) == 2 and self.halves is None:
            self.halves = _halves(pair, used, made)
            if self.stop:
                raise Stopped
        cond, uncond = self._named(pair, first)
        scale, residual = _solve(cond, uncond, used)
        self._write(found, seen, (cond, uncond, used), (scale, residual))

    def _pair(self, made: list[Call]) -> list[torch.Tensor]:
        """The one or two predictions (n, *shape) of a step, in their order."""
        sizes = [call.batch for call in made]
        if sizes == [2 * self.n]:
            return list(made[0].mean.detach().chunk(2))
        if sizes in ([self.n], [self.n, self.n]):
            return [call.mean.detach() for call in made]
        raise ValueError(
            f"a step asked the network for batches of {sizes} with {self.n} samples: only "
            "guidance with one conditional and one unconditional prediction is audited"
        )

    def _level(self, timestep: Any, seen: torch.Tensor, sample: torch.Tensor) -> Level:
        scheduler = self.parts.scheduler
        index = getattr(scheduler, "step_index", None)
        index = None if index is None else index - 1  # the step has been made already
        found = levels.level(scheduler, timestep, index)
        if not levels.agrees(found, seen, sample):
            raise ValueError(
                f"scheduler {type(scheduler).__name__} shows the network other latents than its "
                "table of noise levels says: use DDIM, Euler, DPM-Solver or a flow scheduler"
            )
        return found

    def _named(self, pair: list[torch.Tensor], first: Call) -> tuple[Any, Any]:
        """(cond, uncond) of a step; a skipped unconditional evaluation is made here."""
        if len(pair) == 2:
            assert self.halves is not None
            one, other = pair
            return (other, one) if self.halves.uncond_first else (one, other)
        if self.halves is None:
            return pair[0], None
        self._own = True
        try:
            return pair[0], first.other(self.halves.uncond).detach()
        finally:
            self._own = False

    def _write(self, found: Level, seen: Any, three: Any, solved: tuple[float, float]) -> None:
        kept = _kept(seen)
        to = self.seen
        to.level.append(found)
        to.ou.append(found.ou(kept))
        for name, prediction in zip(("cond", "uncond", "guided"), three, strict=True):
            value = None if prediction is None else found.denoised(kept, _kept(prediction))
            getattr(to, name).append(value)
        to.scale.append(solved[0])
        to.residual.append(solved[1])


def _kept(values: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, in float32 or better."""
    exact = values.dtype == torch.float64
    return values.detach().to("cpu", torch.float64 if exact else torch.float32, copy=True)


def _fit(a: torch.Tensor, b: torch.Tensor, used: torch.Tensor) -> tuple[float, float]:
    """(k, relative residual) of used = a + k (b - a); k NaN where a and b are equal."""
    a, b, used = (values.to("cpu", torch.float64) for values in (a, b, used))
    apart, whole = b - a, float((used * used).sum())
    size = float((apart * apart).sum())
    k = float(((used - a) * apart).sum()) / size if size > _SAME * whole else float("nan")
    rest = used - a - (k * apart if size > _SAME * whole else 0)
    return k, float((rest * rest).sum() / max(whole, 1e-300)) ** 0.5


def _solve(cond: Any, uncond: Any, used: torch.Tensor) -> tuple[float, float]:
    """(guidance_scale, relative residual) of a step, as measured."""
    return (float("nan"), 0.0) if uncond is None else _fit(uncond, cond, used)


def _halves(pair: list[torch.Tensor], used: torch.Tensor, made: list[Call]) -> Halves:
    """Which prediction is which, from the one that was used with w > 0."""
    k, residual = _fit(pair[0], pair[1], used)
    if residual > 0.9:
        raise ValueError(
            "the prediction that the scheduler is given is no combination of a conditional and "
            "an unconditional one: this way of guiding is not audited"
        )
    single = len(made) == 1
    uncond_first = k > 0.5 if k == k else single
    inputs = made[0].half(uncond_first) if single else made[0 if uncond_first else 1].inputs
    scale = None if k != k else (k if uncond_first else 1 - k)
    return Halves(uncond_first, scale, residual, inputs)
