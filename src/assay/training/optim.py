"""AdamW and Muon, and a schedule that is a function of the step alone.

Muon (Jordan et al. 2024): momentum of a matrix's gradient, made orthogonal by five steps of a
quintic Newton-Schulz iteration, X <- a X + (b A + c A^2) X with A = X X^T and (a, b, c) =
(3.4445, -4.7750, 2.0315), scaled by sqrt(max(1, rows / columns)). The matrices inside a network
are for it; tables, heads, gains and biases are for AdamW (Loshchilov and Hutter 2019).
"""

from __future__ import annotations

import math

import torch

from assay.training.config import OptimConfig, Schedule

_QUINTIC = (3.4445, -4.7750, 2.0315)
# names of the matrices that Muon is for: ours, then those of GPT-2 and Mamba in transformers
INNER = ("qkv", "mix", "up", "down", "c_attn", "c_proj", "c_fc", "in_proj", "out_proj")


def factor(step: int, n_steps: int, schedule: Schedule) -> float:
    """The learning rate's factor at step 0..n_steps-1, above 0 and at most 1."""
    n_steps = next((end for end in schedule.ends if step < end), n_steps)
    warm = min(1.0, (step + 1) / (schedule.warmup + 1))
    start = schedule.hold * n_steps
    if schedule.decay == "none" or step <= start:
        return warm
    passed = min(1.0, (step - start) / max(n_steps - 1 - start, 1e-9))
    if schedule.decay == "cosine":
        passed = (1 - math.cos(math.pi * passed)) / 2
    return warm * (1 - (1 - schedule.floor) * passed)


def orthogonal(matrix: torch.Tensor, steps: int = 5, bf16: bool = False) -> torch.Tensor:
    """A matrix of nearly the same singular vectors with singular values of about 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).float()
    x = x / (x.norm() + 1e-7)
    x = x.bfloat16() if bf16 else x
    a, b, c = _QUINTIC
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices, with Nesterov's look ahead and decoupled decay."""

    def __init__(self, params, lr: float, momentum=0.95, weight_decay=0.0, bf16=False):
        """bf16: iterate in bfloat16, which the iteration bears and many processors prefer."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "bf16": bf16}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """One step on every parameter that has a gradient."""
        assert closure is None, "closures are not for this optimiser"
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)

    def _update(self, p: torch.Tensor, group: dict) -> None:
        state, momentum = self.state[p], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        gradient = p.grad
        assert gradient is not None
        state["momentum"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(state["momentum"], momentum)
        scale = math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(orthogonal(ahead, bf16=group["bf16"]).to(p.dtype), alpha=-group["lr"] * scale)


def build(
    model: torch.nn.Module, config: OptimConfig, bf16: bool = False
) -> list[torch.optim.Optimizer]:
    """The optimisers of a model's parameters; vectors and scalars are not decayed."""
    inner, matrices, vectors = [], [], []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if p.ndim < 2:
            vectors.append(p)
        elif config.kind == "muon" and p.ndim == 2 and _inner(name):
            inner.append(p)
        else:
            matrices.append(p)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )
    ] if matrices or vectors else []  # fmt: skip
    if inner:
        found.append(Muon(inner, config.muon_lr, config.muon_momentum, config.weight_decay, bf16))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return found


def set_rate(optimizers: list[torch.optim.Optimizer], scale: float) -> None:
    """Set every learning rate to its base times scale."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale


def _inner(name: str) -> bool:
    parts = name.split(".")
    return any(part in INNER for part in parts[-2:])
