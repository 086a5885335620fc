"""What a rollout does with one guard on events, exactly: no sampling, the law of its counts.

After n rows of which k are events, both capitals at the limit L depend on (n, k) alone:

    inside   ln sum_j p_j (1 - theta_j)^k (1 + theta_j L/(1 - L))^(n - k)
    outside  ln sum_j p_j (1 + theta_j (1 - L)/L)^k (1 - theta_j)^(n - k)

so the probabilities of being undecided with k events after n rows follow from those after n - 1,
and what crosses either bound is added up. Other guards are taken to be inside at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import logsumexp

from assay.core.anytime import LOG_PRIOR, THETAS
from assay.guidance.rollouts.rule import Plan

_NEGLIGIBLE = 1e-15


def stage_law(plan: Plan, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """(promoted, rolled back): P(decided so at row n), n = 1 .. budget, at one stage.

    plan: with a budget, its first guard an "at most" on events (range 0 to 1); rate: P(event).
    """
    assert plan.budget is not None
    limit = plan.guards[0].limit
    assert plan.guards[0].side == "at most", "events that may occur in at most so many rows"
    alive = np.ones(1)
    first = 0  # the least k with a probability that counts
    promoted, rolled = np.zeros(plan.budget), np.zeros(plan.budget)
    for n in range(1, plan.budget + 1):
        grown = np.zeros(len(alive) + 1)
        grown[:-1] += alive * (1 - rate)
        grown[1:] += alive * rate
        k = np.arange(first, first + len(grown))[:, None]
        event, none = k * np.log1p(-THETAS), (n - k) * np.log1p(THETAS * limit / (1 - limit))
        good = logsumexp(LOG_PRIOR + event + none, axis=1) >= -np.log(plan.alpha)
        event, none = k * np.log1p(THETAS * (1 - limit) / limit), (n - k) * np.log1p(-THETAS)
        out = logsumexp(LOG_PRIOR + event + none, axis=1) >= -np.log(plan.beta)
        rolled[n - 1], promoted[n - 1] = grown[out].sum(), grown[good & ~out].sum()
        alive = np.where(good | out, 0.0, grown)
        counts = np.flatnonzero(alive > _NEGLIGIBLE)
        if not len(counts):
            break
        first, alive = first + int(counts[0]), alive[counts[0] : counts[-1] + 1]
    return promoted, rolled


def stage_row(plan: Plan, rate: float) -> dict[str, Any]:
    """Probabilities and times of :func:`stage_law`, as a row's entries."""
    promoted, rolled = stage_law(plan, rate)
    found: dict[str, Any] = {
        "promoted": float(promoted.sum()),
        "rolled_back": float(rolled.sum()),
    }
    bad = rate >= plan.guards[0].limit
    times = {"delay" if bad else "rows_to_promote": rolled if bad else promoted}
    for name, law in times.items():
        for label, share in (("median", 0.5), ("90", 0.9)):
            reached = np.flatnonzero(np.cumsum(law) >= share)
            found[f"{name}_{label}"] = int(reached[0]) + 1 if len(reached) else None
    return found
