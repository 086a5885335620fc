"""Findings on diffusion that need its checkpoints: weights, clipping, samplers.

weights: the trained weights and their moving average (EMA), drawn from with the same noise.
clip: denoised values cut to [-clip, clip] in completion. Of true panels, so cut and decoded, the
ceiling says how many still obey the sample's rule: no clipped completion can be expected above.
Only with all attributes do data lie beyond 1 (sizes and colours 7 to 9 and shapes 5 and 6).
samplers: C3 against the number of network evaluations, for each kind of sampler.
Where C3 stays below 0.1, the share of rows with a rule (AnyValid) is compared: a model that has
hardly begun to draw whole samples can be told from another by its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.rules import completion, evaluate, genraven, shares
from assay.rules.evaluate import EvaluateConfig, flat
from assay.rules.recipe import VALIDATION_SEED, load_config
from assay.rules.scaling.findings import drawing
from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.drawing import Drawer
from assay.rules.scaling.findings.evidence import Row, Share, Subject

_LEARNED = 0.1  # C3 from which samples are compared
_NEAR = 0.02  # of the best share: as good
_SAID = {"c3": "C3", "any_valid": "AnyValid (C3 below 0.1)"}


# ---- raw and averaged weights ----------------------------------------------------------------


def weights(subjects: Sequence[Subject], drawer: Drawer) -> list[Row]:
    """C3, AnyValid and completion by raw and by averaged weights, for models that have both."""
    rows, answers = [], {}
    for subject in subjects:
        recipe = drawing.trained(subject.study, subject.rows[0])
        if recipe is None or recipe["fit"]["ema"] is None:
            continue
        for size in dict.fromkeys((*subject.sizes[:1], subject.most)):  # the least and the most
            ema = subject.at(size)
            raw = [_raw(drawer, subject, row) for row in ema]
            rows += _weights_rows(subject, size, raw, ema)
        name = telling([*ema, *raw])
        own, other = (e.pooled(group, name) for group in (ema, raw))
        if own and other:
            answers[subject.said] = e.above(own, other)
            filled = [e.pooled(group, "completion_trained") for group in (ema, raw)]
            said = (
                f"{subject.said}, {e.size_said(subject.most)}: {_SAID[name]} {own} with EMA "
                f"weights (half-life {_half_life(recipe):.0f} steps), {other} with raw ones"
            )
            if all(filled):
                said += f"; trained rules completed {filled[0]} and {filled[1]}"
            rows.append(e.found(answers[subject.said], said, subject, weights="EMA, raw"))
    if answers:
        better = [name for name, answer in answers.items() if answer]
        said = f"EMA weights draw more than raw ones: {', '.join(better) or 'none'}"
        rows.append(e.found(e.together(answers.values()), f"{said}, of {', '.join(answers)}"))
    return rows


def telling(rows: Sequence[Row]) -> str:
    """The measure by which these are compared: c3, or any_valid where C3 is low in all."""
    return "c3" if max(r["c3"] for r in rows) >= _LEARNED else "any_valid"


def _half_life(recipe: Row) -> float:
    return float(np.log(0.5) / np.log(recipe["fit"]["ema"]))


def _raw(drawer: Drawer, subject: Subject, row: Row) -> Row:
    """The study's evaluation again, with raw weights."""

    def make() -> Row:
        asked = {**subject.study.config["evaluate"], "protocols": ("unconditional", "completion")}
        generator = drawer.generator(subject.study, row, averaged=False)
        made = evaluate.evaluate(generator, EvaluateConfig.model_validate(asked))
        whole, filled = (
            next(r for r in made if r.get("part") == part)
            for part in ("unconditional", "completion")
        )
        kept = {
            k: v for k, v in whole.items() if k.partition("_")[0] in ("c3", "novel", "any", "n")
        }
        kept |= {f"completion_{k}": v for k, v in filled.items() if k.startswith("trained")}
        return {**kept, "nfe": whole["nfe"], "completion_nfe": filled["nfe"], "weights": "raw"}

    return drawer.row(subject, row, "weights/raw", make)


