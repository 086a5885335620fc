"""The discrete half: one token drawn from the law that logits define.

p_T(v) is proportional to exp(logits_v / T). T = 1 is the law itself, T = 0 its mode (the first of
equals). Draws invert the cumulative sum in float64, so that one uniform number gives one token
and a token of probability 0 (a logit of -inf) is never drawn.
"""

from __future__ import annotations

from typing import Any

from assay.core import special

Array = special.Array


def draw(logits: Array, uniform: Array, temperature: float = 1.0) -> Array:
    """Tokens (...) from logits (..., V) and uniform numbers (...) in [0, 1); numpy or torch.

    Logits need no normalisation; -inf excludes a token. ValueError where the temperature is
    negative or not finite.
    """
    check_temperature(temperature)
    if temperature == 0:
        xp: Any = special.namespace(logits)
        return xp.argmax(logits, axis=-1)
    p = probabilities(logits, temperature)
    xp: Any = special.namespace(p)
    total = xp.cumulative_sum(p, axis=-1)
    # below the last sum, however the product rounds: what lies beyond has probability 0
    aim = xp.minimum(uniform * total[..., -1], total[..., -1] * (1 - 2.0**-52))
    return xp.sum(xp.astype(total <= aim[..., None], xp.int64), axis=-1)


def probabilities(logits: Array, temperature: float = 1.0) -> Array:
    """float64 probabilities (..., V), up to rounding of sum 1, of logits at a temperature > 0."""
    xp: Any = special.namespace(logits)
    scaled = xp.astype(logits, xp.float64) / temperature
    p = xp.exp(scaled - xp.max(scaled, axis=-1, keepdims=True))
    return p / xp.sum(p, axis=-1, keepdims=True)


def check_temperature(temperature: float) -> None:
    """ValueError where a temperature is negative or not finite."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(
            f"temperature must be 0 (the mode) or a positive number, got {temperature!r}"
        )
