"""Rules by number or by name, as people write them: 17, "17", "size XOR", "size-xor"."""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

from assay.rules import genraven


def find(rule: str | SupportsIndex) -> int | None:
    """The rule's id, 0 to 39, from its number or its name in any case; None for anything else."""
    if not isinstance(rule, str):
        number = operator.index(rule)
        return number if 0 <= number < len(genraven.RULES) else None
    if rule.isdecimal():
        return find(int(rule))
    wanted = re.sub(r"[\s_]+|-(?=[a-z])", " ", rule.lower())
    return next((r.id for r in genraven.RULES if r.name.lower() == wanted), None)


def rule_id(rule: str | SupportsIndex) -> int:
    """As `find`; ValueError where there is no such rule."""
    try:
        found = find(rule)
    except TypeError:
        found = None
    if found is None:
        raise ValueError(
            f"rule {rule!r} is unknown; rules are 0 to {len(genraven.RULES) - 1}, or names such "
            f"as {genraven.RULES[17].name!r}"
        )
    return found
