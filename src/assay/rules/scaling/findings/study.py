"""Every claim on every study, into one Run.

    drawn/STUDY/JOB/WAY    one row for each way of drawing from a checkpoint ("part": "drawn")
    CLAIM/DIGEST/i         a claim's finding: its evidence, then its verdicts; DIGEST is of these
                           rows, so that a study that has grown adds a finding and the last counts

A claim that the studies say nothing of is one row, "part": "missing", with what it lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from assay.rules.scaling.findings import amounts, copying, correlation, diffusion, heads
from assay.rules.scaling.findings import evidence as e
from assay.rules.scaling.findings.claims import CLAIMS
from assay.rules.scaling.findings.drawing import Drawer, FindingsConfig
from assay.rules.scaling.findings.evidence import Row, Subject
from assay.runs import Run, dumps

FREE = (
    "collapse", "stopping", "stable", "heads", "correlation", "memorisation", "held-out"
)  # fmt: skip


def findings(studies: Sequence[Path], out: Path, config: FindingsConfig) -> list[Row]:
    """Test every claim; returns the rows of the findings. ValueError for what is no study."""
    read = [e.read(path) for path in studies]
    doubled = [s.name for i, s in enumerate(read) if s.name in [t.name for t in read[:i]]]
    if doubled:
        raise ValueError(f"two studies are named {doubled[0]!r}; give each folder its own name")
    subjects = e.subjects(read)
    with Run.open(out, config) as run:
        for claim, test in _tests(subjects, Drawer(run, config)):
            rows = test() if test else []
            whole = any(r["part"] == "verdict" and r["model"] is None for r in rows)
            _write(run, claim, rows if whole else rows + _missing(claim))
    return current(run.rows)


def _tests(
    subjects: list[Subject], drawer: Drawer
) -> Iterator[tuple[str, Callable[[], list[Row]] | None]]:
    """What tests each claim; None where it would draw and is told not to."""
    free = (
        amounts.collapse, amounts.stopping, amounts.stable, heads.consistency,
        correlation.correlation, copying.memorisation, copying.held_out,
    )  # fmt: skip
    tests: dict[str, Callable[[], list[Row]] | None] = {
        claim: partial(test, subjects) for claim, test in zip(FREE, free, strict=True)
    }
    drawn = {
        "half-empty": heads.half_empty, "weights": diffusion.weights, "clip": diffusion.clip,
        "samplers": diffusion.samplers,
    }  # fmt: skip
    for claim, test in drawn.items():
        tests[claim] = partial(test, subjects, drawer) if drawer.config.draw else None
    for claim in CLAIMS:
        yield claim, tests[claim]


def _missing(claim: str) -> list[Row]:
    """The row of a claim that these studies say nothing of."""
    said = f"not tested: it takes {CLAIMS[claim].needs}"
    return [{"part": "missing", "verdict": e.UNKNOWN, "said": said}]


def _write(run: Run, claim: str, rows: list[Row]) -> None:
    """The finding, unless the same one is the claim's last."""
    digest = hashlib.sha256(dumps(rows).encode()).hexdigest()[:12]
    last = [r for r in run.rows if r.get("claim") == claim and r["part"] != "drawn"]
    if last and last[-1]["digest"] == digest and last[-1]["last"]:
        return
    again = sum(r["digest"] == digest and r["last"] for r in last)
    for i, row in enumerate(rows):
        key = f"{claim}/{digest}.{again}/{i}"
        said = {"title": CLAIMS[claim].title, "published": CLAIMS[claim].published}
        facts = {"claim": claim, **said, "digest": digest}
        if not run.done(key):
            command = {"command": run.config["command"]}
            run.append({"key": key, **facts, **row, **command, "last": i == len(rows) - 1})


def current(rows: Sequence[Row]) -> list[Row]:
    """Of each claim the rows of its last whole finding, in their order."""
    found = []
    for claim in CLAIMS:
        own = [r for r in rows if r.get("claim") == claim and r["part"] != "drawn"]
        ends = [r["key"].rpartition("/")[0] for r in own if r["last"]]
        found += [r for r in own if ends and r["key"].rpartition("/")[0] == ends[-1]]
    return found
