"""A group of rows of the digit study: one sampler, block, w and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Group:
    """Rows drawn in one go."""

    sampler: str
    block: Any  # a Block of the study
    w: float
    seed: int

    @property
    def key(self) -> str:
        """Name of the group in the Run."""
        return f"{self.sampler}-n{self.block.n}-w{self.w:g}-s{self.seed}"

    def row_key(self, digit: int) -> str:
        """Key of the row of a digit."""
        return f"{self.sampler}-d{digit}-n{self.block.n}-w{self.w:g}-s{self.seed}"
