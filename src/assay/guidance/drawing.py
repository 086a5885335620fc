"""A distribution as a small HTML card: its numbers, and its density (or steps) as inline SVG."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

_WIDTH, _HEIGHT = 360, 120
_SCORES = np.linspace(-3.1, 3.1, 201)


def card(law: Any) -> str:
    """Table of support, mean, sd, median, entropy beside the curve of the law."""
    low, high = law.support
    rows = {
        "support": f"[{low:.6g}, {high:.6g}]",
        "mean": f"{law.mean():.6g}",
        "sd": f"{law.sd():.6g}",
        "median": f"{law.quantile(0.5):.6g}",
    }
    if not len(law.atoms):
        rows["entropy"] = f"{law.entropy():.6g} nats"
    cells = "".join(f"<tr><th>{k}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
    return f"<b>{escape(repr(law))}</b><table>{cells}</table>{_curve(law)}"


def _curve(law: Any) -> str:
    """The density against x over the central 99.8 %, or P(X <= x) where there are atoms."""
    x = np.asarray(law.map(_SCORES))
    y = np.asarray(law.cdf(x) if len(law.atoms) else law.pdf(x))
    span, top = max(float(np.ptp(x)), 1e-300), max(float(y.max()), 1e-300)
    across = (x - x.min()) / span * _WIDTH
    points = " ".join(
        f"{a:.1f},{b:.1f}" for a, b in zip(across, _HEIGHT * (1 - y / top), strict=True)
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 -2 {_WIDTH} {_HEIGHT + 4}" '
        f'role="img" aria-label="density from {x.min():.4g} to {x.max():.4g}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )
