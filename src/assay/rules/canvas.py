"""A drawing of a few primitives, written as SVG text or rasterised to PNG.

Coordinates are pixels at scale 1, x to the right and y downwards; colours are "#rrggbb". The same
items make both pictures: SVG with escaped text, PNG by Pillow, drawn OVERSAMPLE times too large
in bands (so that memory does not grow with the picture) and averaged down.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from assay import runs

OVERSAMPLE = 3
BAND = 256  # pixels of a band's height before oversampling
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # SVG's names and Pillow's


@dataclass(frozen=True)
class Style:
    """Fill and outline; None for neither."""

    fill: str | None = None
    stroke: str | None = None
    width: float = 1.0


@dataclass(frozen=True)
class Box:
    """A rectangle with rounded corners."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    style: Style

    @property
    def span(self) -> tuple[float, float]:
        return self.y - self.style.width, self.y + self.height + self.style.width

    def svg(self) -> str:
        place = f'x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}"'
        return f'<rect {place} rx="{self.radius:g}"{_style(self.style)}/>'

    def draw(self, pen: Any, k: float, top: int) -> None:
        half = self.style.width / 2 if self.style.stroke else 0.0
        low = _pixel(self.x - half, self.y - half, k, top)
        high = _pixel(self.x + self.width + half, self.y + self.height + half, k, top)
        line = max(1, round(2 * half * k)) if self.style.stroke else 0
        pen.rounded_rectangle(
            (low, high), round(self.radius * k), self.style.fill, self.style.stroke, line
        )


@dataclass(frozen=True)
class Disc:
    """A circle."""

    x: float
    y: float
    radius: float
    style: Style

    @property
    def span(self) -> tuple[float, float]:
        reach = self.radius + self.style.width
        return self.y - reach, self.y + reach

    def svg(self) -> str:
        place = f'cx="{self.x:.4g}" cy="{self.y:.4g}" r="{self.radius:.4g}"'
        return f"<circle {place}{_style(self.style)}/>"

    def draw(self, pen: Any, k: float, top: int) -> None:
        half = self.style.width / 2 if self.style.stroke else 0.0
        for radius, colour in (
            (self.radius + half, self.style.stroke),
            (self.radius - half, self.style.fill),
        ):
            if colour:
                _disc(pen, _pixel(self.x, self.y, k, top), radius * k, colour)


@dataclass(frozen=True)
class Polygon:
    """A closed polygon, or an open line where there is no fill and `closed` is False."""

    points: tuple[tuple[float, float], ...]
    style: Style
    closed: bool = True

    @property
    def span(self) -> tuple[float, float]:
        ys = [y for _, y in self.points]
        return min(ys) - self.style.width, max(ys) + self.style.width

    def svg(self) -> str:
        name = "polygon" if self.closed else "polyline"
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in self.points)
        return f'<{name} points="{points}"{_style(self.style)}/>'

    def draw(self, pen: Any, k: float, top: int) -> None:
        points = [_pixel(x, y, k, top) for x, y in self.points]
        if self.style.fill:
            pen.polygon(points, self.style.fill)
        if self.style.stroke:
            width = self.style.width * k
            ring = points + points[:1] if self.closed else points
            pen.line(ring, self.style.stroke, max(1, round(width)))
            for point in points:  # round joins and ends
                _disc(pen, point, width / 2, self.style.stroke)


@dataclass(frozen=True)
class Text:
    """One line of text; y is its base line. anchor: "start", "middle" or "end"."""

    x: float
    y: float
    string: str
    size: float
    fill: str
    anchor: str = "start"
    bold: bool = False

    @property
    def span(self) -> tuple[float, float]:
        return self.y - 1.2 * self.size, self.y + 0.5 * self.size

    def svg(self) -> str:
        weight = ' font-weight="600"' if self.bold else ""
        place = f'x="{self.x:g}" y="{self.y:g}" font-size="{self.size:g}"'
        return (
            f'<text {place} text-anchor="{self.anchor}" fill="{self.fill}"{weight}>'
            f"{escape(self.string)}</text>"
        )

    def draw(self, pen: Any, k: float, top: int) -> None:
        font = _font(self.size * k)
        place = _pixel(self.x, self.y, k, top)
        stroke = 0.025 * self.size * k if self.bold else 0
        anchor = ANCHORS[self.anchor]
        pen.text(place, self.string, self.fill, font, anchor, stroke_width=round(stroke))


Item = Box | Disc | Polygon | Text


def ending(path: str | os.PathLike[str]) -> Path:
    """The path of a picture. ValueError unless it ends in .png or .svg."""
    file = Path(path)
    if file.suffix.lower() not in (".png", ".svg"):
        given = file.suffix or "nothing"
        raise ValueError(f"{file}: a picture ends in .png or .svg, not {given!r}")
    return file


def write(path: Path, data: bytes) -> Path:
    """Write a file aside and rename it, its folder made. ValueError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        runs.write_aside(path, data)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


def _pixel(x: float, y: float, k: float, top: int) -> tuple[int, int]:
    """Whole pixels, so that an item's form does not depend on the band it is drawn in."""
    return round(x * k), round(y * k) - top


def _disc(pen: Any, centre: tuple[int, int], radius: float, colour: str) -> None:
    (x, y), r = centre, round(radius)
    pen.ellipse((x - r, y - r, x + r, y + r), colour)


@functools.lru_cache(16)
def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _style(style: Style) -> str:
    stroke = ""
    if style.stroke:
        stroke = f' stroke="{style.stroke}" stroke-width="{style.width:g}"'
        stroke += ' stroke-linejoin="round" stroke-linecap="round"'
    return f' fill="{style.fill or "none"}"{stroke}'


@dataclass
class Canvas:
    """Items in the order in which they are painted, on a background."""

    width: float
    height: float
    background: str = "#ffffff"
    title: str = ""
    items: list[Item] = field(default_factory=list)

    def svg(self) -> str:
        """The picture as a stand-alone SVG document, which also works inside HTML."""
        label = f" aria-label={quoteattr(self.title)}" if self.title else ""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img"{label} '
            f'viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" font-family="{FONT}">'
        )
        ground = f'<rect width="100%" height="100%" fill="{self.background}"/>'
        body = "\n".join(item.svg() for item in self.items)
        return f"{head}\n{ground}\n{body}\n</svg>\n"

    def png(self, scale: float = 2.0) -> bytes:
        """The picture as PNG bytes, width x height times scale pixels."""
        from PIL import Image

        size = round(self.width * scale), round(self.height * scale)
        whole = Image.new("RGB", size, self.background)
        for top, band in self._bands(scale, size):
            whole.paste(band, (0, top))
        out = io.BytesIO()
        whole.save(out, "PNG")
        return out.getvalue()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a .png or .svg file, aside and then renamed.

        ValueError for another ending, or where the file cannot be written.
        """
        file = ending(path)
        png = file.suffix.lower() == ".png"
        return write(file, self.png() if png else self.svg().encode())

    def _bands(self, scale: float, size: tuple[int, int]) -> Iterator[tuple[int, Any]]:
        from PIL import Image, ImageDraw

        for top in range(0, size[1], BAND):
            height = min(BAND, size[1] - top)
            large = size[0] * OVERSAMPLE, height * OVERSAMPLE
            image = Image.new("RGB", large, self.background)
            pen = ImageDraw.Draw(image)
            low, high = top / scale, (top + height) / scale
            for item in self.items:
                first, last = item.span
                if last >= low and first <= high:
                    item.draw(pen, scale * OVERSAMPLE, top * OVERSAMPLE)
            yield top, image.resize((size[0], height), Image.Resampling.BOX)