def _weights_rows(subject: Subject, size: int | None, raw: list[Row], ema: list[Row]) -> list:
    names = {
        "C3": "c3", "AnyValid": "any_valid", "completion, trained rules": "completion_trained",
    }  # fmt: skip
    return [
        e.evidence(
            subject, size, share, measure=measure, weights=kind,
            nfe=raw[0]["completion_nfe" if name.startswith("completion") else "nfe"],
        )
        for kind, group in (("EMA", ema), ("raw", raw))
        for measure, name in names.items()
        if (share := e.pooled(group, name))
    ]  # fmt: skip


# ---- clipping --------------------------------------------------------------------------------


def clip(subjects: Sequence[Subject], drawer: Drawer) -> list[Row]:
    """Completion by diffusion of all attributes, clipped and not, for every kind it has."""
    rows, answers = [], []
    for subject in subjects:
        first = drawing.first_at_most(subject)
        recipe = drawing.trained(subject.study, first)
        if recipe is None or subject.family not in e.DIFFUSION or recipe["binding"] != "image":
            continue
        kinds = ("amortised", "replacement") if recipe["network"].get("amortised") else (
            "replacement",
        )  # fmt: skip
        for kind in kinds:
            made = {
                c: _filled(drawer, subject, first, kind, c) for c in (None, drawer.config.clip)
            }
            group = [_of_filled(subject, kind, c, row) for c, row in made.items()]
            free, cut = (e.pooled([row], "correct") for row in made.values())
            assert free
            assert cut
            ceiling = e.pooled([made[drawer.config.clip]], "ceiling")
            answers.append(e.above(free, cut) if free.high >= 0.1 else None)
            said = (
                f"{subject.said}, {kind}: {free} completed unclipped, {cut} clipped to "
                f"[-{drawer.config.clip:g}, {drawer.config.clip:g}] (n = {free.n:,}); of true "
                f"panels clipping leaves {ceiling}"
            )
            rows += [*group, e.found(answers[-1], said, subject, kind=kind)]
    if answers:
        lower = sum(answer is True for answer in answers)
        said = f"clipping lowers completion in {lower} of {len(answers)} ways of completing"
        rows.append(e.found(e.together(answers), said))
    return rows


def _of_filled(subject: Subject, kind: str, cut: float | None, row: Row) -> Row:
    share = e.pooled([row], "correct")
    parts = ("within", "beyond", "ceiling")
    more = {k: v for k, v in row.items() if k.partition("_")[0] in parts}
    return e.evidence(
        subject, row["per_rule"], share, measure="completion, trained rules", kind=kind, clip=cut,
        nfe=row["nfe"], weights=row["weights"], **more,
    )  # fmt: skip


def _filled(drawer: Drawer, subject: Subject, row: Row, kind: str, cut: float | None) -> Row:
    """Third panels completed by a kind, denoised values cut or not."""

    def make() -> Row:
        generator = drawer.generator(subject.study, row)
        config = generator.family.config.completion
        config = config.model_copy(update={"kind": kind, "clip": cut, "solver": None})
        generator.family = generator.family.using(completion=config)
        data = load_config(drawing.trained(subject.study, row) or {}).data
        x, _ = genraven.generate(drawer.config.n_complete, data.rules, VALIDATION_SEED)
        filled = generator.complete(x, completion.THIRD_PANEL, drawer.config.seed)
        correct = _obeys(filled)
        possible = _obeys(within(x, generator.binding, drawer.config.clip))
        found = {"kind": kind, "clip": cut, **flat("correct", shares.share(correct))}
        for name, part in (("within", possible), ("beyond", ~possible)):
            if part.any():
                found |= flat(name, shares.share(correct[part]))
        nfe = generator.family.evaluations(1)
        own = {"n": len(x), "nfe": nfe, "weights": drawing.weights(generator)}
        return {**found, **own, **flat("ceiling", shares.share(possible))}

    name = "free" if cut is None else f"clip={cut:g}"
    return drawer.row(subject, row, f"clip/{kind}/{name}", make)


