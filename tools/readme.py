"""Puts figures into the documents: those of ``assay demo``, and what shipped models were measured.

python tools/readme.py out/demo       writes docs/densities.svg, README.md's table and that of
                                      docs/models.md (from src/assay/rules/shipped/*.json)
"""

from __future__ import annotations

import sys
from pathlib import Path

import documents
import numpy as np

from assay.rules import modelfile, shipping
from assay.runs import Run, write_aside

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT, GAP, BASE = 188, 190, 12, 150
COLORS = {"conditional": "#7b8794", "tilted": "#2457a6", "guided": "#b4451f"}


def table(demo: Path) -> str:
    """Markdown: for each target and w what is off the class and what is left of the spread."""
    lines = [
        "| target | w | guidance_scale | mean | tilted mean | sd | off the class | n |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in ("gaussians", "uniforms", "digits"):
        for row in Run.read(demo / name).rows:
            off = f"{100 * row['off_support_denoised']:.2g} %"
            if row["n"]:
                low, high = (row[f"off_support_denoised_{end}"] for end in ("low", "high"))
                off += f" ({100 * low:.2g} to {100 * high:.2g})"
            tilted = row.get("tilted_mean")
            cells = [
                name, f"{row['w']:g}", f"{row['guidance_scale']:g}", f"{row['mean']:.4g}",
                "–" if tilted is None else f"{tilted:.4g}", f"{row['sd']:.3g}", off,
                str(row["n"] or "exact"),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def models() -> str:
    """Markdown: shipped models as measured by tools/ship.py on the shipped file."""
    lines = [
        "| model | parameters | samples seen | T | C3 | novel-C3 | row 1 "
        "| completion, trained rules | held-out | n |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in shipping.names():
        rows = modelfile.about(shipping.FOLDER / name)["rows"]
        done = next(row for row in rows if row["key"] == "completion/r3c3")
        for row in (row for row in rows if row["part"] == "unconditional"):
            headline = row["temperature"] == 1  # completions are greedy, and said once
            cells = [
                name, f"{row['parameters']:,}", f"{row['samples_seen']:,}",
                f"{row['temperature']:g}", *(_share(row, m) for m in ("c3", "novel_c3", "row1")),
                *(_share(done, m) if headline else "" for m in ("trained", "held_out")),
                f"{row['n']:,}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(row: dict, name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def picture(demo: Path) -> str:
    """SVG: exact densities on the mirrored Gaussians by w, guided beside tilted."""
    run = Run.read(demo / "gaussians")
    width = len(run.rows) * (WIDTH + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 30}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{HEIGHT + 30}" fill="#ffffff"/>',
    ]
    for i, row in enumerate(run.rows):
        parts.append(_panel(np.asarray(run.array(f"density.{row['key']}")), row, i))
    for i, (name, color) in enumerate(COLORS.items()):
        x = GAP + 8 + i * 120
        parts.append(
            f'<line x1="{x}" x2="{x + 24}" y1="{HEIGHT + 14}" y2="{HEIGHT + 14}" '
            f'stroke="{color}" stroke-width="2.5"/>'
            f'<text x="{x + 30}" y="{HEIGHT + 18}" fill="#333">{name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(density: np.ndarray, row: dict, index: int) -> str:
    left = GAP + index * (WIDTH + GAP)
    x, guided, tilted, cond = density
    place = left + (x + 3) / 10 * WIDTH
    lines = [
        f'<text x="{left + 4}" y="18" font-weight="600" fill="#1b1f24">w = {row["w"]:g}</text>',
        f'<text x="{left + 58}" y="18" fill="#7b8794">scale {row["guidance_scale"]:g}</text>',
        f'<line x1="{left}" x2="{left + WIDTH}" y1="{BASE}" y2="{BASE}" stroke="#c5cad1"/>',
    ]
    for tick in (-2, 0, 2, 4, 6):
        at = left + (tick + 3) / 10 * WIDTH
        lines.append(
            f'<text x="{at:.1f}" y="{BASE + 16}" fill="#7b8794" text-anchor="middle" '
            f'font-size="11">{tick}</text>'
        )
    for y, name in ((cond, "conditional"), (tilted, "tilted"), (guided, "guided")):
        seen = (x > -3) & (x < 7)
        points = " ".join(
            f"{a:.1f},{BASE - 125 * b:.1f}" for a, b in zip(place[seen], y[seen], strict=True)
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{COLORS[name]}" stroke-width="2"/>'
        )
    return "\n".join(lines)


def main() -> int:
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
    write_aside(ROOT / "docs" / "densities.svg", picture(demo).encode())
    documents.put(ROOT / "README.md", "make readme", lambda: table(demo))
    documents.put(ROOT / "docs" / "models.md", "make readme", models)
    print("wrote README.md, docs/models.md and docs/densities.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
