"""A trained family as a generator of panels: sample and complete, in whole panels.

Both work through the samples in internal batches of one fixed size, the last one filled up, so
that the network always sees the same shapes; sample i draws from stream i of the seed. The same
seed gives the same bytes, and the first samples of a larger n are those of a smaller one.

A model that was trained with labels draws given a rule where one is named, guided by w in the
paper's convention (`assay.core.guidance`): w = 0 is the plain conditional law, w = -1 the
unconditional one.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from assay.rules import bindings, codecs, names
from assay.rules.completion import as_mask

BATCH = 128


class Generator:
    """A family (see `assay.families.base`) bound to panels. ``about`` says what it is.

    on_batch, where set, is called with the number of samples done after every internal batch.
    bf16: matrices in bfloat16 while drawing, as in training: faster where the processor has it,
    and other draws of nearly the same law.
    """

    on_batch: Callable[[int], None] | None = None
    bf16 = False

    def __init__(
        self, family: Any, binding: bindings.Binding, about: dict[str, Any] | None = None
    ):
        self.family, self.binding, self.about = family, binding, about or {}
        self.batch = BATCH

    def sample(
        self,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        rule: int | str | None = None,
        w: float = 0.0,
    ) -> np.ndarray:
        """int8 (n, 3, 3, 9, 3): n draws.

        n: 0 or more; seed: 0 to 2^64 - 1; temperature: 0 or more, 1 the model's own law, 0 the
        likeliest choice; rule: id or name of a rule to draw given, for a model trained with
        labels; w: any finite guidance weight. ValueError for anything else.
        """
        n, family = _integer("n", n), self._given(rule, w)
        rng = family.streams(_integer("seed", seed))
        drawn = []
        for first in range(0, n, self.batch):
            with self._precision():
                codes = family.sample(self.batch, rng.at(first), temperature)
            drawn.append(self._taken(codes, n - first))
        empty = np.empty((0, *self.binding.shape), np.int64)
        return self.binding.decode(np.concatenate(drawn) if drawn else empty, seed)

    def complete(
        self,
        panels: np.ndarray,
        mask: np.ndarray,
        seed: int = 0,
        temperature: float = 0.0,
        rule: int | str | None = None,
        w: float = 0.0,
    ) -> np.ndarray:
        """int8 panels with the unknown ones drawn, the known ones untouched.

        panels (n, 3, 3, 9, 3), integers; mask bool (3, 3) or (n, 3, 3), True where unknown: what
        lies there is never read. A mask without unknown panels gives a copy, one without known
        panels a sample. The rest as for `sample`. ValueError for other shapes, for invalid cells
        in known panels, and, naming those it can, for masks that the family cannot complete.
        """
        x, family = codecs.as_panels(panels), self._given(rule, w)
        where = as_mask(mask, len(x))
        hidden = where[..., None, None]
        _check_known(x, hidden)
        known = np.where(hidden, -1, x).astype(np.int8)
        rng = family.streams(_integer("seed", seed))
        if not where.any():
            return known
        codes = self.binding.encode(known)
        unknown = where.sum((1, 2))
        for count in np.unique(unknown[unknown > 0]):  # one number of unknowns: one shape of work
            lines = np.flatnonzero(unknown == count)
            for first in range(0, len(lines), self.batch):
                part = lines[first : first + self.batch]
                full = np.resize(part, self.batch)  # filled up by repetition
                with self._precision():
                    if count == 9:
                        drawn = family.sample(self.batch, rng.take(full), temperature)
                    else:
                        context, mask = self._placed(codes[full], where[full])
                        drawn = family.complete(context, mask, rng.take(full), temperature)
                codes[part] = self._taken(drawn, len(part))
        return np.where(hidden, self.binding.decode(codes, seed), known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights to a .safetensors file and what they are to a .json beside it.

        `assay.load` reads them. ValueError where the file cannot be written.
        """
        from assay.rules import modelfile

        modelfile.save(self, path)

    def _given(self, rule: int | str | None, w: float) -> Any:
        """The family, or the family given a rule."""
        if rule is None:
            if w != 0:
                raise ValueError(f"w = {w!r} guides towards a rule; name the rule too")
            return self.family
        label = names.rule_id(rule) + 1
        if not self.family.n_labels:
            raise ValueError(
                f"rule {rule!r}: this model was trained without rule labels; train a "
                "conditional one, or leave the rule out"
            )
        return self.family.guided(label, w)

    def _precision(self) -> Any:
        """What draws are computed in, as a context."""
        import torch

        kind = next(self.family.parameters()).device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.bf16)

    def _placed(self, codes: np.ndarray, where: np.ndarray) -> tuple[Any, Any]:
        """Codes and, where it falls on them, the mask of panels: tensors."""
        import torch

        mask = np.ascontiguousarray(self.binding.place(where))
        return torch.from_numpy(codes), torch.from_numpy(mask)

    def _taken(self, codes: Any, n: int) -> np.ndarray:
        """The first n codes of an internal batch."""
        taken = codes.cpu().numpy()[:n]
        if self.on_batch is not None:
            self.on_batch(len(taken))
        return taken

    def __repr__(self) -> str:
        name = self.about.get("name", type(self.family).__name__)
        preset = f"-{self.about['preset']}" if self.about.get("preset") else ""
        size = sum(p.numel() for p in self.family.parameters())
        seen = self.about.get("samples_seen")
        learned = f", {seen:,} samples seen" if seen is not None else ""
        return f"Generator({name}{preset}, {size:,} parameters{learned})"


def _integer(name: str, value: Any) -> int:
    """value, an integer in 0..2^64-1; ValueError otherwise."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{name} must lie in 0..2^64-1, got {number}")
    return number


def _check_known(x: np.ndarray, hidden: np.ndarray) -> None:
    """ValueError where a known cell is neither empty nor valid, or a known panel is empty."""
    empty = (x == -1).all(-1)
    valid = ((x >= 0) & (x < codecs.LEVELS)).all(-1)
    bad = ~(empty | valid | hidden[..., 0])
    if bad.any():
        i, row, col, cell = np.argwhere(bad)[0]
        raise ValueError(
            f"panels hold {x[i, row, col, cell].tolist()} at r{row + 1}c{col + 1}, position "
            f"{cell} of sample {i}: a known cell is -1 in all three attributes or has shape 0..6, "
            "size 0..9, colour 0..9; correct it or mask its panel"
        )
    void = empty.all(-1) & ~hidden[..., 0, 0]
    if void.any():
        i, row, col = np.argwhere(void)[0]
        raise ValueError(
            f"panels hold no object at r{row + 1}c{col + 1} of sample {i}: a known "
            "panel has 1 to 9 objects; mask it if it is unknown"
        )