def _obeys(x: np.ndarray) -> np.ndarray:
    ok: Any = genraven.check(x)
    return ok.all(1).any(1)


def within(x: np.ndarray, binding: Any, cut: float) -> np.ndarray:
    """Samples whose last panel is encoded, cut to [-cut, cut] and decoded."""
    cropped = binding.decode(np.clip(binding.encode(x), -cut, cut), 0)
    return np.where(completion.THIRD_PANEL[..., None, None], cropped, x)


# ---- samplers and evaluations ------------------------------------------------------------------


def samplers(subjects: Sequence[Subject], drawer: Drawer) -> list[Row]:
    """C3 of each sampler at each number of steps, from the first seed with the most data."""
    rows, answers = [], {}
    for subject in subjects:
        first = drawing.first_at_most(subject)
        recipe = drawing.trained(subject.study, first)
        if recipe is None or subject.family not in e.DIFFUSION:
            continue
        made = [
            _sampled(drawer, subject, first, kind, n)
            for kind in drawer.config.kinds
            for n in drawer.config.steps
        ]
        name = telling(made)
        shares_ = [e.pooled([row], name) for row in made]
        found = [(row, share) for row, share in zip(made, shares_, strict=True) if share]
        rows += [
            e.evidence(
                subject, row["per_rule"], share, measure=_SAID[name], sampler=row["sampler"],
                steps=row["steps"], nfe=row["nfe"], weights=row["weights"],
            )
            for row, share in found
        ]  # fmt: skip
        answers[subject.said] = _more_is_better(subject, _SAID[name], found, rows)
    if answers:
        better = [name for name, answer in answers.items() if answer]
        said = (
            f"more evaluations raise it, up to where it stays, for {', '.join(better) or 'none'} "
            f"of {', '.join(answers)}"
        )
        rows.append(e.found(e.together(answers.values()), said))
    return rows


def _more_is_better(
    subject: Subject, measure: str, found: list[tuple[Row, Share]], rows: list[Row]
) -> bool | None:
    """Adds the verdict on one model: the fewest evaluations against the best sampler."""
    fewest = min(found, key=lambda pair: pair[0]["nfe"])
    best = max(found, key=lambda pair: pair[1].value)
    enough = min(
        (pair for pair in found if pair[1].value >= best[1].value - _NEAR),
        key=lambda pair: pair[0]["nfe"],
    )
    most = {}
    for row, share in found:
        most[row["sampler"]] = row, share
    ends = ", ".join(f"{kind} {s.value:.3f} at {r['nfe']}" for kind, (r, s) in most.items())
    said = (
        f"{subject.said}, {e.size_said(subject.most)}: {measure} {fewest[1]} with "
        f"{fewest[0]['nfe']} evaluations ({fewest[0]['sampler']}), best {best[1]} with "
        f"{best[0]['nfe']} ({best[0]['sampler']}); within {_NEAR:g} of it from {enough[0]['nfe']} "
        f"({enough[0]['sampler']}); with the most steps {ends} (n = {best[1].n:,})"
    )
    answer = e.above(best[1], fewest[1])
    rows.append(e.found(answer, said, subject, nfe=best[0]["nfe"]))
    return answer


def _sampled(drawer: Drawer, subject: Subject, row: Row, kind: str, n: int) -> Row:
    def make() -> Row:
        generator = drawer.generator(subject.study, row)
        sampler = generator.family.config.sampler
        sampler = sampler.model_copy(update={"kind": kind, "n_steps": n, "churn": 0.0})
        generator.family = generator.family.using(sampler=sampler)
        _, found = drawer.sampled(generator)
        return {"sampler": kind, "steps": n, **found}

    return drawer.row(subject, row, f"samplers/{kind}-{n}", make)
