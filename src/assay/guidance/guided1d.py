"""The guided denoiser of 1-D mixtures and its slope, to relative precision where uncond contains
cond: D_c - D_u = (1 - P(z|x)) (D_c - D_rest) with 1 - P from log odds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from assay.guidance.stack1d import Stack, Terms, joined, stack

_HUGE = 1e305  # stands for the infinity that must not be subtracted from itself


@dataclass(frozen=True, eq=False)
class Guided1D:
    """D_w = D_one + w (D_one - D_other), both parts evaluated as one joint stack.

    one carries the samples. log_odds: ln prior/(1 - prior) if ``other`` is the rest, None if it
    is the whole marginal. other None: ``one`` alone.
    """

    one: Stack
    other: Stack | None
    log_odds: float | None
    w: float
    joint: Stack
    ours: np.ndarray

    def mix(self, terms: Terms) -> tuple[np.ndarray, np.ndarray]:
        """D_w (as a shift) and its slope, (n,), from the terms (n, K) of the joint stack."""
        log_weights = self.joint.log_weights
        if self.other is None:
            _, shift, _, slope = _average(terms, log_weights)
            return shift, slope
        weight, shift, tilt, slope = _average(*_columns(terms, log_weights, self.ours))
        theirs = _average(*_columns(terms, log_weights, ~self.ours))
        apart = shift - theirs[1]
        if self.log_odds is None:
            return shift + self.w * apart, slope + self.w * (slope - theirs[3])
        odds = self.log_odds + weight - theirs[0]
        p, other = special.expit(odds), self.w * special.expit(-odds)
        bend = slope - theirs[3] - p * (tilt - theirs[2]) * apart
        return shift + other * apart, slope + other * bend


def guided(target: Any, w: float) -> Guided1D:
    """The pair of stacks that guidance by w needs; the carrier of the samples comes first."""
    if w in (-1, 0):
        one = stack(target.uncond if w == -1 else target.cond)
        return Guided1D(one, None, None, 0.0, one, np.ones(len(one.log_weights), bool))
    one = stack(target.cond)
    other = stack(target.uncond if target.rest is None else target.rest)
    odds = None if target.rest is None else float(special.logit(target.prior))
    return Guided1D(one, other, odds, w, *joined(one, other))


def _columns(
    terms: Terms, log_weights: np.ndarray, chosen: np.ndarray
) -> tuple[Terms, np.ndarray]:
    return Terms(*(part[:, chosen] for part in terms)), log_weights[chosen]


def _average(terms: Terms, log_weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Log density, mean shift, mean tilt and slope of the mean shift, (n,)."""
    joint = log_weights + terms.log_prob
    if joint.shape[1] == 1:
        return joint[:, 0], terms.shift[:, 0], terms.tilt[:, 0], terms.slope[:, 0]
    top = np.maximum(joint.max(axis=1, keepdims=True), -_HUGE)
    share = np.exp(np.maximum(joint, -_HUGE) - top)
    total = share.sum(axis=1, keepdims=True)
    share = share / total
    shift = np.sum(share * terms.shift, axis=1)
    tilt = np.sum(share * terms.tilt, axis=1)
    away = (terms.tilt - tilt[:, None]) * (terms.shift - shift[:, None])
    slope = np.sum(share * (terms.slope + away), axis=1)
    return top[:, 0] + np.log(total[:, 0]), shift, tilt, slope
