"""Laboratory 1: what guidance really does.

Convention throughout: guided = (1 + w) cond - w uncond; w = 0 is the plain conditional model,
w = -1 the unconditional one.

    from assay.guidance import targets, Pushforward, tilted, conditional, measure

Everything loads on first use, and none of the exact 1-D names needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.guidance import targets
    from assay.guidance.auditing.audit import audit
    from assay.guidance.choosing.choose import choose
    from assay.guidance.choosing.criterion import Criterion
    from assay.guidance.monitoring.monitor import score_error
    from assay.guidance.pairs import measure
    from assay.guidance.pushforward import Pushforward
    from assay.guidance.rollouts.guard import Guard
    from assay.guidance.rollouts.rollout import Rollout
    from assay.guidance.tilt import conditional, tilted

__all__ = [
    "Criterion",
    "Guard",
    "Pushforward",
    "Rollout",
    "audit",
    "choose",
    "conditional",
    "measure",
    "score_error",
    "targets",
    "tilted",
]

# No module here bears the name of a function: importing it would hide the function behind it.
_HOMES = {
    "Criterion": "choosing.criterion",
    "Guard": "rollouts.guard",
    "Pushforward": "pushforward",
    "Rollout": "rollouts.rollout",
    "audit": "auditing.audit",
    "choose": "choosing.choose",
    "conditional": "tilt",
    "measure": "pairs",
    "score_error": "monitoring.monitor",
    "tilted": "tilt",
}


def __getattr__(name: str) -> Any:
    if name == "targets":
        return importlib.import_module(f"{__name__}.targets")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
