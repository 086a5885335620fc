"""What the amount of data does: collapse, early stopping, stable completion.

Collapse: C3 with the least data is below half of that with the most. C3 is judged where rows are
copied no more than nature would have it, novel-C3 where they are: with much data novel-C3 misses
what agrees with training rows by chance. Early stopping would avoid a collapse if C3 at the probe
of least validation loss were half of that with the most data or more: novel-C3 of probes, the
least that is claimed, since nature repeats rows too.
Stable: completion of trained rules with the least data is at least 0.8 of that with the most.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.evidence import Row, Share, Subject

HALF, STABLE, LEARNED = 0.5, 0.8, 0.1


def collapse(subjects: Sequence[Subject]) -> list[Row]:
    """Every model's C3 by data; the claim is about those that learn by diffusion."""
    rows, answers, others = [], {}, {}
    for subject in _several(subjects):
        measures = {n: judged(subject, n) for n in subject.sizes}
        shares = _shares(subject, measures)
        rows += [
            e.evidence(subject, n, s, measure="C3, not copied", judged=measures[n],
                       nfe=_nfe(subject, n))
            for n, s in shares.items()
        ]  # fmt: skip
        if len(shares) < 2:
            continue
        answer, said = _collapsed(subject, shares)
        rows.append(e.found(answer, said, subject))
        (answers if subject.family in e.DIFFUSION else others)[subject.said] = answer
    if answers:
        also = [name for name, answer in others.items() if answer]
        said = f"{_named(answers)} lose more than half of C3 with the least data"
        if also:
            said += f"; so do models that are no diffusion: {', '.join(also)}"
        rows.append(e.found(e.together(answers.values()), said))
    return rows


def _collapsed(subject: Subject, shares: dict[int, Share]) -> tuple[bool | None, str]:
    least, most = min(shares), max(shares)
    few, many = shares[least], shares[most]
    said = (
        f"{subject.said}: C3, not copied, {few} at {least:,} a rule, {many} at {most:,} "
        f"(n = {few.n:,} and {many.n:,}, {few.seeds} and {many.seeds} seeds)"
    )
    if many.high < LEARNED:
        return None, f"{said}: not learned from the most data either"
    higher = e.above(few, many, HALF)
    return None if higher is None else not higher, said


def stopping(subjects: Sequence[Subject]) -> list[Row]:
    """Diffusion that collapses: its probe of least validation loss against the end."""
    rows, answers = [], []
    for subject in _several(subjects):
        shares = _shares(subject, {n: judged(subject, n) for n in subject.sizes})
        if subject.family not in e.DIFFUSION or len(shares) < 2:
            continue
        if not _collapsed(subject, shares)[0]:
            continue
        many = shares[max(shares)]
        for size in [n for n in shares if e.above(shares[n], many, HALF) is False]:
            made, answer = _stopped(subject, size, many)
            rows += made
            answers += [answer] if made else []
    if answers:
        n = sum(answer is True for answer in answers)
        said = f"stopping at the least validation loss restores {n} of {len(answers)} collapses"
        rows.append(e.found(e.together(answers), said))
    return rows


def _stopped(subject: Subject, size: int, many: Share) -> tuple[list[Row], bool | None]:
    """Rows of one model and size, and whether stopping early brings half of `many`."""
    pairs = [(p, q) for r in subject.at(size) if (p := best(r)) and (q := r["probes"][-1])]
    if not pairs:
        return [], None
    early, end = ([pair[i] for pair in pairs] for i in (0, 1))
    top = [max(r["probes"], key=lambda p: p.get("novel_c3", 0.0)) for r in subject.at(size)]
    new = e.pooled(early, "novel_c3")
    shares = {
        "C3, least validation loss": e.pooled(early, "c3"),
        "novel-C3, least validation loss": new,
        "C3, end": e.pooled(end, "c3"),
        "novel-C3, end": e.pooled(end, "novel_c3"),
        "novel-C3, best probe": e.pooled(top, "novel_c3"),
    }
    answer = None if new is None else e.above(new, many, HALF)
    steps = ", ".join(str(p["step"]) for p in early)
    whole = ", ".join(str(p["step"]) for p in end)
    said = "; ".join(f"{name} {share}" for name, share in shares.items() if share)
    said = (
        f"{subject.said} at {size:,} a rule: {said} (least validation loss at step {steps} of "
        f"{whole}); {many.value:.3f} from the most data"
    )
    more = {"nfe": _nfe(subject, size), "weights": "raw"}
    rows = [
        e.evidence(subject, size, share, measure=name, **more)
        for name, share in shares.items()
        if share
    ]
    names = ("samples", "c3", "novel_c3", "validation_loss", "train_loss", "copies_row")
    curve = [{name: p.get(name) for name in names} for p in subject.at(size)[0]["probes"]]
    rows.append(e.found(answer, said, subject, per_rule=size, curve=curve, **more))
    return rows, answer


