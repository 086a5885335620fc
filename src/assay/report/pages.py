"""Which section draws which kind of Run, and the page of a folder."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from assay import runs
from assay.report import summary, text
from assay.report.blocks import Section, Words
from assay.report.page import write

# Kind of Run -> module under sections/, in the order of the page.
SECTIONS = {
    "guidance.sweep": "sweep",
    "guidance.dynamics": "dynamics",
    "guidance.rates": "rates",
    "guidance.error": "error",
    "guidance.monitor": "monitor",
    "guidance.samplers": "samplers",
    "guidance.peers": "peers",
    "guidance.choosing": "choosing",
    "guidance.control": "control",
    "guidance.digits-study": "imagestudy",
    "guidance.rollout": "rollout",
    "guidance.audit": "audit",
    "rules.examples": "rules",
    "rules.models": "models",
    "rules.train": "training",
    "rules.evaluate": "models",
    "rules.findings": "findings",
    "rules.scale": "scaling",
    "studies.guided-rules": "guided_rules",
}
TITLE = "What guidance does, and which rules there are to learn"
LEAD = (
    "How hard may a generative model be guided before its samples leave the data? Measured on "
    "targets whose answer is known exactly, and on real images."
)
RULES_TITLE = "Which rules there are to learn, and what models learn of them"
RULES_LEAD = (
    "Matrices in the manner of Raven's: does a model draw new ones that obey a rule, and does it "
    "fill in what is missing? Every answer is judged by an exact checker."
)
SCALE_TITLE = "How much data does a rule need, and which model learns it first?"
AUDIT_TITLE = "Audit of a pipeline: how hard may it be guided?"


def write_report(folder: str | os.PathLike[str], title: str | None = None) -> Path:
    """Write FOLDER/report.html from the Run there, or from the Runs in its subfolders.

    title: the page's [default: by the kinds of Runs]. Returns its path. ValueError where there
    is no Run, none has a row yet, or the page cannot be written.
    """
    every = runs.find(folder)
    found = sorted((run for run in every if run.rows), key=_order)
    if not found:
        raise ValueError(f"{folder}: its Runs hold no rows yet; finish the job first")
    waiting = [run.path.name for run in every if not run.rows]
    rules = all(str(run.config.get("kind")).startswith("rules.") for run in found)
    usual, lead = (RULES_TITLE, RULES_LEAD) if rules else (TITLE, LEAD)
    if all(run.config.get("kind") == "guidance.audit" for run in found):
        usual, lead = AUDIT_TITLE, ""
    if all(run.config.get("kind") == "rules.scale" for run in found):
        usual = SCALE_TITLE
    sections = page(found, waiting)
    return write(Path(folder) / "report.html", title or usual, lead, sections, found[0].env)


def page(found: Sequence[runs.Run], waiting: Sequence[str] = ()) -> list[Section]:
    """What to conclude, then the sections of every Run; waiting: Runs without rows."""
    drawn = [(run, _module(run)) for run in found]
    first = summary.section([(run, module.findings(run)) for run, module in drawn])
    sections = [section for run, module in drawn for section in module.sections(run)]
    if waiting:
        said = f"These Runs have no rows yet and are not on the page: {text.listed(waiting)}."
        sections.append(Section("unfinished", "Not finished", blocks=[Words(said)]))
    return [first, *sections] if first else sections


def _module(run: runs.Run) -> ModuleType:
    """The kind's module under sections/; a plain table where the kind has none."""
    name = SECTIONS.get(str(run.config.get("kind")), "plain")
    if name == "sweep" and any("vendi" in row for row in run.rows):
        name = "digits"  # images have a page of their own
    return importlib.import_module(f"assay.report.sections.{name}")


def _order(run: runs.Run) -> tuple[int, str]:
    kinds = list(SECTIONS)
    kind = str(run.config.get("kind"))
    return (kinds.index(kind) if kind in kinds else len(kinds), run.path.name)
