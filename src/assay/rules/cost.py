"""What a model has cost: its parameters, and the FLOP of its training.

FLOP are counted, not estimated: those of the matrix products, convolutions and attentions of the
loss of a few samples and of its gradient (`torch.utils.flop_counter`), a multiplication and an
addition each counting one; what is done elementwise is left out.
"""

from __future__ import annotations

from typing import Any

from assay.rules.recipe import Recipe, batches

_N = 4  # samples counted


def parameters(family: Any) -> int:
    """Numbers that training changes; a tied weight counts once."""
    return sum(p.numel() for p in family.parameters())


def flop_per_sample(family: Any, recipe: Recipe) -> float:
    """FLOP of a sample's loss and its gradient."""
    from torch.utils.flop_counter import FlopCounterMode

    streamed = recipe.data.model_copy(update={"per_rule": None, "fingerprint": None})
    few = recipe.fit.model_copy(update={"batch": _N, "split": 1})
    batch = batches(recipe.model_copy(update={"data": streamed, "fit": few}))(0)
    with FlopCounterMode(display=False) as counter:
        family.loss(batch, family.streams(recipe.fit.seed)).mean().backward()
    family.zero_grad(set_to_none=True)
    return counter.get_total_flops() / _N


def facts(family: Any, recipe: Recipe, samples_seen: int) -> dict[str, Any]:
    """{parameters, samples_seen, training_flop} of a family so trained."""
    return {
        "parameters": parameters(family),
        "samples_seen": samples_seen,
        "training_flop": samples_seen * flop_per_sample(family, recipe),
    }