def best(row: Row) -> Row | None:
    """The probe of least validation loss; None where there are no probes."""
    probes = [p for p in row.get("probes") or () if p.get("validation_loss") is not None]
    return min(probes, key=lambda p: p["validation_loss"], default=None)


def stable(subjects: Sequence[Subject]) -> list[Row]:
    """Completion of trained rules by data; the claim is about autoregressive models."""
    rows, answers = [], {}
    for subject in _several(subjects):
        shares = _by_size(subject, "completion_trained")
        rows += [
            e.evidence(subject, n, s, measure="completion, trained rules", nfe=_nfe(subject, n, 1))
            for n, s in shares.items()
        ]
        if len(shares) < 2:
            continue
        least, most = min(shares), max(shares)
        few, many = shares[least], shares[most]
        answer = None if many.high < LEARNED else e.above(few, many, STABLE)
        since = _since(shares, STABLE * many.value)
        said = (
            f"{subject.said}: trained rules completed {few} at {least:,} a rule, {many} at "
            f"{most:,}; within {STABLE:g} of that from {since:,} on{_overtrained(subject, least)}"
        )
        rows.append(e.found(answer, said, subject))
        if subject.family in e.AUTOREGRESSIVE:
            answers[subject.said] = answer
    if answers:
        rows.append(e.found(e.together(answers.values()), _least(subjects)))
    return rows


def _since(shares: dict[int, Share], level: float) -> int:
    """The least data from which on no share is below a level that the last one reaches."""
    below = [n for n, share in shares.items() if share.value < level]
    return min(n for n in shares if n > max(below, default=0))


def _overtrained(subject: Subject, size: int) -> str:
    """Completion at the least validation loss and at the end, with the least data."""
    pairs = [(p, r["probes"][-1]) for r in subject.at(size) if (p := best(r))]
    if not pairs:
        return ""
    early, end = (e.pooled([pair[i] for pair in pairs], "completion") for i in (0, 1))
    return f"; with the least data {early} at the least validation loss, {end} at the end"


def _least(subjects: Sequence[Subject]) -> str:
    """Completion with the least data, model by model."""
    said = []
    for subject in _several(subjects):
        share = subject.share(subject.sizes[0], "completion_trained")
        if share is not None:
            said.append(f"{subject.said} {share.value:.3f}")
    return f"completion of trained rules with the least data: {', '.join(said)}"


def _several(subjects: Sequence[Subject]) -> list[Subject]:
    return [s for s in subjects if len(s.sizes) > 1]


def judged(subject: Subject, size: int | None) -> str:
    """c3, or novel_c3 where rows are copied beyond nature."""
    known = subject.share(size, "copies_row") is not None
    return "novel_c3" if copied(subject, size) or not known else "c3"


def copied(subject: Subject, size: int | None) -> bool:
    """Whether rows are copied beyond nature, as far as that was measured."""
    own, natural = (subject.share(size, f"{name}_row") for name in ("copies", "natural"))
    return bool(own and natural and e.above(own, natural))


def _shares(subject: Subject, measures: dict[int, str]) -> dict[int, Share]:
    found = {n: subject.share(n, name) for n, name in measures.items()}
    return {n: share for n, share in found.items() if share is not None}


def _by_size(subject: Subject, name: str) -> dict[int, Share]:
    found = {n: subject.share(n, name) for n in subject.sizes}
    return {n: share for n, share in found.items() if share is not None}


def _named(answers: dict[str, bool | None]) -> str:
    n = sum(answer is True for answer in answers.values())
    return f"{n} of {len(answers)} models by diffusion ({', '.join(answers)})"


def _nfe(subject: Subject, size: int | None, unknown: int | None = None) -> int | None:
    name = "unconditional_nfe" if unknown is None else "completion_nfe"
    return next((r[name] for r in subject.at(size) if r.get(name) is not None), None)
