"""Copies of training data at each level beside the natural overlap; held-out rules beside chance.

The natural overlap is that of fresh samples of the same law with the training data. The chance
line of a held-out rule is the marginal fill: the third panel of some other sample, blind to the
known ones, on the same items.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.core import intervals
from assay.rules.memorisation import LEVELS
from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.evidence import Row, Share, Subject


def memorisation(subjects: Sequence[Subject]) -> list[Row]:
    """Copied samples, rows and panels by data: beyond nature with the least, not with the most."""
    rows, answers = [], {}
    for subject in subjects:
        beyond = {}
        for size in subject.sizes:
            for level in LEVELS:
                own, natural = (
                    e.pooled(subject.at(size), f"{name}_{level}") for name in ("copies", "natural")
                )
                if own is None or natural is None:
                    continue
                beyond[level, size] = e.above(own, natural) is True
                rows.append(
                    e.evidence(
                        subject, size, own, measure=f"copies, {level}", level=level,
                        **natural.columns("natural"), beyond=beyond[level, size],
                        nfe=subject.at(size)[0].get("unconditional_nfe"),
                    )
                )  # fmt: skip
        if len(subject.sizes) > 1 and ("row", subject.sizes[0]) in beyond:
            answers[subject.said] = _copies(subject, beyond, rows)
    if answers:
        few = [name for name, (first, _) in answers.items() if first]
        many = [name for name, (_, last) in answers.items() if last]
        said = (
            f"rows are copied beyond nature with the least data by {', '.join(few) or 'none'}, "
            f"with the most by {', '.join(many) or 'none'}"
        )
        rows.append(e.found(bool(few) and not many, said))
    return rows


def _copies(subject: Subject, beyond: dict[tuple[str, int], bool], rows: list[Row]) -> tuple:
    """Adds the verdict on one model; whether rows are copied with the least and the most data."""
    least, most = subject.sizes[0], subject.sizes[-1]
    ends = []
    for size in (least, most):
        own, natural = (e.pooled(subject.at(size), f"{n}_row") for n in ("copies", "natural"))
        ends.append("" if own is None or natural is None else f"{own} against {natural.value:.3f}")
    levels = [
        f"{level} up to {max(sizes):,} a rule"
        for level in LEVELS
        if (sizes := [n for n in subject.sizes if beyond.get((level, n))])
    ]
    said = (
        f"{subject.said}: copied rows {ends[0]} natural at {least:,} a rule, {ends[1]} at "
        f"{most:,}; beyond nature: {', '.join(levels) or 'nothing'}"
    )
    first, last = beyond["row", least], beyond.get(("row", most), False)
    rows.append(e.found(first and not last, said, subject))
    return first, last


def held_out(subjects: Sequence[Subject]) -> list[Row]:
    """Held-out rules completed, against chance; the claim is that chance is not passed."""
    rows, better = [], {}
    for subject in subjects:
        shares = {}
        for size in dict.fromkeys((*subject.sizes, subject.most)):
            own, line = subject.share(size, "completion_held_out"), chance(subject.at(size))
            if own is None or line is None:
                continue
            shares[size] = own, line
            nfe = subject.at(size)[0].get("completion_nfe")
            figure = {"measure": "completion, held-out rules", **line.columns("chance")}
            figure["rules"] = _each(subject, size)
            rows.append(e.evidence(subject, size, own, **figure, nfe=nfe))
        if shares:
            better[subject.said] = _passed(subject, shares, rows)
    if better:
        passed = [name for name, answer in better.items() if answer]
        below = [name for name, answer in better.items() if answer is False]
        said = (
            f"with the most data held-out rules are completed above chance by "
            f"{', '.join(passed) or 'none'}, below it by {', '.join(below) or 'none'}"
        )
        rows.append(e.found(not passed if passed or below else None, said))
    return rows


def _passed(subject: Subject, shares: dict[int | None, tuple[Share, Share]], rows: list[Row]):
    """Adds the verdict on one model; whether it passes chance with the most data."""
    least, most = next(iter(shares)), subject.most if subject.most in shares else [*shares][-1]
    own, line = shares[most]
    answer = e.above(own, line)
    early = "" if least == most else f"; {shares[least][0]} at {e.size_said(least)}"
    said = (
        f"{subject.said}: held-out rules completed {own} at {e.size_said(most)}, chance {line}"
        f"{early} (n = {own.n:,}, {own.seeds} seeds)"
    )
    each = _each(subject, most)
    said += "".join(f"; {rule} {share:.3f}" for rule, share in each.items())
    rows.append(e.found(None if answer is None else not answer, said, subject))
    return answer


def _each(subject: Subject, size: int | None) -> dict[str, float]:
    """Each held-out rule's share completed, means over the seeds whose evaluation is there."""
    found: dict[str, list[float]] = {}
    for row in subject.at(size):
        measured = subject.study.measured(row)
        trained = {r["rule"] for r in measured if r.get("part") == "rule" and r["trained"]}
        for r in measured:
            if r.get("part") == "completion_rule" and trained and r["rule"] not in trained:
                found.setdefault(r["rule"], []).append(r["correct"])
    return {rule: sum(shares) / len(shares) for rule, shares in sorted(found.items())}


def chance(rows: Sequence[Row]) -> Share | None:
    """The marginal fill of held-out rules: that of all rules less that of trained ones."""
    parts = ("completion_marginal_all", "completion_marginal_trained")
    usable = [r for r in rows if all(r.get(f"{p}_n") for p in parts)]
    k = sum(r[parts[0]] * r[f"{parts[0]}_n"] - r[parts[1]] * r[f"{parts[1]}_n"] for r in usable)
    n = sum(r[f"{parts[0]}_n"] - r[f"{parts[1]}_n"] for r in usable)
    if n <= 0:
        return None
    k = min(max(round(k), 0), n)
    return Share(k / n, *intervals.wilson(k, n), n, len(usable))
