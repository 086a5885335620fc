"""One self-contained HTML page from Runs: figures are plotly's, drawn without a network.

A page is a list of sections, a section a list of blocks (figure, table, picture, words). Every
text goes through autoescape, every figure through JSON in which "<" cannot close a script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from assay.runs import write_aside


@dataclass(frozen=True)
class Figure:
    """A plotly figure with its caption."""

    figure: Any
    caption: str = ""
    kind: str = "figure"

    @property
    def json(self) -> str:
        """The figure as JSON that can stand inside a script element."""
        text = json.dumps(json.loads(self.figure.to_json()), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@dataclass(frozen=True)
class Table:
    """Column titles and rows of cells (text, numbers or None)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    kind: str = "table"

    def cell(self, value: Any) -> str:
        """How a cell is shown: five figures, a dash for what is unknown."""
        if value is None:
            return "–"
        return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Picture:
    """An SVG drawn by the package itself (never a user's markup)."""

    svg: str
    caption: str = ""
    kind: str = "picture"


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    kind: str = "words"


Block = Figure | Table | Picture | Words


@dataclass(frozen=True)
class Section:
    """A part of the page: what was asked, what to conclude, what shows it, how it was made."""

    id: str
    title: str
    lead: str
    conclusions: Sequence[str] = ()
    blocks: Sequence[Block] = field(default_factory=tuple)
    method: str = ""


def render(title: str, sections: Sequence[Section], env: dict[str, Any]) -> str:
    """The page as HTML text."""
    import jinja2
    from plotly.offline import get_plotlyjs

    loader = jinja2.FunctionLoader(lambda name: _template(name))
    engine = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    template = engine.get_template("page.html")
    needs_plotly = any(b.kind == "figure" for s in sections for b in s.blocks)
    return template.render(
        title=title, sections=sections, env=env, plotly=get_plotlyjs() if needs_plotly else ""
    )


def write(path: Path, title: str, sections: Sequence[Section], env: dict[str, Any]) -> Path:
    """Render and write the page, whole or not at all."""
    write_aside(path, render(title, sections, env).encode("utf-8"))
    return path


def _template(name: str) -> str:
    return (resources.files("assay.report") / "templates" / name).read_text(encoding="utf-8")
