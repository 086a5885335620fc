"""One self-contained HTML page: figures drawn by plotly, whose script stands in it once.

Every text goes through autoescape, every figure through JSON in which "<" cannot close a script,
every SVG into an image, where scripts do not run. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from assay.report import blocks, text
from assay.report.blocks import Section
from assay.report.figures import THEME
from assay.runs import write_aside


def render(title: str, lead: str, sections: Sequence[Section], env: dict[str, Any]) -> str:
    """The page as HTML text."""
    galleries = [b for s in sections for b in s.blocks if isinstance(b, blocks.Gallery)]
    drawn = any(item.kind == "figure" for gallery in galleries for item in gallery.items)
    return _engine().get_template("page.html").render(
        title=title, lead=lead, sections=_distinct(sections), made_with=_made_with(env),
        theme=blocks.script_json(THEME), plotly=_plotly() if drawn else "",
    )  # fmt: skip


@functools.cache
def _engine() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def write(
    path: Path, title: str, lead: str, sections: Sequence[Section], env: dict[str, Any]
) -> Path:
    """Render and write the page, whole or not at all. ValueError where it cannot be written."""
    page = render(title, lead, sections, env).encode("utf-8")
    try:
        write_aside(path, page)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


def _distinct(sections: Sequence[Section]) -> list[Section]:
    """The sections with anchors that no two of them share."""
    found: list[Section] = []
    for section in sections:
        stem = name = text.slug(section.id)
        number = 1
        while any(name == other.id for other in found):
            number += 1
            name = f"{stem}-{number}"
        found.append(dataclasses.replace(section, id=name))
    return found


def _made_with(env: dict[str, Any]) -> str:
    """Versions and processor in one line."""
    versions = env.get("versions") or {}
    parts = [f"{name} {version}" for name, version in versions.items()]
    machine = [f"Python {env['python']}" if env.get("python") else "", str(env.get("cpu") or "")]
    return " · ".join(filter(None, [", ".join(parts), *machine]))


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _template(name: str) -> str:
    return (resources.files("assay.report") / "templates" / name).read_text(encoding="utf-8")
