"""Separate heads: does C3 fall with data, and are half-empty cells the cause?

A cell's shape, size and colour are each -1 where it is empty. Separate heads draw the three
independently given what was drawn before, so that a cell occupied with probability p comes out
half empty with 1 - p^3 - (1 - p)^3, up to 3/4: the surer a model is (of samples it knows by
heart), the fewer. A cell empty in one attribute counts as empty.

The cause is tested on the same weights, by another way to draw a token from its law P:

    occupancy once     Q(empty) = P(shape = 0), Q(s, z, c) ~ P(s, z, c) on occupied cells: no cell
                       is half empty, and occupancy keeps the law that the shape's head gives it
    parts independent  the product of P's marginals: what separate heads would draw from a joint
                       head's knowledge
    values independent  both: occupancy once, the values of occupied cells independent

The last one, of a joint head, tells half-empty cells from the other thing that separate heads do:
to mix the values of one cell with those of another that might stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assay.rules import genraven, shares
from assay.rules.evaluate import flat
from assay.rules.scaling.findings import drawing
from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.drawing import Drawer
from assay.rules.scaling.findings.evidence import Row, Share, Subject

AS_IT_IS, ONCE, INDEPENDENT = "as it is", "occupancy once", "parts independent"
VALUES = "values independent"
FALLS = 1.25  # times: C3 with the least data over that with the most
_WAYS = {
    "separate": (AS_IT_IS, ONCE),
    "joint": (AS_IT_IS, INDEPENDENT, VALUES),
    "chain": (AS_IT_IS,),
}


def head(subject: Subject) -> str | None:
    """joint, separate or chain of a model of whole cells; None for any other."""
    if subject.family not in e.AUTOREGRESSIVE:
        return None
    recipe = drawing.trained(subject.study, subject.rows[0])
    options = (recipe or {}).get("options", {}).get("head", {})
    return options.get("kind") if len(options.get("sizes", ())) > 1 else None


def consistency(subjects: Sequence[Subject]) -> list[Row]:
    """C3 by data for each head, from the studies' rows."""
    rows, falls = [], {}
    for subject in subjects:
        kind = head(subject)
        if kind is None or len(subject.sizes) < 2:
            continue
        for size in subject.sizes:
            nfe = subject.at(size)[0].get("unconditional_nfe")
            share = subject.share(size, "c3")
            rows.append(e.evidence(subject, size, share, measure="C3", head=kind, nfe=nfe))
        falls[kind] = _falls(subject, kind, rows)
    if "separate" in falls:
        others = [kind for kind in falls if kind != "separate"]
        kept = e.together(None if falls[k] is None else not falls[k] for k in others)
        said = "C3 with the most data against the least: " + ", ".join(
            f"{_WORDS[answer]} with {kind} heads" for kind, answer in falls.items()
        )
        rows.append(e.found(falls["separate"] and kept if others else None, said))
    return rows


_WORDS = {True: "lower", False: "not lower", None: "not told apart"}


def half_empty(subjects: Sequence[Subject], drawer: Drawer) -> list[Row]:
    """Half-empty cells and C3 by data, each head drawn as it is and otherwise; then the cause."""
    rows: list[Row] = []
    drawn: dict[tuple[str, int | None], dict[str, dict[str, Share]]] = {}
    for subject in subjects:
        kind = head(subject)
        for size in dict.fromkeys((*subject.sizes, subject.most)) if kind else ():
            assert kind
            for way in _WAYS[kind]:
                made = [_drawn(drawer, subject, row, way) for row in subject.at(size)]
                rows += _evidence(subject, size, kind, way, made)
                share = e.pooled(made, "c3")
                if share:
                    drawn.setdefault((subject.rule_set, size), {}).setdefault(kind, {})[way] = (
                        share
                    )
    whole = [cause(*key, ways) for key, ways in drawn.items() if {"separate", "joint"} <= {*ways}]
    return rows + whole if whole else []


def _drawn(drawer: Drawer, subject: Subject, row: Row, way: str) -> Row:
    def make() -> Row:
        generator = drawer.generator(subject.study, row)
        if way != AS_IT_IS:
            change(generator.family.head, _CHANGES[way])
        x, found = drawer.sampled(generator)
        return {"way": way, **found, **emptiness(x)}

    return drawer.row(subject, row, f"half-empty/{way.replace(' ', '-')}", make)


def emptiness(x: np.ndarray) -> Row:
    """Half-empty cells among occupied ones, samples with any, and C3 of those without; by rule."""
    void: Any = x == -1
    some = ~void.all(-1)
    half = void.any(-1) & some
    ok: Any = genraven.check(x)
    c3 = ok.all(1).any(1)
    whole = ~half.reshape(len(x), -1).any(1)
    row = flat("any_half", shares.share(~whole))
    if some.any():
        row |= flat("half_empty", shares.ratio(half, some))
    if whole.any():
        row |= flat("c3_whole", shares.ratio(c3 & whole, whole))
    every = ok.all(1).mean(0)
    rules = {genraven.RULES[i].name: float(every[i]) for i in np.flatnonzero(every)}
    return row | {"rules": rules}


def _evidence(subject: Subject, size: int | None, kind: str, way: str, made: list[Row]) -> list:
    """The rows of one way of drawing: C3, half-empty cells, C3 of samples without any."""
    measures = {"C3": "c3", "half-empty cells": "half_empty",
                "samples with a half-empty cell": "any_half",
                "C3 of samples without half-empty cells": "c3_whole"}  # fmt: skip
    return [
        e.evidence(
            subject, size, share, measure=measure, head=kind, way=way, nfe=made[0]["nfe"],
            rules=made[0]["rules"],
        )
        for measure, name in measures.items()
        if (share := e.pooled(made, name))
    ]  # fmt: skip


def _falls(subject: Subject, kind: str, rows: list[Row]) -> bool | None:
    """Adds the verdict on one model; whether C3 falls by a fifth or more from the least data."""
    least, most = subject.sizes[0], subject.sizes[-1]
    few, many = subject.share(least, "c3"), subject.share(most, "c3")
    if few is None or many is None:
        return None
    answer = e.above(few, many, FALLS)
    said = (
        f"{subject.said}, {kind} head: C3 {few} at {least:,} a rule, {many} at {most:,} "
        f"(n = {few.n:,} and {many.n:,}, {few.seeds} and {many.seeds} seeds)"
    )
    rows.append(e.found(answer, said, subject, head=kind))
    return answer


def cause(rule_set: str, size: int | None, drawn: dict[str, dict[str, Share]]) -> Row:
    """Whether drawing occupancy once brings back half of the gap to a joint head's C3.

    What a joint head loses by independent parts, and by independent values alone, says how much
    of that is due to half-empty cells and how much to values that do not belong together.
    """
    separate, joint = drawn["separate"], drawn["joint"]
    plain, whole = separate[AS_IT_IS], joint[AS_IT_IS]
    said = (
        f"{rule_set}, {e.size_said(size)}: separate heads draw C3 {plain}, with occupancy drawn "
        f"once {separate[ONCE]}; a joint head {whole}, its parts drawn independently "
        f"{joint[INDEPENDENT]}, its values alone {joint[VALUES]}"
    )
    more = {"about": "cause", "per_rule": size}
    if e.above(whole, plain) is not True:
        return e.found(None, f"{said}: no gap between heads to explain", **more)
    regained = (separate[ONCE].value - plain.value) / (whole.value - plain.value)
    said += f"; drawing occupancy once regains {regained:.2f} of the gap between heads"
    if e.above(whole, joint[INDEPENDENT]):
        lost = whole.value - joint[INDEPENDENT].value
        kept = (joint[VALUES].value - joint[INDEPENDENT].value) / lost
        said += f" and {kept:.2f} of what independent parts cost a joint head"
    return e.found(_most(separate[ONCE], plain, whole), said, **more)


def _most(mended: Share, plain: Share, whole: Share) -> bool | None:
    """Whether mending regains half of the gap or more, by the ends of its interval."""
    middle = (plain.value + whole.value) / 2
    return True if mended.low > middle else False if mended.high < middle else None


# ---- other ways to draw from a head's law ------------------------------------------------------


def change(head: Any, how: Callable[[Any, tuple[int, ...]], Any]) -> None:
    """Let a head of `assay.families.heads` draw from how(log_probs, sizes) instead."""
    plain = head.log_probs
    head.log_probs = lambda hidden: how(plain(hidden), head.sizes)


def occupancy_once(log_p: Any, sizes: tuple[int, ...]) -> Any:
    """(..., V) tensors log P -> log Q: no half-empty token, occupancy by the first part."""
    import torch

    law = log_p.unflatten(-1, sizes)
    inner = law[(..., *(slice(1, None) for _ in sizes))].flatten(-len(sizes))
    by_first = law.flatten(-len(sizes) + 1).logsumexp(-1) if len(sizes) > 1 else law
    occupied = by_first[..., 1:].logsumexp(-1)
    inner = inner - inner.logsumexp(-1, keepdim=True) + occupied[..., None]
    out = torch.full_like(law, -torch.inf)
    out[(..., *(slice(1, None) for _ in sizes))] = inner.unflatten(-1, [s - 1 for s in sizes])
    out[(..., *(0 for _ in sizes))] = by_first[..., 0]
    return out.flatten(-len(sizes))


def parts_independent(log_p: Any, sizes: tuple[int, ...]) -> Any:
    """(..., V) tensors log P -> the product of the parts' marginals."""
    law = log_p.unflatten(-1, sizes)
    total = law.new_zeros(law.shape[: -len(sizes)])
    for j in range(len(sizes)):
        others = [-len(sizes) + i for i in range(len(sizes)) if i != j]
        part = law.logsumexp(others) if others else law
        total = total[..., None] + part.view(*part.shape[:-1], *[1] * j, part.shape[-1])
    return total.flatten(-len(sizes)) if len(sizes) > 1 else total


def values_independent(log_p: Any, sizes: tuple[int, ...]) -> Any:
    """(..., V) tensors log P -> occupancy once of the product of the parts' marginals."""
    return occupancy_once(parts_independent(log_p, sizes), sizes)


_CHANGES = {
    ONCE: occupancy_once,
    INDEPENDENT: parts_independent,
    VALUES: values_independent,
}
